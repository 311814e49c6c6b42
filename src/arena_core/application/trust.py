"""Who may have this machine run what they write.

A recipe such as `command` runs whatever its settings say.  Over HTTP that is for
whoever is trusted by the operator; the operator needs nobody's leave.
"""

from arena_core.application import recipes
from arena_core.application.session import Core, Session
from arena_core.domain.errors import Forbidden
from arena_core.domain.experiment import Setup
from arena_core.domain.values import Actor, ActorKind

REFUSAL = (
    "It would run, or import, what its settings name, which is not allowed over HTTP: "
    "leave that out, or ask the operator to set ARENA_ALLOW_COMMANDS to 1."
)
TRUSTED = (ActorKind.LIBRARY, ActorKind.OPERATOR, ActorKind.SYSTEM)


def check_trainable(session: Session, setup: Setup) -> None:
    """Raise `Rejected` unless the set-up can be trained, as far as can be seen here.

    Raises `Forbidden` if the caller may not have it trained.
    """
    recipes.checked(setup)
    require_trust(session, setup)


def require_trust(session: Session, setup: Setup) -> None:
    """Raise `Forbidden` if the caller may not have this trained."""
    if not is_allowed(session.core, session.caller.actor, setup):
        raise Forbidden(REFUSAL)


def is_allowed(core: Core, actor: Actor, setup: Setup) -> bool:
    if core.allow_commands or actor.kind in TRUSTED:
        return True
    return not recipes.runs_what_it_names(setup)
