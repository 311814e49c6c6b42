"""A file of an earlier release opens with all its points, each given to a training."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import groupby

import pytest

import arena_core
from arena_core.adapters.metrics.sqlite import SQLiteMetricStore
from arena_core.application.ports import MetricPoint
from arena_core.domain.course import Source, Stretch
from arena_core.domain.errors import Unavailable
from measuring import of_training

from contract.metric_store import EXPERIMENT, OTHER

BEFORE = """
CREATE TABLE metric_points (
    experiment BLOB NOT NULL,
    name TEXT NOT NULL,
    step INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    value REAL NOT NULL,
    log_position INTEGER NOT NULL,
    PRIMARY KEY (experiment, name, step, recorded)
) WITHOUT ROWID;
CREATE INDEX metric_points_as_recorded ON metric_points (experiment, recorded);
CREATE INDEX metric_points_by_step
    ON metric_points (experiment, step, name, recorded);
CREATE TRIGGER metric_points_never_change
    BEFORE UPDATE ON metric_points
    BEGIN SELECT RAISE(ABORT, 'metric points are append-only'); END;
CREATE TRIGGER metric_points_never_go
    BEFORE DELETE ON metric_points
    BEGIN SELECT RAISE(ABORT, 'metric points are append-only'); END;
CREATE TRIGGER metric_points_never_give_way
    BEFORE INSERT ON metric_points WHEN EXISTS (
        SELECT 1 FROM metric_points
        WHERE experiment = NEW.experiment AND name = NEW.name
            AND step = NEW.step AND recorded = NEW.recorded
    )
    BEGIN SELECT RAISE(ABORT, 'metric points are append-only'); END;
