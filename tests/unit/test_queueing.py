"""What waits for its turn to train says at which place it stands."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from rich.console import Console

from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.handling import Change
from arena_core.domain import experiment
from arena_core.domain.experiment import Status
from arena_core.entrypoints.cli.training_watching import seen
from arena_core.entrypoints.pipeline_tree import trainings_of, tree
from arena_core.entrypoints.stage_words import note_of_run
from arena_core.entrypoints.training_progress import Progress, line, words
from unit.by_hand import handle
from unit.pipelines_at_work import CARTPOLE, COMMAND, LAB, Works
from unit.scenes import STRANGER
from unit.workers import World

HOUR = timedelta(hours=1)
TURN = "waits for its turn to train: place 1 in the queue"


def train_for_ever(run):
    while not run.should_stop:
        yield


@pytest.fixture
def works(tmp_path):
    works = Works(tmp_path, World(trainer=MemoryTrainer({"command": train_for_ever})))
    yield works
    works.close()


def asked_for(works, number, use=None):
    use = use or works.use
    made = [works.experiment(f"{n}") for n in range(number)]
    for experiment_id in made:
        use.training.train(experiment_id)
    return made


def places(works, experiments, use=None):
    shown = [(use or works.use).experiments.get(e).training for e in experiments]
    return [training.queue_position for training in shown]


def test_what_waits_stands_in_the_order_in_which_it_was_asked_for(works):
    waiting = asked_for(works, 3)
    assert places(works, waiting) == [1, 2, 3]
    works.begin(waiting[0])
    assert places(works, waiting) == [None, 1, 2]


def test_whoever_stands_first_is_taken_on_first(works):
    """Of this loop at most two are at work at the same time."""
    waiting = asked_for(works, 4)
    works.worker.trainings.reconcile()
    assert places(works, waiting) == [None, None, 1, 2]
    works.use.training.stop(waiting[2])
    assert places(works, waiting) == [None, None, None, 1]


def test_who_waits_keeps_the_place_whatever_else_is_changed(works):
    waiting = asked_for(works, 4)
    works.worker.trainings.reconcile()
    works.use.experiments.edit(waiting[2], name="another name")
    assert places(works, waiting[2:]) == [1, 2]
    works.use.training.stop(waiting[0])
    for _ in range(5):
        works.worker.trainings.reconcile()
    assert places(works, waiting[2:]) == [None, 1]


def test_who_asks_again_stands_at_the_end(works):
    waiting = asked_for(works, 4)
    works.worker.trainings.reconcile()
    works.use.training.stop(waiting[2])
    works.use.training.train(waiting[2])
    assert places(works, waiting[2:]) == [2, 1]


def test_what_somebody_has_taken_on_waits_no_more(works):
    waiting = asked_for(works, 2)
    core = works.worker.core
    claim = experiment.ClaimTraining(works.worker.id, core.clock() + HOUR)
    handle(core, Change(experiment, waiting[0], claim))
    assert works.state(waiting[0]).status.value == "Pending"
    assert places(works, waiting) == [None, 1]


def test_where_it_stood_is_known_of_the_past(works):
    waiting = asked_for(works, 2)
    head = works.worker.core.store.head()
    works.begin(waiting[0])
    past = works.worker.application.on_behalf_of(LAB, as_of=head)
    assert places(works, waiting, past) == [1, 2]
    assert places(works, waiting) == [None, 1]


def test_what_others_have_asked_for_is_not_told(works):
    ours = asked_for(works, 2)
    elsewhere = evolve(LAB, organisation=STRANGER.organisation)
    others = works.worker.application.on_behalf_of(elsewhere)
    project = others.projects.create("theirs", kind="advanced").id
    theirs = others.experiments.create(
        project,
        name="theirs",
        algorithm="PPO",
        source=CARTPOLE,
        recipe="command",
        config=COMMAND,
    )
    others.training.train(theirs.id)
    assert others.experiments.get(theirs.id).training.queue_position == 1
    assert places(works, ours) == [1, 2]


def test_a_stage_whose_training_waits_says_so(works):
    asked_for(works, 2)
    works.worker.trainings.reconcile()
    bound = works.train()
    works.trigger()
    works.worker.trainings.reconcile()
    run = works.run(1)
    assert (works.statuses(), run.queue_position) == (["Running"], 1)
    (listed,) = works.use.pipelines.runs(works.pipeline, works.stage(1).id)
    assert listed.queue_position == 1
    assert note_of_run(listed) == TURN
    drawn = Console(width=120, record=True, file=io.StringIO())
    shown = trainings_of(works.use, works.view())
    drawn.print(tree(works.view(), shown, datetime.now(UTC)))
    assert drawn.export_text().count(TURN) == 1
    works.begin(bound)
    assert works.run(1).queue_position is None


def test_a_training_that_waits_says_so_on_its_line(works):
    (waiting,) = asked_for(works, 1)
    view = works.use.experiments.get(waiting)
    assert words(Progress.of(works.use, view)) == [TURN]
    assert line(Progress.of(works.use, view)).plain.count(TURN) == 1
    works.begin(waiting)
    view = works.use.experiments.get(waiting)
    assert "queue" not in line(Progress.of(works.use, view)).plain


def test_what_its_stage_is_about_to_train_again_is_pending(works):
    bound = works.train()
    works.trigger()
    works.succeed(bound)
    assert seen(works.use, bound).status is Status.SUCCEEDED
    works.use.training.train(bound)
    assert works.use.experiments.get(bound).status is Status.SUCCEEDED
    about = seen(works.use, bound)
    assert (about.status, about.training) == (Status.PENDING, None)
    works.go_on()
    works.begin(bound)
    assert seen(works.use, bound).training.number == 2
