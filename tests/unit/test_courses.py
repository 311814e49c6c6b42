"""Which metric points show, and which are scores of a checkpoint, whatever happens."""

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arena_core import MetricPoint, gym
from arena_core.application.resources import CheckpointView
from arena_core.domain.course import Begun, Origin, Source, by_hand, is_of
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import (
    AT_WORK,
    RESUMABLE,
    TRAINABLE,
    DeleteCheckpoint,
    RecordCheckpoint,
    RequestTraining,
    Status,
    Written,
)
from arena_core.domain.ids import ExperimentId
from measuring import of_training
from unit.by_hand import Training
from unit.workers import World

STEPS = st.integers(1, 4)
NOW = datetime(2026, 9, 1, tzinfo=UTC)
A, B = "a" * 64, "b" * 64
DIGESTS = st.sampled_from([A, B])
NAME = "fitness"
LOOKED_BACK = 5
"""Positions of the log."""


@define
class Trained:
    """An experiment whose trainings are done by hand, and what is seen of it."""

    world: World = field(factory=World)
    worker: Any = field(init=False)
    id: ExperimentId = field(init=False)
    training: Training = field(init=False)
    _values: int = 0

    def __attrs_post_init__(self):
        self.worker = self.world.worker()
        project = self.worker.use.projects.create("carts").id
        said = {"name": "ppo", "algorithm": "PPO", "source": gym("CartPole-v1")}
        self.id = self.worker.use.experiments.create(project, **said).id
        self.training = Training(self.worker.core, self.id)

    @property
    def use(self):
        return self.worker.use

    @property
    def status(self) -> Status:
        return self.training.state.status

    @property
    def number(self) -> int:
        """Of the latest training."""
        return len(self.training.state.begun)

    def train(self, resume_step: int | None = None) -> None:
        self.training.do(RequestTraining(resume_step))
        self.training.begin()

    def end(self) -> None:
        if self.status in AT_WORK:
            self.training.finish()

    def measure(self, step: int, value: float, by: int | None = None) -> None:
        number = self.number if by is None else by
        measured = of_training(number, [MetricPoint(step, NAME, value)])
        head = self.world.store.head()
        self.worker.core.metrics.record(self.id, measured, log_position=head)

    def say(self, step: int, value: float) -> None:
        self.use.experiments.add_metrics(self.id, [MetricPoint(step, NAME, value)])

    def upload(self, step: int, digest: str) -> None:
        self.training.do(RecordCheckpoint(step, digest, 1))

    def delete(self, step: int) -> None:
        self.training.do(DeleteCheckpoint(step))

    def shown(self, *, as_of=None, **said) -> dict[int, float]:
        points = self._looking(as_of).measurements.points(self.id, **said)
        return {point.step: point.value for point in points}

    def scores(self, *, as_of=None) -> dict[int, float | None]:
        found: list[CheckpointView] = self._looking(as_of).experiments.checkpoints(
            self.id
        )
        return {view.step: view.evaluation_score for view in found}

    def _looking(self, as_of):
        caller = self.use.session.caller
        return self.worker.application.on_behalf_of(caller, as_of=as_of)


# --- whatever happens ----------------------------------------------------------------


@define
class Known:
    """A training as the model has it; the first is what was there before any."""

    goes_on: tuple[int, int] | None = None
    """From which training, and up to which step."""
    points: dict[int, float] = field(factory=dict)
    measured: dict[int, tuple[int, float]] = field(factory=dict)
    """By itself: when, and what."""
    said: dict[int, tuple[int, float]] = field(factory=dict)
    """By hand, while no checkpoint was there."""
    has_written: bool = False


@define
class Copy:
    """A checkpoint as the model has it."""

    digest: str
    of: int
    is_trained: bool


