"""How a run ends: what its experiment has left then, and what follows from a success.

All of it is one append: the end of the run, the agent that is added, and the next Auto
stage.  So nothing is ever triggered twice, and nothing is forgotten.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import reduce

from attrs import frozen

from arena_core.application.experiments import Experiments
from arena_core.application.handling import Change
from arena_core.application.resources import CheckpointView
from arena_core.application.session import Session
from arena_core.application.starting import saved_model
from arena_core.application.streams import Streams
from arena_core.application.triggering import Bound, triggered
from arena_core.domain import agent, experiment, pipeline, stage
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import ExperimentId, agent_added_by
from arena_core.domain.stage import Stage
from arena_core.domain.stage_commands import FailStage, StopStage, SucceedStage
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_run import Cause, Product, Status, Yields
from arena_core.domain.stage_settings import AutoAdd, Trigger
from arena_core.domain.values import CheckpointChoice, CheckpointType, choose


@frozen
class Ending:
    """Of the latest run of one stage."""

    session: Session
    streams: Streams
    stage: Stage

    def succeeded(self, now: datetime) -> Sequence[Change]:
        """Return what records the success, and all that follows from it."""
        left = self._yields()
        freeze = self._agent(left)
        added = None if freeze is None else freeze.agent_id
        succeed = SucceedStage(self.stage.run.id, left, added)
        changes = [Change(stage, self.stage.id, succeed)]
        if freeze is not None:
            changes.append(Change(agent, freeze.agent_id, freeze))
        after = reduce(stage.evolve, stage.decide(succeed, self.stage, now), self.stage)
        return (*changes, *self._next(after))

    def failed(self, reason: str, *, for_good: bool = False) -> Sequence[Change]:
        fail = FailStage(self.stage.run.id, reason, self._yields(), for_good)
        return (Change(stage, self.stage.id, fail),)

    def stopped(self, reason: str) -> Sequence[Change]:
        stop = StopStage(self.stage.run.id, reason, self._yields())
        return (Change(stage, self.stage.id, stop),)

    def _yields(self) -> Yields:
        """Return what there is to take now; it does not matter who has written it."""
        bound = self.stage.run.settings.experiment_id
        state = None if bound is None else self.streams.state(experiment, bound)
        if bound is None or state is None or state.deleted:
            return Yields()
        found = Experiments(self.session).checkpoints(bound)
        return Yields(
            _product(bound, found, CheckpointType.BEST),
            _product(bound, found, CheckpointType.FINAL),
        )

    def _agent(self, left: Yields) -> agent.FreezeCheckpoint | None:
        """Return what makes an agent of the checkpoint that the settings name."""
        run = self.stage.run
        if run.settings.auto_add is AutoAdd.NO or left.final is None:
            return None
        kind, product = CheckpointType.FINAL, left.final
        if run.settings.auto_add is AutoAdd.BEST and left.best is not None:
            kind, product = CheckpointType.BEST, left.best
        chosen = agent.Frozen(kind, product.step, product.digest, product.scores)
        return saved_model(
            self.streams,
            agent_added_by(run.id),
            run.settings.agent_name,
            product.experiment_id,
            chosen,
        )

    def _next(self, after: Stage) -> Sequence[Change]:
        """Return what triggers the next stage, if it is an Auto one and can be.

        One that is at work already, because somebody retried it, stays as it is.  Who
        has stopped a stage has stopped what would come of it, though the work was
        faster.
        """
        if self.stage.status is Status.STOPPING and not self.stage.run.timed_out:
            return ()
        state = self.streams.state(pipeline, self.stage.pipeline_id)
        planned = None if state is None else state.next(self.stage.id)
        if state is None or planned is None:
            return ()
        if planned.settings.trigger is not Trigger.AUTO:
            return ()
        for decided_by in filter(None, (planned, state.source(planned.id))):
            self._guard(decided_by)
        row = self.session.find(pipeline.KIND, state.id)
        return triggered(self.session, Bound(row, planned), Cause.AUTO, just=after)

    def _guard(self, planned: Planned) -> None:
        """Have the append refused if something about the stage changes meanwhile."""
        self.streams.events(planned.id)
        if planned.settings.experiment_id is not None:
            self.streams.events(planned.settings.experiment_id)


def _product(
    experiment_id: ExperimentId,
    found: Sequence[CheckpointView],
    which: CheckpointType,
) -> Product | None:
    try:
        chosen = choose(CheckpointChoice(which), found)
    except Rejected:  # nothing is there, or nothing of it is scored
        return None
    return Product(experiment_id, chosen.step, chosen.digest, chosen.scores)
