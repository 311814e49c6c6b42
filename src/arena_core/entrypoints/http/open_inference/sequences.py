"""Steps of episodes: each sequence is served one at a time, in the order of coming."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import define, field

from arena_core.application.episodes import Whose
from arena_core.domain.errors import DeadlineExceeded, Overloaded

MOST_WAITING = 64
"""Requests to one sequence."""


@define(eq=False)
class _Turns:
    lock: asyncio.Lock = field(factory=asyncio.Lock)
    waiting: int = 0


class TurnTaking:
    """For one event loop."""

    def __init__(self) -> None:
        self._turns: dict[Whose, _Turns] = {}

    @asynccontextmanager
    async def turn(self, whose: Whose, timeout_s: float) -> AsyncIterator[None]:
        """Wait for one's turn; it is over at the end of the block.

        Raises `DeadlineExceeded` if it has not come in time, and `Overloaded` where
        too many wait already.
        """
        turns = self._turns.setdefault(whose, _Turns())
        if turns.waiting >= MOST_WAITING:
            raise Overloaded(
                f"{MOST_WAITING} requests to this sequence wait already: send a step "
                "when the one before is answered."
            )
        turns.waiting += 1
        try:
            await _acquired(turns.lock, timeout_s)
            try:
                yield
            finally:
                turns.lock.release()
        finally:
            turns.waiting -= 1
            if not turns.waiting:
                del self._turns[whose]


async def _acquired(lock: asyncio.Lock, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await lock.acquire()
    except TimeoutError as error:
        raise DeadlineExceeded(
            "The deadline was over before the sequence's earlier steps were."
        ) from error
