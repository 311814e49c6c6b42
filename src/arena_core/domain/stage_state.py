"""A stage as it is after all that has happened to its runs."""

from typing import Any, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.ids import PipelineId, RunId, StageId
from arena_core.domain.stage_events import (
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
from arena_core.domain.stage_run import ConditionChecked, Run, Status, Yields


@frozen
class Stage:
    id: StageId
    pipeline_id: PipelineId
    status: Status
    run: Run
    """The latest."""
    yields: Yields = field(factory=Yields)
    """Since the last run that has ended, `yielded_by`."""
    yielded_by: RunId | None = None
    deleted: bool = False
    """Never: what was done stays known, also of a stage that was removed."""


def evolve(state: Stage | None, event: Event) -> Stage:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, StageTriggered):
        run = Run(
            event.run_id,
            event.number,
            event.cause,
            event.settings,
            event.fingerprint,
            event.triggered_at,
            event.ordered,
        )
        if state is None:
            return Stage(event.stage_id, event.pipeline_id, Status.PENDING, run)
        return replace(state, status=Status.PENDING, run=run)
    assert state is not None, f"{event!r} before StageTriggered"
    match event:
        case CheckpointConsumed():
            return _in_run(state, consumed=event.consumed)
        case ConditionChecked():
            return _in_run(state, condition=event)
        case ApprovalRequested():
            return _in_run(state, asked=event.seen)
        case StageApproved():
            return _in_run(state, approved=True)
        case StageStarted():
            started = _in_run(
                state,
                attempt=event.attempt,
                training=event.training,
                first_training=state.run.first_training or event.training,
                agent_id=event.agent_id,
                started_at=event.started_at,
                retry_at=None,
                timed_out=False,
            )
            return replace(started, status=Status.RUNNING)
        case AttemptFailed():
            failed = _in_run(state, retry_at=event.retry_at, reason=event.reason)
            return _left(replace(failed, status=Status.PENDING), event.yields)
        case StageStopRequested():
            stopping = _in_run(state, timed_out=event.timed_out)
            return replace(stopping, status=Status.STOPPING)
        case StageSucceeded():
            done = _in_run(state, added=event.added)
            return _ended(done, event, Status.SUCCEEDED, None)
        case StageFailed():
            return _ended(state, event, Status.FAILED, event.reason)
        case StageStopped():
            return _ended(state, event, Status.STOPPED, event.reason)
        case _:
            assert_never(event)


def _in_run(state: Stage, **changed: Any) -> Stage:  # noqa: ANN401 -- any of its fields
    return replace(state, run=replace(state.run, **changed))


def _ended(
    state: Stage,
    event: StageSucceeded | StageFailed | StageStopped,
    status: Status,
    reason: str | None,
) -> Stage:
    ended = _in_run(state, ended_at=event.ended_at, retry_at=None, reason=reason)
    return _left(replace(ended, status=status), event.yields)


def _left(state: Stage, yields: Yields) -> Stage:
    by = state.run.id if state.run.attempt else state.yielded_by
    return replace(state, yields=yields, yielded_by=by)
