"""Threads for one kind of work, which must not take those of all others."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from attrs import field, frozen

T = TypeVar("T")


@frozen(eq=False)
class Threads:
    """So many at a time at most, on each event loop."""

    most: int
    _limiter: RunVar[CapacityLimiter] = field(
        factory=lambda: RunVar("threads"), init=False
    )

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, when its turn has come."""
        try:
            limiter = self._limiter.get()
        except LookupError:
            limiter = CapacityLimiter(self.most)
            self._limiter.set(limiter)
        return await to_thread.run_sync(work, limiter=limiter)
