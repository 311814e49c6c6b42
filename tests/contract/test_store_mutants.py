"""Stores that break one promise each: the contract must notice every one.

A contract that nobody has tried to fool is a hope.
"""

import inspect
import operator
import time
from collections.abc import Callable
from itertools import count
from uuid import uuid4

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from arena_core.adapters import appending, frames
from arena_core.adapters.appending import Append
from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.application.ports import Write
from arena_core.domain.errors import ConcurrentWrite

from contract.event_store import EventStoreContract, SettableClock
from contract.event_store_machine import EventStoreMachine


class Honest(MemoryEventStore):
    """The memory store with its steps laid open, for others to break."""

    kind = Append

    def append(self, writes, *, context, occurred_at):
        append = self.kind.of(writes, context, occurred_at)
        with self._lent() as log:
            if append.is_empty:
                return log.head()
            position = append.to(log, self._clock())
            self._changed.notify_all()
            return position


class AcceptsHoles(Honest):
    class kind(Append):  # noqa: N801 -- takes the place of an attribute
        def _fits(self, versions):
            return all(versions[w.stream] <= w.expected for w in self._writes)


class AcceptsStaleWrites(Honest):
    def append(self, writes, *, context, occurred_at):
        try:
            return super().append(writes, context=context, occurred_at=occurred_at)
        except ConcurrentWrite:
            moved = [
                attrs.evolve(w, expected=max(w.expected, len(self.read(w.stream))))
                for w in writes
            ]
            return super().append(moved, context=context, occurred_at=occurred_at)


class AppendsStreamByStream(Honest):
    def append(self, writes, *, context, occurred_at):
        position = self.head()
        for write in writes:
            position = super().append([write], context=context, occurred_at=occurred_at)
        return position


class RepeatsWhatIsRepeated(Honest):
    class kind(Append):  # noqa: N801
        def _earlier(self, log):
            super()._earlier(log)
            again = [
                attrs.evolve(w, expected=log.row(w.stream).version)
                for w in self._writes
            ]
            anew = Append.of(again, self._context, self._occurred_at)
            return anew.to(log, appending.utc_now())


class RefusesWhatIsRepeated(Honest):
    class kind(Append):  # noqa: N801
        def _is(self, slot, row):
            del slot, row
            return False


class TakesAnyCommandForARepetition(Honest):
    class kind(Append):  # noqa: N801
        def _is(self, slot, row):
            return row.topic == slot.topic


class TakesAnyEventsForARepetition(Honest):
    class kind(Append):  # noqa: N801
        def _is(self, slot, row):
            return frames.metadata_of(row).event_id == self._event_id(slot)


class TakesHalfForARepetition(Honest):
    class kind(Append):  # noqa: N801
        def _earlier(self, log):
            first = attrs.evolve(self, slots=self._slots[:1])
            return Append._earlier(first, log)


class ChecksBeforeItLocks(Honest):
    def append(self, writes, *, context, occurred_at):
        if all(len(self.read(w.stream)) == w.expected for w in writes if w.events):
            time.sleep(0.05)
            writes = [
                attrs.evolve(w, expected=len(self.read(w.stream))) for w in writes
            ]
        return super().append(writes, context=context, occurred_at=occurred_at)


class FillsInLate(Honest):
    """Every fifth event is seen only after a later one has been."""

    def __init__(self, clock):
        super().__init__(clock)
        self.overtaken = set()

    def read_all(self, *, after=0, limit=500, up_to=None):
        found = super().read_all(after=after, limit=limit, up_to=up_to)
        late = {r.position for r in found[:-1] if r.position % 5 == 0} - self.overtaken
        self.overtaken |= late
        return [r for r in found if r.position not in late]


class UsesPositionsAgain(Honest):
    def read_all(self, *, after=0, limit=500, up_to=None):
        found = super().read_all(after=after, limit=limit, up_to=up_to)
        return [attrs.evolve(r, position=max(1, r.position - 1)) for r in found]


class SkipsOneBetweenPages(Honest):
    def read_all(self, *, after=0, limit=500, up_to=None):
        after += after > 0
        return super().read_all(after=after, limit=limit, up_to=up_to)


class LeavesOutTheBound(Honest):
    def read_all(self, *, after=0, limit=500, up_to=None):
        bound = None if up_to is None else up_to - 1
        return super().read_all(after=after, limit=limit, up_to=bound)


class ReadsBeyondTheBound(Honest):
    def read(self, stream, *, up_to=None):
        return super().read(stream, up_to=None if up_to is None else up_to + 1)


class ForgetsTheBoundOfAStream(Honest):
    def read(self, stream, *, up_to=None):
        del up_to
        return super().read(stream)


class RecordsTimesThatGoBack(Honest):
    class kind(Append):  # noqa: N801
        def _sealed(self, tails, recorded_at):
            del recorded_at
            return super()._sealed(tails, self._now)

        def to(self, log, now):
            self._now = now
            return super().to(log, now)

        __setattr__ = object.__setattr__


class ChainsNothing(Honest):
    class kind(Append):  # noqa: N801
        def _sealed(self, tails, recorded_at):
            return super()._sealed(dict.fromkeys(tails), recorded_at)


class NeverWaits(Honest):
    def head(self, *, beyond=-1, timeout_s=0.0):
        del beyond, timeout_s
        return super().head()


class IsNeverWoken(Honest):
    def head(self, *, beyond=-1, timeout_s=0.0):
        until = time.monotonic() + min(timeout_s, 2)
        if super().head() <= beyond:
            time.sleep(max(0, until - time.monotonic()))
        return super().head()


class LosesTheReason(Honest):
    def append(self, writes, *, context, occurred_at):
        context = attrs.evolve(context, reason=None)
        return super().append(writes, context=context, occurred_at=occurred_at)


