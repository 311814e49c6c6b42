"""Every row store keeps the contract; the one on SQLite keeps its file's promises."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from enum import Enum
from pathlib import Path
from uuid import UUID

import pytest
from attrs import field, frozen, make_class

from arena_core.adapters.rows import records, sqlite
from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.rows.sqlite import SQLiteRowStore
from arena_core.application.ports import Batch, Query
from arena_core.domain import project
from arena_core.domain.errors import Rejected, StorageFull, Unavailable

from contract.interrupts import interrupted_at, interruptible
from contract.row_store import (
    PROJECTS,
    RowStoreContract,
    position_of,
    project_row,
    put,
)

COUNTING = """
import sys
import time
from pathlib import Path
from uuid import UUID, uuid4
sys.path.insert(0, sys.argv[2])
from contract.row_store import project_row
from arena_core.adapters.rows.sqlite import SQLiteRowStore
from arena_core.application.ports import Batch

def step(position, rows):
    counter = rows.get(UUID(int=1))
    version = counter.version + 1 if counter else 1
    time.sleep(0.001)
    mark = project_row(position + 2)
    return Batch([project_row(1, version=version), mark], position + 1)

store = SQLiteRowStore.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    store.update(step)
store.close()
"""
DYING = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from contract.row_store import project_row
from arena_core.adapters.rows.sqlite import SQLiteRowStore
from arena_core.application.ports import Batch

def rows():
    yield project_row(2)
    os.kill(os.getpid(), signal.SIGKILL)

store = SQLiteRowStore.open(Path(sys.argv[1]))
store.update(lambda position, _: Batch(rows(), 2))
"""
TESTS = Path(__file__).parents[1]


