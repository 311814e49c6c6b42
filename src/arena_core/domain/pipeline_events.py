"""What happens to the structure of a pipeline, as it is recorded."""

from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.ids import PipelineId, ProjectId, StageId
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_settings import Settings
from arena_core.domain.values import natural


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
