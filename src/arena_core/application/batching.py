"""Micro-batching: requests that wait for the same model are answered together.

There is no timer.  A model that is quick runs on the event loop, once for all requests
that have come in one turn of the loop.  A dearer one has a thread: what comes while it
runs waits, and is taken as one batch when it is free.  So nobody ever waits for others
to come, and the more there are the cheaper each is.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from attrs import define, frozen

from arena_core.application.inference import Answer
from arena_core.application.pace import Pace
from arena_core.domain.errors import ArenaError, DeadlineExceeded, Overloaded

log = logging.getLogger(__name__)

ON_THE_LOOP_S = 0.00015
"""The longest run that may hold up everything else that the event loop does."""
ALONE = 16
"""After so many turns with one request each, the next one does not wait for more."""
IDLE_S = 10.0
"""How long a thread that has nothing to do is kept."""
MOST_WAITING_ROWS = 65_536
CONFIDENCE = 0.8
"""Of the time that is left, how much a request may be expected to wait."""
LEARNING = 1.05
"""By how much what is expected changes with each run: so it goes to the median, and
one run that was disturbed means nothing."""

Work: TypeAlias = Callable[[Sequence[Any]], list[Answer]]
"""Answers several calls of one kind at once, and never raises an `ArenaError`."""


def nothing(calls: Sequence[Any]) -> list[Answer]:
    """Be the work of what has not been read yet."""
    raise AssertionError(calls)


@define(eq=False)
class Job:
    """One request that waits to be answered."""

    done: Callable[[Answer], None]
    """Called on the event loop."""
    deadline: float
    """By the clock of `time.perf_counter`: later it is not begun any more."""
    work: Work = nothing
    call: Any = None
    rows: int = 0
    is_wanted: bool = True
    """False once whoever asked has left."""


@frozen
class Ran:
    """What one run has answered."""

    answers: Sequence[tuple[Job, Answer]]
    seconds: float


class Batcher:
    """The queue of one model on one event loop; to be used on that loop only."""

    def __init__(
        self,
        pace: Pace,
        loop: asyncio.AbstractEventLoop,
        *,
        most_rows: int | None = None,
        on_run: Callable[[int, int, float], None] = lambda *_: None,
    ) -> None:
        """`most_rows`: of a batch, if not as many as pay.

        `on_run(rows, requests, seconds)` is called on the loop after each run.
        """
        self.waiting_rows = 0
        self._pace = pace
        self._loop = loop
        self._most_rows = most_rows or pace.most_rows
        self._on_run = on_run
        self._waiting: deque[Job] = deque()
        self._promised = 0
        self._is_due = False
        self._singles = 0
        self._busy_until: float | None = None
        self._slowness = 1.0
        self._thread = _Thread(loop)

    @property
    def waiting(self) -> int:
        """Return how many requests wait."""
        return len(self._waiting)

    def wait_s(self, now: float) -> float:
        """Return how long one who comes now can expect to wait before it is served."""
        left = 0.0 if self._busy_until is None else max(0.0, self._busy_until - now)
        whole, rest = divmod(self.waiting_rows + self._promised, self._most_rows)
        if whole:
            left += whole * self._expected_s(self._most_rows)
        return left + self._expected_s(rest) if rest else left

    def admit(self, now: float, deadline: float) -> None:
        """Promise to answer one more; it must be submitted, or withdrawn.

        Raises `Overloaded` for who would wait until it is too late.
        """
        waiting = self.waiting_rows + self._promised
        if self._busy_until is not None or waiting >= self._most_rows:
            wait_s = self.wait_s(now)
            is_full = waiting > MOST_WAITING_ROWS
            if is_full or wait_s > CONFIDENCE * (deadline - now):
                raise Overloaded(
                    "More is asked of this deployment than it can answer in time: try "
                    "again later, or with a longer deadline.",
                    retry_after_s=wait_s,
                )
        self._promised += 1

    def promise(self) -> None:
        """Promise to answer one more, whatever there is to do."""
        self._promised += 1

    def withdraw(self) -> None:
        """Take a promise back: who was admitted asks nothing after all."""
        self._promised -= 1

    def submit(self, job: Job) -> None:
        """Answer `job`, which was admitted, as soon as it is its turn."""
        self._promised -= 1
        self._waiting.append(job)
        self.waiting_rows += job.rows
        if self._is_due or self._busy_until is not None:
            return
        self._is_due = True
        self._loop.call_soon(self._turn)
        if self._singles >= ALONE:
            self._run_waiting()

    def _turn(self) -> None:
        """Answer what has come in this turn of the loop.

        While nobody comes in company, each is answered before the turn is over.
        """
        self._is_due = False
        if len(self._waiting) > 1 or (self._waiting and self._singles >= ALONE):
            self._singles = 0
        else:
            self._singles += 1
        self._run_waiting()

    def _run_waiting(self) -> None:
        while self._waiting and self._busy_until is None:
            jobs, rows = self._take()
            if not jobs:
                continue
            # By what was measured: in a thread a run takes longer, so that to go by
            # what the last ones took would keep it there.
            if self._pace.seconds(rows) <= ON_THE_LOOP_S:
                self._finish(rows, _run(jobs))
            else:
                self._busy_until = time.perf_counter() + self._expected_s(rows)
                self._thread.run(jobs, partial(self._free, rows))

    def _take(self) -> tuple[list[Job], int]:
        """Take as many jobs as pay in one run; those that come too late are told."""
        now = time.perf_counter()
        jobs: list[Job] = []
        rows = 0
        while self._waiting:
            job = self._waiting[0]
            if jobs and rows + job.rows > self._most_rows:
                break
            self._waiting.popleft()
            self.waiting_rows -= job.rows
            if not job.is_wanted:
                continue
            if job.deadline < now:
                job.done(DeadlineExceeded("The deadline was over before its turn."))
                continue
            jobs.append(job)
            rows += job.rows
        return jobs, rows

    def _free(self, rows: int, ran: Ran) -> None:
        self._busy_until = None
        self._run_waiting()  # first, so that the thread is not idle meanwhile
        self._finish(rows, ran)

    def _finish(self, rows: int, ran: Ran) -> None:
        is_slower = ran.seconds > self._expected_s(rows)
        self._slowness *= LEARNING if is_slower else 1 / LEARNING
        self._on_run(rows, len(ran.answers), ran.seconds)
        for job, answer in ran.answers:
            job.done(answer)

    def _expected_s(self, rows: int) -> float:
        return self._slowness * self._pace.seconds(rows)


def _run(jobs: Sequence[Job]) -> Ran:
    """Do the work of all jobs, those of one kind together."""
    begun = time.perf_counter()
    answers: list[tuple[Job, Answer]] = []
    for work, of_kind in _by_work(jobs):
        answers += zip(of_kind, _worked(work, of_kind), strict=True)
    return Ran(answers, time.perf_counter() - begun)


def _by_work(jobs: Sequence[Job]) -> Iterable[tuple[Work, Sequence[Job]]]:
    first = jobs[0].work
    if all(job.work is first for job in jobs):
        return [(first, jobs)]
    kinds: dict[int, list[Job]] = {}
    for job in jobs:
        kinds.setdefault(id(job.work), []).append(job)
    return [(of_kind[0].work, of_kind) for of_kind in kinds.values()]


def _worked(work: Work, jobs: Sequence[Job]) -> list[Answer]:
    try:
        return work([job.call for job in jobs])
    except Exception:
        log.exception("A defect in answering %d requests", len(jobs))
        # Whoever waits must be told, and the next must be served.
        return [Defect("The server could not do that; its log says why.")] * len(jobs)


class Defect(ArenaError):  # noqa: N818 -- what it is
    """What nobody has foreseen: the cause is for the log, not for callers."""


class _Thread:
    """Runs batches one after the other, in a thread that ends when it is idle."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: queue.SimpleQueue[
            tuple[Sequence[Job], Callable[[Ran], None]]
        ] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_alive = False

    def run(self, jobs: Sequence[Job], then: Callable[[Ran], None]) -> None:
        """Run `jobs`, and call `then` on the loop."""
        with self._lock:
            self._batches.put((jobs, then))
            if not self._is_alive:
                self._is_alive = True
                threading.Thread(
                    target=self._work, name="arena-batches", daemon=True
                ).start()

    def _work(self) -> None:
        while True:
            try:
                jobs, then = self._batches.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._batches.empty():
                        self._is_alive = False
                        return
                continue
            ran = _run(jobs)
            try:
                self._loop.call_soon_threadsafe(then, ran)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
