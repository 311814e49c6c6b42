"""Deployment: the serving life of one agent, behind one endpoint.

Undeployed --connect--> Pending --claimed by a worker--> Deployed or Failed.
Deployed goes back to Pending when what served it is lost, and from there on to
Deployed again.  Disconnect leads from everywhere to Undeployed.

The log is the outbox: a Pending deployment is work that is outstanding (`react`).
A worker claims it for the length of a lease, acts, and records the outcome; one
whose claim has been taken over is refused, so nothing is served by two minds.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen

from arena_core.domain.errors import (
    AlreadyExists,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import AgentId, DeploymentId, Digest, WorkerId
from arena_core.domain.values import Claim, finite, natural, said, sha256

KIND = "deployment"


class Status(Enum):
    UNDEPLOYED = "Undeployed"
    PENDING = "Pending"
    DEPLOYED = "Deployed"
    FAILED = "Failed"


class MemoryScope(Enum):
    """Whose conversations a deployment that keeps them shows: fixed for life."""

    USER = "user"
    ORGANIZATION = "organization"


class Verdict(Enum):
    """What replaying the golden trace has shown."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "unchecked"


@frozen
class Difference:
    """The first value of the golden trace that was served otherwise than trained."""

    case: str
    output: str
    index: tuple[int, ...]
    expected: float = field(validator=finite)
    served: float | None = field(validator=finite)
    """None if the served value was not finite, or was missing."""


@frozen
class Parity:
    verdict: Verdict
    values_compared: int = field(default=0, validator=natural)
    difference: Difference | None = None


@frozen
class CreateDeployment:
    deployment_id: DeploymentId
    agent_id: AgentId
    digest: Digest = field(validator=sha256)
    memory_scope: MemoryScope = MemoryScope.USER


@frozen
class Connect:
    pass


@frozen
class ClaimConnect:
    worker: WorkerId
    lease_until: datetime


@frozen
class RecordParity:
    worker: WorkerId
    claim: int
    parity: Parity


@frozen
class ConfirmConnected:
    worker: WorkerId
    claim: int
    runtime: str
    device: str
    load_ms: float = field(validator=finite)


@frozen
class FailConnect:
    worker: WorkerId
    claim: int
    reason: str = field(validator=said)


@frozen
class LoseConnection:
    """What `worker` claimed or served is lost.  No news of another worker's."""

    worker: WorkerId
    reason: str = field(validator=said)


@frozen
class Disconnect:
    pass


@frozen
class RotateKey:
    pass


@frozen
class DeleteDeployment:
    pass


@frozen
class RestoreDeployment:
    pass


Command: TypeAlias = (
    CreateDeployment
    | Connect
    | ClaimConnect
    | RecordParity
    | ConfirmConnected
    | FailConnect
    | LoseConnection
    | Disconnect
    | RotateKey
    | DeleteDeployment
    | RestoreDeployment
)


@frozen
class DeploymentCreated:
    deployment_id: DeploymentId
    agent_id: AgentId
    digest: Digest = field(validator=sha256)
    memory_scope: MemoryScope


@frozen
class ConnectRequested:
    pass


@frozen
class ConnectClaimed:
    worker: WorkerId
    lease_until: datetime
    claim: int
    attempt: int


@frozen
class ParityChecked:
    worker: WorkerId
    digest: Digest = field(validator=sha256)
    parity: Parity


@frozen
class Connected:
    worker: WorkerId
    digest: Digest = field(validator=sha256)
    runtime: str
    device: str
    load_ms: float = field(validator=finite)


@frozen
class ConnectFailed:
    worker: WorkerId
    reason: str


@frozen
class ConnectionLost:
    worker: WorkerId
    reason: str


@frozen
class Disconnected:
    pass


@frozen
class DeploymentKeyRotated:
    key_version: int


@frozen
class DeploymentDeleted:
    pass


@frozen
class DeploymentRestored:
    pass


Event: TypeAlias = (
    DeploymentCreated
    | ConnectRequested
    | ConnectClaimed
    | ParityChecked
    | Connected
    | ConnectFailed
    | ConnectionLost
    | Disconnected
    | DeploymentKeyRotated
    | DeploymentDeleted
    | DeploymentRestored
)


@frozen
class Deployment:
    id: DeploymentId
    agent_id: AgentId
    digest: Digest
    memory_scope: MemoryScope
    status: Status = Status.UNDEPLOYED
    reason: str | None = None
    key_version: int = 1
    claim: Claim | None = None
    claims: int = 0
    """How many claims there have ever been."""
    attempt: int = 0
    """How many of them this Connect has seen."""
    server: WorkerId | None = None
    """The worker that recorded Connected, while Deployed."""
    parity: Parity | None = None
    deleted: bool = False


@frozen
class StartServing:
    """Load the checkpoint, check its parity and answer for the deployment."""

    deployment_id: DeploymentId
    digest: Digest


