"""Rows in memory: gone with the process, which suits tests and `memory:` stores."""

import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.ports import Batch, Query, Row, RowReader
from arena_core.application.snapshots import Snapshot


@frozen
class _State:
    rows: Snapshot
    position: int


class MemoryRowStore:
    """Copy on write: an update makes a new snapshot, one assignment shows it.

    So readers take no lock, never wait for a step and never see half of a batch.
    The copy is of references only, of 10,000 rows in a fraction of a millisecond.
    """

    def __init__(self) -> None:
        self._state = _State(Snapshot(), 0)
        self._writing = threading.Lock()

    def get(self, row_id: UUID) -> Row | None:
        return self._state.rows.get(row_id)

    def find(self, query: Query) -> Sequence[Row]:
        return self._state.rows.find(query)

    def update(self, step: Callable[[int, RowReader], Batch | None]) -> int:
        """See `RowStore`.  Raises `ValueError` if the batch would lead backwards."""
        with self._writing:
            before = self._state
            batch = step(before.position, before.rows)
            if batch is None:
                return before.position
            if batch.position < before.position:
                raise ValueError(f"{batch.position} is before {before.position}")
            self._state = _State(before.rows.with_rows(batch.rows), batch.position)
            return batch.position

    def replace(self, batch: Batch) -> None:
        with self._writing:
            self._state = _State(Snapshot(batch.rows), batch.position)

    def close(self) -> None:
        pass
