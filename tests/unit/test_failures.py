"""Callers whose credentials are not good are counted, and slowed down."""

import logging
from collections import Counter

import pytest

from arena_core.application.telemetry import Telemetry
from arena_core.domain.errors import Flaw, RateLimited, Unauthenticated
from arena_core.entrypoints.http import failures
from arena_core.entrypoints.http.failures import BURST_S, FailedAuthentications

ERROR = Unauthenticated("The credential is bad.", flaw=Flaw.ROTATED)
BURST = int(10 * BURST_S)


class World:
    """Failures by a clock of our own."""

    def __init__(self, rate_per_s=10.0):
        self.now_s = 1000.0
        self.telemetry = Telemetry()
        self.failures = FailedAuthentications(
            rate_per_s, self.telemetry, lambda: self.now_s
        )

    def tries(self, times, address="192.0.2.1", error=ERROR):
        """Return how often what is answered."""
        scope = {"client": None if address is None else (address, 1)}
        answers = [self.failures.judge(error, scope) for _ in range(times)]
        return Counter(type(answer) for answer in answers)


@pytest.fixture
def world():
    return World()


def test_a_burst_is_told_that_it_is_wrong_and_then_to_wait(world):
    assert world.tries(BURST) == {Unauthenticated: BURST}
    assert world.tries(5) == {RateLimited: 5}
    world.now_s += 0.3
    assert world.tries(5) == {Unauthenticated: 3, RateLimited: 2}


def test_whoever_waits_as_long_as_was_said_is_told_again(world):
    world.tries(BURST)
    limited = world.failures.judge(ERROR, {"client": ("192.0.2.1", 1)})
    world.now_s += limited.retry_after_s
    assert world.tries(1) == {Unauthenticated: 1}


def test_each_address_is_counted_for_itself(world):
    world.tries(BURST + 1)
    assert world.tries(1, "192.0.2.2") == {Unauthenticated: 1}
    assert world.tries(1, None) == {Unauthenticated: 1}
    assert world.tries(1, "testclient") == {Unauthenticated: 1}


def test_the_addresses_of_one_subscriber_are_one(world):
    for n in range(BURST):
        world.tries(1, f"2001:db8::{n:x}")
    assert world.tries(1, "2001:db8::ffff:1") == {RateLimited: 1}
    assert world.tries(1, "2001:db8:0:1::1") == {Unauthenticated: 1}


def test_an_address_is_the_same_in_both_its_spellings(world):
    world.tries(BURST, "192.0.2.1")
    assert world.tries(1, "::ffff:192.0.2.1") == {RateLimited: 1}
    assert world.tries(1, "::ffff:192.0.2.9") == {Unauthenticated: 1}


def test_no_credential_is_no_guess(world):
    missing = Unauthenticated("There is none.", flaw=Flaw.MISSING)
    assert world.tries(3 * BURST, error=missing) == {Unauthenticated: 3 * BURST}
    assert world.tries(BURST) == {Unauthenticated: BURST}


def test_every_failure_is_counted(world):
    world.tries(BURST + 7)
    assert world.telemetry.reading().refused[Flaw.ROTATED] == BURST + 7


def test_without_a_rate_nobody_is_slowed_down():
    world = World(0)
    assert world.tries(1000) == {Unauthenticated: 1000}
    assert world.telemetry.reading().refused[Flaw.ROTATED] == 1000


def test_a_rate_below_one_still_allows_one():
    world = World(0.01)
    assert world.tries(2) == {Unauthenticated: 1, RateLimited: 1}


def test_those_who_have_been_quiet_longest_are_forgotten(world, monkeypatch):
    monkeypatch.setattr(failures, "MOST_ADDRESSES", 10)
    world.tries(BURST, "192.0.2.1")
    world.tries(BURST, "192.0.2.2")
    for n in range(9):
        world.tries(1, f"198.51.100.{n}")
        assert world.tries(1, "192.0.2.2") == {RateLimited: 1}
    assert len(world.failures._buckets) == 10
    assert world.tries(1, "192.0.2.1") == {Unauthenticated: 1}


def test_the_log_is_told_now_and_then_and_never_of_a_credential(world, caplog):
    with caplog.at_level(logging.WARNING):
        world.tries(BURST + 500)
        world.now_s += failures.LOG_AGAIN_S
        world.tries(BURST + 500)
    assert len(caplog.records) == 2
    assert all("192.0.2.1" in record.getMessage() for record in caplog.records)
