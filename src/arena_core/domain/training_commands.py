"""What can be asked of the training of an experiment, by users and by its workers.

They are commands of the aggregate `experiment`.
"""

from datetime import datetime
from operator import index
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.ids import Digest, RunId, StageId, WorkerId
from arena_core.domain.training import Beginning
from arena_core.domain.values import natural, said, sha256


@frozen
class RequestTraining:
    """Ask for training.

    `resume_step`: go on from that checkpoint, of another experiment if its
    `resume_digest` is given, and then `resume_of` is the training that wrote it.
    `stage`: the stage of a pipeline that asks for it, which may ask for what has failed
    to be trained again.
    """

    resume_step: int | None = field(default=None, validator=natural)
    max_steps: int | None = field(default=None, validator=natural)
    resume_digest: Digest | None = field(default=None, validator=sha256)
    beginning: Beginning = field(factory=Beginning)
    stage: StageId | None = None
    resume_of: RunId | None = None


@frozen
class ClaimTraining:
    """Take the training on, or go on holding it.

    `lost`: whoever held it and is known to be dead, so that nobody waits for the lease.
    """

    worker: WorkerId
    lease_until: datetime
    lost: WorkerId | None = None


@frozen
class StartTraining:
    worker: WorkerId
    claim: int


@frozen
class RecordTrainedCheckpoint:
    """Record what the present training has written.

    The first one of a training that began anew takes the place of all that earlier
    trainings have left.
    """

    worker: WorkerId
    claim: int
    step: int = field(converter=index, validator=natural)
    digest: Digest = field(validator=sha256)
    size_bytes: int = field(validator=natural)


@frozen
class RequestStop:
    pass


@frozen
class FinishTraining:
    worker: WorkerId
    claim: int


@frozen
class AcknowledgeStop:
    worker: WorkerId
    claim: int


@frozen
class FailTraining:
    worker: WorkerId
    claim: int
    reason: str = field(validator=said)


@frozen
class RequireResumable:
    """Changes nothing, and is refused while nothing can go on from that checkpoint."""

    step: int
    digest: Digest = field(validator=sha256)


Command: TypeAlias = (
    RequestTraining
    | ClaimTraining
    | StartTraining
    | RecordTrainedCheckpoint
    | RequestStop
    | FinishTraining
    | AcknowledgeStop
    | FailTraining
    | RequireResumable
)
