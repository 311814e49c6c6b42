"""The stages of a pipeline in their order, and whether they could be run like that.

The first is an Experiment stage that is triggered by hand, and each Experiment stage
can use what the nearest one before it leaves.  Positions begin with 1, as people count.
"""

from collections.abc import Sequence

from attrs import frozen

from arena_core.domain.errors import Conflict, Rejected
from arena_core.domain.ids import ExperimentId, StageId
from arena_core.domain.stage_settings import (
    AutoAdd,
    SavedAgent,
    Settings,
    StageType,
    Trains,
    Trigger,
    link,
)

_COMPATIBLE = (
    "an algorithm follows itself, language-model algorithms follow each other on the "
    "same base model, and LatentPPO follows Supervised."
)


@frozen
class Planned:
    """One stage of a pipeline."""

    id: StageId
    settings: Settings


def source(stages: Sequence[Planned], position: int) -> Planned | None:
    """Return the Experiment stage whose checkpoint the stage at `position` takes.

    That is the nearest one before it; None: there is none.
    """
    before = reversed(stages[: position - 1])
    return next((s for s in before if s.settings.type is StageType.EXPERIMENT), None)


def check(stages: Sequence[Planned]) -> None:
    """Raise `Rejected` or `Conflict` unless the stages could be run in their order.

    The first one may still be Auto: it is made Manual where it becomes the first.
    """
    for position, planned in enumerate(stages, start=1):
        if planned.settings.type is StageType.DEPLOYMENT:
            _check_deployment(planned.settings, position)
        else:
            _check_experiment(planned.settings, source(stages, position), position)
    _check_that_each_trains_its_own(stages)


def check_asked(settings: Settings, position: int) -> None:
    """Raise `Rejected` if somebody asks for what makes no sense at `position`.

    A stage that is moved there keeps it, for it may be moved back.
    """
    if position == 1 and settings.trigger is Trigger.AUTO:
        raise Rejected(
            "The first stage can only be triggered by hand: leave the trigger out, or "
            "say manual.",
            field="trigger",
        )
    if position > 1 and settings.start is not None:
        raise Rejected(
            "Only the first stage can begin with a saved agent: this one takes the "
            "checkpoint of the stage before it. Leave start out.",
            field="start",
        )


def check_start(start: SavedAgent | None, trains: Trains) -> None:
    """Raise `Rejected` unless a first stage can train this, beginning like that."""
    if start is None and trains.needs_a_decoder:
        raise Rejected(
            f"{trains.algorithm} needs a decoder, and there is no stage before it: "
            "name a saved agent as its start.",
            field="start",
        )
    if start is not None and link(start.trains, trains) is None:
        raise Rejected(
            f"{trains.algorithm} cannot begin with an agent of "
            f"{start.trains.algorithm}: {_COMPATIBLE}",
            field="start",
        )


def check_link(before: Trains, after: Trains) -> None:
    """Raise `Rejected` unless `after` can use a checkpoint of `before`."""
    if link(before, after) is None:
        raise Rejected(
            f"{after.algorithm} cannot use a checkpoint of {before.algorithm}, which "
            f"the stage before it trains: {_COMPATIBLE}",
            field="experiment_id",
        )


def _check_experiment(
    settings: Settings, before: Planned | None, position: int
) -> None:
    trains = settings.trains
    if settings.experiment_id is None or trains is None:
        raise Rejected(
            f"Stage {position} trains nothing: bind an experiment to it.",
            field="experiment_id",
        )
    if settings.condition is not None and settings.condition.better_than_live:
        raise Rejected(
            f"Stage {position} puts nothing live, so there is nothing to be "
            "better than: leave better_than_live to a Deployment stage.",
            field="condition.better_than_live",
        )
    if before is None and settings.start is None and settings.condition is not None:
        raise Rejected(
            f"Stage {position} begins from scratch, so there is nothing to judge: "
            "leave the condition out, name a saved agent as its start, or set the "
            "condition for the stage behind.",
            field="condition",
        )
    if before is None or before.settings.trains is None:
        check_start(settings.start, trains)
    else:
        check_link(before.settings.trains, trains)


def _check_deployment(settings: Settings, position: int) -> None:
    if position == 1:
        raise Rejected(
            "The first stage cannot be a Deployment: there is no checkpoint to deploy "
            "yet. Put an Experiment stage before it.",
            field="type",
        )
    if settings.experiment_id is not None or settings.trains is not None:
        raise Rejected(
            f"Stage {position} is a Deployment, which trains nothing: leave the "
            "experiment out.",
            field="experiment_id",
        )
    if settings.auto_add is not AutoAdd.NO:
        raise Rejected(
            f"Stage {position} is a Deployment, which has its agent already: leave "
            "auto_add out.",
            field="auto_add",
        )


def _check_that_each_trains_its_own(stages: Sequence[Planned]) -> None:
    bound: set[ExperimentId] = set()
    for position, planned in enumerate(stages, start=1):
        experiment_id = planned.settings.experiment_id
        if experiment_id in bound:
            raise Conflict(
                f"The experiment of stage {position} is bound to another stage of "
                "this pipeline: ask for a duplicate of it."
            )
        if experiment_id is not None:
            bound.add(experiment_id)
