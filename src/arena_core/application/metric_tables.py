"""Metric points as a table, one row for each step."""

import csv
import io
from collections.abc import Sequence
from itertools import groupby, islice

from attrs import frozen

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


@frozen
class MetricTable:
    """Rows by step: the step first, then a value for each other column."""

    columns: list[str]
    rows: list[list[int | float | None]]
    """null: it was not measured at this step."""
    next_after_step: int | None
    """Where the rest begins; null: there is none."""


def table(
    points: Sequence[MetricPoint],
    *,
    columns: Sequence[str] = (),
    rows: int = MOST_ROWS,
    after_step: int = -1,
    known: Sequence[str] | None = None,
) -> MetricTable:
    """Return `rows` rows at most, of steps above `after_step`.

    `points` come by step.  `columns`: the metrics wanted, none for all of them.
    `known`: all that there are; None: those of `points`.  Raises `Rejected` for an
    unknown one.
    """
    wanted = wanted_of(columns, names_of(points) if known is None else known)
    chosen = (p for p in points if p.name in wanted and p.step > after_step)
    limit = min(rows, MOST_ROWS)
    of_steps = groupby(chosen, key=lambda point: point.step)
    made: list[list[int | float | None]] = []
    last = after_step
    for step, measured in islice(of_steps, limit):
        values = {point.name: point.value for point in measured}
        made.append([step, *map(values.get, wanted)])
        last = step
    is_cut = bool(made) and next(of_steps, None) is not None
    after = last if is_cut else None
    return MetricTable([STEP, *wanted], made, after)


def wanted_of(columns: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the metrics that are wanted, each once.  Raises `Rejected`."""
    wanted = list(dict.fromkeys(columns)) or list(known)
    for name in wanted:
        _check(name, known)
    return wanted


def as_csv(
    points: Sequence[MetricPoint], *, columns: Sequence[str] = (), rows: int = MOST_ROWS
) -> str:
    """Return the first `rows` rows of a table, after a row with the names.

    `points` come by step.  `columns`: the metrics wanted, none for all of them; what
    was not measured at a step stays empty.  Raises `Rejected` for an unknown one.
    """
    return written(table(points, columns=columns, rows=rows))


def written(shown: MetricTable) -> str:
    """Return a table as CSV, after a row with the names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_heading, shown.columns))
    writer.writerows(shown.rows)
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