class Courses(RuleBasedStateMachine):
    """What shows is what a plain account of all that has happened says."""

    def __init__(self):
        super().__init__()
        self.real = Trained()
        self.trainings = [Known()]
        self.there: dict[int, Copy] = {}
        self.said: dict[tuple[int, int, str], tuple[int, float]] = {}
        """By hand, of a checkpoint: of which training, at which step, which weights."""
        self.now = 0
        self.past: dict[int, tuple[object, object]] = {}
        """What was seen when the log ended there."""

    # --- what happens ----------------------------------------------------------------

    @rule()
    @precondition(lambda self: self.real.status in TRAINABLE)
    def train_anew(self):
        self.real.train()
        self.trainings.append(Known())

    @rule(data=st.data())
    @precondition(lambda self: self.there and self.real.status in RESUMABLE)
    def resume(self, data):
        step = data.draw(st.sampled_from(sorted(self.there)))
        self.real.train(step)
        self.trainings.append(Known(goes_on=(self.there[step].of, step)))

    @rule(data=st.data(), step=STEPS)
    @precondition(lambda self: len(self.trainings) > 1)
    def measure(self, data, step):
        """Also by an earlier one, whose conductor had been hanging."""
        latest = len(self.trainings) - 1
        by = data.draw(st.just(latest) | st.integers(1, latest))
        value = self.tick()
        self.real.measure(step, value, by)
        self.trainings[by].points[step] = value
        self.trainings[by].measured[step] = self.now, value

    @rule(step=STEPS, digest=DIGESTS)
    @precondition(lambda self: self.real.status is Status.RUNNING)
    def write(self, step, digest):
        number = len(self.trainings) - 1
        latest = self.trainings[number]
        self.real.training.write(step, digest)
        if latest.goes_on is None and not latest.has_written:
            self.there.clear()
        if step in self.there and self.there[step].digest == digest:
            return
        self.there[step] = Copy(digest, number, is_trained=True)
        latest.has_written = True

    @rule()
    def end(self):
        self.real.end()

    @rule(step=STEPS)
    def say(self, step):
        value = self.tick()
        self.real.say(step, value)
        there = self.there.get(step)
        number = len(self.trainings) - 1 if there is None else there.of
        self.trainings[number].points[step] = value
        if there is None:
            self.trainings[number].said[step] = self.now, value
        else:
            self.said[number, step, there.digest] = self.now, value

    @rule(step=STEPS, digest=DIGESTS)
    def upload(self, step, digest):
        if step not in self.there:
            self.real.upload(step, digest)
            latest = len(self.trainings) - 1
            self.there[step] = Copy(digest, latest, is_trained=False)

    @rule(data=st.data())
    @precondition(lambda self: self.there)
    def delete(self, data):
        step = data.draw(st.sampled_from(sorted(self.there)))
        self.real.delete(step)
        del self.there[step]

    # --- what is seen ----------------------------------------------------------------

    @invariant()
    def what_shows_is_the_course_of_the_latest_that_has_left_anything(self):
        assert self.real.shown() == self.shown()

    @invariant()
    def a_score_was_measured_of_its_checkpoint(self):
        assert self.real.scores() == self.scores()

    @invariant()
    def every_point_is_in_the_course_of_its_training(self):
        for number, known in enumerate(self.trainings):
            course = self.real.shown(training=number)
            assert course == self.course(number)
            assert course.items() >= known.points.items()

    @invariant()
    def the_past_stays_as_it_was(self):
        # What is recorded before the log goes on is of the same moment.
        self.past[self.real.world.store.head()] = self.shown(), self.scores()
        for position in sorted(self.past)[-LOOKED_BACK:]:
            found = (
                self.real.shown(as_of=position),
                self.real.scores(as_of=position),
            )
            assert found == self.past[position]

    # --- the account -----------------------------------------------------------------

    def tick(self) -> float:
        """Return a value that there was never before."""
        self.now += 1
        return float(self.now)

    def course(self, number: int) -> dict[int, float]:
        known = self.trainings[number]
        course: dict[int, float] = {}
        if known.goes_on is not None:
            before, last = known.goes_on
            course = {s: v for s, v in self.course(before).items() if s <= last}
        return course | known.points

    def shown(self) -> dict[int, float]:
        numbers = range(len(self.trainings) - 1, 0, -1)
        for number in numbers:
            if self.trainings[number].points or self.trainings[number].has_written:
                return self.course(number)
        return self.course(0)

    def scores(self) -> dict[int, float | None]:
        scores = {}
        for step, there in self.there.items():
            known = self.trainings[there.of]
            candidates = [
                known.measured.get(step) if there.is_trained else None,
                known.said.get(step),
                self.said.get((there.of, step, there.digest)),
            ]
            last = max((it for it in candidates if it is not None), default=None)
            scores[step] = None if last is None else last[1]
        return scores


