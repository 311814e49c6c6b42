"""Who follows the log is woken when it grows, whenever they have come."""

import asyncio
import threading

import pytest

from arena_core.domain.errors import Overloaded
from arena_core.entrypoints.http.feed import Feed, Follower
from unit.scenes import Scene

PATIENCE_S = 30.0


@pytest.fixture(name="scene")
def _scene(tmp_path):
    scene = Scene.open(tmp_path)
    yield scene
    scene.arena.close()


async def ended(feed):
    while feed._is_looking:  # noqa: ASYNC110 -- a thread says so
        await asyncio.sleep(0.01)


def test_whoever_comes_while_it_is_looked_is_woken_too(scene):
    async def follow():
        feed = Feed(scene.arena.application.core.store, 100)
        followers = [feed.join()]
        for number in range(20):
            await asyncio.sleep(0.01 * number)
            newest = feed.join()
            followers.append(newest)
            newest.ready()
            scene.use.projects.create(f"project {number}")
            await newest.sleep(PATIENCE_S)
            assert newest._woken.is_set(), number
        for follower in followers:
            feed.leave(follower)
        await ended(feed)

    asyncio.run(follow())


def test_whoever_sleeps_is_woken_at_the_end_of_the_feed(scene):
    async def follow():
        feed = Feed(scene.arena.application.core.store, 1)
        follower = feed.join()
        follower.ready()
        feed.end()
        await follower.sleep(PATIENCE_S)
        assert follower._woken.is_set()
        feed.leave(follower)
        await ended(feed)

    asyncio.run(follow())


def test_who_leaves_makes_room_and_leaves_no_thread_behind(scene):
    async def follow():
        feed = Feed(scene.arena.application.core.store, 2)
        for _ in range(5):
            first, second = feed.join(), feed.join()
            with pytest.raises(Overloaded):
                feed.join()
            feed.leave(first)
            feed.leave(first)
            feed.leave(second)
        await ended(feed)

    asyncio.run(follow())
    assert not [t for t in threading.enumerate() if t.name == "arena-feed"]


def test_a_follower_whose_loop_is_gone_is_no_matter():
    async def join():
        return Follower()

    asyncio.run(join()).wake()
