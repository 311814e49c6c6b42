"""Following the log: every event once, whatever happens to the store meanwhile."""

import threading
from itertools import islice

import pytest

from arena_core.application import history
from arena_core.application.history import follow
from arena_core.domain.errors import Unavailable, UnknownEvent


class Moody:
    """A store that is not available every other time it is read."""

    def __init__(self, store):
        self._store = store
        self.refusals = 0
        self._calls = 0

    def read_all(self, **bounds):
        self._calls += 1
        if self._calls % 2:
            self.refusals += 1
            raise Unavailable("The database is locked.")
        return self._store.read_all(**bounds)

    def head(self, **wait):
        return self._store.head(**wait)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(history, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(history, "PAGE", 3)


def create(scene, count):
    for number in range(count):
        scene.use.projects.create(f"project {number}")


def test_what_is_there_comes_first_and_then_what_is_new(scene):
    create(scene, 5)
    followed = scene.use.audit.follow(after=1)
    assert [e.position for e in islice(followed, 4)] == [2, 3, 4, 5]
    late = threading.Timer(0.05, create, (scene, 2))
    late.start()
    assert [e.position for e in islice(followed, 2)] == [6, 7]
    late.join()


def test_a_store_that_fails_now_and_then_loses_and_doubles_nothing(scene):
    create(scene, 8)
    moody = Moody(scene.arena.application.core.store)
    found = follow(moody, until=lambda: False)
    assert [r.position for r in islice(found, 8)] == list(range(1, 9))
    assert moody.refusals > 1


def test_it_ends_when_it_is_told_to(scene):
    create(scene, 2)
    seen: list[int] = []
    events = scene.use.audit.follow(until=lambda: len(seen) == 2)
    seen.extend(event.position for event in islice(events, 2))
    assert (seen, list(events)) == ([1, 2], [])


def test_it_shows_what_the_caller_may_see(scene):
    scene.arena.tokens.issue(name="one", user="tom")
    create(scene, 1)
    (event,) = islice(scene.use.audit.follow(), 1)
    assert event.name == "project.created"


def test_an_event_that_cannot_be_understood_ends_it_loudly(scene):
    create(scene, 1)

    class Ill(Moody):
        def read_all(self, **_):
            raise UnknownEvent("A newer release wrote it.")

    with pytest.raises(UnknownEvent):
        next(follow(Ill(scene.arena.application.core.store), until=lambda: False))
