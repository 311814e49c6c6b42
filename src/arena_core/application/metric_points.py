"""Which metric points can be kept, whatever keeps them."""

import math
from collections.abc import Sequence

from arena_core.application.ports import MetricPoint
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import trimmed

MOST_POINTS = 100_000
"""How many points one call may record."""
LARGEST_STEP = 2**63 - 1


def check(points: Sequence[MetricPoint]) -> None:
    """Raise `TooLarge` if there are too many, `Rejected` if one cannot be kept."""
    if len(points) > MOST_POINTS:
        raise TooLarge(
            f"There are {len(points)} points: record at most {MOST_POINTS} at a time.",
            field="points",
        )
    names: set[str] = set()
    for number, point in enumerate(points):
        try:
            if point.name not in names:
                trimmed(point.name)
                names.add(point.name)
            _check_value(point)
            check_step(point.step)
        except Rejected as refusal:
            raise Rejected(
                str(refusal), field=f"points.{number}.{refusal.field}"
            ) from refusal


def check_scores(score: float | None, fitness: float | None) -> None:
    """Raise `Rejected` unless both, as far as they are known, can be kept."""
    for name, value in (("score", score), ("fitness", fitness)):
        if value is not None and not math.isfinite(value):
            raise Rejected(
                f"The {name} is {value}: give a finite value, or leave it out.",
                field=name,
            )


def _check_value(point: MetricPoint) -> None:
    if not math.isfinite(point.value):
        raise Rejected(
            f"The value of {point.name} at step {point.step} is {point.value}: "
            f"record finite values only.",
            field="value",
        )


def check_step(step: int) -> None:
    """Raise `Rejected` unless there can be points, and a checkpoint, at `step`."""
    if not 0 <= step <= LARGEST_STEP:
        raise Rejected(
            f"The step is out of range: count from 0 to {LARGEST_STEP}.", field="step"
        )
