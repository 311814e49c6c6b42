"""Metric points in SQLite, beside the event log or in a file of their own.

No event tells of them, so nothing can rebuild them: they are as durable as the log.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from arena_core.adapters.metrics import sqlite_schema
from arena_core.adapters.metrics.sqlite_schema import Requests
from arena_core.adapters.sqlite import BUSY_TIMEOUT_S, Database, Wording
from arena_core.application.metric_points import check
from arena_core.application.ports import Measured, MetricPoint, NumberedPoint
from arena_core.domain.course import Origin, Source, Stretch
from arena_core.domain.errors import Corrupt
from arena_core.domain.ids import Digest, ExperimentId

WORDING = Wording("metric store", Corrupt, "restore it from a back-up")

_RECORD = """
    INSERT INTO metric_points
    SELECT :experiment, :training, :name, :step, coalesce(max(recorded), 0) + 1,
        :value, :head, :source, :digest
    FROM metric_points WHERE experiment = :experiment
"""
# SQLite takes the other columns from the row in which `recorded` is the largest.
_POINTS = """
    SELECT step, name, value, max(recorded) FROM metric_points
    WHERE experiment = :experiment AND training = :training
        AND log_position <= :up_to AND step <= :last_step
        AND (step, name) > (:after_step, :after_name)
    GROUP BY step, name ORDER BY step, name LIMIT :limit
"""
_NAMED_POINTS = """
    SELECT step, name, value, max(recorded) FROM metric_points
    WHERE experiment = :experiment AND training = :training
        AND log_position <= :up_to AND step <= :last_step
        AND (step, name) > (:after_step, :after_name)
        AND name IN (SELECT value FROM json_each(:names))
    GROUP BY step, name ORDER BY step, name LIMIT :limit
"""
_BEFORE_ALL = (-1, "")
# From name to name along the key, and of each to the end of its steps.
_LATEST = """
    WITH RECURSIVE names(name) AS (
        SELECT min(name) FROM metric_points
        WHERE experiment = :experiment AND training = :training
        UNION ALL
        SELECT (
            SELECT min(further.name) FROM metric_points AS further
            WHERE further.experiment = :experiment AND further.training = :training
                AND further.name > names.name
        ) FROM names WHERE names.name IS NOT NULL
    )
    SELECT point.step, point.name, point.value FROM names JOIN metric_points AS point
        ON point.experiment = :experiment AND point.training = :training
        AND point.name = names.name
        AND (point.step, point.recorded) = (
            SELECT step, recorded FROM metric_points
            WHERE experiment = :experiment AND training = :training
                AND name = names.name
                AND log_position <= :up_to AND step <= :last_step
            ORDER BY step DESC, recorded DESC LIMIT 1
        )
    WHERE :names IS NULL OR names.name IN (SELECT value FROM json_each(:names))
    ORDER BY point.name
"""
_HAS_ANY = """
    SELECT EXISTS (
        SELECT 1 FROM metric_points
        WHERE experiment = :experiment AND training = :training
            AND log_position <= :up_to
    )
"""
_AT = """
    SELECT recorded, step, point.name, point.value, training, source, digest
    FROM json_each(:places) AS place CROSS JOIN json_each(:names) AS wanted
    CROSS JOIN metric_points AS point
        ON point.experiment = :experiment
        AND point.training = json_extract(place.value, '$[0]')
        AND point.name = wanted.value
        AND point.step = json_extract(place.value, '$[1]')
    WHERE log_position <= :up_to ORDER BY recorded
"""
# Those of one number come together: who goes on after it has seen all of them.
_SINCE = """
    SELECT recorded, step, name, value, training, source, digest FROM metric_points
    WHERE experiment = :experiment AND recorded > :after
        AND recorded <= coalesce((
            SELECT recorded FROM metric_points
            WHERE experiment = :experiment AND recorded > :after
            ORDER BY recorded LIMIT 1 OFFSET :limit - 1
        ), :all)
    ORDER BY recorded, step, name
