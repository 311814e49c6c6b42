"""A training that runs, and with which this process meets a defect of its own."""

from datetime import timedelta

import pytest
from attrs import define

from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.setting_aside import MOST_DEFECTS
from arena_core.domain import experiment
from arena_core.domain.experiment import Status
from unit.scenes import CARTPOLE
from unit.workers import World

MINUTE = timedelta(minutes=1)


@define
class Deaf:
    """A trainer whose news of one training can't be heard, for a number of times."""

    _trainer: MemoryTrainer
    times: int = 99

    def __getattr__(self, name):
        return getattr(self._trainer, name)

    def news(self, run_id):
        if self.times:
            self.times -= 1
            raise RuntimeError("a defect")
        return self._trainer.news(run_id)


def goes_on(run):
    run.log(1, score=1.0)
    while not run.should_stop:
        yield


@pytest.fixture
def world():
    world = World()
    world.trainer.close()
    world.trainer = MemoryTrainer({"sb3": goes_on}, grace_s=5.0)
    yield world
    world.trainer.close()


def running(worker):
    """Return an experiment whose training has begun."""
    use = worker.use
    project = use.projects.create("carts").id
    made = use.experiments.create(project, name="ppo", algorithm="PPO", source=CARTPOLE)
    use.training.train(made.id)
    worker.train()
    assert status(worker, made) is Status.RUNNING
    return made


def status(worker, made):
    return worker.use.experiments.get(made.id).status


def passes(world, worker, number=20):
    for _ in range(number):
        worker.train()
        world.wait(MINUTE)


def set_aside(world, worker, made):
    """Let the process meet so many defects that it tries the training no more."""
    deaf = Deaf(world.trainer)
    object.__setattr__(worker.core, "trainer", deaf)
    passes(world, worker)
    assert 99 - deaf.times == MOST_DEFECTS
    assert list(worker.trainings.set_aside) == [made.id]
    return deaf


def test_what_is_set_aside_goes_on_and_keeps_its_place(world):
    worker = world.worker()
    made = running(worker)
    set_aside(world, worker, made)
    assert status(worker, made) is Status.RUNNING
    run_id = worker.use.session.find(experiment.KIND, made.id).state.run_id
    assert world.trainer.look(run_id).state.value == "running"
    assert worker.trainings.look_again_s() == 1.0, "it is not listened to"


def test_what_is_set_aside_while_it_runs_is_ended_by_a_stop(world):
    worker = world.worker()
    made = running(worker)
    deaf = set_aside(world, worker, made)
    deaf.times = 0
    worker.use.training.stop(made.id)
    passes(world, worker)
    assert status(worker, made) is Status.STOPPED
    assert worker.trainings.set_aside == {}


def test_what_cannot_be_heard_even_then_is_told_to_end_all_the_same(world):
    worker = world.worker()
    made = running(worker)
    set_aside(world, worker, made)
    run_id = worker.use.session.find(experiment.KIND, made.id).state.run_id
    worker.use.training.stop(made.id)
    passes(world, worker)
    assert "stop" in [effect.what for effect in world.trainer.ledger]
    passes(world, worker, 2)
    assert world.trainer.look(run_id).state.value != "running"
    assert status(worker, made) is Status.STOPPING, "how it ended is not known here"


def test_what_was_said_meanwhile_is_heard_by_the_process_that_comes_next(world):
    worker = world.worker()
    made = running(worker)
    set_aside(world, worker, made)
    worker.die()
    heir = world.worker()
    heir.train()
    points = heir.use.experiments.metrics(made.id)
    assert [(point.name, point.value) for point in points] == [("score", 1.0)]
    heir.use.training.stop(made.id)
    passes(world, heir)
    assert status(heir, made) is Status.STOPPED
