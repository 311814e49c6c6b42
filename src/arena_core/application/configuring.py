"""Configuring an experiment: what its stage is told, and what the pipeline refuses."""

from collections.abc import Sequence

from attrs import evolve as replace

from arena_core.application.handling import Change
from arena_core.application.session import Session
from arena_core.application.triggering import Bound, bound_to
from arena_core.domain import experiment, pipeline
from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.experiment import ConfigureExperiment, Experiment
from arena_core.domain.lineage import trains
from arena_core.domain.pipeline import Pipeline
from arena_core.domain.stage_settings import Trains
from arena_core.domain.values import shown


def configuration(
    session: Session, state: Experiment, configure: ConfigureExperiment
) -> Sequence[Change]:
    """Return the changes that configure an experiment, and tell its stage of it.

    Raises `Rejected` where the stages of its pipeline could not be run in their order
    then.  To be carried out anew if it is bound, or released, meanwhile.
    """
    change = Change(experiment, state.id, configure)
    asked = replace(state, setup=experiment.configured(state.setup, configure))
    if trains(asked) == trains(state):
        return (change,)
    bound = bound_to(session, state.id)
    if bound is None:
        return (Change(experiment, state.id, experiment.RequireUnbound()), change)
    return (change, *_told(session, bound, trains(asked)))


def _told(session: Session, bound: Bound, now: Trains) -> Sequence[Change]:
    state: Pipeline = bound.pipeline.state
    settings = replace(bound.planned.settings, trains=now)
    edit = pipeline.EditStage(bound.planned.id, settings)
    try:
        pipeline.decide(edit, state, session.core.clock())
    except (Rejected, Conflict) as refusal:
        raise Rejected(_bound(bound, str(refusal)), field="algorithm") from refusal
    as_seen = pipeline.RequirePipeline(state.stages)
    return (Change(pipeline, state.id, as_seen), Change(pipeline, state.id, edit))


def _bound(bound: Bound, refusal: str) -> str:
    state: Pipeline = bound.pipeline.state
    position = state.position(bound.planned.id)
    return (
        f"The experiment is bound to stage {position} of the pipeline "
        f"{shown(state.name)}, which could not be run like that. {refusal} Or take the "
        "experiment off the stage first: bind another one, or remove the stage."
    )
