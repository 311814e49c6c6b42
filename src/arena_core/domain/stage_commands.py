"""What can be asked of a stage, by users and by whoever runs pipelines."""

from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.ids import AgentId, Digest, PipelineId, RunId, StageId
from arena_core.domain.stage_run import Cause, Inputs, Product, Yields
from arena_core.domain.stage_settings import Settings
from arena_core.domain.values import said, sha256


@frozen
class TriggerStage:
    stage_id: StageId
    pipeline_id: PipelineId
    cause: Cause
    settings: Settings
    inputs: Inputs


@frozen
class CheckCondition:
    run_id: RunId
    live: Product | None


@frozen
class RequestApproval:
    run_id: RunId
    live: Product | None


@frozen
class ApproveStage:
    """`digest`: what whoever approves has seen; another one is refused."""

    digest: Digest | None = field(default=None, validator=sha256)


@frozen
class RejectStage:
    pass


@frozen
class StartStage:
    """Record that the work of an attempt has begun: a training, or a deployment."""

    run_id: RunId
    training: int | None = None
    agent_id: AgentId | None = None


@frozen
class RequestStageStop:
    pass


@frozen
class TimeStageOut:
    run_id: RunId


@frozen
class SucceedStage:
    run_id: RunId
    yields: Yields = field(factory=Yields)
    added: AgentId | None = None


@frozen
class FailStage:
    """An attempt has failed; it is tried again if its settings say so.

    `for_good`: not even then, for another attempt would end likewise.
    """

    run_id: RunId
    reason: str = field(validator=said)
    yields: Yields = field(factory=Yields)
    for_good: bool = False


@frozen
class StopStage:
    run_id: RunId
    reason: str = field(validator=said)
    yields: Yields = field(factory=Yields)


@frozen
class RequireIdle:
    """Changes nothing, and is refused while the stage is at work.

    In a transaction it keeps a pipeline from being edited below a run.
    """


@frozen
class RequireYields:
    """Changes nothing, and is refused if the stage yields something else by now.

    In a transaction it guards what is decided on what there is to take.
    """

    yields: Yields


Command: TypeAlias = (
    TriggerStage
    | CheckCondition
    | RequestApproval
    | ApproveStage
    | RejectStage
    | StartStage
    | RequestStageStop
    | TimeStageOut
    | SucceedStage
    | FailStage
    | StopStage
    | RequireIdle
    | RequireYields
)
