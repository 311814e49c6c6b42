"""An experiment as it is after all that has happened to it."""

from collections.abc import Sequence
from typing import Any, assert_never

from attrs import evolve as replace
from attrs import frozen

from arena_core.domain.course import Begun, Stretch
from arena_core.domain.errors import NotFound
from arena_core.domain.experiment_events import (
    Event,
    ExperimentBound,
    ExperimentConfigured,
    ExperimentDeleted,
    ExperimentDrafted,
    ExperimentReleased,
    ExperimentRenamed,
)
from arena_core.domain.ids import ExperimentId, ProjectId, RunId, StageId, training_of
from arena_core.domain.training import (
    CheckpointDeleted,
    CheckpointWritten,
    Setup,
    Status,
    StopRequested,
    Training,
    TrainingClaimed,
    TrainingFailed,
    TrainingRequested,
    TrainingStarted,
    TrainingStopped,
    TrainingSucceeded,
    Written,
)
from arena_core.domain.values import Claim


@frozen
class Experiment:
    id: ExperimentId
    project_id: ProjectId
    name: str
    setup: Setup
    status: Status = Status.DRAFT
    reason: str | None = None
    checkpoints: tuple[Written, ...] = ()
    training: Training | None = None
    """The latest; None: none was ever asked for."""
    begun: tuple[Begun, ...] = ()
    """All that were asked for: the first is number 1."""
    bound_to: StageId | None = None
    """None also where it was bound before that was recorded here."""
    deleted: bool = False

    @property
    def has_begun(self) -> bool:
        """Say whether it was ever trained, or given a checkpoint."""
        return self.status is not Status.DRAFT or bool(self.checkpoints)

    @property
    def run_id(self) -> RunId | None:
        """Under which the latest training is known outside."""
        if self.training is None:
            return None
        return training_of(self.id, self.training.number)

    @property
    def run_ids(self) -> Sequence[RunId]:
        """Those of all trainings, the newest first."""
        latest = 0 if self.training is None else self.training.number
        return [training_of(self.id, number) for number in range(latest, 0, -1)]

    def checkpoint(self, step: int) -> Written:
        """Return the checkpoint at `step`.  Raises `NotFound`, naming what there is."""
        for checkpoint in self.checkpoints:
            if checkpoint.step == step:
                return checkpoint
        steps = ", ".join(str(c.step) for c in self.checkpoints) or "none"
        raise NotFound(f"There is no checkpoint at step {step}; there are: {steps}.")


def evolve(state: Experiment | None, event: Event) -> Experiment:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, ExperimentDrafted):
        return Experiment(
            event.experiment_id, event.project_id, event.name, event.setup
        )
    assert state is not None, f"{event!r} before ExperimentDrafted"
    match event:
        case ExperimentConfigured():
            return replace(state, setup=event.setup)
        case ExperimentRenamed():
            return replace(state, name=event.name)
        case ExperimentBound():
            return replace(state, bound_to=event.stage_id)
        case ExperimentReleased():
            return replace(state, bound_to=None)
        case CheckpointWritten():
            return _written(state, event)
        case CheckpointDeleted():
            rest = tuple(c for c in state.checkpoints if c.step != event.step)
            return replace(state, checkpoints=rest)
        case TrainingRequested():
            return _requested(state, event)
        case TrainingClaimed():
            return _claimed(state, event)
        case TrainingStarted():
            return replace(state, status=Status.RUNNING)
        case StopRequested():
            return replace(state, status=Status.STOPPING)
        case TrainingStopped():
            return _in_training(replace(state, status=Status.STOPPED), claim=None)
        case TrainingSucceeded():
            return _in_training(replace(state, status=Status.SUCCEEDED), claim=None)
        case TrainingFailed():
            failed = replace(state, status=Status.FAILED, reason=event.reason)
            return _in_training(failed, claim=None)
        case ExperimentDeleted():
            return replace(state, deleted=True)
        case _:
            assert_never(event)


def _written(state: Experiment, event: CheckpointWritten) -> Experiment:
    written = Written(
        event.step,
        event.digest,
        event.size_bytes,
        event.written_at,
        event.training,
        len(state.begun) if event.training is None else event.training,
    )
    kept = replace(state, checkpoints=(*state.checkpoints, written))
    if event.training is None or not state.begun:
        return kept
    *before, latest = state.begun
    begun = (*before, replace(latest, has_written=True))
    return _in_training(replace(kept, begun=begun), has_written=True, losses=0)


def _requested(state: Experiment, event: TrainingRequested) -> Experiment:
    return replace(
        state,
        status=Status.PENDING,
        reason=None,
        training=_asked(state, event),
        begun=(*state.begun, Begun(_goes_on(state, event))),
    )


def _goes_on(state: Experiment, event: TrainingRequested) -> Stretch | None:
    """Return of what the training is the rest, if that is of this experiment."""
    for written in state.checkpoints:
        if (written.step, written.digest) == (event.resume_step, event.resume_digest):
            return Stretch(written.belongs_to, written.step)
    return None


def _asked(state: Experiment, event: TrainingRequested) -> Training:
    before = state.training
    return Training(
        1 if before is None else before.number + 1,
        event.resume_step,
        event.resume_digest,
        event.max_steps,
        event.beginning,
        event.stage,
        event.resume_of,
        claims=0 if before is None else before.claims,
    )


def _claimed(state: Experiment, event: TrainingClaimed) -> Experiment:
    losses = 0 if state.training is None else state.training.losses
    return _in_training(
        state,
        claim=Claim(event.worker, event.lease_until, event.claim),
        claims=event.claim,
        losses=losses + (event.lost is not None),
    )


def _in_training(state: Experiment, **changed: Any) -> Experiment:  # noqa: ANN401 -- any of its fields
    """Return `state` with something else said of its latest training, if it has one."""
    if state.training is None:
        return state
    return replace(state, training=replace(state.training, **changed))
