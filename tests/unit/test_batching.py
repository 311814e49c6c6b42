"""Micro-batching on a real event loop, with no timer anywhere."""

import asyncio
import json
import logging
import queue
import threading
from functools import partial
from operator import itemgetter
from types import SimpleNamespace

import numpy as np
import pytest
from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arena_core.application import batching
from arena_core.application.batching import (
    ALONE,
    CONFIDENCE,
    LEARNING,
    MOST_WAITING_ROWS,
    ON_THE_LOOP_S,
    Batcher,
    Defect,
    Job,
    nothing,
)
from arena_core.application.inference import GET_ACTION, GREEDY, get_action, unwatched
from arena_core.application.models import SINGLE
from arena_core.application.pace import Pace
from arena_core.application.plain_rows import PlainRows
from arena_core.domain.errors import DeadlineExceeded, Overloaded, Rejected
from unit.calls import encoded
from unit.exact_models import exact

QUICK = Pace(fixed_s=0.0, row_s=0.0, most_rows=8)
"""Always run on the loop."""
DEAR = Pace(fixed_s=1.0, row_s=0.0, most_rows=8)
"""Always run in a thread."""
NEVER = float("inf")


def turned(loop):
    """Let the loop go round once."""
    loop.call_soon(loop.stop)
    loop.run_forever()


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Desk:
    """Asks a batcher, and notes who was answered what, and in which runs."""

    def __init__(self, loop, pace=QUICK, **more):
        self.loop = loop
        self.answers = []
        """(who, answer), in the order in which they were told."""
        self.runs = []
        """What went together, run by run."""
        self.told = []
        """What `on_run` was called with: rows, requests."""
        self.work = self._work
        """Kept, for a bound method is another object each time."""
        self.batcher = Batcher(
            pace, loop, on_run=lambda *ran: self.told.append(ran[:2]), **more
        )

    def _work(self, calls):
        self.runs.append(list(calls))
        return [str(call).encode() for call in calls]

    def ask(self, who, *, work=None, call=None, **more):
        said = {"deadline": NEVER, "rows": 1} | more
        job = Job(
            lambda answer: self.answers.append((who, answer)),
            work=work or self.work,
            call=who if call is None else call,
            **said,
        )
        self.batcher.promise()
        self.batcher.submit(job)
        return job

    def wait(self, count):
        """Let the loop go round until so many were answered."""
        while len(self.answers) < count:
            turned(self.loop)

    @property
    def who(self):
        return [who for who, _ in self.answers]


class Gate:
    """Work that waits, in whatever thread it is done, until it is let go."""

    def __init__(self, desk):
        self.desk = desk
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.threads = []

    def __call__(self, calls):
        self.threads.append(threading.current_thread())
        self.begun.release()
        self.go.acquire()
        return self.desk.work(calls)


