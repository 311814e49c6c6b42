"""A token bucket: never more than it may give, and waits that are just enough."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.application.rates import TokenBucket
from arena_core.domain.errors import Rejected

rates = st.floats(1e-3, 1e6)
bursts = st.integers(1, 50) | st.floats(1, 50)
pauses = st.lists(st.floats(0, 100), min_size=1, max_size=60)


def times(pauses, begin=0.0):
    now = begin
    for pause in pauses:
        now += pause
        yield now


def test_a_new_bucket_is_full_whenever_it_is_first_asked():
    for now in (0.0, 1e9, -5.0):
        bucket = TokenBucket(2.0, 3)
        assert [bucket.take(now) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_what_comes_in_time_can_be_taken_and_no_more_than_it_holds():
    bucket = TokenBucket(2.0, 3)
    assert bucket.take(0.0, 3) == 0.0
    assert bucket.take(1.0, 3) == 0.5
    assert bucket.take(1.0, 2) == 0.0
    assert [bucket.take(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_who_is_refused_takes_nothing():
    bucket = TokenBucket(1.0, 1)
    assert bucket.take(0.0) == 0.0
    assert [bucket.take(0.5) for _ in range(100)] == [0.5] * 100
    assert bucket.take(1.0) == 0.0


def test_a_wait_that_would_be_rounded_down_is_rounded_up():
    bucket = TokenBucket(7.0, 1)
    assert bucket.take(0.1) == 0.0
    wait = bucket.take(0.11)
    assert 0.11 + (0.1 + 1 / 7 - 0.11) < 0.1 + 1 / 7, "as floats have it"
    assert bucket.take(0.11 + wait) == 0.0


def test_more_than_it_holds_can_never_be_had():
    bucket = TokenBucket(1.0, 2)
    assert bucket.take(0.0, 3) == math.inf
    assert bucket.take(0.0, 2) == 0.0


def test_it_does_not_drift_in_a_million_calls():
    """A tenth of a second is no binary fraction: sums of it would be off by now."""
    bucket, given_out = TokenBucket(10.0, 5), 0
    for tick in range(1_000_000):
        given_out += bucket.take(tick / 20) == 0.0
    assert given_out == 500_000 + 4  # the five at first, and one for each two ticks


def test_who_keeps_to_the_rate_is_never_refused():
    bucket = TokenBucket(10.0, 2)
    assert not any(bucket.take(tick / 10) for tick in range(1_000_000))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_and_a_burst_are_above_0(bad):
    with pytest.raises(Rejected, match="rate_per_s must be a number above 0"):
        TokenBucket(bad, 1)
    with pytest.raises(Rejected, match="burst must be a number above 0"):
        TokenBucket(1.0, bad)


@given(rates, bursts, pauses, st.floats(0, 1e9))
@settings(deadline=None)
def test_in_any_time_it_gives_no_more_than_burst_and_rate_allow(
    rate, burst, pauses, begin
):
    bucket = TokenBucket(rate, burst)
    taken = [now for now in times(pauses, begin) if bucket.take(now) == 0.0]
    for first, since in enumerate(taken):
        for last, until in enumerate(taken[first:], start=first):
            allowed = burst + rate * (until - since)
            off = rate * math.ulp(until)  # a time is no better than its last digit
            assert last - first + 1 <= allowed + 4 * off + 1e-9


@given(rates, bursts, pauses, st.floats(0, 1e9))
@settings(deadline=None)
def test_the_wait_that_it_names_is_enough_and_no_more(rate, burst, pauses, begin):
    bucket = TokenBucket(rate, burst)
    for now in times(pauses, begin):
        wait = bucket.take(now)
        if wait == 0.0:
            continue
        assert wait > 0
        early = now + wait - 4 * math.ulp(now + wait)
        if early > now:
            assert bucket.take(early) > 0
        assert bucket.take(now + wait) == 0.0
        return


@given(
    st.integers(-6, 6),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 4)), max_size=80),
)
@settings(deadline=None)
def test_it_does_as_a_bucket_of_exact_numbers_does(power, burst, calls):
    """Rates that are powers of two and times in 64ths: floats are exact too."""
    rate, now = Fraction(2) ** power, Fraction(0)
    level = Fraction(burst)
    bucket = TokenBucket(float(rate), burst)
    for pause, n in calls:
        elapsed = Fraction(pause, 64)
        now, level = now + elapsed, min(Fraction(burst), level + elapsed * rate)
        if n > burst:
            assert bucket.take(float(now), n) == math.inf
        elif level >= n:
            level -= n
            assert bucket.take(float(now), n) == 0.0
        else:
            assert Fraction(bucket.take(float(now), n)) == (n - level) / rate