TestCourses = Courses.TestCase
TestCourses.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


# --- of what a point is said ---------------------------------------------------------


TRAINED = Written(2, A, 1, NOW, training=1, belongs_to=1)
UPLOADED = Written(2, A, 1, NOW, belongs_to=1)


@pytest.mark.parametrize(
    ("origin", "of_trained", "of_uploaded"),
    [
        (Origin(1, Source.TRAINING), True, False),
        (Origin(2, Source.TRAINING), False, False),
        (Origin(1, Source.HAND), True, True),
        (Origin(1, Source.HAND, A), True, True),
        (Origin(1, Source.HAND, B), False, False),
        (Origin(0, Source.HAND, A), False, False),
        (Origin(1, Source.UNKNOWN), True, True),
        (Origin(2, Source.UNKNOWN), False, False),
    ],
)
def test_a_point_is_of_a_checkpoint_by_its_training_or_by_hand(
    origin, of_trained, of_uploaded
):
    assert is_of(origin, TRAINED) is of_trained
    assert is_of(origin, UPLOADED) is of_uploaded


def test_what_is_said_of_a_checkpoint_that_has_gone_meanwhile_is_of_no_other():
    """It was uploaded with a score, and a training has just taken its place."""
    begun = [Begun(None)]
    said_of = by_hand([TRAINED], begun)
    assert said_of(2, B) == said_of(3, B) == Origin(1, Source.HAND, B)
    assert not is_of(said_of(2, B), TRAINED)
    assert said_of(2, A) == said_of(2) == Origin(1, Source.HAND, A)
    assert said_of(3) == Origin(1, Source.HAND)


# --- one case after the other --------------------------------------------------------


@pytest.fixture
def trained():
    """Return an experiment whose first training has left two checkpoints."""
    trained = Trained()
    trained.train()
    for step, value in ((1, 10.0), (2, 20.0), (3, 30.0)):
        trained.measure(step, value)
    for step in (1, 2):
        trained.training.write(step, A)
    trained.end()
    return trained


def test_what_is_trained_anew_hides_the_points_before_it_with_their_checkpoints(
    trained,
):
    trained.train()
    assert trained.shown() == {1: 10.0, 2: 20.0, 3: 30.0}, "it has left nothing yet"
    trained.training.write(2, B)
    assert trained.shown() == {}
    assert trained.scores() == {2: None}
    assert trained.shown(training=1) == {1: 10.0, 2: 20.0, 3: 30.0}


def test_the_first_point_of_a_new_training_hides_those_before_it_and_no_score(trained):
    trained.train()
    trained.measure(1, 11.0)
    assert trained.shown() == {1: 11.0}
    assert trained.scores() == {1: 10.0, 2: 20.0}


def test_a_training_that_leaves_nothing_has_hidden_nothing(trained):
    trained.train()
    trained.training.fail("It crashed.")
    assert trained.shown() == {1: 10.0, 2: 20.0, 3: 30.0}
    assert trained.scores() == {1: 10.0, 2: 20.0}


def test_what_is_resumed_goes_on_from_the_points_up_to_there(trained):
    trained.train(resume_step=2)
    trained.measure(4, 44.0)
    assert trained.shown() == {1: 10.0, 2: 20.0, 4: 44.0}
    trained.training.write(4, B)
    assert trained.scores() == {1: 10.0, 2: 20.0, 4: 44.0}


def test_a_line_of_resumed_trainings_is_one_course(trained):
    trained.train(resume_step=2)
    trained.measure(3, 33.0)
    trained.training.write(3, B)
    trained.end()
    trained.delete(3)
    trained.train(resume_step=1)
    trained.measure(4, 44.0)
    assert trained.shown() == {1: 10.0, 4: 44.0}
    assert trained.shown(training=2) == {1: 10.0, 2: 20.0, 3: 33.0}


def test_what_lies_beyond_the_earliest_of_several_resumes_is_hidden(trained):
    trained.train(resume_step=2)
    trained.training.write(1, B)
    trained.end()
    trained.train(resume_step=1)
    trained.measure(4, 44.0)
    assert trained.shown() == {1: 10.0, 4: 44.0}


