"""When limits are crossed beyond doubt, and that none seems so that is kept."""

import math
from bisect import bisect_left

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.domain import guards
from arena_core.domain.errors import Rejected
from arena_core.domain.guards import Figures, Guard, Limit, crossed

PERIODS, LOOKS = 2000, 1000


def errors(most, **seen):
    return crossed(Guard(60, error_rate=most), Figures(**seen))


def shifts(most, **seen):
    return crossed(Guard(60, action_shift=most), Figures(**seen))


def slow(**seen):
    return crossed(Guard(60, p99_ms=20), Figures(**seen))


def least(is_crossed, most):
    """Return the least number up to `most` that crosses; `most` + 1 if none does."""
    return bisect_left(range(most + 1), True, key=is_crossed)


# --- what guards and figures may be --------------------------------------------------


@pytest.mark.parametrize("name", ["error_rate", "mask_violation_rate", "action_shift"])
@pytest.mark.parametrize("value", [-0.1, 1.01, math.nan, math.inf])
def test_rates_are_from_0_to_1(name, value):
    with pytest.raises(Rejected) as caught:
        Guard(60, **{name: value})
    assert caught.value.field == name


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_p99_is_greater_than_0_and_finite(value):
    with pytest.raises(Rejected) as caught:
        Guard(60, p99_ms=value)
    assert caught.value.field == "p99_ms"


@pytest.mark.parametrize("value", [0, -1, 604_801, math.nan, math.inf])
def test_a_baking_period_is_a_week_at_most(value):
    with pytest.raises(Rejected) as caught:
        Guard(value, error_rate=0.1)
    assert caught.value.field == "bake_s"


def test_a_guard_without_a_limit_is_refused():
    with pytest.raises(Rejected) as caught:
        Guard(60)
    assert caught.value.field == "guard"
    assert "error_rate, p99_ms, mask_violation_rate, action_shift" in str(caught.value)


def test_the_extremes_are_allowed():
    assert Guard(604_800, error_rate=0, action_shift=1, p99_ms=1e-3).error_rate == 0


@pytest.mark.parametrize(
    "seen", [{"errors": -1}, {"p99_ms": math.nan}, {"action_shift": 1.5}]
)
def test_figures_that_cannot_be_are_refused(seen):
    with pytest.raises(Rejected):
        Figures(**seen)


def test_a_figure_is_in_the_unit_of_its_limit():
    figures = Figures(
        requests=8, errors=2, p99_ms=7.5, masked_rows=4, mask_violations=1,
        compared=9, action_shift=0.125,
    )  # fmt: skip
    assert [figures.of(limit) for limit in Limit] == [0.25, 7.5, 0.25, 0.125]


def test_nothing_is_measured_of_nothing():
    assert [Figures().of(limit) for limit in Limit] == [None] * 4


# --- what crosses --------------------------------------------------------------------


def test_nothing_seen_crosses_nothing():
    guard = Guard(60, 0, 0.001, 0, 0)
    assert crossed(guard, Figures()) is None


@pytest.mark.parametrize(
    ("seen", "limit"),
    [
        ({"requests": 40, "errors": 40}, Limit.ERROR_RATE),
        ({"seconds": 40, "slow_seconds": 40.0}, Limit.P99_MS),
        ({"masked_rows": 40, "mask_violations": 40}, Limit.MASK_VIOLATION_RATE),
        ({"compared": 40, "action_shift": 1.0}, Limit.ACTION_SHIFT),
    ],
)
def test_each_limit_is_judged_by_its_own_figures(seen, limit):
    guard = Guard(60, 0.1, 20, 0.1, 0.1)
    assert crossed(guard, Figures(**seen)) is limit
    others = {other.value: 0.5 for other in Limit if other is not limit}
    assert crossed(Guard(60, **others), Figures(**seen)) is None


@pytest.mark.parametrize("most", [0.0, 1e-6, 0.01, 0.5, 0.99, 1.0])
def test_what_keeps_exactly_to_a_limit_never_crosses_it(most):
    for requests in (1, 100, 10**6, 10**12):
        figures = Figures(
            requests=requests, errors=math.floor(most * requests),
            compared=requests, action_shift=most,
        )  # fmt: skip
        guard = Guard(60, error_rate=most, action_shift=most)
        assert crossed(guard, figures) is None


def test_a_limit_of_zero_is_crossed_by_one_case():
    assert errors(0, requests=10**9, errors=1) is Limit.ERROR_RATE


@given(st.integers(1, 10**9))
def test_an_equal_checkpoint_has_no_shift_whatever_the_limit(rows):
    assert shifts(0.0, compared=rows, action_shift=0.0) is None


