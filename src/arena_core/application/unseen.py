"""The events behind a change that a run has not seen, by their positions in the log."""

from collections.abc import Callable, Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.ports import Recorded
from arena_core.application.session import Session
from arena_core.domain import agent, experiment, pipeline
from arena_core.domain.ids import RunId, StageId
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage_events import (
    StageFailed,
    StageStopped,
    StageSucceeded,
    StageTriggered,
)
from arena_core.domain.stage_run import Cause, Product

WINDOW = 64
"""How far before a trigger the success may lie that is in the same append."""
_ENDS = (StageSucceeded, StageFailed, StageStopped)
_OF_AGENTS = (agent.CheckpointReplaced, agent.AgentDeleted, agent.AgentRestored)


def taken_at(session: Session, stage_id: StageId) -> int:
    """Return the position at which what the latest run is made of was taken.

    A run that went on from its own checkpoint is made of what the one before took.
    """
    triggered = [
        r for r in _events(session, stage_id) if isinstance(r.event, StageTriggered)
    ]
    while triggered[-1].event.cause is Cause.RESUME and len(triggered) > 1:
        triggered.pop()
    return triggered[-1].position


@frozen
class Unseen:
    """What was recorded after the position `since`."""

    session: Session
    since: int

    def pipeline_then(self, pipeline_id: UUID) -> Pipeline | None:
        """Return the pipeline as the run has seen it."""
        state = None
        for r in _events(self.session, pipeline_id):
            if r.position <= self.since:
                state = pipeline.evolve(state, r.event)
        return state

    def edits(
        self, pipeline_id: UUID, look: Callable[[Pipeline], object]
    ) -> Sequence[int]:
        """Return the events of the pipeline after which `look` sees something else."""
        found: list[int] = []
        state: Pipeline | None = None
        seen: object = None
        for r in _events(self.session, pipeline_id):
            state = pipeline.evolve(state, r.event)
            before, seen = seen, look(state)
            if r.position > self.since and seen != before:
                found.append(r.position)
        return found

    def deletions(self, product: Product) -> Sequence[int]:
        """Return the events that have deleted a checkpoint, or its experiment."""
        return [
            r.position
            for r in self._new(product.experiment_id)
            if isinstance(r.event, experiment.ExperimentDeleted)
            or (
                isinstance(r.event, experiment.CheckpointDeleted)
                and r.event.digest == product.digest
            )
        ]

    def of_agent(self, agent_id: UUID) -> Sequence[int]:
        """Return the events that gave the agent another checkpoint, or ended it."""
        return [
            r.position for r in self._new(agent_id) if isinstance(r.event, _OF_AGENTS)
        ]

    def run(self, stage_id: UUID, run_id: RunId) -> Sequence[int]:
        """Return the trigger and the end of a run, and of the runs that led to it.

        An Auto stage is triggered in the append that records the success before it;
        so back to whoever triggered the first of them, or to what was seen.
        """
        triggered = ended = None
        for r in self._new(stage_id):
            if isinstance(r.event, StageTriggered) and r.event.run_id == run_id:
                triggered = r
            if isinstance(r.event, _ENDS) and r.event.run_id == run_id:
                ended = r
        found = [r.position for r in (triggered, ended) if r is not None]
        before = None if triggered is None else self._success_before(triggered)
        if before is not None:
            found = [*self.run(before.stream, before.event.run_id), *found]
        return found

    def _success_before(self, triggered: Recorded) -> Recorded | None:
        """Return the success in whose append an Auto stage was triggered."""
        if triggered.event.cause is not Cause.AUTO:
            return None
        after, up_to = triggered.position - WINDOW, triggered.position
        nearby = self.session.core.store.read_all(
            after=max(after, self.since, 0), limit=WINDOW, up_to=up_to
        )
        return next(
            (
                r
                for r in reversed(nearby)
                if isinstance(r.event, StageSucceeded)
                and r.context.command_id == triggered.context.command_id
            ),
            None,
        )

    def _new(self, stream: UUID) -> Sequence[Recorded]:
        return [r for r in _events(self.session, stream) if r.position > self.since]


def _events(session: Session, stream: UUID) -> Sequence[Recorded]:
    return session.core.store.read(stream, up_to=session.as_of)
