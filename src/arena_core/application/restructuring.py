"""Edits of pipelines: all that goes into one append when their structure changes."""

from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from attrs import evolve as replace

from arena_core.application.copies import copied, copy_name
from arena_core.application.handling import Change
from arena_core.application.ports import Row
from arena_core.application.session import Session
from arena_core.application.stage_fields import released
from arena_core.application.trust import require_trust
from arena_core.domain import experiment, pipeline, project, stage
from arena_core.domain.ids import ExperimentId, PipelineId, StageId
from arena_core.domain.lineage import trains
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage_commands import RequireIdle
from arena_core.domain.stage_order import Planned


class Ids:
    """Gives the same new ids again when something is decided anew."""

    def __init__(self, new_id: Callable[[], UUID]) -> None:
        self._new_id = new_id
        self._known: list[UUID] = []

    def __call__(self, number: int) -> UUID:
        while len(self._known) <= number:
            self._known.append(self._new_id())
        return self._known[number]


def structural(
    row: Row, command: object, beside: Sequence[Change] = ()
) -> Sequence[Change]:
    """Return the changes of an edit, which is refused while a stage is at work.

    `beside`: what has to be done with it.
    """
    state: Pipeline = row.state
    return (
        Change(pipeline, row.id, pipeline.RequirePipeline(state.stages)),
        *(Change(stage, planned.id, RequireIdle()) for planned in state.stages),
        *beside,
        Change(pipeline, row.id, command),
    )


def deletion(row: Row) -> Sequence[Change]:
    """Return the changes that delete a pipeline, unless one of its stages works."""
    return structural(row, pipeline.DeletePipeline(), released_by(row.state.stages))


def removal(row: Row, planned: Planned) -> Sequence[Change]:
    """Return the changes that take a stage out."""
    remove = pipeline.RemoveStage(planned.id)
    return structural(row, remove, released_by([planned]))


def released_by(stages: Iterable[Planned]) -> Sequence[Change]:
    """Return what gives back the experiments of stages that are no more."""
    return [
        released(planned.settings.experiment_id, planned.id)
        for planned in stages
        if planned.settings.experiment_id is not None
    ]


def duplication(
    session: Session, state: Pipeline, copy_id: PipelineId, name: str | None, ids: Ids
) -> Sequence[Change]:
    """Return the changes that copy a pipeline, with Drafts of its experiments."""
    drafts: list[Change] = []
    stages: list[Planned] = []
    for number, planned in enumerate(state.stages):
        settings, stage_id = planned.settings, StageId(ids(2 * number))
        if settings.experiment_id is not None:
            original = session.find(experiment.KIND, settings.experiment_id).state
            require_trust(session, original.setup)
            its = ExperimentId(ids(2 * number + 1))
            drafts.append(Change(experiment, its, copied(original, its)))
            bind = experiment.BindExperiment(stage_id)
            drafts.append(Change(experiment, its, bind))
            settings = replace(settings, experiment_id=its, trains=trains(original))
        stages.append(Planned(stage_id, settings))
    command = pipeline.CreateDuplicate(
        copy_id,
        state.id,
        state.project_id,
        copy_name(state.name) if name is None else name,
        state.description,
        tuple(stages),
    )
    return (
        Change(project, state.project_id, project.RequireProject()),
        Change(pipeline, state.id, pipeline.RequirePipeline(state.stages)),
        *drafts,
        Change(pipeline, copy_id, command),
    )
