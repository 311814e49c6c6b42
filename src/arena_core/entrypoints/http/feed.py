"""Who follows the log over HTTP: one thread looks at it for all, and wakes them.

It looks only while somebody follows, and not more often than `PACE_S` allows: each who
is woken asks the store something.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from attrs import define, field
from starlette.types import Receive

from arena_core.application.ports import EventStore
from arena_core.domain.errors import Overloaded, Unavailable
from arena_core.entrypoints.http.threads import Threads

LOOK_AGAIN_S = 0.1
"""How long it may take until an end of the feed is noticed."""
PACE_S = 0.05
MOST_THREADS = 2
"""That read for followers, however many there are: others need theirs."""
RETRY_AFTER_S = 10.0


@define(eq=False)
class Follower:
    """One caller who waits for the log to grow, on an event loop of its own."""

    is_gone: bool = False
    """Whether the caller has left."""
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop)
    _woken: asyncio.Event = field(factory=asyncio.Event)

    def ready(self) -> None:
        """Do not sleep through what happens from now on."""
        self._woken.clear()

    async def sleep(self, timeout_s: float) -> None:
        """Wait for something to have happened since it was `ready`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()

    async def watch(self, receive: Receive) -> None:
        """Notice when the caller leaves."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._woken.set()

    def wake(self) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # its loop is closed: nobody sleeps there
            self._loop.call_soon_threadsafe(self._woken.set)


class Feed:
    """All followers of one process."""

    def __init__(self, store: EventStore, most: int) -> None:
        """`most`: followers at the same time."""
        self.is_over = False
        self.threads = Threads(MOST_THREADS)
        self._store = store
        self._most = most
        self._followers: set[Follower] = set()
        self._is_looking = False
        self._lock = threading.Lock()

    def end(self) -> None:
        """Let all followers end soon.  Takes no lock: a signal may come at any time."""
        self.is_over = True

    @asynccontextmanager
    async def followed(self, receive: Receive) -> AsyncIterator[Follower]:
        """Give a place among the followers.  Raises `Overloaded` if none is left."""
        follower = self.join()
        watching = asyncio.ensure_future(follower.watch(receive))
        try:
            yield follower
        finally:
            watching.cancel()
            self.leave(follower)

    def join(self) -> Follower:
        """Return a new follower, who has to `leave`.  Raises `Overloaded`."""
        with self._lock:
            if len(self._followers) >= self._most:
                raise Overloaded(
                    f"The log is followed by {self._most} callers already: read it "
                    "page by page, or try again later.",
                    retry_after_s=RETRY_AFTER_S,
                )
            follower = Follower()
            self._followers.add(follower)
            if not self._is_looking:
                self._is_looking = True
                look = threading.Thread(target=self._look, name="arena-feed")
                look.daemon = True
                look.start()
        return follower

    def leave(self, follower: Follower) -> None:
        with self._lock:
            self._followers.discard(follower)

    def _look(self) -> None:
        head = -1
        while self._is_followed():
            try:
                seen = self._store.head(beyond=head, timeout_s=LOOK_AGAIN_S)
            except Unavailable:
                seen = -1  # whoever is woken finds that out, and ends
            if seen != head or seen < 0 or self.is_over:
                self._wake_all()
                time.sleep(PACE_S)
            head = seen

    def _is_followed(self) -> bool:
        """Say whether anybody follows; if nobody does, nobody looks any more."""
        with self._lock:
            self._is_looking = bool(self._followers)
            return self._is_looking

    def _wake_all(self) -> None:
        # Those too who have come while it was looked: they may have read before.
        with self._lock:
            followers = list(self._followers)
        for follower in followers:
            follower.wake()
