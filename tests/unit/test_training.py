"""Rules 6 to 8: training is asked for, stopped and resumed."""

import pytest

from arena_core.application.experiments import setup
from arena_core.application.handling import Change
from arena_core.domain import experiment
from arena_core.domain.errors import Conflict, IllegalTransition, NotFound, Rejected
from arena_core.domain.experiment import Status
from unit.scenes import CARTPOLE, CONTEXT

PPO = setup(algorithm="PPO", source=CARTPOLE)


def happens(scene, experiment_id, *commands):
    for command in commands:
        change = Change(experiment, experiment_id, command)
        scene.arena.application.core.handler.handle(CONTEXT, change)


@pytest.fixture
def project(scene):
    return scene.use.projects.create("carts").id


def requested(scene):
    """Return what was asked for, by the last event that asks."""
    events = scene.arena.application.core.store.read_all()
    asked = [e.event for e in events if e.name == "experiment.training_requested"]
    return asked[-1]


def test_rule_06_a_submitted_experiment_is_pending(scene, project):
    made = scene.use.training.submit(project, name=" ppo ", setup=PPO, max_steps=500)
    assert (made.name, made.status) == ("ppo", Status.PENDING)
    assert requested(scene) == experiment.TrainingRequested(None, None, 500)
    assert scene.use.experiments.list(project_id=project).items == [made]


@pytest.mark.parametrize(
    ("name", "asked"), [("", PPO), ("ppo", setup(algorithm="PPO"))], ids=["name", "on"]
)
def test_rule_06_what_cannot_be_trained_is_not_half_submitted(
    scene, project, name, asked
):
    before = scene.log()
    with pytest.raises(Rejected):
        scene.use.training.submit(project, name=name, setup=asked)
    assert scene.log() == before


def test_rule_06_a_draft_is_trained_when_that_is_requested(scene):
    draft = scene.experiment(scores={})
    assert scene.use.training.request(draft.id).status is Status.PENDING
    assert requested(scene).max_steps is None
    with pytest.raises(IllegalTransition, match="while the experiment is Pending"):
        scene.use.training.request(draft.id, max_steps=1)


def test_rule_07_what_nobody_has_begun_is_stopped_at_once(scene, project):
    made = scene.use.training.submit(project, name="ppo", setup=PPO)
    assert scene.use.training.stop(made.id).status is Status.STOPPED
    assert scene.log()[-2:] == [
        "experiment.stop_requested",
        "experiment.training_stopped",
    ]


def test_rule_07_what_is_running_stops_when_it_has_acknowledged(scene, project):
    made = scene.use.training.submit(project, name="ppo", setup=PPO)
    happens(scene, made.id, experiment.StartTraining())
    assert scene.use.training.stop(made.id).status is Status.STOPPING
    before = scene.log()
    assert scene.use.training.stop(made.id).status is Status.STOPPING
    assert scene.log() == before


def test_rule_07_what_does_not_train_cannot_be_stopped(scene):
    draft = scene.experiment(scores={})
    with pytest.raises(IllegalTransition, match="request stop is not possible"):
        scene.use.training.stop(draft.id)


def test_rule_08_resuming_goes_on_from_the_last_checkpoint(scene):
    made = scene.experiment(scores={10: 3.0, 30: 1.0, 20: 2.0})
    scene.use.training.request(made.id)
    scene.use.training.stop(made.id)
    assert scene.use.training.resume(made.id, max_steps=99).status is Status.PENDING
    digest = scene.use.experiments.checkpoints(made.id)[-1].digest
    assert requested(scene) == experiment.TrainingRequested(30, digest, 99)


def test_rule_08_a_failed_experiment_with_checkpoints_can_be_resumed(scene):
    made = scene.experiment()
    scene.use.training.request(made.id)
    happens(scene, made.id, experiment.FailTraining("out of memory"))
    resumed = scene.use.training.resume(made.id)
    assert (resumed.status, resumed.reason) == (Status.PENDING, None)


def test_rule_08_resuming_needs_a_checkpoint(scene):
    made = scene.experiment(scores={})
    scene.use.training.request(made.id)
    scene.use.training.stop(made.id)
    with pytest.raises(Conflict, match="no checkpoint to resume from"):
        scene.use.training.resume(made.id, max_steps=99)


@pytest.mark.parametrize("scores", [{}, {10: 1.0}], ids=["without", "with"])
@pytest.mark.parametrize("asked", [False, True], ids=["Draft", "Pending"])
def test_rule_08_nothing_is_resumed_that_has_not_ended(scene, asked, scores):
    made = scene.experiment(scores=scores)
    if asked:
        scene.use.training.request(made.id)
    with pytest.raises(IllegalTransition, match="wait until it is one of Succeeded"):
        scene.use.training.resume(made.id)


def test_a_negative_number_of_steps_is_refused(scene):
    made = scene.experiment()
    with pytest.raises(Rejected, match="max_steps must not be negative"):
        scene.use.training.request(made.id, max_steps=-1)


def test_what_was_deleted_is_not_trained(scene):
    made = scene.experiment()
    scene.use.experiments.delete(made.id)
    for ask in (
        scene.use.training.request,
        scene.use.training.stop,
        scene.use.training.resume,
    ):
        with pytest.raises(NotFound):
            ask(made.id)
