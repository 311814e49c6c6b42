"""How long requests took, and how many seconds were slow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application.latencies import Latencies


@given(st.lists(st.floats(2e-6, 900), min_size=1), st.sampled_from([0.5, 0.99, 1.0]))
def test_a_quantile_is_good_to_a_few_percent(seconds, share):
    latencies = Latencies()
    latencies.add(seconds, 0)
    exact = np.quantile(seconds, share, method="inverted_cdf")
    assert latencies.quantile(share) == pytest.approx(exact, rel=0.03)


def test_nothing_has_no_quantile():
    assert Latencies().quantile(0.99) is None


def test_what_is_beyond_the_scale_is_kept_at_its_end():
    latencies = Latencies()
    latencies.add([0.0, 1e9], 0)
    assert latencies.quantile(0.5) == pytest.approx(1e-6, rel=0.03)
    assert latencies.quantile(1.0) == pytest.approx(1e3, rel=0.06)


def test_a_second_counts_by_its_share_once_it_is_over():
    latencies = Latencies(slow_s=0.1)
    latencies.add([0.05, 0.2], 7.0)
    latencies.add([0.2, 0.1], 7.9)
    assert (latencies.seconds, latencies.slow_seconds) == (0, 0.0)
    latencies.pass_to(8.0)
    latencies.pass_to(8.5)
    assert (latencies.seconds, latencies.slow_seconds) == (1, 0.5)


def test_a_second_without_requests_does_not_count():
    latencies = Latencies(slow_s=0.1)
    for now_s in (0.5, 5.5, 9.5):
        latencies.add([1.0], now_s)
    assert (latencies.seconds, latencies.slow_seconds) == (2, 2.0)


def test_without_a_limit_nothing_is_slow():
    latencies = Latencies()
    latencies.add([1e6], 0.0)
    latencies.pass_to(1.0)
    assert (latencies.count, latencies.seconds, latencies.slow_seconds) == (1, 1, 0.0)
