"""The frame in which a body is stored, and the hashes that chain the frames.

A frame is one JSON object, `{"m":metadata,"h":"hash","d":body}`.  Metadata and body
are kept as the very bytes that were hashed: nothing is ever encoded again to check
it.  The hash, in hex, is the SHA-256 of

    TAG, the hash of the stream's previous event (32 bytes; zeros for the first),
    and then, each after its length as 8 bytes, big-endian:
    the stream's id (16 bytes), the version in the stream (8 bytes, big-endian),
    the topic `name@version` in UTF-8, the metadata, the body.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import msgspec

from arena_core.adapters import codec
from arena_core.application.ports import Context, Fault, Recorded
from arena_core.domain.errors import Corrupt
from arena_core.domain.ids import OrganisationId
from arena_core.domain.release import VERSION
from arena_core.domain.values import Actor

TAG = b"arena-core event chain\x00\x01"
"""Says what is hashed; its last byte is the version of the rule."""

GENESIS = bytes(32)
CODE = f"arena-core {VERSION}"


class Slot(NamedTuple):
    """A bare body, and where in its stream it is to go."""

    stream: UUID
    version: int
    topic: str
    body: bytes


class Row(NamedTuple):
    """One row of the log, as a recorder keeps it."""

    position: int
    stream: UUID
    version: int
    topic: str
    state: bytes


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    event_id: UUID
    occurred_at: datetime
    recorded_at: datetime
    organisation: OrganisationId
    actor: Actor
    command_id: UUID
    correlation_id: UUID
    code: str
    causation_id: UUID | None = None
    reason: str | None = None
    traceparent: str | None = None


class Frame(msgspec.Struct, frozen=True):
    """A stored state, taken apart but not understood."""

    m: msgspec.Raw
    h: str
    d: msgspec.Raw


_FRAME = msgspec.json.Decoder(Frame)
_METADATA = msgspec.json.Decoder(Metadata)


class _Tail(NamedTuple):
    """Where a chain has got to."""

    version: int
    hash: bytes


_BEGINNING = _Tail(0, GENESIS)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def event_id(stream: UUID, version: int, command_id: UUID) -> UUID:
    """Return the id of the event that the command puts at `version` of `stream`.

    Being derived, it tells a repeated append from somebody else's.
    """
    return uuid5(stream, f"{version}:{command_id}")


def seal(previous: bytes, slot: Slot, metadata: Metadata) -> tuple[bytes, bytes]:
    """Return the frame around the body in `slot`, and its hash.

    Raises `Rejected` if the metadata could not be read again.
    """
    meta = codec.to_json(metadata)
    codec.check_readable(_METADATA, meta)
    digest = _chained(previous, slot, meta)
    return _assembled(meta, digest.hex(), slot.body), digest


def _chained(previous: bytes, slot: Slot, metadata: bytes) -> bytes:
    chained = sha256(TAG + previous)
    version = slot.version.to_bytes(8, "big", signed=True)
    for part in (slot.stream.bytes, version, slot.topic.encode(), metadata, slot.body):
        chained.update(len(part).to_bytes(8, "big"))
        chained.update(part)
    return chained.digest()


def _assembled(metadata: bytes, digest: str, body: bytes) -> bytes:
    return b'{"m":%b,"h":"%b","d":%b}' % (metadata, digest.encode(), body)


def hash_of(row: Row) -> bytes:
    """Return the hash that the frame of `row` holds.  Raises `Corrupt`."""
    try:
        return bytes.fromhex(_FRAME.decode(row.state).h)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise corrupt(row.position) from error


def metadata_of(row: Row) -> Metadata:
    """Return the metadata in the frame of `row`.  Raises `Corrupt`."""
    try:
        return _METADATA.decode(_FRAME.decode(row.state).m)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise corrupt(row.position) from error


def recorded(row: Row) -> Recorded:
    """Return the event in `row`, with all that is known of it.

    Raises `UnknownEvent` if this release cannot read the event, and `Corrupt` if
    nobody can.
    """
    try:
        frame = _FRAME.decode(row.state)
        meta = _METADATA.decode(frame.m)
        name, _, number = row.topic.rpartition("@")
        name_version = int(number)
    except (msgspec.MsgspecError, TypeError, ValueError, AttributeError) as error:
        raise corrupt(row.position) from error
    return Recorded(
        row.position,
        row.stream,
        row.version,
        name,
        name_version,
        meta.event_id,
        meta.occurred_at,
        meta.recorded_at,
        Context(
            meta.organisation,
            meta.actor,
            meta.command_id,
            meta.correlation_id,
            meta.causation_id,
            meta.reason,
            meta.traceparent,
        ),
        meta.code,
        frame.h,
        codec.decode(name, name_version, bytes(frame.d)),
    )


def corrupt(position: int) -> Corrupt:
    return Corrupt(
        f"The event at position {position} is not what was stored: "
        "verify the log and restore it from a back-up."
    )


def page(rows: Iterable[Row]) -> list[Recorded]:
    """Return the events of `rows` up to the first that cannot be read.

    Raises what reading the very first one raises.
    """
    events: list[Recorded] = []
    try:
        for row in rows:
            events.append(recorded(row))  # noqa: PERF401 -- keeps those before a bad one
    except Corrupt:
        if not events:
            raise
    return events


def faults(rows: Iterable[Sequence[Any]], *, last: int) -> Iterator[Fault]:
    """Recompute every chain over all `rows` of a log, whatever is in them.

    `last`: the last position that was ever given out, so that events that were cut
    off are missed.  The log must be one that leaves no gaps between positions.
    """
    position, newest = 0, _EARLIEST
    chains: dict[object, _Tail] = {}
    try:
        for raw in rows:
            if raw[0] != position + 1:
                yield _missing(position + 1, raw[0] - 1)
            position, stream = raw[0], raw[1]
            detail, chains[stream] = _checked(raw, chains.get(stream, _BEGINNING))
            recorded_at = _recorded_at(raw[4])
            if detail is None and recorded_at < newest:
                detail = (
                    "It was recorded before the one ahead of it: the order changed."
                )
            newest = max(newest, recorded_at)
            if detail is not None:
                yield Fault(position, detail)
    except Corrupt as error:
        yield Fault(position + 1, str(error))
        return
    if position < last:
        yield _missing(position + 1, last)


def _recorded_at(state: bytes) -> datetime:
    """Return when the event was recorded, or the earliest time if it is torn."""
    try:
        return _METADATA.decode(_FRAME.decode(state).m).recorded_at
    except (msgspec.MsgspecError, TypeError, ValueError):
        return _EARLIEST


def _missing(first: int, last: int) -> Fault:
    if first == last:
        return Fault(first, "The event at this position is missing.")
    return Fault(first, f"The events from this position to {last} are missing.")


def _checked(raw: Sequence[Any], tail: _Tail) -> tuple[str | None, _Tail]:
    """Return what is wrong with a raw row, if anything, and the tail it makes.

    The tail is what the row says it is, so that one change is not told many times.
    """
    version, topic, state = raw[2], raw[3], raw[4]
    try:
        frame = _FRAME.decode(state)
        held = _Tail(version, bytes.fromhex(frame.h))
        meta, body = bytes(frame.m), bytes(frame.d)
        slot = Slot(UUID(raw[1]), version, topic, body)
        expected = _chained(tail.hash, slot, meta)
    except (
        ArithmeticError,
        AttributeError,
        TypeError,
        ValueError,
        msgspec.MsgspecError,
    ):
        torn = "The row cannot be taken apart: its bytes were changed."
        return torn, _Tail(tail.version + 1, tail.hash)
    if version != tail.version + 1:
        return f"It is version {version} of its stream, not {tail.version + 1}.", held
    if held.hash != expected:
        return "The hash does not fit: it, or the event before it, was changed.", held
    if state != _assembled(meta, frame.h, body):
        return "The frame holds more than what was hashed.", held
    return None, held