class Clock:
    """A clock of which time is told by whoever works."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(
        batching, "time", SimpleNamespace(perf_counter=clock.perf_counter)
    )
    return clock


# --- alone, and in company -----------------------------------------------------------


def test_who_comes_alone_is_answered_before_the_next_turn_is_over(loop):
    desk = Desk(loop)
    desk.ask("a")
    assert desk.answers == []
    turned(loop)
    assert desk.answers == [("a", b"a")]


def test_those_who_come_in_one_turn_are_answered_by_one_run_in_their_order(loop):
    desk = Desk(loop)
    for who in "abc":
        desk.ask(who)
    turned(loop)
    assert desk.runs == [["a", "b", "c"]]
    assert desk.answers == [("a", b"a"), ("b", b"b"), ("c", b"c")]
    assert desk.told == [(3, 3)]


def test_after_enough_single_turns_one_is_answered_at_once(loop):
    desk = Desk(loop)
    for who in range(ALONE):
        desk.ask(who)
        assert len(desk.answers) == who
        turned(loop)
    desk.ask("at once")
    assert desk.who[-1] == "at once"


def test_company_ends_answering_at_once_until_it_is_quiet_again(loop):
    desk = Desk(loop)
    for who in range(ALONE):
        desk.ask(who)
        turned(loop)
    for who in "abc":
        desk.ask(who)
    assert desk.who[ALONE:] == ["a"]
    turned(loop)
    assert desk.runs[-1] == ["b", "c"]
    for who in range(ALONE):
        desk.ask(who)
        assert desk.who[-1] != who
        turned(loop)
    desk.ask("at once")
    assert desk.who[-1] == "at once"


def test_company_before_that_begins_the_counting_anew(loop):
    desk = Desk(loop)
    for _ in range(ALONE - 1):
        desk.ask("single")
        turned(loop)
    desk.ask("two")
    desk.ask("of them")
    turned(loop)
    for _ in range(ALONE):
        before = len(desk.answers)
        desk.ask("single")
        assert len(desk.answers) == before
        turned(loop)


def test_a_turn_of_who_was_answered_at_once_and_one_more_is_company(loop):
    desk = Desk(loop)
    for who in range(ALONE):
        desk.ask(who)
        turned(loop)
    desk.ask("a")
    desk.ask("b")
    turned(loop)
    desk.ask("c")
    assert desk.who[-1] == "b"


def test_a_batch_has_no_more_rows_than_pay(loop):
    desk = Desk(loop)
    for who, rows in enumerate([3, 4, 1, 8, 1, 20, 2]):
        desk.ask(who, rows=rows)
    turned(loop)
    assert desk.runs == [[0, 1, 2], [3], [4], [5], [6]]
    assert desk.told == [(8, 3), (8, 1), (1, 1), (20, 1), (2, 1)]
    assert desk.batcher.waiting_rows == desk.batcher.waiting == 0


def test_a_batch_has_no_more_rows_than_is_said(loop):
    desk = Desk(loop, most_rows=2)
    for who in range(5):
        desk.ask(who)
    turned(loop)
    assert desk.runs == [[0, 1], [2, 3], [4]]


def test_what_is_of_one_kind_is_worked_on_together_and_in_order(loop):
    desk = Desk(loop)
    other_runs = []

    def other(calls):
        other_runs.append(list(calls))
        return [b"other"] * len(calls)

    for who, work in enumerate([None, other, None, other, other]):
        desk.ask(who, work=work or desk.work)
    turned(loop)
    assert sorted(desk.who) == [0, 1, 2, 3, 4]
    assert other_runs == [[1, 3, 4]]
    assert dict(desk.answers)[3] == b"other"
    assert desk.told == [(5, 5)]


def test_who_asks_again_as_it_is_answered_is_answered_too(loop):
    """A client sends its next request as soon as it has an answer."""
    desk = Desk(loop)
    left = list(range(3 * ALONE))

    def ask_again(answer):
        desk.answers.append(answer)
        if left:
            job = Job(ask_again, NEVER, desk.work, left.pop(), rows=1)
            desk.batcher.promise()
            desk.batcher.submit(job)

    ask_again(b"begun")
    desk.wait(3 * ALONE + 1)
    assert [run for run in desk.runs if len(run) != 1] == []
    assert len(desk.runs) == 3 * ALONE


# --- a thread for what is dear -------------------------------------------------------


def test_a_dear_model_runs_in_a_thread_and_the_loop_goes_on(loop):
    desk = Desk(loop, DEAR)
    gate = Gate(desk)
    desk.ask("a", work=gate)
    turned(loop)
    gate.begun.acquire()
    for _ in range(20):
        turned(loop)  # it would hang here if the work were done on the loop
    assert desk.answers == []
    gate.go.release()
    desk.wait(1)
    assert desk.answers == [("a", b"a")]
    assert gate.threads[0] is not threading.main_thread()


def test_what_comes_meanwhile_goes_as_one_batch_bounded_by_its_rows(loop):
    desk = Desk(loop, DEAR)
    gate = Gate(desk)
    desk.ask("first", work=gate)
    turned(loop)
    gate.begun.acquire()
    for who in range(11):
        desk.ask(who, work=gate)
        turned(loop)
    assert desk.batcher.waiting == desk.batcher.waiting_rows == 11
    for _ in range(3):
        gate.go.release()
    desk.wait(12)
    assert desk.runs == [["first"], list(range(8)), [8, 9, 10]]
    assert desk.who == ["first", *range(11)]
    assert desk.told == [(1, 1), (8, 8), (3, 3)]


def test_one_thread_works_and_one_batch_at_a_time(loop):
    desk = Desk(loop, DEAR)
    gate = Gate(desk)
    for who in range(20):
        desk.ask(who, work=gate)
    turned(loop)
    for answered in (8, 16, 20):
        gate.begun.acquire()
        assert not gate.begun.acquire(blocking=False)
        gate.go.release()
        desk.wait(answered)
    assert len(set(gate.threads)) == 1


def test_a_dear_model_begins_at_once_where_nobody_comes_in_company(loop):
    desk = Desk(loop, DEAR)
    for who in range(ALONE):
        desk.ask(who)
        desk.wait(who + 1)
    gate = Gate(desk)
    desk.ask("at once", work=gate)
    gate.begun.acquire()
    turned(loop)  # its turn is over, though it is still being answered
    desk.ask("later", work=gate)
    turned(loop)
    assert desk.batcher.waiting == 1
    gate.go.release(2)
    desk.wait(ALONE + 2)
    assert desk.runs[-2:] == [["at once"], ["later"]]


def test_a_turn_that_comes_while_a_batch_runs_leaves_who_waits_alone(loop):
    desk = Desk(loop, DEAR)
    for who in range(ALONE):
        desk.ask(who)
        desk.wait(who + 1)
    gate = Gate(desk)
    desk.ask("at once", work=gate)
    desk.ask("same turn", work=gate)
    gate.begun.acquire()
    turned(loop)
    assert desk.batcher.waiting == 1
    assert not gate.begun.acquire(blocking=False)
    gate.go.release(2)
    desk.wait(ALONE + 2)


def batch_threads():
    return [t for t in threading.enumerate() if t.name == "arena-batches"]


def test_a_thread_that_is_idle_ends_and_another_comes_when_there_is_work(
    loop, monkeypatch
):
    monkeypatch.setattr(batching, "IDLE_S", 0.001)
    desk, threads = Desk(loop, DEAR), []

    def work(calls):
        threads.append(threading.current_thread())
        return desk.work(calls)

    for who in "ab":
        desk.ask(who, work=work)
        desk.wait(len(threads) + 1 if who == "a" else 2)
        threads[-1].join()
    assert desk.who == ["a", "b"]
    first, second = threads
    assert first is not second


class LateQueue(queue.SimpleQueue):
    """A queue that finds nothing in time, when something has just come."""

    def __init__(self):
        super().__init__()
        self.was_late = False

    def get(self, block=True, timeout=None):
        if not self.was_late:
            self.was_late = True
            raise queue.Empty
        return super().get(block, timeout)


def test_what_comes_as_the_thread_is_about_to_end_is_done_by_it(loop):
    desk = Desk(loop, DEAR)
    late = desk.batcher._thread._batches = LateQueue()
    desk.ask("a")
    desk.wait(1)
    assert late.was_late
    assert desk.answers == [("a", b"a")]


def test_a_loop_that_closes_while_a_batch_runs_ends_the_thread(loop):
    desk = Desk(loop, DEAR)
    gate = Gate(desk)
    desk.ask("a", work=gate)
    turned(loop)
    gate.begun.acquire()
    loop.close()
    gate.go.release()
    gate.threads[0].join()
    assert desk.runs == [["a"]]
    assert desk.answers == []


# --- deadlines, and who has left -----------------------------------------------------


def test_who_comes_to_its_turn_too_late_is_told_and_nothing_is_run(loop, clock):
    desk = Desk(loop)
    desk.ask("late", deadline=clock.now - 0.001)
    desk.ask("in time", deadline=clock.now)
    turned(loop)
    assert [type(answer) for _, answer in desk.answers] == [DeadlineExceeded, bytes]
    assert desk.runs == [["in time"]]
    assert desk.told == [(1, 1)]


def test_a_deadline_that_passes_while_others_are_answered_is_told(loop, clock):
    desk = Desk(loop, most_rows=1)

    def slow(calls):
        clock.now += 1.0
        return desk.work(calls)

    for who in "abc":
        desk.ask(who, work=slow, deadline=clock.now + 1.5)
    turned(loop)
    assert desk.runs == [["a"], ["b"]]
    assert [type(answer) for _, answer in desk.answers] == [
        bytes, bytes, DeadlineExceeded
    ]  # fmt: skip


def test_nothing_is_run_for_who_has_left(loop):
    desk = Desk(loop)
    desk.ask("left", is_wanted=False)
    desk.ask("stays")
    leaves = desk.ask("leaves")
    leaves.is_wanted = False
    turned(loop)
    assert desk.runs == [["stays"]]
    assert desk.who == ["stays"]
    assert desk.batcher.waiting == desk.batcher.waiting_rows == 0


def test_nothing_is_run_where_all_have_left(loop):
    desk = Desk(loop)
    for who in range(3):
        desk.ask(who, is_wanted=False)
    turned(loop)
    assert (desk.runs, desk.answers, desk.told) == ([], [], [])


# --- who is let in -------------------------------------------------------------------


@pytest.fixture
def busy(loop, clock):
    """A desk whose thread runs a batch, of which a second is left."""
    del clock  # it stands still
    desk = Desk(loop, DEAR)
    gate = Gate(desk)
    desk.ask("first", work=gate)
    turned(loop)
    gate.begun.acquire()
    yield desk
    gate.go.release()
    desk.wait(1)


def test_who_would_wait_too_long_is_told_how_long_and_who_has_time_is_let_in(
    busy, clock
):
    batcher, now = busy.batcher, clock.now
    batcher.admit(now, NEVER)
    assert batcher.wait_s(now) == 2.0
    with pytest.raises(Overloaded) as caught:
        batcher.admit(now, now + 2.0 / CONFIDENCE * 0.99)
    assert caught.value.retry_after_s == 2.0
    assert "try again later" in str(caught.value)
    batcher.admit(now, now + 2.0 / CONFIDENCE * 1.01)
    assert batcher.wait_s(now) == 2.0  # they go together


def test_who_would_wait_too_long_for_a_run_is_refused_though_nobody_else_waits(
    busy, clock
):
    batcher = busy.batcher
    left_s = batcher.wait_s(clock.now)
    assert left_s > 0
    with pytest.raises(Overloaded) as caught:
        batcher.admit(clock.now, clock.now + left_s)
    assert caught.value.retry_after_s == left_s
    batcher.admit(clock.now, clock.now + 2 * left_s)


def test_while_nothing_runs_one_batch_is_let_in_and_no_more(loop):
    batcher = Batcher(DEAR, loop)
    for _ in range(DEAR.most_rows):
        batcher.admit(0.0, 0.0)
    with pytest.raises(Overloaded) as caught:
        batcher.admit(0.0, 0.0)
    assert caught.value.retry_after_s == 1.0
    batcher.admit(0.0, 1.0 / CONFIDENCE)


def test_who_waits_for_a_batch_that_runs_waits_for_the_rest_of_it(loop, clock):
    desk = Desk(loop, DEAR)
    gate = Gate(desk)
    desk.ask("a", work=gate)
    turned(loop)
    gate.begun.acquire()
    batcher = desk.batcher
    assert batcher.wait_s(clock.now) == 1.0
    assert batcher.wait_s(clock.now + 0.75) == 0.25
    assert batcher.wait_s(clock.now + 5) == 0.0
    for _ in range(9):
        batcher.promise()
    assert batcher.wait_s(clock.now) == 3.0  # the rest, a full batch, and one more
    for _ in range(8):
        batcher.promise()
    assert batcher.wait_s(clock.now) == 4.0
    gate.go.release()
    desk.wait(1)


def test_no_more_rows_wait_than_there_is_room_for(loop):
    desk = Desk(loop)
    desk.ask("many", rows=MOST_WAITING_ROWS)
    desk.batcher.admit(0.0, NEVER)
    desk.batcher.withdraw()
    desk.batcher.admit(0.0, NEVER)
    with pytest.raises(Overloaded) as caught:
        desk.batcher.admit(0.0, NEVER)
    assert caught.value.retry_after_s == 0.0
    turned(loop)
    desk.batcher.admit(0.0, NEVER)


MOST_ROWS = 4


class Promises(RuleBasedStateMachine):
    """What is promised and what waits, against a list."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.desk = Desk(self.loop, Pace(0.0, 0.0, MOST_ROWS))
        self.batcher = self.desk.batcher
        self.promised = 0
        self.waiting = []
        self.asked = []

    def teardown(self):
        turned(self.loop)
        assert len(self.desk.answers) == len(self.asked)
        self.loop.close()

    @rule()
    def admit(self):
        self.batcher.admit(0.0, NEVER)
        self.promised += 1

    @rule()
    def admit_who_has_no_time(self):
        """Nothing takes time here, so that only who is late already is refused."""
        rows = sum(rows for _, rows in self.waiting)
        if self.promised + rows >= MOST_ROWS:
            with pytest.raises(Overloaded) as refused:
                self.batcher.admit(1.0, 0.0)
            assert refused.value.retry_after_s >= 0.0
        else:
            self.batcher.admit(1.0, 0.0)
            self.promised += 1

    @rule()
    def promise(self):
        self.batcher.promise()
        self.promised += 1

    @precondition(lambda self: self.promised)
    @rule()
    def withdraw(self):
        self.batcher.withdraw()
        self.promised -= 1

    @precondition(lambda self: self.promised)
    @rule(rows=st.integers(1, 9))
    def submit(self, rows):
        who = len(self.asked)
        job = Job(
            lambda answer: self.desk.answers.append((who, answer)),
            NEVER,
            self.desk.work,
            who,
            rows,
        )
        self.batcher.submit(job)
        self.promised -= 1
        self.asked.append(who)
        self.waiting.append((who, rows))
        if self.desk.who[-1:] == [who]:
            self.waiting.clear()  # it came alone for so long that it was answered

    @rule()
    def turn(self):
        turned(self.loop)
        self.waiting.clear()

    @invariant()
    def what_waits_is_the_list(self):
        assert self.batcher.waiting == len(self.waiting)
        assert self.batcher.waiting_rows == sum(rows for _, rows in self.waiting)

    @invariant()
    def what_is_promised_is_never_negative_and_is_counted(self):
        assert self.batcher._promised == self.promised >= 0

    @invariant()
    def all_others_were_answered_in_their_order(self):
        waiting = [who for who, _ in self.waiting]
        assert self.desk.who + waiting == self.asked


