"""What happens to an experiment, as it is recorded, beside its training."""

from typing import TypeAlias

from attrs import frozen

from arena_core.domain import training
from arena_core.domain.ids import ExperimentId, ProjectId, StageId
from arena_core.domain.training import Setup


@frozen
class ExperimentDrafted:
    experiment_id: ExperimentId
    project_id: ProjectId
    name: str
    setup: Setup


@frozen
class ExperimentConfigured:
    setup: Setup


@frozen
class ExperimentRenamed:
    name: str


@frozen
class ExperimentBound:
    stage_id: StageId


@frozen
class ExperimentReleased:
    stage_id: StageId


@frozen
class ExperimentDeleted:
    pass


Event: TypeAlias = (
    ExperimentDrafted
    | ExperimentConfigured
    | ExperimentRenamed
    | ExperimentBound
    | ExperimentReleased
    | training.Event
    | ExperimentDeleted
)
