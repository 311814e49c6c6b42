"""Use cases of a pipeline's structure: stages are put in, edited, moved, taken out."""

from collections.abc import Callable, Sequence
from typing import Unpack
from uuid import UUID

from attrs import frozen

from arena_core.application.handling import Change
from arena_core.application.pipeline_views import CandidateView, PipelineView
from arena_core.application.ports import Row
from arena_core.application.restructuring import removal, structural
from arena_core.application.session import Session
from arena_core.application.stage_fields import (
    Place,
    StageFields,
    needs_duplicate,
    read,
)
from arena_core.application.stage_reading import pipeline_view
from arena_core.domain import experiment, pipeline
from arena_core.domain.ids import ExperimentId, StageId
from arena_core.domain.lineage import trains
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_order import source as source_of
from arena_core.domain.stage_settings import Settings, StageType, link


@frozen
class PipelineStructure:
    """The part of `Pipelines` that says which stages there are, and in which order."""

    session: Session

    def get(self, pipeline_id: UUID) -> PipelineView:
        """Return the pipeline.  Raises `NotFound`."""
        return pipeline_view(self.session, self._find(pipeline_id))

    def insert_stage(
        self,
        pipeline_id: UUID,
        *,
        position: int | None = None,
        **fields: Unpack[StageFields],
    ) -> PipelineView:
        """Put a stage at a position, from 1; None: behind all others.

        Raises `Rejected` or `Conflict` if the stages could not be run in that order,
        and `IllegalTransition` while one of them is at work.
        """
        self.inserted(pipeline_id, position=position, **fields)
        return self.get(pipeline_id)

    def inserted(
        self,
        pipeline_id: UUID,
        *,
        position: int | None = None,
        **fields: Unpack[StageFields],
    ) -> StageId:
        """Do as `insert_stage` does, and return which stage it is.

        By its position it cannot be told: others may insert and move theirs meanwhile.
        """
        new_id = self.session.core.new_id
        stage_id, copy_id = StageId(new_id()), ExperimentId(new_id())

        def changes() -> Sequence[Change]:
            row = self._find(pipeline_id)
            place = Place(self.session, row.state.project_id, stage_id)
            found = read(place, Settings(StageType.EXPERIMENT), fields, copy_id)
            insert = pipeline.InsertStage(stage_id, found.settings, position)
            return structural(row, insert, found.changes)

        self.session.execute_anew(changes)
        return stage_id

    def edit_stage(
        self, pipeline_id: UUID, stage_id: UUID, **fields: Unpack[StageFields]
    ) -> PipelineView:
        """Change some of the settings; what is left out stays as it is.

        Raises as `insert_stage` does.
        """
        copy_id = ExperimentId(self.session.core.new_id())

        def changes() -> Sequence[Change]:
            row, planned = self._stage(pipeline_id, stage_id)
            place = Place(self.session, row.state.project_id, planned.id)
            found = read(place, planned.settings, fields, copy_id)
            edit = pipeline.EditStage(planned.id, found.settings)
            return structural(row, edit, found.changes)

        self.session.execute_anew(changes)
        return self.get(pipeline_id)

    def move_stage(
        self, pipeline_id: UUID, stage_id: UUID, position: int
    ) -> PipelineView:
        """Put the stage at another position, from 1.  Raises as `insert_stage` does."""

        def move(row: Row, planned: Planned) -> Sequence[Change]:
            return structural(row, pipeline.MoveStage(planned.id, position))

        return self._restructure(pipeline_id, stage_id, move)

    def remove_stage(self, pipeline_id: UUID, stage_id: UUID) -> PipelineView:
        """Take the stage out.  Raises as `insert_stage` does."""
        return self._restructure(pipeline_id, stage_id, removal)

    def candidates(
        self, pipeline_id: UUID, *, position: int | None = None
    ) -> Sequence[CandidateView]:
        """Return the experiments that a stage at a position could be bound to.

        They are those of the project that can use what the Experiment stage before it
        leaves.  `position`: None: behind all stages.
        """
        state: Pipeline = self._find(pipeline_id).state
        last = len(state.stages) + 1
        pipeline.check_position(last if position is None else position, last)
        source = source_of(state.stages, last if position is None else position)
        before = None if source is None else source.settings.trains
        rows = self.session.query(experiment.KIND, parent=state.project_id)
        return [
            CandidateView(
                row.id,
                row.name,
                row.state.setup.algorithm,
                needs_duplicate(self.session, row),
            )
            for row in rows
            if before is None or link(before, trains(row.state)) is not None
        ]

    # --- how -----------------------------------------------------------------------

    def _find(self, pipeline_id: UUID) -> Row:
        return self.session.find(pipeline.KIND, pipeline_id)

    def _stage(self, pipeline_id: UUID, stage_id: UUID) -> tuple[Row, Planned]:
        row = self._find(pipeline_id)
        state: Pipeline = row.state
        return row, state.stage(StageId(stage_id))

    def _restructure(
        self,
        pipeline_id: UUID,
        stage_id: UUID,
        edit: Callable[[Row, Planned], Sequence[Change]],
    ) -> PipelineView:
        def changes() -> Sequence[Change]:
            return edit(*self._stage(pipeline_id, stage_id))

        self.session.execute_anew(changes)
        return self.get(pipeline_id)
