"""A pipeline as a tree for a terminal: its stages, and what matters of each."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from rich.text import Text
from rich.tree import Tree

from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.use_cases import UseCases
from arena_core.domain.stage_run import AT_WORK, Status
from arena_core.entrypoints.stage_words import how_to_approve, name_of, note, stale
from arena_core.entrypoints.training_progress import Progress, bar, share, status, words
from arena_core.entrypoints.visible import visible

MARKS: Mapping[Status, str] = {
    Status.NOT_STARTED: "○",
    Status.PENDING: "◌",
    Status.RUNNING: "●",
    Status.STOPPING: "●",
    Status.STOPPED: "■",
    Status.SUCCEEDED: "✔",
    Status.FAILED: "✘",
}


def tree(view: PipelineView, trainings: Mapping[UUID, Progress], now: datetime) -> Tree:
    """Return the pipeline; `trainings`: how far the stages at work are, by stage."""
    root = Tree(Text(visible(view.name), style="bold"), guide_style="dim")
    for stage in view.stages:
        branch = root.add(_title(stage))
        said = note(stage, now)
        training = trainings.get(stage.id) if stage.status in AT_WORK else None
        # What it waits for is a note of both.
        if training is not None and words(training) not in ([], [said]):
            branch.add(_progress(training))
        if said is not None:
            branch.add(Text(visible(said)))
        if (typed := how_to_approve(view.name, stage)) is not None:
            branch.add(Text(visible(typed), style="bold"))
        for cause in stage.stale_because:
            branch.add(Text(visible(f"stale: {stale(cause)}"), style="yellow"))
    if not view.stages:
        root.add(Text("no stages yet", style="dim"))
    return root


def trainings_of(use: UseCases, view: PipelineView) -> Mapping[UUID, Progress]:
    """Return how far each training is that goes on for a stage, by the stage."""
    return {
        stage.id: Progress.of(use, use.experiments.get(stage.experiment_id))
        for stage in view.stages
        if stage.status in AT_WORK
        and stage.experiment_id is not None
        and stage.run is not None
        and stage.run.started_at is not None
    }


def _title(stage: StageView) -> Text:
    word = status(stage.status.value)
    text = Text(f"{stage.position} ").append(MARKS[stage.status], style=word.style)
    text.append(f" {visible(name_of(stage))}  ").append(word)
    if stage.stale:
        text.append("  stale", style="yellow")
    return text.append(f"  {stage.type.value}, {stage.trigger.value}", style="dim")


def _progress(training: Progress) -> Text:
    done = share(training)
    text = Text() if done is None else bar(done).append("  ")
    return text.append("  ".join(words(training)))
