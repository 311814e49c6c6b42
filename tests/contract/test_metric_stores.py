"""Every metric store keeps the contract; the one on SQLite keeps its points too."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from arena_core.adapters.metrics import sqlite
from arena_core.adapters.metrics.memory import MemoryMetricStore
from arena_core.adapters.metrics.sqlite import SQLiteMetricStore
from arena_core.application.ports import MetricPoint
from arena_core.domain.errors import Corrupt, StorageFull, Unavailable
from measuring import of_training

from contract.metric_store import EXPERIMENT, FIRST, MetricStoreContract

SCORE = MetricPoint(1, "score", 1.0)
MEASURED = of_training(1, [SCORE])
DYING = """
import os, signal, sys
from pathlib import Path
from uuid import UUID
from arena_core.adapters.metrics import sqlite
from arena_core.application.ports import Measured, MetricPoint
from arena_core.domain.course import Origin, Source

class Points(list):
    def __iter__(self):
        yield from super().__iter__()
        if sys.argv[2] == "midst" and checked:
            os.kill(os.getpid(), signal.SIGKILL)
        checked.append(True)

checked = []
store = sqlite.SQLiteMetricStore.open(Path(sys.argv[1]))
origin = Origin(1, Source.TRAINING)
points = Points(Measured(MetricPoint(step, "score", 1.0), origin) for step in (1, 2))
store.record(UUID(int=1), points, log_position=1)
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestMemory(MetricStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryMetricStore()


class TestSQLite(MetricStoreContract):
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "arena.db"

    @pytest.fixture
    def store(self, path):
        store = SQLiteMetricStore.open(path)
        yield store
        store.close()

    def test_reopening_finds_the_points(self, path, store):
        store.record(EXPERIMENT, MEASURED, log_position=1)
        store.close()
        with closing(SQLiteMetricStore.open(path)) as again:
            assert list(again.points(EXPERIMENT, FIRST)) == [SCORE]

    @pytest.mark.parametrize(("when", "kept"), [("midst", 0), ("after", 2)])
    def test_a_killed_process_has_recorded_its_whole_call_or_nothing(
        self, path, store, when, kept
    ):
        dying = subprocess.run(
            [sys.executable, "-c", DYING, str(path), when],
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert dying.returncode == -signal.SIGKILL
        assert len(store.points(EXPERIMENT, FIRST)) == kept
        store.record(EXPERIMENT, MEASURED, log_position=1)

    def test_what_comes_next_is_found_without_reading_what_came_before(self, path):
        with (
            closing(SQLiteMetricStore.open(path)),
            closing(sqlite3.connect(path)) as connection,
        ):
            asked = {"experiment": EXPERIMENT.bytes, "after": 5, "limit": 9, "all": 99}
            plan = connection.execute("EXPLAIN QUERY PLAN " + sqlite._SINCE, asked)
            steps = [detail for *_, detail in plan]
        reads = [step for step in steps if "metric_points" in step]
        assert len(reads) == 2
        assert all("metric_points_as_recorded" in step for step in reads)

    def test_lives_in_one_file_with_other_tables(self, path):
        with closing(sqlite3.connect(path)) as log, log:
            log.execute("PRAGMA journal_mode = WAL")
            log.execute("CREATE TABLE stored_events AS SELECT 1 AS position")
            with closing(SQLiteMetricStore.open(path)) as store:
                store.record(EXPERIMENT, MEASURED, log_position=1)
            assert log.execute("SELECT * FROM stored_events").fetchall() == [(1,)]

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE metric_points SET value = 2",
            "DELETE FROM metric_points",
            """REPLACE INTO metric_points
                SELECT experiment, training, name, step, recorded, 2, 0, source, digest
                FROM metric_points""",
        ],
    )
    def test_the_database_itself_refuses_to_change_a_point(self, path, store, change):
        store.record(EXPERIMENT, MEASURED, log_position=1)
        with (
            closing(sqlite3.connect(path)) as other,
            pytest.raises(sqlite3.IntegrityError, match="append-only"),
        ):
            other.execute(change)
        assert list(store.points(EXPERIMENT, FIRST)) == [SCORE]

    def test_what_is_recorded_outlasts_a_power_cut(self, store):
        with store._database.transaction() as connection:
            full = 2
            assert connection.execute("PRAGMA synchronous").fetchone() == (full,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_a_page_of_points_is_read_where_it_begins_and_never_sorted(self, store):
        (step,) = self.plan(store, sqlite._POINTS)
        assert step == (
            "SEARCH metric_points USING INDEX metric_points_by_step "
            "(experiment=? AND training=? AND (step,name)>(?,?) AND step<?)"
        )

    def test_points_of_names_are_searched_and_grouped_by_the_key(self, store):
        details = self.plan(store, sqlite._NAMED_POINTS)
        assert (
            "SEARCH metric_points USING PRIMARY KEY "
            "(experiment=? AND training=? AND name=? AND step>? AND step<?)"
        ) in details
        assert "USE TEMP B-TREE FOR GROUP BY" not in details

    def test_the_latest_points_are_found_by_the_key_alone(self, store):
        details = self.plan(store, sqlite._LATEST)
        reads = [step for step in details if step.startswith("SEARCH")]
        assert len(reads) == 4
        by_key = "USING PRIMARY KEY (experiment=? AND training=?"
        assert all(by_key in step for step in reads)

    def test_what_was_measured_at_a_place_is_found_by_the_key_alone(self, store):
        (*_, read, _sort) = self.plan(store, sqlite._AT)
        assert read == (
            "SEARCH point USING PRIMARY KEY "
            "(experiment=? AND training=? AND name=? AND step=?)"
        )

    def test_whether_a_training_has_points_is_found_by_the_key_alone(self, store):
        (read,) = [s for s in self.plan(store, sqlite._HAS_ANY) if "metric_points" in s]
        assert read.startswith("SEARCH metric_points USING PRIMARY KEY (experiment=?")
        assert "training=?" in read

    def plan(self, store, statement):
        asked = {**sqlite._asked(EXPERIMENT, ["a"], 1), "limit": 1, "places": "[]"}
        asked |= {"training": 1, "last_step": 1}
        after = {"after_step": 1, "after_name": "a"}
        with store._database.reading() as connection:
            explained = f"EXPLAIN QUERY PLAN {statement}"
            plan = connection.execute(explained, asked | after).fetchall()
        return [step[-1] for step in plan]

    def test_the_latest_points_cost_no_more_where_there_are_more_steps(self, store):
        def cost() -> int:
            """Return how many instructions SQLite has taken, by tens."""
            taken = 0

            def one_more() -> int:
                nonlocal taken
                taken += 1
                return 0

            with store._database.reading() as connection:
                connection.set_progress_handler(one_more, 10)
                try:
                    asked = sqlite._asked(EXPERIMENT, None, None)
                    within = sqlite._within(FIRST[0])
                    connection.execute(sqlite._LATEST, {**asked, **within}).fetchall()
                finally:
                    connection.set_progress_handler(None, 0)
            return taken

        def record(steps: range) -> None:
            batch = [MetricPoint(s, n, 1.0) for s in steps for n in ("a", "b")]
            store.record(EXPERIMENT, of_training(1, batch), log_position=1)

        record(range(10))
        few = cost()
        record(range(10, 2000))
        assert cost() <= few + 2

    def test_a_writer_that_is_kept_waiting_is_told_while_readers_go_on(self, path):
        with (
            closing(SQLiteMetricStore.open(path, busy_timeout_s=0.05)) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                store.record(EXPERIMENT, MEASURED, log_position=1)
            assert list(store.points(EXPERIMENT, FIRST)) == []
            other.execute("ROLLBACK")
            store.record(EXPERIMENT, MEASURED, log_position=1)

    def test_a_full_disk_keeps_nothing_of_the_call_and_is_told(self, store):
        writer = store._database._writer
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages + 1}")
        points = [MetricPoint(step, "score", 1.5) for step in range(1000)]
        batch = of_training(1, points)
        with pytest.raises(StorageFull, match="No space is left"):
            store.record(EXPERIMENT, batch, log_position=1)
        assert list(store.points(EXPERIMENT, FIRST)) == []

    def test_a_file_that_is_no_database_is_told_and_left_alone(self, path):
        path.write_bytes(b"garbage" * 999)
        with pytest.raises(Corrupt, match="restore it from a back-up"):
            SQLiteMetricStore.open(path)
        assert path.read_bytes() == b"garbage" * 999

    def test_a_closed_store_says_so(self, store):
        store.close()
        with pytest.raises(Unavailable, match="closed"):
            store.points(EXPERIMENT, FIRST)
