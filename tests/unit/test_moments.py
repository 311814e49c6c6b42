"""The speed of a training: steps by time, whatever came before, however it logs."""

import json
from datetime import UTC, datetime

import pytest
from attrs import define, field

from arena_core.adapters.trainers import run_pace
from arena_core.adapters.trainers.shim_pace import KEPT, Moments

NOW = datetime(2026, 9, 1, tzinfo=UTC)
TICK_S = 0.05


@define
class Training:
    """One that writes into a folder, and is looked at every fiftieth of a second."""

    folder: object
    now: float = 1000.0
    moments: Moments = field(init=False)

    def __attrs_post_init__(self):
        (self.folder / "run").mkdir(parents=True)
        metrics = self.folder / "run" / "metrics.jsonl"
        place = self.folder / "pace.json"
        self.moments = Moments(metrics, place, lambda: self.now)

    def waits(self, seconds):
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            self.moments.look()

    def logs(self, *steps):
        with (self.folder / "run" / "metrics.jsonl").open("a") as file:
            for step in steps:
                file.write(json.dumps({"step": step, "loss": 0.5}) + "\n")
        self.moments.look()

    @property
    def rate(self):
        return run_pace.of(self.folder, NOW, None).steps_per_s


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path)


@pytest.mark.parametrize("first", [0, 10**6])
@pytest.mark.parametrize("loads_s", [0, 60])
@pytest.mark.parametrize("every_s", [0.1, 0.5, 2.0, 60.0])
def test_a_steady_training_has_its_rate(training, first, loads_s, every_s):
    training.waits(loads_s)
    for number in range(1, max(20, round(60 / every_s))):
        training.logs(first + 10 * number)
        training.waits(every_s)
    training.waits(2)
    assert training.rate == pytest.approx(10 / every_s, rel=0.05)


def test_what_is_written_in_bursts_has_the_rate_of_the_whole(training):
    step = 0
    for _ in range(10):
        training.waits(30)
        for _ in range(5):  # a burst of half a second
            training.logs(*range(step + 1, step + 61))
            step += 60
            training.waits(0.1)
    training.waits(2)
    assert training.rate == pytest.approx(300 / 30.5, rel=0.01)


def test_one_moment_is_no_rate(training):
    training.logs(*range(100))
    training.waits(60)
    assert training.rate is None


def test_steps_that_go_back_are_no_rate(training):
    for step in (100, 50):
        training.logs(step)
        training.waits(2)
    assert training.rate is None


def test_a_rate_is_that_of_late(training):
    for step in range(KEPT):
        training.logs(step)
        training.waits(2)
    for step in range(KEPT + 1):
        training.logs(KEPT + 10 * step)
        training.waits(2)
    assert training.rate == pytest.approx(5.0)
    known = json.loads((training.folder / "pace.json").read_text())
    assert len(known) == KEPT


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "[[1, 2]]", "[[2, 9], [1, 99]]", "1"]
)
def test_what_is_damaged_is_no_rate(training, damage):
    training.logs(1, 2, 3)
    (training.folder / "pace.json").write_text(damage)
    assert training.rate is None


def test_where_nothing_can_be_written_nothing_is_known_and_nothing_fails(training):
    (training.folder / ".pace.json").mkdir()
    for step in range(5):
        training.logs(step)
        training.waits(2)
    assert training.rate is None


def test_what_is_no_plain_file_does_not_grow(training, tmp_path):
    other = tmp_path / "other"
    (training.folder / "run" / "metrics.jsonl").symlink_to(other)
    for number in range(5):
        other.write_text("x" * number)
        training.waits(2)
    assert not (training.folder / "pace.json").exists()


def test_what_becomes_shorter_has_not_grown(training):
    training.logs(1, 2, 3)
    training.waits(2)
    (training.folder / "run" / "metrics.jsonl").write_text("")
    training.waits(5)
    assert len(json.loads((training.folder / "pace.json").read_text())) == 1


def test_what_is_left_is_what_it_says_itself_over_its_rate(training):
    (training.folder / "run" / "progress.json").write_text('{"total": 100}')
    for step in (10, 20, 30, 40):
        training.logs(step)
        training.waits(2)
    pace = run_pace.of(training.folder, NOW, 50)
    assert (pace.step, pace.max_steps) == (40, 100)
    assert pace.left_s == pytest.approx(60 / pace.steps_per_s)
    training.logs(110)
    past_its_end = run_pace.of(training.folder, NOW, 50)
    assert past_its_end.left_s == 0
    assert past_its_end.steps_per_s == pace.steps_per_s, "the moment is not over"
