"""Use cases of pipelines: their structure, and what their stages do."""

from collections.abc import Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.handling import Change
from arena_core.application.naming import project_name
from arena_core.application.pipeline_structure import PipelineStructure
from arena_core.application.pipeline_views import PipelineView, RunHistory
from arena_core.application.ports import Row
from arena_core.application.restructuring import (
    Ids,
    deletion,
    duplication,
)
from arena_core.application.session import ALL, Page, Paging, page
from arena_core.application.stage_history import run_views
from arena_core.application.stage_reading import pipeline_view
from arena_core.application.triggering import Bound, triggered
from arena_core.application.waiting import awaited
from arena_core.domain import pipeline, project, stage
from arena_core.domain.errors import Ambiguous, NotFound, Rejected
from arena_core.domain.ids import (
    Digest,
    PipelineId,
    ProjectId,
)
from arena_core.domain.stage_commands import (
    ApproveStage,
    RejectStage,
    RequestStageStop,
)
from arena_core.domain.stage_run import AT_WORK, Cause
from arena_core.domain.values import ProjectKind, shown, trimmed


@frozen
class Pipelines(PipelineStructure):
    """What one caller can do with pipelines, and have their stages do."""

    # --- pipelines -----------------------------------------------------------------

    def create(
        self, project_id: UUID, *, name: str, description: str = ""
    ) -> PipelineView:
        """Create a pipeline without stages in an Advanced Training project.

        Raises `Rejected` for a Classic one, which has no pipelines.
        """
        self._check_project(project_id)
        pipeline_id = PipelineId(self.session.core.new_id())
        command = pipeline.CreatePipeline(
            pipeline_id, ProjectId(project_id), name, description
        )
        self.session.execute(
            Change(project, project_id, project.RequireProject()),
            Change(pipeline, pipeline_id, command),
        )
        return self.get(pipeline_id)

    def list(
        self,
        *,
        project_id: UUID | None = None,
        name: str | None = None,
        paging: Paging = ALL,
    ) -> Page[PipelineView]:
        """Return the organisation's pipelines, in the order of their creation.

        Raises `Rejected` for those of a Classic project, which has none.
        """
        if project_id is not None:
            self._check_project(project_id)
        rows = self.session.query(
            pipeline.KIND, parent=project_id, name=name, paging=paging
        )
        return page(rows, lambda row: pipeline_view(self.session, row), paging)

    def look_up(self, name: str, *, project: str | None = None) -> PipelineView:
        """Return the one pipeline of that name.  Raises `NotFound` or `Ambiguous`.

        `project`: the name of its project, if it matters.
        """
        name = trimmed(name)
        fitting = [
            row
            for row in self.session.query(pipeline.KIND, name=name)
            if project in (None, project_name(self.session, row.state.project_id))
        ]
        if not fitting:
            raise NotFound(f"There is no pipeline called {shown(name)}.")
        if len(fitting) > 1:
            raise Ambiguous(self._story(name, fitting))
        return pipeline_view(self.session, fitting[0])

    def edit(
        self,
        pipeline_id: UUID,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> PipelineView:
        """Rename or describe; None leaves as it is."""
        self._find(pipeline_id)
        commands: list[object] = []
        if name is not None:
            commands.append(pipeline.RenamePipeline(name))
        if description is not None:
            commands.append(pipeline.DescribePipeline(description))
        self.session.execute(*(Change(pipeline, pipeline_id, c) for c in commands))
        return self.get(pipeline_id)

    def duplicate(self, pipeline_id: UUID, *, name: str | None = None) -> PipelineView:
        """Copy structure and settings; nothing of the copy has run.

        Its experiments are copies too, Drafts.  `name`: None: that of the original,
        with ` (copy)` behind it.
        """
        new_id = self.session.core.new_id
        copy_id, ids = PipelineId(new_id()), Ids(new_id)
        self.session.execute_anew(
            lambda: duplication(
                self.session, self._find(pipeline_id).state, copy_id, name, ids
            )
        )
        return self.get(copy_id)

    def delete(self, pipeline_id: UUID) -> None:
        """Delete the pipeline; its experiments and agents stay.

        Raises `IllegalTransition` while one of its stages is at work.
        """
        self.session.execute_anew(lambda: deletion(self._find(pipeline_id)))

    # --- what the stages do --------------------------------------------------------

    def trigger(
        self, pipeline_id: UUID, stage_id: UUID, *, reason: str | None = None
    ) -> PipelineView:
        """Run a Manual stage.

        Raises `IllegalTransition` for an Auto stage and while it is at work, and
        `Conflict` if there is no checkpoint that it could take.
        """
        return self._run(pipeline_id, stage_id, Cause.MANUAL, reason)

    def retry(
        self, pipeline_id: UUID, stage_id: UUID, *, reason: str | None = None
    ) -> PipelineView:
        """Run a stage again that is Failed or Stopped; nothing before it runs again.

        If it takes the same as before, its training goes on from what that has left.
        """
        return self._run(pipeline_id, stage_id, Cause.RETRY, reason)

    def stop(
        self, pipeline_id: UUID, stage_id: UUID, *, reason: str | None = None
    ) -> PipelineView:
        """Ask for the end; what has not begun is Stopped at once."""
        command = RequestStageStop()
        return self._command(pipeline_id, stage_id, command, reason)

    def approve(
        self,
        pipeline_id: UUID,
        stage_id: UUID,
        *,
        digest: str | None = None,
        reason: str | None = None,
    ) -> PipelineView:
        """Approve of the checkpoint that the stage is about to use.

        `digest`: the one that whoever approves has seen; another raises `Conflict`.
        """
        command = ApproveStage(None if digest is None else Digest(digest))
        return self._command(pipeline_id, stage_id, command, reason)

    def reject(
        self, pipeline_id: UUID, stage_id: UUID, *, reason: str | None = None
    ) -> PipelineView:
        """Refuse the checkpoint: the stage is Stopped."""
        return self._command(pipeline_id, stage_id, RejectStage(), reason)

    def runs(self, pipeline_id: UUID, stage_id: UUID) -> Sequence[RunHistory]:
        """Return all executions of the stage, the latest first, with all attempts."""
        row, planned = self._stage(pipeline_id, stage_id)
        return run_views(self.session, row.state, planned)

    def wait(self, pipeline_id: UUID, *, timeout_s: float) -> PipelineView:
        """Return the pipeline once no stage is at work, or as it is after the time."""

        def at_rest() -> PipelineView | None:
            found = self.get(pipeline_id)
            return None if is_at_work(found) else found

        found = awaited(self.session.core.store, at_rest, timeout_s)
        return found or self.get(pipeline_id)

    # --- how -----------------------------------------------------------------------

    def _run(
        self, pipeline_id: UUID, stage_id: UUID, cause: Cause, reason: str | None
    ) -> PipelineView:
        def changes() -> Sequence[Change]:
            bound = Bound(*self._stage(pipeline_id, stage_id))
            return triggered(self.session, bound, cause)

        self.session.execute_anew(changes, reason=reason)
        return self.get(pipeline_id)

    def _command(
        self, pipeline_id: UUID, stage_id: UUID, command: object, reason: str | None
    ) -> PipelineView:
        _, planned = self._stage(pipeline_id, stage_id)
        self.session.execute(Change(stage, planned.id, command), reason=reason)
        return self.get(pipeline_id)

    def _check_project(self, project_id: UUID) -> None:
        if self.session.find(project.KIND, project_id).state.kind is (
            ProjectKind.CLASSIC
        ):
            raise Rejected(
                "Only Advanced Training projects have pipelines, and this one is "
                "Classic RL: use or create another project.",
                field="project_id",
            )

    def _story(self, name: str, fitting: Sequence[Row]) -> str:
        each = "; ".join(
            f"{row.id} in the project "
            f"{project_name(self.session, row.state.project_id)}"
            for row in fitting
        )
        return (
            f"{len(fitting)} pipelines are called {shown(name)}: {each}. Use the id, "
            "name the project too, or rename one."
        )


def is_at_work(view: PipelineView) -> bool:
    """Say whether a run of one of its stages has not ended."""
    return any(stage.status in AT_WORK for stage in view.stages)
