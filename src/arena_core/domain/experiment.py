"""Experiment: a training job as we see it, and the checkpoints it has written.

Draft -> Pending -> Running -> Succeeded or Failed.  A stop leads from Running through
Stopping to Stopped or Failed, and from Pending to Stopped at once while nobody has
taken it on.  Succeeded and Stopped may be trained again.  Scores are no part of it:
they are what the metrics say at a step.

The log is the outbox: a training that was asked for is work that is outstanding
(`react`).  A worker claims it; what it records is refused once another has claimed.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from operator import index
from typing import Any, TypeAlias, assert_never

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
from arena_core.domain.ids import (
    Digest,
    ExperimentId,
    ProjectId,
    RunId,
    StageId,
    WorkerId,
    training_of,
)
from arena_core.domain.values import (
    Claim,
    Family,
    Source,
    natural,
    said,
    sha256,
    trimmed,
)

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
class Beginning:
    """Which weights a training has to begin with, beside its own settings."""

    weights: Digest | None = field(default=None, validator=sha256)
    """Of the stage before or of an agent: trained further, from step 0."""
    decoder: Digest | None = field(default=None, validator=sha256)
    """Frozen: what a policy over its latent space is trained with."""
    seed: int = field(default=0, converter=index, validator=natural)


@frozen
class RequestTraining:
    """Ask for training.

    `resume_step`: go on from that checkpoint, of another experiment if its
    `resume_digest` is given.  `stage`: the stage of a pipeline that asks for it, which
    may ask for what has failed to be trained again.
    """

    resume_step: int | None = field(default=None, validator=natural)
    max_steps: int | None = field(default=None, validator=natural)
    resume_digest: Digest | None = field(default=None, validator=sha256)
    beginning: Beginning = field(factory=Beginning)
    stage: StageId | None = None


@frozen
class ClaimTraining:
    """Take the training on, or go on holding it.

    `lost`: whoever held it and is known to be dead, so that nobody waits for the lease.
    """

    worker: WorkerId
    lease_until: datetime
    lost: WorkerId | None = None


@frozen
class StartTraining:
    worker: WorkerId
    claim: int


@frozen
class RecordTrainedCheckpoint:
    """Record what the present training has written.

    The first one of a training that began anew takes the place of all that earlier
    trainings have left.
    """

    worker: WorkerId
    claim: int
    step: int = field(converter=index, validator=natural)
    digest: Digest = field(validator=sha256)
    size_bytes: int = field(validator=natural)


@frozen
class RequestStop:
    pass


@frozen
class FinishTraining:
    worker: WorkerId
    claim: int


@frozen
class AcknowledgeStop:
    worker: WorkerId
    claim: int


@frozen
class FailTraining:
    worker: WorkerId
    claim: int
    reason: str = field(validator=said)


@frozen
class RequireExperiment:
    """Changes nothing, and is refused once the experiment is deleted."""


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
    | ClaimTraining
    | StartTraining
    | RecordTrainedCheckpoint
    | RequestStop
    | FinishTraining
    | AcknowledgeStop
    | FailTraining
    | RequireExperiment
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
    training: int | None
    """The number of the training that wrote it; None: it was uploaded or imported."""


@frozen
class CheckpointDeleted:
    step: int
    digest: Digest = field(validator=sha256)


@frozen
class TrainingRequested:
    resume_step: int | None
    resume_digest: Digest | None = field(validator=sha256)
    max_steps: int | None
    beginning: Beginning
    stage: StageId | None
    """The stage of a pipeline that asked for it."""


@frozen
class TrainingClaimed:
    worker: WorkerId
    lease_until: datetime
    claim: int
    lost: WorkerId | None


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
    | TrainingClaimed
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
    training: int | None = None
    """The number of the training that wrote it."""


@frozen
class Training:
    """What was asked for last, and who sees to it."""

    number: int
    """Of all trainings of the experiment, from 1."""
    resume_step: int | None
    resume_digest: Digest | None
    max_steps: int | None
    beginning: Beginning
    stage: StageId | None
    claim: Claim | None = None
    claims: int = 0
    """How many claims of it there have ever been."""
    losses: int = 0
    """How many workers were lost over it since it last wrote a checkpoint."""
    has_written: bool = False

    @property
    def begins_anew(self) -> bool:
        return self.resume_step is None


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
    deleted: bool = False

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


@frozen
class Train:
    """See to it that the training runs, and that what it does is recorded."""

    experiment_id: ExperimentId
    run_id: RunId


def react(state: Experiment, now: datetime) -> Train | None:
    """Return the work that is outstanding and that nobody holds a lease on."""
    if state.status not in AT_WORK or state.training is None or state.deleted:
        return None
    claim = state.training.claim
    if claim is not None and now < claim.lease_until:
        return None
    return Train(state.id, training_of(state.id, state.training.number))


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
        case RequireExperiment(), Experiment():
            return []
        case RequestTraining(), Experiment():
            return _request_training(state, command)
        case ClaimTraining(), Experiment():
            return _claim(state, command, now)
        case StartTraining(), Experiment(status=Status.PENDING):
            _check_claim(state, command.worker, command.claim)
            return [TrainingStarted()]
        case RecordTrainedCheckpoint(), Experiment() if state.status in AT_WORK:
            _check_claim(state, command.worker, command.claim)
            return _record_trained(state, command, now)
        case RequestStop(), Experiment(status=Status.STOPPING):
            return []
        case RequestStop(), Experiment(status=Status.PENDING) if not _is_held(state):
            # Nobody has begun, so there is nobody to wait for.
            return [StopRequested(), TrainingStopped()]
        case RequestStop(), Experiment() if state.status in AT_WORK:
            return [StopRequested()]
        case AcknowledgeStop(), Experiment(status=Status.STOPPING):
            _check_claim(state, command.worker, command.claim)
            return [TrainingStopped()]
        case FinishTraining(), Experiment(status=Status.RUNNING | Status.STOPPING):
            _check_claim(state, command.worker, command.claim)
            return [TrainingSucceeded()]
        case FailTraining(), Experiment() if state.status in AT_WORK:
            _check_claim(state, command.worker, command.claim)
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
    return [
        CheckpointWritten(command.step, command.digest, command.size_bytes, now, None)
    ]


def _record_trained(
    state: Experiment, command: RecordTrainedCheckpoint, now: datetime
) -> Sequence[Event]:
    assert state.training is not None, "what is at work was asked for"
    written = CheckpointWritten(
        command.step,
        command.digest,
        command.size_bytes,
        now,
        state.training.number,
    )
    replaced = state.checkpoints
    if state.training.has_written or not state.training.begins_anew:
        replaced = tuple(c for c in replaced if c.step == command.step)
        if any(c.digest == command.digest for c in replaced):
            return []
    return [*(CheckpointDeleted(c.step, c.digest) for c in replaced), written]


def _request_training(state: Experiment, command: RequestTraining) -> Sequence[Event]:
    allowed = _allowed(command)
    if state.status not in allowed:
        raise IllegalTransition(_not_now(command, state.status))
    if state.setup.source is None:
        raise Rejected(
            "Training needs an environment or a dataset: name the source.",
            field="source",
        )
    step, digest = command.resume_step, command.resume_digest
    if step is not None and digest is None:
        if not state.checkpoints:
            raise Conflict(
                "The experiment has no checkpoint to resume from: begin with a new one."
            )
        digest = state.checkpoint(step).digest
    return [
        TrainingRequested(
            step, digest, command.max_steps, command.beginning, command.stage
        )
    ]


def _allowed(command: RequestTraining) -> Sequence[Status]:
    """Return the statuses in which this may be asked for."""
    if command.stage is not None:
        # A stage that has failed can be tried again, and so its experiment.
        return (*TRAINABLE, Status.FAILED)
    if command.resume_step is None:
        return TRAINABLE
    # Of another experiment's checkpoint a Draft begins.
    return RESUMABLE if command.resume_digest is None else (Status.DRAFT,)


def _claim(state: Experiment, command: ClaimTraining, now: datetime) -> Sequence[Event]:
    training = state.training
    if state.status not in AT_WORK or training is None:
        raise IllegalTransition("Nothing to claim: the training has ended.")
    held = training.claim
    others = held is not None and held.worker not in (command.worker, command.lost)
    if held is not None and others and now < held.lease_until:
        raise IllegalTransition("Nothing to claim: another worker holds it.")
    if command.lease_until <= now:
        raise Rejected("A lease must end in the future.", field="lease_until")
    lost = None if held is None or held.worker == command.worker else held.worker
    number = training.claims + 1
    return [TrainingClaimed(command.worker, command.lease_until, number, lost)]


def _is_held(state: Experiment) -> bool:
    return state.training is not None and state.training.claim is not None


def _check_claim(state: Experiment, worker: WorkerId, number: int) -> None:
    held = None if state.training is None else state.training.claim
    if held is None or (held.worker, held.number) != (worker, number):
        raise IllegalTransition(
            "The claim on this training is not, or no longer, yours."
        )


def _not_now(command: Command, status: Status) -> str:
    match command:
        case RequestTraining(resume_step=None):
            allowed = ", ".join(s.value for s in _allowed(command))
            remedy = f"train one that is {allowed}, or copy it"
        case RequestTraining():
            allowed = ", ".join(s.value for s in _allowed(command))
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
            return _written(state, event)
        case CheckpointDeleted():
            rest = tuple(c for c in state.checkpoints if c.step != event.step)
            return replace(state, checkpoints=rest)
        case TrainingRequested():
            before = 0 if state.training is None else state.training.number
            asked = Training(
                before + 1,
                event.resume_step,
                event.resume_digest,
                event.max_steps,
                event.beginning,
                event.stage,
            )
            return replace(state, status=Status.PENDING, reason=None, training=asked)
        case TrainingClaimed():
            claim = Claim(event.worker, event.lease_until, event.claim)
            losses = 0 if state.training is None else state.training.losses
            return _in_training(
                state,
                claim=claim,
                claims=event.claim,
                losses=losses + (event.lost is not None),
            )
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


def _in_training(state: Experiment, **changed: Any) -> Experiment:  # noqa: ANN401 -- any of its fields
    """Return `state` with something else said of its latest training, if it has one."""
    if state.training is None:
        return state
    return replace(state, training=replace(state.training, **changed))
