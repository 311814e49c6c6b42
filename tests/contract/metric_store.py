"""What every metric store promises; the oracle replays a list of recordings."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core.application.ports import Measured, MetricPoint, MetricStore
from arena_core.domain.course import Origin, Source, Stretch
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.ids import ExperimentId
from measuring import of_training

EXPERIMENT = ExperimentId(UUID(int=1))
OTHER = ExperimentId(UUID(int=2))
NAMES = ["fitness", "score", "Score", "größe", "o'brien", "=x"]

points = st.builds(
    MetricPoint,
    step=st.integers(0, 4) | st.integers(0, 2**63 - 1),
    name=st.sampled_from(NAMES),
    value=st.floats(allow_nan=False, allow_infinity=False),
)
origins = st.builds(
    Origin,
    training=st.integers(0, 3),
    source=st.sampled_from(Source),
    digest=st.none() | st.sampled_from(["a" * 64, "b" * 64]),
)
measured = st.builds(Measured, points, origins)
recordings = st.lists(
    st.tuples(st.lists(measured, max_size=8), st.integers(0, 9)), max_size=6
)
steps = st.none() | st.integers(0, 4)
courses = st.lists(
    st.builds(Stretch, st.integers(0, 3), steps),
    max_size=3,
    unique_by=lambda part: part.training,
).map(lambda parts: sorted(parts, key=lambda part: -part.training))
FIRST = (Stretch(1),)
fresh = (ExperimentId(uuid5(EXPERIMENT, str(n))) for n in count())


def replayed(recordings, course, names, up_to):
    """Return the points that `recordings` leave, by the words of the port."""
    last = {}
    for part in reversed(course):
        for each in known(recordings, names, up_to):
            if each.origin.training != part.training:
                continue
            if part.up_to is None or each.point.step <= part.up_to:
                last[each.point.step, each.point.name] = each.point
    return [point for _, point in sorted(last.items())]


def known(recordings, names, up_to):
    return [
        each
        for recorded, log_position in recordings
        for each in recorded
        if up_to is None or log_position <= up_to
        if names is None or each.point.name in names
    ]


generated = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
    ],
)
names_asked = st.none() | st.lists(st.sampled_from(NAMES), max_size=3)
moments = st.none() | st.integers(-1, 10)


class MetricStoreContract:
    @pytest.fixture
    def store(self) -> MetricStore:
        raise NotImplementedError("the subclass makes the store")

    def test_an_unknown_experiment_has_no_points(self, store):
        assert list(store.points(EXPERIMENT, FIRST)) == []
        assert not store.has_any(EXPERIMENT, 1)
        assert list(store.at(EXPERIMENT, [(1, 1)], names=NAMES)) == []

    @generated
    @given(recordings, courses, names_asked, moments)
    def test_points_are_what_replaying_the_recordings_leaves(
        self, store, recorded, course, names, up_to
    ):
        experiment = next(fresh)
        for batch, log_position in recorded:
            store.record(experiment, batch, log_position=log_position)
        found = list(store.points(experiment, course, names=names, up_to=up_to))
        assert found == replayed(recorded, course, names, up_to)

    @generated
    @given(recordings, courses, names_asked, moments, st.integers(1, 5))
    def test_pages_of_points_are_the_points_cut_into_pieces(  # noqa: PLR0917 -- drawn
        self, store, recorded, course, names, up_to, limit
    ):
        experiment, neighbour = next(fresh), next(fresh)
        for batch, log_position in recorded:
            store.record(experiment, batch, log_position=log_position)
            store.record(neighbour, batch, log_position=log_position)
        asked = {"names": names, "up_to": up_to}
        found, after = [], None
        while page := store.points(
            experiment, course, **asked, after=after, limit=limit
        ):
            assert after is None or (page[0].step, page[0].name) > after
            found.append(list(page))
            after = page[-1].step, page[-1].name
        every = replayed(recorded, course, names, up_to)
        assert found == [
            every[start : start + limit] for start in range(0, len(every), limit)
        ]

    @generated
    @given(recordings, courses, points)
    def test_what_comes_after_a_point_does_not_depend_on_its_being_there(
        self, store, recorded, course, point
    ):
        experiment = next(fresh)
        for batch, log_position in recorded:
            store.record(experiment, batch, log_position=log_position)
        after = point.step, point.name
        assert list(store.points(experiment, course, after=after)) == [
            p
            for p in replayed(recorded, course, None, None)
            if (p.step, p.name) > after
        ]

    @generated
    @given(recordings, courses, names_asked, moments)
    def test_the_latest_of_a_name_is_that_of_its_largest_step(
        self, store, recorded, course, names, up_to
    ):
        experiment, neighbour = next(fresh), next(fresh)
        for batch, log_position in recorded:
            store.record(experiment, batch, log_position=log_position)
        beside = of_training(1, [MetricPoint(2**63 - 1, "zz", 1.0)])
        store.record(neighbour, beside, log_position=0)
        last = {p.name: p for p in replayed(recorded, course, names, up_to)}
        found = list(store.latest(experiment, course, names=names, up_to=up_to))
        assert found == [last[name] for name in sorted(last)]

    def test_an_unknown_experiment_has_nothing_that_is_the_latest(self, store):
        assert list(store.latest(EXPERIMENT, FIRST)) == []

    @generated
    @given(recordings, moments)
    def test_a_training_has_points_from_the_moment_at_which_one_was_recorded(
        self, store, recorded, up_to
    ):
        experiment, neighbour = next(fresh), next(fresh)
        for batch, log_position in recorded:
            store.record(experiment, batch, log_position=log_position)
        for training in range(4):
            point = MetricPoint(1, "a", 1.0)
            store.record(neighbour, of_training(training, [point]), log_position=0)
        having = {each.origin.training for each in known(recorded, None, up_to)}
        for training in range(4):
            found = store.has_any(experiment, training, up_to=up_to)
            assert found == (training in having)

    @generated
    @given(
        recordings,
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=5),
        st.lists(st.sampled_from(NAMES), max_size=3),
        moments,
    )
    def test_at_a_place_all_is_found_in_the_order_of_recording_with_its_origin(
        self, store, recorded, places, names, up_to
    ):
        experiment, neighbour = next(fresh), next(fresh)
        for batch, log_position in recorded:
            store.record(experiment, batch, log_position=log_position)
            store.record(neighbour, batch, log_position=log_position)
        found = store.at(experiment, places, names=names, up_to=up_to)
        assert [Measured(each.point, each.origin) for each in found] == [
            each
            for each in known(recorded, names, up_to)
            if (each.origin.training, each.point.step) in places
        ]
        numbers = [each.number for each in found]
        assert numbers == sorted(set(numbers))

    def test_of_two_trainings_the_later_counts_whoever_comes_last(self, store):
        """Who had lost its claim comes late."""
        late, later = MetricPoint(5, "score", 1.0), MetricPoint(5, "score", 0.5)
        store.record(EXPERIMENT, of_training(2, [later]), log_position=3)
        store.record(EXPERIMENT, of_training(1, [late]), log_position=3)
        both = (Stretch(2), Stretch(1, 5))
        assert list(store.points(EXPERIMENT, both)) == [later]
        assert list(store.latest(EXPERIMENT, both)) == [later]

    def test_of_one_step_and_name_the_last_counts(self, store):
        first, last = MetricPoint(5, "score", 1.0), MetricPoint(5, "score", 0.5)
        store.record(EXPERIMENT, of_training(1, [first]), log_position=3)
        store.record(EXPERIMENT, of_training(1, [last]), log_position=3)
        assert list(store.points(EXPERIMENT, FIRST)) == [last]

    def test_of_one_call_the_last_counts_too(self, store):
        batch = [MetricPoint(5, "score", value) for value in (1.0, 3.0, 2.0)]
        store.record(EXPERIMENT, of_training(1, batch), log_position=3)
        assert list(store.points(EXPERIMENT, FIRST)) == [MetricPoint(5, "score", 2.0)]

    def test_the_past_stays_as_it_was(self, store):
        for value, head in ((1.0, 3), (2.0, 8)):
            point = MetricPoint(5, "score", value)
            store.record(EXPERIMENT, of_training(1, [point]), log_position=head)
        assert list(store.points(EXPERIMENT, FIRST, up_to=2)) == []
        assert [p.value for p in store.points(EXPERIMENT, FIRST, up_to=7)] == [1.0]
        assert [p.value for p in store.points(EXPERIMENT, FIRST, up_to=8)] == [2.0]
        for up_to, values in ((2, []), (7, [1.0]), (8, [1.0, 2.0])):
            found = store.at(EXPERIMENT, [(1, 5)], names=["score"], up_to=up_to)
            assert [each.point.value for each in found] == values
            assert store.has_any(EXPERIMENT, 1, up_to=up_to) == bool(values)

    def test_points_come_by_step_and_then_by_name(self, store):
        batch = [
            MetricPoint(step, name, 0.0)
            for step, name in [(10, "a"), (9, "b"), (10, "B"), (9, "a")]
        ]
        store.record(EXPERIMENT, of_training(1, batch), log_position=1)
        found = [(p.step, p.name) for p in store.points(EXPERIMENT, FIRST)]
        assert found == [(9, "a"), (9, "b"), (10, "B"), (10, "a")]

    def test_experiments_do_not_see_each_other(self, store):
        points = of_training(1, [MetricPoint(1, "score", 1.0)])
        store.record(EXPERIMENT, points, log_position=1)
        assert list(store.points(OTHER, FIRST)) == []
        assert list(store.since(OTHER, 0, limit=9)) == []

    @generated
    @given(recordings, st.integers(1, 5))
    def test_page_by_page_each_point_comes_once_in_the_order_of_recording(
        self, store, recorded, limit
    ):
        experiment, neighbour = next(fresh), next(fresh)
        for batch, log_position in recorded:
            store.record(experiment, batch, log_position=log_position)
            store.record(neighbour, batch, log_position=log_position)
        found, after = [], 0
        while page := store.since(experiment, after, limit=limit):
            assert len(page) <= limit
            found += page
            after = page[-1].number
        every = [each for batch, _ in recorded for each in batch]
        assert [Measured(each.point, each.origin) for each in found] == every
        assert [numbered.number for numbered in found] == [
            number for number, _ in enumerate(every, start=1)
        ]

    def test_a_point_that_is_recorded_again_comes_again(self, store):
        batch = of_training(1, [MetricPoint(5, "score", 1.0)])
        store.record(EXPERIMENT, batch, log_position=1)
        seen = store.since(EXPERIMENT, 0, limit=9)[-1].number
        assert list(store.since(EXPERIMENT, seen, limit=9)) == []
        store.record(EXPERIMENT, batch, log_position=1)
        again = store.since(EXPERIMENT, seen, limit=9)
        assert [Measured(each.point, each.origin) for each in again] == batch

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_is_refused_with_its_whole_call(
        self, store, value
    ):
        batch = [MetricPoint(1, "score", 1.0), MetricPoint(2, "score", value)]
        with pytest.raises(Rejected, match="finite") as refusal:
            store.record(EXPERIMENT, of_training(1, batch), log_position=1)
        assert refusal.value.field == "points.1.value"
        assert list(store.points(EXPERIMENT, FIRST)) == []

    @pytest.mark.parametrize("step", [-1, 2**63])
    def test_a_step_out_of_range_is_refused_with_its_whole_call(self, store, step):
        batch = [MetricPoint(1, "score", 1.0), MetricPoint(step, "score", 1.0)]
        with pytest.raises(Rejected, match="step") as refusal:
            store.record(EXPERIMENT, of_training(1, batch), log_position=1)
        assert refusal.value.field == "points.1.step"
        assert list(store.points(EXPERIMENT, FIRST)) == []

    def test_100_000_points_can_be_recorded_at_a_time_and_no_more(self, store):
        points = [MetricPoint(step, "score", 1.0) for step in range(100_001)]
        batch = of_training(1, points)
        with pytest.raises(TooLarge, match="at most 100000"):
            store.record(EXPERIMENT, batch, log_position=1)
        assert list(store.points(EXPERIMENT, FIRST)) == []
        store.record(EXPERIMENT, batch[:-1], log_position=1)
        assert list(store.points(EXPERIMENT, FIRST)) == points[:-1]

    def test_calls_that_race_lose_nothing(self, store):
        def record(worker: int) -> None:
            for step in range(25):
                batch = of_training(1, [MetricPoint(step, str(worker), 1.0)])
                store.record(EXPERIMENT, batch, log_position=1)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(record, range(4)))
        assert len(store.points(EXPERIMENT, FIRST)) == 100
        numbers = [each.number for each in store.since(EXPERIMENT, 0, limit=200)]
        assert numbers == list(range(1, 101))

    def test_closing_twice_is_harmless(self, store):
        store.close()
        store.close()
