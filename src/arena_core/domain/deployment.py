"""Deployment: the serving life of one agent, behind one endpoint.

Undeployed --connect--> Pending --claimed by a worker--> Deployed or Failed.
Deployed goes back to Pending when what served it is lost, and from there on to
Deployed again.  Disconnect leads from everywhere to Undeployed.  What is Deployed may
be given other weights and goes on answering: see `swap`.

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

from arena_core.domain import swap as swaps
from arena_core.domain.errors import (
    AlreadyExists,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import AgentId, DeploymentId, Digest, WorkerId
from arena_core.domain.parity import Parity
from arena_core.domain.swap import (
    BakingStopped,
    CheckpointSwapped,
    ClaimSwap,
    ConfirmSwap,
    EndBaking,
    Ended,
    FailSwap,
    LoseSwap,
    RequestSwap,
    RevertSwap,
    ShadowCompared,
    ShadowStarted,
    Swap,
    SwapClaimed,
    SwapFailed,
    SwapInterrupted,
    SwapPassed,
    SwapRequested,
    SwapReverted,
)
from arena_core.domain.values import Claim, finite, said, sha256

KIND = "deployment"
NO_DEPLOYMENT = "No deployment found for this agent"
"""In the words that users of the hosted platform know."""


class Status(Enum):
    UNDEPLOYED = "Undeployed"
    PENDING = "Pending"
    DEPLOYED = "Deployed"
    FAILED = "Failed"


class MemoryScope(Enum):
    """Whose conversations a deployment that keeps them shows: fixed for life."""

    USER = "user"
    ORGANIZATION = "organization"


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
class TakeOver:
    """`worker` serves on what `lost` had put live: it has the same weights loaded."""

    worker: WorkerId
    lost: WorkerId
    reason: str = field(validator=said)


@frozen
class AssignCheckpoint:
    """Give other weights to a deployment that serves none."""

    digest: Digest = field(validator=sha256)


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
    | TakeOver
    | AssignCheckpoint
    | swaps.Command
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
class ServerReplaced:
    worker: WorkerId
    lost: WorkerId
    reason: str


@frozen
class CheckpointAssigned:
    digest: Digest = field(validator=sha256)


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
    | ServerReplaced
    | CheckpointAssigned
    | swaps.Event
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
    """The worker that has put live what answers, or has taken it over."""
    parity: Parity | None = None
    deleted: bool = False
    swap: Swap | None = None
    last_swap: Ended | None = None

    @property
    def digests(self) -> tuple[Digest, ...]:
        """The weights that are needed while it is live: first those that answer."""
        beside = None if self.swap is None else self.swap.beside
        return (self.digest,) if beside is None else (self.digest, beside)


@frozen
class StartServing:
    """Load the checkpoint, check its parity and answer for the deployment."""

    deployment_id: DeploymentId
    digest: Digest


@frozen
class StartSwap:
    """Load other weights, check their parity, and let them answer or bake."""

    deployment_id: DeploymentId
    digest: Digest


@frozen
class Bake:
    """Compare two checkpoints until the time is over, then record the figures."""

    deployment_id: DeploymentId
    digest: Digest
    until: datetime


Work: TypeAlias = StartServing | StartSwap | Bake


def react(state: Deployment, now: datetime) -> Work | None:
    """Return the work that is outstanding and that nobody holds a lease on."""
    if state.deleted:
        return None
    if state.status is Status.PENDING:
        leased = state.claim is not None and now < state.claim.lease_until
        return None if leased else StartServing(state.id, state.digest)
    swap = state.swap
    if state.status is not Status.DEPLOYED or swap is None:
        return None
    if swap.until is not None:
        return Bake(state.id, swap.digest, swap.until)
    claimable = swaps.is_claimable(swap, now)
    return StartSwap(state.id, swap.digest) if claimable else None


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
        case ((DeleteDeployment() | RestoreDeployment() | AssignCheckpoint()), None):
            return []
        case _, None:
            raise NotFound(NO_DEPLOYMENT)
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
            digest = _digest_of_claim(state, command.worker, command.claim)
            return [ParityChecked(command.worker, digest, command.parity)]
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
        case TakeOver(), Deployment():
            if state.server != command.lost or command.worker == command.lost:
                return []
            return [ServerReplaced(command.worker, command.lost, command.reason)]
        case AssignCheckpoint(), Deployment():
            return _assign(state, command)
        case (
            RequestSwap()
            | ClaimSwap()
            | ConfirmSwap()
            | FailSwap()
            | LoseSwap()
            | EndBaking()
            | RevertSwap(),
            Deployment(),
        ):
            return _swap(state, command, now)
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
    if not isinstance(react(state, now), StartServing):
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
    if state.parity is None or not state.parity.allows_serving:
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


def _digest_of_claim(state: Deployment, worker: WorkerId, number: int) -> Digest:
    """Return what a worker has claimed to load, for a swap or for a Connect."""
    if state.swap is not None and swaps.is_held(state.swap, worker, number):
        return state.swap.digest
    _check_claim(state, worker, number)
    return state.digest


def _assign(state: Deployment, command: AssignCheckpoint) -> Sequence[Event]:
    if command.digest == state.digest:
        return []
    if state.status is Status.PENDING:
        raise IllegalTransition(
            "The agent is Pending: wait until it is Deployed or Failed, or disconnect."
        )
    if state.status is Status.DEPLOYED:
        raise IllegalTransition("The agent has been put live meanwhile: try again.")
    return [CheckpointAssigned(command.digest)]


def _swap(
    state: Deployment, command: swaps.Command, now: datetime
) -> Sequence[swaps.Event]:
    swap, live = state.swap, state.digest
    if isinstance(command, LoseSwap):
        return swaps.lose(command, swap)
    if state.status is not Status.DEPLOYED:
        raise IllegalTransition(
            f"The agent is {state.status.value}: only what is Deployed can be swapped, "
            "guarded or shadowed."
        )
    match command:
        case RequestSwap():
            return swaps.request(command, swap, live)
        case ClaimSwap():
            return swaps.claim(command, swap, state.claims, now)
        case ConfirmSwap():
            return swaps.confirm(command, swap, live, now)
        case FailSwap():
            return swaps.fail(command, swap)
        case EndBaking():
            return swaps.end_baking(command, swap, state.server, now)
        case RevertSwap():
            return swaps.revert(command, swap)
        case _:
            assert_never(command)


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
            return _checked(state, event)
        case Connected():
            return replace(
                _still(state, Status.DEPLOYED), server=event.worker, attempt=0
            )
        case ConnectFailed():
            return replace(_idle(state, Status.FAILED), reason=event.reason)
        case ConnectionLost():
            return _outstanding(state, event.reason)
        case ServerReplaced():
            return replace(state, server=event.worker)
        case CheckpointAssigned():
            return replace(state, digest=event.digest, parity=None)
        case (
            SwapRequested()
            | SwapClaimed()
            | SwapInterrupted()
            | SwapFailed()
            | CheckpointSwapped()
            | SwapPassed()
            | SwapReverted()
            | ShadowStarted()
            | ShadowCompared()
            | BakingStopped()
        ):
            ended = swaps.ended(event) or state.last_swap
            return replace(_swapped(state, event), last_swap=ended)
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


def _checked(state: Deployment, event: ParityChecked) -> Deployment:
    if event.digest == state.digest:
        return replace(state, parity=event.parity)
    return replace(state, swap=swaps.checked(state.swap, event.digest, event.parity))


def _swapped(state: Deployment, event: swaps.Event) -> Deployment:
    swap = state.swap
    match event:
        case SwapRequested():
            return replace(state, swap=swaps.requested(event))
        case SwapClaimed():
            return replace(state, swap=swaps.claimed(swap, event), claims=event.claim)
        case SwapInterrupted():
            return replace(state, swap=swaps.unclaimed(swap))
        case CheckpointSwapped():
            bakes = swaps.guarded(swap, event, state.parity)
            parity = None if swap is None else swap.parity
            return _answered_by(state, event.worker, event.digest, parity, bakes)
        case SwapReverted():
            parity = None if swap is None else swap.parity
            return _answered_by(state, event.worker, event.digest, parity, None)
        case ShadowStarted():
            return replace(state, swap=swaps.shadowed(swap, event))
        case SwapFailed() | SwapPassed() | ShadowCompared() | BakingStopped():
            return replace(state, swap=None)
        case _:
            assert_never(event)


def _answered_by(
    state: Deployment,
    worker: WorkerId,
    digest: Digest,
    parity: Parity | None,
    swap: Swap | None,
) -> Deployment:
    return replace(state, server=worker, digest=digest, parity=parity, swap=swap)


def _idle(state: Deployment, status: Status) -> Deployment:
    """Return it as it is in `status`, with nothing left that was under way."""
    return replace(_still(state, status), swap=None)


def _still(state: Deployment, status: Status) -> Deployment:
    """Return it in `status`; a swap that is under way goes on."""
    return replace(state, status=status, reason=None, claim=None, server=None)


def _outstanding(state: Deployment, reason: str | None) -> Deployment:
    if reason is None:
        return replace(_idle(state, Status.PENDING), attempt=0, parity=None)
    lost = replace(_still(state, Status.PENDING), reason=reason)
    return replace(lost, swap=swaps.unclaimed(state.swap))
