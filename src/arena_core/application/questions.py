"""What a model is asked to see whether it is well, and what is wrong with its answer.

It is one row: the first of the golden trace, for which there is an answer to compare
with, or else zeros, whose answer must be finite.
"""

import logging
from collections.abc import Callable

import numpy as np
from attrs import frozen

from arena_core.application import golden, parity
from arena_core.application.bundles import GOLDEN_FILE
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.models import Model
from arena_core.application.pace import UNKNOWN
from arena_core.application.ports import BlobStore, Runtime
from arena_core.domain.errors import Corrupt, NotFound, Rejected
from arena_core.domain.ids import Digest
from arena_core.domain.parity import Verdict

log = logging.getLogger(__name__)

Question = Callable[[Model], str | None]
"""Asks a model, and returns what is wrong with the answer; None if nothing is."""


def of(model: Model, blobs: BlobStore, digest: Digest) -> Question:
    """Return what `model`, which is well, can be asked from now on.

    With a trace: its first step, and of that the first row if the model answers that
    alone as it did among others.
    """
    trace = _trace(blobs, digest)
    if trace is None:
        return _zeros(model)
    step = trace.cases[0].steps[0]
    row = _Replay(Step({name: a[:1].copy() for name, a in step.recorded.items()}))
    return row if row.is_answered(model) else _Replay(step)


@frozen(eq=False)
class _Replay:
    """Asks a recorded step, and compares the answer with what training said."""

    step: Step

    def __call__(self, model: Model) -> str | None:
        case = Case("case0", (self.step,))
        found = parity.check(model, GoldenTrace((case,)))
        if found.verdict is Verdict.FAILED:
            return parity.sentence(found)
        return None

    def is_answered(self, model: Model) -> bool:
        try:
            return self(model) is None
        except Rejected:  # such as weights that want more rows at once
            return False


def _zeros(model: Model) -> Question:
    """Return what asks zeros.

    The answer to them is not finite for some weights that are well, and others cannot
    be asked at all: so much is found out first.
    """
    if model.pace == UNKNOWN:
        return lambda _: None
    was_finite = _answers_zeros_finitely(model)

    def ask(model: Model) -> str | None:
        if _answers_zeros_finitely(model) or not was_finite:
            return None
        return "The weights answered zeros with a number that is not finite."

    return ask


def _answers_zeros_finitely(model: Model) -> bool:
    runtimes = [policy.runtime for policy in model.policies.values()]
    if model.decoder is not None:
        runtimes.append(model.decoder)
    return all(list(map(_is_finite, runtimes)))


def _is_finite(runtime: Runtime) -> bool:
    zeros = {
        spec.name: np.zeros([1, *(axis or 1 for axis in spec.shape[1:])], spec.dtype)
        for spec in runtime.signature.inputs
    }
    first = runtime.run(zeros)[runtime.signature.outputs[0].name]
    return bool(np.isfinite(first).all())


def _trace(blobs: BlobStore, digest: Digest) -> GoldenTrace | None:
    """Return the golden trace, if it is there: the model may be well without it."""
    try:
        if GOLDEN_FILE not in blobs.sizes(digest):
            return None
        return golden.read(blobs.read(digest, GOLDEN_FILE))
    except (NotFound, Corrupt):
        log.warning("The golden trace of %s cannot be read any more", digest)
        return None
