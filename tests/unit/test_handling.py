"""Commands are decided on what is so, and on what has become so when a race is lost."""

from contextlib import suppress
from threading import Thread
from uuid import UUID, uuid4

import pytest
from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.application import handling
from arena_core.application.handling import ATTEMPTS, Change, Expected, Handler
from arena_core.domain import project
from arena_core.domain.errors import (
    ConcurrentWrite,
    NotFound,
    PreconditionFailed,
    Rejected,
)
from arena_core.domain.project import (
    CreateProject,
    DeleteProject,
    DescribeProject,
    RenameProject,
)
from arena_core.domain.values import ProjectKind
from unit.scenes import CONTEXT
from unit.workers import World

ID, OTHER = UUID(int=1), UUID(int=2)


def create(project_id=ID):
    command = CreateProject(project_id, "carts", ProjectKind.CLASSIC)
    return Change(project, project_id, command)


@define
class Racing:
    """A store where somebody else is faster, as often as it is told."""

    store: MemoryEventStore
    losses: int = 0
    appends: int = 0

    def read(self, stream):
        return self.store.read(stream)

    def append(self, writes, *, context, occurred_at):
        self.appends += 1
        if self.losses:
            self.losses -= 1
            renamed = Change(project, ID, RenameProject(f"cart {self.losses}"))
            another = evolve(context, command_id=uuid4())
            Handler(self.store, lambda: occurred_at).handle(another, renamed)
        return self.store.append(writes, context=context, occurred_at=occurred_at)


@pytest.fixture
def store():
    store = MemoryEventStore()
    a_handler(store).handle(evolve(CONTEXT, command_id=uuid4()), create())
    return store


def a_handler(store, pauses=None):
    pause = (lambda _: None) if pauses is None else pauses.append
    return Handler(store, lambda: World().now, pause)


def rename(name="boats"):
    return Change(project, ID, RenameProject(name))


@pytest.mark.parametrize("losses", [0, 1, ATTEMPTS - 1])
def test_a_lost_race_is_run_again_on_what_is_so_then(store, losses):
    racing, pauses = Racing(store, losses), []
    handled = a_handler(racing, pauses).handle(CONTEXT, rename())
    assert pauses == list(range(1, losses + 1))
    assert handled.states[ID].name == "boats"
    assert handled.position == store.head() == 1 + losses + 1


def test_who_loses_every_race_is_told_so(store):
    racing, pauses = Racing(store, ATTEMPTS), []
    with pytest.raises(ConcurrentWrite, match="Somebody else"):
        a_handler(racing, pauses).handle(CONTEXT, rename())
    assert (racing.appends, len(pauses)) == (20, 19)
    assert [r.event.name for r in store.read(ID)][-1] == "cart 0"


def test_what_has_become_so_meanwhile_is_decided_anew(store):
    racing = Racing(store, 1)
    handled = a_handler(racing).handle(CONTEXT, rename("cart 0"))
    assert (racing.appends, handled.position) == (2, store.head())
    assert len(store.read(ID)) == 2


def test_all_changes_are_made_or_none(store):
    before = store.head()
    with pytest.raises(NotFound):
        a_handler(store).handle(
            CONTEXT, create(OTHER), Change(project, UUID(int=3), DeleteProject())
        )
    with pytest.raises(Rejected):
        a_handler(store).handle(CONTEXT, rename(), rename(" "))
    assert store.head() == before


def test_each_change_sees_those_before_it(store):
    changes = [
        create(OTHER),
        Change(project, OTHER, RenameProject("boats")),
        Change(project, OTHER, DescribeProject("wet")),
        Change(project, OTHER, DeleteProject()),
        rename(),
    ]
    handled = a_handler(store).handle(CONTEXT, *changes)
    assert handled.states[OTHER].deleted
    assert (handled.states[OTHER].name, handled.states[ID].name) == ("boats", "boats")
    assert [r.version for r in store.read(OTHER)] == [1, 2, 3, 4]
    assert {r.context.command_id for r in store.read(OTHER)} == {CONTEXT.command_id}


def test_a_command_that_changes_nothing_records_nothing(store):
    before = store.head()
    handled = a_handler(store).handle(CONTEXT, rename("carts"))
    assert (handled.position, store.head()) == (before, before)
    assert handled.states[ID].name == "carts"


def test_pauses_are_random_and_grow_to_a_limit(monkeypatch):
    slept = []
    monkeypatch.setattr(handling.time, "sleep", slept.append)
    for _ in range(200):
        for attempt in range(1, ATTEMPTS):
            handling.pause_before(attempt)
    assert len(set(slept)) > ATTEMPTS
    assert 0 <= min(slept) < 0.002
    assert handling.LONGEST_PAUSE_S / 2 < max(slept) <= handling.LONGEST_PAUSE_S
    first = slept[:: ATTEMPTS - 1]
    assert max(first) <= 0.002


