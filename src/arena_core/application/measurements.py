"""What was measured of an experiment: by its trainings, by hand, and by imports."""

import sys
from collections.abc import Sequence
from uuid import UUID

from attrs import frozen

from arena_core.application.metric_tables import (
    MOST_ROWS,
    MetricTable,
    table,
    wanted_of,
)
from arena_core.application.ports import MetricPoint, NumberedPoint
from arena_core.application.scores import imported
from arena_core.application.session import Session
from arena_core.domain import experiment
from arena_core.domain.course import Stretch, course, shown
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import Experiment
from arena_core.domain.ids import ExperimentId
from arena_core.domain.values import LONGEST_NAME

_LAST_NAME = chr(sys.maxunicode) * (LONGEST_NAME + 1)
"""Comes after every name that there can be."""


@frozen
class News:
    """What was recorded, in the order of recording."""

    points: Sequence[NumberedPoint]
    after: int
    """The number after which it goes on."""
    is_cut: bool
    """Whether there may be more by now."""


@frozen
class Measurements:
    """Reading metric points: the course of one training.

    `training`: its number; 0 stands for what there was before the first.  None: the
    latest that has measured or written anything.  The scores that came with an import
    are there as long as its checkpoint is, unless others were measured at their step.
    """

    session: Session

    def points(
        self,
        experiment_id: UUID,
        *,
        names: Sequence[str] | None = None,
        after: tuple[int, str] | None = None,
        limit: int | None = None,
        training: int | None = None,
    ) -> Sequence[MetricPoint]:
        """Return the points, by step and then name.

        `after`: only those beyond this step and name.  `limit`: as many at most.
        Raises `NotFound` without the experiment, `Rejected` without the training.
        """
        state = self._state(experiment_id)
        looked_at = self._course(state, training)
        said = self._imported(state, looked_at, names)
        measured = self.session.core.metrics.points(
            state.id,
            looked_at,
            names=names,
            up_to=self.session.as_of,
            after=after,
            limit=limit,
        )
        beyond = [p for p in said if after is None or (p.step, p.name) > after]
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
        training: int | None = None,
    ) -> MetricTable:
        """Return a part of the points as a table; see `metric_tables.table`.

        No more is read than the part may need.  Raises `NotFound` and `Rejected`.
        """
        latest = self.latest(experiment_id, training=training)
        wanted = wanted_of(columns, [point.name for point in latest])
        # One row more, so that it can be told whether there are more.
        most = (min(rows, MOST_ROWS) + 1) * len(wanted)
        points = self.points(
            experiment_id,
            names=wanted,
            after=(after_step, _LAST_NAME),
            limit=most,
            training=training,
        )
        return table(
            points, columns=wanted, rows=rows, after_step=after_step, known=wanted
        )

    def latest(
        self,
        experiment_id: UUID,
        *,
        names: Sequence[str] | None = None,
        training: int | None = None,
    ) -> Sequence[MetricPoint]:
        """Return the last point of each metric, by name.  Raises as `points` does."""
        state = self._state(experiment_id)
        looked_at = self._course(state, training)
        said = self._imported(state, looked_at, names)
        measured = self.session.core.metrics.latest(
            state.id, looked_at, names=names, up_to=self.session.as_of
        )
        # Of one step the measured one comes last, and counts.
        by_step = sorted((*said, *measured), key=lambda point: point.step)
        last = {point.name: point for point in by_step}
        return [last[name] for name in sorted(last)]

    def of_training(self, experiment_id: UUID) -> Sequence[MetricPoint]:
        """Return `latest` of the latest training, whether it has left anything or not.

        Of one that begins anew nothing is told until it has measured something.
        """
        latest = len(self._state(experiment_id).begun)
        return self.latest(experiment_id, training=latest)

    def recorded(
        self,
        experiment_id: UUID,
        after: int,
        *,
        limit: int,
        training: int | None = None,
    ) -> News:
        """Return what was recorded after a number, as far as it is of the course.

        `limit`: about as many are looked at.
        """
        metrics = self.session.core.metrics
        found = metrics.since(ExperimentId(experiment_id), after, limit=limit)
        # Looked at after the points: the first of a training are of its course.
        state = self._state(experiment_id)
        if not found:
            return News((), after, is_cut=False)
        looked_at = self._course(state, training)
        counting = [
            each
            for each in found
            if _is_within(looked_at, each.origin.training, each.point.step)
        ]
        return News(counting, found[-1].number, is_cut=len(found) >= limit)

    def has_recorded(self, experiment_id: UUID, number: int) -> bool:
        """Say whether a point of the experiment has this number, or a greater one."""
        self._state(experiment_id)
        metrics = self.session.core.metrics
        return bool(metrics.since(ExperimentId(experiment_id), number - 1, limit=1))

    # --- how -----------------------------------------------------------------------

    def _state(self, experiment_id: UUID) -> Experiment:
        state: Experiment = self.session.find(experiment.KIND, experiment_id).state
        return state

    def _course(self, state: Experiment, training: int | None) -> Sequence[Stretch]:
        if training is None:
            return shown(state.begun, lambda number: self._has_any(state, number))
        if 0 <= training <= len(state.begun):
            return course(state.begun, training)
        raise Rejected(
            f"There is no training {training} of this experiment: count from 0, which "
            f"is what there was before the first, to {len(state.begun)}.",
            field="training",
        )

    def _has_any(self, state: Experiment, training: int) -> bool:
        metrics, as_of = self.session.core.metrics, self.session.as_of
        return metrics.has_any(state.id, training, up_to=as_of)

    def _imported(
        self,
        state: Experiment,
        looked_at: Sequence[Stretch],
        names: Sequence[str] | None,
    ) -> Sequence[MetricPoint]:
        """Return what imports say of their checkpoints, as far as it is looked at."""
        return [
            point
            for written, point in imported(self.session, state)
            if names is None or point.name in names
            if _is_within(looked_at, written.belongs_to, written.step)
        ]


def _is_within(looked_at: Sequence[Stretch], training: int, step: int) -> bool:
    return any(part.has(training, step) for part in looked_at)
