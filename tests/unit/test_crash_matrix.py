"""A pipeline whose processes die at every single point ends as if none had died.

The points are those at which a process does something to the world outside, each
before and after; what it was doing with the rest of its memory is gone.  The mutants
at the end are processes with a bug of the kinds that this must find.
"""

from shutil import copytree
from uuid import uuid4

import pytest
from attrs import evolve

from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.application.recording import Recording
from arena_core.application.stage_steps import Step
from arena_core.application.swapping import Swapper
from arena_core.application.trainer import RunState, Sighting
from arena_core.domain import agent
from arena_core.domain.stage_run import Reaction
from unit.lines import (
    Endless,
    Unwanted,
    teach_for_ever,
)
from unit.matrices import ORDERS, Matrix
from unit.mortal import Fate, Place
from unit.power import power_never_fails

__all__ = ["power_never_fails"]

pytestmark = pytest.mark.usefixtures("power_never_fails")

SHARES = range(4)
"""The points of a seed are dealt out to as many tests, for several processors."""


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return Matrix.of(tmp_path_factory.mktemp("matrix"))


def test_a_pipeline_that_nobody_kills_ends_as_it_should(matrix):
    life, points = matrix.without_a_crash(ORDERS[0])
    outcome = life.outcome
    assert [stage[0] for stage in outcome.stages] == ["Succeeded"] * 3
    assert [stage[3] for stage in outcome.stages] == [1, 2, 1]
    assert [name for _, name, *_ in sorted(outcome.agents, key=lambda a: a[1])] == [
        "line",
        "teacher",
    ]
    assert life.count("start") == [1, 1, 1]
    assert len(points) > 100


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", ORDERS)
def test_it_ends_alike_wherever_its_process_dies(matrix, seed, share):
    for death in matrix.points(seed)[share :: len(SHARES)]:
        matrix.check(seed, death)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ORDERS)
def test_it_ends_alike_though_the_process_that_goes_on_dies_too(matrix, seed):
    """The second death is early in the second life, which is when it recovers."""
    _, points = matrix.without_a_crash(seed)
    for death in range(1 + seed, len(points) + 1, 7):
        matrix.check(seed, death, 1 + death % 11, 1 + death % 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "status", "attempts"), [(Endless, "Failed", 2), (Unwanted, "Stopped", 1)]
)
def test_a_training_that_is_made_to_end_ends_alike_wherever_its_process_dies(
    kind, status, attempts, tmp_path
):
    matrix = Matrix.of(tmp_path, kind, teach_for_ever)
    life, points = matrix.without_a_crash(1)
    stages = life.outcome.stages
    assert [(stage[0], stage[3]) for stage in stages] == [(status, attempts)]
    assert life.count("start") == life.count("stop") == [1] * attempts
    for death in range(1, len(points) + 1):
        matrix.check(1, death)


@pytest.fixture(scope="module")
def second_runs(tmp_path_factory):
    return Matrix.of_second_runs(tmp_path_factory.mktemp("second-runs"))


def test_a_second_run_swaps_what_is_live(second_runs):
    life, points = second_runs.without_a_crash(1)
    outcome = life.outcome
    assert [(stage[0], stage[2]) for stage in outcome.stages] == [("Succeeded", 2)] * 2
    ((*_, digest, status),) = outcome.agents
    assert status == "Deployed"
    assert digest == outcome.stages[0][5][0]
    histories = [[name for name, _ in h] for h in outcome.streams.values()]
    (history,) = [h for h in histories if "agent.checkpoint_frozen" in h]
    assert history.count("agent.checkpoint_replaced") == 1
    assert life.count("start") == [1]
    assert len(points) > 50


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", ORDERS)
def test_a_swap_ends_alike_wherever_its_process_dies(second_runs, seed, share):
    """The process that goes on has to bring back what was live, and then to swap it."""
    for death in second_runs.points(seed)[share :: len(SHARES)]:
        second_runs.check(seed, death, 1 + death % 5)


# --- the matrix itself: it finds what it is to find ----------------------------------


def _in_two_appends(monkeypatch, reaction, first):
    """Have what a reaction records in two appends, `first` of them first."""
    record = Step._record

    def split(step, changes, what):
        if what is not reaction:
            record(step, changes, what)
            return
        early, late = changes[first], [c for c in changes if c not in changes[first]]
        context = step._context(what)
        for part in (early, late):
            if part:
                step.core.handler.handle(evolve(context, command_id=uuid4()), *part)

    monkeypatch.setattr(Step, "_record", split)


def the_next_stage_is_triggered_after_the_success(monkeypatch, _):
    _in_two_appends(monkeypatch, Reaction.SUCCEED, slice(0, 1))


