"""What may follow what in the training of an experiment.

Succeeded and Stopped may be trained again.  What a worker records is refused once
another has claimed the training, or it is over.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, assert_never

from attrs import frozen

from arena_core.domain.errors import Conflict, IllegalTransition, Rejected
from arena_core.domain.ids import ExperimentId, RunId, WorkerId, training_of
from arena_core.domain.training import (
    AT_WORK,
    RESUMABLE,
    TRAINABLE,
    CheckpointDeleted,
    CheckpointWritten,
    Event,
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
    Command,
    FailTraining,
    FinishTraining,
    RecordTrainedCheckpoint,
    RequestStop,
    RequestTraining,
    RequireResumable,
    StartTraining,
)


class Trainee(Protocol):
    """An experiment, as far as its training is concerned."""

    @property
    def id(self) -> ExperimentId: ...

    @property
    def setup(self) -> Setup: ...

    @property
    def status(self) -> Status: ...

    @property
    def checkpoints(self) -> Sequence[Written]: ...

    @property
    def training(self) -> Training | None: ...

    @property
    def deleted(self) -> bool: ...

    def checkpoint(self, step: int) -> Written: ...


@frozen
class Train:
    """See to it that the training runs, and that what it does is recorded."""

    experiment_id: ExperimentId
    run_id: RunId


def react(state: Trainee, now: datetime) -> Train | None:
    """Return the work that is outstanding and that nobody holds a lease on."""
    if state.status not in AT_WORK or state.training is None or state.deleted:
        return None
    claim = state.training.claim
    if claim is not None and now < claim.lease_until:
        return None
    return Train(state.id, training_of(state.id, state.training.number))


def decide(command: Command, state: Trainee, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    match command:
        case RequestTraining():
            return _request(state, command)
        case RequireResumable():
            return _require_resumable(state, command)
        case RequestStop():
            return _stop(state, command)
        case ClaimTraining():
            return _claim(state, command, now)
        case StartTraining():
            _check_status(state, command, Status.PENDING)
            return [TrainingStarted()]
        case RecordTrainedCheckpoint():
            _check_status(state, command, *AT_WORK)
            return _record(state, command, now)
        case FinishTraining():
            # What was asked to stop ends Stopped or Failed, however far it got.
            _check_status(state, command, Status.RUNNING)
            return [TrainingSucceeded()]
        case AcknowledgeStop():
            _check_status(state, command, Status.STOPPING)
            return [TrainingStopped()]
        case FailTraining():
            _check_status(state, command, *AT_WORK)
            return [TrainingFailed(command.reason)]
        case _:
            assert_never(command)


def _request(state: Trainee, command: RequestTraining) -> Sequence[Event]:
    allowed = _allowed(command)
    if state.status not in allowed:
        raise _not_now(state, command, _remedy(command, allowed))
    if state.setup.source is None:
        raise Rejected(
            "Training needs an environment or a dataset: name the source.",
            field="source",
        )
    step, digest, writer = command.resume_step, command.resume_digest, command.resume_of
    if step is not None and digest is None:
        origin = _to_resume_from(state, step)
        digest, writer = origin.digest, _writer(state, origin)
    return [
        TrainingRequested(
            step, digest, command.max_steps, command.beginning, command.stage, writer
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


def _remedy(command: RequestTraining, allowed: Sequence[Status]) -> str:
    names = ", ".join(status.value for status in allowed)
    if command.resume_step is None:
        return f"train one that is {names}, or copy it"
    return f"resume one that is {names}"


def _to_resume_from(state: Trainee, step: int) -> Written:
    if not state.checkpoints:
        raise Conflict(
            "The experiment has no checkpoint to resume from: duplicate it, and train "
            "the copy."
        )
    return state.checkpoint(step)


def _writer(state: Trainee, checkpoint: Written) -> RunId | None:
    if checkpoint.training is None:
        return None
    return training_of(state.id, checkpoint.training)


def _require_resumable(state: Trainee, command: RequireResumable) -> Sequence[Event]:
    if state.status not in RESUMABLE:
        names = ", ".join(status.value for status in RESUMABLE)
        raise _not_now(state, command, f"resume one that is {names}")
    if _to_resume_from(state, command.step).digest != command.digest:
        raise Conflict(
            f"Step {command.step} has another checkpoint by now: look again."
        )
    return []


def _stop(state: Trainee, command: RequestStop) -> Sequence[Event]:
    if state.status is Status.STOPPING:
        return []
    if state.status not in AT_WORK:
        raise _not_now(state, command, "there is nothing to stop")
    if state.training is None or state.training.claim is None:
        # Nobody has begun, so there is nobody to wait for.
        return [StopRequested(), TrainingStopped()]
    return [StopRequested()]


def _claim(state: Trainee, command: ClaimTraining, now: datetime) -> Sequence[Event]:
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


def _record(
    state: Trainee, command: RecordTrainedCheckpoint, now: datetime
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


Held = (
    StartTraining
    | RecordTrainedCheckpoint
    | FinishTraining
    | AcknowledgeStop
    | FailTraining
)


def _check_status(state: Trainee, command: Held, *allowed: Status) -> None:
    """Raise `IllegalTransition` unless it is the turn of whoever says this."""
    if state.status not in allowed:
        raise _not_now(state, command, "look at its status again")
    held = None if state.training is None else state.training.claim
    if held is None or _claim_of(command) != (held.worker, held.number):
        raise IllegalTransition(
            "The claim on this training is not, or no longer, yours."
        )


def _claim_of(command: Held) -> tuple[WorkerId, int]:
    return command.worker, command.claim


def _not_now(state: Trainee, command: Command, remedy: str) -> IllegalTransition:
    return not_now(command, state.status, remedy)


_AS_USERS_SAY = {
    "RequestTraining": "train",
    "RequireResumable": "resume",
    "RequestStop": "stop",
    "DeleteExperiment": "delete",
}
"""What asks for them; others are said by whoever trains."""


def not_now(command: object, status: Status, remedy: str) -> IllegalTransition:
    """Return the refusal of what is not possible while the experiment is so."""
    name = type(command).__name__
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    said = _AS_USERS_SAY.get(name, words)
    return IllegalTransition(
        f"To {said} is not possible while the experiment is {status.value}: {remedy}."
    )
