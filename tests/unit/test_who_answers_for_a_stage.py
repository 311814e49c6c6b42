"""Who answers for what a stage has this machine run, though the runner asks for it."""

from itertools import count

import pytest
from attrs import define, field

import arena_core
from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.domain.errors import Forbidden
from arena_core.domain.experiment import AT_WORK
from arena_core.domain.ids import training_of
from unit.scenes import ANN, CARTPOLE
from unit.workers import World

import bundles

OPERATOR = arena_core.Caller(
    ANN.organisation,
    arena_core.Actor(arena_core.ActorKind.OPERATOR, "root"),
    arena_core.Role.MANAGER,
)
COMMAND = {"recipe": "command", "config": {"argv": ["their", "program"]}}
HARMLESS = {"recipe": "sb3"}


@define
class Place:
    """A server whose operator allows commands, or does so no more."""

    world: World
    worker: object
    runner: PipelineRunner
    pipeline: object = None
    bound: list = field(factory=list)

    def as_(self, who):
        return self.worker.application.on_behalf_of(who)

    def allow(self, *, commands):
        object.__setattr__(self.worker.core, "allow_commands", commands)

    def chain(self, who, *stages, **said):
        """Have somebody make a pipeline: its first stage is manual, the others Auto."""
        use = self.as_(who)
        project = use.projects.create("chains", kind="advanced").id
        self.pipeline = use.pipelines.create(project, name="chain").id
        for number, setup in enumerate(stages):
            made = use.experiments.create(
                project, name="ppo", algorithm="PPO", source=CARTPOLE, **setup
            )
            self.bound.append(made.id)
            use.pipelines.insert_stage(
                self.pipeline,
                experiment_id=made.id,
                trigger="auto" if number else "manual",
                **said,
            )

    @property
    def stages(self):
        return self.as_(OPERATOR).pipelines.get(self.pipeline).stages

    def trigger(self, who):
        self.as_(who).pipelines.trigger(self.pipeline, self.stages[0].id)
        self.go_on()

    def go_on(self):
        for _ in range(20):
            self.runner.reconcile()
            self.worker.train()

    def has_run(self, position):
        run_id = training_of(self.bound[position - 1], 1)
        started = (e for e in self.world.trainer.ledger if e.what == "start")
        return run_id in {effect.run_id for effect in started}

    def end(self, position):
        experiment = self.as_(OPERATOR).experiments.get(self.bound[position - 1])
        assert experiment.status not in AT_WORK
        return experiment.status.value, experiment.reason or ""


@pytest.fixture
def place(tmp_path):
    numbers = count()

    def script(run):
        run.log(10, fitness=1.0)
        run.checkpoint(10, bundles.cartpole(tmp_path / f"{next(numbers)}"))
        yield

    world = World()
    world.trainer = MemoryTrainer({"sb3": script, "command": script})
    worker = world.worker()
    yield Place(world, worker, PipelineRunner(worker.core))
    world.trainer.close()


def test_a_program_of_a_member_is_not_run_by_an_auto_stage_once_that_is_denied(place):
    place.allow(commands=True)
    place.chain(ANN, HARMLESS, COMMAND)
    place.allow(commands=False)
    place.trigger(ANN)
    assert place.end(1)[0] == "Succeeded"
    status, reason = place.end(2)
    assert (status, "ARENA_ALLOW_COMMANDS" in reason) == ("Failed", True)
    assert not place.has_run(2)


def test_a_program_of_the_operator_is_run_by_an_auto_stage_whoever_triggers(place):
    place.chain(OPERATOR, HARMLESS, COMMAND)
    place.trigger(ANN)
    assert place.has_run(2)
    assert place.end(2)[0] == "Succeeded"


def test_of_what_the_operator_has_set_up_nobody_else_makes_another_program(place):
    place.chain(OPERATOR, HARMLESS, COMMAND)
    mine = {"argv": ["my", "program"]}
    with pytest.raises(Forbidden):
        place.as_(ANN).experiments.edit(place.bound[1], config=mine)


def test_who_triggers_a_stage_answers_for_it_when_it_begins(place):
    place.allow(commands=True)
    place.chain(ANN, COMMAND, approval=True)
    place.trigger(ANN)
    place.allow(commands=False)
    place.as_(OPERATOR).pipelines.approve(place.pipeline, place.stages[0].id)
    place.go_on()
    assert "ARENA_ALLOW_COMMANDS" in place.end(1)[1]
    assert not place.has_run(1)


def test_the_operator_may_trigger_what_a_member_has_set_up(place):
    place.allow(commands=True)
    place.chain(ANN, COMMAND)
    place.allow(commands=False)
    with pytest.raises(Forbidden):
        place.trigger(ANN)
    place.trigger(OPERATOR)
    assert place.has_run(1)
    assert place.end(1)[0] == "Succeeded"


def test_who_has_edited_a_set_up_last_has_written_it(place):
    place.allow(commands=True)
    place.chain(OPERATOR, HARMLESS, COMMAND)
    mine = {"argv": ["my", "program"]}
    place.as_(ANN).experiments.edit(place.bound[1], config=mine)
    place.allow(commands=False)
    place.trigger(ANN)
    assert not place.has_run(2)
