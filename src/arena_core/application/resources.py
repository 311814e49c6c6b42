"""The resources that users see, as the library returns them and HTTP encodes them.

Times are aware and in UTC; sizes are in bytes.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
from attrs import field, frozen

from arena_core.application.deeds import Deed, Hand, What, hand_of, moment
from arena_core.application.ports import Recorded, Row
from arena_core.application.progress import Doing
from arena_core.application.trainer import Pace
from arena_core.domain import agent as agents
from arena_core.domain import (
    checkpoint_import,
    credential,
    experiment,
    organisation,
    project,
)
from arena_core.domain import deployment as deployments
from arena_core.domain.guards import Guard
from arena_core.domain.ids import Digest
from arena_core.domain.parity import Parity
from arena_core.domain.swap import Ended, Mode, Phase, Swap
from arena_core.domain.values import (
    CheckpointType,
    Family,
    ProjectKind,
    Role,
    Scores,
    Source,
)


@frozen
class ProjectView:
    id: UUID
    name: str
    description: str
    kind: ProjectKind
    owner: str
    """An actor: who made it, or took it over when they were removed."""
    created_at: datetime


@frozen
class TrainingView:
    """The latest training of an experiment: what was asked for, and how far it is."""

    run_id: UUID
    number: int
    """Of all trainings of the experiment, from 1."""
    stage_id: UUID | None
    """The stage of a pipeline that asked for it."""
    queue_position: int | None
    """Among the organisation's that wait for their turn, from 1; None: it does not."""
    resume_step: int | None
    """It goes on from the checkpoint at that step."""
    step: int | None
    """As far as is known; None where nothing is."""
    max_steps: int | None
    """None: as the recipe's settings say."""
    steps_per_s: float | None
    left_s: float | None
    """These two only while it runs."""
    requested_by: Hand | None
    started_at: datetime | None
    ended_at: datetime | None
    """By the log, as is when it started once it has ended."""
    stopped_by: Hand | None
    seed: int | None
    """None: as the recipe's settings say."""


@frozen
class ExperimentView:
    id: UUID
    project_id: UUID
    name: str
    algorithm: str
    family: Family
    source: Source | None
    base_model: str | None
    recipe: str | None
    config: dict[str, Any]
    """The recipe's own settings."""
    status: experiment.Status
    reason: str | None
    training: TrainingView | None
    """None: none was ever asked for."""
    owner: str
    """An actor: who made it, or took it over when they were removed."""
    created_at: datetime


@frozen
class CheckpointView:
    """Scores are None where the experiment's metrics say nothing at that step."""

    step: int
    digest: Digest
    size_bytes: int
    training_score: float | None
    evaluation_score: float | None
    created_at: datetime

    @property
    def scores(self) -> Scores:
        return Scores(self.training_score, self.evaluation_score)


@frozen
class ImportView:
    """A checkpoint that is to be made of what other training code has saved."""

    id: UUID
    experiment_id: UUID
    format: str
    """As it was declared."""
    step: int
    status: checkpoint_import.Status
    doing: Doing | None
    """None where it is not being converted by this very process."""
    reason: str | None
    digest: Digest | None
    """Of the bundle that came of it."""
    created_at: datetime
    ended_at: datetime | None


@frozen
class FrozenCheckpointView:
    type: CheckpointType
    step: int
    digest: Digest


@frozen
class SwapView:
    mode: Mode
    cause: agents.Cause
    digest: Digest
    step: int
    phase: Phase
    until: datetime | None
    """When baking is over; None until it begins."""
    guard: Guard | None


@frozen
class DeploymentView:
    """`url` is None until Deployed, and where nothing is served over HTTP."""

    id: UUID
    status: deployments.Status
    connected: bool
    reason: str | None
    url: str | None
    memory_scope: deployments.MemoryScope
    key_version: int
    digest: Digest
    """Of the checkpoint that is live, or goes live next."""
    parity: Parity | None
    swap: SwapView | None
    """What is under way, or bakes."""
    last_swap: Ended | None


