"""Running a recipe as a program: what is wrong is said in one sentence, at the end."""

import sys
from collections.abc import Callable
from importlib import import_module

from arena_core.domain.errors import ArenaError
from arena_core.training import OutsideOfARun, Run

FAILED = 1


def run(module: str, extra: str) -> int:
    """Call `train` of `module` with the run, and return the exit code.

    `extra`: of this package, which installs what the module imports.
    """
    try:
        train: Callable[[Run], None] = import_module(module).train
    except ModuleNotFoundError as error:
        return _failed(
            f"{error.name} is not installed here: pip install 'arena-core[{extra}]'"
        )
    try:
        with Run() as started:
            train(started)
    except (ArenaError, OutsideOfARun) as error:
        return _failed(str(error))
    return 0


def _failed(reason: str) -> int:
    print(reason, file=sys.stderr)  # noqa: T201 -- the log of the training
    return FAILED
