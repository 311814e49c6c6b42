"""Experiment: a training job as we see it, and the checkpoints it has written.

Draft -> Pending -> Running -> Succeeded or Failed.  A stop leads from Running through
Stopping to Stopped or Failed, and from Pending to Stopped at once.  Succeeded and
Stopped may be trained again.  Scores are no part of it: they are what the metrics say
at a step.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from operator import index
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.algorithms import family_of
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import Digest, ExperimentId, ProjectId
from arena_core.domain.values import Family, Source, natural, said, sha256, trimmed

KIND = "experiment"


class Status(Enum):
    DRAFT = "Draft"
    PENDING = "Pending"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


TRAINABLE = (Status.DRAFT, Status.SUCCEEDED, Status.STOPPED)
RESUMABLE = (Status.SUCCEEDED, Status.STOPPED, Status.FAILED)
AT_WORK = (Status.PENDING, Status.RUNNING, Status.STOPPING)


def _algorithm_name(name: str) -> str:
    return trimmed(name, field="algorithm")


@frozen
class Setup:
    """What is trained and how; editable in Draft only."""

    algorithm: str = field(converter=_algorithm_name)
    family: Family
    source: Source | None = None
    base_model: str | None = None
    recipe: str | None = None
    config: str = "{}"
    """The recipe's own settings, a JSON object as text: opaque to us."""


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
class RequestTraining:
    resume_step: int | None = None
    max_steps: int | None = field(default=None, validator=natural)


@frozen
class StartTraining:
    pass


@frozen
class RequestStop:
    pass


@frozen
class FinishTraining:
    pass


@frozen
class AcknowledgeStop:
    pass


@frozen
class FailTraining:
    reason: str = field(validator=said)


@frozen
class DeleteExperiment:
    pass


