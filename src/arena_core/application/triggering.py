"""Triggering a stage: all that goes into one append when a run is asked for.

The run freezes its settings and what it takes.  What that was decided on is guarded: if
it has changed by then, the append is refused with `Overtaken`, and may be tried anew.
"""

from collections.abc import Sequence
from uuid import UUID

from attrs import evolve as replace
from attrs import frozen

from arena_core.application.handling import Change
from arena_core.application.ports import Row
from arena_core.application.session import Session
from arena_core.application.stage_inputs import Input, Sight, check_input, input_of
from arena_core.application.trust import check_trainable
from arena_core.domain import experiment, pipeline, stage
from arena_core.domain.errors import Conflict, NotFound, Rejected
from arena_core.domain.ids import run_of
from arena_core.domain.lineage import beginning, last_left
from arena_core.domain.stage import Stage, check_trigger
from arena_core.domain.stage_commands import FailStage, RequireYields, TriggerStage
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_run import (
    AT_WORK,
    Cause,
    Inputs,
    Ordered,
    Run,
)


@frozen
class Bound:
    """A stage, and the row of its pipeline."""

    pipeline: Row
    planned: Planned


def bound_to(session: Session, experiment_id: UUID) -> Bound | None:
    """Return the stage that the experiment is bound to; None: to none."""
    # Of two, as logs of before experiments knew their stages have them, the first.
    return next(
        (
            Bound(row, planned)
            for row in session.query(pipeline.KIND, refers=experiment_id)
            for planned in row.state.stages
            if planned.settings.experiment_id == experiment_id
        ),
        None,
    )


def triggered(  # noqa: PLR0913 -- what somebody may say of a run
    session: Session,
    bound: Bound,
    cause: Cause,
    *,
    resume_step: int | None = None,
    max_steps: int | None = None,
    seed: int | None = None,
    just: Stage | None = None,
) -> Sequence[Change]:
    """Return the changes that trigger the stage, with all that guards them.

    `just`: the state of the stage before it as it will be by an earlier change of the
    same append.  Raises `Conflict`, `Rejected` or `NotFound` if it cannot be run, but
    not for `AUTO`: nobody would see that, so the run is triggered, and has failed.
    """
    asked = _Asked(session, bound, cause, Sight(session.rows, just))
    ordered = Ordered(resume_step, max_steps, seed)
    if cause is not Cause.AUTO:
        return asked.changes(ordered)
    before = asked.before
    if before is not None and before.status in AT_WORK:
        return ()
    try:
        return asked.changes(ordered)
    except (Conflict, Rejected, NotFound) as refusal:
        return asked.failing(str(refusal))


@frozen
class _Asked:
    session: Session
    bound: Bound
    cause: Cause
    sight: Sight

    @property
    def before(self) -> Stage | None:
        return self.sight.stage(self.bound.planned.id)

    def changes(self, ordered: Ordered) -> Sequence[Change]:
        planned = self.bound.planned
        check_trigger(self.before, self.cause, planned.settings.trigger)
        self._check_experiment()
        return self._triggered(self._inputs(ordered))

    def failing(self, reason: str) -> Sequence[Change]:
        found = self._found()
        trigger = self._triggered(Inputs(found.fingerprint, found.consumed))
        number = 1 if self.before is None else self.before.run.number + 1
        stage_id = self.bound.planned.id
        left = self.sight.yields(stage_id)
        fail = FailStage(run_of(stage_id, number), reason, left, for_good=True)
        return (*trigger, Change(stage, stage_id, fail))

    def _triggered(self, inputs: Inputs) -> Sequence[Change]:
        row, planned = self.bound.pipeline, self.bound.planned
        trigger = TriggerStage(
            planned.id, row.state.id, self.cause, planned.settings, inputs
        )
        return (*self._guards(), Change(stage, planned.id, trigger))

    def _guards(self) -> Sequence[Change]:
        row, planned = self.bound.pipeline, self.bound.planned
        as_seen = pipeline.RequirePipeline(row.state.stages)
        guards = [Change(pipeline, row.id, as_seen)]
        source = row.state.source(planned.id)
        if source is not None:
            yields = RequireYields(self.sight.yields(source.id))
            guards.append(Change(stage, source.id, yields))
        return guards

    def _check_experiment(self) -> None:
        bound = self.bound.planned.settings.experiment_id
        if bound is None:
            return
        state = self.sight.experiment(bound)
        if state is None:
            raise NotFound("Its experiment was deleted: bind another one to the stage.")
        if state.status in experiment.AT_WORK:
            raise Conflict(
                f"Its experiment is {state.status.value}: stop it, or wait until it "
                "has ended."
            )
        check_trainable(self.session, state.setup)

    def _found(self) -> Input:
        return input_of(self.sight, self.bound.pipeline.state, self.bound.planned)

    def _inputs(self, ordered: Ordered) -> Inputs:
        run = None if self.before is None else self.before.run
        if self.cause is Cause.RESUME:
            return self._going_on(run, ordered)
        found = self._found()
        state, planned = self.bound.pipeline.state, self.bound.planned
        check_input(self.sight, state, planned, found)
        if self.cause is Cause.RETRY and run is not None:
            ordered = self._retried(run, found)
        return Inputs(found.fingerprint, found.consumed, ordered)

    def _going_on(self, run: Run | None, ordered: Ordered) -> Inputs:
        """Return what a run begins with that takes nothing new.

        It is still made of what the run before has taken, if that trained the same.
        """
        settings = self.bound.planned.settings
        if run is None or run.settings.experiment_id != settings.experiment_id:
            return Inputs(beginning(settings, None), None, ordered)
        return Inputs(run.fingerprint, run.consumed, ordered)

    def _retried(self, run: Run, found: Input) -> Ordered:
        """Return what was asked for before, going on from what that has left."""
        settings = self.bound.planned.settings
        if settings.experiment_id is None or not found.is_that_of(run):
            return replace(run.ordered, resume_step=None)
        state = self.sight.experiment(settings.experiment_id)
        written = () if state is None else state.checkpoints
        return replace(run.ordered, resume_step=last_left(run, written))
