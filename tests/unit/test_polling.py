from datetime import UTC, datetime, timedelta
from uuid import UUID

from arena_core.application.polling import MOST, Polls

NOW = datetime(2026, 9, 1, tzinfo=UTC)
LEAST = timedelta(seconds=1)
MOMENT = timedelta(microseconds=1)
ONE, OTHER = UUID(int=1), UUID(int=2)


def test_who_waits_long_enough_is_in_time():
    polls = Polls(LEAST)
    assert polls.is_in_time(ONE, NOW)
    assert polls.is_in_time(ONE, NOW + LEAST)
    assert not polls.is_in_time(ONE, NOW + 2 * LEAST - MOMENT)


def test_who_asks_too_soon_waits_anew():
    polls = Polls(LEAST)
    polls.is_in_time(ONE, NOW)
    assert not polls.is_in_time(ONE, NOW + LEAST / 2)
    assert not polls.is_in_time(ONE, NOW + LEAST)
    assert polls.is_in_time(ONE, NOW + 2 * LEAST)


def test_one_does_not_slow_down_another():
    polls = Polls(LEAST)
    assert polls.is_in_time(ONE, NOW)
    assert polls.is_in_time(OTHER, NOW)


def test_what_is_remembered_is_bounded_and_forgets_who_asked_longest_ago():
    polls = Polls(LEAST)
    for number in range(MOST):
        polls.is_in_time(UUID(int=number), NOW)
    assert not polls.is_in_time(UUID(int=1), NOW)
    polls.is_in_time(UUID(int=MOST), NOW)  # one too many
    assert polls.is_in_time(UUID(int=0), NOW)
    assert not polls.is_in_time(UUID(int=1), NOW)
    assert len(polls._asked_at) == MOST
