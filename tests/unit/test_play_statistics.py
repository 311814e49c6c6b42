"""What the bootstrap says: of known cases, and of any returns whatever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.entrypoints.play.statistics import (
    FEWEST_PAIRS,
    Verdict,
    compare,
    interval_of_mean,
)

returns = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
samples = st.lists(returns, min_size=2, max_size=30)
pairs = st.lists(st.tuples(returns, returns), min_size=FEWEST_PAIRS, max_size=30)


@given(samples)
def test_the_interval_contains_the_mean_and_lies_within_the_values(sample):
    interval = interval_of_mean(sample)
    slack = 1e-9 * (1 + max(map(abs, sample)))
    assert interval.low - slack <= np.mean(sample) <= interval.high + slack
    assert min(sample) - slack <= interval.low
    assert interval.high <= max(sample) + slack


@given(returns, st.integers(2, 30))
def test_returns_that_are_all_the_same_leave_no_doubt(value, episodes):
    interval = interval_of_mean([value] * episodes)
    assert interval.low == pytest.approx(value, rel=1e-12)
    assert interval.high == interval.low


def test_the_interval_of_many_is_that_of_the_normal_distribution():
    sample = np.random.default_rng(5).normal(100, 15, size=400)
    margin = 1.96 * sample.std() / np.sqrt(len(sample))
    interval = interval_of_mean(sample.tolist())
    assert interval.low == pytest.approx(sample.mean() - margin, abs=margin / 10)
    assert interval.high == pytest.approx(sample.mean() + margin, abs=margin / 10)


def test_nineteen_intervals_of_twenty_cover_the_truth():
    random = np.random.default_rng(8)
    trials = [interval_of_mean(random.normal(size=30).tolist()) for _ in range(200)]
    covered = np.mean([trial.low <= 0 <= trial.high for trial in trials])
    assert 0.9 <= covered <= 0.98


@pytest.mark.parametrize("sample", [[], [7.0]])
def test_one_episode_has_no_interval(sample):
    assert interval_of_mean(sample) is None


def test_the_same_returns_give_the_same_interval():
    sample = np.random.default_rng(2).normal(size=30).tolist()
    assert interval_of_mean(sample) == interval_of_mean(sample)


@given(samples)
def test_an_agent_is_equal_to_itself(sample):
    found = compare(sample * 3, sample * 3)
    assert found.verdict is Verdict.EQUAL
    assert (found.difference, found.interval.low, found.interval.high) == (0, 0, 0)


@given(pairs)
def test_whoever_is_named_first_the_verdict_is_the_same(pairs):
    first, second = zip(*pairs, strict=True)
    one, other = compare(first, second), compare(second, first)
    mirrored = {Verdict.HIGHER: Verdict.LOWER, Verdict.LOWER: Verdict.HIGHER}
    assert other.verdict is mirrored.get(one.verdict, one.verdict)
    assert other.difference == -one.difference


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(40, Verdict.HIGHER), (-40, Verdict.LOWER), (0.1, Verdict.UNCLEAR)],
)
def test_a_difference_is_real_if_chance_could_not_make_it(gain, verdict):
    random = np.random.default_rng(3)
    theirs = random.normal(100, 20, size=25)
    ours = theirs + gain + random.normal(0, 20, size=25)
    assert compare(ours.tolist(), theirs.tolist()).verdict is verdict


def test_pairs_show_what_the_means_alone_would_hide():
    # The seeds differ far more than the agents do.
    theirs = [float(1000 * seed) for seed in range(20)]
    ours = [value + 1 + seed % 2 for seed, value in enumerate(theirs)]
    found = compare(ours, theirs)
    assert found.verdict is Verdict.HIGHER
    assert 1 < found.interval.low <= 1.5 <= found.interval.high < 2


def test_a_few_lucky_episodes_prove_nothing():
    many, few = [1.0, 2.0] * 3, [1.0, 2.0, 1.0, 2.0, 1.0]
    assert len(many) == FEWEST_PAIRS
    assert compare(many, [0.0] * 6).verdict is Verdict.HIGHER
    assert compare(few, [0.0] * 5).verdict is Verdict.TOO_FEW
    assert compare([1.0], [0.0]).interval is None
    assert compare([0.0], [0.0]).verdict is Verdict.TOO_FEW
