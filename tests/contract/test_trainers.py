"""Every trainer keeps the contract."""

import sys
from pathlib import Path

import pytest
from attrs import evolve

from arena_core.adapters.trainers.memory import Effect, MemoryTrainer
from arena_core.adapters.trainers.process import Limits, ProcessTrainer, Program
from arena_core.application.trainer import Resumable, RunState
from arena_core.domain.errors import Rejected

from contract import trainings
from contract.trainer import TrainerContract, an_order, ended, nothing, run

HERE = Path(trainings.__file__)


def program_of(order):
    name = order.config["script"]
    if name not in trainings.SCRIPTS:
        raise Rejected("There is no such script.", field="config.script")
    return Program([sys.executable, str(HERE), name])


def process_trainer(folder, **limits):
    return ProcessTrainer(
        folder, program_of, Limits(**{"grace_s": 1.0, "wall_s": 120.0, **limits})
    )


class TestMemory(TrainerContract):
    @pytest.fixture
    def trainer(self):
        trainer = MemoryTrainer(trainings.SCRIPTS, grace_s=0.2)
        yield trainer
        trainer.close()

    @pytest.fixture
    def another(self, trainer):
        return trainer

    def test_a_function_that_yields_is_taken_further_by_each_look(self):
        def counts(run):
            for step in range(3):
                run.log(step, score=1.0)
                yield

        trainer = MemoryTrainer({"counts": counts})
        order = an_order("counts")
        trainer.start(order, nothing)
        said = [len(trainer.news(order.run_id).points)]
        for _ in range(3):
            assert trainer.look(order.run_id).state is RunState.RUNNING
            assert trainer.pace(order.run_id).step == len(said) - 1
            said.append(len(trainer.news(order.run_id).points))
        assert said == [0, 1, 2, 3]
        assert trainer.look(order.run_id).succeeded
        trainer.close()

    def test_a_function_that_yields_and_does_not_stop_is_killed(self):
        def goes_on(run):
            del run
            while True:
                yield

        trainer = MemoryTrainer({"goes_on": goes_on})
        order = an_order("goes_on")
        trainer.start(order, nothing)
        trainer.look(order.run_id)
        trainer.stop(order.run_id)
        assert ended(trainer, order.run_id).stopped
        trainer.close()

    def test_every_effect_is_in_the_ledger(self, trainer):
        order = an_order("goes_on")
        for _ in range(2):
            trainer.start(order, nothing)
        for _ in range(2):
            trainer.stop(order.run_id)
        ended(trainer, order.run_id)
        trainer.stop(order.run_id)
        trainer.tidy([order.run_id], None)
        trainer.discard(order.run_id)
        assert trainer.ledger == [
            Effect(what, order.run_id)
            for what in ("start", "start again", "stop", "tidy", "discard")
        ]

    def test_a_lost_run_is_gone_without_a_trace(self, trainer):
        order = an_order("goes_on")
        trainer.start(order, nothing)
        trainer.lose(order.run_id)
        seen = trainer.look(order.run_id)
        assert (seen.state, seen.code) == (RunState.LOST, None)
        assert "killed" in seen.reason
        trainer.start(order, nothing)
        assert trainer.look(order.run_id).state is RunState.LOST
        assert trainer.pace(order.run_id) is None

    def test_a_recipe_names_a_script_too(self):
        trainer = MemoryTrainer({"command": lambda run: run.log(1, score=2.0)})
        order = evolve(an_order("unused"), config={})
        trainer.start(order, nothing)
        assert ended(trainer, order.run_id).succeeded
        assert [p.value for p in trainer.news(order.run_id).points] == [2.0]
        trainer.close()


@pytest.mark.slow
class TestProcess(TrainerContract):
    @pytest.fixture
    def trainer(self, tmp_path):
        trainer = process_trainer(tmp_path / "runs")
        yield trainer
        trainer.close()

    @pytest.fixture
    def another(self, tmp_path):
        another = process_trainer(tmp_path / "runs")
        yield another
        another.close()

    def test_a_run_that_is_tidied_is_small(self, trainer, tmp_path):
        run_id, _ = run(trainer, "keeps_states")
        trainer.tidy([run_id], Resumable(run_id, 3))
        folder = tmp_path / "runs" / str(run_id)
        files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        assert files == {
            "exit.json", "lock", "order.json", "output.log", "process.json",
            "run/states/3/weights", "shim.log", "started.json",
        } - ({"output.log"} - files)  # fmt: skip
