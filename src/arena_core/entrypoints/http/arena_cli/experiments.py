"""/api/cli/v1/experiments, less their metrics."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from attrs import converters, field, frozen

from arena_core.application import arena_manifests
from arena_core.application.arena_manifests import Steps
from arena_core.application.resources import CheckpointView, ExperimentView
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Role
from arena_core.entrypoints.http.arena_cli.rows import printable
from arena_core.entrypoints.http.endpoints import Call, Endpoint, Past, Reply
from arena_core.entrypoints.http.errors import as_plain_text
from arena_core.entrypoints.http.fields import Name

PATH = "/api/cli/v1/experiments"
NDJSON = "application/x-ndjson"
BYTES_PER_MB = 1_000_000


class OfProject(Past, kw_only=True):
    project: Name


class OfExperiment(Past, kw_only=True):
    """`experiment_name`: of several with that name, the one that changed last."""

    experiment_name: Name


class Submission(msgspec.Struct, forbid_unknown_fields=True):
    """`manifest`: only its algorithm, environment and max_steps are understood here."""

    manifest: dict[str, Any]
    resource_id: str | int | None = None
    num_nodes: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    project: Name | None = None
    experiment_name: Name | None = None


class Resumption(msgspec.Struct, forbid_unknown_fields=True):
    experiment_name: Name
    max_steps: Steps


class ExperimentName(msgspec.Struct, forbid_unknown_fields=True):
    experiment_name: Name


@frozen(slots=False)
class ExperimentRow:
    """`environment` is the dataset where there is one."""

    id: str
    name: str = field(converter=printable)
    project: str = field(converter=printable)
    algorithm: str = field(converter=printable)
    environment: str | None = field(converter=converters.optional(printable))
    status: str
    reason: str | None = field(converter=converters.optional(as_plain_text))
    created_at: datetime


@frozen(slots=False)
class CheckpointRow:
    steps: int
    training_score: float | None
    evaluation_score: float | None
    size_mb: float


@frozen(slots=False)
class StatusLine:
    """One line of the answer to a submission; the last has the experiment."""

    stage: str
    status: str
    message: str = field(converter=as_plain_text)
    detail: ExperimentRow | None
    kind: str = "status"
    level: str = "info"


def _row(call: Call, view: ExperimentView) -> ExperimentRow:
    return ExperimentRow(
        id=str(view.id),
        name=view.name,
        project=call.use.projects.get(view.project_id).name,
        algorithm=view.algorithm,
        environment=None if view.source is None else view.source.name,
        status=view.status.value,
        reason=view.reason,
        created_at=view.created_at,
    )


def listed(call: Call) -> Reply:
    project = call.use.projects.look_up(call.query.project)
    found = call.use.experiments.list(project_id=project.id)
    return Reply([_row(call, view) for view in found])


def submit(call: Call) -> Reply:
    body: Submission = call.body
    if body.project is None:
        raise Rejected(
            "The project is missing: name one, or set a default project.",
            field="project",
        )
    resources = {"resource_id": body.resource_id, "num_nodes": body.num_nodes}
    job = arena_manifests.job(body.manifest, resources)
    project = call.use.projects.look_up(body.project)
    made = call.use.training.submit(
        project.id,
        name=job.name if body.experiment_name is None else body.experiment_name,
        setup=job.setup,
        max_steps=job.max_steps,
    )
    return _stream(_lines(_row(call, made)))


def _lines(row: ExperimentRow) -> Sequence[StatusLine]:
    checked = f"The manifest is understood: {row.algorithm} on {row.environment}."
    waiting = f"The experiment {row.name} is {row.status}: it waits to be trained."
    return (
        StatusLine("manifest", "passed", checked, None),
        StatusLine("submission", "completed", waiting, row),
    )


def _stream(lines: Sequence[StatusLine]) -> Reply:
    encoded = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    return Reply(encoded, media_type=NDJSON)


def resume(call: Call) -> Reply:
    found = call.use.experiments.look_up(call.body.experiment_name)
    asked = call.use.training.resume(found.id, max_steps=call.body.max_steps)
    return Reply(_row(call, asked))


def stop(call: Call) -> Reply:
    found = call.use.experiments.look_up(call.body.experiment_name)
    return Reply(_row(call, call.use.training.stop(found.id)))


def checkpoints(call: Call) -> Reply:
    found = call.use.experiments.look_up(call.query.experiment_name)
    views = call.use.experiments.checkpoints(found.id)
    best_first = sorted(views, key=_merit, reverse=True)
    return Reply([_checkpoint(view) for view in best_first])


def _merit(view: CheckpointView) -> tuple[bool, float, int]:
    score = view.evaluation_score
    return (score is not None, score or 0.0, view.step)


def _checkpoint(view: CheckpointView) -> CheckpointRow:
    return CheckpointRow(
        view.step,
        view.training_score,
        view.evaluation_score,
        view.size_bytes / BYTES_PER_MB,
    )


JOBS = PATH + "/jobs"
ENDPOINTS = (
    Endpoint(
        "GET",
        PATH + "/list",
        listed,
        Role.VIEWER,
        "List the experiments of a project",
        list[ExperimentRow],
        query=OfProject,
    ),
    Endpoint(
        "POST",
        JOBS + "/submit",
        submit,
        Role.MEMBER,
        "Draft an experiment from a manifest and request its training",
        StatusLine,
        body=Submission,
        media_types=(NDJSON,),
    ),
    Endpoint(
        "POST",
        JOBS + "/resume",
        resume,
        Role.MEMBER,
        "Request that training goes on from the last checkpoint",
        ExperimentRow,
        body=Resumption,
    ),
    Endpoint(
        "POST",
        JOBS + "/stop",
        stop,
        Role.MEMBER,
        "Request the end of training",
        ExperimentRow,
        body=ExperimentName,
    ),
    Endpoint(
        "GET",
        JOBS + "/checkpoints",
        checkpoints,
        Role.VIEWER,
        "List the checkpoints, the best first",
        list[CheckpointRow],
        query=OfExperiment,
    ),
)
