"""Recipes: what can train an experiment, and which settings each understands.

A recipe is a name that users write.  What it runs is known to the entry points; what
may be said to it is checked here, before anything is asked for.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from arena_core.application import strict_json
from arena_core.application.trainer import Recipe
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import Setup
from arena_core.domain.values import shown

Seed = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class Command(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`argv`: the program and its arguments.  `env`: variables that it gets."""

    argv: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]
    env: dict[str, str] = {}
    seed: Seed = 0


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("command", "whatever a program trains", None, Command, False),
    )
}


def recipe_of(setup: Setup) -> Recipe:
    """Return what trains an experiment with this set-up.

    Raises `Rejected` if there is no such recipe, or none for its algorithm.
    """
    if setup.recipe is None or setup.recipe not in RECIPES:
        known = ", ".join(RECIPES)
        raise Rejected(
            f"The recipe {shown(str(setup.recipe))} is not known: use one of {known}.",
            field="recipe",
        )
    return RECIPES[setup.recipe]


def checked(setup: Setup) -> Mapping[str, Any]:
    """Return the recipe's settings with their defaults.  Raises `Rejected`."""
    read = strict_json.convert(
        msgspec.json.decode(setup.config), recipe_of(setup).config, at="config"
    )
    settings: dict[str, Any] = msgspec.to_builtins(read)
    return settings