@frozen
class AgentView:
    id: UUID
    kind: ProjectKind
    name: str
    description: str
    experiment_id: UUID
    experiment_name: str
    project_id: UUID
    algorithm: str
    family: Family
    checkpoint: FrozenCheckpointView
    earlier_checkpoints: list[FrozenCheckpointView]
    """Others that the agent has had, the latest last."""
    base_model: str | None
    deployment: DeploymentView | None
    owner: str
    """An actor: who made it, or took it over when they were removed."""
    created_at: datetime


@frozen
class Shape:
    """What a caller must know to choose the right call."""

    recurrent: bool
    multi_agent: bool
    supervised: bool
    llm: bool


class Tab(Enum):
    """Which client an example is for."""

    ARENA_CLIENT = "Arena client"
    ARENA_CLI = "Arena CLI"
    MANUAL_HTTP = "Manual HTTP"


class Language(Enum):
    PYTHON = "python"
    SHELL = "shell"


@frozen
class Example:
    """A call to be pasted.  `code` may hold the key."""

    tab: Tab
    title: str
    language: Language
    code: str = field(repr=False)


@frozen
class AccessView:
    """How to call a Deployed agent.  `api_key` is a secret."""

    endpoint: str | None
    api_key: str = field(repr=False)
    algorithm: str
    shape: Shape
    examples: list[Example] = field(factory=list)
    """None where there is no endpoint."""
    classes: list[str] | None = None
    """What the numbers of an answer are about, in their order."""
    columns: list[str] | None = None
    """What the numbers of a row of inputs are called, in their order."""


@frozen
class TokenView:
    id: UUID
    kind: credential.TokenKind
    name: str
    user: str
    role: Role
    last_four: str
    created_at: datetime


@frozen
class OrganisationView:
    id: str
    name: str
    role: Role
    """Of whoever asks."""
    created_at: datetime | None
    """None of one of which the log says nothing, as `default` at first."""


@frozen
class MemberView:
    user: str
    role: Role


@frozen
class InvitationView:
    id: UUID
    user: str
    role: Role
    expires_at: datetime


@frozen
class UserView:
    """Texts that nobody has given are empty."""

    name: str
    email: str
    first_name: str
    last_name: str
    current_organisation: str
    organisations: list[OrganisationView]
    """In the order of joining."""


@frozen
class EventView:
    """One event of the log with its whole envelope."""

    position: int
    stream: UUID
    version: int
    name: str
    name_version: int
    event_id: UUID
    occurred_at: datetime
    recorded_at: datetime
    organisation: str
    actor: str
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None
    reason: str | None
    traceparent: str | None
    code: str
    data: Any
    hash: str


def project_view(row: Row, owner: str) -> ProjectView:
    state: project.Project = row.state
    return ProjectView(
        state.id, state.name, state.description, state.kind, owner, row.created_at
    )


def import_view(row: Row, doing: Doing | None) -> ImportView:
    state: checkpoint_import.Import = row.state
    return ImportView(
        id=state.id,
        experiment_id=state.experiment_id,
        format=state.order.format,
        step=state.order.step,
        status=state.status,
        doing=doing,
        reason=state.reason,
        digest=state.digest,
        created_at=row.created_at,
        ended_at=None if state.status in checkpoint_import.OPEN else row.changed_at,
    )


def experiment_view(
    row: Row, owner: str, pace: Pace | None = None, queue_position: int | None = None
) -> ExperimentView:
    state: experiment.Experiment = row.state
    setup = state.setup
    return ExperimentView(
        id=state.id,
        project_id=state.project_id,
        name=state.name,
        algorithm=setup.algorithm,
        family=setup.family,
        source=setup.source,
        base_model=setup.base_model,
        recipe=setup.recipe,
        config=msgspec.json.decode(setup.config, type=dict[str, Any]),
        status=state.status,
        reason=state.reason,
        training=_training_view(state, row.deeds, pace, queue_position),
        owner=owner,
        created_at=row.created_at,
    )


