"""Which program trains what was ordered, and what it finds in its environment."""

import sys
from pathlib import Path
from uuid import UUID

import pytest

from arena_core.application.recipes import RECIPES
from arena_core.application.trainer import Order
from arena_core.domain.ids import ExperimentId, RunId
from arena_core.domain.values import Family, Source, SourceKind
from arena_core.entrypoints.recipes.programs import program_of
from arena_core.entrypoints.settings import Settings

ID = UUID(int=1)
PYTHON = "/opt/agilerl/bin/python"


def order(recipe, **config):
    return Order(
        RunId(ID),
        ExperimentId(ID),
        recipe,
        "PPO",
        Family.RL,
        Source(SourceKind.GYM, "CartPole-v1"),
        None,
        config,
        0,
        None,
        None,
        None,
    )


def program(recipe, *, config=None, **settings):
    given = {"store": "memory:"} | settings
    return program_of(order(recipe, **(config or {})), Settings(**given))


def test_a_command_is_run_as_it_is_written():
    made = program("command", config={"argv": ["sh", "-c", "x"], "env": {"A": "b"}})
    assert list(made.argv) == ["sh", "-c", "x"]
    assert dict(made.environment) == {"A": "b"}


@pytest.mark.parametrize("recipe", sorted(RECIPES.keys() - {"command"}))
def test_every_other_recipe_is_a_module_that_is_there(recipe):
    made = program(recipe)
    python, flag, module = made.argv
    assert (python, flag) == (sys.executable, "-m")
    source = Path(__file__).parents[2] / "src" / Path(*module.split("."))
    assert source.with_suffix(".py").exists()


def test_agilerl_has_the_interpreter_that_was_named_for_it():
    assert program("agilerl", agilerl_python=PYTHON).argv[0] == PYTHON
    assert program("sb3", agilerl_python=PYTHON).argv[0] == sys.executable


def test_recipes_are_told_where_the_datasets_are(tmp_path):
    made = program("supervised", datasets=tmp_path)
    assert dict(made.environment) == {"ARENA_DATASETS": str(tmp_path)}
    assert not program("supervised").environment