def run(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path), str(TESTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


class TestMemory(RowStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryRowStore()


class TestSQLite(RowStoreContract):
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "rows.db"

    @pytest.fixture
    def store(self, path):
        store = SQLiteRowStore.open(path)
        yield store
        store.close()

    def test_reopening_resumes_at_the_position_with_the_rows(self, path, store):
        put(store, 5, project_row(1))
        store.close()
        with closing(SQLiteRowStore.open(path)) as again:
            assert position_of(again) == 5
            assert list(again.find(PROJECTS)) == [project_row(1)]

    def test_two_processes_neither_lose_nor_double_a_batch(self, path, store):
        workers = [run(COUNTING, path) for _ in range(2)]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            worker.communicate(timeout=60)
            assert worker.returncode == 0
        assert position_of(store) == 120
        assert store.get(UUID(int=1)).version == 120
        assert len(store.find(PROJECTS)) == 121

    def test_a_process_killed_in_the_midst_of_a_batch_leaves_nothing(self, path, store):
        put(store, 1, project_row(1))
        dying = run(DYING, path)
        dying.communicate(timeout=60)
        assert dying.returncode == -signal.SIGKILL
        assert list(store.find(PROJECTS)) == [project_row(1)]
        assert put(store, 2, project_row(2)) == 2

    @pytest.mark.parametrize("moment", ["BEGIN", "BEGIN IMMEDIATE", "COMMIT"])
    def test_an_interrupt_leaves_a_store_that_can_be_read_and_written(
        self, tmp_path, moment
    ):
        with (
            interruptible(),
            closing(SQLiteRowStore.open(tmp_path / "other.db")) as store,
        ):
            put(store, 1, project_row(1))
            with pytest.raises(KeyboardInterrupt), interrupted_at(moment):
                put(store, 2, project_row(len(store.find(PROJECTS)) + 1))
            assert put(store, 3, project_row(3)) == 3
            assert project_row(3) in store.find(PROJECTS)

    def test_a_file_of_another_release_is_begun_anew(self, path, store):
        put(store, 5, project_row(1))
        store.close()
        with closing(SQLiteRowStore.open(path, code="arena-core 2.0")) as newer:
            assert position_of(newer) == 0
            assert list(newer.find(PROJECTS)) == []

    def test_a_release_whose_file_was_taken_over_neither_reads_nor_writes(
        self, path, store
    ):
        put(store, 5, project_row(1))
        with closing(SQLiteRowStore.open(path, code="arena-core 2.0")) as newer:
            put(newer, 1, project_row(2))
            with pytest.raises(Unavailable, match="restart"):
                store.find(PROJECTS)
            with pytest.raises(Unavailable, match="restart"):
                put(store, 6, project_row(1))
            with pytest.raises(Unavailable, match="restart"):
                store.replace(Batch([], 6))
            assert list(newer.find(PROJECTS)) == [project_row(2)]

    @pytest.mark.parametrize("content", [b"", b"garbage", b"SQLite format 3\0" * 99])
    def test_a_file_that_is_no_database_is_begun_anew(self, path, content):
        path.write_bytes(content)
        with closing(SQLiteRowStore.open(path)) as store:
            assert position_of(store) == 0
            assert put(store, 1, project_row(1)) == 1

    def test_a_file_with_a_torn_page_is_told_at_run_time_and_begun_anew(self, path):
        with closing(SQLiteRowStore.open(path)) as store:
            put(store, 500, *(project_row(n, "x" * 99) for n in range(1, 500)))
        torn = bytearray(path.read_bytes())
        torn[4096:] = b"\xff" * (len(torn) - 4096)
        with closing(SQLiteRowStore.open(path)) as store:
            path.write_bytes(torn)
            with pytest.raises(Unavailable, match="malformed: stop all workers"):
                store.find(PROJECTS)
        with closing(SQLiteRowStore.open(path)) as store:
            assert position_of(store) == 0

    def test_a_state_that_cannot_be_read_is_told_with_the_remedy(self, path, store):
        put(store, 1, project_row(1))
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE rows SET body = '{}'")
        with pytest.raises(Unavailable, match="delete its file"):
            store.get(UUID(int=1))

    def test_a_database_of_something_else_is_refused_and_left_alone(self, path):
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("CREATE TABLE events AS SELECT 'precious' AS event")
        with pytest.raises(Rejected, match="something else"):
            SQLiteRowStore.open(path)
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT * FROM events").fetchall() == [("precious",)]

    def test_a_locked_file_is_unavailable_and_not_thrown_away(self, path, store):
        put(store, 1, project_row(1))
        store.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(Unavailable, match="locked"):
                SQLiteRowStore.open(path, busy_timeout_s=0.05)
            other.execute("ROLLBACK")
        with closing(SQLiteRowStore.open(path)) as again:
            assert list(again.find(PROJECTS)) == [project_row(1)]

    def test_a_writer_that_is_kept_waiting_is_told_while_readers_go_on(self, path):
        with (
            closing(SQLiteRowStore.open(path, busy_timeout_s=0.05)) as store,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                put(store, 1, project_row(1))
            assert list(store.find(PROJECTS)) == []
            other.execute("ROLLBACK")
            assert put(store, 1, project_row(1)) == 1

    def test_a_full_disk_changes_nothing_and_is_told(self, store):
        put(store, 1, project_row(1))
        writer = store._database._writer
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        many = [project_row(n, "x" * 99) for n in range(2, 500)]
        with pytest.raises(StorageFull, match="No space is left"):
            put(store, 2, *many)
        assert position_of(store) == 1
        assert list(store.find(PROJECTS)) == [project_row(1)]
        writer.execute("PRAGMA max_page_count = 1000000")
        assert put(store, 2, *many) == 2

    def test_a_folder_that_cannot_be_is_unavailable(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(Unavailable, match="folder exists"):
            SQLiteRowStore.open(tmp_path / "file" / "rows.db")

    def test_a_closed_store_says_so(self, store):
        store.close()
        with pytest.raises(Unavailable, match="closed"):
            store.find(PROJECTS)
        with pytest.raises(Unavailable, match="closed"):
            position_of(store)

    def test_a_state_of_another_kind_is_a_mistake_and_changes_nothing(self, store):
        with pytest.raises(TypeError):
            put(store, 1, project_row(1, state="no project"))
        assert position_of(store) == 0

    @pytest.mark.parametrize(
        "query",
        [
            Query(project.KIND, None),
            Query(project.KIND, "default"),
            Query(project.KIND, "default", parent=UUID(int=1)),
            Query(project.KIND, "default", name="x", after=3, limit=2),
        ],
    )
    def test_no_query_scans_or_sorts(self, store, query):
        with store._database.reading() as connection:
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN {sqlite._statement(query)}",
                sqlite._parameters(query),
            ).fetchall()
        details = [step[-1] for step in plan]
        assert len(details) == 1
        assert details[0].startswith("SEARCH rows USING INDEX rows_by_")
        assert "created_position>?" in details[0]

    def test_what_refers_to_something_is_found_without_a_scan(self, store):
        query = Query(project.KIND, "default", refers=UUID(int=1))
        with store._database.reading() as connection:
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN {sqlite._statement(query)}",
                sqlite._parameters(query),
            ).fetchall()
        details = [step[-1] for step in plan]
        assert not [each for each in details if each.startswith("SCAN")]
        assert [each for each in details if "(target=?)" in each]
        assert not [each for each in details if "rows_by_" in each]


@frozen
class Inner:
    score: float


@frozen
class Outer:
    name: str
    inner: tuple[Inner, ...]


class TestFingerprint:
    def of(self, monkeypatch, state):
        monkeypatch.setattr(records, "STATES", {"outer": state})
        return records.fingerprint()

    def test_is_the_same_for_the_same_fields(self, monkeypatch):
        same = make_class(
            "Outer",
            {"name": field(type=str), "inner": field(type=tuple[Inner, ...])},
        )
        assert self.of(monkeypatch, same) == self.of(monkeypatch, Outer)

    @pytest.mark.parametrize(
        "fields",
        [
            {"title": field(type=str), "inner": field(type=tuple[Inner, ...])},
            {"name": field(type=str | None), "inner": field(type=tuple[Inner, ...])},
            {"name": field(type=str), "inner": field(type=tuple[Outer, ...])},
            {"name": field(type=str)},
        ],
    )
    def test_is_another_for_other_names_or_types(self, monkeypatch, fields):
        other = make_class("Outer", fields)
        assert self.of(monkeypatch, other) != self.of(monkeypatch, Outer)

    def test_is_another_if_a_class_further_in_has_changed(self, monkeypatch):
        inner = make_class("Inner", {"score": field(type=int)})
        fields = {"name": field(type=str), "inner": field(type=tuple[inner, ...])}
        other = make_class("Outer", fields)
        assert self.of(monkeypatch, other) != self.of(monkeypatch, Outer)

    def test_is_another_if_the_values_of_an_enum_have_changed(self, monkeypatch):
        one, other = (
            make_class("State", {"colour": field(type=Enum("Colour", values))})
            for values in ({"RED": "red"}, {"RED": "rouge"})
        )
        assert self.of(monkeypatch, one) != self.of(monkeypatch, other)

    def test_is_the_same_in_another_process(self):
        script = "from arena_core.adapters.rows import records as r;"
        script += "print(r.fingerprint('x'), end='')"
        path = os.pathsep.join(sys.path)
        answer = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": path, "PYTHONHASHSEED": "7"},
        )
        assert answer.stdout == records.fingerprint("x")
