"""Pipeline: ordered stages that chain training and deployment inside one project.

It is structure and settings only; what became of a stage is told by `stage`.  An edit
after which the stages could not be run one after the other, as `stage_order` says, is
refused, but for an Auto stage that becomes the first: the same command makes it Manual.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from attrs import evolve as replace
from attrs import frozen

from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    NotFound,
    Overtaken,
    Rejected,
)
from arena_core.domain.ids import PipelineId, ProjectId, StageId
from arena_core.domain.pipeline_commands import (
    Command,
    CreateDuplicate,
    CreatePipeline,
    DeletePipeline,
    DescribePipeline,
    EditStage,
    InsertStage,
    MoveStage,
    RemoveStage,
    RenamePipeline,
    RequirePipeline,
)
from arena_core.domain.pipeline_events import (
    Event,
    PipelineCreated,
    PipelineDeleted,
    PipelineDescribed,
    PipelineDuplicated,
    PipelineRenamed,
    StageEdited,
    StageInserted,
    StageMoved,
    StageRemoved,
)
from arena_core.domain.stage_order import Planned, check, check_asked, source
from arena_core.domain.stage_settings import Trigger
from arena_core.domain.values import described, trimmed

KIND = "pipeline"
MOST_STAGES = 100


@frozen
class Pipeline:
    id: PipelineId
    project_id: ProjectId
    name: str
    description: str
    stages: tuple[Planned, ...] = ()
    deleted: bool = False

    def position(self, stage_id: StageId) -> int:
        """Return the stage's position, from 1.  Raises `NotFound`."""
        for position, planned in enumerate(self.stages, start=1):
            if planned.id == stage_id:
                return position
        raise NotFound("There is no such stage in this pipeline.")

    def stage(self, stage_id: StageId) -> Planned:
        """Return the stage.  Raises `NotFound`."""
        return self.stages[self.position(stage_id) - 1]

    def source(self, stage_id: StageId) -> Planned | None:
        """Return the Experiment stage whose checkpoint the stage takes.

        That is the nearest one before it; None: there is none before it.
        """
        return source(self.stages, self.position(stage_id))

    def next(self, stage_id: StageId) -> Planned | None:
        """Return the stage behind it, if there is one."""
        return next(iter(self.stages[self.position(stage_id) :]), None)


