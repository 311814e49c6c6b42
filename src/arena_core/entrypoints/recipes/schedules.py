"""How far a training goes, and where it leaves a checkpoint."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from attrs import frozen

from arena_core.application import strict_json
from arena_core.entrypoints.recipes.dataset_files import VARIABLE
from arena_core.training import Run

S = TypeVar("S", bound=msgspec.Struct)
QUARTERS = 4


@frozen
class Schedule:
    """The steps after `first`, up to and with `last`."""

    first: int
    last: int
    every: int
    """Between two checkpoints, which are at multiples of it."""

    @classmethod
    def of(
        cls, run: Run, total: int, every: int | None, *, unit: int = 1
    ) -> "Schedule":
        """Return the schedule of a run that makes `total` steps, `unit` at a time.

        What is resumed and has made them all makes as many again.
        """
        first = run.first_step
        last = run.max_steps or total
        if last <= first:
            last = first + total
        return cls(
            first, _up(last, unit), _up(every or max(1, total // QUARTERS), unit)
        )

    def checkpoints(self) -> Iterator[int]:
        """Return where checkpoints are left, the last step included."""
        yield from range(
            (self.first // self.every + 1) * self.every, self.last, self.every
        )
        yield self.last


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def settings_of(run: Run, form: type[S]) -> S:
    """Return the run's settings.  Raises `Rejected`."""
    return strict_json.convert(dict(run.config), form, at="config")


def dataset_folder() -> Path | None:
    """Return the operator's folder of datasets, if there is one."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None
