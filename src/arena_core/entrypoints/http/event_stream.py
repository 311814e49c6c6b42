"""The log as Server-Sent Events: each sent after its reader was authenticated anew."""

import asyncio
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
from attrs import frozen
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from arena_core.application.ports import EventStore, Recorded
from arena_core.application.resources import EventView
from arena_core.domain.errors import ArenaError, Corrupt
from arena_core.domain.values import Caller
from arena_core.entrypoints.http.endpoints import Again
from arena_core.entrypoints.http.errors import problem
from arena_core.entrypoints.http.feed import Feed, Follower

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0
MOST_EVENTS = 100
MOST_BYTES = 1 << 18
"""Of what is sent at once; one event alone may be larger."""
BEGIN = b"retry: 1000\n\n"
HEARTBEAT = b": hb\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
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


class EventStream(Response):
    """What comes after a position, and then whatever is appended, until it ends.

    It ends when its caller leaves or may not see the log any more, when the server
    drains, and at an event that cannot be understood.  Nothing more is read of the log
    before all that was sent is on its way.
    """

    def __init__(self, following: Following, feed: Feed, follower: Follower) -> None:
        """Take the `follower` over: it leaves the `feed` at the end."""
        super().__init__(None, HTTPStatus.OK, HEADERS, MEDIA_TYPE)
        del self.headers["content-length"]
        self._following = following
        self._feed = feed
        self._follower = follower
        self._after = following.after
        self._caller: Caller | None = None
        self._is_behind = True
        """Whether there may be more in the log than was looked at."""
        self._is_broken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watching = asyncio.ensure_future(self._follower.watch(receive))
        head = {"status": self.status_code, "headers": self.raw_headers}
        try:
            await send({"type": "http.response.start", **head})
            if scope["method"] != "HEAD":
                await self._follow(send)
            await send({"type": "http.response.body"})
        finally:
            watching.cancel()
            self._feed.leave(self._follower)

    async def _follow(self, send: Send) -> None:
        chunk: bytes | None = BEGIN
        sent_s = 0.0
        while chunk is not None and not self._is_over():
            if chunk:
                await send(_part(chunk))
                sent_s = time.monotonic()
            if not self._is_behind:
                await self._follower.sleep(sent_s + HEARTBEAT_S - time.monotonic())
            self._follower.ready()
            await send(_part(b""))  # returns when what was sent before is on its way
            chunk = await self._feed.threads.run(self._next)
            if chunk == b"" and time.monotonic() >= sent_s + HEARTBEAT_S:
                chunk = HEARTBEAT
        if chunk and self._is_broken:
            await send(_part(chunk))

    def _is_over(self) -> bool:
        return self._is_broken or self._follower.is_gone or self._feed.is_over

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


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
