"""The words of training: what is trained, what happens, and how it stands.

They are part of the aggregate `experiment`; what may follow what is in
`training_rules`, and what can be asked for in `training_commands`.
"""

from datetime import datetime
from enum import Enum
from operator import index
from typing import TypeAlias

from attrs import Attribute, converters, field, frozen

from arena_core.domain.errors import Rejected
from arena_core.domain.ids import Digest, RunId, StageId, WorkerId
from arena_core.domain.values import (
    Claim,
    Family,
    Source,
    natural,
    sha256,
    trimmed,
)


class Status(Enum):
    DRAFT = "Draft"
    PENDING = "Pending"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


TRAINABLE = (Status.DRAFT, Status.SUCCEEDED, Status.STOPPED)
RESUMABLE = (Status.SUCCEEDED, Status.STOPPED, Status.FAILED)
AT_WORK = (Status.PENDING, Status.RUNNING, Status.STOPPING)


def _algorithm_name(name: str) -> str:
    return trimmed(name, field="algorithm")


def _a_source(_: object, attribute: "Attribute[Source]", value: object) -> None:
    if not isinstance(value, Source | None):
        raise _wrong_type(attribute.name, "a source: its kind and its name")


def _a_text(_: object, attribute: "Attribute[str]", value: object) -> None:
    if not isinstance(value, str | None):
        raise _wrong_type(attribute.name, "a text")


def _wrong_type(field: str, wanted: str) -> Rejected:
    return Rejected(
        f"The {field} has a wrong type: it must be {wanted}, or be left out.",
        field=field,
    )


@frozen
class Setup:
    """What is trained and how; editable in Draft only."""

    algorithm: str = field(converter=_algorithm_name)
    family: Family
    source: Source | None = field(default=None, validator=_a_source)
    base_model: str | None = field(default=None, validator=_a_text)
    recipe: str | None = field(default=None, validator=_a_text)
    config: str = "{}"
    """The recipe's own settings, a JSON object as text: opaque to us."""


@frozen
class Beginning:
    """Which weights a training has to begin with, beside its own settings."""

    weights: Digest | None = field(default=None, validator=sha256)
    """Of the stage before or of an agent: trained further, from step 0."""
    decoder: Digest | None = field(default=None, validator=sha256)
    """Frozen: what a policy over its latent space is trained with."""
    seed: int | None = field(
        default=None, converter=converters.optional(index), validator=natural
    )
    """None: the one that its settings say."""


# --- events ----------------------------------------------------------------------


@frozen
class CheckpointWritten:
    step: int
    digest: Digest = field(validator=sha256)
    size_bytes: int
    written_at: datetime
    training: int | None
    """The number of the training that wrote it; None: it was uploaded or imported."""


@frozen
class CheckpointDeleted:
    step: int
    digest: Digest = field(validator=sha256)


@frozen
class TrainingRequested:
    resume_step: int | None
    resume_digest: Digest | None = field(validator=sha256)
    max_steps: int | None
    beginning: Beginning
    stage: StageId | None
    """The stage of a pipeline that asked for it."""
    resume_of: RunId | None
    """The training that wrote the checkpoint to go on from, if one did."""


@frozen
class TrainingClaimed:
    worker: WorkerId
    lease_until: datetime
    claim: int
    lost: WorkerId | None


@frozen
class TrainingStarted:
    pass


@frozen
class StopRequested:
    pass


@frozen
class TrainingStopped:
    pass


@frozen
class TrainingSucceeded:
    pass


@frozen
class TrainingFailed:
    reason: str


Event: TypeAlias = (
    CheckpointWritten
    | CheckpointDeleted
    | TrainingRequested
    | TrainingClaimed
    | TrainingStarted
    | StopRequested
    | TrainingStopped
    | TrainingSucceeded
    | TrainingFailed
)


# --- state -----------------------------------------------------------------------


@frozen
class Written:
    """A checkpoint that the experiment has: its weights are in the blob store."""

    step: int
    digest: Digest
    size_bytes: int
    written_at: datetime
    training: int | None = None
    """The number of the training that wrote it."""
    belongs_to: int = 0
    """That number, or that of the latest training there was when it was added."""


@frozen
class Training:
    """What was asked for last, and who sees to it."""

    number: int
    """Of all trainings of the experiment, from 1."""
    resume_step: int | None
    resume_digest: Digest | None
    max_steps: int | None
    beginning: Beginning
    stage: StageId | None
    resume_of: RunId | None = None
    claim: Claim | None = None
    claims: int = 0
    """How many claims there have ever been, of those before it too."""
    losses: int = 0
    """How many workers were lost over it since it last wrote a checkpoint."""
    has_written: bool = False

    @property
    def begins_anew(self) -> bool:
        return self.resume_step is None
