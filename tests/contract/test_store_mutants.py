"""Stores that break one promise each: the contract must notice every one.

A contract that nobody has tried to fool is a hope.
"""

import inspect
import time
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from uuid import uuid4

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from arena_core.adapters import appending, frames
from arena_core.adapters.appending import Append
from arena_core.adapters.stores.memory import MemoryEventStore
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
            late = [
                attrs.evolve(w, expected=min(w.expected, len(self.read(w.stream))))
                for w in writes
            ]
            late = [attrs.evolve(w, expected=len(self.read(w.stream))) for w in late]
            return super().append(late, context=context, occurred_at=occurred_at)


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


class LetsTwoWriteAtOnce(Honest):
    @contextmanager
    def _lent(self):
        yield self._log

    class kind(Append):  # noqa: N801
        def to(self, log, now):
            fits = self._fits(
                {
                    w.stream: getattr(log.row(w.stream), "version", 0)
                    for w in self._writes
                }
            )
            if not fits:
                return self._earlier(log)
            time.sleep(0.005)
            tails = {w.stream: None for w in self._writes}
            return log.insert(self._sealed(tails, now))


class FillsInLate(Honest):
    """Every fifth event is seen only after the next one."""

    def read_all(self, *, after=0, limit=500, up_to=None):
        head = self.head()
        found = super().read_all(after=after, limit=limit, up_to=up_to)
        return [r for r in found if r.position % 5 or head > r.position + 1]


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


class RecordsWhenInPlaceOfWhat(Honest):
    def append(self, writes, *, context, occurred_at):
        occurred_at = max(occurred_at, self._clock() - timedelta(days=1))
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
                Append.of(
                    [attrs.evolve(w, events=[e], expected=n)], context, occurred_at
                )
                for w in writes
                for n, e in zip(count(w.expected), w.events, strict=False)
            ]
            slots = [slot for part in parts for slot in part._slots]
            return cls(writes, slots, context, occurred_at)


MUTANTS = [cls for cls in Honest.__subclasses__()]
UNSEEN_BY_THE_MACHINE = {
    LetsTwoWriteAtOnce,  # one thread
    NeverWaits,  # no waiting
    IsNeverWoken,
    RecordsWhenInPlaceOfWhat,  # no occurred_at
    IgnoresWritesWithoutEvents,  # every write has events
    TakesAnyEventsForARepetition,  # all events are of one name
    TakesHalfForARepetition,  # repeats whole appends
    HasNoLimits,  # nothing large
}


def killers(mutant: type[MemoryEventStore]) -> str | None:
    """Return the name of the first test of the contract that fails."""
    contract = EventStoreContract()
    for name, test in inspect.getmembers(contract, inspect.ismethod):
        if name.startswith("test_") and not passes(test, mutant):
            return name
    return None


def passes(test, mutant: type[MemoryEventStore]) -> bool:
    clock = SettableClock()
    given = {"clock": clock, "store": mutant(clock)}
    try:
        test(**{name: given[name] for name in inspect.signature(test).parameters})
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 -- any failure kills
        return False
    return True


def test_the_contract_passes_an_honest_store():
    assert killers(Honest) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_contract_kills(mutant, capsys):
    killer = killers(mutant)
    assert killer is not None
    with capsys.disabled():
        print(f"\n{mutant.__name__}: {killer}", end="")  # noqa: T201


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
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


def test_the_machine_passes_an_honest_store():
    run_the_machine(Honest)


@pytest.mark.parametrize(
    "mutant",
    [mutant for mutant in MUTANTS if mutant not in UNSEEN_BY_THE_MACHINE],
    ids=lambda mutant: mutant.__name__,
)
def test_the_machine_kills(mutant):
    with pytest.raises((Exception, pytest.fail.Exception)):
        run_the_machine(mutant)