TestPromises = Promises.TestCase


# --- what goes wrong -----------------------------------------------------------------


def test_a_defect_is_told_to_all_and_the_next_are_served(loop, caplog):
    desk = Desk(loop)

    def broken(calls):
        raise ZeroDivisionError(calls)

    desk.ask("a", work=broken)
    desk.ask("b", work=broken)
    desk.ask("c")
    with caplog.at_level(logging.ERROR):
        turned(loop)
    assert [(who, type(answer)) for who, answer in desk.answers] == [
        ("a", Defect), ("b", Defect), ("c", bytes)
    ]  # fmt: skip
    assert "its log says why" in str(desk.answers[0][1])
    assert "ZeroDivisionError" in caplog.text
    desk.ask("d")
    turned(loop)
    assert desk.answers[-1] == ("d", b"d")


def test_a_defect_in_the_thread_is_told_and_the_thread_lives_on(loop, caplog):
    desk, threads = Desk(loop, DEAR), []

    def broken(calls):
        threads.append(threading.current_thread())
        raise ZeroDivisionError(calls)

    for count in (1, 2):
        desk.ask("a", work=broken)
        with caplog.at_level(logging.CRITICAL, logger=batching.log.name):
            desk.wait(count)
    assert all(isinstance(answer, Defect) for _, answer in desk.answers)
    assert threads[0] is threads[1]


