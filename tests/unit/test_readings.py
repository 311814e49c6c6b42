"""What several processes have counted adds up, in any order."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from arena_core.application.readings import (
    NOTHING,
    AgentReading,
    AgentSeries,
    HistogramReading,
    HttpSeries,
    ProcessReading,
    Reading,
    total,
)
from arena_core.application.telemetry import Histogram
from arena_core.domain.errors import Flaw
from arena_core.domain.ids import AgentId, OrganisationId

counts = st.integers(0, 1000)
sums = counts.map(float)


def several(length: int):
    return st.lists(counts, min_size=length, max_size=length).map(tuple)


histograms = st.builds(HistogramReading, several(4), counts)
agents = st.builds(
    AgentReading,
    outcomes=several(6),
    durations=histograms,
    rows=histograms,
    runs=histograms,
    requests_run=counts,
    violations=counts,
    actions=st.dictionaries(st.integers(0, 2), several(3)),
    queued=counts,
)
agent_series = st.builds(
    AgentSeries,
    st.sampled_from(["default", "rivals"]).map(OrganisationId),
    st.integers(1, 2).map(lambda n: AgentId(UUID(int=n))),
    st.just("abc"),
    st.sampled_from(["get_action", "predict"]),
)
http_series = st.builds(
    HttpSeries, st.just("GET"), st.sampled_from(["", "/a"]), st.sampled_from([200, 404])
)
processes = st.none() | st.builds(
    ProcessReading, counts, sums, sums, sums, sums, st.none() | sums
)


def series_of(keys, values):
    return st.dictionaries(keys, values, max_size=3).map(lambda d: tuple(d.items()))


readings = st.builds(
    Reading,
    series_of(agent_series, agents),
    series_of(http_series, histograms),
    st.dictionaries(st.sampled_from(Flaw), counts),
    processes,
)


def as_sets(reading: Reading) -> tuple[object, ...]:
    """Return a reading whose series have no order."""
    return (
        dict(reading.agents),
        dict(reading.http),
        dict(reading.refused),
        reading.process,
    )


@given(readings, readings)
def test_in_whatever_order_readings_are_added_the_sum_is_the_same(one, other):
    assert as_sets(one + other) == as_sets(other + one)


@given(readings, readings, readings)
def test_however_readings_are_grouped_the_sum_is_the_same(a, b, c):
    assert as_sets((a + b) + c) == as_sets(a + (b + c))
    assert as_sets(total([a, b, c])) == as_sets((a + b) + c)


@given(readings)
def test_adding_nothing_changes_nothing(reading):
    assert as_sets(reading + NOTHING) == as_sets(reading)


@given(readings, readings)
def test_what_only_grows_is_kept_when_a_process_ends(one, other):
    both = one.ended() + other
    before = one + other
    assert dict(both.http) == dict(before.http)
    assert both.refused == before.refused
    for series, reading in both.agents:
        assert reading.outcomes == dict(before.agents)[series].outcomes
        assert reading.actions == dict(before.agents)[series].actions


@given(st.permutations([1 / 3, 0.1, 1e6 / 7, 1e-9, 0.7, 2.2]))
def test_the_sum_of_histograms_does_not_depend_on_who_adds_them_up(values):
    readings = []
    for value in values:
        histogram = Histogram((1.0,))
        histogram.observe(value)
        readings.append(Reading(http=((AN_ANSWER, histogram.reading()),)))
    ((_, added),) = total(readings).http
    assert added.billionths == 142_860_476_190_477
    assert added.sum == added.billionths / 1e9


def test_what_a_process_held_ends_with_it_but_not_the_time_it_used():
    ended = Reading(
        ((A_SERIES, AgentReading(queued=3, violations=2)),),
        process=ProcessReading(7, 1.0, 2.0, 3.0, 4.0, 5.0),
    ).ended()
    assert dict(ended.agents)[A_SERIES] == AgentReading(queued=0, violations=2)
    assert ended.process == ProcessReading(7)
    assert NOTHING.ended() == NOTHING
    running = Reading(process=ProcessReading(1, 1.0, 1.0, 1.0, 1.0, 9.0))
    both = (ended + running).process
    assert both == ProcessReading(8, 1.0, 1.0, 1.0, 1.0, 9.0)


def test_of_several_processes_the_oldest_says_when_they_began():
    one = ProcessReading(1, started_at_s=20.0)
    other = ProcessReading(1, started_at_s=10.0)
    assert (one + other).started_at_s == 10.0


A_SERIES = AgentSeries(
    OrganisationId("default"), AgentId(UUID(int=1)), "abc", "predict"
)
AN_ANSWER = HttpSeries("GET", "", 404)
