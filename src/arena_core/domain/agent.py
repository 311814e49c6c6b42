"""Agent: a named, frozen choice of one checkpoint.

Frozen means frozen: what training writes later, or deletes, does not change it.
Exists -> deleted -> restored, the last only while its restore window is open.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.errors import AlreadyExists, NotFound
from arena_core.domain.ids import AgentId, Digest, ExperimentId, ProjectId
from arena_core.domain.values import (
    CheckpointType,
    Family,
    ProjectKind,
    Scores,
    described,
    natural,
    sha256,
    trimmed,
)

KIND = "agent"


@frozen
class Frozen:
    """The checkpoint that an agent has, and what was known of it when it was chosen."""

    type: CheckpointType
    step: int = field(validator=natural)
    digest: Digest = field(validator=sha256)
    scores: Scores


@frozen
class Origin:
    """Where an agent comes from; copied, so that it outlives the experiment."""

    experiment_id: ExperimentId
    experiment_name: str
    project_id: ProjectId
    algorithm: str
    family: Family
    base_model: str | None


@frozen
class FreezeCheckpoint:
    """Create an agent."""

    agent_id: AgentId
    kind: ProjectKind
    name: str
    description: str
    origin: Origin
    checkpoint: Frozen


@frozen
class RenameAgent:
    name: str


@frozen
class DescribeAgent:
    description: str


@frozen
class RequireAgent:
    """Changes nothing, and is refused once the agent is deleted.

    In a transaction it keeps what is done for an agent from outliving it.
    """


@frozen
class DeleteAgent:
    restore_window: timedelta


@frozen
class RestoreAgent:
    pass


Command: TypeAlias = (
    FreezeCheckpoint
    | RenameAgent
    | DescribeAgent
    | RequireAgent
    | DeleteAgent
    | RestoreAgent
)


@frozen
class CheckpointFrozen:
    agent_id: AgentId
    kind: ProjectKind
    name: str
    description: str
    origin: Origin
    checkpoint: Frozen


@frozen
class AgentRenamed:
    name: str


@frozen
class AgentDescribed:
    description: str


@frozen
class AgentDeleted:
    restorable_until: datetime


@frozen
class AgentRestored:
    pass


Event: TypeAlias = (
    CheckpointFrozen | AgentRenamed | AgentDescribed | AgentDeleted | AgentRestored
)


@frozen
class Agent:
    id: AgentId
    kind: ProjectKind
    name: str
    description: str
    origin: Origin
    checkpoint: Frozen
    restorable_until: datetime | None = None

    @property
    def deleted(self) -> bool:
        return self.restorable_until is not None


def decide(command: Command, state: Agent | None, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    match command, state:
        case FreezeCheckpoint(), None:
            return [
                CheckpointFrozen(
                    command.agent_id,
                    command.kind,
                    trimmed(command.name),
                    described(command.description),
                    command.origin,
                    command.checkpoint,
                )
            ]
        case FreezeCheckpoint(), Agent():
            raise AlreadyExists("This agent exists already.")
        case _, None:
            raise NotFound("There is no such agent.")
        case RestoreAgent(), Agent(restorable_until=None):
            return []
        case RestoreAgent(), Agent(restorable_until=datetime() as until):
            if now > until:
                raise NotFound(
                    "The time in which this agent could be restored is over."
                )
            return [AgentRestored()]
        case DeleteAgent(), Agent(restorable_until=datetime()):
            return []
        case _, Agent(restorable_until=datetime()):
            raise NotFound("There is no such agent: it was deleted.")
        case RequireAgent(), Agent():
            return []
        case RenameAgent(), Agent():
            name = trimmed(command.name)
            return [] if name == state.name else [AgentRenamed(name)]
        case DescribeAgent(), Agent():
            text = described(command.description)
            return [] if text == state.description else [AgentDescribed(text)]
        case DeleteAgent(), Agent():
            return [AgentDeleted(now + command.restore_window)]
        case _:
            assert_never(command)  # type: ignore[arg-type]  # mypy narrows no tuples


def evolve(state: Agent | None, event: Event) -> Agent:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, CheckpointFrozen):
        return Agent(
            event.agent_id,
            event.kind,
            event.name,
            event.description,
            event.origin,
            event.checkpoint,
        )
    assert state is not None, f"{event!r} before CheckpointFrozen"
    match event:
        case AgentRenamed():
            return replace(state, name=event.name)
        case AgentDescribed():
            return replace(state, description=event.description)
        case AgentDeleted():
            return replace(state, restorable_until=event.restorable_until)
        case AgentRestored():
            return replace(state, restorable_until=None)
        case _:
            assert_never(event)
