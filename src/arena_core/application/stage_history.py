"""All runs of a stage, each with what was attempted and by whose hand: from its stream.

The read model has the latest run only.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import evolve as replace
from attrs import fields, frozen

from arena_core.application.deeds import Deed, Hand, What, deeds_after, hand_of
from arena_core.application.pipeline_views import AttemptView, RunHistory, RunView
from arena_core.application.ports import Recorded
from arena_core.application.session import Session
from arena_core.application.stage_reading import run_view
from arena_core.application.views import hand
from arena_core.domain import stage
from arena_core.domain.ids import RunId, training_of
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage import Stage
from arena_core.domain.stage_events import (
    AttemptFailed,
    StageFailed,
    StageStarted,
    StageStopped,
    StageSucceeded,
)
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_run import Run, Status
from arena_core.domain.training import TrainingRequested


def run_views(
    session: Session, state: Pipeline, planned: Planned
) -> Sequence[RunHistory]:
    """Return all executions of the stage, the latest first."""
    told: dict[int, _History] = {}
    executions: Stage | None = None
    for recorded in session.core.store.read(planned.id, up_to=session.as_of):
        executions = stage.evolve(executions, recorded.event)
        number = executions.run.number
        before = told.get(number)
        told[number] = _History.after(before, executions, recorded)
    return [
        told[number].view(session, state, planned)
        for number in sorted(told, reverse=True)
    ]


@frozen
class _History:
    """One run: how it stands, what was attempted, and who has done what to it."""

    executions: Stage
    deeds: tuple[Deed, ...]
    attempts: tuple[AttemptView, ...]

    @classmethod
    def after(
        cls, before: "_History | None", executions: Stage, recorded: Recorded
    ) -> "_History":
        deeds = deeds_after(
            () if before is None else before.deeds,
            recorded.event,
            hand(recorded),
            recorded.position,
        )
        attempts = () if before is None else before.attempts
        return cls(executions, deeds, _attempts(attempts, executions.run, recorded))

    def view(self, session: Session, state: Pipeline, planned: Planned) -> RunHistory:
        by = _training_stopped(session, self.executions.run)
        view = run_view(
            session,
            state,
            planned,
            self.executions,
            self.deeds,
            training_stopped_by=by,
        )
        known: dict[str, Any] = {
            field.name: getattr(view, field.name) for field in fields(RunView)
        }
        return RunHistory(**known, attempts=list(self.attempts))


def _attempts(
    attempts: tuple[AttemptView, ...], run: Run, recorded: Recorded
) -> tuple[AttemptView, ...]:
    match recorded.event:
        case StageStarted() as began:
            return (*attempts, _begun(run, began))
        case AttemptFailed(reason=reason):
            return _ended(attempts, Status.FAILED, recorded.occurred_at, reason)
        case StageSucceeded(ended_at=at):
            return _ended(attempts, Status.SUCCEEDED, at, None)
        case StageFailed(ended_at=at, reason=reason):
            return _ended(attempts, Status.FAILED, at, reason)
        case StageStopped(ended_at=at, reason=reason):
            return _ended(attempts, Status.STOPPED, at, reason)
        case _:
            return attempts


def _begun(run: Run, event: StageStarted) -> AttemptView:
    return AttemptView(
        number=event.attempt,
        started_at=event.started_at,
        ended_at=None,
        training=event.training,
        training_run_id=_training(run, event.training),
        agent_id=event.agent_id,
        status=Status.RUNNING,
        reason=None,
    )


def _ended(
    attempts: tuple[AttemptView, ...],
    status: Status,
    at: datetime,
    reason: str | None,
) -> tuple[AttemptView, ...]:
    """Return the attempts with the last of them ended, unless it has before."""
    if not attempts or attempts[-1].ended_at is not None:
        return attempts
    *before, last = attempts
    return (*before, replace(last, status=status, ended_at=at, reason=reason))


def _training(run: Run, number: int | None) -> RunId | None:
    bound = run.settings.experiment_id
    if bound is None or number is None:
        return None
    return training_of(bound, number)


def _training_stopped(session: Session, run: Run) -> Hand | None:
    """Return who has stopped the training of a run that has no other stop."""
    bound = run.settings.experiment_id
    if bound is None or run.training is None:
        return None
    number = 0
    deeds: tuple[Deed, ...] = ()
    for recorded in session.core.store.read(bound, up_to=session.as_of):
        number += isinstance(recorded.event, TrainingRequested)
        if number > run.training:
            break
        deeds = deeds_after(deeds, recorded.event, hand(recorded), recorded.position)
    return hand_of(deeds, What.STOPPED)
