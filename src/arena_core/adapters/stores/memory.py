"""The event log in memory, on the eventsourcing library's recorder of that kind."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import Condition, RLock
from typing import Any, cast
from uuid import UUID

from attrs import define, field
from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from arena_core.adapters import frames
from arena_core.adapters.appending import Append, utc_now
from arena_core.application.ports import Clock, Context, Fault, Recorded, Write
from arena_core.domain.errors import Unavailable


@define
class _Log:
    """The recorder, and where in it each stream's events are.

    The recorder itself would accept a hole: only `Append` writes to it.
    """

    recorder: POPOApplicationRecorder = field(factory=POPOApplicationRecorder)
    positions: defaultdict[UUID, list[int]] = field(factory=lambda: defaultdict(list))

    def head(self) -> int:
        return self.recorder.max_notification_id() or 0

    def row(self, stream: UUID, version: int | None = None) -> frames.Row | None:
        known = self.positions.get(stream, ())
        version = len(known) if version is None else version
        if not 0 < version <= len(known):
            return None
        return self.page(known[version - 1] - 1, 1)[0]

    def newest(self) -> frames.Row | None:
        head = self.head()
        return self.page(head - 1, 1)[0] if head else None

    def insert(self, events: Sequence[StoredEvent]) -> int:
        positions = self.recorder.insert_events(events) or ()
        for event, position in zip(events, positions, strict=True):
            self.positions[_uuid(event.originator_id)].append(position)
        return self.head()

    def page(
        self, after: int, limit: int, up_to: int | None = None
    ) -> Sequence[frames.Row]:
        notifications = self.recorder.select_notifications(
            after, limit, stop=up_to, inclusive_of_start=False
        )
        return [
            frames.Row(
                n.id, _uuid(n.originator_id), n.originator_version, n.topic, n.state
            )
            for n in notifications
        ]

    def stream(self, stream: UUID, up_to: int | None) -> Sequence[frames.Row]:
        positions = self.positions.get(stream, [])
        if up_to is not None:
            positions = positions[: bisect_right(positions, up_to)]
        stored = self.recorder.select_events(stream, lte=len(positions))
        return [
            frames.Row(position, stream, e.originator_version, e.topic, e.state)
            for position, e in zip(positions, stored, strict=True)
        ]


def _uuid(originator_id: UUID | str) -> UUID:
    return cast("UUID", originator_id)


class MemoryEventStore:
    """Keeps the log for as long as the process lives."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._changed = Condition(RLock())
        self._log = _Log()
        self._closed = False

    def append(
        self, writes: Sequence[Write], *, context: Context, occurred_at: datetime
    ) -> int:
        append = Append.of(writes, context, occurred_at)
        with self._lent() as log:
            if append.is_empty:
                return log.head()
            position = append.to(log, self._clock())
            self._changed.notify_all()
            return position

    def read(self, stream: UUID, *, up_to: int | None = None) -> Sequence[Recorded]:
        with self._lent() as log:
            rows = log.stream(stream, up_to)
        return [frames.recorded(row) for row in rows]

    def read_all(
        self, *, after: int = 0, limit: int = 500, up_to: int | None = None
    ) -> Sequence[Recorded]:
        if limit < 1:
            return []
        with self._lent() as log:
            rows = log.page(after, limit, up_to)
        return frames.page(rows)

    def head(self, *, beyond: int = -1, timeout_s: float = 0.0) -> int:
        with self._lent() as log:
            self._changed.wait_for(
                lambda: self._closed or log.head() > beyond, timeout_s
            )
        with self._lent() as log:
            return log.head()

    def faults(self) -> Iterator[Fault]:
        with self._lent() as log:
            head = log.head()
        return frames.faults(self._raw(head), last=head)

    def _raw(self, head: int) -> Iterator[Sequence[Any]]:
        for after in range(head):
            with self._lent() as log:
                row = log.page(after, 1)[0]
            yield (row.position, row.stream.hex, *row[2:])

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def _lent(self) -> Iterator[_Log]:
        with self._changed:
            if self._closed:
                raise Unavailable("The event log is closed: open it again.")
            yield self._log
