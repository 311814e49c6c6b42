"""What happens to a deployment, as it is recorded, beside its swaps."""

from datetime import datetime
from enum import Enum
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain import swap
from arena_core.domain.ids import AgentId, DeploymentId, Digest, WorkerId
from arena_core.domain.parity import Parity
from arena_core.domain.values import finite, sha256


class MemoryScope(Enum):
    """Whose conversations a deployment that keeps them shows: fixed for life."""

    USER = "user"
    ORGANIZATION = "organization"


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
    | swap.Event
    | Disconnected
    | DeploymentKeyRotated
    | DeploymentDeleted
    | DeploymentRestored
)
