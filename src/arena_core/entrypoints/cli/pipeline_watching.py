"""Watching a pipeline: drawn anew on a terminal, told in lines, or as JSON."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from attrs import define, field, frozen

from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.pipelines import is_at_work
from arena_core.domain.stage_run import AT_WORK, RETRIABLE, Status
from arena_core.domain.stage_settings import StageType
from arena_core.entrypoints.cli import screen
from arena_core.entrypoints.cli.following import detachable, looks, say_if_it_serves
from arena_core.entrypoints.cli.options import operator
from arena_core.entrypoints.cli.output import clauses, say
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.pipeline_tree import trainings_of, tree
from arena_core.entrypoints.stage_words import (
    how_to_approve,
    name_of,
    note,
    stale,
    time_of,
)
from arena_core.entrypoints.training_progress import Progress, words

__all__ = ["is_at_work", "watched"]
SAID_AGAIN_S = 10.0
"""How often it is told how far a training is where nothing is drawn anew."""
GOES_ON = (
    "What trains goes on by itself, and the pipeline by a server that runs on its "
    "store, once what waits for an approval has it. Watch it with arena-core pipeline "
    "watch, end it with arena-core pipeline stop."
)


def watched(
    arena: Arena,
    pipeline_id: UUID,
    *,
    as_json: bool = False,
    timeout_s: float | None = None,
) -> bool:
    """Show the pipeline until nothing of it is at work; return whether that is well."""
    use, shown = operator(arena), Screen(as_json)

    def look() -> PipelineView | None:
        found = use.pipelines.get(pipeline_id)
        return found if is_at_work(found) else None

    with detachable(GOES_ON) as watcher, shown.drawn():
        for view in looks(arena, watcher, look, timeout_s=timeout_s):
            shown.show(view, trainings_of(use, view))
    ended = use.pipelines.get(pipeline_id)
    shown.end(ended)
    if has_put_live(ended):
        say_if_it_serves(arena)
    return is_well(ended)


def has_put_live(view: PipelineView) -> bool:
    """Say whether a Deployment stage of it has succeeded."""
    return any(
        stage.type is StageType.DEPLOYMENT and stage.status is Status.SUCCEEDED
        for stage in view.stages
    )


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


@frozen
class _Told:
    """What was told of a stage, and when."""

    essence: object
    at_s: float


@define
class Screen(screen.Screen):
    _told: dict[UUID, _Told] = field(factory=dict)

    def show(self, view: PipelineView, trainings: Mapping[UUID, Progress]) -> None:
        if self._live is not None:
            self._draw(self._live, tree(view, trainings, datetime.now(UTC)))
        elif self.as_json:
            self._json(view)
        else:
            self._lines(view, trainings)

    def end(self, view: PipelineView) -> None:
        if self.as_json:
            self._json(view)
        elif self._console.is_terminal:
            self._console.print(tree(view, {}, datetime.now(UTC)))
        elif all(stage.run is None for stage in view.stages):
            for stage in view.stages:
                say(_line(stage, None))
        else:
            self._lines(view, {})

    def _lines(self, view: PipelineView, trainings: Mapping[UUID, Progress]) -> None:
        """Tell each stage of which something else is to be told than before.

        How far a training is changes all the time: that is told now and then.
        """
        for stage in view.stages:
            essence, now_s = _essence(stage), time.monotonic()
            before, training = self._told.get(stage.id), trainings.get(stage.id)
            if before is not None and before.essence == essence:
                is_due = now_s - before.at_s >= SAID_AGAIN_S
                if training is None or not is_due:
                    continue
            self._told[stage.id] = _Told(essence, now_s)
            if before is not None or stage.run is not None:
                say(_line(stage, training))
                if (typed := how_to_approve(view.name, stage)) is not None:
                    say(f"  {typed}")


def _essence(stage: StageView) -> object:
    """Return what a change of is told: not how long something takes still."""
    run = stage.run
    at = run and (run.number, run.attempt, run.awaits_approval, run.retry_at)
    return stage.status, stage.stale, at


def _line(stage: StageView, training: Progress | None) -> str:
    now = datetime.now(UTC)
    done = [] if training is None or stage.status not in AT_WORK else words(training)
    causes = [f"stale: {stale(cause)}" for cause in stage.stale_because]
    head = f"{time_of(now)}  {stage.position} {name_of(stage)}: {stage.status.value}"
    said = dict.fromkeys([", ".join(done), note(stage, now)])  # once, if they agree
    return clauses(head, *said, *causes)
