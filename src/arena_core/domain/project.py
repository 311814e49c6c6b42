"""Project: a namespace of one kind, classic or advanced.

The kind is chosen at creation and can never be changed.  Active -> deleted.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import frozen

from arena_core.domain.errors import AlreadyExists, NotFound
from arena_core.domain.ids import ProjectId
from arena_core.domain.values import ProjectKind, described, trimmed

KIND = "project"


@frozen
class CreateProject:
    project_id: ProjectId
    name: str
    kind: ProjectKind = ProjectKind.CLASSIC
    description: str = ""


@frozen
class RenameProject:
    name: str


@frozen
class DescribeProject:
    description: str


@frozen
class RequireProject:
    """Changes nothing, and is refused once the project is deleted."""


@frozen
class DeleteProject:
    pass


Command: TypeAlias = (
    CreateProject | RenameProject | DescribeProject | RequireProject | DeleteProject
)


@frozen
class ProjectCreated:
    project_id: ProjectId
    name: str
    kind: ProjectKind
    description: str


@frozen
class ProjectRenamed:
    name: str


@frozen
class ProjectDescribed:
    description: str


@frozen
class ProjectDeleted:
    pass


Event: TypeAlias = ProjectCreated | ProjectRenamed | ProjectDescribed | ProjectDeleted


@frozen
class Project:
    id: ProjectId
    name: str
    kind: ProjectKind
    description: str
    deleted: bool = False


def decide(command: Command, state: Project | None, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    del now
    match command, state:
        case CreateProject(), None:
            name, description = trimmed(command.name), described(command.description)
            return [ProjectCreated(command.project_id, name, command.kind, description)]
        case CreateProject(), Project():
            raise AlreadyExists("This project exists already.")
        case DeleteProject(), Project(deleted=True):
            return []
        case (_, None) | (_, Project(deleted=True)):
            raise NotFound("There is no such project.")
        case RequireProject(), Project():
            return []
        case RenameProject(), Project():
            name = trimmed(command.name)
            return [] if name == state.name else [ProjectRenamed(name)]
        case DescribeProject(), Project():
            text = described(command.description)
            return [] if text == state.description else [ProjectDescribed(text)]
        case DeleteProject(), Project():
            return [ProjectDeleted()]
        case _:
            assert_never(command)  # type: ignore[arg-type]  # mypy narrows no tuples


def evolve(state: Project | None, event: Event) -> Project:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, ProjectCreated):
        return Project(event.project_id, event.name, event.kind, event.description)
    assert state is not None, f"{event!r} before ProjectCreated"
    match event:
        case ProjectRenamed():
            return replace(state, name=event.name)
        case ProjectDescribed():
            return replace(state, description=event.description)
        case ProjectDeleted():
            return replace(state, deleted=True)
        case _:
            assert_never(event)
