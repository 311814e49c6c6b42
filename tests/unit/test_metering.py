"""Whichever worker is asked answers for all, and no total ever goes back."""

import logging
import threading
from uuid import uuid4

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from arena_core.adapters.presence.memory import MemoryPresence
from arena_core.adapters.telemetry.memory import MemoryScoreboard
from arena_core.application import metering
from arena_core.application.metering import Metering
from arena_core.application.readings import ProcessReading, Reading, Work
from arena_core.application.telemetry import Telemetry
from arena_core.domain.errors import Flaw, Unavailable
from arena_core.domain.ids import WorkerId


@define(eq=False)
class Worker:
    """A process that counts, on the presence and the scoreboard that it shares."""

    presence: MemoryPresence
    scoreboard: MemoryScoreboard
    id: WorkerId = field(factory=lambda: WorkerId(uuid4()))
    telemetry: Telemetry = field(factory=Telemetry)
    metering: Metering = field(init=False)

    def __attrs_post_init__(self):
        self.metering = Metering(
            self.telemetry,
            self.scoreboard,
            self.presence,
            self.id,
            lambda: ProcessReading(1, 100.0),
            set_aside=lambda: {Work.STAGE: 1, Work.TRAINING: 2},
        )

    def start(self) -> "Worker":
        self.presence.announce(self.id)
        self.metering.start()
        return self

    def count(self, times: int = 1) -> None:
        for _ in range(times):
            self.telemetry.refused(Flaw.MISSING)

    def total(self) -> int:
        return refused(self.metering.reading()[0])

    def stop(self) -> None:
        self.metering.stop()
        self.presence.withdraw(self.id)

    def kill(self) -> None:
        """End as kill -9 does: nothing is posted any more, the presence is gone."""
        self.metering._scoreboard = MemoryScoreboard()
        self.stop()


def refused(reading: Reading) -> int:
    return sum(reading.refused.values())


@pytest.fixture
def workers():
    """Return what starts workers of one store."""
    presence, scoreboard, started = MemoryPresence(), MemoryScoreboard(), []

    def start() -> Worker:
        started.append(Worker(presence, scoreboard).start())
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


def test_a_worker_alone_tells_its_own_figures(workers):
    worker = workers()
    worker.count(3)
    reading, alive = worker.metering.reading()
    assert (refused(reading), alive) == (3, 1)
    assert reading.process == ProcessReading(1, 100.0)


def test_what_is_not_served_is_told_but_not_posted():
    worker = Worker(MemoryPresence(), MemoryScoreboard())
    worker.count(2)
    assert worker.total() == 2
    assert worker.scoreboard.look().by_worker == {}
    worker.metering.stop()


def test_each_worker_answers_for_all(workers):
    ada, bob = workers(), workers()
    ada.count(3)
    assert ada.total() == 3
    bob.count(4)
    assert bob.total() == 7
    assert ada.total() == 7
    reading, alive = ada.metering.reading()
    assert (alive, reading.process) == (2, ProcessReading(2, 200.0))


def test_what_is_set_aside_is_added_up_over_the_workers_that_are_alive(workers):
    ada, bob = workers(), workers()
    assert bob.metering.set_aside() == 3
    reading, _ = bob.metering.reading()
    assert reading.set_aside == {Work.STAGE: 1, Work.TRAINING: 2}
    ada.metering.reading()
    reading, _ = bob.metering.reading()
    assert reading.set_aside == {Work.STAGE: 2, Work.TRAINING: 4}
    ada.kill()
    reading, _ = bob.metering.reading()
    assert reading.set_aside == {Work.STAGE: 1, Work.TRAINING: 2}


def test_what_a_killed_worker_had_counted_remains_and_what_it_held_does_not(workers):
    ada, bob = workers(), workers()
    ada.count(3)
    assert ada.total() == 3
    assert bob.total() == 3
    ada.count(5)
    ada.kill()
    for _ in range(2):
        reading, alive = bob.metering.reading()
        assert (refused(reading), alive) == (3, 1), "the last second is lost"
        assert reading.process == ProcessReading(2, 100.0)
    assert bob.scoreboard.look().by_worker.keys() == {bob.id}


def test_a_worker_that_stops_posts_its_last_figures(workers):
    ada, bob = workers(), workers()
    ada.count(3)
    ada.stop()
    assert bob.total() == 3


def test_who_comes_when_nobody_is_alive_begins_anew(workers):
    ada = workers()
    ada.count(3)
    assert ada.total() == 3
    ada.kill()
    assert workers().total() == 0


def test_who_comes_while_another_is_alive_goes_on(workers):
    ada, bob = workers(), workers()
    ada.count(3)
    assert (ada.total(), bob.total()) == (3, 3)
    ada.kill()
    eve = workers()
    assert eve.total() == 3
    bob.kill()
    assert workers().total() == 3


MOVES = st.lists(
    st.tuples(st.sampled_from(["count", "ask", "kill", "replace"]), st.integers(0, 2)),
    max_size=30,
)


@given(MOVES)
def test_no_total_goes_back_whoever_is_asked_and_whoever_is_killed(moves):
    presence, scoreboard = MemoryPresence(), MemoryScoreboard()
    team = [Worker(presence, scoreboard) for _ in range(3)]
    told = counted = 0
    for worker in team:
        presence.announce(worker.id)
        # Its thread would post by the clock: here it posts when it is asked.
        worker.metering._thread = threading.current_thread()
    for move, number in moves:
        worker = team[number]
        if move == "count":
            worker.count()
            counted += 1
        elif move == "ask":
            total = worker.total()
            assert told <= total <= counted
            told = total
        elif move == "kill" or worker is not team[0]:
            presence.withdraw(worker.id)
            team[number] = Worker(presence, scoreboard)
            presence.announce(team[number].id)
            team[number].metering._thread = threading.current_thread()
    assert team[0].total() >= told


def test_readings_are_posted_again_and_again(workers, monkeypatch):
    monkeypatch.setattr(metering, "POST_S", 0.001)
    ada, posted = workers(), threading.Event()
    ada.count()
    seen = []

    def post(worker, reading):
        seen.append((worker, refused(reading)))
        if len(seen) >= 3:
            posted.set()

    ada.scoreboard.post = post
    assert posted.wait(timeout=60)
    assert set(seen) == {(ada.id, 1)}


def test_a_scoreboard_that_fails_is_logged_and_tried_again(
    workers, monkeypatch, caplog
):
    monkeypatch.setattr(metering, "POST_S", 0.001)
    ada, tried = workers(), threading.Event()
    attempts = []

    def fail(worker, reading):
        attempts.append((worker, reading))
        if len(attempts) >= 3:
            tried.set()
        raise Unavailable("The disk is gone.")

    with caplog.at_level(logging.ERROR):
        ada.scoreboard.post = fail
        assert tried.wait(timeout=60)
        del ada.scoreboard.post
    assert "could not be posted" in caplog.text


def test_stopping_twice_is_harmless(workers):
    ada = workers()
    ada.metering.stop()
    ada.metering.stop()
