"""The demo of pipelines as a story: every step does the real thing, and says so.

A classifier is trained, then a policy over its latent space, then that answers over
HTTP.  After that the first stage is run again, and a training is killed on the way.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
from attrs import define, frozen
from rich.console import Console

from arena_core.application.experiments import dataset
from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.resources import EventView
from arena_core.domain.ids import AgentId, Digest, deployment_of
from arena_core.domain.stage_run import Status
from arena_core.entrypoints.cli.output import print_table
from arena_core.entrypoints.demo.killer import Killer
from arena_core.entrypoints.demo.pipeline_tree import tree, watch
from arena_core.entrypoints.http.server import Server, listen
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.play.endpoint import Endpoint
from arena_core.entrypoints.recipes.datasets import Choice, Dataset, load
from arena_core.entrypoints.settings import Settings
from arena_core.entrypoints.wiring import open_arena

SOURCE = "wine"
CLASSIFIER = {"epochs": 30, "checkpoint_every": 15, "latent_dim": 8}
CHECKPOINT_EVERY = 2048
POLICY = {"total_steps": 8_192, "checkpoint_every": CHECKPOINT_EVERY}
SHOWN = 6
"""Rows that are printed, of all that are asked."""


@frozen
class Result:
    """What `demo --pipeline --json` prints as its last line."""

    accuracy: float
    """Of the endpoint, over all rows of the dataset, after the first run."""
    accuracy_after: float
    """Of the same endpoint, after the first stage was run again."""
    run_seconds: float
    """From the trigger of the first stage to the end of the last."""
    stale_stages: list[int]
    """Positions of those that the re-run of the first has made stale."""
    failed_stage: int
    """The one whose training was killed, and which was retried."""
    resumed_at: int
    """The step from which the retry went on."""
    pipeline_id: UUID
    agent_id: UUID
    checkpoint_digest: Digest
    events: int


def tell(*, seed: int, folder: Path | None) -> Result:
    """Do it once, in `folder` or in a new temporary one, and print it."""
    console = Console(highlight=False)
    home = folder or Path(tempfile.mkdtemp(prefix="arena-demo-"))
    settings = Settings(str(home / "arena.db"))
    with (
        open_arena(settings) as arena,
        Server(arena.asgi(), listen("127.0.0.1", 0)).in_background() as url,
    ):
        story = Story(arena, console, settings, url, load(Choice(SOURCE), None))
        result = story.tell(seed)
    _where_next(console, settings)
    return result


@define
class Story:
    """The stage on which it is told, and what has come of it so far."""

    arena: Arena
    console: Console
    settings: Settings
    url: str
    rows: Dataset

    def tell(self, seed: int) -> Result:
        pipeline = self._create(seed)
        begun = time.perf_counter()
        pipeline = self._trigger(pipeline, 1)
        run_seconds = time.perf_counter() - begun
        agent_id = self._agent(pipeline)
        accuracy = self._predict(agent_id)

        stale = self._run_the_first_again(pipeline, seed + 1)
        failed, resumed_at = self._kill_and_retry(self._get(pipeline))
        if self._agent(self._get(pipeline)) != agent_id:
            raise AssertionError("the agent must have stayed the same")
        accuracy_after = self._predict(agent_id)
        self._timeline(self._get(pipeline))
        return Result(
            accuracy=accuracy,
            accuracy_after=accuracy_after,
            run_seconds=round(run_seconds, 3),
            stale_stages=stale,
            failed_stage=failed,
            resumed_at=resumed_at,
            pipeline_id=pipeline.id,
            agent_id=agent_id,
            checkpoint_digest=self.arena.agents.get(agent_id).checkpoint.digest,
            events=len(list(self.arena.audit.log())),
        )

    # --- the first run -------------------------------------------------------------

    def _create(self, seed: int) -> PipelineView:
        arena = self.arena
        project = arena.projects.create("wines", kind="advanced")
        classifier = arena.experiments.create(
            project.id,
            name="classifier",
            algorithm="Supervised",
            source=dataset(SOURCE),
            recipe="supervised",
            config={**CLASSIFIER, "seed": seed},
        )
        policy = arena.experiments.create(
            project.id,
            name="policy",
            algorithm="LatentPPO",
            source=dataset(SOURCE),
            recipe="latent_ppo",
            config={**POLICY, "seed": seed},
        )
        made = arena.pipelines.create(project.id, name="cellar").id
        insert = arena.pipelines.insert_stage
        insert(made, type="experiment", experiment_id=classifier.id)
        insert(made, type="experiment", experiment_id=policy.id, trigger="auto")
        pipeline = insert(
            made, type="deployment", trigger="auto", agent_name="sommelier"
        )
        self._say("Create", "Supervised, then LatentPPO over it, then a deployment")
        return pipeline

    def _trigger(self, pipeline: PipelineView, position: int) -> PipelineView:
        self._say("Run", f"stage {position} is triggered; what is auto follows")
        self.arena.pipelines.trigger(pipeline.id, _at(pipeline, position).id)
        ended = watch(self.arena, self.console, pipeline.id)
        return _succeeded(ended, position)

    def _predict(self, agent_id: UUID) -> float:
        """Ask the endpoint for every row, and return how often it was right."""
        key = self.arena.agents.access(agent_id).api_key
        address = f"{self.url}/inference/{deployment_of(AgentId(agent_id))}"
        with Endpoint(address, key) as endpoint:
            answers = np.array([endpoint.predict(row) for row in self.rows.inputs])
        right = answers.argmax(axis=1) == self.rows.targets
        self._say("Predict", f"over HTTP: right for {right.sum()} of {right.size} rows")
        self.console.print(f"         {address}", soft_wrap=True)
        for row in np.linspace(0, len(answers) - 1, SHOWN).astype(int):
            said, surely = answers[row].argmax(), answers[row].max()
            self.console.print(
                f"         row {row:>3}: {self.rows.classes[said]} "
                f"({surely:.0%}), and it is {self.rows.classes[self.rows.targets[row]]}"
            )
        return float(right.mean())

    # --- the second run ------------------------------------------------------------

    def _run_the_first_again(self, pipeline: PipelineView, seed: int) -> list[int]:
        """Train the classifier from another seed; return which stages are stale now."""
        first, second, _ = pipeline.stages
        edit = self.arena.pipelines.edit_stage
        edit(pipeline.id, second.id, trigger="manual")
        copy = self.arena.training.duplicate(_bound(first), name="classifier, again")
        self.arena.experiments.edit(copy.id, config={**CLASSIFIER, "seed": seed})
        edit(pipeline.id, first.id, experiment_id=copy.id)
        self._say("Again", "the first stage with another seed; the second waits now")
        self.arena.pipelines.trigger(pipeline.id, first.id)
        ended = _succeeded(watch(self.arena, self.console, pipeline.id), 1)
        stale = [stage.position for stage in ended.stages if stage.stale]
        if not stale:
            raise AssertionError("the second stage must be stale now")
        return stale

    def _kill_and_retry(self, pipeline: PipelineView) -> tuple[int, int]:
        """Kill the second stage's training on the way, and retry it where it was.

        Returns its position, and the step from which the retry went on.
        """
        second = _at(pipeline, 2)
        self._say("Kill", "the training of the second stage, once it has a checkpoint")
        self.arena.pipelines.trigger(pipeline.id, second.id)
        killer = Killer(self.arena, self.settings, _bound(second), CHECKPOINT_EVERY)
        ended = watch(self.arena, self.console, pipeline.id, killer.look)
        if not killer.has_killed or _at(ended, 2).status is not Status.FAILED:
            raise AssertionError("it must have been killed on the way, and failed")
        self._say("Retry", "only what has failed; the stage behind it follows")
        self.arena.pipelines.edit_stage(pipeline.id, ended.stages[2].id, trigger="auto")
        self.arena.pipelines.retry(pipeline.id, second.id)
        _succeeded(watch(self.arena, self.console, pipeline.id), 2)
        training = self.arena.experiments.get(_bound(second)).training
        resumed = None if training is None else training.resume_step
        if not resumed:
            raise AssertionError("the retry must have gone on from a checkpoint")
        return second.position, resumed

    # --- what is told --------------------------------------------------------------

    def _timeline(self, pipeline: PipelineView) -> None:
        self._say("Audit", "what the event log says of this pipeline")
        streams = [pipeline.id, *(stage.id for stage in pipeline.stages)]
        events = [e for s in streams for e in self.arena.audit.log(stream=s)]
        names = {s.id: f"stage {s.position}" for s in pipeline.stages}
        print_table(
            ("POSITION", "RECORDED AT", "EVENT", "OF", "BY"),
            [
                _row(event, names.get(event.stream, "pipeline"))
                for event in sorted(events, key=lambda e: e.position)
            ],
        )
        fault = next(iter(self.arena.audit.verify()), None)
        intact = "intact" if fault is None else fault.detail
        self.console.print(f"         hash chains and checkpoints: {intact}")
        self.console.print(tree(self.arena, pipeline))

    def _agent(self, pipeline: PipelineView) -> UUID:
        run = _at(pipeline, 3).run
        if run is None or run.agent_id is None:
            raise AssertionError("the third stage must have put an agent live")
        return run.agent_id

    def _get(self, pipeline: PipelineView) -> PipelineView:
        return self.arena.pipelines.get(pipeline.id)

    def _say(self, word: str, text: str) -> None:
        self.console.print(f"[bold]{word:<8}[/bold] {text}", soft_wrap=True)


def _at(pipeline: PipelineView, position: int) -> StageView:
    return pipeline.stages[position - 1]


def _bound(stage: StageView) -> UUID:
    if stage.experiment_id is None:
        raise AssertionError("the stage must train something")
    return stage.experiment_id


def _succeeded(pipeline: PipelineView, position: int) -> PipelineView:
    for stage in pipeline.stages[position - 1 :]:
        why = None if stage.run is None else stage.run.reason
        if stage.status is not Status.SUCCEEDED:
            raise AssertionError(f"stage {stage.position} must have succeeded: {why}")
    return pipeline


def _row(event: EventView, of: str) -> Sequence[str]:
    return (
        str(event.position),
        f"{event.recorded_at:%H:%M:%S.%f}"[:-3],
        event.name,
        of,
        event.actor,
    )


def _where_next(console: Console, settings: Settings) -> None:
    console.print("[bold]Next    [/bold] go on from here")
    for command in (
        f"arena-core serve --store {settings.store}",
        f"arena-core pipeline show cellar --store {settings.store}",
        f"arena-core audit show sommelier --store {settings.store}",
    ):
        console.print(f"         {command}", soft_wrap=True)
