"""Which program trains what was ordered."""

import sys
from collections.abc import Mapping

from arena_core.adapters.trainers.programs import Program
from arena_core.application.trainer import Order
from arena_core.entrypoints.settings import Settings

COMMAND, AGILERL = "command", "agilerl"


def program_of(order: Order, settings: Settings) -> Program:
    """Return the program of the order's recipe."""
    if order.recipe == COMMAND:
        return Program(order.config["argv"], order.config.get("env", {}))
    python = sys.executable
    if order.recipe == AGILERL and settings.agilerl_python is not None:
        python = str(settings.agilerl_python)
    module = f"arena_core.entrypoints.recipes.{order.recipe}"
    return Program((python, "-m", module), _environment(settings))


def _environment(settings: Settings) -> Mapping[str, str]:
    folder = settings.datasets_folder
    return {} if folder is None else {"ARENA_DATASETS": str(folder)}
