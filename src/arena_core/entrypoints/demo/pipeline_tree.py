"""A pipeline as a tree that is drawn anew whenever something happens to it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.domain.stage_run import AT_WORK, Status
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.stage_words import name_of, note, stale

PATIENCE_S = 300.0
"""How long all stages together may take."""
REDRAWN_S = 0.25
COLOURS = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.STOPPED: "yellow",
    Status.RUNNING: "cyan",
}


def watch(
    arena: Arena,
    console: Console,
    pipeline_id: UUID,
    seen: Callable[[PipelineView], None] = lambda _: None,
) -> PipelineView:
    """Draw the pipeline until none of its stages is at work, and return it.

    `seen` is called with each look at it.  Raises `AssertionError` if it takes longer
    than `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    found = arena.pipelines.get(pipeline_id)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while any(stage.status in AT_WORK for stage in found.stages):
            if time.monotonic() > deadline:
                raise AssertionError("the pipeline must have ended by now")
            live.update(tree(arena, found), refresh=True)
            seen(found)
            found = arena.pipelines.wait(pipeline_id, timeout_s=REDRAWN_S)
    # Where nothing can be drawn anew, only this is printed.
    console.print(tree(arena, found))
    return found


def tree(arena: Arena, pipeline: PipelineView) -> Tree:
    """Return the pipeline, with what matters most of each stage below it."""
    root = Tree(escape(pipeline.name), guide_style="dim")
    for stage in pipeline.stages:
        branch = root.add(_title(arena, stage))
        said = note(stage, datetime.now(UTC))
        if said is not None:
            branch.add(escape(said))
        for cause in stage.stale_because:
            branch.add(f"[yellow]stale: {escape(stale(cause))}[/yellow]")
    return root


def _title(arena: Arena, stage: StageView) -> str:
    status = stage.status
    colour = COLOURS.get(status, "white")
    mark = "  [yellow]stale[/yellow]" if stage.stale else ""
    return (
        f"{stage.position}. {escape(name_of(stage))}  "
        f"[{colour}]{status.value}[/{colour}]{_progress(arena, stage)}{mark}"
    )


def _progress(arena: Arena, stage: StageView) -> str:
    """Return how far a training is, and how well it does."""
    if stage.status is not Status.RUNNING or stage.experiment_id is None:
        return ""
    training = arena.experiments.get(stage.experiment_id).training
    if training is None or training.step is None:
        return ""
    latest = {p.name: p.value for p in arena.training.latest(stage.experiment_id)}
    score = latest.get("score")
    return f"  step {training.step}" + ("" if score is None else f", score {score:.2f}")
