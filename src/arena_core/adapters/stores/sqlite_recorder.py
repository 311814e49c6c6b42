"""The eventsourcing library's recorder for SQLite, made to keep our promises.

The database itself refuses to change, to remove and to leave out events, whoever
asks.  Errors leave this module as ours.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from eventsourcing.persistence import (
    ConnectionPoolClosedError,
    ConnectionUnavailableError,
    StoredEvent,
)
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
)

from arena_core.adapters.sqlite import Wording
from arena_core.domain.errors import ConcurrentWrite, Corrupt, Rejected, Unavailable

SCHEMA = 1
WORDING = Wording(
    "event log", Corrupt, "check the path of the store, or restore it from a back-up"
)

RawRow: TypeAlias = Sequence[Any]
"""Position, stream id in hex, version, topic and state; anything, if tampered with."""

# Waiting threads hold a connection each, if only for the length of a query.
_CONNECTIONS = 16
_MORE_CONNECTIONS = 48

# A replacing INSERT removes rows without firing the DELETE trigger: hence the look at
# the rowid, which before an INSERT is -1 unless it was named.
_DDL = (
    """CREATE TABLE IF NOT EXISTS arena_events (
        rowid INTEGER PRIMARY KEY AUTOINCREMENT,
        originator_id TEXT NOT NULL,
        originator_version INTEGER NOT NULL,
        topic TEXT NOT NULL,
        state BLOB NOT NULL,
        UNIQUE (originator_id, originator_version))""",
    """CREATE TRIGGER IF NOT EXISTS arena_events_are_not_changed
        BEFORE UPDATE ON arena_events BEGIN
        SELECT RAISE(ABORT, 'events are never changed'); END""",
    """CREATE TRIGGER IF NOT EXISTS arena_events_are_not_removed
        BEFORE DELETE ON arena_events BEGIN
        SELECT RAISE(ABORT, 'events are never removed'); END""",
    """CREATE TRIGGER IF NOT EXISTS arena_events_leave_no_hole
        BEFORE INSERT ON arena_events BEGIN
        SELECT RAISE(ABORT, 'the version is not the next of its stream')
        WHERE NEW.originator_version IS NOT 1 + (
            SELECT coalesce(max(originator_version), 0) FROM arena_events
            WHERE originator_id = NEW.originator_id);
        SELECT RAISE(ABORT, 'events are never replaced')
        WHERE EXISTS (SELECT 1 FROM arena_events WHERE rowid = NEW.rowid); END""",
    """CREATE TRIGGER IF NOT EXISTS arena_events_come_last
        AFTER INSERT ON arena_events BEGIN
        SELECT RAISE(ABORT, 'the position is not the last')
        WHERE EXISTS (SELECT 1 FROM arena_events WHERE rowid > NEW.rowid); END""",
)
_FOREIGN = "SELECT count(*) > 0 AND sum(name = 'arena_events') = 0 FROM sqlite_master"
_OBJECTS = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'arena_events%'"
_INSERT = (
    "INSERT INTO arena_events (originator_id, originator_version, topic, state) "
    "VALUES (?, ?, ?, ?)"
)
_ROWS = (
    "SELECT rowid, originator_id, originator_version, topic, state FROM arena_events"
)
_NEWEST = f"{_ROWS} ORDER BY rowid DESC LIMIT 1"
_PAGE = f"{_ROWS} WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"
_STREAM = f"{_ROWS} WHERE originator_id = ? AND rowid <= ? ORDER BY originator_version"
_LAST = f"{_ROWS} WHERE originator_id = ? ORDER BY originator_version DESC LIMIT 1"
_EVENT = f"{_ROWS} WHERE originator_id = ? AND originator_version = ?"
_HEAD = "SELECT coalesce(max(rowid), 0) FROM arena_events"
_GIVEN_OUT = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?"


@contextmanager
def translated() -> Iterator[None]:
    """Raise our own errors in the place of SQLite's and the pool's."""
    try:
        with WORDING.translated():
            yield
    except sqlite3.IntegrityError as error:
        raise ConcurrentWrite("The event log has refused it: read it again.") from error
    except ConnectionUnavailableError as error:
        raise WORDING.locked() from error
    except (sqlite3.ProgrammingError, ConnectionPoolClosedError) as error:
        raise Unavailable("The event log is closed: open it again.") from error


class _Connection(SQLiteConnection):
    @contextmanager
    def transaction(self, *, commit: bool) -> Iterator[SQLiteCursor]:
        """Take the write lock at once if `commit`; raise what sqlite3 raises."""
        cursor = self.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE" if commit else "BEGIN")
            yield cursor
            if commit:
                self.commit()
        finally:
            self.rollback()


class _Pool(SQLiteConnectionPool):
    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._busy_timeout_s = busy_timeout_s
        super().__init__(
            db_name=str(path),
            pool_size=_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            pool_timeout=busy_timeout_s,
        )

    def _create_connection(self) -> SQLiteConnection:
        if self.closed:
            # Whoever has waited meanwhile: nobody would close the connection again.
            raise ConnectionPoolClosedError
        connection = sqlite3.connect(
            self.db_name,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        # Bytes that somebody has put there must not keep the rest from being read.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return _Connection(connection, self.max_age)


class _Datastore(SQLiteDatastore):
    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        super().__init__(str(path))
        self.pool = _Pool(path, busy_timeout_s)

    @contextmanager
    def get_connection(self, *, commit: bool) -> Iterator[SQLiteConnection]:
        """Lend a connection.  Only one caller at a time may mean to `commit`.

        The pool's own lock for writers is left alone: a writer that waits for it
        holds up all readers, and it is never released if connecting fails.
        """
        del commit
        connection = self.pool.get_connection()
        try:
            yield connection
        finally:
            self.pool.put_connection(connection)


class EventRecorder(SQLiteApplicationRecorder):
    """The rows of the log.  Every method raises our own errors."""

    def __init__(self, datastore: SQLiteDatastore) -> None:
        super().__init__(datastore, "arena_events")
        self.insert_events_statement = _INSERT

    @classmethod
    def at(cls, path: Path, busy_timeout_s: float) -> "EventRecorder":
        """Open the file; several processes may make it at once."""
        recorder = cls(_Datastore(path, busy_timeout_s))
        try:
            recorder.prepare(busy_timeout_s)
        except BaseException:
            recorder.close()
            raise
        return recorder

    def prepare(self, busy_timeout_s: float) -> None:
        """Make the table and its triggers, unless they are there."""
        with self._reading() as cursor:
            _check_schema(cursor)
            _use_write_ahead_log(cursor, busy_timeout_s)
            complete = _one(cursor, _OBJECTS) >= len(_DDL)
        if not complete:
            with self.writing() as cursor:
                _check_schema(cursor)
                self._create_table(cursor)

    def construct_create_table_statements(self) -> list[str]:
        return [*_DDL, f"PRAGMA user_version = {SCHEMA}"]

    @contextmanager
    def writing(self) -> Iterator[SQLiteCursor]:
        """Lend a transaction that is alone in writing, over all processes."""
        with translated(), self.datastore.transaction(commit=True) as cursor:
            yield cursor

    @contextmanager
    def _reading(self) -> Iterator[SQLiteCursor]:
        with translated(), self.datastore.get_connection(commit=False) as connection:
            yield connection.cursor()

    def insert(self, cursor: SQLiteCursor, events: Sequence[StoredEvent]) -> int:
        """Insert `events`; return the position of the last."""
        return (self._insert_events(cursor, events) or (0,))[-1]

    def event(
        self, cursor: SQLiteCursor, stream: UUID, version: int | None
    ) -> RawRow | None:
        """Return the event at `version` of the stream, or its last one."""
        if version is None:
            return _first(cursor, _LAST, stream.hex)
        return _first(cursor, _EVENT, stream.hex, version)

    def newest(self, cursor: SQLiteCursor) -> RawRow | None:
        return _first(cursor, _NEWEST)

    def stream(self, stream: UUID, up_to: int) -> list[RawRow]:
        with self._reading() as cursor:
            return _all(cursor, _STREAM, stream.hex, up_to)

    def page(self, after: int, limit: int, up_to: int) -> list[RawRow]:
        with self._reading() as cursor:
            return _all(cursor, _PAGE, after, up_to, max(limit, 0))

    def head(self) -> int:
        with self._reading() as cursor:
            return _one(cursor, _HEAD)

    def last_given_out(self) -> int:
        """Return the greatest position ever used, though its row may be gone."""
        with self._reading() as cursor:
            given_out = _one(cursor, _GIVEN_OUT, "arena_events")
            return max(given_out, _one(cursor, _HEAD))

    def close(self) -> None:
        self.datastore.close()


def _all(cursor: SQLiteCursor, statement: str, *values: object) -> list[RawRow]:
    cursor.execute(statement, values)
    rows: list[RawRow] = cursor.fetchall()
    return rows


def _first(cursor: SQLiteCursor, statement: str, *values: object) -> RawRow | None:
    rows = _all(cursor, statement, *values)
    return rows[0] if rows else None


def _one(cursor: SQLiteCursor, statement: str, *values: object) -> int:
    number: int = _all(cursor, statement, *values)[0][0]
    return number


def _check_schema(cursor: SQLiteCursor) -> None:
    if _one(cursor, _FOREIGN):
        raise Rejected(
            "The file is a database of something else: check the path of the store.",
            field="store",
        )
    schema = _one(cursor, "PRAGMA user_version")
    if schema > SCHEMA:
        raise Rejected(
            f"The event log has schema {schema}, and this release knows {SCHEMA}: "
            "upgrade arena-core to open it.",
            field="store",
        )


def _use_write_ahead_log(cursor: SQLiteCursor, busy_timeout_s: float) -> None:
    """Switch to it.  SQLite does not wait by itself for others that do the same."""
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    if cursor.fetchone()[0] != "wal":
        raise Rejected(
            "The event log needs a file system with write-ahead logging: keep it on "
            "a local disk.",
            field="store",
        )
