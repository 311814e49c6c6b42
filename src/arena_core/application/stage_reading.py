"""Pipelines, stages and runs as they are shown, from rows and streams."""

from collections.abc import Sequence
from uuid import UUID

from arena_core.application.deeds import Deed, Hand, What, hand_of
from arena_core.application.ownership import owner_of
from arena_core.application.pipeline_views import PipelineView, RunView, StageView
from arena_core.application.ports import Row
from arena_core.application.queueing import queue
from arena_core.application.session import Session
from arena_core.application.stage_inputs import Sight
from arena_core.application.staleness import stale_causes
from arena_core.domain import pipeline
from arena_core.domain.ids import AgentId, RunId, training_of
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage import Stage
from arena_core.domain.stage_order import Planned, source
from arena_core.domain.stage_run import AT_WORK, Product, Run, Status, Yields
from arena_core.domain.stage_settings import HandOver


def pipeline_view(session: Session, row: Row) -> PipelineView:
    """Return the pipeline as it is, found out once until the log moves on."""
    key = ("pipeline", row.id, session.looks_at)
    return session.core.views.known(key, lambda: _pipeline_view(session, row.id))


def _pipeline_view(session: Session, pipeline_id: UUID) -> PipelineView:
    # Read anew: what is kept must not be older than the log is known to be.
    row = session.find(pipeline.KIND, pipeline_id)
    state: Pipeline = row.state
    sight = Sight.of(session, state)
    return PipelineView(
        id=state.id,
        project_id=state.project_id,
        name=state.name,
        description=state.description,
        last_modified=row.changed_at,
        stages=[_stage_view(session, sight, state, s) for s in state.stages],
        owner=owner_of(session, row),
        created_at=row.created_at,
    )


def _stage_view(
    session: Session, sight: Sight, state: Pipeline, planned: Planned
) -> StageView:
    settings, executions = planned.settings, sight.stage(planned.id)
    bound = settings.experiment_id
    trained = None if bound is None else sight.experiment(bound)
    because = stale_causes(session, sight, state, planned)
    position = state.position(planned.id)
    return StageView(
        id=planned.id,
        position=position,
        type=settings.type,
        trigger=settings.trigger,
        experiment_id=bound,
        experiment_name=None if trained is None else trained.name,
        start=_start(planned, position),
        checkpoint=settings.checkpoint,
        auto_add=settings.auto_add,
        agent_name=settings.agent_name,
        condition=settings.condition,
        approval=settings.approval,
        retries=settings.retries,
        time_limit_s=settings.time_limit_s,
        status=Status.NOT_STARTED if executions is None else executions.status,
        stale=bool(because),
        stale_because=because,
        run=None
        if executions is None
        else _of_latest(session, sight, state, planned, executions),
    )


def _start(planned: Planned, position: int) -> AgentId | None:
    """Return the agent that it begins with, which only a first stage does."""
    start = planned.settings.start
    return None if start is None or position > 1 else start.agent_id


def _of_latest(
    session: Session, sight: Sight, state: Pipeline, planned: Planned, executions: Stage
) -> RunView:
    run, deeds = executions.run, sight.deeds(planned.id)
    bound = run.settings.experiment_id
    trained = None if bound is None else sight.experiment(bound)
    training = None if trained is None else trained.training
    stopped_by = None
    if bound is not None and training is not None and training.number == run.training:
        stopped_by = hand_of(sight.deeds(bound), What.STOPPED)
    return run_view(
        session, state, planned, executions, deeds, training_stopped_by=stopped_by
    )


def run_view(  # noqa: PLR0913 -- all that a run is shown by
    session: Session,
    state: Pipeline,
    planned: Planned,
    executions: Stage,
    deeds: Sequence[Deed],
    *,
    training_stopped_by: Hand | None,
) -> RunView:
    """Return the latest run of `executions`, to which `deeds` were done.

    `training_stopped_by`: who has stopped its training, which stops the run as well.
    """
    run = executions.run
    own = executions.yielded_by == run.id and executions.status not in AT_WORK
    produced = _produced(state, planned, executions.yields) if own else None
    by_training = None if run.timed_out else training_stopped_by
    return RunView(
        id=run.id,
        number=run.number,
        status=executions.status,
        cause=run.cause,
        attempt=run.attempt,
        triggered_at=run.triggered_at,
        triggered_by=deeds[0].hand,
        approved_by=hand_of(deeds, What.APPROVED),
        rejected_by=hand_of(deeds, What.REJECTED),
        stopped_by=hand_of(deeds, What.STOPPED) or by_training,
        started_at=run.started_at,
        ended_at=run.ended_at,
        retry_at=run.retry_at,
        queue_position=_place(session, executions),
        consumed=run.candidate,
        produced=produced,
        agent_id=run.agent_id or run.added,
        training_run_id=_training(run),
        condition_met=None if run.condition is None else run.condition.met,
        finding=None if run.condition is None else run.condition.finding,
        awaits_approval=run.awaits_approval and executions.status in AT_WORK,
        to_approve=run.asked,
        reason=run.reason,
    )


def _produced(state: Pipeline, planned: Planned, left: Yields) -> Product | None:
    """Return what the next stage takes of it, by that one's rule.

    Where there is none of that kind, it is the last that it has left.
    """
    position = state.position(planned.id)
    rules = [
        after.settings.checkpoint
        for number, after in enumerate(state.stages[position:], start=position + 1)
        if source(state.stages, number) == planned
    ]
    rule = next(iter(rules), HandOver.BEST)
    return left.under(rule) or left.final


def _place(session: Session, executions: Stage) -> int | None:
    training = _training(executions.run)
    if training is None or executions.status is not Status.RUNNING:
        return None
    return queue(session).get(training)


def _training(run: Run) -> RunId | None:
    bound = run.settings.experiment_id
    if run.training is None or bound is None:
        return None
    return training_of(bound, run.training)
