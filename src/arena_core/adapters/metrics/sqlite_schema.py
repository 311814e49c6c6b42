"""The table of metric points in SQLite, and bringing that of an earlier release up."""

import sqlite3
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec

from arena_core.domain.course import Source
from arena_core.domain.ids import ExperimentId

Requests = Callable[[ExperimentId], Sequence[int]]
"""Returns where in the log trainings of an experiment were asked for."""

# The key is for those who ask by name.  `recorded` numbers the points of an
# experiment in the order of recording; the first release counted those of each step
# and name, so that several points have one number there.
_TABLE = """CREATE TABLE IF NOT EXISTS metric_points (
    experiment BLOB NOT NULL,
    training INTEGER NOT NULL,
    name TEXT NOT NULL,
    step INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    value REAL NOT NULL,
    log_position INTEGER NOT NULL,
    source TEXT NOT NULL,
    digest TEXT,
    PRIMARY KEY (experiment, training, name, step, recorded)
) WITHOUT ROWID"""
_INDICES = (
    """CREATE INDEX IF NOT EXISTS metric_points_as_recorded
        ON metric_points (experiment, recorded)""",
    # The order of pages: without it each of them would sort all points.
    """CREATE INDEX IF NOT EXISTS metric_points_by_step
        ON metric_points (experiment, training, step, name, recorded)""",
)
_TRIGGERS = (
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
            WHERE experiment = NEW.experiment AND training = NEW.training
                AND name = NEW.name AND step = NEW.step AND recorded = NEW.recorded
        )
        BEGIN SELECT RAISE(ABORT, 'metric points are append-only'); END""",
)
_COLUMNS = "SELECT name FROM pragma_table_info('metric_points')"
_PUT_ASIDE = "ALTER TABLE metric_points RENAME TO metric_points_before"
_EXPERIMENTS = "SELECT DISTINCT experiment FROM metric_points_before"
# What was recorded since the second training was asked for belongs to the second.
_COPY = """
    INSERT INTO metric_points
    SELECT experiment,
        (SELECT count(*) FROM json_each(:requests) WHERE value <= log_position),
        name, step, recorded, value, log_position, :source, NULL
    FROM metric_points_before WHERE experiment = :experiment
"""
# With its indices and triggers; dropping a table fires none of them.
_DROP = "DROP TABLE metric_points_before"


def make(connection: sqlite3.Connection, requests: Requests) -> None:
    """Make table, indices and triggers, or bring them up.  Within a transaction."""
    columns = {name for (name,) in connection.execute(_COLUMNS)}
    if columns and "training" not in columns:
        _bring_up(connection, requests)
    for statement in (_TABLE, *_INDICES, *_TRIGGERS):
        connection.execute(statement)


def _bring_up(connection: sqlite3.Connection, requests: Requests) -> None:
    """Copy all points into a table of today; the log says when they were recorded."""
    connection.execute(_PUT_ASIDE)
    connection.execute(_TABLE)
    for (experiment,) in connection.execute(_EXPERIMENTS).fetchall():
        asked = requests(ExperimentId(UUID(bytes=experiment)))
        copied = {
            "experiment": experiment,
            "requests": msgspec.json.encode(list(asked)).decode(),
            "source": Source.UNKNOWN.value,
        }
        connection.execute(_COPY, copied)
    connection.execute(_DROP)
