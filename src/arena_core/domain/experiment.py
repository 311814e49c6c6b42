"""Experiment: a training job as we see it, and the checkpoints it has written.

Draft -> Pending -> Running -> Succeeded or Failed.  A stop leads from Running through
Stopping to Stopped or Failed, and from Pending to Stopped at once while nobody has
taken it on.  Succeeded and Stopped may be trained again.  Scores are no part of it:
they are what the metrics say at a step.

The log is the outbox: a training that was asked for is work that is outstanding
(`react`).  A worker claims it; what it records is refused once another has claimed.
The words of training are in `training`, what may follow what in `training_rules`.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import index
from typing import Any, TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain import training, training_rules
from arena_core.domain.algorithms import family_of
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    IllegalTransition,
    NotFound,
    Overtaken,
)
from arena_core.domain.ids import (
    Digest,
    ExperimentId,
    ProjectId,
    RunId,
    StageId,
    training_of,
)
from arena_core.domain.training import (
    AT_WORK,
    RESUMABLE,
    TRAINABLE,
    AcknowledgeStop,
    Beginning,
    CheckpointDeleted,
    CheckpointWritten,
    ClaimTraining,
    FailTraining,
    FinishTraining,
    RecordTrainedCheckpoint,
    RequestStop,
    RequestTraining,
    RequireResumable,
    Setup,
    StartTraining,
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
from arena_core.domain.training_rules import Train, not_now, react
from arena_core.domain.values import Claim, Family, Source, natural, sha256, trimmed

KIND = "experiment"
NOT_TO_BE_BOUND = (
    "The experiment has run already, or is bound to a stage: say duplicate to bind a "
    "copy of it."
)


@frozen
class DraftExperiment:
    experiment_id: ExperimentId
    project_id: ProjectId
    name: str
    setup: Setup


@frozen
class ConfigureExperiment:
    """Change some of the set-up; None leaves as it is.

    The family of a known algorithm need not be named.
    """

    algorithm: str | None = None
    family: Family | None = None
    source: Source | None = None
    base_model: str | None = None
    recipe: str | None = None
    config: str | None = None


@frozen
class RenameExperiment:
    name: str


@frozen
class RecordCheckpoint:
    step: int = field(converter=index, validator=natural)
    digest: Digest = field(validator=sha256)
    size_bytes: int = field(validator=natural)


@frozen
class DeleteCheckpoint:
    step: int


@frozen
class RequireExperiment:
    """Changes nothing, and is refused once the experiment is deleted."""


@frozen
class BindExperiment:
    """Bind it to a stage, which alone trains it from then on.

    Refused once it has begun, and while another stage has it.
    """

    stage_id: StageId


@frozen
class ReleaseExperiment:
    """Take it off the stage again, if it is bound to that one."""

    stage_id: StageId


@frozen
class RequireUnbound:
    """Changes nothing, and is refused while the experiment is bound to a stage."""


@frozen
class DeleteExperiment:
    pass


Command: TypeAlias = (
    DraftExperiment
    | ConfigureExperiment
    | RenameExperiment
    | RecordCheckpoint
    | DeleteCheckpoint
    | RequireExperiment
    | BindExperiment
    | ReleaseExperiment
    | RequireUnbound
    | DeleteExperiment
    | training.Command
)


@frozen
class ExperimentDrafted:
    experiment_id: ExperimentId
    project_id: ProjectId
    name: str
    setup: Setup


@frozen
class ExperimentConfigured:
    setup: Setup


@frozen
class ExperimentRenamed:
    name: str


@frozen
class ExperimentBound:
    stage_id: StageId


@frozen
class ExperimentReleased:
    stage_id: StageId


@frozen
class ExperimentDeleted:
    pass


Event: TypeAlias = (
    ExperimentDrafted
    | ExperimentConfigured
    | ExperimentRenamed
    | ExperimentBound
    | ExperimentReleased
    | training.Event
    | ExperimentDeleted
)


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

    def checkpoint(self, step: int) -> Written:
        """Return the checkpoint at `step`.  Raises `NotFound`, naming what there is."""
        for checkpoint in self.checkpoints:
            if checkpoint.step == step:
                return checkpoint
        steps = ", ".join(str(c.step) for c in self.checkpoints) or "none"
        raise NotFound(f"There is no checkpoint at step {step}; there are: {steps}.")


def decide(
    command: Command, state: Experiment | None, now: datetime
) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    if isinstance(command, DraftExperiment):
        return _draft(state, command)
    match command, state:
        case DeleteExperiment() | ReleaseExperiment(), Experiment(deleted=True):
            return []
        case (_, None) | (_, Experiment(deleted=True)):
            raise NotFound("There is no such experiment.")
        case RenameExperiment(), Experiment():
            name = trimmed(command.name)
            return [] if name == state.name else [ExperimentRenamed(name)]
        case ConfigureExperiment(), Experiment():
            return _configure(state, command)
        case RecordCheckpoint(), Experiment():
            return _record(state, command, now)
        case DeleteCheckpoint(), Experiment():
            gone = state.checkpoint(command.step)
            return [CheckpointDeleted(gone.step, gone.digest)]
        case RequireExperiment(), Experiment():
            return []
        case BindExperiment(), Experiment():
            return _bind(state, command)
        case ReleaseExperiment(), Experiment():
            is_its = state.bound_to == command.stage_id
            return [ExperimentReleased(command.stage_id)] if is_its else []
        case RequireUnbound(), Experiment():
            if state.bound_to is not None:
                raise Overtaken("It was bound to a stage meanwhile: try again.")
            return []
        case DeleteExperiment(), Experiment():
            return _delete(state, command)
        case _, Experiment():
            return training_rules.decide(command, state, now)
        case _:
            assert_never(command)


def _draft(state: Experiment | None, command: DraftExperiment) -> Sequence[Event]:
    if state is not None:
        raise AlreadyExists("This experiment exists already.")
    name = trimmed(command.name)
    return [
        ExperimentDrafted(
            command.experiment_id, command.project_id, name, command.setup
        )
    ]


def _configure(state: Experiment, command: ConfigureExperiment) -> Sequence[Event]:
    setup = configured(state.setup, command)
    if setup == state.setup:
        return []
    if state.has_begun:
        raise IllegalTransition(
            "Only a Draft without checkpoints can be configured: "
            "duplicate the experiment and configure the copy."
        )
    return [ExperimentConfigured(setup)]


def configured(setup: Setup, command: ConfigureExperiment) -> Setup:
    """Return the set-up with what is to be changed of it."""
    algorithm = command.algorithm or setup.algorithm
    family = setup.family if algorithm == setup.algorithm else None
    return Setup(
        algorithm,
        command.family or family or family_of(algorithm),
        command.source or setup.source,
        command.base_model or setup.base_model,
        command.recipe or setup.recipe,
        command.config or setup.config,
    )


def _bind(state: Experiment, command: BindExperiment) -> Sequence[Event]:
    if state.bound_to == command.stage_id:
        return []
    if state.has_begun or state.bound_to is not None:
        raise Conflict(NOT_TO_BE_BOUND)
    return [ExperimentBound(command.stage_id)]


def _delete(state: Experiment, command: DeleteExperiment) -> Sequence[Event]:
    if state.status in AT_WORK:
        raise not_now(command, state.status, "stop it first")
    if state.bound_to is not None:
        raise Conflict(
            "The experiment is bound to a stage of a pipeline: bind another one to it, "
            "or remove the stage, first."
        )
    return [ExperimentDeleted()]


def _record(
    state: Experiment, command: RecordCheckpoint, now: datetime
) -> Sequence[Event]:
    for known in state.checkpoints:
        if known.step == command.step:
            if known.digest == command.digest:
                return []
            raise Conflict(
                f"Step {command.step} has another checkpoint already: choose "
                "another step, or delete it first."
            )
    return [
        CheckpointWritten(command.step, command.digest, command.size_bytes, now, None)
    ]


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
            asked = _asked(state, event)
            return replace(state, status=Status.PENDING, reason=None, training=asked)
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
        event.step, event.digest, event.size_bytes, event.written_at, event.training
    )
    kept = replace(state, checkpoints=(*state.checkpoints, written))
    if event.training is None:
        return kept
    return _in_training(kept, has_written=True, losses=0)


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


__all__ = [
    "AT_WORK",
    "KIND",
    "NOT_TO_BE_BOUND",
    "RESUMABLE",
    "TRAINABLE",
    "AcknowledgeStop",
    "Beginning",
    "BindExperiment",
    "CheckpointDeleted",
    "CheckpointWritten",
    "ClaimTraining",
    "Command",
    "ConfigureExperiment",
    "DeleteCheckpoint",
    "DeleteExperiment",
    "DraftExperiment",
    "Event",
    "Experiment",
    "ExperimentBound",
    "ExperimentConfigured",
    "ExperimentDeleted",
    "ExperimentDrafted",
    "ExperimentReleased",
    "ExperimentRenamed",
    "FailTraining",
    "FinishTraining",
    "RecordCheckpoint",
    "RecordTrainedCheckpoint",
    "ReleaseExperiment",
    "RenameExperiment",
    "RequestStop",
    "RequestTraining",
    "RequireExperiment",
    "RequireResumable",
    "RequireUnbound",
    "Setup",
    "StartTraining",
    "Status",
    "StopRequested",
    "Train",
    "Training",
    "TrainingClaimed",
    "TrainingFailed",
    "TrainingRequested",
    "TrainingStarted",
    "TrainingStopped",
    "TrainingSucceeded",
    "Written",
    "configured",
    "decide",
    "evolve",
    "react",
]
