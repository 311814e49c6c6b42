"""Pipelines that take another course than from one success to the next.

Each is short, for whoever runs it dies at every single point.
"""

from typing import Self

from arena_core import dataset
from arena_core.application.use_cases import UseCases
from arena_core.domain.stage_run import AT_WORK, Status
from arena_core.domain.stage_settings import Condition
from unit.lines import Line, number_of, write

import bundles

DIGITS = dataset("digits")


def teach_again(run):
    """Fail at first, and write another checkpoint each time that it goes on."""
    yield
    write(run, 10 if run.resume is None else run.resume.step + 10, 1.0)
    if run.resume is None:
        raise SystemExit(1)


class Again(Line):
    """A training that fails; somebody retries it, and resumes it when it succeeded."""

    @classmethod
    def lay(cls, use: UseCases) -> Self:
        line = cls.begin(use, runs=3)
        line.insert(use, "student")
        return line

    def attend(self, use: UseCases) -> None:
        (stage,) = use.pipelines.get(self.pipeline).stages
        how = (number_of(stage), stage.status)
        if how == (0, Status.NOT_STARTED):
            use.pipelines.trigger(self.pipeline, stage.id)
        elif how == (1, Status.FAILED):
            use.pipelines.retry(self.pipeline, stage.id)
        elif how == (2, Status.SUCCEEDED):
            use.training.resume(stage.experiment_id)


class Taught(Line):
    """One training, behind which something follows when it is over."""

    @classmethod
    def lay(cls, use: UseCases) -> Self:
        line = cls.begin(use)
        line.insert(use, "teacher")
        return line

    def follow_up(self, use: UseCases) -> None:
        """Insert what follows."""

    def attend(self, use: UseCases) -> None:
        """Trigger one stage after the other."""
        stages = use.pipelines.get(self.pipeline).stages
        ended = [stage.run and stage.run.ended_at for stage in stages]
        if None in ended and number_of(stages[ended.index(None)]) == 0:
            use.pipelines.trigger(self.pipeline, stages[ended.index(None)].id)


class TurnedDown(Taught):
    """One deployment that is rejected, and one whose condition is not met."""

    def follow_up(self, use: UseCases) -> None:
        self.deploy(use, approval=True)
        self.deploy(use, condition=Condition(min_fitness=9.0))

    def attend(self, use: UseCases) -> None:
        super().attend(use)
        for stage in use.pipelines.get(self.pipeline).stages:
            if stage.run is not None and stage.run.awaits_approval:
                use.pipelines.reject(self.pipeline, stage.id, reason="No.")


def teach_wrongly(run):
    """Write a checkpoint that does not answer as it did when it was trained."""
    yield
    bundle = bundles.cartpole(run.folder / "made")
    bundles.write_weights(bundle, bundles.Network.of(4, 2, seed=99))
    run.log(10, fitness=1.0)
    run.checkpoint(10, bundle)


class Doomed(Taught):
    """A deployment that fails: its weights do not answer as they were trained."""

    def follow_up(self, use: UseCases) -> None:
        self.deploy(use)


class Withdrawn(Doomed):
    """A deployment that somebody stops while its agent waits to be connected."""

    def is_served(self, use: UseCases) -> bool:
        *_, last = use.pipelines.get(self.pipeline).stages
        return last.status not in AT_WORK

    def attend(self, use: UseCases) -> None:
        super().attend(use)
        *first, last = use.pipelines.get(self.pipeline).stages
        if first and last.status is Status.RUNNING:
            use.pipelines.stop(self.pipeline, last.id)


def teach_a_decoder(run):
    """Train a classifier, and then nothing but for what has that as its decoder."""
    yield
    if run.config["argv"][0] == "classifier":
        run.checkpoint(10, bundles.regressor(run.folder / "made"))
    elif run.decoder is None or not (run.decoder / "checkpoint.json").exists():
        raise SystemExit("There is no decoder.")


class Decoded(Taught):
    """A classifier, and a policy over what it has learned."""

    @classmethod
    def lay(cls, use: UseCases) -> Self:
        line = cls.begin(use)
        line.insert(use, "classifier", algorithm="Supervised", source=DIGITS)
        return line

    def follow_up(self, use: UseCases) -> None:
        said = {"source": DIGITS, "checkpoint": "final"}
        self.insert(use, "policy", algorithm="LatentPPO", **said)
