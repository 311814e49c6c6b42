"""Pipelines whose trainings are played by hand: every event is a real one.

The runner is the real one, a step of one stage at a time; what it waits for is done by
hand, so that a test says in which order things happen.
"""

from itertools import count
from uuid import UUID

from attrs import field, frozen

from arena_core.application.handling import Change
from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.ports import MetricPoint
from arena_core.application.session import Core
from arena_core.application.stage_steps import Step
from arena_core.application.triggering import Bound, triggered
from arena_core.domain import agent, experiment, pipeline, stage
from arena_core.domain.agent import FreezeCheckpoint, Frozen, Origin, ReplaceCheckpoint
from arena_core.domain.experiment import DeleteExperiment, ReleaseExperiment
from arena_core.domain.ids import (
    AgentId,
    Digest,
    ExperimentId,
    ProjectId,
    deployment_of,
)
from arena_core.domain.stage import Stage
from arena_core.domain.stage_run import Cause, Status
from arena_core.domain.values import CheckpointType, Family, ProjectKind, Scores
from unit.by_hand import Serving, Training, handle
from unit.scenes import CARTPOLE, Scene


def digest(letter: str) -> Digest:
    return Digest(letter * 64)


@frozen
class Chain:
    """An Advanced project, its experiments, and one pipeline."""

    scene: Scene
    project: UUID
    id: UUID
    _names: count = field(factory=count)

    @classmethod
    def begin(cls, scene: Scene) -> "Chain":
        use = scene.operator()
        project = use.projects.create("advanced", kind="advanced").id
        return cls(scene, project, use.pipelines.create(project, name="chain").id)

    # --- what users do ---------------------------------------------------------------

    @property
    def use(self):
        return self.scene.operator()

    @property
    def view(self) -> PipelineView:
        return self.use.pipelines.get(self.id)

    def experiment(self, algorithm: str = "PPO", **said) -> ExperimentId:
        said = {"recipe": "command", "config": {"argv": ["true"]}} | said
        made = self.use.experiments.create(
            said.pop("project", self.project),
            name=said.pop("name", f"experiment {next(self._names)}"),
            algorithm=algorithm,
            source=said.pop("source", CARTPOLE),
            **said,
        )
        return ExperimentId(made.id)

    def insert(self, experiment_id: UUID | None = None, **fields) -> StageView:
        """Insert a stage, with a new experiment unless another, or a type, is named."""
        if experiment_id is None and "type" not in fields:
            experiment_id = self.experiment()
        if experiment_id is not None:
            fields["experiment_id"] = experiment_id
        before = {s.id for s in self.view.stages}
        after = self.use.pipelines.insert_stage(self.id, **fields)
        (made,) = (s for s in after.stages if s.id not in before)
        return made

    def stage(self, position: int) -> StageView:
        return self.view.stages[position - 1]

    def edit(self, position: int, **fields) -> StageView:
        self.use.pipelines.edit_stage(self.id, self.stage(position).id, **fields)
        return self.stage(position)

    def move(self, position: int, to: int) -> PipelineView:
        return self.use.pipelines.move_stage(self.id, self.stage(position).id, to)

    def remove(self, position: int) -> PipelineView:
        return self.use.pipelines.remove_stage(self.id, self.stage(position).id)

    def trigger(self, position: int) -> StageView:
        self.use.pipelines.trigger(self.id, self.stage(position).id)
        return self.stage(position)

    def retry(self, position: int) -> StageView:
        self.use.pipelines.retry(self.id, self.stage(position).id)
        return self.stage(position)

    def resume(self, position: int, step: int) -> StageView:
        """Trigger the stage as whoever resumes its experiment does."""
        return self._triggered(position, Cause.RESUME, resume_step=step)

    def train(self, position: int) -> StageView:
        return self._triggered(position, Cause.TRAIN)

    def _triggered(self, position: int, cause: Cause, **said) -> StageView:
        self.handle(*triggered(self.use.session, self.bound(position), cause, **said))
        return self.stage(position)

    def bound(self, position: int) -> Bound:
        row = self.use.session.find(pipeline.KIND, self.id)
        return Bound(row, row.state.stages[position - 1])

    def lose(self, position: int) -> None:
        """Delete the experiment of a stage, as it could be while that was not guarded.

        Such logs are read for ever.
        """
        planned = self.bound(position).planned
        bound, release = planned.settings.experiment_id, ReleaseExperiment(planned.id)
        self.handle(
            Change(experiment, bound, release),
            Change(experiment, bound, DeleteExperiment()),
        )

    # --- what the runner does, and what others do whom it waits for ------------------

    @property
    def core(self) -> Core:
        return self.scene.arena.application.core

    def handle(self, *changes: Change) -> None:
        handle(self.core, *changes)

    def state(self, position: int) -> Stage:
        return self.use.session.find(stage.KIND, self.stage(position).id).state

    def step(self, position: int) -> None:
        """Have the runner do what follows of one stage, and of no other."""
        step = Step.of(self.core, self.stage(position).id)
        assert step is not None, "it is not at work"
        step.take()

    def start(self, position: int) -> None:
        """Have the runner begin the stage's run, and a trainer take its training on.

        What can never begin has failed then.
        """
        self.step(position)
        state = self.state(position)
        if state.status is Status.RUNNING and state.run.training is not None:
            self.training(position).begin()

    def training(self, position: int) -> Training:
        bound = self.state(position).run.settings.experiment_id
        assert bound is not None
        return Training(self.core, bound)

    def write(self, position: int, step: int, letter: str) -> None:
        """Have the training of the stage write a checkpoint."""
        self.training(position).write(step, digest(letter))

    def end(self, position: int, fitness: dict[str, float] | None = None) -> None:
        """Have the work succeed, and the runner see it: what is next may be triggered.

        `fitness`: of checkpoints, by the letter of their digests.
        """
        self._measure(position, fitness)
        self._work(position).finish()
        self.step(position)

    def fail(self, position: int, fitness: dict[str, float] | None = None) -> None:
        self._measure(position, fitness)
        self._work(position).fail("No.")
        self.step(position)

    def halt(self, position: int, fitness: dict[str, float] | None = None) -> None:
        """Stop the run.  Where there is no cancelling it, its work fails."""
        self._measure(position, fitness)
        if self.stage(position).status is Status.RUNNING:
            self.use.pipelines.stop(self.id, self.stage(position).id)
        self.step(position)
        if self.stage(position).status is not Status.STOPPING:
            return
        if self.state(position).run.training is None:
            self._work(position).fail("No.")
        else:
            self.training(position).acknowledge_stop()
        self.step(position)

    def _work(self, position: int) -> Training | Serving:
        agent_id = self.state(position).run.agent_id
        if agent_id is None:
            return self.training(position)
        return Serving(self.core, deployment_of(agent_id))

    def _measure(self, position: int, fitness: dict[str, float] | None) -> None:
        if not fitness or self.state(position).run.training is None:
            return
        training = self.training(position)
        points = [
            MetricPoint(written.step, "fitness", fitness[written.digest[0]])
            for written in training.state.checkpoints
            if written.digest[0] in fitness
        ]
        self.use.experiments.add_metrics(training.experiment_id, points)

    def run(self, position: int, letter: str, fitness: float | None = 1.0) -> StageView:
        """Trigger an Experiment stage and have it write one checkpoint, at step 10."""
        self.trigger(position)
        return self.work(position, letter, fitness)

    def work(
        self, position: int, letter: str, fitness: float | None = 1.0
    ) -> StageView:
        self.start(position)
        self.write(position, 10, letter)
        self.end(position, {} if fitness is None else {letter: fitness})
        return self.stage(position)

    def forget(self, position: int, step: int) -> None:
        """Delete a checkpoint of the experiment that is bound to the stage."""
        bound = self.stage(position).experiment_id
        self.use.experiments.delete_checkpoint(bound, step)

    # --- saved agents ----------------------------------------------------------------

    def saved(
        self,
        letter: str = "f",
        *,
        kind: ProjectKind = ProjectKind.ADVANCED,
        project: UUID | None = None,
        algorithm: str = "PPO",
        family: Family = Family.RL,
    ) -> AgentId:
        agent_id = AgentId(self.core.new_id())
        origin = Origin(
            ExperimentId(UUID(int=1)),
            "elsewhere",
            ProjectId(project or self.project),
            algorithm,
            family,
            None,
        )
        freeze = FreezeCheckpoint(
            agent_id, kind, "saved", "", origin, frozen_as(letter)
        )
        self.handle(Change(agent, agent_id, freeze))
        return agent_id

    def replace(self, agent_id: AgentId, letter: str) -> None:
        command = ReplaceCheckpoint(frozen_as(letter), agent.Cause.REDEPLOY)
        self.handle(Change(agent, agent_id, command))


def frozen_as(letter: str) -> Frozen:
    return Frozen(CheckpointType.FINAL, 10, digest(letter), Scores(None, 1.0))
