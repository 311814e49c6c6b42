"""What it takes to train here: packages, datasets, environments, programs.

It is looked for when a training is asked for, so that what is missing is said to
whoever asks.  Nothing that others have written is imported into the server.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from attrs import field, frozen

from arena_core.application import recipes, strict_json
from arena_core.application.recipe_settings import Command
from arena_core.application.trainer import Recipe
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import Setup
from arena_core.domain.values import SourceKind, shown
from arena_core.entrypoints.recipes import dataset_files
from arena_core.entrypoints.recipes.known_environments import KnownEnvironments
from arena_core.entrypoints.recipes.programs import AGILERL, COMMAND
from arena_core.entrypoints.settings import Settings

MODULES: Mapping[str, tuple[str, ...]] = {
    "sb3": ("torch", "stable_baselines3", "sb3_contrib"),
    "supervised": ("torch", "sklearn", "pyarrow"),
    "latent_ppo": ("torch", "sklearn", "pyarrow", "stable_baselines3"),
}
"""What the program of each recipe imports beyond this package's own dependencies."""


@frozen
class Here:
    """This machine, as a training that this process starts finds it."""

    _settings: Settings
    _environments: KnownEnvironments = field(factory=KnownEnvironments)
    _is_there: Callable[[str], bool] = lambda module: find_spec(module) is not None

    def check(self, setup: Setup) -> None:
        """Raise `Rejected` if what it takes to train this is not here."""
        recipe = recipes.recipe_of(setup)
        if recipe.name == COMMAND:
            return _check_program(recipes.checked(setup))
        if recipe.name == AGILERL:
            return self._check_interpreter()
        self._check_packages(recipe)
        if setup.source is None:
            return None
        if setup.source.kind is SourceKind.DATASET:
            dataset_files.located(setup.source.name, self._settings.datasets_folder)
        else:
            self._environments.check(setup.source.name)
        return None

    def _check_interpreter(self) -> None:
        """Look for the interpreter that was named for AgileRL, and not into it.

        Manifests are taken where there is none yet: they fail at their turn.
        """
        python = self._settings.agilerl_python
        if python is not None and not _can_be_run(str(python), os.defpath):
            raise Rejected(
                "The interpreter that ARENA_AGILERL_PYTHON names is not there, or "
                "cannot be run: ask the operator to correct it.",
                field="recipe",
            )

    def _check_packages(self, recipe: Recipe) -> None:
        for module in MODULES[recipe.name]:
            if not self._is_there(module):
                raise Rejected(
                    f"{module} is not installed here, which the recipe {recipe.name} "
                    f"needs: pip install 'arena-core[{recipe.extra}]'",
                    field="recipe",
                )


def _check_program(config: Mapping[str, Any]) -> None:
    said = strict_json.convert(dict(config), Command)
    path = said.env.get("PATH", os.environ.get("PATH", os.defpath))
    if not _can_be_run(said.argv[0], path):
        raise Rejected(
            f"There is no program {shown(said.argv[0])} here that can be run: name one "
            "by its whole path, or one that is in PATH.",
            field="config.argv 0",
        )


def _can_be_run(program: str, path: str) -> bool:
    return shutil.which(program, path=path) is not None
