"""Which metric points can be kept, whatever keeps them."""

import math
from collections.abc import Sequence

from arena_core.application.ports import MetricPoint
from arena_core.domain.errors import Rejected, TooLarge

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
    for point in points:
        if not math.isfinite(point.value):
            raise Rejected(
                f"The value of {point.name} at step {point.step} is {point.value}: "
                f"record finite values only.",
                field="value",
            )
        if not 0 <= point.step <= LARGEST_STEP:
            raise Rejected(
                f"The step {point.step} of {point.name} is out of range: "
                f"count from 0 to {LARGEST_STEP}.",
                field="step",
            )
