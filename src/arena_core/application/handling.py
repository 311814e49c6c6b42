"""The one command handler: load, decide, append, and try again if somebody was faster.

Trying again is safe because `decide` is pure: it reads the state as it is now.
"""

import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import reduce
from typing import Any, Protocol, TypeVar
from uuid import UUID

from attrs import field, frozen

from arena_core.application.ports import Clock, Context, EventStore, Recorded, Write
from arena_core.domain.errors import ConcurrentWrite, PreconditionFailed

ATTEMPTS = 20
LONGEST_PAUSE_S = 0.05
_random = random.Random()  # noqa: S311 -- spreads writers, guards nothing

Guard = Callable[[], Sequence[Write]]
"""Returns what must still be so when it is appended, as writes of nothing."""

C_contra = TypeVar("C_contra", contravariant=True)
S = TypeVar("S")
E = TypeVar("E")


class Decider(Protocol[C_contra, S, E]):
    """What a module of `domain` that defines an aggregate provides."""

    KIND: str

    def decide(
        self, command: C_contra, state: S | None, now: datetime
    ) -> Sequence[E]: ...

    def evolve(self, state: S | None, event: E) -> S: ...


@frozen
class Change:
    """A command, and the stream of the aggregate that it is for."""

    decider: Decider[Any, Any, Any]
    stream: UUID
    command: object


@frozen
class Expected:
    """As what the caller knows some streams: each at one of some versions."""

    streams: tuple[UUID, ...]
    versions: frozenset[tuple[int, ...]]
    """Of all streams, in their order."""


@frozen
class Handled:
    """What came of it."""

    states: dict[UUID, Any]
    """Each stream's state afterwards."""
    position: int
    """Where the log stood when all of it was in."""
    versions: dict[UUID, int] = field(factory=dict)
    """Each stream's version afterwards."""


def pause_before(attempt: int) -> None:
    """Wait for a random time that grows with `attempt` (full jitter)."""
    time.sleep(_random.uniform(0, min(LONGEST_PAUSE_S, 0.001 * 2**attempt)))


@frozen
class Handler:
    store: EventStore
    clock: Clock
    pause: Callable[[int], None] = pause_before

    def handle(
        self,
        context: Context,
        *changes: Change,
        expected: Expected | None = None,
        guard: Guard = tuple,
    ) -> Handled:
        """Carry out all `changes`, in their order and in one transaction, or none.

        Raises what `decide` raises, `ConcurrentWrite` after `ATTEMPTS` lost races, and
        `PreconditionFailed` unless what is `expected` is so in that transaction; and
        what `guard` raises, which is asked anew whenever somebody was faster.
        """
        for attempt in range(1, ATTEMPTS):
            try:
                return self._once(context, changes, expected, guard)
            except ConcurrentWrite:
                self.pause(attempt)
        return self._once(context, changes, expected, guard)

    def _once(
        self,
        context: Context,
        changes: Sequence[Change],
        expected: Expected | None,
        guard: Guard,
    ) -> Handled:
        now, guarded = self.clock(), guard()
        work = _Work(self.store)
        if expected is not None:
            work.require(expected)
        for change in changes:
            work.do(change, now)
        writes = [*guarded, *work.writes()]
        position = self.store.append(writes, context=context, occurred_at=now)
        return Handled(work.states, position, work.versions())


class _Work:
    """The streams that one transaction touches, as they are and as they will be."""

    def __init__(self, store: EventStore) -> None:
        self.states: dict[UUID, Any] = {}
        self._store = store
        self._histories: dict[UUID, Sequence[Recorded]] = {}
        self._events: dict[UUID, list[object]] = {}

    def require(self, expected: Expected) -> None:
        """Raise `PreconditionFailed` unless the streams are at one of the versions.

        They are guarded from now on, whether anything is done with them or not.
        """
        found = tuple(len(self._history(stream)) for stream in expected.streams)
        if found not in expected.versions:
            raise PreconditionFailed(
                "It has changed since you read it: read it again, and decide anew."
            )

    def do(self, change: Change, now: datetime) -> None:
        decider, stream = change.decider, change.stream
        if stream not in self.states:
            self._load(decider, stream)
        events = decider.decide(change.command, self.states[stream], now)
        self.states[stream] = reduce(decider.evolve, events, self.states[stream])
        self._events[stream].extend(events)

    def writes(self) -> list[Write]:
        """Return what to append.

        A stream without new events is in it too: its version guards the decision that
        there are none, or that what is appended elsewhere may be.
        """
        return [
            Write(stream, len(self._histories[stream]), events)
            for stream, events in self._events.items()
        ]

    def versions(self) -> dict[UUID, int]:
        """Return the version that each stream will have."""
        return {w.stream: w.expected + len(w.events) for w in self.writes()}

    def _load(self, decider: Decider[Any, Any, Any], stream: UUID) -> None:
        events = (recorded.event for recorded in self._history(stream))
        self.states[stream] = reduce(decider.evolve, events, None)

    def _history(self, stream: UUID) -> Sequence[Recorded]:
        """Return the stream's events as they were when it was first looked at."""
        if stream not in self._histories:
            self._histories[stream] = self._store.read(stream)
            self._events[stream] = []
        return self._histories[stream]
