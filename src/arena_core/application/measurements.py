"""What was measured of an experiment: by its training, and by imports."""

import sys
from collections.abc import Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.keeping import points as scores
from arena_core.application.metric_tables import (
    MOST_ROWS,
    MetricTable,
    table,
    wanted_of,
)
from arena_core.application.ports import MetricPoint
from arena_core.application.session import Session
from arena_core.domain import checkpoint_import, experiment
from arena_core.domain.ids import ExperimentId
from arena_core.domain.values import LONGEST_NAME

_LAST_NAME = chr(sys.maxunicode) * (LONGEST_NAME + 1)
"""Comes after every name that there can be."""


@frozen
class Measurements:
    """Reading metric points.

    The scores that came with an import are among them from the moment at which it has
    succeeded, unless others were measured at their step.
    """

    session: Session

    def points(
        self,
        experiment_id: UUID,
        *,
        names: Sequence[str] | None = None,
        after: tuple[int, str] | None = None,
        limit: int | None = None,
    ) -> Sequence[MetricPoint]:
        """Return the points, by step and then name.

        `after`: only those beyond this step and name.  `limit`: as many at most.
        Raises `NotFound` without the experiment.
        """
        imported = self._imported(experiment_id, names)
        measured = self.session.core.metrics.points(
            ExperimentId(experiment_id),
            names=names,
            up_to=self.session.as_of,
            after=after,
            limit=limit,
        )
        beyond = [p for p in imported if after is None or (p.step, p.name) > after]
        if not beyond:
            return measured
        # What of the measured is beyond the limit comes after all that is returned.
        every = {(p.step, p.name): p for p in (*beyond, *measured)}
        return [every[which] for which in sorted(every)][:limit]

    def table(
        self,
        experiment_id: UUID,
        *,
        columns: Sequence[str] = (),
        rows: int = MOST_ROWS,
        after_step: int = -1,
    ) -> MetricTable:
        """Return a part of the points as a table; see `metric_tables.table`.

        No more is read than the part may need.  Raises `NotFound` and `Rejected`.
        """
        known = [point.name for point in self.latest(experiment_id)]
        wanted = wanted_of(columns, known)
        # One row more, so that it can be told whether there are more.
        most = (min(rows, MOST_ROWS) + 1) * len(wanted)
        points = self.points(
            experiment_id, names=wanted, after=(after_step, _LAST_NAME), limit=most
        )
        return table(
            points, columns=wanted, rows=rows, after_step=after_step, known=wanted
        )

    def latest(
        self, experiment_id: UUID, *, names: Sequence[str] | None = None
    ) -> Sequence[MetricPoint]:
        """Return the last point of each metric, by name.  Raises `NotFound`."""
        imported = self._imported(experiment_id, names)
        measured = self.session.core.metrics.latest(
            ExperimentId(experiment_id), names=names, up_to=self.session.as_of
        )
        # Of one step the measured one comes last, and counts.
        by_step = sorted((*imported, *measured), key=lambda point: point.step)
        last = {point.name: point for point in by_step}
        return [last[name] for name in sorted(last)]

    def _imported(
        self, experiment_id: UUID, names: Sequence[str] | None
    ) -> Sequence[MetricPoint]:
        """Return what imports that have succeeded say of their checkpoints."""
        self.session.find(experiment.KIND, experiment_id)
        rows = self.session.query(checkpoint_import.KIND, parent=experiment_id)
        orders = [
            row.state.order
            for row in sorted(rows, key=lambda row: row.position)
            if row.state.status is checkpoint_import.Status.SUCCEEDED
        ]
        return [
            point
            for order in orders
            for point in scores(
                order.step, order.scores.training, order.scores.evaluation
            )
            if names is None or point.name in names
        ]
