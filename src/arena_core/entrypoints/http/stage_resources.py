"""Pipelines and stages as they travel: what callers send, and what they are shown."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from attrs import asdict, frozen
from msgspec import UNSET, UnsetType

from arena_core.application.pipeline_views import (
    PipelineView,
    RunView,
    StageView,
    StaleCause,
)
from arena_core.domain.stage_run import Status
from arena_core.domain.stage_settings import (
    AutoAdd,
    Condition,
    HandOver,
    Retries,
    StageType,
    Trigger,
)
from arena_core.entrypoints.http.fields import Name

Types: TypeAlias = Literal["experiment", "deployment"]
Triggers: TypeAlias = Literal["manual", "auto"]
Checkpoints: TypeAlias = Literal["best", "final"]
Added: TypeAlias = Literal["no", "best", "final"]
Position = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
SCRATCH: Literal["scratch"] = "scratch"


class StartAgent(msgspec.Struct, forbid_unknown_fields=True):
    """The saved agent whose checkpoint the first stage begins with."""

    agent_id: UUID


class ConditionBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a checkpoint must be like before the stage does anything with it.

    `min_fitness`: its evaluation score at least; null: any.  `better_than_live`:
    whether it must score higher than what the stage has live.
    """

    min_fitness: float | None = None
    better_than_live: bool = False


class RetriesBody(msgspec.Struct, forbid_unknown_fields=True):
    """How often a stage that has failed is tried again by itself.

    `first_wait_s`: seconds before the first retry; each further one waits twice as
    long.
    """

    most: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 20})]
    first_wait_s: Annotated[
        float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 86400})
    ] = 10.0


class StageBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is said of a stage.  What is left out has its default, or stays as it is.

    `duplicate`: bind a copy of the experiment, as is demanded of one that has run or
    is bound already.  `start`: `scratch` or null, or a saved agent.  `checkpoint`:
    which one of the Experiment stage before it is taken.  `auto_add`: which one
    becomes an agent when the stage succeeds.  `condition`, `agent_name` and
    `time_limit_s` (of one attempt, in seconds) may be null: none.
    """

    trigger: Triggers | UnsetType = UNSET
    experiment_id: UUID | UnsetType | None = UNSET
    duplicate: bool | UnsetType = UNSET
    start: Literal["scratch"] | StartAgent | UnsetType | None = UNSET
    checkpoint: Checkpoints | UnsetType = UNSET
    auto_add: Added | UnsetType = UNSET
    agent_name: Name | UnsetType | None = UNSET
    condition: ConditionBody | UnsetType | None = UNSET
    approval: bool | UnsetType = UNSET
    retries: RetriesBody | UnsetType = UNSET
    time_limit_s: float | UnsetType | None = UNSET

    def said(self) -> Mapping[str, Any]:
        """Return the fields that were given, as the use cases take them."""
        given = {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not UNSET and name != "position"
        }
        return {name: _plain(value) for name, value in given.items()}


class StageInsertion(StageBody, kw_only=True):
    """`position`: which it is to be, from 1; null, or left out: the last."""

    type: Types
    position: Position | None = None


class StageEdit(StageBody, kw_only=True):
    """What is left out stays as it is; null is something else."""

    type: Types | UnsetType = UNSET


def _plain(value: object) -> object:
    match value:
        case StartAgent():
            return value.agent_id
        case ConditionBody():
            return Condition(value.min_fitness, value.better_than_live)
        case RetriesBody():
            return Retries(value.most, value.first_wait_s)
        case "scratch":
            return None
        case _:
            return value


@frozen
class StageResource:
    """A stage: as it is set, how it stands, and its latest run."""

    id: UUID
    position: int
    type: StageType
    trigger: Trigger
    experiment_id: UUID | None
    experiment_name: str | None
    start: Literal["scratch"] | StartAgent | None
    """null: it takes the checkpoint of a stage before it."""
    checkpoint: HandOver
    auto_add: AutoAdd
    agent_name: str | None
    condition: Condition | None
    approval: bool
    retries: Retries
    time_limit_s: float | None
    status: Status
    stale: bool
    stale_because: list[StaleCause]
    run: RunView | None

    @classmethod
    def of(cls, view: StageView) -> "StageResource":
        shown = asdict(view, recurse=False)
        return cls(**{**shown, "start": _start(view)})


def _start(view: StageView) -> Literal["scratch"] | StartAgent | None:
    if view.position > 1:
        return None
    return SCRATCH if view.start is None else StartAgent(view.start)


@frozen
class PipelineResource:
    id: UUID
    project_id: UUID
    name: str
    description: str
    last_modified: datetime
    """Of its structure or settings; what runs does not change it."""
    stages: list[StageResource]
    owner: str
    created_at: datetime

    @classmethod
    def of(cls, view: PipelineView) -> "PipelineResource":
        stages = [StageResource.of(stage) for stage in view.stages]
        return cls(**{**asdict(view, recurse=False), "stages": stages})
