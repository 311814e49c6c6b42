"""How long a model takes for a batch: measured once, when it is loaded.

What is measured decides where a batch runs (on the event loop, or in a thread), how
many rows are worth putting together, and how long a request can expect to wait.
"""

import time
from collections.abc import Callable
from typing import Any

from attrs import frozen

LARGEST_BATCH = 1024
USUAL_BATCH = 32
"""So many rows are put together in any case, for a run costs more than its weights:
the way to a thread and back."""
WORTHWHILE = 0.9
"""A batch is doubled while that makes a row cost less than this share."""
LONGEST_RUN_S = 0.02
"""No larger batch is tried once one has taken this long."""
TRIES = 5


Run = Callable[[int], Any]
"""Runs a batch of so many rows."""


@frozen
class Pace:
    """A straight line through what was measured; seconds."""

    fixed_s: float
    row_s: float
    most_rows: int
    """Of a batch: a row of a larger one costs as much."""

    def seconds(self, rows: int) -> float:
        """Return how long a batch of so many rows takes, about."""
        return self.fixed_s + rows * self.row_s


Measure = Callable[[Run], Pace]

UNKNOWN = Pace(fixed_s=1.0, row_s=0.0, most_rows=1)
"""Of a model that cannot be tried: as if it were slow."""


def measure(run: Run) -> Pace:
    """Measure `run(rows)` with 1, 2, 4... rows, for as long as more is worthwhile."""
    rows, taken = 1, _least(run, 1)
    one = taken
    while rows < LARGEST_BATCH and taken < LONGEST_RUN_S:
        longer = _least(run, 2 * rows)
        if rows >= USUAL_BATCH and longer >= 2 * taken * WORTHWHILE:
            break
        rows, taken = 2 * rows, longer
    if taken >= rows * one * WORTHWHILE:  # nobody gains by waiting for the others
        return Pace(0.0, one, 1)
    row_s = max(0.0, (taken - one) / (rows - 1))
    return Pace(max(0.0, one - row_s), row_s, rows)


def try_once(run: Run) -> Pace:
    """Run one row, of which nothing is measured: for what is only looked at."""
    run(1)
    return UNKNOWN


def _least(run: Run, rows: int) -> float:
    """Return the least time of a few tries: whatever disturbs makes it longer."""
    return min(_once(run, rows) for _ in range(TRIES))


def _once(run: Run, rows: int) -> float:
    begun = time.perf_counter()
    run(rows)
    return time.perf_counter() - begun
