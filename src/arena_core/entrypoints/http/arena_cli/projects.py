"""/api/cli/v1/projects."""

import msgspec
from attrs import field, frozen

from arena_core.application.resources import ProjectView
from arena_core.domain.values import ProjectKind, Role
from arena_core.entrypoints.http.arena_cli.rows import printable
from arena_core.entrypoints.http.endpoints import Call, Endpoint, Past, Reply
from arena_core.entrypoints.http.fields import Description, Name

PATH = "/api/cli/v1/projects"


class NewProject(msgspec.Struct, forbid_unknown_fields=True):
    """`llm_based`: for Advanced Training."""

    name: Name
    description: Description | None = None
    llm_based: bool = False


class ProjectName(msgspec.Struct, forbid_unknown_fields=True):
    name: Name


@frozen(slots=False)
class ProjectRow:
    name: str = field(converter=printable)
    type: str
    description: str = field(converter=printable)


@frozen(slots=False)
class ProjectDeletion:
    name: str = field(converter=printable)
    deleted: bool = True


def _row(project: ProjectView) -> ProjectRow:
    return ProjectRow(project.name, project.kind.title, project.description)


def listed(call: Call) -> Reply:
    return Reply([_row(project) for project in call.use.projects.list()])


def create(call: Call) -> Reply:
    body: NewProject = call.body
    made = call.use.projects.create(
        body.name,
        kind=ProjectKind.ADVANCED if body.llm_based else ProjectKind.CLASSIC,
        description=body.description or "",
        unique=True,
    )
    return Reply(_row(made))


def delete(call: Call) -> Reply:
    found = call.use.projects.look_up(call.body.name)
    call.use.projects.delete(found.id)
    return Reply(ProjectDeletion(found.name))


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List the projects",
        list[ProjectRow],
        query=Past,
    ),
    Endpoint(
        "POST",
        PATH + "/create",
        create,
        Role.MEMBER,
        "Create a project",
        ProjectRow,
        body=NewProject,
    ),
    Endpoint(
        "DELETE",
        PATH + "/delete",
        delete,
        Role.MEMBER,
        "Delete a project, by its name",
        ProjectDeletion,
        body=ProjectName,
    ),
)