def the_agent_is_added_before_the_success(monkeypatch, _):
    _in_two_appends(monkeypatch, Reaction.SUCCEED, slice(1, 2))


def the_training_is_asked_for_before_the_stage_says_that_it_began(monkeypatch, _):
    _in_two_appends(monkeypatch, Reaction.START, slice(0, 1))


def the_stage_says_that_it_began_before_its_work_is_asked_for(monkeypatch, _):
    _in_two_appends(monkeypatch, Reaction.START, slice(-1, None))


def a_runner_knows_only_what_it_has_heard_itself(monkeypatch, _):
    def look_at_nothing(runner, head):
        runner._position = max(runner._position, head - 1)

    monkeypatch.setattr(PipelineRunner, "_look_at_all", look_at_nothing)


def a_training_is_told_once_and_not_until_it_is_recorded(monkeypatch, matrix):
    class Forgetful(MemoryTrainer):
        def news(self, run_id):
            told = super().news(run_id)
            kept = [self._kept(run_id, found) for found in told.checkpoints]
            self.acknowledge(run_id, told.mark)
            return evolve(told, checkpoints=kept)

        def _kept(self, run_id, found):
            folder = self.home / f"kept-{run_id}-{found.step}"
            copytree(found.folder, folder, dirs_exist_ok=True)
            return evolve(found, folder=folder)

    monkeypatch.setattr(matrix, "trainer", Forgetful)


def a_process_starts_what_it_has_not_started_itself(monkeypatch, _):
    class Blind:
        """Sees of a trainer only what this very process has started."""

        def __init__(self, trainer):
            self.trainer, self.started = trainer, set()

        def __getattr__(self, name):
            return getattr(self.trainer, name)

        def start(self, order, lay_out):
            self.trainer._runs.pop(order.run_id, None)
            self.trainer.start(order, lay_out)
            self.started.add(order.run_id)

        def look(self, run_id):
            seen = self.trainer.look(run_id)
            return seen if run_id in self.started else Sighting(RunState.ABSENT)

    mortal = Place._mortal_trainer

    def blind(place, fate):
        return mortal(evolve(place, trainer=Blind(place.trainer)), fate)

    monkeypatch.setattr(Place, "_mortal_trainer", blind)


def a_swap_is_recorded_before_the_agent_has_the_checkpoint(monkeypatch, _):
    change = Recording.change

    def split(recording, row, changes, cause=None):
        early = [c for c in changes if c.decider is not agent]
        swapped = change(recording, row, early, cause)
        late = [c for c in changes if c.decider is agent]
        if late:
            context = recording._context(row, cause)
            recording._core.handler.handle(context, *late)
        return swapped

    monkeypatch.setattr(Recording, "change", split)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bug",
    [
        the_next_stage_is_triggered_after_the_success,
        the_agent_is_added_before_the_success,
        the_training_is_asked_for_before_the_stage_says_that_it_began,
        the_stage_says_that_it_began_before_its_work_is_asked_for,
        a_runner_knows_only_what_it_has_heard_itself,
        a_training_is_told_once_and_not_until_it_is_recorded,
        a_process_starts_what_it_has_not_started_itself,
    ],
)
def test_the_matrix_finds(bug, tmp_path, monkeypatch):
    _finds(bug, Matrix.of(tmp_path), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bug",
    [
        a_swap_is_recorded_before_the_agent_has_the_checkpoint,
        the_stage_says_that_it_began_before_its_work_is_asked_for,
    ],
)
def test_the_matrix_of_swaps_finds(bug, tmp_path, monkeypatch):
    _finds(bug, Matrix.of_second_runs(tmp_path), monkeypatch)


def _finds(bug, matrix, monkeypatch):
    expected, _ = matrix.without_a_crash(1)
    bug(monkeypatch, matrix)
    fate = Fate()
    assert matrix.live(1, fate) == expected, "nobody dies, and it is seen all the same"
    with pytest.raises(AssertionError):  # noqa: PT012 -- at whichever point it is
        for death in _likely_ones_first(fate.points):
            matrix.check(1, death)


def _likely_ones_first(points):
    """Return all points, those first at which most bugs of this kind are seen."""
    likely = {"after append", "after acknowledge"}
    every = range(1, len(points) + 1)
    return sorted(every, key=lambda death: points[death - 1] not in likely)


def test_it_is_seen_that_what_is_live_falls_silent(second_runs, monkeypatch):
    monkeypatch.setattr(Swapper, "_swap", lambda swapper, _: swapper._registry.close())
    with pytest.raises(AssertionError, match="fallen silent"):
        second_runs.live(1, Fate())
