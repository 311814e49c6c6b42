"""Keeping a bundle as the checkpoint of a step: looked at first, then kept whole."""

from collections.abc import Sequence
from pathlib import Path

from arena_core.application import bundles
from arena_core.application.filenames import shown
from arena_core.application.ports import MetricPoint
from arena_core.application.session import Core
from arena_core.domain import experiment
from arena_core.domain.algorithms import is_same
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import Digest
from arena_core.domain.values import Claim

SCORE = "score"
"""The metric that is the training score at its step."""
FITNESS = "fitness"
"""The metric that is the evaluation score at its step."""


def keep(
    core: Core,
    folder: Path,
    step: int,
    state: experiment.Experiment,
    expected: str | None = None,
) -> experiment.RecordCheckpoint:
    """Put the bundle in `folder` into the blob store; return what records it.

    `expected`: the digest that it must have.  Raises `Rejected`, `Conflict` or
    `NotFound` if the experiment cannot have it, and nothing of it is kept then.
    """
    seen = _seen(core, folder, state.setup)
    if expected not in (None, seen):
        raise Rejected(
            f"The bundle has the digest {seen}, which is not the one that was "
            "named: send it again.",
            field="digest",
        )
    # A refusal must come before the bundle is kept, so it is provoked here.
    tried = experiment.RecordCheckpoint(step, seen, 0)
    experiment.decide(tried, state, core.clock())
    return experiment.RecordCheckpoint(step, seen, _put(core, folder, seen))


def keep_trained(
    core: Core, folder: Path, step: int, setup: experiment.Setup, claim: Claim
) -> experiment.RecordTrainedCheckpoint:
    """Put what a training has written into the blob store; return what records it.

    Raises `Rejected` if it is no bundle of such an experiment; nothing is kept then.
    """
    seen = _seen(core, folder, setup)
    size_bytes = _put(core, folder, seen)
    return experiment.RecordTrainedCheckpoint(
        claim.worker, claim.number, step, seen, size_bytes
    )


def points(
    step: int, score: float | None, fitness: float | None
) -> Sequence[MetricPoint]:
    """Return what the metrics at `step` say of a checkpoint with these scores."""
    return [
        MetricPoint(step, name, value)
        for name, value in ((SCORE, score), (FITNESS, fitness))
        if value is not None
    ]


def _seen(core: Core, folder: Path, setup: experiment.Setup) -> Digest:
    """Return the digest of a bundle that could be served."""
    _check(core, folder, setup)
    return bundles.listing(folder).digest


def _put(core: Core, folder: Path, seen: Digest) -> int:
    """Keep the bundle, unless it is another by now; return its size in bytes."""
    if core.blobs.put(folder) != seen:
        raise Rejected("The bundle changed while it was read.", field="path")
    return sum(core.blobs.sizes(seen).values())


def _check(core: Core, folder: Path, setup: experiment.Setup) -> None:
    """Raise `Rejected` unless the bundle could be served, as far as can be seen.

    What it answers is compared with training later, at each Connect.
    """
    manifest = bundles.check(folder)
    if manifest.family is not setup.family:
        raise Rejected(
            f"The bundle is of the family {manifest.family.value}, the experiment "
            f"of {setup.family.value}: both must agree.",
            field="checkpoint.json: family",
        )
    if not is_same(manifest.algorithm, setup.algorithm):
        raise Rejected(
            f"The bundle is of the algorithm {shown(manifest.algorithm)}, the "
            f"experiment of {shown(setup.algorithm)}: add it to one of its own.",
            field="checkpoint.json: algorithm",
        )
    core.inspect(folder, manifest)
