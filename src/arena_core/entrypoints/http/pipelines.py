"""/api/v1/pipelines: their structure, what can be bound to them, and their picture."""

from http import HTTPStatus
from uuid import UUID

import msgspec

from arena_core.application.pipeline_views import CandidateView, PipelineView
from arena_core.application.session import Page
from arena_core.domain.values import Role
from arena_core.entrypoints import graph
from arena_core.entrypoints.graph_facts import endpoints_of, progress_of
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
from arena_core.entrypoints.http.fields import Description, Name
from arena_core.entrypoints.http.preconditions import Versioned
from arena_core.entrypoints.http.stage_resources import PipelineResource, Position

PATH = "/api/v1/pipelines"
ONE = PATH + "/{pipeline_id}"
PIPELINE = Versioned("pipeline")
"""Its structure and settings.  How its stages stand is in the digest of the answer, so
that a reader sees it change, and an editor is not refused for it."""
SVG = "image/svg+xml"
HARMLESS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
"""Of a picture that somebody opens as a page: nothing in it is ever carried out."""


class PipelineCreation(msgspec.Struct, forbid_unknown_fields=True):
    """`project_id`: of an advanced project."""

    project_id: UUID
    name: Name
    description: Description = ""


class PipelineEdit(msgspec.Struct, forbid_unknown_fields=True):
    """null, or left out: unchanged."""

    name: Name | None = None
    description: Description | None = None


class PipelineDuplication(msgspec.Struct, forbid_unknown_fields=True):
    """`name`: null, or left out: the same with a suffix."""

    name: Name | None = None


class PipelineFilter(Listing, kw_only=True):
    project_id: UUID | None = None
    name: str | None = None


class PlaceFilter(Past, kw_only=True):
    """`position`: of the stage to be bound, from 1; left out: a new last one."""

    position: Position | None = None


def pipeline_id(call: Call) -> UUID:
    named: UUID = call.ids["pipeline_id"]
    return named


def shown(call: Call, view: PipelineView, status: HTTPStatus = HTTPStatus.OK) -> Reply:
    """Return the reply that shows a pipeline, and where it is if it is another."""
    made = status is not HTTPStatus.OK
    where = f"{call.base_url}{PATH}/{view.id}" if made else None
    return Reply(PipelineResource.of(view), status, where)


def listed(call: Call) -> Reply:
    page = call.use.pipelines.list(
        project_id=call.query.project_id,
        name=call.query.name,
        paging=call.query.paging(),
    )
    return Reply(Listed.of(page, PipelineResource.of))


def create(call: Call) -> Reply:
    body: PipelineCreation = call.body
    made = call.use.pipelines.create(
        body.project_id, name=body.name, description=body.description
    )
    return shown(call, made, HTTPStatus.CREATED)


def show(call: Call) -> Reply:
    return shown(call, call.use.pipelines.get(pipeline_id(call)))


def edit(call: Call) -> Reply:
    edited = call.use.pipelines.edit(
        pipeline_id(call), name=call.body.name, description=call.body.description
    )
    return shown(call, edited)


def delete(call: Call) -> Reply:
    call.use.pipelines.delete(pipeline_id(call))
    return Reply({})


def duplicate(call: Call) -> Reply:
    made = call.use.pipelines.duplicate(pipeline_id(call), name=call.body.name)
    return shown(call, made, HTTPStatus.CREATED)


def candidates(call: Call) -> Reply:
    found = call.use.pipelines.candidates(
        pipeline_id(call), position=call.query.position
    )
    return Reply(Listed.of(Page(list(found))))


def picture(call: Call) -> Reply:
    view = call.use.pipelines.get(pipeline_id(call))
    drawn = graph.svg(view, endpoints_of(call.use, view), progress_of(call.use, view))
    return Reply(drawn.encode(), media_type=SVG, headers=HARMLESS)


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List the pipelines",
        ListOf(PipelineResource),
        query=PipelineFilter,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        Role.MEMBER,
        "Create a pipeline without stages",
        PipelineResource,
        body=PipelineCreation,
        status=HTTPStatus.CREATED,
        versioned=PIPELINE,
    ),
    Endpoint(
        "GET",
        ONE,
        show,
        Role.VIEWER,
        "Show a pipeline: its stages, how each stands, and what is stale",
        PipelineResource,
        query=Past,
        versioned=PIPELINE,
    ),
    Endpoint(
        "PATCH",
        ONE,
        edit,
        Role.MEMBER,
        "Rename or describe",
        PipelineResource,
        body=PipelineEdit,
        versioned=PIPELINE,
    ),
    Endpoint(
        "DELETE",
        ONE,
        delete,
        Role.MEMBER,
        "Delete a pipeline; its experiments and agents stay",
        Nothing,
        versioned=PIPELINE,
    ),
    Endpoint(
        "POST",
        ONE + "/duplicate",
        duplicate,
        Role.MEMBER,
        "Copy a pipeline, with copies of its experiments",
        PipelineResource,
        body=PipelineDuplication,
        status=HTTPStatus.CREATED,
        versioned=PIPELINE,
    ),
    Endpoint(
        "GET",
        ONE + "/candidates",
        candidates,
        Role.VIEWER,
        "List the experiments that a stage could be bound to",
        ListOf(CandidateView),
        query=PlaceFilter,
    ),
    Endpoint(
        "GET",
        ONE + "/graph.svg",
        picture,
        Role.VIEWER,
        "Draw a pipeline, with how its stages stand",
        str,
        query=Past,
        media_types=(SVG,),
    ),
)
