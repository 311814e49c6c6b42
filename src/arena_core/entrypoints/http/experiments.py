"""/api/v1/experiments, with their metrics and checkpoints."""

from http import HTTPStatus
from typing import Any, Literal
from uuid import UUID

import msgspec

from arena_core.application import metric_points
from arena_core.application.contents import Contents
from arena_core.application.conversion import MODEL_FILE, Format
from arena_core.application.imports import ordered
from arena_core.application.resources import (
    CheckpointView,
    ExperimentView,
    ImportView,
)
from arena_core.application.session import Page
from arena_core.domain.checkpoint_import import Order
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Role, Source, SourceKind
from arena_core.entrypoints.http import imports
from arena_core.entrypoints.http.endpoints import (
    Call,
    Endpoint,
    Listed,
    Listing,
    ListOf,
    Nothing,
    Past,
    Reply,
)
from arena_core.entrypoints.http.fields import Name, Step
from arena_core.entrypoints.http.preconditions import Versioned

PATH = "/api/v1/experiments"
EXPERIMENT = Versioned("experiment")
Families = Literal["rl", "supervised", "latent", "llm"]


class SourceBody(msgspec.Struct, forbid_unknown_fields=True):
    kind: Literal["gym", "dataset"]
    name: Name


class ExperimentCreation(msgspec.Struct, forbid_unknown_fields=True):
    """`family` may be left out for a known algorithm; `config` is the recipe's own."""

    project_id: UUID
    name: Name
    algorithm: str
    family: Families | None = None
    source: SourceBody | None = None
    base_model: str | None = None
    recipe: str | None = None
    config: dict[str, Any] = {}


class ExperimentEdit(msgspec.Struct, forbid_unknown_fields=True):
    """A name, and any part of the set-up while the experiment is a Draft."""

    name: Name | None = None
    algorithm: str | None = None
    family: Families | None = None
    source: SourceBody | None = None
    base_model: str | None = None
    recipe: str | None = None
    config: dict[str, Any] | None = None


class ExperimentFilter(Listing, kw_only=True):
    project_id: UUID | None = None
    name: str | None = None


