"""Which position a moment means."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve, frozen
from hypothesis import example, given
from hypothesis import strategies as st

from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.application.history import PAGE, pages, parse_moment, position_at
from arena_core.application.ports import Write
from arena_core.domain import project
from arena_core.domain.errors import Rejected
from arena_core.domain.values import ProjectKind
from unit.scenes import CONTEXT

START = datetime(2026, 9, 1, tzinfo=UTC)
LATE = START + timedelta(days=1)


def seconds(number):
    return START + timedelta(seconds=number)


@frozen
class Gappy:
    """A log with gaps between its positions, which stores may leave."""

    events: list

    def head(self):
        return self.events[-1].position if self.events else 0

    def read_all(self, *, after=0, limit=500, up_to=None):
        del up_to
        return [e for e in self.events if e.position > after][:limit]


def a_log(times, gaps=()):
    """Return a log with an event for each of `times`, in seconds."""
    clock = iter(times)
    store = MemoryEventStore(lambda: seconds(next(clock)))
    for number, _ in enumerate(times):
        created = project.ProjectCreated(
            CONTEXT.command_id, "carts", ProjectKind.CLASSIC, ""
        )
        event = created if number == 0 else project.ProjectDescribed(str(number))
        write = Write(CONTEXT.command_id, number, [event])
        store.append([write], context=CONTEXT, occurred_at=START)
    recorded = store.read_all(limit=len(times) + 1)
    spread = [
        evolve(r, position=r.position + sum(gaps[: r.position])) for r in recorded
    ]
    return Gappy(spread) if gaps else store


def by_looking_at_all(store, moment):
    fitting = [e.position for e in store.read_all() if e.recorded_at <= moment]
    return max(fitting, default=0)


@given(
    st.lists(st.integers(0, 6), max_size=20).map(sorted),
    st.lists(st.integers(0, 5), min_size=20, max_size=20),
    st.integers(-1, 7),
)
@example([3, 3, 3, 3], [0] * 20, 3)
@example([3], [9] * 20, 2)
def test_the_search_finds_what_looking_at_every_event_finds(times, gaps, second):
    for store in (a_log(times), a_log(times, gaps)):
        moment = seconds(second)
        assert position_at(store, moment) == by_looking_at_all(store, moment)


def test_it_reads_few_events_of_a_long_log():
    store, asked = a_log(range(300)), []

    @frozen
    class Counting:
        def head(self):
            return store.head()

        def read_all(self, **where):
            asked.append(where)
            return store.read_all(**where)

    assert position_at(Counting(), seconds(123)) == 124
    assert len(asked) <= 9
    assert {where["limit"] for where in asked} == {1}


def test_pages_give_every_event_once():
    store = a_log(range(PAGE + 3))
    assert [e.position for e in pages(store)] == list(range(1, PAGE + 4))
    assert [e.position for e in pages(store, after=2, up_to=4)] == [3, 4]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("0", 0),
        ("2", 2),
        ("2026-09-01T00:00:01Z", 2),
        ("2026-09-01T00:00:01.5+00:00", 2),
        ("2026-09-01T00:00:01.5 00:00", 2),
        ("2026-09-01T02:00:02+02:00", 3),
        ("2026-08-31T23:59:59Z", 0),
    ],
)
def test_a_moment_is_a_position_or_a_time_with_its_zone(text, position):
    assert parse_moment(a_log([0, 1, 2]), text, now=LATE) == position


@pytest.mark.parametrize("text", ["4", "10", "9" * 5000])
def test_a_position_beyond_the_log_is_refused(text):
    with pytest.raises(Rejected, match="The log ends at position 3") as caught:
        parse_moment(a_log([0, 1, 2]), text, now=LATE)
    assert caught.value.field == "as_of"


def test_a_time_that_lies_ahead_is_refused():
    with pytest.raises(Rejected, match="still to come"):
        parse_moment(a_log([0]), "2026-09-01T00:00:01Z", now=START)


@pytest.mark.parametrize(
    "text", ["", "-1", "now", "2026-09-01T00:00:01", "2026-13-01T00:00:01Z", "²"]
)
def test_what_is_neither_is_refused(text):
    with pytest.raises(Rejected, match="a time with its zone"):
        parse_moment(a_log([0, 1, 2]), text, now=LATE)
