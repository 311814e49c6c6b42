"""Pipelines whose trainings are played by hand: every event is a real one.

What a trainer and a runner would append is appended here by the very commands that
they use, so that a test says in which order things happen.
"""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from uuid import UUID

from attrs import field, frozen

from arena_core.application.handling import Change
from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.triggering import Bound, triggered
from arena_core.domain import agent, experiment, pipeline, stage
from arena_core.domain.agent import FreezeCheckpoint, Frozen, Origin, ReplaceCheckpoint
from arena_core.domain.experiment import (
    DeleteExperiment,
    Experiment,
    ReleaseExperiment,
)
from arena_core.domain.ids import AgentId, Digest, ExperimentId, ProjectId, WorkerId
from arena_core.domain.stage import Stage
from arena_core.domain.stage_commands import (
    FailStage,
    StartStage,
    StopStage,
    SucceedStage,
)
from arena_core.domain.stage_run import AT_WORK, Cause, Product, Yields
from arena_core.domain.stage_settings import Trigger
from arena_core.domain.training_commands import (
    ClaimTraining,
    FinishTraining,
    RecordTrainedCheckpoint,
    RequestTraining,
    StartTraining,
)
from arena_core.domain.values import CheckpointType, Family, ProjectKind, Scores
from unit.scenes import CARTPOLE, CONTEXT, Scene

WORKER = WorkerId(UUID(int=7))
LEASE = timedelta(hours=1)
SOURCES = {"Supervised": "tables", "LatentPPO": "tables"}


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

    # --- what a runner and a trainer do ----------------------------------------------

    def handle(self, *changes: Change):
        return self.scene.arena.application.core.handler.handle(CONTEXT, *changes)

    def state(self, position: int) -> Stage:
        return self.use.session.find(stage.KIND, self.stage(position).id).state

    def start(self, position: int) -> None:
        """Begin the work of the stage's run: its training, if it is an experiment."""
        state = self.state(position)
        bound = state.run.settings.experiment_id
        started = Change(stage, state.id, StartStage(state.run.id, training=None))
        if bound is None:
            self.handle(started)
            return
        training = self._experiment(bound).training
        number = 1 if training is None else training.number + 1
        self.handle(
            Change(
                experiment,
                bound,
                RequestTraining(state.run.resume_step, stage=state.id),
            ),
            Change(stage, state.id, StartStage(state.run.id, training=number)),
        )
        until = self.scene.arena.application.core.clock() + LEASE
        self.handle(Change(experiment, bound, ClaimTraining(WORKER, until)))
        self.handle(
            Change(experiment, bound, StartTraining(WORKER, self._claim(bound)))
        )

    def write(self, position: int, step: int, letter: str) -> None:
        """Have the training of the stage write a checkpoint."""
        bound = self._bound(position)
        written = RecordTrainedCheckpoint(
            WORKER, self._claim(bound), step, digest(letter), 1
        )
        self.handle(Change(experiment, bound, written))

    def end(
        self, position: int, fitness: dict[str, float] | None = None, how=SucceedStage
    ) -> None:
        """End the run, and trigger the Auto stage behind it, in one append.

        `fitness`: of checkpoints, by the letter of their digests.
        """
        state = self.state(position)
        bound = state.run.settings.experiment_id
        if bound is not None:
            finish = FinishTraining(WORKER, self._claim(bound))
            self.handle(Change(experiment, bound, finish))
        left = self._left(position, fitness or {})
        end = (
            how(state.run.id, left)
            if how is SucceedStage
            else how(state.run.id, "No.", left)
        )
        changes = [Change(stage, state.id, end)]
        if how is SucceedStage:
            changes += self._next(position, end)
        self.handle(*changes)

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

    def give_up(self, position: int) -> None:
        """End a run that cannot begin, as a runner does."""
        run = self.state(position).run
        fail = FailStage(run.id, "It cannot begin.", for_good=True)
        self.handle(Change(stage, self.stage(position).id, fail))

    def fail(self, position: int, fitness: dict[str, float] | None = None) -> None:
        self.end(position, fitness, FailStage)

    def halt(self, position: int, fitness: dict[str, float] | None = None) -> None:
        self.end(position, fitness, StopStage)

    def forget(self, position: int, step: int) -> None:
        """Delete a checkpoint of the experiment that is bound to the stage."""
        self.use.experiments.delete_checkpoint(self._bound(position), step)

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
        agent_id = AgentId(self.scene.arena.application.core.new_id())
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

    # --- how -------------------------------------------------------------------------

    def _bound(self, position: int) -> ExperimentId:
        bound = self.stage(position).experiment_id
        assert bound is not None
        return ExperimentId(bound)

    def _experiment(self, experiment_id: UUID) -> Experiment:
        return self.use.session.find(experiment.KIND, experiment_id).state

    def _claim(self, experiment_id: UUID) -> int:
        training = self._experiment(experiment_id).training
        assert training is not None
        assert training.claim is not None
        return training.claim.number

    def _left(self, position: int, fitness: dict[str, float]) -> Yields:
        bound = self.state(position).run.settings.experiment_id
        if bound is None:
            return Yields()
        products = [
            Product(bound, w.step, w.digest, Scores(None, fitness.get(w.digest[0])))
            for w in sorted(self._experiment(bound).checkpoints, key=lambda w: w.step)
        ]
        scored = [p for p in products if p.scores.evaluation is not None]
        best = max(scored, key=lambda p: (p.scores.evaluation, p.step), default=None)
        return Yields(best, products[-1] if products else None)

    def _next(self, position: int, end: SucceedStage) -> Sequence[Change]:
        stages = self.view.stages
        if position == len(stages) or stages[position].trigger is not Trigger.AUTO:
            return ()
        if stages[position].status in AT_WORK:
            return ()
        before = self.state(position)
        (event,) = stage.decide(end, before, self.scene.arena.application.core.clock())
        just = stage.evolve(before, event)
        bound = self.bound(position + 1)
        return triggered(self.use.session, bound, Cause.AUTO, just=just)


def frozen_as(letter: str) -> Frozen:
    return Frozen(CheckpointType.FINAL, 10, digest(letter), Scores(None, 1.0))
