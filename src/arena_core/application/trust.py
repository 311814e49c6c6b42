"""Who may have this machine run what they write.

A recipe such as `command` runs whatever its settings say.  Over HTTP that is for
whoever is trusted by the operator; the operator needs nobody's leave.
"""

from collections.abc import Sequence

from arena_core.application import recipes
from arena_core.application.ports import EventStore, Recorded
from arena_core.application.session import Core, Session
from arena_core.domain.errors import Forbidden
from arena_core.domain.experiment import Experiment, Setup
from arena_core.domain.experiment_events import ExperimentConfigured, ExperimentDrafted
from arena_core.domain.stage_events import StageTriggered
from arena_core.domain.values import Actor, ActorKind

REFUSAL = (
    "It would run, or import, what its settings name, which is not allowed over HTTP: "
    "leave that out, or ask the operator to set ARENA_ALLOW_COMMANDS to 1."
)
TRUSTED = (ActorKind.LIBRARY, ActorKind.OPERATOR, ActorKind.SYSTEM)


def check_draft(session: Session, setup: Setup) -> None:
    """Raise `Rejected` for what is said of training, and could never be trained.

    Raises `Forbidden` if the caller may not have it trained.
    """
    recipes.check_said(setup)
    require_trust(session, setup)


def check_trainable(session: Session, setup: Setup) -> None:
    """Raise `Rejected` unless the set-up can be trained, as far as can be seen here.

    Raises `Forbidden` if the caller may not have it trained: to them it is not said
    what is on this machine.
    """
    recipes.checked(setup)
    require_trust(session, setup)
    session.core.check_here(setup)


def require_trust(session: Session, setup: Setup) -> None:
    """Raise `Forbidden` if the caller may not have this trained."""
    if not _is_allowed(session.core, session.caller.actor, setup):
        raise Forbidden(REFUSAL)


def may_begin(core: Core, state: Experiment, asked: Actor) -> bool:
    """Say whether what `asked` wants trained may be begun.

    Asked again at the last moment: what is allowed may have changed meanwhile.
    """
    if core.allow_commands or not recipes.runs_what_it_names(state.setup):
        return True
    return _who_answers(core.store, state, asked).kind in TRUSTED


def _who_answers(store: EventStore, state: Experiment, asked: Actor) -> Actor:
    """Return who answers for the latest training of an experiment.

    The runner asks for what others have decided: for a stage, whoever has triggered
    it; for an Auto stage, whoever has written what it trains.
    """
    training = state.training
    if training is None or training.stage is None:
        return asked
    triggered = _last(store.read(training.stage), StageTriggered)
    if triggered.kind is not ActorKind.SYSTEM:
        return triggered
    return _last(store.read(state.id), ExperimentDrafted, ExperimentConfigured)


def _last(events: Sequence[Recorded], *kinds: type) -> Actor:
    """Return by whose hand the last of these events came."""
    return next(e for e in reversed(events) if isinstance(e.event, kinds)).context.actor


def _is_allowed(core: Core, actor: Actor, setup: Setup) -> bool:
    if core.allow_commands or actor.kind in TRUSTED:
        return True
    return not recipes.runs_what_it_names(setup)
