"""Who works by the log is woken by what concerns them, and by nothing else."""

import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.application import log_watch
from arena_core.application.log_watch import LogWatch
from arena_core.application.ports import Write
from arena_core.application.views import Views
from arena_core.domain import agent, deployment, organisation, project
from arena_core.domain.errors import Unavailable
from arena_core.domain.values import ProjectKind
from unit.scenes import CONTEXT

CREATED = project.ProjectCreated(UUID(int=1), "carts", ProjectKind.CLASSIC, "")
ORPHAN = agent.AgentRenamed("of no agent")
"""An event that does not fit: its stream has nothing before it."""
PROJECTS = frozenset({project.KIND})
OTHERS = frozenset({deployment.KIND, organisation.KIND})
SOON_S = 30.0
A_WHILE_S = 0.3


@pytest.fixture
def store():
    return MemoryEventStore()


@pytest.fixture
def views(store):
    views = Views(store, MemoryRowStore())
    views.catch_up()
    return views


@pytest.fixture
def watch(store, views):
    return LogWatch(store, views)


def append(store, event, stream=None):
    return store.append(
        [Write(stream or uuid4(), 0, [event])],
        context=CONTEXT,
        occurred_at=datetime.now(UTC),
    )


@contextmanager
def watched(watch):
    over = threading.Event()
    thread = threading.Thread(target=watch.watch, args=[over])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(SOON_S)


def test_what_changes_wakes_whom_it_concerns_and_nobody_else(store, watch):
    concerned, unconcerned = watch.alarm(PROJECTS), watch.alarm(OTHERS)
    with watched(watch):
        append(store, CREATED)
        assert concerned.wait(SOON_S)
        assert not unconcerned.wait(A_WHILE_S)
        concerned.silence()
        assert not concerned.wait(A_WHILE_S), "nothing has changed since"


def test_what_another_thread_has_brought_up_wakes_all_the_same(store, views, watch):
    alarm = watch.alarm(PROJECTS)
    append(store, CREATED)
    views.catch_up()
    with watched(watch):
        assert alarm.wait(SOON_S)


def test_what_another_process_has_brought_up_may_concern_anybody(store):
    rows = MemoryRowStore()
    ours, theirs = Views(store, rows), Views(store, rows)
    ours.catch_up()
    watch = LogWatch(store, ours)
    alarms = [watch.alarm(PROJECTS), watch.alarm(OTHERS)]
    append(store, CREATED)
    theirs.catch_up()
    with watched(watch):
        assert all(alarm.wait(SOON_S) for alarm in alarms)


def test_where_the_rows_stand_still_whatever_is_appended_wakes_all(store, views, watch):
    append(store, ORPHAN)
    views.catch_up()
    assert views.halted
    alarm = watch.alarm(OTHERS)
    with watched(watch):
        assert alarm.wait(SOON_S)
        alarm.silence()
        append(store, CREATED)
        assert alarm.wait(SOON_S)


def test_rows_that_are_made_anew_wake_all(store, views, watch):
    append(store, CREATED)
    alarm = watch.alarm(OTHERS)
    views.rebuild()
    with watched(watch):
        assert alarm.wait(SOON_S)


@pytest.mark.parametrize("error", [Unavailable("locked"), ValueError("a defect")])
def test_a_log_that_cannot_be_looked_at_is_looked_at_again(
    store, watch, error, monkeypatch, caplog
):
    monkeypatch.setattr(log_watch, "LOOK_AGAIN_S", 0.01)
    views = watch._views
    errors, catch_up = [error], views.catch_up

    def fail_once():
        if errors:
            raise errors.pop()
        return catch_up()

    monkeypatch.setattr(views, "catch_up", fail_once)
    alarm = watch.alarm(PROJECTS)
    with watched(watch):
        append(store, CREATED)
        assert alarm.wait(SOON_S)
    assert errors == []
    assert str(error) in caplog.text


def test_of_many_who_catch_up_at_once_only_one_looks_at_the_rows(store):
    rows = MemoryRowStore()
    views = Views(store, rows)
    views.catch_up()
    looks, update = [], rows.update
    all_wait, go_on = threading.Event(), threading.Event()

    def slow_update(step):
        looks.append(step)
        all_wait.set()
        go_on.wait(SOON_S)
        return update(step)

    rows.update = slow_update
    append(store, CREATED)
    threads = [threading.Thread(target=views.catch_up) for _ in range(5)]
    for thread in threads:
        thread.start()
    all_wait.wait(SOON_S)
    for thread in threads[1:]:
        thread.join(0.05)
    go_on.set()
    for thread in threads:
        thread.join(SOON_S)
    assert len(looks) == 1
    assert views.position == 1


def test_who_waits_too_long_for_another_to_catch_up_does_it_himself(store, monkeypatch):
    monkeypatch.setattr("arena_core.application.views.PATIENCE_S", 0.01)
    views = Views(store, MemoryRowStore())
    views.catch_up()
    append(store, CREATED)
    with views._catching_up:
        assert views.catch_up() == 1
