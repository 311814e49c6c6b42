"""Any sequence of steps on an event store, beside a model of lists."""

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from arena_core.application.ports import Context, EventStore, Write
from arena_core.domain.errors import ConcurrentWrite

from contract.event_store import WHEN, SettableClock, append, context, renamed

STREAMS = [UUID(int=n, version=4) for n in range(1, 5)]
streams = st.sampled_from(STREAMS)
few = st.integers(1, 3)


class Kept(NamedTuple):
    """An event as the model has it."""

    position: int
    stream: UUID
    version: int
    event: object
    context: Context


class Done(NamedTuple):
    """An append that has succeeded."""

    writes: tuple[Write, ...]
    context: Context
    position: int


class EventStoreMachine(RuleBasedStateMachine):
    """The subclass makes the store; one that is on a disk can be opened again."""

    store: EventStore

    def __init__(self) -> None:
        super().__init__()
        self.clock = SettableClock()
        self.log: list[Kept] = []
        self.appends: list[Done] = []
        self.numbers = 0

    def make(self) -> EventStore:
        raise NotImplementedError

    def open_again(self) -> EventStore:
        return self.store

    @initialize()
    def open(self):
        self.store = self.make()

    def version(self, stream: UUID) -> int:
        return sum(kept.stream == stream for kept in self.log)

    def write(self, stream: UUID, expected: int, count: int) -> Write:
        self.numbers += 1
        return Write(
            stream, expected, [renamed(self.numbers + i) for i in range(count)]
        )

    def keep(self, *writes: Write) -> None:
        by = context()
        before = self.log[-1].position if self.log else 0
        position = append(self.store, *writes, by=by)
        self.appends.append(Done(writes, by, position))
        for found in self.store.read_all(after=before, limit=1000):
            self.log.append(kept(found))
        new = [(w.stream, w.expected + i, e) for w in writes for i, e in numbered(w)]
        assert [k[1:4] for k in self.log[-len(new) :]] == new
        assert self.log[-1].position == position > before
        assert {k.context for k in self.log[-len(new) :]} == {by}

    def refuse(self, *writes: Write, by: Context | None = None) -> None:
        with pytest.raises(ConcurrentWrite):
            append(self.store, *writes, by=by)

    @rule(stream=streams, count=few)
    def append(self, stream, count):
        self.keep(self.write(stream, self.version(stream), count))

    @rule(chosen=st.lists(streams, min_size=2, unique=True), count=few)
    def append_to_several(self, chosen, count):
        self.keep(*(self.write(s, self.version(s), count) for s in chosen))

    @rule(stream=streams, back=few, count=few)
    def append_behind(self, stream, back, count):
        expected = self.version(stream) - back
        self.refuse(self.write(stream, expected, count))

    @rule(stream=streams, ahead=few, count=few)
    def append_ahead(self, stream, ahead, count):
        self.refuse(self.write(stream, self.version(stream) + ahead, count))

    @rule(chosen=st.lists(streams, min_size=2, unique=True), data=st.data())
    def append_to_several_of_which_one_has_moved(self, chosen, data):
        moved = data.draw(st.sampled_from(chosen))
        self.refuse(*(self.write(s, self.version(s) + (s == moved), 1) for s in chosen))

    @precondition(lambda self: self.appends)
    @rule(data=st.data())
    def append_the_same_again(self, data):
        done = data.draw(st.sampled_from(self.appends))
        position = append(self.store, *done.writes, by=done.context)
        assert position == done.position

    @precondition(lambda self: self.appends)
    @rule(data=st.data())
    def append_the_same_by_another_command(self, data):
        done = data.draw(st.sampled_from(self.appends))
        self.refuse(*done.writes)

    @rule(stream=streams, data=st.data())
    def read_the_past(self, stream, data):
        bound = data.draw(st.integers(0, self.head() + 1))
        past = [k for k in self.log if k.stream == stream and k.position <= bound]
        assert [kept(r) for r in self.store.read(stream, up_to=bound)] == past

    @rule(limit=st.integers(1, 7), data=st.data())
    def page_through(self, limit, data):
        bound = data.draw(st.integers(0, self.head() + 1))
        after, found = 0, []
        while page := self.store.read_all(after=after, limit=limit, up_to=bound):
            assert len(page) <= limit
            found += page
            after = page[-1].position
        assert [kept(r) for r in found] == [k for k in self.log if k.position <= bound]

    @rule(hours=st.integers(-1000, 1000))
    def set_the_clock(self, hours):
        self.clock.at = WHEN + timedelta(hours=hours)

    @rule()
    def open_again_or_not(self):
        self.store = self.open_again()
        self.check()

    @rule()
    def check(self):
        found = self.store.read_all(limit=10_000)
        assert [kept(r) for r in found] == self.log
        times = [r.recorded_at for r in found]
        assert times == sorted(times)
        assert self.store.head() == self.head()
        assert list(self.store.faults()) == []

    def head(self) -> int:
        return self.log[-1].position if self.log else 0

    def teardown(self):
        if hasattr(self, "store"):
            self.check()
            self.store.close()


def numbered(write: Write) -> Any:
    return enumerate(write.events, start=1)


def kept(recorded: Any) -> Kept:
    return Kept(
        recorded.position,
        recorded.stream,
        recorded.version,
        recorded.event,
        recorded.context,
    )
