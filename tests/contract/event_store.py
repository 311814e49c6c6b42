"""What every event store promises; each adapter's tests are a subclass of this."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event as Signal
from uuid import UUID, uuid4

import attrs
import pytest

from arena_core.application.ports import Context, EventStore, Recorded, Write
from arena_core.domain.errors import ConcurrentWrite, Rejected, TooLarge, Unavailable
from arena_core.domain.ids import OrganisationId, ProjectId, TokenId
from arena_core.domain.project import (
    ProjectCreated,
    ProjectDeleted,
    ProjectDescribed,
    ProjectRenamed,
)
from arena_core.domain.values import Actor, ActorKind, ProjectKind

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
CREATED = ProjectCreated(ProjectId(UUID(int=7)), "Zoë", ProjectKind.CLASSIC, "")
DELETED = ProjectDeleted()


def renamed(number: int) -> ProjectRenamed:
    return ProjectRenamed(f"name {number}")


class SettableClock:
    """The present time, until it is set."""

    def __init__(self) -> None:
        self.at: datetime | None = None

    def __call__(self) -> datetime:
        return self.at or datetime.now(UTC)


def context(command_id: UUID | None = None) -> Context:
    return Context(
        organisation=OrganisationId("acme"),
        actor=Actor(ActorKind.USER, "ann", TokenId(UUID(int=3))),
        command_id=command_id or uuid4(),
        correlation_id=uuid4(),
        causation_id=uuid4(),
        reason="the old one is wrong",
    )


def append(
    store: EventStore, *writes: Write, by: Context | None = None, at: datetime = WHEN
) -> int:
    return store.append(writes, context=by or context(), occurred_at=at)


def filled(store: EventStore, events: int, stream: UUID | None = None) -> UUID:
    """Append one by one; return the stream."""
    stream = stream or uuid4()
    for number in range(events):
        append(store, Write(stream, number, [renamed(number)]))
    return stream


def everything(store: EventStore) -> Sequence[Recorded]:
    return store.read_all(limit=100_000)


def events_of(recorded: Sequence[Recorded]) -> list[object]:
    return [r.event for r in recorded]


class EventStoreContract:
    """Tests take `store` and `clock` only, so that they can be called by hand."""

    @pytest.fixture
    def clock(self) -> SettableClock:
        return SettableClock()

    @pytest.fixture
    def store(self, clock) -> EventStore:
        raise NotImplementedError("the subclass makes the store, with `clock`")

    # --- reading back

    def test_an_unknown_stream_is_empty(self, store):
        assert store.read(uuid4()) == []

    def test_a_new_log_is_empty(self, store):
        assert store.head() == 0
        assert store.read_all() == []

    def test_a_stream_reads_back_in_order(self, store):
        stream = uuid4()
        append(store, Write(stream, 0, [CREATED, renamed(1)]))
        append(store, Write(stream, 2, [renamed(2), DELETED]))
        found = store.read(stream)
        assert events_of(found) == [CREATED, renamed(1), renamed(2), DELETED]
        assert [r.version for r in found] == [1, 2, 3, 4]

    def test_the_whole_envelope_reads_back(self, store, clock):
        clock.at = WHEN + timedelta(seconds=1)
        stream, by = uuid4(), context()
        position = append(store, Write(stream, 0, [CREATED]), by=by)
        (found,) = store.read(stream)
        assert found.context == by
        assert (found.position, found.stream, found.version) == (position, stream, 1)
        assert (found.name, found.name_version) == ("project.created", 1)
        assert found.occurred_at == WHEN
        assert found.recorded_at == clock.at
        assert found.code.startswith("arena-core ")
        assert len(bytes.fromhex(found.hash)) == 32
        assert found.event_id.version == 5

    def test_absent_causes_and_reasons_read_back_as_absent(self, store):
        stream = uuid4()
        by = attrs.evolve(context(), causation_id=None, reason=None)
        append(store, Write(stream, 0, [CREATED]), by=by)
        assert store.read(stream)[0].context == by

    def test_all_streams_and_one_stream_show_the_same(self, store):
        stream = filled(store, 3)
        filled(store, 2)
        everywhere = [r for r in everything(store) if r.stream == stream]
        assert everywhere == list(store.read(stream))

    def test_event_ids_and_hashes_are_unique(self, store):
        one, other = uuid4(), uuid4()
        append(store, Write(one, 0, [DELETED] * 3), Write(other, 0, [DELETED] * 3))
        found = everything(store)
        assert len({r.event_id for r in found}) == 6
        assert len({r.hash for r in found}) == 6

    # --- expected versions

    @staticmethod
    def refused(store: EventStore, *writes: Write, by: Context | None = None) -> None:
        before = everything(store), store.head()
        with pytest.raises(ConcurrentWrite):
            append(store, *writes, by=by)
        assert (everything(store), store.head()) == before

    def test_an_append_behind_the_stream_is_refused(self, store):
        stream = filled(store, 3)
        for expected in (0, 1, 2):
            self.refused(store, Write(stream, expected, [DELETED]))

    def test_an_append_ahead_of_the_stream_is_refused(self, store):
        stream = filled(store, 3)
        for expected in (4, 5, 1000):
            self.refused(store, Write(stream, expected, [DELETED]))
        self.refused(store, Write(uuid4(), 1, [DELETED]))

    def test_a_negative_expectation_is_refused(self, store):
        self.refused(store, Write(uuid4(), -1, [DELETED]))

    def test_several_streams_are_appended_together(self, store):
        one, other = filled(store, 1), uuid4()
        position = append(
            store, Write(one, 1, [DELETED]), Write(other, 0, [CREATED, DELETED])
        )
        assert events_of(store.read(other)) == [CREATED, DELETED]
        assert position == store.head() == store.read(other)[-1].position

    def test_of_several_streams_all_are_appended_or_none(self, store):
        one, other = filled(store, 1), filled(store, 1)
        good, bad = Write(one, 1, [DELETED]), Write(other, 0, [DELETED])
        self.refused(store, good, bad)
        self.refused(store, bad, good)

    def test_a_write_without_events_still_guards_its_stream(self, store):
        guard, stream = filled(store, 2), uuid4()
        self.refused(store, Write(stream, 0, [CREATED]), Write(guard, 1, []))
        append(store, Write(stream, 0, [CREATED]), Write(guard, 2, []))
        assert len(store.read(guard)) == 2

    def test_one_append_may_write_to_one_stream_twice_in_a_row(self, store):
        stream = uuid4()
        append(store, Write(stream, 0, [CREATED]), Write(stream, 1, [DELETED]))
        assert events_of(store.read(stream)) == [CREATED, DELETED]
        other = uuid4()
        self.refused(store, Write(other, 0, [CREATED]), Write(other, 0, [DELETED]))

    def test_of_racing_writers_exactly_one_wins(self, store):
        stream = uuid4()

        def wins(number: int) -> bool:
            try:
                append(store, Write(stream, 0, [renamed(number), DELETED]))
            except ConcurrentWrite:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(wins, range(8))) == 1
        assert [r.version for r in store.read(stream)] == [1, 2]

    # --- repeating

    def test_the_same_append_again_changes_nothing(self, store):
        one, other, by = filled(store, 2), uuid4(), context()
        writes = Write(one, 2, [renamed(2), DELETED]), Write(other, 0, [CREATED])
        position = append(store, *writes, by=by)
        filled(store, 2)
        append(store, Write(other, 1, [DELETED]))
        before = everything(store)
        assert append(store, *writes, by=by) == position
        assert everything(store) == before

    def test_the_same_append_by_another_command_is_refused(self, store):
        stream, by = uuid4(), context()
        append(store, Write(stream, 0, [CREATED, DELETED]), by=by)
        self.refused(store, Write(stream, 0, [CREATED, DELETED]))

    def test_the_same_command_with_other_events_is_refused(self, store):
        stream, by = uuid4(), context()
        append(store, Write(stream, 0, [CREATED, renamed(1)]), by=by)
        self.refused(store, Write(stream, 0, [CREATED, DELETED]), by=by)
        more = [CREATED, renamed(1), DELETED]
        self.refused(store, Write(stream, 0, more), by=by)

    def test_half_a_repetition_is_refused(self, store):
        stream, other, by = uuid4(), filled(store, 1), context()
        append(store, Write(stream, 0, [CREATED]), by=by)
        writes = Write(stream, 0, [CREATED]), Write(other, 1, [DELETED])
        self.refused(store, *writes, by=by)

    # --- nothing, and too much

    def test_appending_nothing_returns_the_head(self, store):
        stream = filled(store, 2)
        before = everything(store)
        assert append(store) == store.head()
        assert append(store, Write(stream, 2, [])) == store.head()
        assert everything(store) == before

    def test_an_event_that_is_too_large_is_refused(self, store):
        large = ProjectDescribed("x" * 256_000)
        with pytest.raises(TooLarge, match=r"project\.described"):
            append(store, Write(uuid4(), 0, [CREATED, large]))
        assert store.head() == 0
        append(store, Write(uuid4(), 0, [ProjectDescribed("x" * 255_000)]))

    def test_an_append_that_is_too_large_is_refused(self, store):
        large = ProjectDescribed("x" * 250_000)
        with pytest.raises(TooLarge):
            append(
                store, Write(uuid4(), 0, [large] * 5), Write(uuid4(), 0, [large] * 4)
            )
        assert store.head() == 0
        append(store, Write(uuid4(), 0, [large] * 7))

    def test_a_reason_that_is_too_large_is_refused(self, store):
        by = attrs.evolve(context(), reason="x" * 256_000)
        with pytest.raises(TooLarge, match="reason"):
            append(store, Write(uuid4(), 0, [CREATED]), by=by)
        assert store.head() == 0
        by = attrs.evolve(by, reason="x" * 255_000)
        append(store, Write(uuid4(), 0, [CREATED]), by=by)

    def test_a_reason_counts_as_often_as_it_is_stored(self, store):
        by = attrs.evolve(context(), reason="x" * 250_000)
        stream = uuid4()
        with pytest.raises(TooLarge):
            append(store, Write(stream, 0, [CREATED, *[DELETED] * 7]), by=by)
        assert store.head() == 0
        append(store, Write(stream, 0, [CREATED, *[DELETED] * 6]), by=by)

    def test_what_json_cannot_hold_is_refused(self, store):
        with pytest.raises(Rejected):
            append(store, Write(uuid4(), 0, [CREATED, ProjectRenamed("\ud800")]))
        by = attrs.evolve(context(), reason="\udfff")
        with pytest.raises(Rejected):
            append(store, Write(uuid4(), 0, [CREATED]), by=by)
        assert store.head() == 0

    def test_a_time_without_a_zone_is_refused(self, store):
        with pytest.raises(Rejected, match="zone"):
            append(store, Write(uuid4(), 0, [CREATED]), at=WHEN.replace(tzinfo=None))
        assert store.head() == 0

    # --- the order of all events

    def test_positions_increase_over_all_streams(self, store):
        streams = [filled(store, 2), filled(store, 2)]
        for version in (2, 3):
            for stream in streams:
                position = append(store, Write(stream, version, [DELETED]))
                assert position == store.head()
        positions = [r.position for r in everything(store)]
        assert positions == sorted(set(positions))
        assert positions[0] > 0
        assert positions[-1] == store.head()

    def test_a_tailing_reader_misses_nothing(self, store):
        seen: list[Recorded] = []
        done = Signal()

        def tail() -> None:
            after = 0
            while not (done.is_set() and store.head() <= after):
                store.head(beyond=after, timeout_s=0.02)
                page = store.read_all(after=after, limit=7)
                seen.extend(page)
                after = page[-1].position if page else after

        def write(number: int) -> None:
            mine, ours = uuid4(), uuid4()
            for version in range(12):
                append(
                    store,
                    Write(mine, 2 * version, [renamed(number)] * 2),
                    Write(ours, version, [DELETED]),
                )

        with ThreadPoolExecutor(5) as pool:
            reader = pool.submit(tail)
            list(pool.map(write, range(4)))
            done.set()
            reader.result(timeout=30)
        assert len(seen) == 4 * 12 * 3
        assert seen == list(everything(store))

    def test_pages_of_any_size_make_up_the_whole(self, store):
        for stream in (uuid4(), uuid4(), uuid4()):
            filled(store, 11, stream)
        whole = list(everything(store))
        assert len(whole) == 33
        sizes = random.Random(0)  # noqa: S311 -- no secret
        for _ in range(20):
            paged: list[Recorded] = []
            while page := store.read_all(
                after=paged[-1].position if paged else 0, limit=sizes.randint(1, 9)
            ):
                paged.extend(page)
            assert paged == whole

    def test_a_page_has_no_more_than_its_limit(self, store):
        filled(store, 5)
        assert [len(store.read_all(limit=n)) for n in (0, 1, 4, 5, 9)] == [
            0,
            1,
            4,
            5,
            5,
        ]

    def test_a_bound_shows_the_past(self, store):
        one = filled(store, 3)
        other = filled(store, 2)
        append(store, Write(one, 3, [DELETED]))
        whole = everything(store)
        for bound in (0, *(r.position for r in whole), store.head() + 5):
            past = [r for r in whole if r.position <= bound]
            assert list(store.read_all(up_to=bound)) == past
            for stream in (one, other):
                own = [r for r in past if r.stream == stream]
                assert list(store.read(stream, up_to=bound)) == own

    def test_a_bound_and_a_start_make_a_range(self, store):
        filled(store, 5)
        first, second, third, *_ = everything(store)
        found = store.read_all(after=first.position, up_to=third.position)
        assert list(found) == [second, third]
        assert store.read_all(after=third.position, up_to=first.position) == []

    # --- waiting

    def test_the_head_is_returned_at_once_if_it_is_far_enough(self, store):
        filled(store, 2)
        start = time.monotonic()
        assert store.head(beyond=store.head() - 1, timeout_s=5) == store.head()
        assert time.monotonic() - start < 1

    def test_waiting_for_the_head_ends_in_time(self, store):
        filled(store, 2)
        start = time.monotonic()
        assert store.head(beyond=store.head(), timeout_s=0.08) == store.head()
        assert 0.07 < time.monotonic() - start < 1

    def test_an_append_ends_the_wait_for_the_head(self, store):
        before = append(store, Write(uuid4(), 0, [CREATED]))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.head, beyond=before, timeout_s=10)
            time.sleep(0.03)
            assert not waiting.done()
            position = append(store, Write(uuid4(), 0, [CREATED]))
            assert waiting.result(timeout=1) == position

    # --- times and hashes

    def test_recorded_times_never_go_back(self, store, clock):
        for hours in (0, 2, 1, -100, 3):
            clock.at = WHEN + timedelta(hours=hours)
            filled(store, 2)
        times = [r.recorded_at for r in everything(store)]
        assert times == sorted(times)
        assert times[-1] == WHEN + timedelta(hours=3)

    def test_occurred_times_are_kept_as_they_are(self, store):
        stream = uuid4()
        for version, hours in enumerate((5, -5, 0)):
            when = WHEN + timedelta(hours=hours)
            append(store, Write(stream, version, [DELETED]), at=when)
        occurred = [r.occurred_at - WHEN for r in store.read(stream)]
        assert occurred == [timedelta(hours=h) for h in (5, -5, 0)]

    def test_an_honest_log_has_no_faults(self, store):
        one = filled(store, 3)
        filled(store, 3)
        append(store, Write(one, 3, [DELETED]), Write(uuid4(), 0, [CREATED, DELETED]))
        assert list(store.faults()) == []

    # --- closing

    def test_closing_twice_is_harmless(self, store):
        filled(store, 1)
        store.close()
        store.close()

    def test_a_closed_log_says_so(self, store):
        store.close()
        with pytest.raises(Unavailable, match="closed"):
            append(store, Write(uuid4(), 0, [CREATED]))
        for ask in (lambda: store.read(uuid4()), store.read_all, store.head):
            with pytest.raises(Unavailable, match="closed"):
                ask()

    def test_closing_ends_the_wait_for_the_head(self, store):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.head, beyond=0, timeout_s=10)
            time.sleep(0.03)
            store.close()
            with pytest.raises(Unavailable, match="closed"):
                waiting.result(timeout=1)
