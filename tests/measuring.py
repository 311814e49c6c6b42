"""Metric points as trainings have measured them."""

from collections.abc import Iterable

from arena_core.application.ports import Measured, MetricPoint
from arena_core.domain.course import Origin, Source


def of_training(number: int, points: Iterable[MetricPoint]) -> list[Measured]:
    """Return `points` as what training `number` has measured."""
    origin = Origin(number, Source.TRAINING)
    return [Measured(point, origin) for point in points]
