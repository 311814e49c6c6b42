"""Why a stage is stale: what it took, what it would take now, and which events did it.

Whether it is stale costs a comparison; the events are looked for only if it is.
"""

from collections.abc import Callable, Sequence

from attrs import frozen

from arena_core.application.pipeline_views import StaleCause, Why
from arena_core.application.session import Session
from arena_core.application.stage_inputs import Input, Sight, input_of
from arena_core.application.unseen import Unseen, taken_at
from arena_core.domain.ids import Digest, StageId
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_run import AT_WORK, Consumed, Run
from arena_core.domain.stage_settings import Settings


def stale_causes(
    session: Session, sight: Sight, state: Pipeline, planned: Planned
) -> list[StaleCause]:
    """Return what makes the stage stale; nothing if it is not, or has never run."""
    executions = sight.stage(planned.id)
    if executions is None:
        return []
    found = input_of(sight, state, planned)
    if found.is_that_of(executions.run):
        return []
    unseen = Unseen(session, taken_at(session, planned.id))
    return _Stale(sight, unseen, state, planned, executions.run, found).causes()


@frozen
class _Stale:
    sight: Sight
    unseen: Unseen
    state: Pipeline
    planned: Planned
    run: Run
    found: Input

    def causes(self) -> list[StaleCause]:
        """Return the binding, if that has changed, and the input, if it is another."""
        causes = []
        if _work(self.run.settings) != _work(self.planned.settings):
            causes.append(self._binding())
        if not causes or _digest(self.run.consumed) != _digest(self.found.consumed):
            causes.append(self._input())
        return causes

    def _binding(self) -> StaleCause:
        return self._cause(
            Why.BINDING,
            "It was run with another experiment than the one that is bound to it now.",
            self._edits(_work),
        )

    def _input(self) -> StaleCause:
        source = self.state.source(self.planned.id)
        if _id(source) != self._source_then():
            return self._cause(
                Why.SOURCE,
                "It would take its checkpoint from elsewhere now: the order of the "
                "stages has changed.",
                self._moves(),
                _id(source),
            )
        return self._start() if source is None else self._product(source)

    def _start(self) -> StaleCause:
        start = self.planned.settings.start
        of_agent = () if start is None else self.unseen.of_agent(start.agent_id)
        return self._cause(
            Why.START,
            "It would begin with something else now.",
            [*self._edits(lambda settings: settings.start), *of_agent],
        )

    def _product(self, source: Planned) -> StaleCause:
        left, position = self.sight.yields(source.id), self.state.position(source.id)
        rule, before = self.planned.settings.checkpoint, self.run.settings.checkpoint
        there, was = left.under(rule), left.under(before)
        if there is not None and self.found.consumed is None:
            its = self.sight.stage(source.id)
            trains = its is not None and its.status in AT_WORK
            gone = "makes way for that of its new run" if trains else "was deleted"
            return self._cause(
                Why.DELETED,
                f"The checkpoint that stage {position} has left {gone}.",
                self.unseen.deletions(there),
                source.id,
            )
        taken = _digest(self.run.consumed)
        if rule is not before and was is not None and was.digest == taken:
            return self._cause(
                Why.RULE,
                f"It takes the {rule.value} checkpoint of stage {position} now, and "
                f"has taken the {before.value} one.",
                self._edits(lambda settings: settings.checkpoint),
                source.id,
            )
        by = None if (its := self.sight.stage(source.id)) is None else its.yielded_by
        now = f"no {rule.value} checkpoint" if there is None else "another checkpoint"
        return self._cause(
            Why.PRODUCED,
            f"Stage {position} yields {now} now.",
            () if by is None else self.unseen.run(source.id, by),
            source.id,
        )

    def _cause(
        self,
        why: Why,
        sentence: str,
        positions: Sequence[int],
        stage_id: StageId | None = None,
    ) -> StaleCause:
        return StaleCause(
            why,
            sentence,
            stage_id,
            _digest(self.run.consumed),
            _digest(self.found.consumed),
            sorted(set(positions)),
        )

    def _source_then(self) -> StageId | None:
        """Return the stage whose checkpoint it took, or would have taken."""
        then = self.unseen.pipeline_then(self.state.id)
        return None if then is None else _id(then.source(self.planned.id))

    def _moves(self) -> Sequence[int]:
        return self.unseen.edits(
            self.state.id,
            lambda s: _id(s.source(self.planned.id)) if self._is_in(s) else None,
        )

    def _edits(self, look: Callable[[Settings], object]) -> Sequence[int]:
        return self.unseen.edits(
            self.state.id,
            lambda s: (
                look(s.stage(self.planned.id).settings) if self._is_in(s) else None
            ),
        )

    def _is_in(self, state: Pipeline) -> bool:
        return any(planned.id == self.planned.id for planned in state.stages)


def _work(settings: Settings) -> object:
    return settings.type, settings.experiment_id


def _id(planned: Planned | None) -> StageId | None:
    return None if planned is None else planned.id


def _digest(consumed: Consumed | None) -> Digest | None:
    return None if consumed is None else consumed.product.digest
