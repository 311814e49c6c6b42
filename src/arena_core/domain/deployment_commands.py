"""What can be asked of a deployment, and what the worker that serves it has to say."""

from datetime import datetime
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain import swap_commands
from arena_core.domain.deployment_events import MemoryScope
from arena_core.domain.ids import AgentId, DeploymentId, Digest, WorkerId
from arena_core.domain.parity import Parity
from arena_core.domain.values import finite, said, sha256


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
    | swap_commands.Command
    | Disconnect
    | RotateKey
    | DeleteDeployment
    | RestoreDeployment
)
