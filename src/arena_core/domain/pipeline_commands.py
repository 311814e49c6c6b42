"""What can be asked of a pipeline: to be made, edited and deleted."""

from operator import index
from typing import TypeAlias

from attrs import field, frozen
from attrs.converters import optional

from arena_core.domain.ids import PipelineId, ProjectId, StageId
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_settings import Settings


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
    position: int | None = field(default=None, converter=optional(index))


@frozen
class MoveStage:
    stage_id: StageId
    position: int = field(converter=index)


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

    `stages`: what the rest of the transaction was decided on; refused if it is not so
    any more.  None: that does not matter.
    """

    stages: tuple[Planned, ...] | None = None


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
