"""/api/v1/projects."""

from http import HTTPStatus
from typing import Literal

import msgspec

from arena_core.application.resources import ProjectView
from arena_core.domain.values import Role
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

PATH = "/api/v1/projects"
PROJECT = Versioned("project")


class ProjectCreation(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    kind: Literal["classic", "advanced"] = "classic"
    description: Description = ""


class ProjectEdit(msgspec.Struct, forbid_unknown_fields=True):
    """null, or left out: unchanged."""

    name: Name | None = None
    description: Description | None = None


class ProjectFilter(Listing, kw_only=True):
    name: str | None = None


def listed(call: Call) -> Reply:
    page = call.use.projects.list(name=call.query.name, paging=call.query.paging())
    return Reply(Listed.of(page))


def create(call: Call) -> Reply:
    made = call.use.projects.create(
        call.body.name, kind=call.body.kind, description=call.body.description
    )
    return Reply(made, HTTPStatus.CREATED, f"{call.base_url}{PATH}/{made.id}")


def show(call: Call) -> Reply:
    return Reply(call.use.projects.get(call.ids["project_id"]))


def edit(call: Call) -> Reply:
    return Reply(
        call.use.projects.edit(
            call.ids["project_id"],
            name=call.body.name,
            description=call.body.description,
        )
    )


def delete(call: Call) -> Reply:
    call.use.projects.delete(call.ids["project_id"])
    return Reply({})


ONE = PATH + "/{project_id}"
ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List the projects",
        ListOf(ProjectView),
        query=ProjectFilter,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        Role.MEMBER,
        "Create a project",
        ProjectView,
        body=ProjectCreation,
        status=HTTPStatus.CREATED,
        versioned=PROJECT,
    ),
    Endpoint(
        "GET",
        ONE,
        show,
        Role.VIEWER,
        "Show a project",
        ProjectView,
        query=Past,
        versioned=PROJECT,
    ),
    Endpoint(
        "PATCH",
        ONE,
        edit,
        Role.MEMBER,
        "Rename or describe",
        ProjectView,
        body=ProjectEdit,
        versioned=PROJECT,
    ),
    Endpoint(
        "DELETE",
        ONE,
        delete,
        Role.MEMBER,
        "Delete a project and its experiments",
        Nothing,
        versioned=PROJECT,
    ),
)
