"""Watching a pipeline as a tree that is drawn anew whenever something happens to it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from rich.console import Console
from rich.live import Live
from rich.tree import Tree

from arena_core.application.pipeline_views import PipelineView
from arena_core.domain.ids import DEFAULT_ORGANISATION
from arena_core.domain.stage_run import AT_WORK
from arena_core.domain.values import LIBRARY, Caller, Role
from arena_core.entrypoints import pipeline_tree
from arena_core.entrypoints.library import Arena

PATIENCE_S = 300.0
"""How long all stages together may take."""
REDRAWN_S = 0.25


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
    """Return the pipeline as `pipeline watch` draws it."""
    use = arena.on_behalf_of(Caller(DEFAULT_ORGANISATION, LIBRARY, Role.MANAGER))
    trainings = pipeline_tree.trainings_of(use, pipeline)
    return pipeline_tree.tree(pipeline, trainings, datetime.now(UTC))
