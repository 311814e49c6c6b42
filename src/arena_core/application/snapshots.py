"""Rows in memory: the read model of one moment, past or present."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from arena_core.application.ports import Query, Row


def matches(query: Query, row: Row) -> bool:
    """Say whether `row` is one that `query` asks for, its limit aside."""
    return (
        row.kind == query.kind
        and row.created_position > query.after
        and (query.deleted or not row.deleted)
        and query.organisation in (None, row.organisation)
        and query.parent in (None, row.parent)
        and query.name in (None, row.name)
        and (query.refers is None or query.refers in row.refers)
        and (
            query.changed_since is None
            or row.created_position <= query.changed_since < row.position
        )
    )


class Snapshot:
    """A `RowReader` over a dict.  Not safe to read while another thread puts."""

    def __init__(self, rows: Iterable[Row] | Mapping[UUID, Row] = ()) -> None:
        self._rows: dict[UUID, Row] = {}
        if isinstance(rows, Mapping):
            self._rows.update(rows)
        else:
            self.put(rows)

    def get(self, row_id: UUID) -> Row | None:
        return self._rows.get(row_id)

    def find(self, query: Query) -> Sequence[Row]:
        found = [row for row in self._rows.values() if matches(query, row)]
        found.sort(key=creation)
        return found[: query.limit]

    def put(self, rows: Iterable[Row]) -> None:
        """Put each of `rows` in the place of the one with its id, if there is one."""
        self._rows.update((row.id, row) for row in rows)

    def with_rows(self, rows: Iterable[Row]) -> "Snapshot":
        """Return a copy that has `rows` as well."""
        copy = Snapshot(self._rows)
        copy.put(rows)
        return copy


def creation(row: Row) -> tuple[int, UUID]:
    """Return what rows are sorted by, wherever they are listed."""
    return row.created_position, row.id
