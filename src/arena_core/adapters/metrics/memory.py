"""Metric points in memory: gone with the process."""

import threading
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from attrs import frozen

from arena_core.application.metric_points import check
from arena_core.application.ports import Measured, MetricPoint, NumberedPoint
from arena_core.domain.course import Stretch
from arena_core.domain.ids import ExperimentId


@frozen
class _Recorded(NumberedPoint):
    log_position: int


class MemoryMetricStore:
    """A `MetricStore` in lists, one for each experiment, in the order of recording."""

    def __init__(self) -> None:
        self._recorded: dict[ExperimentId, list[_Recorded]] = defaultdict(list)
        self._lock = threading.Lock()

    def record(
        self,
        experiment_id: ExperimentId,
        measured: Sequence[Measured],
        *,
        log_position: int,
    ) -> None:
        """See `MetricStore`.  Raises `Rejected` or `TooLarge`, as `check` does."""
        check([each.point for each in measured])
        with self._lock:
            recorded = self._recorded[experiment_id]
            first = len(recorded) + 1
            recorded.extend(
                _Recorded(number, each.point, each.origin, log_position)
                for number, each in enumerate(measured, start=first)
            )

    def points(  # noqa: PLR0913 -- see `MetricStore`
        self,
        experiment_id: ExperimentId,
        course: Sequence[Stretch],
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int | None = None,
    ) -> Sequence[MetricPoint]:
        last = self._last(experiment_id, course, names, up_to)
        beyond = sorted(key for key in last if after is None or key > after)
        return [last[key] for key in beyond[:limit]]

    def latest(
        self,
        experiment_id: ExperimentId,
        course: Sequence[Stretch],
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
    ) -> Sequence[MetricPoint]:
        last = self._last(experiment_id, course, names, up_to)
        of_name = {name: last[step, name] for step, name in sorted(last)}
        return [of_name[name] for name in sorted(of_name)]

    def has_any(
        self, experiment_id: ExperimentId, training: int, *, up_to: int | None = None
    ) -> bool:
        seen = self._seen(experiment_id, None, up_to)
        return any(each.origin.training == training for each in seen)

    def at(
        self,
        experiment_id: ExperimentId,
        places: Sequence[tuple[int, int]],
        *,
        names: Sequence[str],
        up_to: int | None = None,
    ) -> Sequence[NumberedPoint]:
        wanted = set(places)
        return [
            NumberedPoint(each.number, each.point, each.origin)
            for each in self._seen(experiment_id, names, up_to)
            if (each.origin.training, each.point.step) in wanted
        ]

    def since(
        self, experiment_id: ExperimentId, after: int, *, limit: int
    ) -> Sequence[NumberedPoint]:
        with self._lock:
            recorded = self._recorded.get(experiment_id, ())
            page = list(islice(recorded, after, after + limit))
        return [NumberedPoint(each.number, each.point, each.origin) for each in page]

    def close(self) -> None:
        pass

    def _last(
        self,
        experiment_id: ExperimentId,
        course: Sequence[Stretch],
        names: Collection[str] | None,
        up_to: int | None,
    ) -> Mapping[tuple[int, str], MetricPoint]:
        seen = self._seen(experiment_id, names, up_to)
        in_order = sorted(seen, key=lambda each: each.origin.training)
        return {
            (each.point.step, each.point.name): each.point
            for each in in_order
            if any(part.has(each.origin.training, each.point.step) for part in course)
        }

    def _seen(
        self,
        experiment_id: ExperimentId,
        names: Collection[str] | None,
        up_to: int | None,
    ) -> Sequence[_Recorded]:
        with self._lock:
            recorded = list(self._recorded.get(experiment_id, ()))
        return [
            each
            for each in recorded
            if (up_to is None or each.log_position <= up_to)
            and (names is None or each.point.name in names)
        ]
