"""Steps of one sequence: one at a time, in the order in which they come."""

import asyncio
from uuid import UUID

import pytest

from arena_core.application.episodes import Whose
from arena_core.domain.errors import DeadlineExceeded, Overloaded
from arena_core.domain.ids import DeploymentId
from arena_core.entrypoints.http.open_inference.sequences import (
    MOST_WAITING,
    TurnTaking,
)

ONE, OTHER = (Whose(DeploymentId(UUID(int=1)), "user:ann", n) for n in (1, 2))
LONG_S = 60.0


class Steps:
    """Steps that are under way until they are told to end."""

    def __init__(self):
        self.turns = TurnTaking()
        self.begun = []
        self.may_end = asyncio.Event()

    async def step(self, number, whose=ONE, timeout_s=LONG_S):
        async with self.turns.turn(whose, timeout_s):
            self.begun.append(number)
            await self.may_end.wait()

    async def started(self, *numbers, whose=ONE):
        tasks = [asyncio.create_task(self.step(n, whose)) for n in numbers]
        await asyncio.sleep(0)
        return tasks


def run(play):
    async def played():
        await play(Steps())

    asyncio.run(played())


def test_each_waits_for_those_before():
    async def play(steps):
        tasks = await steps.started(1, 2, 3)
        assert steps.begun == [1]
        steps.may_end.set()
        await asyncio.gather(*tasks)
        assert steps.begun == [1, 2, 3]

    run(play)


def test_sequences_do_not_wait_for_each_other():
    async def play(steps):
        await steps.started(1)
        await steps.started(2, whose=OTHER)
        assert steps.begun == [1, 2]
        steps.may_end.set()

    run(play)


def test_whoever_fails_does_not_hold_up_the_next():
    async def play(steps):
        with pytest.raises(ZeroDivisionError):
            async with steps.turns.turn(ONE, LONG_S):
                raise ZeroDivisionError
        await steps.started(1)
        assert steps.begun == [1]
        steps.may_end.set()

    run(play)


def test_who_leaves_while_waiting_is_not_waited_for():
    async def play(steps):
        first, left, last = await steps.started(1, 2, 3)
        left.cancel()
        steps.may_end.set()
        await asyncio.gather(first, last)
        assert steps.begun == [1, 3]
        assert left.cancelled()

    run(play)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_who_cannot_be_served_in_time_is_told(timeout_s):
    async def play(steps):
        (first,) = await steps.started(1)
        with pytest.raises(DeadlineExceeded, match="earlier steps"):
            await steps.step(2, timeout_s=timeout_s)
        steps.may_end.set()
        await first
        await steps.step(3)
        assert steps.begun == [1, 3]

    run(play)


def test_so_many_may_wait_and_no_more():
    async def play(steps):
        tasks = await steps.started(*range(MOST_WAITING))
        with pytest.raises(Overloaded, match="wait already"):
            await steps.step("one more")
        steps.may_end.set()
        await asyncio.gather(*tasks)
        assert steps.begun == list(range(MOST_WAITING))
        await steps.step("one more")

    run(play)


def test_nothing_is_remembered_of_who_has_gone():
    async def play(steps):
        tasks = await steps.started(1, 2)
        steps.may_end.set()
        await asyncio.gather(*tasks)
        assert not steps.turns._turns

    run(play)