class MixesUpTheCauses(Honest):
    def append(self, writes, *, context, occurred_at):
        context = attrs.evolve(context, correlation_id=context.causation_id or uuid4())
        return super().append(writes, context=context, occurred_at=occurred_at)


class RecordsNothingLongPast(Honest):
    def append(self, writes, *, context, occurred_at):
        if self.head():
            (newest,) = self.read_all(after=self.head() - 1)
            occurred_at = max(occurred_at, newest.occurred_at)
        return super().append(writes, context=context, occurred_at=occurred_at)


class ReturnsTheFirstPosition(Honest):
    def append(self, writes, *, context, occurred_at):
        before = self.head()
        position = super().append(writes, context=context, occurred_at=occurred_at)
        return min(position, before + 1) if position > before else position


class IgnoresWritesWithoutEvents(Honest):
    def append(self, writes, *, context, occurred_at):
        some = [write for write in writes if write.events]
        return super().append(some, context=context, occurred_at=occurred_at)


class HasNoLimits(Honest):
    class kind(Append):  # noqa: N801
        @classmethod
        def of(cls, writes, context, occurred_at):
            parts = [
                Append.of([Write(w.stream, n, [event])], context, occurred_at)
                for w in writes
                for n, event in zip(count(w.expected), w.events, strict=False)
            ]
            slots = [slot for part in parts for slot in part._slots]
            return cls(writes, slots, context, occurred_at)


C = EventStoreContract
KILLERS = {
    AcceptsHoles: C.test_an_append_ahead_of_the_stream_is_refused,
    AcceptsStaleWrites: C.test_an_append_behind_the_stream_is_refused,
    AppendsStreamByStream: C.test_of_several_streams_all_are_appended_or_none,
    RepeatsWhatIsRepeated: C.test_the_same_append_again_changes_nothing,
    RefusesWhatIsRepeated: C.test_the_same_append_again_changes_nothing,
    TakesAnyCommandForARepetition: (
        C.test_the_same_append_by_another_command_is_refused
    ),
    TakesAnyEventsForARepetition: C.test_the_same_command_with_other_events_is_refused,
    TakesHalfForARepetition: C.test_half_a_repetition_is_refused,
    ChecksBeforeItLocks: C.test_of_racing_writers_exactly_one_wins,
    FillsInLate: C.test_a_tailing_reader_misses_nothing,
    UsesPositionsAgain: C.test_positions_increase_over_all_streams,
    SkipsOneBetweenPages: C.test_pages_of_any_size_make_up_the_whole,
    LeavesOutTheBound: C.test_a_bound_shows_the_past,
    ReadsBeyondTheBound: C.test_a_bound_shows_the_past,
    ForgetsTheBoundOfAStream: C.test_a_bound_shows_the_past,
    RecordsTimesThatGoBack: C.test_recorded_times_never_go_back,
    ChainsNothing: C.test_an_honest_log_has_no_faults,
    NeverWaits: C.test_waiting_for_the_head_ends_in_time,
    IsNeverWoken: C.test_an_append_ends_the_wait_for_the_head,
    LosesTheReason: C.test_the_whole_envelope_reads_back,
    MixesUpTheCauses: C.test_the_whole_envelope_reads_back,
    RecordsNothingLongPast: C.test_occurred_times_are_kept_as_they_are,
    ReturnsTheFirstPosition: C.test_several_streams_are_appended_together,
    IgnoresWritesWithoutEvents: C.test_a_write_without_events_still_guards_its_stream,
    HasNoLimits: C.test_an_append_that_is_too_large_is_refused,
}
UNSEEN_BY_THE_MACHINE = {
    ChecksBeforeItLocks,  # it has one thread,
    NeverWaits,  # waits for nothing,
    IsNeverWoken,
    RecordsNothingLongPast,  # knows one time of occurrence,
    IgnoresWritesWithoutEvents,  # always writes some events,
    TakesAnyEventsForARepetition,  # all of one name
    TakesHalfForARepetition,  # and small, and repeats all of an append
    HasNoLimits,
}
DEATHS = (AssertionError, pytest.fail.Exception, ConcurrentWrite, TimeoutError)
"""What a failing test raises; anything else is a mistake in the mutant."""


by_name = operator.attrgetter("__name__")


def run(test: Callable[..., None], store: type[MemoryEventStore]) -> None:
    clock = SettableClock()
    given = {"self": C(), "clock": clock, "store": store(clock)}
    test(**{name: given[name] for name in inspect.signature(test).parameters})


@pytest.mark.parametrize("test", dict.fromkeys(KILLERS.values()), ids=by_name)
def test_an_honest_store_survives(test):
    run(test, Honest)


@pytest.mark.parametrize("mutant", KILLERS, ids=by_name)
def test_the_contract_kills(mutant, capsys):
    killer = KILLERS[mutant]
    with pytest.raises(DEATHS):
        run(killer, mutant)
    with capsys.disabled():
        print(f"\n{mutant.__name__}: {killer.__name__}", end="")  # noqa: T201


def test_no_mutant_is_forgotten():
    assert set(KILLERS) == set(Honest.__subclasses__())


def run_the_machine(store: type[MemoryEventStore]) -> None:
    class Machine(EventStoreMachine):
        def make(self):
            return store(self.clock)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


def test_the_machine_passes_an_honest_store():
    run_the_machine(Honest)


@pytest.mark.parametrize(
    "mutant",
    [mutant for mutant in KILLERS if mutant not in UNSEEN_BY_THE_MACHINE],
    ids=by_name,
)
def test_the_machine_kills(mutant):
    with pytest.raises(DEATHS):
        run_the_machine(mutant)
