"""Pipeline: ordered stages that chain training and deployment inside one project.

It is structure and settings only; what became of a stage is told by `stage`.  The
stages are such that they could be run one after the other: the first is an Experiment
stage that is triggered by hand, and each Experiment stage can use what the one before
it leaves.  An edit that would break this is refused, but for an Auto stage that becomes
the first: the same command makes it Manual.

Positions begin with 1, as people count.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.errors import AlreadyExists, Conflict, NotFound, Rejected
from arena_core.domain.ids import (
    ExperimentId,
    PipelineId,
    ProjectId,
    StageId,
)
from arena_core.domain.stage_settings import (
    AutoAdd,
    HandOver,
    Settings,
    StageType,
    Trains,
    Trigger,
    link,
)
from arena_core.domain.values import described, natural, trimmed

KIND = "pipeline"
MOST_STAGES = 100


@frozen
class Planned:
    """One stage of a pipeline."""

    id: StageId
    settings: Settings


@frozen
class CreatePipeline:
    pipeline_id: PipelineId
    project_id: ProjectId
    name: str
    description: str = ""


@frozen
class CreateDuplicate:
    """Create a pipeline with the stages of another, whose experiments are copied."""

    pipeline_id: PipelineId
    original: PipelineId
    project_id: ProjectId
    name: str
    description: str
    stages: tuple[Planned, ...]


@frozen
class RenamePipeline:
    name: str


@frozen
class DescribePipeline:
    description: str


@frozen
class InsertStage:
    """`position`: which it is to be; None: the last."""

    stage_id: StageId
    settings: Settings
    position: int | None = None


@frozen
class MoveStage:
    stage_id: StageId
    position: int


@frozen
class EditStage:
    stage_id: StageId
    settings: Settings


@frozen
class RemoveStage:
    stage_id: StageId


@frozen
class RequirePipeline:
    """Changes nothing, and is refused once the pipeline is deleted.

    In a transaction it keeps what is done for a stage from a pipeline that has changed.
    """


@frozen
class DeletePipeline:
    pass


Command: TypeAlias = (
    CreatePipeline
    | CreateDuplicate
    | RenamePipeline
    | DescribePipeline
    | InsertStage
    | MoveStage
    | EditStage
    | RemoveStage
    | RequirePipeline
    | DeletePipeline
)


@frozen
class PipelineCreated:
    pipeline_id: PipelineId
    project_id: ProjectId
    name: str
    description: str


@frozen
class PipelineDuplicated:
    """A pipeline begins, as a copy of `original`."""

    pipeline_id: PipelineId
    original: PipelineId
    project_id: ProjectId
    name: str
    description: str
    stages: tuple[Planned, ...]


@frozen
class PipelineRenamed:
    name: str


@frozen
class PipelineDescribed:
    description: str


@frozen
class StageInserted:
    stage_id: StageId
    position: int = field(validator=natural)
    settings: Settings


@frozen
class StageMoved:
    stage_id: StageId
    position: int = field(validator=natural)


@frozen
class StageEdited:
    stage_id: StageId
    settings: Settings


@frozen
class StageRemoved:
    stage_id: StageId


@frozen
class PipelineDeleted:
    pass


Event: TypeAlias = (
    PipelineCreated
    | PipelineDuplicated
    | PipelineRenamed
    | PipelineDescribed
    | StageInserted
    | StageMoved
    | StageEdited
    | StageRemoved
    | PipelineDeleted
)


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


def source(stages: Sequence[Planned], position: int) -> Planned | None:
    """Return the nearest Experiment stage before `position`."""
    before = reversed(stages[: position - 1])
    return next((s for s in before if s.settings.type is StageType.EXPERIMENT), None)


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
            _check(command.stages)
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
            if state.stage(command.stage_id).settings == command.settings:
                return []
            return _settled(state, StageEdited(command.stage_id, command.settings))
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
    _check_position(position, last)
    return _settled(state, StageInserted(command.stage_id, position, command.settings))


def _move(state: Pipeline, command: MoveStage) -> Sequence[Event]:
    _check_position(command.position, len(state.stages))
    if state.position(command.stage_id) == command.position:
        return []
    return _settled(state, StageMoved(command.stage_id, command.position))


def _check_position(position: int, last: int) -> None:
    if not 1 <= position <= last:
        raise Rejected(
            f"There is no position {position}: use one between 1 and {last}.",
            field="position",
        )


def _settled(state: Pipeline, event: Event) -> Sequence[Event]:
    """Return `event`, and what else must change so that the stages can be run."""
    events = [event]
    after = evolve(state, event)
    for position, planned in enumerate(after.stages, start=1):
        fitting = _fitting(planned.settings, position)
        if fitting != planned.settings:
            events.append(StageEdited(planned.id, fitting))
            after = evolve(after, events[-1])
    _check(after.stages)
    return events


def _fitting(settings: Settings, position: int) -> Settings:
    """Return `settings` without what makes no sense at `position`."""
    if position == 1:
        return replace(settings, trigger=Trigger.MANUAL, checkpoint=HandOver.BEST)
    return replace(settings, start=None)


def _check(stages: Sequence[Planned]) -> None:
    """Raise `Rejected` or `Conflict` unless the stages could be run in their order."""
    bound: set[ExperimentId] = set()
    for position, planned in enumerate(stages, start=1):
        settings = planned.settings
        if settings.type is StageType.DEPLOYMENT:
            _check_deployment(settings, position)
            continue
        trains = settings.trains
        if settings.experiment_id is None or trains is None:
            raise Rejected(
                f"Stage {position} trains nothing: bind an experiment to it.",
                field="experiment_id",
            )
        if settings.experiment_id in bound:
            raise Conflict(
                f"The experiment of stage {position} is bound to another stage of "
                "this pipeline: ask for a duplicate of it."
            )
        bound.add(settings.experiment_id)
        if settings.condition is not None and settings.condition.better_than_live:
            raise Rejected(
                f"Stage {position} puts nothing live, so there is nothing to be "
                "better than: leave better_than_live to a Deployment stage.",
                field="condition.better_than_live",
            )
        before = source(stages, position)
        if before is None:
            _check_first(settings, trains)
        elif before.settings.trains is not None:
            _check_link(before.settings.trains, trains, position)


def _check_deployment(settings: Settings, position: int) -> None:
    if position == 1:
        raise Rejected(
            "The first stage cannot be a Deployment: there is no checkpoint to deploy "
            "yet. Put an Experiment stage before it.",
            field="type",
        )
    if settings.experiment_id is not None or settings.trains is not None:
        raise Rejected(
            f"Stage {position} is a Deployment, which trains nothing: leave the "
            "experiment out.",
            field="experiment_id",
        )
    if settings.auto_add is not AutoAdd.NO:
        raise Rejected(
            f"Stage {position} is a Deployment, which has its agent already: leave "
            "auto_add out.",
            field="auto_add",
        )


def _check_first(settings: Settings, trains: Trains) -> None:
    if settings.start is not None:
        if link(settings.start.trains, trains) is None:
            raise Rejected(
                f"{trains.algorithm} cannot begin with an agent of "
                f"{settings.start.trains.algorithm}: {_COMPATIBLE}",
                field="start",
            )
    elif trains.needs_a_decoder:
        raise Rejected(
            f"{trains.algorithm} needs a decoder, and there is no stage before it: "
            "name a saved agent as its start.",
            field="start",
        )


def _check_link(before: Trains, after: Trains, position: int) -> None:
    if link(before, after) is None:
        raise Rejected(
            f"Stage {position} trains {after.algorithm}, which cannot use a "
            f"checkpoint of {before.algorithm}: {_COMPATIBLE}",
            field="experiment_id",
        )


_COMPATIBLE = (
    "an algorithm follows itself, language-model algorithms follow each other on the "
    "same base model, and LatentPPO follows Supervised."
)


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
