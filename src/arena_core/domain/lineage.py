"""Lineage: what a stage begins with, in one fingerprint, and where it can go on.

A stage is stale when the fingerprint of what it would begin with now is not that of
what its latest run began with.  Digests are compared, never times.
"""

from collections.abc import Sequence
from hashlib import sha256

from arena_core.domain.experiment import Experiment, Written
from arena_core.domain.ids import Digest
from arena_core.domain.stage_run import Product, Run
from arena_core.domain.stage_settings import Link, Settings, StageType, Trains

_LENGTH_BYTES = 8
_ROLES = ("", *(link.value for link in Link))


def fingerprint(*parts: str) -> Digest:
    """Return one digest of all `parts`, in their order.

    Each is preceded by its length, so that no two lists of parts are the same bytes.
    """
    digest = sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(_LENGTH_BYTES))
        digest.update(data)
    return Digest(digest.hexdigest())


def beginning(settings: Settings, digest: Digest | None) -> Digest:
    """Return the fingerprint of a run that begins with the checkpoint `digest`.

    What else decides about what the run makes is the set-up of its experiment, which
    cannot change once it has run: that is no part of it.
    """
    return _beginning(settings, "", digest)


def is_beginning(known: Digest, settings: Settings, digest: Digest | None) -> bool:
    """Say whether `known`, which may be of any age, is the fingerprint of that.

    Those of before also say what the training does with the checkpoint.
    """
    return known in (_beginning(settings, role, digest) for role in _ROLES)


def _beginning(settings: Settings, role: str, digest: Digest | None) -> Digest:
    bound = settings.experiment_id
    return fingerprint(
        settings.type.value,
        "" if settings.type is StageType.DEPLOYMENT or bound is None else str(bound),
        role,
        "" if digest is None else digest,
    )


def is_there(product: Product, state: Experiment | None) -> bool:
    """Say whether the experiment has the checkpoint still: what is gone is not taken.

    One of the same digest is the same, at whatever step.
    """
    if state is None or state.deleted:
        return False
    return any(written.digest == product.digest for written in state.checkpoints)


def trains(state: Experiment) -> Trains:
    """Return what decides which checkpoints the experiment can use."""
    setup = state.setup
    return Trains(setup.algorithm, setup.family, setup.base_model)


def last_left(run: Run, written: Sequence[Written]) -> int | None:
    """Return the step at which whoever repeats `run` can go on; None: begin anew.

    Only what this very run has written is of the right beginning, or what it was told
    to go on from itself.
    """
    left = [w.step for w in written if _is_of(run, w)]
    if left:
        return max(left)
    steps = {w.step for w in written}
    return run.resume_step if run.resume_step in steps else None


def _is_of(run: Run, written: Written) -> bool:
    if run.first_training is None or run.training is None or written.training is None:
        return False
    return run.first_training <= written.training <= run.training
