"""What users say of a stage, read into its settings, and binding an experiment."""

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, TypedDict
from uuid import UUID

from attrs import evolve as replace
from attrs import frozen

from arena_core.application.copies import copied
from arena_core.application.handling import Change
from arena_core.application.ports import Row
from arena_core.application.session import Session
from arena_core.application.triggering import bound_to
from arena_core.application.trust import require_trust
from arena_core.domain import agent, experiment
from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.ids import AgentId, ExperimentId, StageId
from arena_core.domain.lineage import trains
from arena_core.domain.stage_settings import (
    AutoAdd,
    Condition,
    HandOver,
    Retries,
    SavedAgent,
    Settings,
    StageType,
    Trains,
    Trigger,
)
from arena_core.domain.values import ProjectKind, one_of


class StageFields(TypedDict, total=False):
    """What is left out stays as it is, or has its default.

    `duplicate`: bind a copy of the experiment, a Draft.  `start`: a saved agent, or
    None for from scratch.
    """

    type: StageType | str
    trigger: Trigger | str
    experiment_id: UUID | None
    duplicate: bool
    start: UUID | None
    checkpoint: HandOver | str
    auto_add: AutoAdd | str
    agent_name: str | None
    condition: Condition | None
    approval: bool
    retries: Retries
    time_limit_s: float | None


_CHOICES = {
    "type": StageType,
    "trigger": Trigger,
    "checkpoint": HandOver,
    "auto_add": AutoAdd,
}
_PLAIN: Mapping[str, tuple[type, ...]] = {
    "agent_name": (str, NoneType),
    "condition": (Condition, NoneType),
    "approval": (bool,),
    "retries": (Retries,),
    "time_limit_s": (float, int, NoneType),
}
"""What is taken as it is, and what it must be."""


@frozen
class Place:
    """Where the settings are to be: a stage of a pipeline in a project."""

    session: Session
    project_id: UUID
    stage_id: StageId


@frozen
class Read:
    """The settings, and what has to be done beside them in the same append."""

    settings: Settings
    changes: Sequence[Change] = ()


def read(
    place: Place, before: Settings, fields: StageFields, copy_id: ExperimentId
) -> Read:
    """Return `before` with what `fields` say of it.

    `copy_id`: of the experiment's copy, if one is asked for.  Raises `Rejected`,
    `NotFound`, `Forbidden`, or `Conflict` where a copy has to be asked for.
    """
    said: Mapping[str, Any] = fields
    _check_names(said)
    changed = {name: _typed(name, said[name]) for name in _PLAIN if name in said}
    for name, kind in _CHOICES.items():
        if name in said:
            changed[name] = one_of(kind, said[name], field=name)
    if "start" in said:
        changed["start"] = _saved(place, fields["start"])
    settings = replace(before, **changed)
    if (wanted := said.get("experiment_id")) is not None:
        again = bool(said.get("duplicate"))
        found = _bind(place, settings, wanted, copy_id if again else None)
        return _releasing(place, before, found)
    if said.get("duplicate"):
        raise Rejected(
            "There is nothing to duplicate: name the experiment too.", field="duplicate"
        )
    if "experiment_id" in said:
        settings = replace(settings, experiment_id=None, trains=None)
    if settings.type is StageType.DEPLOYMENT and before.type is not settings.type:
        settings = _without_training(settings, fields)
    return _releasing(place, before, Read(settings))


def _without_training(settings: Settings, fields: StageFields) -> Settings:
    """Return the settings of a stage that has become a Deployment."""
    auto_add = settings.auto_add if "auto_add" in fields else AutoAdd.NO
    return replace(settings, experiment_id=None, trains=None, auto_add=auto_add)


def _typed(name: str, value: object) -> Any:  # noqa: ANN401 -- what it has been found to be
    if isinstance(value, _PLAIN[name]):
        return value
    wanted = " or ".join(
        "None" if kind is NoneType else kind.__name__ for kind in _PLAIN[name]
    )
    raise Rejected(f"{name} has the wrong type: give {wanted}.", field=name)


def _check_names(said: Mapping[str, Any]) -> None:
    unknown = said.keys() - StageFields.__annotations__.keys()
    if unknown:
        known = ", ".join(StageFields.__annotations__)
        raise Rejected(
            f"A stage has no {min(unknown)}: use some of {known}.", field=min(unknown)
        )


def _saved(place: Place, agent_id: UUID | None) -> SavedAgent | None:
    """Return the agent that a first stage begins with, if it can."""
    if agent_id is None:
        return None
    state: agent.Agent = place.session.find(agent.KIND, agent_id).state
    if state.kind is not ProjectKind.ADVANCED:
        raise Rejected(
            "A stage begins with an agent of the kind Advanced Training: this one is "
            "Classic RL.",
            field="start",
        )
    origin = state.origin
    if origin.project_id != place.project_id:
        raise Rejected(
            "The agent is of another project: a pipeline stays inside its own.",
            field="start",
        )
    its = Trains(origin.algorithm, origin.family, origin.base_model)
    return SavedAgent(AgentId(agent_id), its)


def _bind(
    place: Place, settings: Settings, wanted: UUID, copy_id: ExperimentId | None
) -> Read:
    """Bind an experiment, or the copy of it that is to have the id `copy_id`."""
    if wanted == settings.experiment_id and copy_id is None:
        return Read(settings)
    row = place.session.find(experiment.KIND, wanted)
    state: experiment.Experiment = row.state
    if row.parent != place.project_id:
        raise Rejected(
            "The experiment is in another project: a pipeline stays inside its own.",
            field="experiment_id",
        )
    require_trust(place.session, state.setup)
    bind = experiment.BindExperiment(place.stage_id)
    bound = replace(settings, experiment_id=state.id, trains=trains(state))
    if copy_id is not None:
        copy = replace(bound, experiment_id=copy_id)
        changes = (
            Change(experiment, state.id, experiment.RequireExperiment()),
            Change(experiment, copy_id, copied(state, copy_id)),
            Change(experiment, copy_id, bind),
        )
        return Read(copy, changes)
    if needs_duplicate(place.session, row):
        raise Conflict(experiment.NOT_TO_BE_BOUND)
    as_seen = replace(bind, setup=state.setup)
    return Read(bound, (Change(experiment, state.id, as_seen),))


def _releasing(place: Place, before: Settings, found: Read) -> Read:
    """Return `found`, by which the experiment of `before` is free if it is another."""
    held = before.experiment_id
    if held is None or held == found.settings.experiment_id:
        return found
    return replace(found, changes=(released(held, place.stage_id), *found.changes))


def released(experiment_id: ExperimentId, stage_id: StageId) -> Change:
    """Return the change by which others can have what was bound to a stage."""
    return Change(experiment, experiment_id, experiment.ReleaseExperiment(stage_id))


def needs_duplicate(session: Session, row: Row) -> bool:
    """Say whether only a copy of the experiment can be bound to another stage."""
    state: experiment.Experiment = row.state
    # What was bound before that was recorded with it is known by the pipelines alone.
    return state.has_begun or bound_to(session, state.id) is not None