def test_what_was_never_read_has_no_work():
    with pytest.raises(AssertionError):
        nothing(["call"])
    assert Job(print, NEVER).work is nothing


# --- how long it takes ---------------------------------------------------------------


def slowed(loop, clock, pace, durations, **more):
    """Run once for each of `durations`; return the batcher."""
    desk = Desk(loop, pace, **more)
    for who, seconds in enumerate(durations):

        def work(calls, seconds=seconds):
            clock.now += seconds
            return [b""] * len(calls)

        desk.ask(who, work=work)
        desk.wait(who + 1)
    return desk.batcher


def expected_s(batcher):
    """Return how long a run of one row is expected to take."""
    batcher.promise()
    try:
        return batcher.wait_s(0.0)
    finally:
        batcher.withdraw()


@pytest.mark.parametrize("truth", [2e-5, 1e-4, 2e-4])
def test_what_is_expected_comes_near_what_is_true(loop, clock, truth):
    batcher = slowed(loop, clock, Pace(1e-4, 0.0, 8), [truth] * 100)
    assert truth / LEARNING**2 <= expected_s(batcher) <= truth * LEARNING**2


def test_one_run_that_was_disturbed_changes_next_to_nothing(loop, clock):
    calm = slowed(loop, clock, Pace(1e-4, 0.0, 8), [1e-4] * 50)
    disturbed = slowed(loop, clock, Pace(1e-4, 0.0, 8), [1e-4] * 50 + [60.0])
    ratio = expected_s(disturbed) / expected_s(calm)
    assert 1 / LEARNING**2 < ratio < LEARNING**2