Command: TypeAlias = (
    DraftExperiment
    | ConfigureExperiment
    | RenameExperiment
    | RecordCheckpoint
    | DeleteCheckpoint
    | RequestTraining
    | StartTraining
    | RequestStop
    | FinishTraining
    | AcknowledgeStop
    | FailTraining
    | DeleteExperiment
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
class CheckpointWritten:
    step: int
    digest: Digest = field(validator=sha256)
    size_bytes: int
    written_at: datetime


@frozen
class CheckpointDeleted:
    step: int
    digest: Digest = field(validator=sha256)


@frozen
class TrainingRequested:
    resume_step: int | None
    resume_digest: Digest | None = field(validator=sha256)
    max_steps: int | None


@frozen
class TrainingStarted:
    pass


@frozen
class StopRequested:
    pass


@frozen
class TrainingStopped:
    pass


@frozen
class TrainingSucceeded:
    pass


@frozen
class TrainingFailed:
    reason: str


@frozen
class ExperimentDeleted:
    pass


Event: TypeAlias = (
    ExperimentDrafted
    | ExperimentConfigured
    | ExperimentRenamed
    | CheckpointWritten
    | CheckpointDeleted
    | TrainingRequested
    | TrainingStarted
    | StopRequested
    | TrainingStopped
    | TrainingSucceeded
    | TrainingFailed
    | ExperimentDeleted
)


@frozen
class Written:
    """A checkpoint that the experiment has: its weights are in the blob store."""

    step: int
    digest: Digest
    size_bytes: int
    written_at: datetime


@frozen
class Experiment:
    id: ExperimentId
    project_id: ProjectId
    name: str
    setup: Setup
    status: Status = Status.DRAFT
    reason: str | None = None
    checkpoints: tuple[Written, ...] = ()
    deleted: bool = False

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
    match command, state:
        case DraftExperiment(), None:
            name = trimmed(command.name)
            return [
                ExperimentDrafted(
                    command.experiment_id, command.project_id, name, command.setup
                )
            ]
        case DraftExperiment(), Experiment():
            raise AlreadyExists("This experiment exists already.")
        case DeleteExperiment(), Experiment(deleted=True):
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
        case RequestTraining(), Experiment():
            return _request_training(state, command)
        case StartTraining(), Experiment(status=Status.PENDING):
            return [TrainingStarted()]
        case RequestStop(), Experiment(status=Status.STOPPING):
            return []
        case RequestStop(), Experiment(status=Status.PENDING):
            # Nobody has begun, so there is nobody to wait for.
            return [StopRequested(), TrainingStopped()]
        case RequestStop(), Experiment(status=Status.RUNNING):
            return [StopRequested()]
        case AcknowledgeStop(), Experiment(status=Status.STOPPING):
            return [TrainingStopped()]
        case FinishTraining(), Experiment(status=Status.RUNNING):
            return [TrainingSucceeded()]
        case FailTraining(), Experiment() if state.status in AT_WORK:
            return [TrainingFailed(command.reason)]
        case DeleteExperiment(), Experiment() if state.status not in AT_WORK:
            return [ExperimentDeleted()]
        case _, Experiment():
            raise IllegalTransition(_not_now(command, state.status))
        case _:
            assert_never(command)


def _configure(state: Experiment, command: ConfigureExperiment) -> Sequence[Event]:
    setup = _merged(state.setup, command)
    if setup == state.setup:
        return []
    if state.status is not Status.DRAFT or state.checkpoints:
        raise IllegalTransition(
            "Only a Draft without checkpoints can be configured: "
            "duplicate the experiment and configure the copy."
        )
    return [ExperimentConfigured(setup)]


def _merged(setup: Setup, command: ConfigureExperiment) -> Setup:
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
    return [CheckpointWritten(command.step, command.digest, command.size_bytes, now)]


def _request_training(state: Experiment, command: RequestTraining) -> Sequence[Event]:
    allowed = TRAINABLE if command.resume_step is None else RESUMABLE
    if state.status not in allowed:
        raise IllegalTransition(_not_now(command, state.status))
    if state.setup.source is None:
        raise Rejected(
            "Training needs an environment or a dataset: name the source.",
            field="source",
        )
    if command.resume_step is None:
        return [TrainingRequested(None, None, command.max_steps)]
    if not state.checkpoints:
        raise Conflict(
            "The experiment has no checkpoint to resume from: begin with a new one."
        )
    start = state.checkpoint(command.resume_step)
    return [TrainingRequested(start.step, start.digest, command.max_steps)]


def _not_now(command: Command, status: Status) -> str:
    match command:
        case RequestTraining(resume_step=None):
            allowed = ", ".join(s.value for s in TRAINABLE)
            remedy = f"train one that is {allowed}, or copy it"
        case RequestTraining():
            allowed = ", ".join(s.value for s in RESUMABLE)
            remedy = f"wait until it is one of {allowed}"
        case RequestStop():
            remedy = "there is nothing to stop"
        case DeleteExperiment():
            remedy = "stop it first"
        case _:
            remedy = "look at its status again"
    name = type(command).__name__
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name)
    return (
        f"To{words} is not possible while the experiment is {status.value}: {remedy}."
    )


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
        case CheckpointWritten():
            written = Written(
                event.step, event.digest, event.size_bytes, event.written_at
            )
            return replace(state, checkpoints=(*state.checkpoints, written))
        case CheckpointDeleted():
            rest = tuple(c for c in state.checkpoints if c.step != event.step)
            return replace(state, checkpoints=rest)
        case TrainingRequested():
            return replace(state, status=Status.PENDING, reason=None)
        case TrainingStarted():
            return replace(state, status=Status.RUNNING)
        case StopRequested():
            return replace(state, status=Status.STOPPING)
        case TrainingStopped():
            return replace(state, status=Status.STOPPED)
        case TrainingSucceeded():
            return replace(state, status=Status.SUCCEEDED)
        case TrainingFailed():
            return replace(state, status=Status.FAILED, reason=event.reason)
        case ExperimentDeleted():
            return replace(state, deleted=True)
        case _:
            assert_never(event)
