"""What appending means, for every store: who may, what is sealed, what is a repeat.

A store lends its log, inside a transaction of its own, and this module does the rest;
so no two stores can differ in it.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from attrs import frozen
from eventsourcing.persistence import StoredEvent

from arena_core.adapters import codec, frames
from arena_core.application.ports import Context, Write
from arena_core.domain.errors import ConcurrentWrite, Rejected, TooLarge

LARGEST_EVENT = 256_000
"""Bytes: what one event may have, in its body and in the context that it repeats."""

LARGEST_APPEND = 2_000_000
"""Bytes: what the events of one append may have together."""


def utc_now() -> datetime:
    """Return the present time: the clock of stores that are given none."""
    return datetime.now(UTC)


class Log(Protocol):
    """A log that nobody else can write to while it is lent."""

    def row(self, stream: UUID, version: int | None = None) -> frames.Row | None:
        """Return the stream's event at `version`, or its last one."""
        ...

    def newest(self) -> frames.Row | None:
        """Return the event with the greatest position."""
        ...

    def insert(self, events: Sequence[StoredEvent]) -> int:
        """Put `events` at the end; return the last one's position."""
        ...


@frozen
class Append:
    """An append whose events are encoded and within the limits."""

    _writes: Sequence[Write]
    _slots: Sequence[frames.Slot]
    _context: Context
    _occurred_at: datetime

    @classmethod
    def of(
        cls, writes: Sequence[Write], context: Context, occurred_at: datetime
    ) -> "Append":
        """Encode the events of `writes`.

        Raises `Rejected` if one cannot be stored, `TooLarge` if it is over a limit.
        """
        if occurred_at.tzinfo is None:
            raise Rejected("The time has no zone: give it in UTC.", field="occurred_at")
        said = len(codec.to_json(context))
        slots = [slot for write in writes for slot in _slots(write, said)]
        if sum(len(slot.body) + said for slot in slots) > LARGEST_APPEND:
            raise TooLarge(
                f"The events of one append have more than {LARGEST_APPEND} bytes "
                "together: append them in several steps."
            )
        return cls(writes, slots, context, occurred_at)

    @property
    def is_empty(self) -> bool:
        return not self._slots

    def to(self, log: Log, now: datetime) -> int:
        """Put the events on `log`; return the position of the last of them.

        If that has been done before, nothing is put there.  Raises
        `ConcurrentWrite` unless every stream is at its expected version.
        """
        tails = {write.stream: log.row(write.stream) for write in self._writes}
        if self._fits({s: row.version if row else 0 for s, row in tails.items()}):
            newest = log.newest()
            return log.insert(self._sealed(tails, _not_before(newest, now)))
        return self._earlier(log)

    def _fits(self, versions: dict[UUID, int]) -> bool:
        for write in self._writes:
            if versions[write.stream] != write.expected:
                return False
            versions[write.stream] += len(write.events)
        return True

    def _sealed(
        self, tails: dict[UUID, frames.Row | None], recorded_at: datetime
    ) -> list[StoredEvent]:
        hashes = {
            stream: frames.hash_of(row) if row else frames.GENESIS
            for stream, row in tails.items()
        }
        sealed = []
        for slot in self._slots:
            metadata = self._metadata(slot, recorded_at)
            state, hashes[slot.stream] = frames.seal(
                hashes[slot.stream], slot, metadata
            )
            sealed.append(StoredEvent(slot.stream, slot.version, slot.topic, state))
        return sealed

    def _metadata(self, slot: frames.Slot, recorded_at: datetime) -> frames.Metadata:
        return frames.Metadata(
            event_id=self._event_id(slot),
            occurred_at=self._occurred_at,
            recorded_at=recorded_at,
            organisation=self._context.organisation,
            actor=self._context.actor,
            command_id=self._context.command_id,
            correlation_id=self._context.correlation_id,
            code=frames.CODE,
            causation_id=self._context.causation_id,
            reason=self._context.reason,
            traceparent=self._context.traceparent,
        )

    def _event_id(self, slot: frames.Slot) -> UUID:
        return frames.event_id(slot.stream, slot.version, self._context.command_id)

    def _earlier(self, log: Log) -> int:
        """Return the position at which all of this has been put before."""
        position = 0
        for slot in self._slots:
            row = log.row(slot.stream, slot.version)
            if row is None or not self._is(slot, row):
                raise ConcurrentWrite(
                    "Somebody else has changed it in the meantime: read it again."
                )
            position = max(position, row.position)
        return position

    def _is(self, slot: frames.Slot, row: frames.Row) -> bool:
        known = frames.metadata_of(row).event_id
        return row.topic == slot.topic and known == self._event_id(slot)


def _slots(write: Write, context_bytes: int) -> Iterator[frames.Slot]:
    for version, event in enumerate(write.events, start=write.expected + 1):
        name, name_version, body = codec.encode(event)
        size = len(body) + context_bytes
        if size > LARGEST_EVENT:
            raise TooLarge(
                f"The event {name} has {size} bytes with its actor and reason: "
                f"use at most {LARGEST_EVENT}."
            )
        yield frames.Slot(write.stream, version, f"{name}@{name_version}", body)


def _not_before(newest: frames.Row | None, now: datetime) -> datetime:
    """Return `now`, but never a time before that of the newest event."""
    if newest is None:
        return now
    return max(now, frames.metadata_of(newest).recorded_at)