"""
_ALL = 2**63 - 1
_NO_LIMIT = -1


def _never_asked(_: ExperimentId) -> Sequence[int]:
    return ()


class SQLiteMetricStore:
    """A `MetricStore` that several threads and processes can share."""

    def __init__(self, database: Database) -> None:
        """Not for callers: see `open`."""
        self._database = database

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        requests: Requests = _never_asked,
    ) -> "SQLiteMetricStore":
        """Open the file, which may be missing and may hold other tables too.

        `requests`: asked once, about what a release has recorded that did not say
        which training it belongs to.
        """
        database = Database(
            path, WORDING, synchronous="FULL", busy_timeout_s=busy_timeout_s
        )
        try:
            with database.transaction() as connection, WORDING.translated():
                sqlite_schema.make(connection, requests)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def record(
        self,
        experiment_id: ExperimentId,
        measured: Sequence[Measured],
        *,
        log_position: int,
    ) -> None:
        """See `MetricStore`.  Raises `Rejected` or `TooLarge`, as `check` does."""
        check([each.point for each in measured])
        records = (
            {
                "experiment": experiment_id.bytes,
                "training": each.origin.training,
                "name": each.point.name,
                "step": each.point.step,
                "value": each.point.value,
                "head": log_position,
                "source": each.origin.source.value,
                "digest": each.origin.digest,
            }
            for each in measured
        )
        with self._database.transaction() as connection, WORDING.translated():
            connection.executemany(_RECORD, records)

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
        after_step, after_name = _BEFORE_ALL if after is None else after
        asked = {
            **_asked(experiment_id, names, up_to),
            "after_step": after_step,
            "after_name": after_name,
            "limit": _NO_LIMIT if limit is None else limit,
        }
        parts = self._found(_POINTS if names is None else _NAMED_POINTS, asked, course)
        if len(parts) == 1:
            return parts[0]
        every = {(point.step, point.name): point for part in parts for point in part}
        return [every[which] for which in sorted(every)][:limit]

    def latest(
        self,
        experiment_id: ExperimentId,
        course: Sequence[Stretch],
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
    ) -> Sequence[MetricPoint]:
        asked = _asked(experiment_id, names, up_to)
        found = [p for part in self._found(_LATEST, asked, course) for p in part]
        # Of one step that of the later training comes last, and counts.
        last = {p.name: p for p in sorted(found, key=lambda point: point.step)}
        return [last[name] for name in sorted(last)]

    def has_any(
        self, experiment_id: ExperimentId, training: int, *, up_to: int | None = None
    ) -> bool:
        asked = {**_asked(experiment_id, None, up_to), "training": training}
        ((found,),) = self._read(_HAS_ANY, asked)
        return bool(found)

    def at(
        self,
        experiment_id: ExperimentId,
        places: Sequence[tuple[int, int]],
        *,
        names: Sequence[str],
        up_to: int | None = None,
    ) -> Sequence[NumberedPoint]:
        every = msgspec.json.encode(sorted(set(places))).decode()
        asked = {**_asked(experiment_id, sorted(set(names)), up_to), "places": every}
        return [_numbered(*record) for record in self._read(_AT, asked)]

    def since(
        self, experiment_id: ExperimentId, after: int, *, limit: int
    ) -> Sequence[NumberedPoint]:
        asked: dict[str, object] = {
            "experiment": experiment_id.bytes,
            "after": after,
            "limit": limit,
            "all": _ALL,
        }
        return [_numbered(*record) for record in self._read(_SINCE, asked)]

    def close(self) -> None:
        self._database.close()

    def _found(
        self, statement: str, asked: Mapping[str, object], course: Sequence[Stretch]
    ) -> Sequence[Sequence[MetricPoint]]:
        """Return what a statement finds of each part of a course, the latest last."""
        with self._database.reading() as connection, WORDING.translated():
            return [
                [MetricPoint(*record[:3]) for record in found]
                for part in reversed(course)
                for found in [connection.execute(statement, {**asked, **_within(part)})]
            ]

    def _read(
        self, statement: str, asked: Mapping[str, object]
    ) -> Sequence[tuple[Any, ...]]:
        with self._database.reading() as connection, WORDING.translated():
            return connection.execute(statement, asked).fetchall()


def _asked(
    experiment_id: ExperimentId, names: Sequence[str] | None, up_to: int | None
) -> Mapping[str, object]:
    return {
        "experiment": experiment_id.bytes,
        "up_to": _ALL if up_to is None else up_to,
        "names": None if names is None else msgspec.json.encode(list(names)).decode(),
    }


def _within(part: Stretch) -> Mapping[str, object]:
    last_step = _ALL if part.up_to is None else part.up_to
    return {"training": part.training, "last_step": last_step}


def _numbered(  # noqa: PLR0913, PLR0917 -- the columns
    number: int,
    step: int,
    name: str,
    value: float,
    training: int,
    source: str,
    digest: Digest | None,
) -> NumberedPoint:
    origin = Origin(training, Source(source), digest)
    return NumberedPoint(number, MetricPoint(step, name, value), origin)
