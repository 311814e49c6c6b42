"""Checkpoints named by the beginning of their digest."""

from arena_core.application.pipeline_views import StageView
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import Ambiguous, Conflict, NotFound, Rejected
from arena_core.domain.ids import Digest
from arena_core.domain.stage_run import Product
from arena_core.entrypoints.stage_words import product

LEAST_DIGITS = 6
_WHOLE = 64
_DIGITS = frozenset("0123456789abcdef")


def whole_digest(use: UseCases, stage: StageView, named: str) -> str | None:
    """Return the digest that a stage asks about, if `named` is how it begins.

    None where it asks nothing, for then any approval is refused.  Raises `Rejected` for
    what begins no digest, `Conflict` for another checkpoint, and `Ambiguous` where
    another one of the same experiment begins so.
    """
    begins = named.strip().lower()
    if not LEAST_DIGITS <= len(begins) <= _WHOLE or set(begins) - _DIGITS:
        raise Rejected(
            f"A digest is named by {LEAST_DIGITS} of its first digits at least, which "
            "are 0 to 9 and a to f.",
            field="digest",
        )
    seen = None if stage.run is None else stage.run.to_approve
    if seen is None:
        return None
    about = seen.candidate
    if about is None or not about.digest.startswith(begins):
        raise Conflict(
            f"The stage asks about {product(about) or 'a beginning from scratch'}, "
            "which is another checkpoint than the one that you name: look at it again."
        )
    _check_others(use, about, begins)
    return about.digest


def _check_others(use: UseCases, about: Product, begins: str) -> None:
    alike = [d for d in _digests(use, about) if d.startswith(begins)]
    if set(alike) - {about.digest}:
        each = ", ".join(sorted({*alike, about.digest}))
        raise Ambiguous(
            f"Several checkpoints of the experiment begin so: {each}. Name more digits."
        )


def _digests(use: UseCases, about: Product) -> list[Digest]:
    try:
        return [c.digest for c in use.experiments.checkpoints(about.experiment_id)]
    except NotFound:  # deleted since
        return []
