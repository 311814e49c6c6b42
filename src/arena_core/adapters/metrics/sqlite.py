"""Metric points in SQLite, beside the event log or in a file of their own.

No event tells of them, so nothing can rebuild them: they are as durable as the log.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from arena_core.adapters.sqlite import BUSY_TIMEOUT_S, Database, Wording
from arena_core.application.metric_points import check
from arena_core.application.ports import MetricPoint, NumberedPoint
from arena_core.domain.errors import Corrupt
from arena_core.domain.ids import ExperimentId

WORDING = Wording("metric store", Corrupt, "restore it from a back-up")

_SCHEMA = (
    # The key is for those who ask by name.  `recorded` numbers the points of an
    # experiment in the order of recording; an earlier release counted those of each
    # step and name, so that several points have one number there.
    """CREATE TABLE IF NOT EXISTS metric_points (
        experiment BLOB NOT NULL,
        name TEXT NOT NULL,
        step INTEGER NOT NULL,
        recorded INTEGER NOT NULL,
        value REAL NOT NULL,
        log_position INTEGER NOT NULL,
        PRIMARY KEY (experiment, name, step, recorded)
    ) WITHOUT ROWID""",
    """CREATE INDEX IF NOT EXISTS metric_points_as_recorded
        ON metric_points (experiment, recorded)""",
    # The order of pages: without it each of them would sort all points.
    """CREATE INDEX IF NOT EXISTS metric_points_by_step
        ON metric_points (experiment, step, name, recorded)""",
    """CREATE TRIGGER IF NOT EXISTS metric_points_never_change
        BEFORE UPDATE ON metric_points
        BEGIN SELECT RAISE(ABORT, 'metric points are append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS metric_points_never_go
        BEFORE DELETE ON metric_points
        BEGIN SELECT RAISE(ABORT, 'metric points are append-only'); END""",
    # REPLACE deletes without the trigger above.
    """CREATE TRIGGER IF NOT EXISTS metric_points_never_give_way
        BEFORE INSERT ON metric_points WHEN EXISTS (
            SELECT 1 FROM metric_points
            WHERE experiment = NEW.experiment AND name = NEW.name
                AND step = NEW.step AND recorded = NEW.recorded
        )
        BEGIN SELECT RAISE(ABORT, 'metric points are append-only'); END""",
)
_RECORD = """
    INSERT INTO metric_points
    SELECT :experiment, :name, :step, coalesce(max(recorded), 0) + 1, :value, :head
    FROM metric_points WHERE experiment = :experiment
"""
# SQLite takes the other columns from the row in which `recorded` is the largest.
_POINTS = """
    SELECT step, name, value, max(recorded) FROM metric_points
    WHERE experiment = :experiment AND log_position <= :up_to
        AND (step, name) > (:after_step, :after_name)
    GROUP BY step, name ORDER BY step, name LIMIT :limit
"""
_NAMED_POINTS = """
    SELECT step, name, value, max(recorded) FROM metric_points
    WHERE experiment = :experiment AND log_position <= :up_to
        AND (step, name) > (:after_step, :after_name)
        AND name IN (SELECT value FROM json_each(:names))
    GROUP BY step, name ORDER BY step, name LIMIT :limit
"""
_BEFORE_ALL = (-1, "")
# From name to name along the key, and of each to the end of its steps.
_LATEST = """
    WITH RECURSIVE names(name) AS (
        SELECT min(name) FROM metric_points WHERE experiment = :experiment
        UNION ALL
        SELECT (
            SELECT min(further.name) FROM metric_points AS further
            WHERE further.experiment = :experiment AND further.name > names.name
        ) FROM names WHERE names.name IS NOT NULL
    )
    SELECT point.step, point.name, point.value FROM names JOIN metric_points AS point
        ON point.experiment = :experiment AND point.name = names.name
        AND (point.step, point.recorded) = (
            SELECT step, recorded FROM metric_points
            WHERE experiment = :experiment AND name = names.name
                AND log_position <= :up_to
            ORDER BY step DESC, recorded DESC LIMIT 1
        )
    WHERE :names IS NULL OR names.name IN (SELECT value FROM json_each(:names))
    ORDER BY point.name
"""
# Those of one number come together: who goes on after it has seen all of them.
_SINCE = """
    SELECT recorded, step, name, value FROM metric_points
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


class SQLiteMetricStore:
    """A `MetricStore` that several threads and processes can share."""

    def __init__(self, database: Database) -> None:
        """Not for callers: see `open`."""
        self._database = database

    @classmethod
    def open(
        cls, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> "SQLiteMetricStore":
        """Open the file, which may be missing and may hold other tables too."""
        database = Database(
            path, WORDING, synchronous="FULL", busy_timeout_s=busy_timeout_s
        )
        try:
            with database.transaction() as connection, WORDING.translated():
                for statement in _SCHEMA:
                    connection.execute(statement)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def record(
        self,
        experiment_id: ExperimentId,
        points: Sequence[MetricPoint],
        *,
        log_position: int,
    ) -> None:
        """See `MetricStore`.  Raises `Rejected` or `TooLarge`, as `check` does."""
        check(points)
        records = (
            {
                "experiment": experiment_id.bytes,
                "name": point.name,
                "step": point.step,
                "value": point.value,
                "head": log_position,
            }
            for point in points
        )
        with self._database.transaction() as connection, WORDING.translated():
            connection.executemany(_RECORD, records)

    def points(
        self,
        experiment_id: ExperimentId,
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
        return self._found(_POINTS if names is None else _NAMED_POINTS, asked)

    def latest(
        self,
        experiment_id: ExperimentId,
        *,
        names: Sequence[str] | None = None,
        up_to: int | None = None,
    ) -> Sequence[MetricPoint]:
        return self._found(_LATEST, _asked(experiment_id, names, up_to))

    def _found(
        self, statement: str, asked: Mapping[str, object]
    ) -> Sequence[MetricPoint]:
        with self._database.reading() as connection, WORDING.translated():
            found = connection.execute(statement, asked)
            return [MetricPoint(*record[:3]) for record in found]

    def since(
        self, experiment_id: ExperimentId, after: int, *, limit: int
    ) -> Sequence[NumberedPoint]:
        asked: dict[str, object] = {
            "experiment": experiment_id.bytes,
            "after": after,
            "limit": limit,
            "all": _ALL,
        }
        with self._database.reading() as connection, WORDING.translated():
            found = connection.execute(_SINCE, asked)
            return [
                NumberedPoint(number, MetricPoint(*point)) for number, *point in found
            ]

    def close(self) -> None:
        self._database.close()


def _asked(
    experiment_id: ExperimentId, names: Sequence[str] | None, up_to: int | None
) -> Mapping[str, object]:
    return {
        "experiment": experiment_id.bytes,
        "up_to": _ALL if up_to is None else up_to,
        "names": None if names is None else msgspec.json.encode(list(names)).decode(),
    }
