"""One SQLite file, as the adapters that keep tables of their own use it."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from attrs import frozen

from arena_core.domain.errors import ArenaError, StorageFull, Unavailable

BUSY_TIMEOUT_S = 5.0

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_MALFORMED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OUT_OF_REACH = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
)


def _kind(error: sqlite3.Error) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    # The low byte is the kind of the error, the others are its details.
    return None if code is None else code & 0xFF


@frozen
class Wording:
    """How the errors of one database are told to the user."""

    subject: str
    """What is kept in it, such as `read model`."""
    malformed: type[ArenaError]
    remedy: str
    """What to do once it is malformed."""

    def locked(self) -> Unavailable:
        return Unavailable(
            f"The {self.subject} is locked by another writer: try again."
        )

    def out_of_reach(self) -> Unavailable:
        return Unavailable(
            f"The {self.subject} cannot be read or written: "
            f"check that its folder exists, its permissions and its disk."
        )

    def damaged(self) -> ArenaError:
        return self.malformed(f"The {self.subject} is malformed: {self.remedy}.")

    def ours(self, error: sqlite3.Error) -> ArenaError | None:
        """Return what `error` means; None if it is a mistake in our own SQL."""
        kind = _kind(error)
        if kind in _LOCKED:
            return self.locked()
        if kind in _MALFORMED:
            return self.damaged()
        if kind == sqlite3.SQLITE_FULL:
            return StorageFull(
                f"No space is left for the {self.subject}: free some, try again."
            )
        if kind in _OUT_OF_REACH:
            return self.out_of_reach()
        return None

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise our own errors in the place of SQLite's."""
        try:
            yield
        except sqlite3.Error as error:
            ours = self.ours(error)
            if ours is None:
                raise
            raise ours from error


def is_sound(path: Path, wording: Wording, timeout_s: float) -> bool:
    """Say whether the file is a database without a fault.  A missing one is made."""
    with (
        wording.translated(),
        closing(sqlite3.connect(path, timeout=timeout_s)) as connection,
    ):
        try:
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            if _kind(error) in _MALFORMED:
                return False
            raise
    return bool(answer == ("ok",))


class Database:
    """Connections to one file in WAL mode: readers never wait for the one writer.

    The errors of a caller's own statements are the caller's to translate.
    Safe to use from several threads, and the file from several processes.
    """

    def __init__(
        self,
        path: Path,
        wording: Wording,
        *,
        synchronous: Literal["NORMAL", "FULL"],
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        """Open the file, or make it.  FULL: what is committed outlasts a power cut."""
        self.wording = wording
        self._path = path
        self._synchronous = synchronous
        self._busy_timeout_s = busy_timeout_s
        self._writing = threading.Lock()
        self._pool = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        with wording.translated():
            self._writer = self._connect()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose queries all see the same moment."""
        connection = self._take()
        try:
            with self.wording.translated():
                connection.execute("BEGIN")
            yield connection
        finally:
            self._end(connection)
            self._give_back(connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the writer: what is done with it is committed, or undone on an error.

        Only one transaction runs at a time, over all processes.
        """
        if not self._writing.acquire(timeout=self._busy_timeout_s):
            raise self.wording.locked()
        try:
            self._require_open()
            # An interrupt may come as soon as it has begun: it is undone then, too.
            try:
                with self.wording.translated():
                    self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                with self.wording.translated():
                    self._writer.execute("COMMIT")
            finally:
                self._end(self._writer)
        finally:
            self._writing.release()

    def close(self) -> None:
        """Close all connections, once they are no more in use.  Safe to call twice."""
        with self._writing, self._pool:
            self._closed = True
            self._writer.close()
            while self._idle:
                self._idle.pop().close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _end(self, connection: sqlite3.Connection) -> None:
        # SQLite itself has rolled back after some errors, such as a full disk.
        if connection.in_transaction:
            with self.wording.translated():
                connection.execute("ROLLBACK")

    def _take(self) -> sqlite3.Connection:
        with self._pool:
            self._require_open()
            if self._idle:
                return self._idle.pop()
        with self.wording.translated():
            return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._pool:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable(f"The {self.wording.subject} is closed: open it again.")
