"""Which trainings have been asked for and have not ended, kept up with the log."""

from collections.abc import Iterable
from uuid import UUID

from arena_core.application.history import pages
from arena_core.application.ports import Query, Row
from arena_core.application.session import Core
from arena_core.domain import experiment
from arena_core.domain.experiment import AT_WORK
from arena_core.domain.ids import RunId, training_of

_UNKNOWN = -1


class OpenTrainings:
    """Not safe to use from several threads.

    All experiments are looked at once; afterwards the log tells which have changed.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._position = _UNKNOWN
        self.rows: dict[UUID, Row] = {}
        """Of the experiments at work."""
        self.over: list[experiment.Experiment] = []
        """Those whose trainings may have left what nobody needs."""
        self.unwanted: set[RunId] = set()
        """Trainings of experiments that were deleted."""

    def follow(self) -> bool:
        """Come up with the log, and say whether that could be done.

        What cannot be read must not be acted upon.
        """
        self._core.views.catch_up()
        if self._core.views.halted is not None:
            return False
        head = self._core.views.position
        if self._position == _UNKNOWN:
            self._begin()
        for row in self._changed(head):
            self._note(row)
        self._position = head
        return True

    def _begin(self) -> None:
        every = Query(experiment.KIND, organisation=None, deleted=True)
        for row in self._core.views.rows.find(every):
            self._note(row)
            over = row.state.status not in AT_WORK and row.state.run_id is not None
            if over and not row.deleted:
                self.over.append(row.state)

    def _changed(self, head: int) -> Iterable[Row]:
        if self._position == _UNKNOWN or head <= self._position:
            return ()
        rows = self._core.views.rows
        events = pages(self._core.store, after=self._position, up_to=head)
        of = f"{experiment.KIND}."
        streams = dict.fromkeys(r.stream for r in events if r.name.startswith(of))
        return [row for row in map(rows.get, streams) if row is not None]

    def _note(self, row: Row) -> None:
        state: experiment.Experiment = row.state
        if state.status in AT_WORK and not row.deleted:
            self.rows[row.id] = row
            return
        self.rows.pop(row.id, None)
        if row.deleted and state.training is not None:
            every = range(1, state.training.number + 1)
            self.unwanted.update(training_of(state.id, number) for number in every)
