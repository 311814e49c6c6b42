"""Metric points in memory: gone with the process."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice

from arena_core.application.metric_points import check
from arena_core.application.ports import MetricPoint, NumberedPoint
from arena_core.domain.ids import ExperimentId


class MemoryMetricStore:
    """A `MetricStore` in lists, one for each experiment, in the order of recording."""

    def __init__(self) -> None:
        self._recorded: dict[ExperimentId, list[tuple[int, MetricPoint]]] = defaultdict(
            list
        )
        self._lock = threading.Lock()

    def record(
        self,
        experiment_id: ExperimentId,
        points: Sequence[MetricPoint],
        *,
        log_position: int,
    ) -> None:
        """See `MetricStore`.  Raises `Rejected` or `TooLarge`, as `check` does."""
        check(points)
        with self._lock:
            self._recorded[experiment_id].extend((log_position, p) for p in points)

    def points(
        self,
        experiment_id: ExperimentId,
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
        after: tuple[int, str] | None = None,
        limit: int | None = None,
    ) -> Sequence[MetricPoint]:
        last = self._last(experiment_id, names, up_to)
        beyond = sorted(key for key in last if after is None or key > after)
        return [last[key] for key in beyond[:limit]]

    def latest(
        self,
        experiment_id: ExperimentId,
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
    ) -> Sequence[MetricPoint]:
        last = self._last(experiment_id, names, up_to)
        of_name = {name: last[step, name] for step, name in sorted(last)}
        return [of_name[name] for name in sorted(of_name)]

    def _last(
        self,
        experiment_id: ExperimentId,
        names: Sequence[str] | None,
        up_to: int | None,
    ) -> Mapping[tuple[int, str], MetricPoint]:
        with self._lock:
            recorded = list(self._recorded.get(experiment_id, ()))
        return {
            (point.step, point.name): point
            for position, point in recorded
            if (up_to is None or position <= up_to)
            and (names is None or point.name in names)
        }

    def since(
        self, experiment_id: ExperimentId, after: int, *, limit: int
    ) -> Sequence[NumberedPoint]:
        with self._lock:
            recorded = self._recorded.get(experiment_id, ())
            page = list(islice(recorded, after, after + limit))
        return [
            NumberedPoint(number, point)
            for number, (_, point) in enumerate(page, start=after + 1)
        ]

    def close(self) -> None:
        pass