def react(state: Deployment, now: datetime) -> StartServing | None:
    """Return the work that is outstanding and that nobody holds a lease on."""
    if state.deleted or state.status is not Status.PENDING:
        return None
    if state.claim is not None and now < state.claim.lease_until:
        return None
    return StartServing(state.id, state.digest)


def decide(
    command: Command, state: Deployment | None, now: datetime
) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    match command, state:
        case CreateDeployment(), None:
            return [
                DeploymentCreated(
                    command.deployment_id,
                    command.agent_id,
                    command.digest,
                    command.memory_scope,
                )
            ]
        case CreateDeployment(), Deployment():
            raise AlreadyExists("This agent has a deployment already.")
        case ((DeleteDeployment() | RestoreDeployment()), None):
            return []
        case _, None:
            raise NotFound("No deployment found for this agent")
        case RestoreDeployment(), Deployment():
            return [DeploymentRestored()] if state.deleted else []
        case DeleteDeployment(), Deployment(deleted=True):
            return []
        case _, Deployment(deleted=True):
            raise NotFound("There is no such deployment: it was deleted.")
        case Connect(), Deployment(status=Status.PENDING | Status.DEPLOYED):
            return []
        case Connect(), Deployment():
            return [ConnectRequested()]
        case ClaimConnect(), Deployment():
            return _claim(state, command, now)
        case RecordParity(), Deployment():
            _check_claim(state, command.worker, command.claim)
            return [ParityChecked(command.worker, state.digest, command.parity)]
        case ConfirmConnected(), Deployment():
            return _confirm(state, command)
        case FailConnect(), Deployment():
            _check_claim(state, command.worker, command.claim)
            return [ConnectFailed(command.worker, command.reason)]
        case LoseConnection(), Deployment():
            held = state.server or (state.claim and state.claim.worker)
            if held != command.worker:
                return []
            return [ConnectionLost(command.worker, command.reason)]
        case Disconnect(), Deployment(status=Status.UNDEPLOYED):
            return []
        case Disconnect(), Deployment():
            return [Disconnected()]
        case RotateKey(), Deployment():
            return [DeploymentKeyRotated(state.key_version + 1)]
        case DeleteDeployment(), Deployment():
            return [DeploymentDeleted()]
        case _:
            assert_never(command)  # type: ignore[arg-type]  # mypy narrows no tuples


def _claim(state: Deployment, command: ClaimConnect, now: datetime) -> Sequence[Event]:
    if react(state, now) is None:
        raise IllegalTransition(
            "Nothing to claim: it is not Pending, or it is claimed."
        )
    if command.lease_until <= now:
        raise Rejected("A lease must end in the future.", field="lease_until")
    number, attempt = state.claims + 1, state.attempt + 1
    return [ConnectClaimed(command.worker, command.lease_until, number, attempt)]


def _confirm(state: Deployment, command: ConfirmConnected) -> Sequence[Event]:
    """Pass the parity gate: nothing goes live that failed it, or was not held to it."""
    _check_claim(state, command.worker, command.claim)
    if state.parity is None or state.parity.verdict is Verdict.FAILED:
        raise IllegalTransition("Its parity with training has not been established.")
    return [
        Connected(
            command.worker,
            state.digest,
            command.runtime,
            command.device,
            command.load_ms,
        )
    ]


def _check_claim(state: Deployment, worker: WorkerId, number: int) -> None:
    held = state.claim
    if held is None or (held.worker, held.number) != (worker, number):
        raise IllegalTransition(
            "The claim on this Connect is not, or no longer, yours."
        )


def evolve(state: Deployment | None, event: Event) -> Deployment:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, DeploymentCreated):
        return Deployment(
            event.deployment_id, event.agent_id, event.digest, event.memory_scope
        )
    assert state is not None, f"{event!r} before DeploymentCreated"
    match event:
        case ConnectRequested():
            return _outstanding(state, None)
        case ConnectClaimed():
            claim = Claim(event.worker, event.lease_until, event.claim)
            return replace(
                state,
                claim=claim,
                claims=event.claim,
                attempt=event.attempt,
                parity=None,
            )
        case ParityChecked():
            return replace(state, parity=event.parity)
        case Connected():
            return replace(
                _idle(state, Status.DEPLOYED), server=event.worker, attempt=0
            )
        case ConnectFailed():
            return replace(_idle(state, Status.FAILED), reason=event.reason)
        case ConnectionLost():
            return _outstanding(state, event.reason)
        case Disconnected():
            return _idle(state, Status.UNDEPLOYED)
        case DeploymentKeyRotated():
            return replace(state, key_version=event.key_version)
        case DeploymentDeleted():
            return replace(_idle(state, Status.UNDEPLOYED), deleted=True)
        case DeploymentRestored():
            return replace(state, deleted=False)
        case _:
            assert_never(event)


def _idle(state: Deployment, status: Status) -> Deployment:
    return replace(state, status=status, reason=None, claim=None, server=None)


def _outstanding(state: Deployment, reason: str | None) -> Deployment:
    fresh = replace(_idle(state, Status.PENDING), reason=reason)
    return fresh if reason is not None else replace(fresh, attempt=0, parity=None)
