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
from typing import assert_never

from arena_core.domain import training_rules
from arena_core.domain.algorithms import family_of
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    IllegalTransition,
    NotFound,
    Overtaken,
)
from arena_core.domain.experiment_commands import (
    BindExperiment,
    Command,
    ConfigureExperiment,
    DeleteCheckpoint,
    DeleteExperiment,
    DraftExperiment,
    RecordCheckpoint,
    ReleaseExperiment,
    RenameExperiment,
    RequireExperiment,
    RequireUnbound,
)
from arena_core.domain.experiment_events import (
    Event,
    ExperimentBound,
    ExperimentConfigured,
    ExperimentDeleted,
    ExperimentDrafted,
    ExperimentReleased,
    ExperimentRenamed,
)
from arena_core.domain.experiment_state import Experiment, evolve
from arena_core.domain.training import (
    AT_WORK,
    RESUMABLE,
    TRAINABLE,
    Beginning,
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
from arena_core.domain.training_commands import (
    AcknowledgeStop,
    ClaimTraining,
    FailTraining,
    FinishTraining,
    RecordTrainedCheckpoint,
    RequestStop,
    RequestTraining,
    RequireResumable,
    StartTraining,
)
from arena_core.domain.training_rules import Train, not_now, react
from arena_core.domain.values import trimmed

KIND = "experiment"
NOT_TO_BE_BOUND = (
    "The experiment has run already, or is bound to a stage: say duplicate to bind a "
    "copy of it."
)


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
    if command.setup not in (None, state.setup):
        raise Overtaken("It was configured otherwise meanwhile: look at it again.")
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