def test_what_is_expected_goes_to_the_median(loop, clock):
    """The mean of these is 100 times as much."""
    durations = [1e-4, 1e-4, 5e-5, 3e-2] * 100
    batcher = slowed(loop, clock, Pace(1e-4, 0.0, 8), durations)
    assert 5e-5 / LEARNING**3 <= expected_s(batcher) <= 1e-4 * LEARNING**3


def test_where_it_runs_goes_by_what_was_measured_and_not_by_what_it_took_since(
    loop, clock
):
    for fixed, is_on_loop in ((ON_THE_LOOP_S, True), (ON_THE_LOOP_S * 1.01, False)):
        desk, threads = Desk(loop, Pace(fixed, 0.0, 8)), []

        def work(calls, desk=desk, threads=threads):
            threads.append(threading.current_thread())
            clock.now += 0.0 if len(threads) < 50 else 1.0
            return desk.work(calls)

        for who in range(100):
            desk.ask(who, work=work)
            desk.wait(who + 1)
        on_loop = {thread is threading.main_thread() for thread in threads}
        assert on_loop == {is_on_loop}


def test_a_batch_that_is_long_by_its_rows_goes_to_the_thread(loop):
    desk, threads = Desk(loop, Pace(0.0, ON_THE_LOOP_S / 4, 8)), []

    def work(calls):
        threads.append(threading.current_thread())
        return desk.work(calls)

    for count, is_on_loop in ((4, True), (5, False)):
        before = len(desk.answers)
        for who in range(count):
            desk.ask(who, work=work)
        desk.wait(before + count)
        assert (threads[-1] is threading.main_thread()) == is_on_loop