"""
ASKED = {EXPERIMENT: [4, 9], OTHER: []}
"""Where in the log trainings were asked for."""
POINTS = [
    # name, step, number, value, the log's head, and to which training it belongs
    ("score", 1, 1, 0.5, 3, 0),
    ("score", 1, 2, 1.5, 4, 1),
    ("fitness", 2, 3, 2.5, 8, 1),
    ("score", 1, 4, 3.5, 9, 2),
    ("loss", 7, 5, 4.5, 12, 2),
]
KEPT = "SELECT name, step, recorded, value, log_position FROM metric_points"
LOG = 'echo "{\\"step\\": 1, \\"fitness\\": $ARENA_MAX_STEPS}" >> metrics.jsonl'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "arena.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(BEFORE)
        insert = "INSERT INTO metric_points VALUES (?, ?, ?, ?, ?, ?)"
        for of in (EXPERIMENT, OTHER):
            rows = [(of.bytes, *point[:-1]) for point in POINTS]
            connection.executemany(insert, rows)
    return path


def opened(path, requests=ASKED.__getitem__):
    return closing(SQLiteMetricStore.open(path, requests=requests))


def test_no_point_is_lost_and_each_keeps_number_value_and_position(path):
    with closing(sqlite3.connect(path)) as connection:
        before = sorted(connection.execute(KEPT))
        with opened(path):
            assert sorted(connection.execute(KEPT)) == before
    assert len(before) == 2 * len(POINTS)


def test_each_belongs_to_the_training_that_was_asked_for_last_when_it_came(path):
    with opened(path) as store:
        found = store.since(EXPERIMENT, 0, limit=9)
        of_other = store.since(OTHER, 0, limit=9)
    told = [(p.point.name, p.point.step, p.number, p.point.value) for p in found]
    assert told == [point[:4] for point in POINTS]
    assert [each.origin.training for each in found] == [point[-1] for point in POINTS]
    assert {each.origin.training for each in of_other} == {0}
    assert {each.origin.source for each in found} == {Source.UNKNOWN}


def test_what_is_recorded_then_goes_on_with_their_numbers(path):
    new = MetricPoint(1, "score", 9.0)
    with opened(path) as store:
        store.record(EXPERIMENT, of_training(2, [new]), log_position=13)
    with opened(path, requests=never) as store:
        (last,) = store.since(EXPERIMENT, 5, limit=9)
        assert (last.number, last.point) == (6, new)
        assert new in store.points(EXPERIMENT, [Stretch(2)])


def never(_):
    raise AssertionError("it was brought up already")


def test_it_is_append_only_again(path):
    with opened(path), closing(sqlite3.connect(path)) as other:
        for change in (
            "UPDATE metric_points SET training = 2",
            "DELETE FROM metric_points",
            "REPLACE INTO metric_points SELECT * FROM metric_points",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(change)


def test_it_has_the_very_schema_of_a_new_file(path, tmp_path):
    schemas = []
    for each in (path, tmp_path / "new.db"):
        with opened(each), closing(sqlite3.connect(each)) as connection:
            found = connection.execute("SELECT type, name, sql FROM sqlite_schema")
            schemas.append(sorted(" ".join(map(str, row)).split() for row in found))
    assert schemas[0] == schemas[1]


def test_where_the_log_cannot_be_read_the_file_stays_as_it_was(path):
    def unreadable(experiment_id):
        if experiment_id == OTHER:
            raise Unavailable("Not now.")
        return ASKED[experiment_id]

    with pytest.raises(Unavailable, match="Not now"):
        SQLiteMetricStore.open(path, requests=unreadable)
    with closing(sqlite3.connect(path)) as connection:
        assert len(connection.execute("SELECT * FROM metric_points").fetchall()) == 10
        columns = connection.execute("PRAGMA table_info(metric_points)").fetchall()
    assert len(columns) == 6
    with opened(path) as store:
        assert len(store.since(EXPERIMENT, 0, limit=9)) == len(POINTS)


def test_of_several_that_open_it_at_the_same_time_one_brings_it_up(path):
    asked = []

    def requests(experiment_id):
        asked.append(experiment_id)
        return ASKED[experiment_id]

    with ThreadPoolExecutor(4) as pool:
        stores = list(
            pool.map(
                lambda _: SQLiteMetricStore.open(path, requests=requests), range(4)
            )
        )
    for store in stores:
        assert len(store.since(EXPERIMENT, 0, limit=9)) == len(POINTS)
        store.close()
    assert sorted(asked) == [EXPERIMENT, OTHER]


def test_a_store_of_an_earlier_release_opens_with_what_each_training_has_measured(
    tmp_path,
):
    path = tmp_path / "old.db"
    with arena_core.open(path) as arena:
        project = arena.projects.create("carts").id
        said = {"algorithm": "PPO", "source": arena_core.gym("CartPole-v1")}
        said |= {"recipe": "command", "config": {"argv": ["/bin/sh", "-c", LOG]}}
        made = arena.experiments.create(project, name="ppo", **said).id
        for steps in (3, 2):
            arena.training.train(made, max_steps=steps)
            arena.training.wait(made, timeout_s=60)
    with closing(sqlite3.connect(path)) as connection, connection:
        kept = connection.execute(KEPT).fetchall()
        connection.execute("DROP TABLE metric_points")
        connection.executescript(BEFORE)
        insert = "INSERT INTO metric_points VALUES (?, ?, ?, ?, ?, ?)"
        connection.executemany(insert, [(made.bytes, *point) for point in kept])
    with arena_core.open(path) as arena:
        latest = arena.experiments.metrics(made)
        first = arena.experiments.metrics(made, training=1)
    assert [point.value for point in (*latest, *first)] == [2.0, 3.0]


def test_points_of_the_first_release_come_too_and_before_the_new_ones(path):
    """It numbered the points of each step and name by themselves, and had no index."""
    old = [("fitness", 1, 1), ("score", 1, 1), ("score", 1, 2), ("score", 2, 1)]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP INDEX metric_points_as_recorded")
        connection.execute("DROP INDEX metric_points_by_step")
        connection.execute("DROP TRIGGER metric_points_never_go")
        connection.execute("DELETE FROM metric_points")
        connection.executemany(
            "INSERT INTO metric_points VALUES (?, ?, ?, ?, 0.5, 4)",
            [(EXPERIMENT.bytes, *each) for each in old],
        )
    new = MetricPoint(1, "score", 1.0)
    with opened(path) as store:
        store.record(EXPERIMENT, of_training(1, [new]), log_position=5)
        first = [Stretch(1)]
        assert next(iter(store.points(EXPERIMENT, first, names=["score"]))) == new
        found, after = [], 0
        while page := store.since(EXPERIMENT, after, limit=1):
            found += page
            after = page[-1].number
    numbers = [len(list(same)) for _, same in groupby(found, lambda each: each.number)]
    assert numbers == [3, 1, 1]
    assert [(each.point.name, each.point.step) for each in found] == [
        ("fitness", 1), ("score", 1), ("score", 2), ("score", 1), ("score", 1),
    ]  # fmt: skip
    assert found[-1].point == new
