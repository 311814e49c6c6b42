"""A pipeline with its runner, whose trainings are done by hand: nothing runs by itself.

The deployments are real: the weights are loaded and checked, as a Connect does it.
"""

from collections.abc import Mapping
from datetime import timedelta
from itertools import count
from pathlib import Path
from uuid import UUID

from attrs import define, field

from arena_core import gym
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.application.pipeline_views import PipelineView, RunView, StageView
from arena_core.application.ports import MetricPoint, Recorded
from arena_core.application.use_cases import UseCases
from arena_core.domain import experiment
from arena_core.domain.experiment import Experiment
from arena_core.domain.ids import DEFAULT_ORGANISATION, Digest, ExperimentId
from arena_core.domain.values import LIBRARY, Caller, Role
from measuring import of_training
from unit.by_hand import Training
from unit.workers import Worker, World

import bundles

CARTPOLE = gym("CartPole-v1")
COMMAND = {"argv": ["train"]}
LAB = Caller(DEFAULT_ORGANISATION, LIBRARY, Role.MANAGER)
"""Whoever has the store, and may have any program run."""


@define
class Works:
    """One worker of a store, with a runner, and a project for pipelines."""

    folder: Path
    world: World = field(factory=World)
    worker: Worker = field(init=False)
    runner: PipelineRunner = field(init=False)
    project: UUID = field(init=False)
    pipeline: UUID = field(init=False)
    _numbers: count = field(factory=count)

    def __attrs_post_init__(self):
        self.worker = self.world.worker()
        self.runner = PipelineRunner(self.worker.core)
        self.project = self.use.projects.create("lab", kind="advanced").id
        self.pipeline = self.use.pipelines.create(self.project, name="line").id

    def close(self) -> None:
        self.world.trainer.close()

    @property
    def use(self) -> UseCases:
        return self.worker.application.on_behalf_of(LAB)

    # --- structure -------------------------------------------------------------------

    def experiment(self, name: str = "ppo", **said) -> UUID:
        said = {"algorithm": "PPO", "source": CARTPOLE} | said
        said = {"recipe": "command", "config": COMMAND} | said
        return self.use.experiments.create(self.project, name=name, **said).id

    def train(self, trigger: str = "auto", *, of: UUID | None = None, **said) -> UUID:
        """Insert an Experiment stage; return its experiment."""
        bound = self.experiment() if of is None else of
        if not self.view().stages:
            trigger = "manual"
        self.use.pipelines.insert_stage(
            self.pipeline,
            type="experiment",
            trigger=trigger,
            experiment_id=bound,
            **said,
        )
        return bound

    def deploy(self, trigger: str = "auto", **said) -> None:
        """Insert a Deployment stage."""
        self.use.pipelines.insert_stage(
            self.pipeline, type="deployment", trigger=trigger, **said
        )

    def view(self) -> PipelineView:
        return self.use.pipelines.get(self.pipeline)

    def stage(self, position: int) -> StageView:
        return self.view().stages[position - 1]

    def stage_of(self, experiment_id: UUID) -> int:
        """Return the position of the stage that the experiment is bound to."""
        bound = [stage.experiment_id for stage in self.view().stages]
        return bound.index(experiment_id) + 1

    def run(self, position: int) -> RunView:
        run = self.stage(position).run
        assert run is not None
        return run

    def statuses(self) -> list[str]:
        return [stage.status.value for stage in self.view().stages]

    # --- what people do --------------------------------------------------------------

    def trigger(self, position: int = 1) -> None:
        self.use.pipelines.trigger(self.pipeline, self.stage(position).id)
        self.go_on()

    def retry(self, position: int) -> None:
        self.use.pipelines.retry(self.pipeline, self.stage(position).id)
        self.go_on()

    def stop(self, position: int) -> None:
        self.use.pipelines.stop(self.pipeline, self.stage(position).id)
        self.go_on()

    # --- what processes do -----------------------------------------------------------

    def go_on(self, passes: int = 1) -> None:
        for _ in range(passes):
            self.runner.reconcile()

    def connect(self) -> None:
        """Have the supervisor put live what is to be, and the runner see it."""
        for _ in range(3):
            self.worker.pass_()
            self.go_on()

    def wait(self, seconds: float) -> None:
        self.world.wait(timedelta(seconds=seconds))
        self.go_on()

    def begin(self, experiment_id: UUID) -> None:
        """Take the training on, as a trainer does."""
        self._training(experiment_id).begin()

    def write(
        self,
        experiment_id: UUID,
        step: int,
        fitness: float | None = None,
        *,
        network: bundles.Network | None = None,
    ) -> Digest:
        """Write a checkpoint whose weights are a new network's, or those given."""
        number = next(self._numbers)
        network = bundles.Network.of(4, 2, seed=number) if network is None else network
        bundle = bundles.cartpole(self.folder / f"bundle{number}", network=network)
        digest = self.worker.core.blobs.put(bundle)
        if fitness is not None:
            self._measure(experiment_id, step, fitness)
        self._training(experiment_id).write(step, digest)
        return digest

    def finish(self, experiment_id: UUID) -> None:
        self._training(experiment_id).finish()
        self.go_on()

    def fail(self, experiment_id: UUID, reason: str = "It crashed.") -> None:
        self._training(experiment_id).fail(reason)
        self.go_on()

    def acknowledge_stop(self, experiment_id: UUID) -> None:
        self._training(experiment_id).acknowledge_stop()
        self.go_on()

    def succeed(
        self, experiment_id: UUID, scores: Mapping[int, float | None] | None = None
    ) -> list[Digest]:
        """Train from the beginning to the end, with a checkpoint for each score."""
        self.begin(experiment_id)
        steps = {10: 1.0} if scores is None else scores
        written = [
            self.write(experiment_id, step, fitness) for step, fitness in steps.items()
        ]
        self.finish(experiment_id)
        return written

    def delete(self, experiment_id: UUID) -> None:
        """Delete it, though a stage trains it."""
        bound_to = self.state(experiment_id).bound_to
        if bound_to is not None:
            self._training(experiment_id).do(experiment.ReleaseExperiment(bound_to))
        self._training(experiment_id).do(experiment.DeleteExperiment())

    def ask_for_training(self, experiment_id: UUID) -> None:
        """Ask for a training of which the stage knows nothing."""
        self._training(experiment_id).do(experiment.RequestTraining())

    def state(self, experiment_id: UUID) -> Experiment:
        return self.use.session.find(experiment.KIND, experiment_id, deleted=True).state

    # --- what the log says -----------------------------------------------------------

    def log(self, *kinds: str) -> list[str]:
        """Return the names of all events of these kinds."""
        names = [recorded.name for recorded in self.events()]
        return [name for name in names if name.partition(".")[0] in kinds]

    def events(self) -> list[Recorded]:
        return list(self.world.store.read_all(limit=10_000))

    def last(self, name: str) -> Recorded:
        return next(r for r in reversed(self.events()) if r.name == name)

    def _training(self, experiment_id: UUID) -> Training:
        return Training(self.worker.core, experiment_id)

    def _measure(self, experiment_id: UUID, step: int, fitness: float) -> None:
        core = self.worker.core
        core.metrics.record(
            ExperimentId(experiment_id),
            of_training(
                len(self.state(experiment_id).begun),
                [MetricPoint(step, "fitness", fitness)],
            ),
            log_position=core.store.head(),
        )
