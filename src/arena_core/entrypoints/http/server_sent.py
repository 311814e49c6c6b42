"""Server-Sent Events: what there is, and then whatever comes, until the stream ends.

A stream has one of the places of the `Feed`, and asks for what comes next in a thread.
Nothing more is asked for before all that was sent is on its way.
"""

import asyncio
import re
import time
from abc import abstractmethod
from http import HTTPStatus
from typing import ClassVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from arena_core.domain.errors import Rejected
from arena_core.entrypoints.http.feed import Feed, Follower

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0
MOST_EVENTS = 100
"""That are looked at before something is sent."""
BEGIN = b"retry: 1000\n\n"
HEARTBEAT = b": hb\n\n"
_NUMBER = re.compile(r"[0-9]{1,18}")
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def last_seen(header: str | None, after: int) -> int:
    """Return where to go on: who comes back says so in a header, and not anew."""
    if not header:
        return after
    if not _NUMBER.fullmatch(header):
        raise Rejected(
            "Last-Event-ID must be the id of an event of this stream.",
            field="Last-Event-ID",
        )
    return int(header)


class ServerSentEvents(Response):
    """It ends when its caller leaves, the server drains, or `_next` says so."""

    longest_sleep_s: ClassVar[float] = HEARTBEAT_S
    """After which it is looked again, though nobody has woken the follower."""

    def __init__(self, feed: Feed, follower: Follower) -> None:
        """Take the `follower` over: it leaves the `feed` at the end."""
        super().__init__(None, HTTPStatus.OK, HEADERS, MEDIA_TYPE)
        del self.headers["content-length"]
        self._feed = feed
        self._follower = follower
        self._is_behind = True
        """Whether there may be more than was looked at."""
        self._is_broken = False
        """Whether what `_next` has returned is the last of it."""

    @abstractmethod
    def _next(self) -> bytes | None:
        """Return what is to be sent, maybe nothing; None: nothing more ever.

        It is called in a thread, and says in `_is_behind` whether to ask again at once.
        """
        ...

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
                left_s = sent_s + HEARTBEAT_S - time.monotonic()
                await self._follower.sleep(min(left_s, self.longest_sleep_s))
            self._follower.ready()
            await send(_part(b""))  # returns when what was sent before is on its way
            chunk = await self._feed.threads.run(self._next)
            if chunk == b"" and time.monotonic() >= sent_s + HEARTBEAT_S:
                chunk = HEARTBEAT
        if chunk and self._is_broken:
            await send(_part(chunk))

    def _is_over(self) -> bool:
        return self._is_broken or self._follower.is_gone or self._feed.is_over


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
