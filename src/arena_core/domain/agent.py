"""Agent: a named, frozen choice of one checkpoint.

Frozen means frozen: what training writes later, or deletes, does not change it.  Only
an order does: another checkpoint of the same experiment may take its place, and any
that the agent has had may come back.
Exists -> deleted -> restored, the last only while its restore window is open.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.errors import AlreadyExists, Conflict, NotFound, Rejected
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


class Cause(Enum):
    """Why an agent has another checkpoint than before."""

    REDEPLOY = "redeploy"
    ROLLBACK = "rollback"
    AUTOMATIC_ROLLBACK = "automatic_rollback"
    """A limit of its guard was crossed."""


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
class ReplaceCheckpoint:
    checkpoint: Frozen
    cause: Cause


@frozen
class RevertCheckpoint:
    """Go back to a checkpoint that the agent has had, because of its guard."""

    digest: Digest = field(validator=sha256)


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
    | ReplaceCheckpoint
    | RevertCheckpoint
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
class CheckpointReplaced:
    checkpoint: Frozen
    cause: Cause


@frozen
class AgentDeleted:
    restorable_until: datetime


@frozen
class AgentRestored:
    pass


Event: TypeAlias = (
    CheckpointFrozen
    | AgentRenamed
    | AgentDescribed
    | CheckpointReplaced
    | AgentDeleted
    | AgentRestored
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
    checkpoints: tuple[Frozen, ...] = ()
    """All that it has had, each once, in the order in which they were deployed last.

    A rollback leaves the order as it is, so that one after another leads further back.
    """

    @property
    def deleted(self) -> bool:
        return self.restorable_until is not None

    @property
    def earlier(self) -> tuple[Frozen, ...]:
        """All that it has had beside the present one, the latest last."""
        return tuple(c for c in self.checkpoints if c.digest != self.checkpoint.digest)

    def checkpoint_before(self) -> Frozen:
        """Return the one that a rollback leads to.  Raises `Conflict` if none does."""
        digests = [c.digest for c in self.checkpoints]
        place = digests.index(self.checkpoint.digest)
        if place == 0:
            raise Conflict(
                "The agent had no checkpoint before this one: name the digest of "
                "another that it has had, or redeploy."
            )
        return self.checkpoints[place - 1]

    def had(self, digest: str) -> Frozen:
        """Return a checkpoint of the agent.  Raises `Rejected` if it is none."""
        for checkpoint in self.checkpoints:
            if checkpoint.digest == digest:
                return checkpoint
        raise Rejected(
            "The agent never had a checkpoint with that digest: choose one of its "
            "earlier checkpoints.",
            field="to",
        )


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
        case ReplaceCheckpoint(), Agent():
            return _replace(state, command.checkpoint, command.cause)
        case RevertCheckpoint(), Agent():
            back = state.had(command.digest)
            return _replace(state, back, Cause.AUTOMATIC_ROLLBACK)
        case DeleteAgent(), Agent():
            return [AgentDeleted(now + command.restore_window)]
        case _:
            assert_never(command)  # type: ignore[arg-type]  # mypy narrows no tuples


def _replace(state: Agent, checkpoint: Frozen, cause: Cause) -> Sequence[Event]:
    if checkpoint.digest == state.checkpoint.digest:
        return []
    return [CheckpointReplaced(checkpoint, cause)]


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
            checkpoints=(event.checkpoint,),
        )
    assert state is not None, f"{event!r} before CheckpointFrozen"
    match event:
        case AgentRenamed():
            return replace(state, name=event.name)
        case AgentDescribed():
            return replace(state, description=event.description)
        case CheckpointReplaced():
            return _replaced(state, event)
        case AgentDeleted():
            return replace(state, restorable_until=event.restorable_until)
        case AgentRestored():
            return replace(state, restorable_until=None)
        case _:
            assert_never(event)


def _replaced(state: Agent, event: CheckpointReplaced) -> Agent:
    new, known = event.checkpoint, state.checkpoints
    if event.cause is Cause.REDEPLOY or new.digest not in {c.digest for c in known}:
        known = (*(c for c in known if c.digest != new.digest), new)
    return replace(state, checkpoint=new, checkpoints=known)
