"""The log as Server-Sent Events: each sent after its reader was authenticated anew."""

from collections.abc import Callable, Sequence

import msgspec
from attrs import frozen

from arena_core.application.ports import EventStore, Recorded
from arena_core.application.resources import EventView
from arena_core.domain.errors import ArenaError, Corrupt
from arena_core.domain.values import Caller
from arena_core.entrypoints.http.endpoints import Again
from arena_core.entrypoints.http.errors import problem
from arena_core.entrypoints.http.feed import Feed, Follower
from arena_core.entrypoints.http.server_sent import MOST_EVENTS, ServerSentEvents

MOST_BYTES = 1 << 18
"""Of what is sent at once; one event alone may be larger."""
Show = Callable[[Caller, Sequence[Recorded]], Sequence[EventView]]
"""Returns what a caller may see of some events."""


@frozen
class Following:
    """Whose stream it is, and of what."""

    store: EventStore
    after: int
    show: Show
    again: Again
    path: str


class EventStream(ServerSentEvents):
    """What comes after a position, and then whatever is appended, until it ends.

    It ends too when its caller may not see the log any more, and at an event that
    cannot be understood.
    """

    def __init__(self, following: Following, feed: Feed, follower: Follower) -> None:
        super().__init__(feed, follower)
        self._following = following
        self._after = following.after
        self._caller: Caller | None = None

    def _next(self) -> bytes | None:
        """Return what is to be sent, maybe nothing; None: nothing more ever.

        The caller is authenticated after the log was read, so that whoever is refused
        from a position on sees nothing that lies behind it.
        """
        try:
            page = self._read()
            caller = self._following.again()
        except ArenaError:
            return None
        before, self._caller = self._caller, caller
        if before is not None and before.organisation != caller.organisation:
            return None
        if isinstance(page, Corrupt):
            self._is_broken = True
            body = bytes(problem(page, self._following.path).body)
            return b"event: error\ndata: %b\n\n" % body
        return self._encoded(caller, page)

    def _read(self) -> Sequence[Recorded] | Corrupt:
        try:
            return self._following.store.read_all(after=self._after, limit=MOST_EVENTS)
        except Corrupt as error:
            return error

    def _encoded(self, caller: Caller, page: Sequence[Recorded]) -> bytes:
        whole = bytearray()
        self._is_behind = len(page) == MOST_EVENTS
        for recorded in page:
            for event in self._following.show(caller, [recorded]):
                whole += _encoded(event)
            self._after = recorded.position
            if len(whole) > MOST_BYTES:
                self._is_behind = True
                break
        return bytes(whole)


def _encoded(event: EventView) -> bytes:
    data = msgspec.json.encode(event)  # it has no line breaks
    name = event.name.encode()
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.position, name, data)
