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
from typing import TypeAlias, assert_never

from attrs import frozen

from arena_core.domain import swap as swaps
from arena_core.domain import swap_commands, swap_rules
from arena_core.domain.deployment_commands import (
    AssignCheckpoint,
    ClaimConnect,
    Command,
    ConfirmConnected,
    Connect,
    CreateDeployment,
    DeleteDeployment,
    Disconnect,
    FailConnect,
    LoseConnection,
    RecordParity,
    RestoreDeployment,
    RotateKey,
    TakeOver,
)
from arena_core.domain.deployment_events import (
    CheckpointAssigned,
    ConnectClaimed,
    Connected,
    ConnectFailed,
    ConnectionLost,
    ConnectRequested,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentKeyRotated,
    DeploymentRestored,
    Disconnected,
    Event,
    MemoryScope,
    ParityChecked,
    ServerReplaced,
)
from arena_core.domain.deployment_state import Deployment, Status, evolve
from arena_core.domain.errors import (
    AlreadyExists,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import DeploymentId, Digest, WorkerId
from arena_core.domain.swap_commands import (
    ClaimSwap,
    ConfirmSwap,
    EndBaking,
    FailSwap,
    LoseSwap,
    RequestSwap,
    RevertSwap,
)

KIND = "deployment"
NO_DEPLOYMENT = "No deployment found for this agent"
"""In the words that users of the hosted platform know."""


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
    claimable = swap_rules.is_claimable(swap, now)
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
    if state.swap is not None and swap_rules.is_held(state.swap, worker, number):
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
    state: Deployment, command: swap_commands.Command, now: datetime
) -> Sequence[swaps.Event]:
    swap, live = state.swap, state.digest
    if isinstance(command, LoseSwap):
        return swap_rules.lose(command, swap)
    if state.status is not Status.DEPLOYED:
        raise IllegalTransition(
            f"The agent is {state.status.value}: only what is Deployed can be swapped, "
            "guarded or shadowed."
        )
    match command:
        case RequestSwap():
            return swap_rules.request(command, swap, live)
        case ClaimSwap():
            return swap_rules.claim(command, swap, state.claims, now)
        case ConfirmSwap():
            return swap_rules.confirm(command, swap, live, now)
        case FailSwap():
            return swap_rules.fail(command, swap)
        case EndBaking():
            return swap_rules.end_baking(command, swap, state.server, now)
        case RevertSwap():
            return swap_rules.revert(command, swap)
        case _:
            assert_never(command)


__all__ = [
    "KIND",
    "NO_DEPLOYMENT",
    "AssignCheckpoint",
    "Bake",
    "CheckpointAssigned",
    "ClaimConnect",
    "Command",
    "ConfirmConnected",
    "Connect",
    "ConnectClaimed",
    "ConnectFailed",
    "ConnectRequested",
    "Connected",
    "ConnectionLost",
    "CreateDeployment",
    "DeleteDeployment",
    "Deployment",
    "DeploymentCreated",
    "DeploymentDeleted",
    "DeploymentKeyRotated",
    "DeploymentRestored",
    "Disconnect",
    "Disconnected",
    "Event",
    "FailConnect",
    "LoseConnection",
    "MemoryScope",
    "ParityChecked",
    "RecordParity",
    "RestoreDeployment",
    "RotateKey",
    "ServerReplaced",
    "StartServing",
    "StartSwap",
    "Status",
    "TakeOver",
    "Work",
    "decide",
    "evolve",
    "react",
]
