"""Use cases of projects."""

from uuid import UUID

from attrs import frozen

from arena_core.application.handling import Change
from arena_core.application.naming import the_project
from arena_core.application.ownership import owner_of
from arena_core.application.ports import Row
from arena_core.application.resources import ProjectView, project_view
from arena_core.application.restructuring import deletion
from arena_core.application.session import ALL, Page, Paging, Session, page
from arena_core.domain import experiment, pipeline, project
from arena_core.domain.errors import AlreadyExists
from arena_core.domain.ids import ProjectId
from arena_core.domain.values import ProjectKind, one_of, shown


@frozen
class Projects:
    session: Session

    def create(
        self,
        name: str,
        *,
        kind: ProjectKind | str = ProjectKind.CLASSIC,
        description: str = "",
        unique: bool = False,
    ) -> ProjectView:
        """Create a project.  Its kind, classic or advanced, can never be changed.

        `unique`: raise `AlreadyExists` if there is one of that name.
        """
        if unique and self.session.query(project.KIND, name=name.strip()):
            raise AlreadyExists(
                f"There is a project called {shown(name.strip())} already: choose "
                "another name."
            )
        project_id = ProjectId(self.session.core.new_id())
        command = project.CreateProject(
            project_id, name, one_of(ProjectKind, kind, field="kind"), description
        )
        self.session.execute(Change(project, project_id, command))
        return self.get(project_id)

    def get(self, project_id: UUID) -> ProjectView:
        """Return the project.  Raises `NotFound`."""
        return self._view(self.session.find(project.KIND, project_id))

    def look_up(self, name: str) -> ProjectView:
        """Return the one project of that name.  Raises `NotFound` or `Ambiguous`."""
        return self._view(the_project(self.session, name))

    def list(
        self, *, name: str | None = None, paging: Paging = ALL
    ) -> Page[ProjectView]:
        """Return the organisation's projects, in the order of their creation."""
        rows = self.session.query(project.KIND, name=name, paging=paging)
        return page(rows, self._view, paging)

    def edit(
        self,
        project_id: UUID,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> ProjectView:
        """Rename or describe; None leaves as it is."""
        self.session.find(project.KIND, project_id)
        commands: list[object] = []
        if name is not None:
            commands.append(project.RenameProject(name))
        if description is not None:
            commands.append(project.DescribeProject(description))
        self.session.execute(*(Change(project, project_id, c) for c in commands))
        return self.get(project_id)

    def delete(self, project_id: UUID) -> None:
        """Delete the project, its pipelines and its experiments, in one transaction.

        Agents stay: their checkpoints are frozen.  Raises `Conflict` while one of the
        experiments or of the stages is at work.
        """
        self.session.find(project.KIND, project_id)
        pipelines = self.session.query(pipeline.KIND, parent=project_id)
        experiments = self.session.query(experiment.KIND, parent=project_id)
        self.session.execute(
            *(change for row in pipelines for change in deletion(row)),
            *(
                Change(experiment, row.id, experiment.DeleteExperiment())
                for row in experiments
            ),
            Change(project, project_id, project.DeleteProject()),
        )

    def _view(self, row: Row) -> ProjectView:
        return project_view(row, owner_of(self.session, row))
