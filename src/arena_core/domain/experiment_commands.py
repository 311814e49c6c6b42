"""What can be asked of an experiment, beside its training."""

from operator import index
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain import training_commands
from arena_core.domain.ids import Digest, ExperimentId, ProjectId, StageId
from arena_core.domain.training import Setup
from arena_core.domain.values import Family, Source, natural, sha256


@frozen
class DraftExperiment:
    experiment_id: ExperimentId
    project_id: ProjectId
    name: str
    setup: Setup


@frozen
class ConfigureExperiment:
    """Change some of the set-up; None leaves as it is.

    The family of a known algorithm need not be named.
    """

    algorithm: str | None = None
    family: Family | None = None
    source: Source | None = None
    base_model: str | None = None
    recipe: str | None = None
    config: str | None = None


@frozen
class RenameExperiment:
    name: str


@frozen
class RecordCheckpoint:
    step: int = field(converter=index, validator=natural)
    digest: Digest = field(validator=sha256)
    size_bytes: int = field(validator=natural)


@frozen
class DeleteCheckpoint:
    step: int


@frozen
class RequireExperiment:
    """Changes nothing, and is refused once the experiment is deleted."""


@frozen
class BindExperiment:
    """Bind it to a stage, which alone trains it from then on.

    Refused once it has begun, and while another stage has it.
    """

    stage_id: StageId
    setup: Setup | None = None
    """As it was decided on; None: whatever it is."""


@frozen
class ReleaseExperiment:
    """Take it off the stage again, if it is bound to that one."""

    stage_id: StageId


@frozen
class RequireUnbound:
    """Changes nothing, and is refused while the experiment is bound to a stage."""


@frozen
class DeleteExperiment:
    pass


Command: TypeAlias = (
    DraftExperiment
    | ConfigureExperiment
    | RenameExperiment
    | RecordCheckpoint
    | DeleteCheckpoint
    | RequireExperiment
    | BindExperiment
    | ReleaseExperiment
    | RequireUnbound
    | DeleteExperiment
    | training_commands.Command
)