def test_who_comes_late_is_told_as_who_it_was(trained):
    trained.train()
    trained.training.write(2, B)
    trained.measure(2, 99.0, by=1)
    assert trained.shown() == {}
    assert trained.scores() == {2: None}


def test_the_same_weights_by_another_training_have_no_score_of_the_first(trained):
    trained.train()
    trained.training.write(2, A)
    assert trained.scores() == {2: None}


def test_what_is_said_by_hand_is_said_of_the_checkpoint_that_is_there(trained):
    trained.train()
    trained.say(2, 5.0)
    assert trained.scores() == {1: 10.0, 2: 5.0}
    trained.training.write(2, B)
    assert trained.scores() == {2: None}
    trained.say(2, 6.0)
    assert trained.scores() == {2: 6.0}


def test_what_is_said_before_the_checkpoint_is_there_counts_for_the_latest_training(
    trained,
):
    trained.train()
    trained.say(4, 5.0)
    trained.training.write(4, B)
    assert trained.scores() == {4: 5.0}


def test_a_stopped_mistake_leaves_the_checkpoints_to_be_scored_by_hand(trained):
    trained.train()
    trained.training.fail("It was a mistake.")
    trained.say(1, 7.0)
    assert trained.scores() == {1: 7.0, 2: 20.0}


def test_what_is_uploaded_in_the_place_of_another_has_no_score_of_that(trained):
    trained.say(2, 21.0)
    trained.delete(2)
    trained.upload(2, B)
    assert trained.scores() == {1: 10.0, 2: None}, "neither measured nor said of it"
    trained.say(2, 7.0)
    assert trained.scores() == {1: 10.0, 2: 7.0}


def test_the_scores_of_an_uploaded_one_are_gone_with_it():
    made = Trained()
    made.upload(1, A)
    made.say(1, 7.0)
    made.train()
    made.training.write(1, A)
    assert made.scores() == {1: None}
    assert made.shown() == {}
    assert made.shown(training=0) == {1: 7.0}


def test_what_goes_on_from_an_uploaded_one_has_its_points_before_it():
    made = Trained()
    made.train()
    made.end()
    made.upload(3, A)
    for step in (2, 3, 4):
        made.say(step, float(step))
    made.train(resume_step=3)
    made.measure(5, 5.0)
    assert made.shown() == {2: 2.0, 3: 3.0, 5: 5.0}


def test_a_copy_begins_without_points(trained):
    copy = trained.use.training.duplicate(trained.id)
    assert not trained.use.experiments.metrics(copy.id)


def test_the_last_values_of_a_training_that_has_just_begun_are_not_those_of_another(
    trained,
):
    assert [p.value for p in trained.use.training.latest(trained.id)] == [30.0]
    trained.train()
    assert not trained.use.training.latest(trained.id)
    trained.measure(1, 11.0)
    assert [p.value for p in trained.use.training.latest(trained.id)] == [11.0]


@pytest.mark.parametrize("training", [-1, 2])
def test_a_training_that_there_never_was_is_refused(trained, training):
    with pytest.raises(Rejected, match="There is no training") as refusal:
        trained.shown(training=training)
    assert refusal.value.field == "training"


def test_the_table_and_what_is_followed_are_of_one_course(trained):
    trained.train(resume_step=1)
    trained.measure(2, 22.0)
    measurements = trained.use.measurements
    assert measurements.table(trained.id).rows == [[1, 10.0], [2, 22.0]]
    first = measurements.table(trained.id, training=1)
    assert first.rows == [[1, 10.0], [2, 20.0], [3, 30.0]]
    news = measurements.recorded(trained.id, 0, limit=3)
    assert [each.point.value for each in news.points] == [10.0]
    assert (news.after, news.is_cut) == (3, True)
    news = measurements.recorded(trained.id, news.after, limit=3)
    assert [each.point.value for each in news.points] == [22.0]
    assert (news.after, news.is_cut) == (4, False)
    news = measurements.recorded(trained.id, news.after, limit=3)
    assert (news.points, news.after, news.is_cut) == ((), 4, False)
    assert measurements.has_recorded(trained.id, news.after)
    assert not measurements.has_recorded(trained.id, news.after + 1)
