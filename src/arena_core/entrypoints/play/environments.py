"""Making an environment of what is typed, and finding out how it is played."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import gymnasium

from arena_core.domain.errors import Rejected
from arena_core.entrypoints.play.episodes import (
    Environment,
    Loop,
    alone,
    in_turns,
    together,
)


def make(name: str, arguments: Mapping[str, Any]) -> Environment:
    """Return the environment called `name`, of Gymnasium or of PettingZoo.

    `name`: an id of Gymnasium's, with `package:` before it if that has to be imported
    first; or `package.module:function`, which may be a class as well, and in which
    `-` may stand for `_`.  Raises `Rejected`, saying what to do.
    """
    try:
        factory = _factory(name)
        if factory is None:
            return gymnasium.make(name, **arguments)
        return factory(**arguments)
    except ModuleNotFoundError as error:
        raise Rejected(_missing(error), field="env") from error
    except (ImportError, TypeError, ValueError, gymnasium.error.Error) as error:
        # Brackets and all, for it may be the very command that helps.
        said = _sentence(error)
        raise Rejected(f"The environment cannot be made: {said}", field="env") from (
            error
        )


def loop_of(env: Environment, *, multi_agent: bool) -> Loop:
    """Return how an agent plays `env`.  Raises `Rejected` if it is not for such."""
    loop = _loop(env)
    if multi_agent and loop is alone:
        raise Rejected(
            "The agent acts for a team, but the environment has one agent: name one "
            "of PettingZoo, as package.module:parallel_env.",
            field="env",
        )
    if not multi_agent and loop is not alone:
        raise Rejected(
            "The agent acts by itself, but the environment has a team: name one of "
            "Gymnasium.",
            field="env",
        )
    return loop


def _loop(env: Environment) -> Loop:
    if isinstance(env, gymnasium.Env):
        return alone
    if hasattr(env, "agent_iter"):
        return in_turns
    if hasattr(env, "possible_agents"):
        return together
    raise Rejected(
        f"A {type(env).__name__} is no environment of Gymnasium or of PettingZoo.",
        field="env",
    )


def _factory(name: str) -> Callable[..., Any] | None:
    """Return what a name with a colon stands for, unless that is an id."""
    module, colon, attribute = name.partition(":")
    if not (module and colon):
        return None
    found = getattr(
        import_module(module.replace("-", "_")), attribute.replace("-", "_"), None
    )
    return found if callable(found) else None


def _missing(error: ModuleNotFoundError) -> str:
    name = error.name or ""
    package = name.partition(".")[0]
    if name != package:
        return f"There is no module {name} in its package: look at its name."
    return (
        f"The environment needs the package {package}, which is not installed: "
        f"install it beside arena-core (pip install {package}), or look at its name."
    )


def _sentence(error: Exception) -> str:
    """Return the first line of what somebody else's code says, as a sentence."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    return first if first.endswith((".", "?", "!")) else f"{first}."
