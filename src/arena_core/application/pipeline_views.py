"""Pipelines and their stages as users see them."""

from datetime import datetime
from enum import Enum
from uuid import UUID

from attrs import frozen

from arena_core.application.deeds import Hand
from arena_core.domain.ids import Digest
from arena_core.domain.stage_run import Cause, Product, Seen, Status
from arena_core.domain.stage_settings import (
    AutoAdd,
    Condition,
    HandOver,
    Retries,
    StageType,
    Trigger,
)


class Why(Enum):
    """What makes a stage stale."""

    PRODUCED = "produced"
    """The stage before it yields another checkpoint now."""
    DELETED = "deleted"
    """The checkpoint that it took was deleted, and there is nothing else to take."""
    START = "start"
    """It would begin with something else now."""
    RULE = "rule"
    """It takes the other one of best and final now."""
    SOURCE = "source"
    """Another stage is the one before it now."""
    BINDING = "binding"
    """Another experiment is bound to it."""


@frozen
class StaleCause:
    """One link of the chain that made a stage stale."""

    why: Why
    sentence: str
    stage_id: UUID | None
    """The stage before, whose product has changed."""
    consumed: Digest | None
    now: Digest | None
    positions: list[int]
    """Of the events that caused it, the earliest first."""


@frozen
class RunView:
    """One execution of a stage."""

    id: UUID
    number: int
    status: Status
    cause: Cause
    attempt: int
    triggered_at: datetime
    triggered_by: Hand
    """The runner, of a stage that follows another by itself."""
    approved_by: Hand | None
    rejected_by: Hand | None
    stopped_by: Hand | None
    """Whoever has asked for its end; None where its time was over."""
    started_at: datetime | None
    ended_at: datetime | None
    retry_at: datetime | None
    """When another attempt begins."""
    queue_position: int | None
    """Of its training among the organisation's that wait for their turn, from 1."""
    consumed: Product | None
    produced: Product | None
    """What the stage after it takes, by that one's rule; best where there is none.

    If it has left nothing of that kind, the last that it has left.
    """
    agent_id: UUID | None
    """Of a Deployment stage: what it put live; else what it added to Agents."""
    training_run_id: UUID | None
    """The training's, for its log."""
    condition_met: bool | None
    finding: str | None
    """Why the condition is met or not."""
    awaits_approval: bool
    to_approve: Seen | None
    reason: str | None


@frozen
class AttemptView:
    """One beginning of a run's work, and what came of it."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    training: int | None
    """The number of the training that has done it, for its log."""
    training_run_id: UUID | None
    agent_id: UUID | None
    """Of a Deployment stage: what was to be put live."""
    status: Status
    """Failed too where the run has gone on with another attempt."""
    reason: str | None


@frozen
class RunHistory(RunView):
    """A run as it is listed: with all that was attempted."""

    attempts: list[AttemptView]
    """The earliest first; none if it never came to the work."""


@frozen
class StageView:
    """`trigger`, `start` and the like as they are set; `run` as it was run last."""

    id: UUID
    position: int
    type: StageType
    trigger: Trigger
    experiment_id: UUID | None
    experiment_name: str | None
    start: UUID | None
    """The agent that the first stage begins with; None: from scratch."""
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


@frozen
class PipelineView:
    id: UUID
    project_id: UUID
    name: str
    description: str
    last_modified: datetime
    """Of its structure or settings; what runs does not change it."""
    stages: list[StageView]
    owner: str
    created_at: datetime


@frozen
class CandidateView:
    """An experiment that a stage could be bound to."""

    experiment_id: UUID
    name: str
    algorithm: str
    needs_duplicate: bool
    """Whether it has run or is bound here already, so that a copy would be bound."""
