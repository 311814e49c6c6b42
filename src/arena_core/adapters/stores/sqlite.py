"""The event log in an SQLite file, for several threads and several processes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Condition, Lock
from uuid import UUID

from attrs import frozen
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteCursor

from arena_core.adapters import frames
from arena_core.adapters.appending import Append, utc_now
from arena_core.adapters.sqlite import BUSY_TIMEOUT_S
from arena_core.adapters.stores.sqlite_recorder import (
    WORDING,
    EventRecorder,
    RawRow,
)
from arena_core.application.ports import Clock, Context, Fault, Recorded, Write
from arena_core.domain.errors import Corrupt, Rejected

POLL_S = 0.01
"""How often one of those who wait for a `head` looks for other processes' events."""
SURE_S = 0.5
"""How often it asks the database itself, though its files look as they did."""
TICK_S = 0.05
"""No file system's times are coarser: a file may change again within the same one."""
SPARE_S = 0.05
"""How long the others wait for that one: it may have turned to something else."""

_PAGE = 200
_NO_BOUND = 2**63 - 1


@frozen
class _Log:
    """The log as an append sees it, within its transaction."""

    recorder: EventRecorder
    cursor: SQLiteCursor

    def row(self, stream: UUID, version: int | None = None) -> frames.Row | None:
        return _row(self.recorder.event(self.cursor, stream, version))

    def newest(self) -> frames.Row | None:
        return _row(self.recorder.newest(self.cursor))

    def insert(self, events: Sequence[StoredEvent]) -> int:
        return self.recorder.insert(self.cursor, events)


class SQLiteEventStore:
    """Keeps the log in one file, in which every append survives a power cut."""

    def __init__(
        self,
        recorder: EventRecorder,
        path: Path,
        *,
        clock: Clock,
        busy_timeout_s: float,
    ) -> None:
        self._recorder = recorder
        self._ahead = Path(f"{path.resolve()}-wal")
        """Every append of any process is written to it first."""
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._writer = Lock()
        self._grown = Condition()
        self._newest = 0
        """The last position that this process has put or seen there."""
        self._looking = Lock()
        """Held by the one thread that looks what other processes append."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Clock = utc_now,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> "SQLiteEventStore":
        """Open the database at `path`; make it if there is none.

        Raises `Rejected` if its folder is missing, or if a newer release or something
        else has made it, and `Corrupt` if it is no database.
        """
        if not path.absolute().parent.is_dir():
            raise Rejected(
                "The folder of the database does not exist: make it first.",
                field="store",
            )
        recorder = EventRecorder.at(path, busy_timeout_s)
        return cls(recorder, path, clock=clock, busy_timeout_s=busy_timeout_s)

    def append(
        self, writes: Sequence[Write], *, context: Context, occurred_at: datetime
    ) -> int:
        append = Append.of(writes, context, occurred_at)
        if append.is_empty:
            return self.head()
        with self._alone(), self._recorder.writing() as cursor:
            position = append.to(_Log(self._recorder, cursor), self._clock())
        self._seen(position)
        return position

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other thread of this process write.

        SQLite would keep them apart too, but lets them nap instead of waking them.
        """
        if not self._writer.acquire(timeout=self._busy_timeout_s):
            raise WORDING.locked()
        try:
            yield
        finally:
            self._writer.release()

    def read(self, stream: UUID, *, up_to: int | None = None) -> Sequence[Recorded]:
        bound = _NO_BOUND if up_to is None else up_to
        return [
            frames.recorded(_intact(raw))
            for raw in self._recorder.stream(stream, bound)
        ]

    def read_all(
        self, *, after: int = 0, limit: int = 500, up_to: int | None = None
    ) -> Sequence[Recorded]:
        bound = _NO_BOUND if up_to is None else up_to
        return frames.page(map(_intact, self._recorder.page(after, limit, bound)))

    def head(self, *, beyond: int = -1, timeout_s: float = 0.0) -> int:
        deadline = time.monotonic() + timeout_s
        while True:
            mark = _mark(self._ahead)  # before the query, which may miss what follows
            position = self._recorder.head()
            left = deadline - time.monotonic()
            if position > beyond:
                self._seen(position)
            if position > beyond or left <= 0:
                return position
            self._wait(beyond, left, mark)

    def _wait(self, beyond: int, left: float, mark: "_Mark | None") -> None:
        """Wait a little, less if the log is seen to grow beyond a position."""
        if not self._looking.acquire(blocking=False):
            self._has_grown(beyond, min(left, SPARE_S))
            return
        try:
            until = time.monotonic() + min(left, SURE_S)
            while (left := until - time.monotonic()) > 0:
                if self._has_grown(beyond, min(left, POLL_S)):
                    return
                # To look at a file costs a tenth of asking the database.
                if mark is None or _mark(self._ahead) != mark or mark.is_fresh:
                    return
        finally:
            self._looking.release()

    def _has_grown(self, beyond: int, timeout_s: float) -> bool:
        """Say whether this process has seen it grow; wait for that for a while."""
        with self._grown:
            return self._grown.wait_for(lambda: self._newest > beyond, timeout_s)

    def _seen(self, position: int) -> None:
        with self._grown:
            if position > self._newest:
                self._newest = position
                self._grown.notify_all()

    def faults(self) -> Iterator[Fault]:
        last = self._recorder.last_given_out()
        return frames.faults(self._raw(last), last=last)

    def _raw(self, last: int) -> Iterator[RawRow]:
        after, limit = 0, _PAGE
        while after < last:
            try:
                rows = self._recorder.page(after, limit, last)
            except Corrupt:
                if limit == 1:
                    raise
                limit = 1  # so that the rows before the bad one are still seen
                continue
            if not rows:
                return
            yield from rows
            after = rows[-1][0]

    def close(self) -> None:
        with self._alone():
            self._recorder.close()


@frozen
class _Mark:
    """What is different of a file after something was written to it.

    But for what is written within the same tick of its clock.
    """

    number: int
    size_bytes: int
    changed_ns: int

    @property
    def is_fresh(self) -> bool:
        return time.time_ns() - self.changed_ns < TICK_S * 1e9


def _mark(path: Path) -> _Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Mark(found.st_ino, found.st_size, found.st_mtime_ns)


def _row(raw: RawRow | None) -> frames.Row | None:
    return None if raw is None else _intact(raw)


def _intact(raw: RawRow) -> frames.Row:
    position, stream, version, topic, state = raw
    try:
        row = frames.Row(position, UUID(stream), version, topic, state)
    except (TypeError, ValueError, AttributeError) as error:
        raise frames.corrupt(position) from error
    if not isinstance(version, int):
        raise frames.corrupt(position)
    return row
