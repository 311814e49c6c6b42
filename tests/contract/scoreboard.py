"""What every scoreboard promises."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from arena_core.application.readings import (
    NOTHING,
    AgentReading,
    AgentSeries,
    HistogramReading,
    HttpSeries,
    Posted,
    ProcessReading,
    Reading,
    Scoreboard,
    Work,
)
from arena_core.domain.errors import Flaw
from arena_core.domain.ids import AgentId, OrganisationId, WorkerId

SERIES = AgentSeries(OrganisationId("default"), AgentId(UUID(int=1)), "abc", "predict")


def a_worker() -> WorkerId:
    return WorkerId(uuid4())


def a_reading(times: int) -> Reading:
    """Return a reading with everything in it, `times` of each."""
    histogram = HistogramReading((times, 0, times), times)
    agent = AgentReading(
        (times, 0),
        histogram,
        histogram,
        histogram,
        times,
        times,
        {0: (times,), 3: (0, times)},
        times,
    )
    return Reading(
        ((SERIES, agent),),
        ((HttpSeries("GET", "/a/{id}", 200), histogram),),
        dict.fromkeys(Flaw, times),
        ProcessReading(times, times, times, times, times, float(times)),
        dict.fromkeys(Work, times),
    )


def counted(posted: Posted) -> int:
    """Return how many were counted, by whoever is there or has ended."""
    readings = [posted.ended, *posted.by_worker.values()]
    return sum(reading.refused.get(Flaw.MISSING, 0) for reading in readings)


class ScoreboardContract:
    @pytest.fixture
    def scoreboard(self) -> Scoreboard:
        raise NotImplementedError("the subclass makes the scoreboard")

    def test_nothing_is_posted_on_a_new_one(self, scoreboard):
        assert scoreboard.look() == Posted({}, NOTHING)

    def test_what_is_posted_is_seen_whole_under_its_worker(self, scoreboard):
        ada, bob = a_worker(), a_worker()
        scoreboard.post(ada, a_reading(1))
        scoreboard.post(bob, a_reading(2))
        posted = scoreboard.look()
        assert posted.by_worker == {ada: a_reading(1), bob: a_reading(2)}
        assert posted.ended == NOTHING

    def test_the_latest_reading_takes_the_place_of_the_one_before(self, scoreboard):
        worker = a_worker()
        scoreboard.post(worker, a_reading(1))
        scoreboard.post(worker, a_reading(5))
        assert scoreboard.look().by_worker == {worker: a_reading(5)}

    def test_a_retired_worker_counts_among_the_ended_once(self, scoreboard):
        ada, bob = a_worker(), a_worker()
        scoreboard.post(ada, a_reading(1))
        scoreboard.post(bob, a_reading(2))
        scoreboard.retire(ada)
        scoreboard.retire(ada)
        posted = scoreboard.look()
        assert posted.by_worker == {bob: a_reading(2)}
        assert posted.ended == a_reading(1).ended()
        scoreboard.retire(bob)
        posted = scoreboard.look()
        assert posted.by_worker == {}
        assert posted.ended == a_reading(1).ended() + a_reading(2).ended()

    def test_what_a_retired_worker_posts_is_not_heard(self, scoreboard):
        worker = a_worker()
        scoreboard.post(worker, a_reading(1))
        scoreboard.retire(worker)
        scoreboard.post(worker, a_reading(9))
        assert scoreboard.look().by_worker == {}
        scoreboard.retire(worker)
        assert counted(scoreboard.look()) == 1

    def test_a_worker_that_never_posted_can_be_retired(self, scoreboard):
        worker = a_worker()
        scoreboard.retire(worker)
        scoreboard.post(worker, a_reading(1))
        assert scoreboard.look() == Posted({}, NOTHING)

    def test_clearing_forgets_everything_and_everybody(self, scoreboard):
        ada, bob = a_worker(), a_worker()
        for worker in (ada, bob):
            scoreboard.post(worker, a_reading(1))
        scoreboard.retire(ada)
        scoreboard.clear()
        assert scoreboard.look() == Posted({}, NOTHING)
        scoreboard.post(ada, a_reading(3))
        assert scoreboard.look().by_worker == {ada: a_reading(3)}

    def test_no_look_misses_a_worker_that_is_being_retired_or_sees_it_twice(
        self, scoreboard
    ):
        workers = [a_worker() for _ in range(20)]
        for worker in workers:
            scoreboard.post(worker, a_reading(1))

        def looking(_: int) -> set[int]:
            seen = {counted(scoreboard.look())}
            while scoreboard.look().by_worker:
                seen.add(counted(scoreboard.look()))
            return seen

        with ThreadPoolExecutor(4) as pool:
            looked = [pool.submit(looking, n) for n in range(2)]
            retired = [pool.submit(scoreboard.retire, w) for w in workers * 2]
            for each in retired:
                each.result()
        assert [each.result() for each in looked] == [{20}, {20}]