class Upload(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The scores are recorded as the metrics `score` and `fitness` at the step.

    `digest`: what the bundle's must be; another one is refused.  `from`: the body is
    no bundle but a file that other training code has saved, or an archive of one with
    others beside it; `algorithm` and `channels_last` say what it does not.
    """

    step: Step
    score: float | None = None
    fitness: float | None = None
    digest: str | None = None
    format: Format | None = msgspec.field(default=None, name="from")
    algorithm: str | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before the body is read."""
        metric_points.check_step(self.step)
        if self.format is not None:
            self.order(self.format)
        elif self.algorithm is not None or self.channels_last:
            raise Rejected(
                "A bundle says this itself: leave it out, or name the format of "
                "another file with from.",
                field="channels_last" if self.algorithm is None else "algorithm",
            )

    def order(self, of: Format) -> Order:
        if self.digest is not None:
            raise Rejected(
                "The digest is that of a bundle, which is not known before the import: "
                "leave it out.",
                field="digest",
            )
        return ordered(
            format=of,
            step=self.step,
            algorithm=self.algorithm,
            channels_last=self.channels_last,
            score=self.score,
            fitness=self.fitness,
        )


def _single(query: Upload) -> str | None:
    """Return the name of an upload that is no archive, if it may be none."""
    return None if query.format is None else MODEL_FILE


def _source(body: SourceBody | None) -> Source | None:
    return None if body is None else Source(SourceKind(body.kind), body.name)


def listed(call: Call) -> Reply:
    page = call.use.experiments.list(
        project_id=call.query.project_id,
        name=call.query.name,
        paging=call.query.paging(),
    )
    return Reply(Listed.of(page))


def create(call: Call) -> Reply:
    body: ExperimentCreation = call.body
    made = call.use.experiments.create(
        body.project_id,
        name=body.name,
        algorithm=body.algorithm,
        family=body.family,
        source=_source(body.source),
        base_model=body.base_model,
        recipe=body.recipe,
        config=body.config,
    )
    where = f"{call.base_url}{PATH}/{made.id}"
    return Reply(made, HTTPStatus.CREATED, where)


def show(call: Call) -> Reply:
    return Reply(call.use.experiments.get(call.ids["experiment_id"]))


def edit(call: Call) -> Reply:
    body: ExperimentEdit = call.body
    edited = call.use.experiments.edit(
        call.ids["experiment_id"],
        name=body.name,
        algorithm=body.algorithm,
        family=body.family,
        source=_source(body.source),
        base_model=body.base_model,
        recipe=body.recipe,
        config=body.config,
    )
    return Reply(edited)


def delete(call: Call) -> Reply:
    call.use.experiments.delete(call.ids["experiment_id"])
    return Reply({})


def checkpoints(call: Call) -> Reply:
    views = call.use.experiments.checkpoints(call.ids["experiment_id"])
    return Reply(Listed.of(Page(list(views))))


def add_checkpoint(call: Call) -> Reply:
    query: Upload = call.query
    if query.format is not None:
        return imports.requested(call, query.order(query.format))
    made = call.use.experiments.add_checkpoint(
        call.ids["experiment_id"],
        step=query.step,
        path=call.body,
        score=query.score,
        fitness=query.fitness,
        digest=query.digest,
    )
    return Reply(made, HTTPStatus.CREATED)


def contents(call: Call) -> Reply:
    ids = call.ids
    return Reply(call.use.experiments.contents(ids["experiment_id"], ids["step"]))


def delete_checkpoint(call: Call) -> Reply:
    call.use.experiments.delete_checkpoint(call.ids["experiment_id"], call.ids["step"])
    return Reply({})


ONE = PATH + "/{experiment_id}"
ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List the experiments",
        ListOf(ExperimentView),
        query=ExperimentFilter,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        Role.MEMBER,
        "Draft an experiment",
        ExperimentView,
        body=ExperimentCreation,
        status=HTTPStatus.CREATED,
        versioned=EXPERIMENT,
    ),
    Endpoint(
        "GET",
        ONE,
        show,
        Role.VIEWER,
        "Show an experiment",
        ExperimentView,
        query=Past,
        versioned=EXPERIMENT,
    ),
    Endpoint(
        "PATCH",
        ONE,
        edit,
        Role.MEMBER,
        "Rename, or configure a Draft",
        ExperimentView,
        body=ExperimentEdit,
        versioned=EXPERIMENT,
    ),
    Endpoint(
        "DELETE",
        ONE,
        delete,
        Role.MEMBER,
        "Delete an experiment",
        Nothing,
        versioned=EXPERIMENT,
    ),
    Endpoint(
        "GET",
        ONE + "/checkpoints",
        checkpoints,
        Role.VIEWER,
        "List the checkpoints with their scores",
        ListOf(CheckpointView),
        query=Past,
    ),
    Endpoint(
        "POST",
        ONE + "/checkpoints",
        add_checkpoint,
        Role.MEMBER,
        "Upload a checkpoint bundle as a tar archive, or import another file",
        CheckpointView,
        query=Upload,
        status=HTTPStatus.CREATED,
        also=HTTPStatus.ACCEPTED,
        also_answer=ImportView,
        upload=True,
        single=_single,
    ),
    Endpoint(
        "GET",
        ONE + "/checkpoints/{step}",
        contents,
        Role.VIEWER,
        "Show what the bundle of a checkpoint says of itself",
        Contents,
        query=Past,
    ),
    Endpoint(
        "DELETE",
        ONE + "/checkpoints/{step}",
        delete_checkpoint,
        Role.MEMBER,
        "Delete a checkpoint; agents keep theirs",
        Nothing,
    ),
)
