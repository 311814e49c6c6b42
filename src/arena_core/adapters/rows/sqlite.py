"""Rows in an SQLite file of their own: a cache of the log, thrown away when in doubt.

The state is kept as JSON of the aggregate's class.  A file whose classes had other
fields, or which is malformed, is begun anew at position 0.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from attrs import frozen
from filelock import FileLock, Timeout

from arena_core.adapters.rows.records import fingerprint, from_record, to_record
from arena_core.adapters.sqlite import (
    BUSY_TIMEOUT_S,
    Database,
    Wording,
    is_sound,
)
from arena_core.application.ports import Batch, Query, Row, RowReader
from arena_core.domain.errors import Rejected, Unavailable

WORDING = Wording(
    "read model",
    Unavailable,
    "stop all workers and start them again, which builds it anew from the log; "
    "if that does not help, delete its file first",
)

_SCHEMA = (
    """CREATE TABLE meta (
        fingerprint TEXT NOT NULL,
        position INTEGER NOT NULL
    )""",
    """CREATE TABLE rows (
        id BLOB PRIMARY KEY NOT NULL,
        kind TEXT NOT NULL,
        organisation TEXT NOT NULL,
        parent BLOB,
        name TEXT NOT NULL,
        deleted INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        version INTEGER NOT NULL,
        created_position INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        position INTEGER NOT NULL,
        changed_at TEXT NOT NULL,
        body BLOB NOT NULL,
        refers BLOB NOT NULL,
        deeds BLOB NOT NULL
    )""",
    """CREATE TABLE referring (
        target BLOB NOT NULL,
        id BLOB NOT NULL,
        PRIMARY KEY (target, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX referring_by_row ON referring (id)",
    # Each ends in the order of the answer, so that no query has to sort.
    "CREATE INDEX rows_by_creation ON rows (kind, created_position, id)",
    """CREATE INDEX rows_by_organisation
        ON rows (kind, organisation, created_position, id)""",
    "CREATE INDEX rows_by_parent ON rows (kind, parent, created_position, id)",
    "CREATE INDEX rows_by_name ON rows (kind, name, created_position, id)",
    "CREATE INDEX rows_by_change ON rows (kind, position)",
)
_PUT = "REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GET = "SELECT * FROM rows WHERE id = ?"
_NO_REFERENCES = "DELETE FROM referring WHERE id = ?"
_REFER = "INSERT INTO referring VALUES (?, ?)"


def _finding(index: str, condition: str) -> str:
    # The planner knows nothing of how the rows are spread: it is told the index.
    return (
        f"SELECT * FROM rows INDEXED BY {index}"  # noqa: S608 -- our own constants
        f" WHERE kind = :kind AND {condition} AND created_position > :after"
        " AND (:organisation IS NULL OR organisation = :organisation)"
        " AND (:parent IS NULL OR parent = :parent)"
        " AND (:deleted OR NOT deleted)"
        " AND (:since IS NULL OR (created_position <= :since AND position > :since))"
        " ORDER BY created_position, id LIMIT :limit"
    )


_FIND_NAME = _finding("rows_by_name", "name = :name")
_FIND_PARENT = _finding("rows_by_parent", "parent = :parent")
_FIND_ORGANISATION = _finding("rows_by_organisation", "organisation = :organisation")
_FIND_KIND = _finding("rows_by_creation", "TRUE")
_FIND_CHANGED = _finding("rows_by_change", "position > :since")
# A cross join, in SQLite, is done in the order in which it is written.
_FIND_REFERRING = _FIND_KIND.replace(
    "SELECT * FROM rows INDEXED BY rows_by_creation WHERE",
    "SELECT rows.* FROM referring CROSS JOIN rows ON rows.id = referring.id"
    " WHERE target = :refers AND (:name IS NULL OR name = :name) AND",
).replace("created_position, id", "created_position, rows.id")


@frozen
class _Rows:
    """A `RowReader` on one connection."""

    _connection: sqlite3.Connection

    def get(self, row_id: UUID) -> Row | None:
        with WORDING.translated():
            record = self._connection.execute(_GET, (row_id.bytes,)).fetchone()
        return None if record is None else _understood(record)

    def find(self, query: Query) -> Sequence[Row]:
        with WORDING.translated():
            found = self._connection.execute(_statement(query), _parameters(query))
            records = found.fetchall()
        return [_understood(record) for record in records]


def _understood(record: tuple[Any, ...]) -> Row:
    try:
        return from_record(record)
    except ValueError as error:
        raise WORDING.damaged() from error


class SQLiteRowStore:
    """A `RowStore` that several threads and processes can share.

    Every method raises `Unavailable` once another release has begun the file anew.
    """

    def __init__(self, database: Database, fingerprint: str) -> None:
        """Not for callers: see `open`."""
        self._database = database
        self._fingerprint = fingerprint

    @classmethod
    def open(
        cls, path: Path, *, code: str = "", busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> "SQLiteRowStore":
        """Open the file; it is made if it is missing, and its folder too.

        `code`: the release, since another may evolve other states from one log.
        Raises `Rejected`, and changes nothing, if the file is a sound database
        of something else.
        """
        lock = FileLock(f"{path}.lock", timeout=busy_timeout_s, poll_interval=0.01)
        try:
            with lock:
                if not is_sound(path, WORDING, busy_timeout_s):
                    _discard(path)
                database = Database(
                    path, WORDING, synchronous="NORMAL", busy_timeout_s=busy_timeout_s
                )
                store = cls(database, fingerprint(code, *_SCHEMA))
                store._begin()
        except Timeout as error:
            raise WORDING.locked() from error
        except OSError as error:
            raise WORDING.out_of_reach() from error
        return store

    def get(self, row_id: UUID) -> Row | None:
        with self._reading() as rows:
            return rows.get(row_id)

    def find(self, query: Query) -> Sequence[Row]:
        with self._reading() as rows:
            return rows.find(query)

    def update(self, step: Callable[[int, RowReader], Batch | None]) -> int:
        """See `RowStore`.  Raises `ValueError` if the batch would lead backwards."""
        with self._database.transaction() as connection:
            before = self._position(connection)
            batch = step(before, _Rows(connection))
            if batch is None:
                return before
            if batch.position < before:
                raise ValueError(f"{batch.position} is before {before}")
            with WORDING.translated():
                _put(connection, batch)
            return batch.position

    def replace(self, batch: Batch) -> None:
        with self._database.transaction() as connection:
            self._position(connection)
            with WORDING.translated():
                connection.execute("DELETE FROM rows")
                connection.execute("DELETE FROM referring")
                _put(connection, batch)

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _reading(self) -> Iterator[_Rows]:
        with self._database.reading() as connection:
            self._position(connection)
            yield _Rows(connection)

    def _position(self, connection: sqlite3.Connection) -> int:
        with WORDING.translated():
            meta = connection.execute("SELECT fingerprint, position FROM meta")
            found, position = meta.fetchone()
        if found != self._fingerprint:
            raise Unavailable(
                "Another release has taken the read model over: restart this one."
            )
        return int(position)

    def _begin(self) -> None:
        try:
            with self._database.transaction() as connection, WORDING.translated():
                if _kept_fingerprint(connection) != self._fingerprint:
                    _begin_anew(connection, self._fingerprint)
        except BaseException:
            self._database.close()
            raise


def _discard(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _kept_fingerprint(connection: sqlite3.Connection) -> str | None:
    tables = {
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        )
    }
    if tables - {"meta", "rows", "referring"}:
        raise Rejected(
            "The file named for the read model holds something else: name another.",
            field="store",
        )
    if "meta" not in tables:
        return None
    kept = connection.execute("SELECT * FROM meta").fetchone()
    return None if kept is None else str(kept[0])


def _begin_anew(connection: sqlite3.Connection, fingerprint: str) -> None:
    # In place and not by a new file: another process may have this one open.
    for statement in (
        "DROP TABLE IF EXISTS rows",
        "DROP TABLE IF EXISTS referring",
        "DROP TABLE IF EXISTS meta",
        *_SCHEMA,
    ):
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES (?, 0)", (fingerprint,))


def _put(connection: sqlite3.Connection, batch: Batch) -> None:
    # Of a row that is there twice the last counts.
    rows = {row.id: row for row in batch.rows}.values()
    connection.executemany(_PUT, map(to_record, rows))
    connection.executemany(_NO_REFERENCES, [(row.id.bytes,) for row in rows])
    connection.executemany(
        _REFER, [(each.bytes, row.id.bytes) for row in rows for each in row.refers]
    )
    connection.execute("UPDATE meta SET position = ?", (batch.position,))


def _statement(query: Query) -> str:
    if query.refers is not None:
        return _FIND_REFERRING
    if query.name is not None:
        return _FIND_NAME
    if query.parent is not None:
        return _FIND_PARENT
    if query.changed_since is not None:
        return _FIND_CHANGED
    return _FIND_KIND if query.organisation is None else _FIND_ORGANISATION


def _parameters(query: Query) -> dict[str, Any]:
    return {
        "kind": query.kind,
        "organisation": query.organisation,
        "parent": None if query.parent is None else query.parent.bytes,
        "name": query.name,
        "refers": None if query.refers is None else query.refers.bytes,
        "after": query.after,
        "since": query.changed_since,
        "deleted": query.deleted,
        "limit": -1 if query.limit is None else query.limit,
    }