@pytest.mark.parametrize(
    ("most", "rate", "within"),
    [(0.01, 1.0, 5), (0.01, 0.5, 20), (0.01, 0.1, 150), (0.001, 0.05, 150)],
)
def test_a_bad_error_rate_crosses_within_so_many_requests(most, rate, within):
    seen = {"requests": within, "errors": math.floor(rate * within)}
    assert errors(most, **seen) is Limit.ERROR_RATE


@pytest.mark.parametrize(
    ("shift", "parts", "within"),
    [(1.0, 1, 10), (0.5, 1, 50), (0.3, 1, 150), (0.5, 100, 60)],
)
def test_a_great_shift_crosses_within_so_many_rows(shift, parts, within):
    seen = {"action_shift": shift, "greatest_of": parts}
    assert shifts(0.1, compared=within, **seen) is Limit.ACTION_SHIFT


def test_requests_that_are_all_slow_cross_within_seconds():
    assert slow(seconds=5, slow_seconds=5.0) is Limit.P99_MS


def test_a_stall_of_two_seconds_does_not_cross():
    assert slow(seconds=2, slow_seconds=2.0) is None


def test_the_more_parts_are_looked_at_the_more_rows_are_needed():
    def rows(parts):
        seen = {"action_shift": 0.5, "greatest_of": parts}
        return least(lambda n: shifts(0.1, compared=n, **seen) is not None, 5000)

    assert rows(1) < rows(10) < rows(1000) < rows(10**6) < 100


# --- evidence ------------------------------------------------------------------------

rates = st.floats(1e-6, 0.999)


@given(rates, st.integers(1, 10**6), st.data())
def test_one_more_case_is_more_evidence(rate, cases, data):
    total = data.draw(st.integers(0, cases - 1))
    few, many = (guards._evidence(n, cases, rate) for n in (total, total + 1))
    assert few < many


@given(rates, st.integers(1, 10**6), st.data())
def test_one_more_request_without_a_case_is_less_evidence(rate, cases, data):
    total = data.draw(st.integers(0, cases))
    few, many = (guards._evidence(total, n, rate) for n in (cases, cases + 1))
    assert many < few


@given(st.tuples(rates, rates), st.integers(1, 10**6), st.data())
def test_what_crosses_a_limit_crosses_every_lower_one(both, cases, data):
    low, high = sorted(both)
    count = data.draw(st.integers(0, cases))
    if errors(high, requests=cases, errors=count):
        assert errors(low, requests=cases, errors=count)


# --- how often it errs, over many baking periods and many looks ----------------------


def boundary(rate, stride, chance):
    """Return the least number of cases that crosses, at each look."""

    def is_over(cases, total):
        return guards._evidence(total, cases, rate) >= -math.log(chance)

    looks = range(stride, stride * LOOKS + 1, stride)
    return np.array([least(lambda k, n=n: is_over(n, k), n) for n in looks])


def alarms(rate, true, stride, chance, seed=0):
    """Return in which share of the periods one of the looks finds the rate crossed."""
    random = np.random.default_rng(seed)
    cases = random.binomial(stride, true, (PERIODS, LOOKS)).cumsum(axis=1)
    return (cases >= boundary(rate, stride, chance)).any(axis=1).mean()


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.55])
@pytest.mark.parametrize("stride", [1, 20])
def test_a_rate_at_its_limit_never_seems_crossed(rate, stride):
    assert alarms(rate, rate, stride, guards.FALSE_ALARM) == 0


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.55])
def test_false_alarms_are_as_rare_as_is_said(rate):
    # At a level that can be measured: there are some, and not more than it says.
    assert 0 < alarms(rate, rate, 20, chance=0.1) < 0.1


@pytest.mark.parametrize(("rate", "true"), [(0.01, 0.05), (0.1, 0.2), (0.55, 0.65)])
def test_a_rate_over_its_limit_is_always_found(rate, true):
    assert alarms(rate, true, 10, guards.FALSE_ALARM) == 1


def test_shares_of_bursts_raise_no_false_alarm():
    # Each second is slow as a whole, or not at all: the hardest that 1 % allows.
    random = np.random.default_rng(0)
    stalled = (random.random((PERIODS, LOOKS)) < guards.SLOW_SHARE).cumsum(axis=1)
    most = boundary(guards.SLOW_SHARE, 1, guards.FALSE_ALARM)
    assert not (stalled >= most).any()


@given(st.integers(0, 2**32), st.sampled_from([1, 10, 100]))
def test_the_greatest_of_many_parts_raises_no_false_alarm(seed, parts):
    most = 0.1
    differ = np.random.default_rng(seed).random((LOOKS, parts)) < most
    greatest = differ.cumsum(axis=0).max(axis=1)
    for rows in range(1, LOOKS + 1, 10):
        seen = {"action_shift": greatest[rows - 1] / rows, "compared": rows}
        assert shifts(most, **seen, greatest_of=parts) is None