def test_each_run_is_told_with_its_rows_its_requests_and_its_time(loop, clock):
    ran = []
    batcher = Batcher(QUICK, loop, on_run=lambda *said: ran.append(said))

    def work(calls):
        clock.now += 0.5
        return [b""] * len(calls)

    for rows in (2, 3):
        batcher.promise()
        batcher.submit(Job(lambda _: None, NEVER, work, None, rows))
    turned(loop)
    assert ran == [(5, 2, 0.5)]


# --- with real models ----------------------------------------------------------------


class Gated:
    """A runtime that waits before each run until it is let go."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.rows = []

    def __getattr__(self, name):
        return getattr(self.runtime, name)

    def run(self, inputs):
        self.begun.release()
        self.go.acquire()
        self.rows.append(len(inputs["obs"]))
        return self.runtime.run(inputs)


def observed(count):
    """Return observations of one row, no two alike."""
    rows = np.arange(count * 4, dtype="f4").reshape(count, 1, 4)
    return rows % 17 - rows % 5


def asked_of(model, obs):
    """Return the work of plain and of general requests, and a call for each row."""
    plain = PlainRows.of(model)
    bodies = [json.dumps(encoded({"obs": row})).encode() for row in obs]
    generally = partial(GET_ACTION.answer, model, watch=unwatched)
    plainly = partial(plain.answer, watch=unwatched)
    return [
        (plainly, plain.read(body))
        if place % 3
        else (generally, GET_ACTION.read(model, body, GREEDY, None))
        for place, body in enumerate(bodies)
    ]


def alone(work, call):
    (answer,) = work([call])
    return answer


@pytest.mark.parametrize("pace", [None, QUICK, DEAR])
@pytest.mark.parametrize("action", ["discrete", "parts", "plane"])
def test_each_of_many_is_answered_with_what_it_would_be_alone(loop, pace, action):
    model = exact(action)
    asked = asked_of(model, observed(200))
    expected = [alone(work, call) for work, call in asked]
    assert len(set(expected)) > 1
    desk = Desk(loop, pace or model.pace)
    for who, (work, call) in enumerate(asked):
        desk.ask(who, work=work, call=call, rows=call.rows)
        if who % 7 == 0:
            turned(loop)
    desk.wait(200)
    answers = dict(desk.answers)
    assert [answers[who] for who in range(200)] == expected


def submit(desk, asked):
    for who, (work, call) in enumerate(asked):
        desk.ask(who, work=work, call=call, rows=call.rows)


def test_a_slow_model_blocks_nobody_and_what_waits_is_one_run_of_its_weights(loop):
    model = exact("discrete")
    runtime = Gated(model.single.runtime)
    single = evolve(model.single, runtime=runtime)
    slow = evolve(model, agents={SINGLE: single}, policies={"policy": single})
    bodies = [json.dumps(encoded({"obs": row})).encode() for row in observed(9)]
    plain = PlainRows.of(slow)
    plainly = partial(plain.answer, watch=unwatched)
    desk = Desk(loop, DEAR)
    desk.ask("first", work=plainly, call=plain.read(bodies[0]))
    turned(loop)
    runtime.begun.acquire()
    for body in bodies[1:]:
        desk.ask(body, work=plainly, call=plain.read(body))
        turned(loop)
    assert desk.answers == []
    runtime.go.release(2)
    desk.wait(9)
    assert runtime.rows == [1, 8]
    expected = [get_action(model, body) for body in bodies]
    assert [answer for _, answer in desk.answers] == expected


@pytest.mark.parametrize(("bad", "place"), [(np.nan, 4), (3e38, 4), (3e38, 3)])
def test_one_bad_request_in_a_batch_is_refused_and_the_others_are_answered(
    loop, bad, place
):
    model, rows = exact("discrete"), observed(7)
    expected = [alone(*one) for one in asked_of(model, rows)]
    rows[place] = bad
    desk = Desk(loop)
    submit(desk, asked_of(model, rows))
    turned(loop)
    answers = [answer for _, answer in sorted(desk.answers, key=itemgetter(0))]
    assert isinstance(answers[place], Rejected)
    assert answers[place].field == "obs"
    answers[place] = expected[place]
    assert answers == expected
