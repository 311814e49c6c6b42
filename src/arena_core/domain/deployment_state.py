"""A deployment as it is after all that has happened to it."""

from enum import Enum
from typing import assert_never

from attrs import evolve as replace
from attrs import frozen

from arena_core.domain import swap as swaps
from arena_core.domain import swap_rules
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
from arena_core.domain.ids import AgentId, DeploymentId, Digest, WorkerId
from arena_core.domain.parity import Parity
from arena_core.domain.swap import (
    BakingStopped,
    CheckpointSwapped,
    Ended,
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
from arena_core.domain.values import Claim


class Status(Enum):
    UNDEPLOYED = "Undeployed"
    PENDING = "Pending"
    DEPLOYED = "Deployed"
    FAILED = "Failed"


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
            ended = swap_rules.ended(event) or state.last_swap
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
    return replace(
        state, swap=swap_rules.checked(state.swap, event.digest, event.parity)
    )


def _swapped(state: Deployment, event: swaps.Event) -> Deployment:
    swap = state.swap
    match event:
        case SwapRequested():
            return replace(state, swap=swap_rules.requested(event))
        case SwapClaimed():
            return replace(
                state, swap=swap_rules.claimed(swap, event), claims=event.claim
            )
        case SwapInterrupted():
            return replace(state, swap=swap_rules.unclaimed(swap))
        case CheckpointSwapped():
            bakes = swap_rules.guarded(swap, event, state.parity)
            parity = None if swap is None else swap.parity
            return _answered_by(state, event.worker, event.digest, parity, bakes)
        case SwapReverted():
            parity = None if swap is None else swap.parity
            return _answered_by(state, event.worker, event.digest, parity, None)
        case ShadowStarted():
            return replace(state, swap=swap_rules.shadowed(swap, event))
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
    return replace(lost, swap=swap_rules.unclaimed(state.swap))
