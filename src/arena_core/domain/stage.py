"""Stage: the executions of one stage of a pipeline, one run after the other.

NotStarted -> Pending -> Running -> Succeeded, Failed or Stopped.  Pending is all that
comes before the work: a condition, an approval, the time before another attempt.  A
stop leads from Pending to Stopped at once, from Running through Stopping.

A run keeps the settings that it was triggered with, and the checkpoint that it takes
is chosen when it is triggered: what happens to the stages before it meanwhile does not
change it.  What follows from a state is told by `react`; who carries that out names
the run that it is about, and comes too late once there is another.  Runs themselves
are in `stage_run`, what becomes of the stage in `stage_state`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

from arena_core.domain.errors import (
    Conflict,
    IllegalTransition,
    NotFound,
    Overtaken,
)
from arena_core.domain.ids import (
    RunId,
    run_of,
)
from arena_core.domain.stage_commands import (
    ApproveStage,
    CheckCondition,
    Command,
    FailStage,
    RejectStage,
    RequestApproval,
    RequestStageStop,
    RequireIdle,
    RequireYields,
    StartStage,
    StopStage,
    SucceedStage,
    TimeStageOut,
    TriggerStage,
)
from arena_core.domain.stage_condition import judged
from arena_core.domain.stage_events import (
    NOT_APPROVED,
    NOT_BEGUN,
    NOT_RETRIED,
    ApprovalRequested,
    AttemptFailed,
    CheckpointConsumed,
    Event,
    StageApproved,
    StageFailed,
    StageStarted,
    StageStopped,
    StageStopRequested,
    StageSucceeded,
    StageTriggered,
)
from arena_core.domain.stage_run import (
    AT_WORK,
    RETRIABLE,
    Cause,
    ConditionChecked,
    Outcome,
    Product,
    Reaction,
    Run,
    Seen,
    Status,
    Yields,
    due,
    follows,
)
from arena_core.domain.stage_settings import Trigger
from arena_core.domain.stage_state import Stage, evolve

KIND = "stage"


def react(state: Stage, outcome: Outcome | None, now: datetime) -> Reaction | None:
    """Return what follows from `state`; None: nothing, until something else happens.

    `outcome`: how the work of the run stands; None: it has not begun.
    """
    return follows(state.status, state.run, outcome, now)


def due_at(state: Stage, outcome: Outcome | None) -> datetime | None:
    """Return when something follows from `state` by the mere passing of time."""
    return due(state.status, state.run, outcome)


def decide(command: Command, state: Stage | None, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    match command, state:
        case TriggerStage(), _:
            return _trigger(state, command, now)
        case RequireIdle(), None:
            return []
        case RequireYields(), _:
            return _require_yields(state, command.yields)
        case _, None:
            raise NotFound("The stage has never run.")
        case RequireIdle(), Stage():
            if state.status in AT_WORK:
                raise IllegalTransition(
                    f"A stage of the pipeline is {state.status.value}: stop it, or "
                    "wait until it has ended."
                )
            return []
        case CheckCondition(), Stage(status=Status.PENDING):
            _current(state, command.run_id)
            return _check_condition(state, command.live, now)
        case RequestApproval(), Stage(status=Status.PENDING):
            run = _current(state, command.run_id)
            if run.asked is not None:
                return []
            return [ApprovalRequested(run.id, Seen(run.candidate, command.live))]
        case ApproveStage(), Stage() if state.run.approved or _awaits(state):
            return _approve(state.run, command)
        case RejectStage(), Stage() if _awaits(state):
            return [_stopped(state, NOT_APPROVED, now)]
        case StartStage(), Stage(status=Status.PENDING):
            run = _current(state, command.run_id)
            _check_start(state, now)
            return [
                StageStarted(
                    run.id, run.attempt + 1, command.training, command.agent_id, now
                )
            ]
        case RequestStageStop(), Stage(status=Status.PENDING):
            reason = NOT_RETRIED if state.run.attempt else NOT_BEGUN
            return [_stopped(state, reason, now)]
        case RequestStageStop(), Stage(status=Status.RUNNING):
            return [StageStopRequested(state.run.id, timed_out=False)]
        case RequestStageStop(), Stage(status=Status.STOPPING):
            # Whoever stops what was timed out does not want another attempt.
            run = state.run
            return (
                [StageStopRequested(run.id, timed_out=False)] if run.timed_out else []
            )
        case TimeStageOut(), Stage(status=Status.RUNNING):
            run = _current(state, command.run_id)
            return [StageStopRequested(run.id, timed_out=True)]
        case SucceedStage(), Stage(status=Status.RUNNING | Status.STOPPING):
            run = _current(state, command.run_id)
            return [StageSucceeded(run.id, command.yields, command.added, now)]
        case FailStage(), Stage() if state.status in AT_WORK:
            return [_failed(state, command, now)]
        case StopStage(), Stage(status=Status.RUNNING | Status.STOPPING):
            run = _current(state, command.run_id)
            return [StageStopped(run.id, command.reason, command.yields, now)]
        case _, Stage():
            raise IllegalTransition(_not_now(command, state))
        case _:
            assert_never(command)


def check_trigger(state: Stage | None, cause: Cause, trigger: Trigger) -> None:
    """Raise `IllegalTransition` unless the stage can be triggered for this cause."""
    status = Status.NOT_STARTED if state is None else state.status
    if status in AT_WORK:
        raise IllegalTransition(
            f"The stage is {status.value}: stop it first, or wait until it has ended."
        )
    if cause is Cause.MANUAL and trigger is Trigger.AUTO:
        raise IllegalTransition(
            "An Auto stage starts when the stage before it succeeds: trigger that "
            "one, retry this one if it has failed, or make it Manual."
        )
    if cause is Cause.RETRY and status not in RETRIABLE:
        raise IllegalTransition(
            f"The stage is {status.value}: only one that is Failed or Stopped can be "
            "retried. To run it anew, trigger it, or the stage before an Auto one."
        )


def _trigger(
    state: Stage | None, command: TriggerStage, now: datetime
) -> Sequence[Event]:
    check_trigger(state, command.cause, command.settings.trigger)
    number = 1 if state is None else state.run.number + 1
    run_id = run_of(command.stage_id, number)
    inputs = command.inputs
    events: list[Event] = [
        StageTriggered(
            command.stage_id,
            command.pipeline_id,
            run_id,
            number,
            command.cause,
            command.settings,
            inputs.fingerprint,
            inputs.ordered,
            now,
        )
    ]
    if inputs.consumed is not None:
        events.append(CheckpointConsumed(run_id, inputs.consumed))
    return events


def _require_yields(state: Stage | None, yields: Yields) -> Sequence[Event]:
    if yields != (Yields() if state is None else state.yields):
        raise Overtaken("The stage before it has left something else meanwhile.")
    return []


def _current(state: Stage, run_id: RunId) -> Run:
    if state.run.id != run_id:
        raise IllegalTransition("The stage has another run meanwhile.")
    return state.run


def _awaits(state: Stage) -> bool:
    return state.status is Status.PENDING and state.run.awaits_approval


def _check_start(state: Stage, now: datetime) -> None:
    if react(state, None, now) is not Reaction.START:
        raise IllegalTransition(
            "The stage cannot begin yet: its condition, an approval, or the time "
            "before another attempt comes first."
        )


def _check_condition(
    state: Stage, live: Product | None, now: datetime
) -> Sequence[Event]:
    run = state.run
    if run.settings.condition is None or run.condition is not None:
        return []
    met, finding = judged(run.settings.condition, run.candidate, live)
    checked = ConditionChecked(run.id, met, Seen(run.candidate, live), finding)
    if met:
        return [checked]
    return [checked, _stopped(state, finding, now)]


def _approve(run: Run, command: ApproveStage) -> Sequence[Event]:
    digest = None if run.candidate is None else run.candidate.digest
    if command.digest not in (None, digest):
        raise Conflict(
            "It is about another checkpoint than the one that you name: look at the "
            "stage again."
        )
    return [] if run.approved else [StageApproved(run.id, digest)]


def _stopped(state: Stage, reason: str, now: datetime) -> StageStopped:
    """Return the end of a run while nothing is done for it: what there is stays."""
    return StageStopped(state.run.id, reason, state.yields, now)


def _failed(
    state: Stage, command: FailStage, now: datetime
) -> AttemptFailed | StageFailed:
    run = _current(state, command.run_id)
    asked_to_stop = state.status is Status.STOPPING and not run.timed_out
    wait_s = run.settings.retries.wait_s(max(run.attempt, 1))
    # A run that never began leaves what there was.
    yields = command.yields if run.attempt else state.yields
    if command.for_good or asked_to_stop or wait_s is None:
        return StageFailed(run.id, command.reason, yields, now)
    retry_at = now + timedelta(seconds=wait_s)
    return AttemptFailed(run.id, run.attempt, command.reason, yields, retry_at)


def _not_now(command: Command, state: Stage) -> str:
    match command:
        case ApproveStage() | RejectStage():
            return "Nobody is asked to approve of anything: look at the stage again."
        case RequestStageStop():
            return f"The stage is {state.status.value}: there is nothing to stop."
        case _:
            return f"The stage is {state.status.value}: that comes too late."


__all__ = [
    "KIND",
    "Command",
    "Event",
    "Stage",
    "check_trigger",
    "decide",
    "due_at",
    "evolve",
    "react",
]
