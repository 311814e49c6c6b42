"""Streams of the log, each read once: what is decided on them can be guarded.

Whoever decides by what several streams say reads them here, and hands `as_read` to the
handler: what is decided is recorded only if all of it is still so.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, TypeVar
from uuid import UUID

from arena_core.application.handling import Decider, Expected
from arena_core.application.ports import EventStore, Recorded
from arena_core.domain.errors import NotFound

S = TypeVar("S")


class Streams:
    """Not safe to use from several threads."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._events: dict[UUID, Sequence[Recorded]] = {}

    def events(self, stream: UUID) -> Sequence[Recorded]:
        """Return the events of `stream` as they were when it was first asked for."""
        if stream not in self._events:
            self._events[stream] = self._store.read(stream)
        return self._events[stream]

    def state(self, decider: Decider[Any, S, Any], stream: UUID) -> S | None:
        """Return the state of the aggregate; None if it has never begun."""
        before: S | None = None
        events = (recorded.event for recorded in self.events(stream))
        return reduce(decider.evolve, events, before)

    def known(self, decider: Decider[Any, S, Any], stream: UUID) -> S:
        """Return the state of what something else refers to.  Raises `NotFound`."""
        state = self.state(decider, stream)
        if state is None:
            raise NotFound(f"The {decider.KIND} that it refers to was never there.")
        return state

    def as_read(self) -> Expected:
        """Return that every stream is still as it was read."""
        versions = tuple(len(events) for events in self._events.values())
        return Expected(tuple(self._events), frozenset({versions}))
