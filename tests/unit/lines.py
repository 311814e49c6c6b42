"""Pipelines that processes run which die, and what is trained for them."""

from typing import Self
from uuid import UUID

from attrs import frozen

from arena_core import Source, gym
from arena_core.application.pipeline_views import StageView
from arena_core.application.use_cases import UseCases
from arena_core.domain.stage_run import Status
from arena_core.domain.stage_settings import Condition, Retries

import bundles

CARTPOLE = gym("CartPole-v1")


def teach(run):
    """Train a teacher at once, and a student only at the second attempt."""
    yield
    role = run.config["argv"][0]
    if role == "teacher":
        write(run, 10, 1.0)
        yield
        write(run, 20, 0.5)
        return
    if run.resume is None:
        write(run, 10, 2.0)
        yield
        raise SystemExit(1)
    write(run, 20, 3.0)


def write(run, step, fitness):
    role = run.config["argv"][0]
    bundle = run.folder / "made"
    seed = step if role == "teacher" else 100 + step
    bundles.cartpole(bundle, network=bundles.Network.of(4, 2, seed=seed))
    run.log(step, fitness=fitness)
    run.checkpoint(step, bundle)


@frozen
class Line:
    """Teacher, then student (at the second attempt), then live once approved."""

    project: UUID
    pipeline: UUID
    runs: int = 1
    """How often the first stage is to be run."""

    @classmethod
    def lay(cls, use: UseCases) -> "Line":
        line = cls.begin(use)
        line.insert(use, "teacher", auto_add="best")
        line.insert(
            use,
            "student",
            trigger="auto",
            condition=Condition(min_fitness=0.5),
            retries=Retries(1, 2),
        )
        line.deploy(use, trigger="auto", approval=True)
        return line

    @classmethod
    def begin(cls, use: UseCases, **said) -> Self:
        project = use.projects.create("lab", kind="advanced").id
        return cls(project, use.pipelines.create(project, name="line").id, **said)

    def insert(
        self,
        use: UseCases,
        role: str,
        *,
        algorithm: str = "PPO",
        source: Source = CARTPOLE,
        **said,
    ) -> None:
        """Insert an Experiment stage; what it trains is told its role."""
        made = use.experiments.create(
            self.project,
            name=role,
            algorithm=algorithm,
            source=source,
            recipe="command",
            config={"argv": [role]},
        )
        use.pipelines.insert_stage(
            self.pipeline, type="experiment", experiment_id=made.id, **said
        )

    def deploy(self, use: UseCases, **said) -> None:
        use.pipelines.insert_stage(self.pipeline, type="deployment", **said)

    def is_served(self, use: UseCases) -> bool:  # noqa: ARG002 -- of most at any time
        """Say whether agents are connected now."""
        return True

    def attend(self, use: UseCases) -> None:
        """Trigger the first stage if nobody has, and approve of what is asked."""
        first, *rest = use.pipelines.get(self.pipeline).stages
        if number_of(first) < self.runs:
            use.pipelines.trigger(self.pipeline, first.id)
        for stage in rest:
            if stage.run is not None and stage.run.awaits_approval:
                use.pipelines.approve(self.pipeline, stage.id)

    def has_ended(self, use: UseCases) -> bool:
        stages = use.pipelines.get(self.pipeline).stages
        return all(_has_ended(stage, self.runs) for stage in stages)


def number_of(stage: StageView) -> int:
    return 0 if stage.run is None else stage.run.number


def _has_ended(stage: StageView, runs: int) -> bool:
    ended = stage.run is not None and stage.run.ended_at is not None
    return ended and number_of(stage) == runs


class Short(Line):
    """Teacher, then live: of what each run has live the next one takes the place."""

    @classmethod
    def lay(cls, use: UseCases) -> "Short":
        line = cls.begin(use)
        line.insert(use, "teacher")
        line.deploy(use, trigger="auto")
        return line


def teach_better(run):
    """Train the teacher once more: what it has learned is something else."""
    yield
    write(run, 30, 2.0)


def teach_for_ever(run):
    """Write one checkpoint, and go on until somebody ends it."""
    yield
    write(run, 10 if run.resume is None else 20, 1.0)
    while True:
        yield


class Endless(Line):
    """One stage that trains for ever: its time is over twice."""

    time_limit_s: float | None = 20.0

    @classmethod
    def lay(cls, use: UseCases) -> "Endless":
        line = cls.begin(use)
        line.insert(
            use, "teacher", time_limit_s=cls.time_limit_s, retries=Retries(1, 2)
        )
        return line


class Unwanted(Endless):
    """One stage that trains for ever, until somebody stops it."""

    time_limit_s = None

    def attend(self, use: UseCases) -> None:
        super().attend(use)
        (stage,) = use.pipelines.get(self.pipeline).stages
        written = use.experiments.checkpoints(stage.experiment_id)
        if stage.status is Status.RUNNING and written:
            use.pipelines.stop(self.pipeline, stage.id)
