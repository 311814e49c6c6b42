"""The rows as they were at a position of the log, without reading all of it.

What has not changed since is as it was; of what has, the stream is folded up to there.
So a look at the past costs what has changed since, not all that has ever happened.
"""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from attrs import define, evolve, field

from arena_core.application.ports import Query, Row, RowReader
from arena_core.application.snapshots import creation, matches


@define(eq=False)
class Past:
    """A `RowReader` of one position.  Safe to use from several threads."""

    position: int
    _present: RowReader
    """Has reached the position, and may go on from there meanwhile."""
    _fold: Callable[[UUID, int], Row | None]
    """Returns the row of a stream as the log has it up to a position."""
    _folded: dict[UUID, Row | None] = field(factory=dict, init=False)

    def get(self, row_id: UUID) -> Row | None:
        row = self._present.get(row_id)
        return None if row is None else self._as_it_was(row)

    def find(self, query: Query) -> Sequence[Row]:
        rows = (self._as_it_was(row) for row in self._candidates(query))
        found = [row for row in rows if row is not None and matches(query, row)]
        found.sort(key=creation)
        return found[: query.limit]

    def _candidates(self, query: Query) -> Iterable[Row]:
        """Return the rows of which some were what is asked for.

        What changes in between might be missed by both queries: then they are made
        anew.
        """
        changed = self._changed(query)
        while True:
            # What was created later comes last, so it takes nothing of the limit.
            limit = None if query.limit is None else query.limit + len(changed)
            alike = self._present.find(evolve(query, limit=limit))
            before, changed = changed, self._changed(query)
            if changed.keys() == before.keys():
                return {**changed, **{row.id: row for row in alike}}.values()

    def _changed(self, query: Query) -> dict[UUID, Row]:
        """Return what was there already and is otherwise now, whatever it is called."""
        since = Query(
            query.kind,
            query.organisation,
            after=query.after,
            deleted=True,
            changed_since=self.position,
        )
        return {row.id: row for row in self._present.find(since)}

    def _as_it_was(self, row: Row) -> Row | None:
        if row.created_position > self.position:
            return None
        if row.position <= self.position:
            return row
        if row.id not in self._folded:
            self._folded[row.id] = self._fold(row.id, self.position)
        return self._folded[row.id]
