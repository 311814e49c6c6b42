from datetime import UTC, datetime
from typing import get_args
from uuid import UUID

import pytest
from attrs import fields_dict

from arena_core.domain import project
from arena_core.domain.errors import AlreadyExists, NotFound, Rejected
from arena_core.domain.ids import ProjectId
from arena_core.domain.project import (
    CreateProject,
    DeleteProject,
    DescribeProject,
    Project,
    ProjectCreated,
    ProjectDeleted,
    ProjectDescribed,
    ProjectRenamed,
    RenameProject,
)
from arena_core.domain.values import ProjectKind
from unit.spec import Spec

spec = Spec(project, datetime(2026, 9, 1, tzinfo=UTC))

ID = ProjectId(UUID(int=1))
CREATE = CreateProject(ID, "cartpole", ProjectKind.ADVANCED, "poles")
CREATED = ProjectCreated(ID, "cartpole", ProjectKind.ADVANCED, "poles")
RENAMED = ProjectRenamed("pendulum")
DESCRIBED = ProjectDescribed("swings")
DELETED = ProjectDeleted()


def test_creating_a_project_gives_it_all_that_was_asked():
    spec.given().when(CREATE).then(CREATED)
    assert spec.given(CREATED).state == Project(
        ID, "cartpole", ProjectKind.ADVANCED, "poles"
    )


def test_rule_01_the_kind_of_a_project_is_chosen_at_creation_and_never_changes():
    for kind in ProjectKind:
        created = ProjectCreated(ID, "cartpole", kind, "")
        spec.given().when(CreateProject(ID, "cartpole", kind)).then(created)
        after_all = spec.given(created, RENAMED, DESCRIBED, DELETED).state
        assert after_all.kind is kind
    with_kind = {c for c in get_args(project.Command) if "kind" in fields_dict(c)}
    assert with_kind == {CreateProject}


@pytest.mark.parametrize("history", [(CREATED,), (CREATED, DELETED)])
def test_a_project_is_created_once(history):
    spec.given(*history).when(CREATE).then_raises(AlreadyExists)


def test_the_words_of_a_project_are_stored_trimmed():
    create = CreateProject(ID, " cartpole\n", ProjectKind.ADVANCED, "\tpoles ")
    spec.given().when(create).then(CREATED)
    spec.given(CREATED).when(RenameProject(" pendulum ")).then(RENAMED)
    spec.given(CREATED).when(DescribeProject(" swings ")).then(DESCRIBED)


def test_a_project_without_a_name_is_refused():
    nameless = CreateProject(ID, " \t", ProjectKind.CLASSIC)
    spec.given().when(nameless).then_raises(Rejected, "name is missing")
    spec.given(CREATED).when(RenameProject("")).then_raises(Rejected, "name is missing")


def test_renaming_changes_the_name_alone():
    assert spec.given(CREATED, RENAMED).state == Project(
        ID, "pendulum", ProjectKind.ADVANCED, "poles"
    )


def test_describing_changes_the_description_alone():
    assert spec.given(CREATED, DESCRIBED).state == Project(
        ID, "cartpole", ProjectKind.ADVANCED, "swings"
    )


def test_a_description_can_be_taken_away():
    spec.given(CREATED).when(DescribeProject("")).then(ProjectDescribed(""))


def test_saying_again_what_is_so_changes_nothing():
    spec.given(CREATED).when(RenameProject("cartpole ")).then()
    spec.given(CREATED).when(DescribeProject("poles ")).then()
    spec.given(CREATED, DELETED).when(DeleteProject()).then()


def test_a_project_can_be_deleted():
    spec.given(CREATED).when(DeleteProject()).then(DELETED)
    assert not spec.given(CREATED).state.deleted
    assert spec.given(CREATED, DELETED).state.deleted


@pytest.mark.parametrize("command", [RenameProject("x"), DescribeProject("x")])
@pytest.mark.parametrize("history", [(), (CREATED, DELETED)])
def test_a_project_that_does_not_live_is_not_found(history, command):
    spec.given(*history).when(command).then_raises(NotFound, "no such project")


def test_a_project_that_never_was_cannot_be_deleted():
    spec.given().when(DeleteProject()).then_raises(NotFound)