def decide(command: Command, state: Pipeline | None, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    del now
    match command, state:
        case CreatePipeline(), None:
            return [
                PipelineCreated(
                    command.pipeline_id,
                    command.project_id,
                    trimmed(command.name),
                    described(command.description),
                )
            ]
        case CreateDuplicate(), None:
            check(command.stages)
            return [
                PipelineDuplicated(
                    command.pipeline_id,
                    command.original,
                    command.project_id,
                    trimmed(command.name),
                    described(command.description),
                    command.stages,
                )
            ]
        case CreatePipeline() | CreateDuplicate(), Pipeline():
            raise AlreadyExists("This pipeline exists already.")
        case DeletePipeline(), Pipeline(deleted=True):
            return []
        case (_, None) | (_, Pipeline(deleted=True)):
            raise NotFound("There is no such pipeline.")
        case RequirePipeline(), Pipeline():
            if command.stages not in (None, state.stages):
                raise Overtaken(
                    "The stages have changed meanwhile: look at them again."
                )
            return []
        case RenamePipeline(), Pipeline():
            name = trimmed(command.name)
            return [] if name == state.name else [PipelineRenamed(name)]
        case DescribePipeline(), Pipeline():
            text = described(command.description)
            return [] if text == state.description else [PipelineDescribed(text)]
        case InsertStage(), Pipeline():
            return _insert(state, command)
        case MoveStage(), Pipeline():
            return _move(state, command)
        case EditStage(), Pipeline():
            return _edit(state, command)
        case RemoveStage(), Pipeline():
            state.position(command.stage_id)
            return _settled(state, StageRemoved(command.stage_id))
        case DeletePipeline(), Pipeline():
            return [PipelineDeleted()]
        case _:
            assert_never(command)  # type: ignore[arg-type]  # mypy narrows no tuples


def _insert(state: Pipeline, command: InsertStage) -> Sequence[Event]:
    if any(planned.id == command.stage_id for planned in state.stages):
        raise AlreadyExists("This stage exists already.")
    if len(state.stages) >= MOST_STAGES:
        raise Conflict(
            f"The pipeline has {MOST_STAGES} stages, which is the most: use another "
            "pipeline for what follows."
        )
    last = len(state.stages) + 1
    position = last if command.position is None else command.position
    check_position(position, last)
    check_asked(command.settings, position)
    return _settled(state, StageInserted(command.stage_id, position, command.settings))


def _move(state: Pipeline, command: MoveStage) -> Sequence[Event]:
    check_position(command.position, len(state.stages))
    if state.position(command.stage_id) == command.position:
        return []
    return _settled(state, StageMoved(command.stage_id, command.position))


def _edit(state: Pipeline, command: EditStage) -> Sequence[Event]:
    position = state.position(command.stage_id)
    before = state.stages[position - 1].settings
    if before == command.settings:
        return []
    if command.settings.start != before.start or position == 1:
        check_asked(command.settings, position)
    return _settled(state, StageEdited(command.stage_id, command.settings))


def check_position(position: int, last: int) -> None:
    """Raise `Rejected` unless there is such a position, from 1 to `last`."""
    if not 1 <= position <= last:
        raise Rejected(
            f"There is no position {position}: use one between 1 and {last}.",
            field="position",
        )


def _settled(state: Pipeline, event: Event) -> Sequence[Event]:
    """Return `event`, and what else must change so that the stages can be run."""
    events = [event]
    after = evolve(state, event)
    first = next(iter(after.stages), None)
    if first is not None and first.settings.trigger is Trigger.AUTO:
        by_hand = replace(first.settings, trigger=Trigger.MANUAL)
        events.append(StageEdited(first.id, by_hand))
        after = evolve(after, events[-1])
    check(after.stages)
    return events


def evolve(state: Pipeline | None, event: Event) -> Pipeline:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, PipelineCreated):
        return Pipeline(
            event.pipeline_id, event.project_id, event.name, event.description
        )
    if isinstance(event, PipelineDuplicated):
        return Pipeline(
            event.pipeline_id,
            event.project_id,
            event.name,
            event.description,
            event.stages,
        )
    assert state is not None, f"{event!r} before PipelineCreated"
    match event:
        case PipelineRenamed():
            return replace(state, name=event.name)
        case PipelineDescribed():
            return replace(state, description=event.description)
        case StageInserted():
            inserted = Planned(event.stage_id, event.settings)
            return _put(state, inserted, event.position)
        case StageMoved():
            moved = state.stage(event.stage_id)
            return _put(_without(state, event.stage_id), moved, event.position)
        case StageEdited():
            edited = Planned(event.stage_id, event.settings)
            stages = (edited if s.id == edited.id else s for s in state.stages)
            return replace(state, stages=tuple(stages))
        case StageRemoved():
            return _without(state, event.stage_id)
        case PipelineDeleted():
            return replace(state, deleted=True)
        case _:
            assert_never(event)


def _put(state: Pipeline, planned: Planned, position: int) -> Pipeline:
    stages = list(state.stages)
    stages.insert(position - 1, planned)
    return replace(state, stages=tuple(stages))


def _without(state: Pipeline, stage_id: StageId) -> Pipeline:
    return replace(state, stages=tuple(s for s in state.stages if s.id != stage_id))


__all__ = [
    "KIND",
    "MOST_STAGES",
    "Command",
    "CreateDuplicate",
    "CreatePipeline",
    "DeletePipeline",
    "DescribePipeline",
    "EditStage",
    "Event",
    "InsertStage",
    "MoveStage",
    "Pipeline",
    "PipelineCreated",
    "PipelineDeleted",
    "PipelineDescribed",
    "PipelineDuplicated",
    "PipelineRenamed",
    "RemoveStage",
    "RenamePipeline",
    "RequirePipeline",
    "StageEdited",
    "StageInserted",
    "StageMoved",
    "StageRemoved",
    "check_position",
    "decide",
    "evolve",
]
