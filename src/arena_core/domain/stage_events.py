"""What happens to the runs of a stage, as it is recorded."""

from datetime import datetime
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.ids import AgentId, Digest, PipelineId, RunId, StageId
from arena_core.domain.stage_run import (
    Cause,
    ConditionChecked,
    Consumed,
    Ordered,
    Seen,
    Yields,
)
from arena_core.domain.stage_settings import Settings
from arena_core.domain.values import sha256

NOT_APPROVED = "It was not approved."
NOT_BEGUN = "It was stopped before it began."
NOT_RETRIED = "It was stopped while it waited for another attempt."
"""Reasons of `StageStopped`, by which a rejection and a stop are known in every log: no
other may be worded so, and these never otherwise."""


@frozen
class StageTriggered:
    stage_id: StageId
    pipeline_id: PipelineId
    run_id: RunId
    number: int
    """Of the stage's runs, from 1."""
    cause: Cause
    settings: Settings
    fingerprint: Digest = field(validator=sha256)
    ordered: Ordered
    triggered_at: datetime


@frozen
class CheckpointConsumed:
    run_id: RunId
    consumed: Consumed


@frozen
class ApprovalRequested:
    run_id: RunId
    seen: Seen


@frozen
class StageApproved:
    run_id: RunId
    digest: Digest | None = field(validator=sha256)


@frozen
class StageStarted:
    run_id: RunId
    attempt: int
    training: int | None
    """The number of the experiment's training that does it."""
    agent_id: AgentId | None
    """The agent that is put live."""
    started_at: datetime


@frozen
class AttemptFailed:
    run_id: RunId
    attempt: int
    reason: str
    yields: Yields
    retry_at: datetime


@frozen
class StageStopRequested:
    run_id: RunId
    timed_out: bool


@frozen
class StageSucceeded:
    run_id: RunId
    yields: Yields
    added: AgentId | None
    """The agent that was made of its checkpoint."""
    ended_at: datetime


@frozen
class StageFailed:
    run_id: RunId
    reason: str
    yields: Yields
    ended_at: datetime


@frozen
class StageStopped:
    run_id: RunId
    reason: str
    yields: Yields
    ended_at: datetime


Event: TypeAlias = (
    StageTriggered
    | CheckpointConsumed
    | ConditionChecked
    | ApprovalRequested
    | StageApproved
    | StageStarted
    | AttemptFailed
    | StageStopRequested
    | StageSucceeded
    | StageFailed
    | StageStopped
)
