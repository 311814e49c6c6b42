"""What one process counts of its own work."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from arena_core.application.readings import AgentSeries, HttpSeries
from arena_core.application.telemetry import (
    FEW,
    HTTP_SECONDS,
    INFERENCE_SECONDS,
    METHODS,
    MOST_ACTIONS,
    MOST_PARTS,
    ROWS,
    DeploymentMeter,
    Histogram,
    Outcome,
    Telemetry,
)
from arena_core.domain.errors import Flaw
from unit.scenes import key_of


@pytest.fixture
def meter():
    return DeploymentMeter()


# --- a meter -----------------------------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_counted_and_only_success_is_timed(meter, outcome):
    meter.answered(outcome, 0.25)
    meter.answered(outcome, 0.25)
    reading = meter.reading()
    assert reading.outcomes[outcome] == sum(reading.outcomes) == 2
    timed = 2 if outcome is Outcome.OK else 0
    assert sum(reading.durations.counts) == timed
    assert reading.durations.sum == 0.25 * timed


@given(st.lists(st.floats(0, 20)), st.sampled_from([INFERENCE_SECONDS, ROWS]))
def test_a_value_falls_into_the_first_bucket_that_reaches_it(values, bounds):
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    reading = histogram.reading()
    upper = [*bounds, float("inf")]
    for number, bound in enumerate(upper):
        up_to = sum(value <= bound for value in values)
        assert sum(reading.counts[: number + 1]) == up_to
    assert reading.sum == pytest.approx(sum(values), abs=1e-9)


@pytest.mark.parametrize("bounds", [INFERENCE_SECONDS, HTTP_SECONDS, ROWS])
def test_bounds_grow(bounds):
    assert list(bounds) == sorted(set(bounds))


def test_a_run_of_the_weights_is_counted_by_rows_requests_and_time(meter):
    meter.ran(rows=3, requests=2, seconds=0.5)
    meter.ran(rows=1025, requests=1, seconds=0.25)
    reading = meter.reading()
    assert reading.requests_run == 3
    assert reading.rows.sum == 1028
    assert reading.rows.counts[ROWS.index(4)] == 1, "above 2, up to 4"
    assert reading.rows.counts[-1] == 1, "above the last bound"
    assert reading.runs.sum == 0.75


def test_violations_and_the_queue_are_what_was_said_of_them(meter):
    meter.violated(2)
    meter.violated(3)
    meter.queued += 4
    meter.queued -= 1
    assert meter.reading().violations == 5
    assert meter.reading().queued == 3


def test_a_reading_is_not_changed_by_what_comes_after_it(meter):
    def count():
        meter.answered(Outcome.OK, 1.0)
        meter.ran(1, 1, 1.0)
        meter.acted(np.array([1]))

    count()
    before = meter.reading()
    again = meter.reading()
    count()
    assert before == again
    assert before.outcomes[Outcome.OK] == before.actions[0][1] == 1
    for histogram in (before.durations, before.rows, before.runs):
        assert sum(histogram.counts) == histogram.sum == 1


WHOLE = st.sampled_from([np.int8, np.uint8, np.int32, np.int64, np.uint64])


@given(arrays.arrays(WHOLE, st.integers(0, 3 * FEW)))
def test_discrete_actions_are_counted_each_and_those_beyond_together(actions):
    meter = DeploymentMeter()
    meter.acted(actions)
    meter.acted(actions[:1])
    expected = Counter(
        action if 0 <= action < MOST_ACTIONS else MOST_ACTIONS
        for action in [*actions.tolist(), *actions[:1].tolist()]
    )
    counts = meter.reading().actions[0]
    assert {a: n for a, n in enumerate(counts) if n} == dict(expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.bool_])
def test_many_actions_of_any_whole_dtype_are_counted(meter, dtype):
    meter.acted(np.ones(10 * FEW, dtype))
    assert meter.reading().actions[0][1] == 10 * FEW


@given(
    arrays.arrays(
        np.int64,
        st.tuples(st.integers(1, 2 * FEW), st.integers(1, 4), st.integers(1, 8)),
        elements=st.integers(-1, 70),
    )
)
def test_the_parts_of_an_action_are_counted_each_for_itself(actions):
    meter = DeploymentMeter()
    meter.acted(actions)
    parts = actions.reshape(len(actions), -1)
    found = meter.reading().actions
    assert list(found) == list(range(min(parts.shape[1], MOST_PARTS)))
    for part, counts in found.items():
        alone = DeploymentMeter()
        alone.acted(np.ascontiguousarray(parts[:, part]))
        assert counts == alone.reading().actions[0]


def test_bits_are_counted_as_parts_of_two_actions(meter):
    meter.acted(np.array([[True, False], [True, True]]))
    found = meter.reading().actions
    assert found[0][:2] == (0, 2)
    assert found[1][:2] == (1, 1)


def test_of_continuous_actions_nothing_is_counted(meter):
    meter.acted(np.zeros((3, 2), np.float32))
    assert meter.reading().actions == {}


# --- all of a process --------------------------------------------------------------


def test_there_is_one_meter_for_each_deployment_checkpoint_and_method(scene):
    agent = scene.live(scene.agent())
    live = scene.registry.live(key_of(agent))
    telemetry = Telemetry()
    meter = telemetry.of(live, "get_action")
    assert telemetry.of(live, "get_action") is meter
    assert telemetry.of(live, "predict") is not meter
    meter.violated(7)
    expected = AgentSeries(
        live.organisation, agent.id, agent.checkpoint.digest[:12], "get_action"
    )
    found = dict(telemetry.reading().agents)
    assert len(found) == 2
    assert found[expected].violations == 7


def test_answers_of_the_control_plane_are_counted_by_template_and_status():
    telemetry = Telemetry()
    telemetry.handled("GET", "/a/{id}", 200, 0.5)
    telemetry.handled("GET", "/a/{id}", 200, 0.25)
    telemetry.handled("GET", "/a/{id}", 404, 0.1)
    found = dict(telemetry.reading().http)
    assert found.keys() == {
        HttpSeries("GET", "/a/{id}", 200),
        HttpSeries("GET", "/a/{id}", 404),
    }
    assert found[HttpSeries("GET", "/a/{id}", 200)].sum == 0.75


@given(st.lists(st.text().filter(lambda text: text not in METHODS), unique=True))
def test_methods_that_nobody_knows_are_one_series(methods):
    telemetry = Telemetry()
    known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER"]
    for method in (*methods, *known, "get", "BREW"):
        telemetry.handled(method, "", 405, 0.0)
    found = {s.method: sum(h.counts) for s, h in telemetry.reading().http}
    assert found == dict.fromkeys(known, 1) | {"_OTHER": len(methods) + 3}


def test_refused_credentials_are_counted_by_what_is_wrong_with_them():
    telemetry = Telemetry()
    telemetry.refused(Flaw.ROTATED)
    telemetry.refused(Flaw.ROTATED)
    telemetry.refused(Flaw.MISSING)
    refused = telemetry.reading().refused
    assert refused == dict.fromkeys(Flaw, 0) | {Flaw.ROTATED: 2, Flaw.MISSING: 1}
