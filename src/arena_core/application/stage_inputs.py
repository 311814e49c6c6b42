"""What a stage would begin with now, by the present state of all that is before it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from attrs import field, frozen

from arena_core.application.deeds import Deed
from arena_core.application.ports import Row, RowReader
from arena_core.application.session import Session
from arena_core.domain import stage
from arena_core.domain.agent import Agent
from arena_core.domain.errors import Conflict
from arena_core.domain.experiment import Experiment
from arena_core.domain.ids import AgentId, Digest, ExperimentId, StageId
from arena_core.domain.lineage import beginning, is_beginning, is_there, trains
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage import Stage
from arena_core.domain.stage_order import Planned, check_link, check_start
from arena_core.domain.stage_run import AT_WORK, Consumed, Product, Run, Yields
from arena_core.domain.stage_settings import (
    Settings,
    StageType,
    Trains,
)


@frozen
class Sight:
    """The read model, each row read once; `just` counts instead of that stage's row."""

    rows: RowReader
    just: Stage | None = None
    _read: dict[UUID, Row | None] = field(factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, session: Session, state: Pipeline) -> "Sight":
        """Look at a pipeline, whose stages are read all at once."""
        sight = cls(session.rows)
        rows = {row.id: row for row in session.query(stage.KIND, parent=state.id)}
        sight._read.update({s.id: rows.get(s.id) for s in state.stages})
        return sight

    def stage(self, stage_id: StageId) -> Stage | None:
        """Return the executions of a stage; None: it has never been triggered."""
        if self.just is not None and self.just.id == stage_id:
            return self.just
        found: Stage | None = self._state(stage_id)
        return found

    def deeds(self, row_id: UUID) -> Sequence[Deed]:
        """Return who has done what to the latest run, or training, of this id."""
        self._state(row_id)
        row = self._read[row_id]
        return () if row is None else row.deeds

    def experiment(self, experiment_id: ExperimentId) -> Experiment | None:
        """Return the experiment, unless it was deleted."""
        found: Experiment | None = self._state(experiment_id)
        return found

    def agent(self, agent_id: AgentId) -> Agent | None:
        """Return the agent, unless it was deleted."""
        found: Agent | None = self._state(agent_id)
        return found

    def _state(self, row_id: UUID) -> Any:  # noqa: ANN401 -- what is told by the id
        if row_id not in self._read:
            self._read[row_id] = self.rows.get(row_id)
        row = self._read[row_id]
        return None if row is None or row.deleted else row.state

    def yields(self, stage_id: StageId) -> Yields:
        state = self.stage(stage_id)
        return Yields() if state is None else state.yields


@frozen
class Input:
    """What a stage would take, and what it would make of it."""

    consumed: Consumed | None
    before: Trains | None
    """What has trained that."""
    own: Trains | None
    """What the stage trains; None: nothing, it is a Deployment."""
    settings: Settings

    @property
    def digest(self) -> Digest | None:
        return None if self.consumed is None else self.consumed.product.digest

    @property
    def fingerprint(self) -> Digest:
        return beginning(self.settings, self.digest)

    def is_that_of(self, run: Run) -> bool:
        """Say whether the run has begun with just that."""
        return is_beginning(run.fingerprint, self.settings, self.digest)


def input_of(sight: Sight, state: Pipeline, planned: Planned) -> Input:
    """Return what the stage would begin with now, whether that can be or not."""
    settings = planned.settings
    consumed = _offered(sight, state, planned)
    before = _before(sight, settings, consumed)
    return Input(consumed, before, _own(sight, settings), settings)


def check_input(sight: Sight, state: Pipeline, planned: Planned, found: Input) -> None:
    """Raise `Conflict` or `Rejected` unless the stage can be run with what it found.

    What is refused says what to do: which stage to run first, for one.
    """
    source, start = state.source(planned.id), planned.settings.start
    if source is not None and found.consumed is None:
        raise Conflict(_missing(sight, state, planned, source))
    if source is None and start is not None and found.consumed is None:
        raise Conflict(
            "The saved agent that the stage begins with was deleted: restore it, or "
            "choose another start."
        )
    if found.own is None:
        return
    if source is None or found.before is None:
        check_start(start, found.own)
    else:
        check_link(found.before, found.own)


def _offered(sight: Sight, state: Pipeline, planned: Planned) -> Consumed | None:
    source = state.source(planned.id)
    if source is None:
        return _of_agent(sight, planned.settings)
    before = sight.stage(source.id)
    if before is None:
        return None
    product = before.yields.under(planned.settings.checkpoint)
    if product is None or not _is_there(sight, product):
        return None
    return Consumed(product, source.id, before.yielded_by)


def _is_there(sight: Sight, product: Product) -> bool:
    return is_there(product, sight.experiment(product.experiment_id))


def _of_agent(sight: Sight, settings: Settings) -> Consumed | None:
    if settings.start is None:
        return None
    known = sight.agent(settings.start.agent_id)
    if known is None:
        return None
    its = known.checkpoint
    product = Product(known.origin.experiment_id, its.step, its.digest, its.scores)
    return Consumed(product, agent_id=known.id)


def _before(
    sight: Sight, settings: Settings, consumed: Consumed | None
) -> Trains | None:
    if consumed is None:
        return None
    if consumed.agent_id is not None and settings.start is not None:
        return settings.start.trains
    state = sight.experiment(consumed.product.experiment_id)
    return None if state is None else trains(state)


def _own(sight: Sight, settings: Settings) -> Trains | None:
    """Return what the stage trains now: it may have been configured since bound."""
    if settings.type is StageType.DEPLOYMENT or settings.experiment_id is None:
        return None
    state = sight.experiment(settings.experiment_id)
    return settings.trains if state is None else trains(state)


def _missing(sight: Sight, state: Pipeline, planned: Planned, source: Planned) -> str:
    """Say why there is nothing to take, and what to do about it."""
    position = state.position(source.id)
    before = sight.stage(source.id)
    if before is not None and before.status in AT_WORK:
        return f"Stage {position} is {before.status.value}: wait until it has ended."
    left = sight.yields(source.id)
    if left.final is None:
        return f"Stage {position} has left no checkpoint to take: run it first."
    if left.under(planned.settings.checkpoint) is None:
        return (
            f"No checkpoint of stage {position} has an evaluation score, so none is "
            "the best: let this stage take the final one, or measure fitness and run "
            f"stage {position} again."
        )
    return f"What stage {position} has left was deleted: run it again."
