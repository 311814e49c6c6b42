"""Recipes: what can train an experiment, and which settings each understands.

A recipe is a name that users write.  What it runs is known to the entry points; what
may be said to it is checked here, before anything is asked for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

import msgspec

from arena_core.application import command_lines, recipe_settings, strict_json
from arena_core.application.trainer import Recipe
from arena_core.domain.algorithms import is_multi_agent, is_of_language, is_same
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import Setup
from arena_core.domain.values import Family, SourceKind, shown

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "command",
            "whatever a program trains",
            None,
            recipe_settings.Command,
            may_be_ordered=False,
        ),
        Recipe(
            "sb3",
            "A2C, DQN, PPO, Recurrent PPO, SAC or TD3 on an environment of Gymnasium",
            "sb3",
            recipe_settings.Sb3,
        ),
        Recipe(
            "agilerl",
            "what a training manifest of AgileRL says, on an environment",
            "agilerl",
            recipe_settings.Agilerl,
        ),
        Recipe(
            "supervised",
            "a classifier or a regression on a dataset",
            "supervised",
            recipe_settings.Supervised,
        ),
        Recipe(
            "latent_ppo",
            "LatentPPO on a dataset, over a decoder",
            "latent-ppo",
            recipe_settings.LatentPpo,
        ),
    )
}
SB3_ALGORITHMS = ("A2C", "DQN", "PPO", "Recurrent PPO", "SAC", "TD3")
Trains: TypeAlias = Callable[[Setup], bool]


def _is_on(setup: Setup, kind: SourceKind) -> bool:
    return setup.source is not None and setup.source.kind is kind


def _trains_sb3(setup: Setup) -> bool:
    known = any(is_same(setup.algorithm, name) for name in SB3_ALGORITHMS)
    return setup.family is Family.RL and known and _is_on(setup, SourceKind.GYM)


def _trains_agilerl(setup: Setup) -> bool:
    return setup.family is Family.RL and _is_on(setup, SourceKind.GYM)


def _trains_supervised(setup: Setup) -> bool:
    return setup.family is Family.SUPERVISED and _is_on(setup, SourceKind.DATASET)


def _trains_latent(setup: Setup) -> bool:
    return setup.family is Family.LATENT and _is_on(setup, SourceKind.DATASET)


_TRAINS: Mapping[str, Trains] = {
    "command": lambda _: True,
    "sb3": _trains_sb3,
    "agilerl": _trains_agilerl,
    "supervised": _trains_supervised,
    "latent_ppo": _trains_latent,
}
_BY_THEMSELVES = ("sb3", "supervised", "latent_ppo")
"""Recipes that need not be named: the others need settings that say what to run."""


def recipe_of(setup: Setup) -> Recipe:
    """Return what trains an experiment with this set-up.

    Raises `Rejected` if there is no such recipe, or none for its algorithm, its
    family and its source.
    """
    if setup.recipe is None:
        return _default(setup)
    if setup.recipe not in RECIPES:
        raise Rejected(
            f"The recipe {shown(setup.recipe)} is not known: use one of {_names()}.",
            field="recipe",
        )
    recipe = RECIPES[setup.recipe]
    if not _TRAINS[recipe.name](setup):
        raise Rejected(
            f"The recipe {recipe.name} trains {recipe.trains}, but the experiment is "
            f"{_called(setup)}: name another recipe, or change that.",
            field="recipe",
        )
    return recipe


def _default(setup: Setup) -> Recipe:
    for name in _BY_THEMSELVES:
        if _TRAINS[name](setup):
            return RECIPES[name]
    raise Rejected(
        f"The experiment is {_called(setup)}, which no recipe trains unless it is "
        f"named: name one of {_names()}.",
        field="recipe",
    )


def _names() -> str:
    return ", ".join(RECIPES)


def _called(setup: Setup) -> str:
    on = "nothing" if setup.source is None else f"a source {setup.source.kind.value}"
    return f"{shown(setup.algorithm)} of the family {setup.family.value} on {on}"


def checked(setup: Setup) -> Mapping[str, Any]:
    """Return the recipe's settings with their defaults.

    Raises `Rejected`, whose `field` is such as `config.total_steps`.
    """
    recipe = recipe_of(setup)
    said = msgspec.json.decode(setup.config)
    _check_names(recipe, said)
    read: msgspec.Struct = strict_json.convert(said, recipe.config, at="config")
    if isinstance(read, recipe_settings.Command):
        command_lines.check(read.argv)
    settings: dict[str, Any] = msgspec.to_builtins(read)
    return settings


def check_said(setup: Setup) -> None:
    """Raise `Rejected` for what is said of training, and could never be trained.

    Where nothing would train it, and nothing was named that should, others have:
    its settings are a note of how.
    """
    if setup.recipe is not None and setup.source is None:
        raise Rejected(
            "Training needs an environment or a dataset: name the source.",
            field="source",
        )
    if setup.recipe is not None or (_says_something(setup) and _found(setup)):
        checked(setup)


def _says_something(setup: Setup) -> bool:
    return bool(msgspec.json.decode(setup.config))


def _check_names(recipe: Recipe, said: Iterable[str]) -> None:
    known = recipe.config.__struct_fields__
    for name in said:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise Rejected(
                f"The recipe {recipe.name} has no setting {shown(name)}.{meant} "
                f"{_settings(recipe)}",
                field=f"config.{shown(name)}",
            )


def _settings(recipe: Recipe) -> str:
    names = ", ".join(recipe.config.__struct_fields__)
    return f"The recipe {recipe.name} has the settings {names}."


# --- what runs what its author names ---------------------------------------------

_PLAIN = re.compile(r"[A-Za-z0-9_ .,+-]{0,200}", re.ASCII)
"""A text without any path, module or address in it."""
_NAMES_CODE = re.compile(r"entrypoint|factory|package|path|processor|url|wrapper")
"""In the names of settings whose value is imported, read or written."""
_VERSIONS = ("agilerl.com/v1",)
"""What manifests say of their own form, which looks like an address."""
_GIVEN_ON = ("env_kwargs", "hyperparameters", "manifest")
"""Settings that other libraries get as they are."""


def runs_what_it_names(setup: Setup) -> bool:
    """Say whether training may import, read or run what the author has named.

    It is asked of set-ups by strangers, and says so of some that are harmless.
    """
    recipe = _found(setup)
    if recipe is None:
        return False  # nothing trains it, so nothing runs
    if not recipe.may_be_ordered:
        return True
    on_gym = _is_on(setup, SourceKind.GYM)
    # The library imports the module that such an environment is named by.
    if on_gym and is_multi_agent(setup.algorithm):
        return True
    config = msgspec.json.decode(setup.config)
    texts = [text for name in _GIVEN_ON for text in _texts(config.get(name))]
    texts = [text for text in texts if text not in _VERSIONS]
    # A manifest may say another algorithm than the experiment.
    if any(_is_of_many_agents_or_languages(text) for text in texts):
        return True
    if setup.source is not None and on_gym:
        texts.append(setup.source.name)
    return not all(map(_PLAIN.fullmatch, texts))


def _found(setup: Setup) -> Recipe | None:
    try:
        return recipe_of(setup)
    except Rejected:
        return None


def _is_of_many_agents_or_languages(text: str) -> bool:
    """Say whether it is an algorithm that has the library import or fetch by name."""
    return is_multi_agent(text) or is_of_language(text)


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a setting; one that is not plain for what names code."""
    match value:
        case str():
            yield value
        case dict():
            for name, inner in value.items():
                if inner and _NAMES_CODE.search(name.lower()):
                    yield ":"
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