def _training_view(
    state: experiment.Experiment,
    deeds: Sequence[Deed],
    pace: Pace | None,
    queue_position: int | None,
) -> TrainingView | None:
    training, run_id = state.training, state.run_id
    if training is None or run_id is None:
        return None
    written = [c.step for c in state.checkpoints if c.training == training.number]
    reached = max(written, default=training.resume_step)
    return TrainingView(
        run_id=run_id,
        number=training.number,
        stage_id=training.stage,
        queue_position=queue_position,
        resume_step=training.resume_step,
        step=reached if pace is None else pace.step,
        max_steps=training.max_steps if pace is None else pace.max_steps,
        steps_per_s=None if pace is None else pace.steps_per_s,
        left_s=None if pace is None else pace.left_s,
        requested_by=hand_of(deeds, What.ASKED),
        started_at=moment(deeds, What.BEGUN) if pace is None else pace.started_at,
        ended_at=moment(deeds, What.ENDED),
        stopped_by=hand_of(deeds, What.STOPPED),
        seed=training.beginning.seed,
    )


def deployment_view(row: Row) -> DeploymentView:
    state: deployments.Deployment = row.state
    return DeploymentView(
        id=state.id,
        status=state.status,
        connected=state.status is deployments.Status.DEPLOYED,
        reason=state.reason,
        url=None,
        memory_scope=state.memory_scope,
        key_version=state.key_version,
        digest=state.digest,
        parity=state.parity,
        swap=None if state.swap is None else _swap_view(state.swap),
        last_swap=state.last_swap,
    )


def _swap_view(swap: Swap) -> SwapView:
    return SwapView(
        mode=swap.mode,
        cause=swap.cause,
        digest=swap.digest,
        step=swap.checkpoint.step,
        phase=swap.phase,
        until=swap.until,
        guard=swap.guard,
    )


def agent_view(row: Row, owner: str, deployment: Row | None) -> AgentView:
    state: agents.Agent = row.state
    return AgentView(
        id=state.id,
        kind=state.kind,
        name=state.name,
        description=state.description,
        experiment_id=state.origin.experiment_id,
        experiment_name=state.origin.experiment_name,
        project_id=state.origin.project_id,
        algorithm=state.origin.algorithm,
        family=state.origin.family,
        checkpoint=_frozen_view(state.checkpoint),
        earlier_checkpoints=[_frozen_view(earlier) for earlier in state.earlier],
        base_model=state.origin.base_model,
        deployment=None if deployment is None else deployment_view(deployment),
        owner=owner,
        created_at=row.created_at,
    )


def _frozen_view(checkpoint: agents.Frozen) -> FrozenCheckpointView:
    return FrozenCheckpointView(checkpoint.type, checkpoint.step, checkpoint.digest)


def token_view(row: Row) -> TokenView:
    state: credential.AccessToken = row.state
    return TokenView(
        state.id,
        state.kind,
        state.name,
        state.user,
        state.role,
        state.secret.last_four,
        row.created_at,
    )


def _without_hash(event: object) -> object:
    """Return what an event says, less the hash of a secret: nobody needs to see it."""
    if isinstance(
        event,
        credential.AccessTokenIssued
        | credential.AccessTokenRotated
        | organisation.MemberInvited,
    ):
        data: dict[str, Any] = msgspec.to_builtins(event)
        del data["secret"]["sha256"]
        return data
    return event


def event_view(recorded: Recorded) -> EventView:
    context = recorded.context
    return EventView(
        position=recorded.position,
        stream=recorded.stream,
        version=recorded.version,
        name=recorded.name,
        name_version=recorded.name_version,
        event_id=recorded.event_id,
        occurred_at=recorded.occurred_at,
        recorded_at=recorded.recorded_at,
        organisation=context.organisation,
        actor=str(context.actor),
        command_id=context.command_id,
        correlation_id=context.correlation_id,
        causation_id=context.causation_id,
        reason=context.reason,
        traceparent=context.traceparent,
        code=recorded.code,
        data=_without_hash(recorded.event),
        hash=recorded.hash,
    )