# --- what a caller expects ----------------------------------------------------------


def expected(*versions, streams=(ID,)):
    return Expected(streams, frozenset(versions))


def test_what_is_expected_is_changed(store):
    handled = a_handler(store).handle(CONTEXT, rename(), expected=expected((1,)))
    assert handled.versions == {ID: 2}


@pytest.mark.parametrize("versions", [[], [(0,)], [(2,)], [(1, 0)]])
def test_what_is_not_as_expected_is_left_alone(store, versions):
    head = store.head()
    with pytest.raises(PreconditionFailed, match="read it again"):
        a_handler(store).handle(CONTEXT, rename(), expected=expected(*versions))
    assert store.head() == head


def test_one_of_several_expectations_is_enough(store):
    either = expected((7,), (1,))
    assert a_handler(store).handle(CONTEXT, rename(), expected=either).position == 2


def test_a_stream_that_is_not_there_is_at_version_0(store):
    both = expected((1, 0), streams=(ID, OTHER))
    handled = a_handler(store).handle(CONTEXT, rename(), expected=both)
    assert handled.versions == {ID: 2, OTHER: 0}


def test_what_is_expected_is_looked_at_before_anything_is_decided(store):
    with pytest.raises(PreconditionFailed):
        a_handler(store).handle(CONTEXT, rename(" "), expected=expected((7,)))


def test_a_lost_race_is_not_run_again_past_what_was_expected(store):
    racing = Racing(store, 1)
    with pytest.raises(PreconditionFailed):
        a_handler(racing).handle(CONTEXT, rename(), expected=expected((1,)))
    assert [r.event.name for r in store.read(ID)] == ["carts", "cart 0"]


def test_a_stream_that_is_only_expected_is_guarded_like_one_that_is_changed(store):
    """The faster one changes what this command itself never touches."""
    racing = Racing(store, 1)
    both = expected((1, 0), streams=(ID, OTHER))
    with pytest.raises(PreconditionFailed):
        a_handler(racing).handle(CONTEXT, create(OTHER), expected=both)
    assert not store.read(OTHER)


def test_what_is_expected_and_what_is_decided_are_one_and_the_same_version(store):
    """Somebody is faster between the look at the version and the decision."""

    @define
    class Sneaking:
        store: MemoryEventStore
        reads: int = 0

        def read(self, stream):
            self.reads += 1
            if self.reads == 2:
                another = evolve(CONTEXT, command_id=uuid4())
                a_handler(self.store).handle(another, rename("sneaked"))
            return self.store.read(stream)

        def append(self, writes, *, context, occurred_at):
            return self.store.append(writes, context=context, occurred_at=occurred_at)

    either = expected((1, 0), streams=(ID, OTHER))
    with pytest.raises(PreconditionFailed):
        a_handler(Sneaking(store)).handle(CONTEXT, rename(), expected=either)
    assert [r.event.name for r in store.read(ID)][1:] == ["sneaked"]


WHO_WRITES = st.lists(st.sampled_from(["other", "read", "write"]), max_size=20)


@given(WHO_WRITES)
def test_no_change_of_another_is_ever_overwritten_unseen(turns):
    """One writer changes only what it has read last; the other changes at any time."""
    store = MemoryEventStore()
    handler = a_handler(store)
    handler.handle(evolve(CONTEXT, command_id=uuid4()), create())
    seen, truth = 1, 1
    for number, turn in enumerate(turns):
        context = evolve(CONTEXT, command_id=uuid4())
        change = rename(f"{turn} {number}")
        if turn == "read":
            seen = truth
        elif turn == "other":
            handler.handle(context, change)
            truth += 1
        elif seen == truth:
            handler.handle(context, change, expected=expected((seen,)))
            seen = truth = truth + 1
        else:
            with pytest.raises(PreconditionFailed):
                handler.handle(context, change, expected=expected((seen,)))
        assert len(store.read(ID)) == truth


def test_writers_who_expect_the_same_do_not_all_succeed(store):
    """Threads that read, and change what they have read: each change is one."""
    changed = []

    def write():
        handler = Handler(store, lambda: World().now)
        for _ in range(20):
            version = len(store.read(ID))
            context = evolve(CONTEXT, command_id=uuid4())
            change = rename(str(context.command_id))
            with suppress(PreconditionFailed):
                handler.handle(context, change, expected=expected((version,)))
                changed.append(version)

    threads = [Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changed) == list(range(1, len(store.read(ID))))
