"""Watching a pipeline: drawn anew on a terminal, told in lines, or as JSON."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import click
from attrs import define, field
from rich.console import Console
from rich.live import Live

from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.pipelines import is_at_work
from arena_core.domain.stage_run import RETRIABLE
from arena_core.entrypoints.cli.following import detachable, looks
from arena_core.entrypoints.cli.options import operator
from arena_core.entrypoints.cli.output import print_json_lines
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.pipeline_tree import trainings_of, tree
from arena_core.entrypoints.stage_words import name_of, note, stale
from arena_core.entrypoints.training_progress import Progress

__all__ = ["is_at_work", "watched"]
GOES_ON = (
    "The pipeline goes on as soon as a server runs on its store, and what trains goes "
    "on by itself. Watch it with arena-core pipeline watch, end it with arena-core "
    "pipeline stop."
)


def watched(arena: Arena, pipeline_id: UUID, *, as_json: bool = False) -> bool:
    """Show the pipeline until nothing of it is at work; return whether that is well."""
    use, screen = operator(arena), Screen(as_json)

    def look() -> PipelineView | None:
        found = use.pipelines.get(pipeline_id)
        return found if is_at_work(found) else None

    with detachable(GOES_ON), screen.drawn():
        for view in looks(arena, look):
            screen.show(view, trainings_of(use, view))
    ended = use.pipelines.get(pipeline_id)
    screen.end(ended)
    return is_well(ended)


def is_well(view: PipelineView) -> bool:
    """Say whether the stage that has ended last has succeeded; so too if none has."""
    ended = [
        (stage.run.ended_at, stage.position, stage.status)
        for stage in view.stages
        if stage.run is not None and stage.run.ended_at is not None
    ]
    if not ended:
        return True
    *_, status = max(ended, key=lambda it: it[:2])
    return status not in RETRIABLE


@define
class Screen:
    as_json: bool = False
    _console: Console = field(factory=lambda: Console(highlight=False))
    _live: Live | None = None
    _told: dict[UUID, object] = field(factory=dict)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw while this lasts, if somebody looks."""
        if self.as_json or not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            self._live = live
            yield
        self._live = None

    def show(self, view: PipelineView, trainings: Mapping[UUID, Progress]) -> None:
        if self._live is not None:
            drawn = tree(view, trainings, datetime.now(UTC))
            self._live.update(drawn, refresh=True)
        elif self.as_json:
            self._json(view)
        else:
            self._lines(view)

    def end(self, view: PipelineView) -> None:
        if self.as_json:
            self._json(view)
        elif self._console.is_terminal:
            self._console.print(tree(view, {}, datetime.now(UTC)))
        elif all(stage.run is None for stage in view.stages):
            for stage in view.stages:
                click.echo(_line(stage))
        else:
            self._lines(view)

    def _json(self, view: PipelineView) -> None:
        if self._told.get(view.id) != view:
            print_json_lines([view])
        self._told[view.id] = view

    def _lines(self, view: PipelineView) -> None:
        """Tell each stage of which something else is to be told than before."""
        for stage in view.stages:
            is_new = stage.id not in self._told
            told, before = _essence(stage), self._told.get(stage.id)
            self._told[stage.id] = told
            if told != before and not (is_new and stage.run is None):
                click.echo(_line(stage))


def _essence(stage: StageView) -> object:
    """Return what a change of is told: not how long something takes still."""
    run = stage.run
    at = run and (run.number, run.attempt, run.awaits_approval, run.retry_at)
    return stage.status, stage.stale, at


def _line(stage: StageView) -> str:
    said = note(stage, datetime.now(UTC))
    causes = [f"stale: {stale(cause)}" for cause in stage.stale_because]
    head = f"{stage.position} {name_of(stage)}: {stage.status.value}"
    return "; ".join(filter(None, [head, said, *causes]))
