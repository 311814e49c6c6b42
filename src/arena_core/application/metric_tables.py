"""Metric points as a table, one row for each step."""

import csv
import io
from collections.abc import Sequence
from itertools import groupby, islice

from arena_core.application.ports import MetricPoint
from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown

STEP = "step"
MOST_ROWS = 50_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes a cell for a formula by."""


def names_of(points: Sequence[MetricPoint]) -> list[str]:
    """Return the names of what was measured, sorted, each once."""
    return sorted({point.name for point in points})


def as_csv(
    points: Sequence[MetricPoint], *, columns: Sequence[str] = (), rows: int = MOST_ROWS
) -> str:
    """Return the first `rows` rows of a table, after a row with the names.

    `points` come by step.  `columns`: the metrics wanted, none for all of them; what
    was not measured at a step stays empty.  Raises `Rejected` for an unknown one.
    """
    known = names_of(points)
    wanted = list(dict.fromkeys(columns)) or known
    for name in wanted:
        _check(name, known)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([STEP, *map(_heading, wanted)])
    of_steps = groupby(
        (point for point in points if point.name in wanted), key=lambda p: p.step
    )
    for step, measured in islice(of_steps, min(rows, MOST_ROWS)):
        values = {point.name: point.value for point in measured}
        table.writerow([step, *(values.get(name, "") for name in wanted)])
    return text.getvalue()


def _heading(name: str) -> str:
    """Return what stands above a column, which no spreadsheet carries out."""
    return f"'{name}" if name.startswith(_FORMULA) else name


def _check(name: str, known: Sequence[str]) -> None:
    if name not in known:
        there = ", ".join(shown(each) for each in known) or "none"
        raise Rejected(
            f"There is no metric called {shown(name)}; there are: {there}.",
            field="metric",
        )
