"""What only a log in a file can promise, and what others may do to the file."""

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from arena_core.adapters.stores import sqlite
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.application.ports import Write
from arena_core.domain.errors import (
    ConcurrentWrite,
    Corrupt,
    Rejected,
    StorageFull,
    Unavailable,
    UnknownEvent,
)

from contract.event_store import (
    CREATED,
    DELETED,
    append,
    context,
    everything,
    filled,
    renamed,
)
from contract.interrupts import interrupted_at, interruptible


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def store(path):
    store = SQLiteEventStore.open(path, busy_timeout_s=0.2)
    yield store
    store.close()


@pytest.fixture
def raw(path, store):
    """Somebody else's connection to the same file."""
    assert store.head() == 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


INSERT = (
    "INSERT INTO arena_events (rowid, originator_id, originator_version, topic, state) "
    "VALUES (?, ?, ?, ?, ?)"
)


class TestTheDatabaseItself:
    @pytest.mark.parametrize(
        ("statement", "why"),
        [
            ("UPDATE arena_events SET state = x'00'", "never changed"),
            ("UPDATE arena_events SET rowid = rowid + 10", "never changed"),
            ("DELETE FROM arena_events", "never removed"),
            ("DELETE FROM arena_events WHERE rowid = 3", "never removed"),
        ],
    )
    def test_refuses_to_change_and_to_remove(self, store, raw, statement, why):
        filled(store, 3)
        before = everything(store)
        with pytest.raises(sqlite3.IntegrityError, match=why):
            raw.execute(statement)
        assert everything(store) == before

    @pytest.mark.parametrize("version", [0, 1, 2, 4, None, "two", -1])
    def test_refuses_a_version_that_is_not_the_next(self, store, raw, version):
        stream = filled(store, 2)
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(INSERT, (None, stream.hex, version, "t@1", b"{}"))
        raw.execute(INSERT, (None, stream.hex, 3, "t@1", b"{}"))

    def test_refuses_to_replace(self, store, raw):
        filled(store, 2)
        before = everything(store)
        for position in (1, 2):
            with pytest.raises(sqlite3.IntegrityError, match="never replaced"):
                raw.execute(
                    INSERT.replace("INSERT", "INSERT OR REPLACE"),
                    (position, uuid4().hex, 1, "t@1", b"{}"),
                )
        assert everything(store) == before

    def test_refuses_a_late_fill(self, store, raw):
        filled(store, 1)
        raw.execute(INSERT, (10, uuid4().hex, 1, "t@1", b"{}"))
        with pytest.raises(sqlite3.IntegrityError, match="not the last"):
            raw.execute(INSERT, (5, uuid4().hex, 1, "t@1", b"{}"))

    def test_never_uses_a_position_again(self, store, path, raw):
        filled(store, 3)
        raw.execute("DROP TRIGGER arena_events_are_not_removed")
        raw.execute("DELETE FROM arena_events WHERE rowid > 1")
        store.close()
        again = SQLiteEventStore.open(path)
        assert append(again, Write(uuid4(), 0, [CREATED])) == 4
        again.close()

    def test_gets_its_triggers_back_when_it_is_opened(self, store, path, raw):
        raw.execute("DROP TRIGGER arena_events_are_not_removed")
        SQLiteEventStore.open(path).close()
        filled(store, 1)
        with pytest.raises(sqlite3.IntegrityError, match="never removed"):
            raw.execute("DELETE FROM arena_events")

    def test_outlasts_a_power_cut(self, store):
        with store._recorder.datastore.get_connection(commit=True) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA synchronous")
            assert cursor.fetchone()[0] == 2
            cursor.execute("PRAGMA journal_mode")
            assert cursor.fetchone()[0] == "wal"


def tampered(raw, *changes: tuple[str, tuple[object, ...]]) -> None:
    for (trigger,) in raw.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall():
        raw.execute(f"DROP TRIGGER {trigger}")
    for statement, values in changes:
        raw.execute(statement, values)


def state_at(raw, position: int) -> bytes:
    statement = "SELECT state FROM arena_events WHERE rowid = ?"
    return raw.execute(statement, (position,)).fetchone()[0]


SET_STATE = "UPDATE arena_events SET state = ? WHERE rowid = ?"


class TestTampering:
    @staticmethod
    def found(store) -> list[int]:
        return [fault.position for fault in store.faults()]

    def test_with_one_byte_of_a_body_is_found(self, store, raw):
        filled(store, 5)
        changed = state_at(raw, 3).replace(b"name 2", b"name 9")
        tampered(raw, (SET_STATE, (changed, 3)))
        assert self.found(store) == [3]
        assert everything(store)[2].event == renamed(9)

    @pytest.mark.parametrize("member", [b"ann", b"acme", b"wrong", b"2026-", b"0.1."])
    def test_with_one_byte_of_the_metadata_is_found(self, store, raw, member):
        filled(store, 5)
        old = state_at(raw, 4)
        assert member in old
        flipped = bytes([member[0] ^ 1]) + member[1:]
        tampered(raw, (SET_STATE, (old.replace(member, flipped, 1), 4)))
        assert self.found(store) == [4]

    def test_with_two_events_that_change_places_is_found(self, store, raw):
        filled(store, 5)
        second, third = state_at(raw, 2), state_at(raw, 3)
        tampered(raw, (SET_STATE, (third, 2)), (SET_STATE, (second, 3)))
        assert self.found(store) == [2, 3, 4]

    def test_with_events_of_two_streams_that_change_places_is_found(self, store, raw):
        filled(store, 1)
        filled(store, 1)
        moves = "UPDATE arena_events SET rowid = ? WHERE rowid = ?"
        tampered(raw, (moves, (9, 1)), (moves, (1, 2)), (moves, (2, 9)))
        assert self.found(store) == [2]
        assert "order" in next(store.faults()).detail

    def test_with_the_metadata_cut_off_is_found(self, store, raw):
        filled(store, 4)
        tampered(raw, (SET_STATE, (state_at(raw, 2)[:60], 2)))
        assert self.found(store)[0] == 2
        with pytest.raises(Corrupt, match="position 2"):
            store.read_all(after=1)
        assert [r.position for r in store.read_all()] == [1]

    def test_with_a_version_is_found(self, store, raw):
        filled(store, 4)
        change = "UPDATE arena_events SET originator_version = 9 WHERE rowid = 4"
        tampered(raw, (change, ()))
        assert self.found(store) == [4]
        assert "version 9" in next(store.faults()).detail

    def test_with_a_stream_is_found(self, store, raw):
        filled(store, 4)
        change = "UPDATE arena_events SET originator_id = ? WHERE rowid = 4"
        tampered(raw, (change, (uuid4().hex,)))
        assert self.found(store) == [4]

    def test_with_a_name_is_found(self, store, raw):
        filled(store, 4)
        change = "UPDATE arena_events SET topic = 'project.deleted@1' WHERE rowid = 2"
        tampered(raw, (change, ()))
        assert self.found(store) == [2]

    def test_with_a_hash_made_to_fit_is_found_one_further_on(self, store, raw):
        other = SQLiteEventStore.open(raw_path(raw).with_name("other.db"))
        stream = uuid4()
        for log, name in ((store, 1), (other, 2)):
            append(log, Write(stream, 0, [renamed(name)]))
            append(log, Write(stream, 1, [DELETED]))
        with closing(sqlite3.connect(raw_path(raw).with_name("other.db"))) as theirs:
            forged = state_at(theirs, 1)
        other.close()
        tampered(raw, (SET_STATE, (forged, 1)))
        assert self.found(store) == [2]

    def test_with_members_beside_what_is_hashed_is_found(self, store, raw):
        filled(store, 3)
        padded = state_at(raw, 2)[:-1] + b',"x":1}'
        tampered(raw, (SET_STATE, (padded, 2)))
        assert self.found(store) == [2]

    @pytest.mark.parametrize(
        ("statement", "found"),
        [
            ("DELETE FROM arena_events WHERE rowid = 3", [3, 4]),
            ("DELETE FROM arena_events WHERE rowid > 3", [4]),
            ("DELETE FROM arena_events", [1]),
        ],
    )
    def test_by_removing_is_found(self, store, raw, statement, found):
        filled(store, 5)
        tampered(raw, (statement, ()))
        assert self.found(store) == found

    def test_by_removing_a_whole_stream_is_found(self, store, raw):
        filled(store, 2)
        gone = filled(store, 3)
        filled(store, 1)
        remove = "DELETE FROM arena_events WHERE originator_id = ?"
        tampered(raw, (remove, (gone.hex,)))
        assert [f.detail for f in store.faults()] == [
            "The events from this position to 5 are missing."
        ]

    @pytest.mark.parametrize(
        "column", ["originator_id", "originator_version", "topic", "state"]
    )
    @pytest.mark.parametrize("value", ["x", b"\xff\x00", 7, 1.5, 2**62, ""])
    def test_with_nonsense_never_stops_the_search(self, store, raw, column, value):
        filled(store, 3)
        change = f"UPDATE arena_events SET {column} = ? WHERE rowid = 2"  # noqa: S608
        tampered(raw, (change, (value,)))
        assert self.found(store)[0] == 2
        if column == "originator_version" and isinstance(value, int):
            return
        with pytest.raises(Corrupt):
            store.read_all(after=1)
        assert len(store.read_all()) == 1

    @pytest.mark.parametrize("column", ["originator_id", "topic"])
    def test_with_text_that_is_no_text_never_stops_the_search(self, store, raw, column):
        filled(store, 3)
        change = f"UPDATE arena_events SET {column} = CAST(x'ff61' AS TEXT)"  # noqa: S608
        tampered(raw, (f"{change} WHERE rowid = 2", ()))
        assert self.found(store)[0] == 2
        assert len(store.read_all()) == 1

    def test_far_into_a_long_log_is_found(self, store, raw):
        append(store, Write(uuid4(), 0, [renamed(n) for n in range(450)]))
        assert list(store.faults()) == []
        changed = state_at(raw, 401).replace(b"name 400", b"name 004")
        tampered(raw, (SET_STATE, (changed, 401)))
        assert self.found(store) == [401]

    def test_with_the_file_itself_is_told_as_corrupt(self, store, path):
        stream = uuid4()
        append(store, Write(stream, 0, [renamed(n) for n in range(400)]))
        store.close()
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size // 2)
            file.write(b"\xff" * 4096 * 4)
        again = SQLiteEventStore.open(path)
        with pytest.raises(Corrupt):
            everything(again)
        assert 1 < list(again.faults())[-1].position < 400
        again.close()


def raw_path(raw):
    return Path(raw.execute("PRAGMA database_list").fetchone()[2])


class TestNewerReleases:
    def test_an_event_of_one_ends_the_page_before_it(self, store, raw):
        stream = filled(store, 2)
        state = state_at(raw, 2)
        raw.execute(INSERT, (None, stream.hex, 3, "project.frobnicated@1", state))
        assert [r.position for r in store.read_all()] == [1, 2]
        with pytest.raises(UnknownEvent, match=r"project\.frobnicated version 1"):
            store.read_all(after=2)
        with pytest.raises(UnknownEvent):
            store.read(stream)
        assert len(store.read(stream, up_to=2)) == 2

    def test_a_database_of_one_is_refused(self, store, path, raw):
        raw.execute("PRAGMA user_version = 2")
        store.close()
        with pytest.raises(Rejected, match="upgrade"):
            SQLiteEventStore.open(path)


class TestOpening:
    def test_needs_a_folder(self, tmp_path):
        with pytest.raises(Rejected, match="folder") as refusal:
            SQLiteEventStore.open(tmp_path / "absent" / "events.db")
        assert str(tmp_path) not in str(refusal.value)

    def test_refuses_what_is_no_database(self, path):
        path.write_bytes(b"this is no database at all" * 100)
        with pytest.raises(Corrupt, match=r"check the path .* from a back-up"):
            SQLiteEventStore.open(path)

    @pytest.mark.parametrize("schema", [0, 1, 99])
    def test_refuses_the_database_of_something_else_and_leaves_it(self, path, schema):
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE recipes (name TEXT)")
            other.execute(f"PRAGMA user_version = {schema}")
        before = path.read_bytes()
        with pytest.raises(Rejected, match="something else: check the path"):
            SQLiteEventStore.open(path)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "a%20b#c"])
    def test_takes_any_file_name_as_a_name(self, tmp_path, name):
        path = tmp_path / name
        for expected in (0, 1):
            store = SQLiteEventStore.open(path)
            assert store.head() == expected
            filled(store, 1)
            store.close()
        assert path.exists()

    def test_is_harmless_in_many_threads_at_once(self, path):
        with ThreadPoolExecutor(8) as pool:
            stores = list(pool.map(lambda _: SQLiteEventStore.open(path), range(8)))
        for store in stores:
            filled(store, 1)
        assert stores[0].head() == 8
        for store in stores:
            store.close()

    def test_is_possible_while_somebody_writes(self, store, path, raw):
        filled(store, 1)
        raw.execute("BEGIN IMMEDIATE")
        other = SQLiteEventStore.open(path, busy_timeout_s=0.1)
        assert other.head() == 1
        other.close()

    def test_ignores_the_variables_of_the_library(self, path, monkeypatch):
        for name, value in {
            "PERSISTENCE_MODULE": "eventsourcing.popo",
            "SQLITE_DBNAME": ":memory:",
            "SQLITE_LOCK_TIMEOUT": "nonsense",
            "CREATE_TABLE": "n",
            "CIPHER_TOPIC": "nowhere:Nothing",
            "COMPRESSOR_TOPIC": "zlib",
            "ORIGINATOR_ID_TYPE": "text",
        }.items():
            monkeypatch.setenv(name, value)
        for expected in (0, 2):
            store = SQLiteEventStore.open(path)
            assert store.head() == expected
            filled(store, 2)
            store.close()


class TestALockedDatabase:
    def test_is_unavailable_after_the_time_that_was_given(self, store, raw):
        filled(store, 1)
        raw.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(Unavailable, match="locked"):
            append(store, Write(uuid4(), 0, [CREATED]))
        assert 0.15 < time.monotonic() - start < 1.5
        assert store.head() == 1
        raw.execute("ROLLBACK")
        assert append(store, Write(uuid4(), 0, [CREATED])) == 2

    def test_can_be_read(self, store, raw):
        filled(store, 3)
        raw.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(4) as pool:
            writers = [
                pool.submit(append, store, Write(uuid4(), 0, [CREATED]))
                for _ in range(4)
            ]
            start = time.monotonic()
            assert len(everything(store)) == 3
            assert time.monotonic() - start < 0.1
            for writer in writers:
                with pytest.raises(Unavailable):
                    writer.result()
        raw.execute("ROLLBACK")


class TestAnInterrupt:
    @pytest.fixture
    def store(self, path):
        with interruptible():
            store = SQLiteEventStore.open(path, busy_timeout_s=0.2)
            filled(store, 1)
            yield store
            store.close()

    @pytest.mark.parametrize("moment", ["BEGIN IMMEDIATE", "COMMIT"])
    def test_leaves_a_log_that_can_be_read_and_written(self, store, moment):
        with pytest.raises(KeyboardInterrupt), interrupted_at(moment):
            append(store, Write(uuid4(), 0, [CREATED]))
        before = len(everything(store))
        append(store, Write(uuid4(), 0, [CREATED]))
        assert len(everything(store)) == before + 1
        assert list(store.faults()) == []


class TestAFullDisk:
    def test_is_told_and_nothing_is_written(self, store):
        stream = filled(store, 3)
        with store._recorder.datastore.get_connection(commit=True) as connection:
            cursor = connection.cursor()
            cursor.execute("PRAGMA page_count")
            cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0] + 2}")
            cursor.fetchone()
        before = everything(store)
        large = [renamed(n) for n in range(3, 103)]
        with pytest.raises(StorageFull):
            append(store, Write(stream, 3, large), Write(uuid4(), 0, [CREATED]))
        assert everything(store) == before
        with store._recorder.datastore.get_connection(commit=True) as connection:
            connection.cursor().execute("PRAGMA max_page_count = 1000000")
        append(store, Write(stream, 3, large))
        assert store.head() == 103
        assert list(store.faults()) == []


class TestWaiting:
    def test_ends_with_an_append_of_this_process_without_polling(
        self, store, monkeypatch
    ):
        monkeypatch.setattr(sqlite, "POLL_S", 10.0)
        monkeypatch.setattr(sqlite, "SPARE_S", 10.0)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(store.head, beyond=0, timeout_s=10) for _ in "ab"]
            time.sleep(0.05)
            assert append(store, Write(uuid4(), 0, [CREATED])) == 1
            assert [each.result(timeout=5) for each in waiting] == [1, 1]

    def test_is_done_by_one_thread_that_tells_the_others(
        self, store, path, monkeypatch
    ):
        monkeypatch.setattr(sqlite, "SPARE_S", 60.0)
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(store.head, beyond=0, timeout_s=60) for _ in "abc"]
            time.sleep(0.05)
            with closing(SQLiteEventStore.open(path)) as other:
                append(other, Write(uuid4(), 0, [CREATED]))
            assert [each.result(timeout=30) for each in waiting] == [1, 1, 1]

    def test_asks_the_database_seldom_while_nothing_is_written(
        self, store, monkeypatch
    ):
        append(store, Write(uuid4(), 0, [CREATED]))
        time.sleep(2 * sqlite.TICK_S)
        asked, head = [], store._recorder.head
        monkeypatch.setattr(
            store._recorder, "head", lambda: asked.append(None) or head()
        )
        assert store.head(beyond=1, timeout_s=0.4) == 1
        assert len(asked) <= 3

    @pytest.mark.parametrize("fresh", [True, False])
    def test_asks_the_database_in_the_end_though_its_files_look_the_same(
        self, store, path, monkeypatch, fresh
    ):
        """Times of files are coarse: two appends may have the same."""
        changed_ns = time.time_ns() + 60 * 10**9 if fresh else 0
        mark = sqlite._Mark(1, 1, changed_ns)
        monkeypatch.setattr(sqlite, "_mark", lambda _: mark)
        monkeypatch.setattr(sqlite, "SURE_S", 60.0 if fresh else 0.1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.head, beyond=0, timeout_s=60)
            time.sleep(0.05)
            with closing(SQLiteEventStore.open(path)) as other:
                append(other, Write(uuid4(), 0, [CREATED]))
            assert waiting.result(timeout=30) == 1

    def test_sees_what_is_written_where_it_had_seen_no_file(
        self, store, path, monkeypatch
    ):
        monkeypatch.setattr(sqlite, "_mark", lambda _: None)
        monkeypatch.setattr(sqlite, "SURE_S", 60.0)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.head, beyond=0, timeout_s=60)
            time.sleep(0.05)
            with closing(SQLiteEventStore.open(path)) as other:
                append(other, Write(uuid4(), 0, [CREATED]))
            assert waiting.result(timeout=30) == 1

    def test_sees_an_append_of_another_process_at_once(self, store, path, monkeypatch):
        monkeypatch.setattr(sqlite, "SURE_S", 60.0)
        append(store, Write(uuid4(), 0, [CREATED]))
        time.sleep(2 * sqlite.TICK_S)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.head, beyond=1, timeout_s=60)
            time.sleep(0.05)
            with closing(SQLiteEventStore.open(path)) as other:
                append(other, Write(uuid4(), 0, [CREATED]))
            assert waiting.result(timeout=30) == 2

    def test_goes_on_when_the_thread_that_looked_has_gone(self, store, path):
        with ThreadPoolExecutor(2) as pool:
            looking = pool.submit(store.head, beyond=0, timeout_s=0.05)
            waiting = pool.submit(store.head, beyond=0, timeout_s=60)
            assert looking.result(timeout=30) == 0
            with closing(SQLiteEventStore.open(path)) as other:
                append(other, Write(uuid4(), 0, [CREATED]))
            assert waiting.result(timeout=30) == 1


class TestALostReply:
    def test_is_made_good_by_appending_again(self, store, path):
        by, stream = context(), uuid4()
        writes = [Write(stream, 0, [CREATED, DELETED])]
        other = SQLiteEventStore.open(path)
        position = append(other, *writes, by=by)
        other.close()
        assert append(store, *writes, by=by) == position
        with pytest.raises(ConcurrentWrite):
            append(store, *writes)
        assert store.head() == 2


WRITER = """
import sys
from pathlib import Path
from uuid import UUID, uuid4
from contract.event_store import append, renamed
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.application.ports import Write
from arena_core.domain.errors import ConcurrentWrite

store = SQLiteEventStore.open(Path(sys.argv[1]), busy_timeout_s=20)
shared, count = UUID(int=1), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    append(store, Write(uuid4(), 0, [renamed(number)]))
    while True:
        try:
            expected = len(store.read(shared))
            append(store, Write(shared, expected, [renamed(number)]))
            break
        except ConcurrentWrite:
            pass
store.close()
"""


def other_process(path, count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER, str(path), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def go(process) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


class TestSeveralProcesses:
    def test_lose_nothing_and_are_seen_by_a_tailing_reader(self, path):
        writers = [other_process(path, 25) for _ in range(2)]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        store = SQLiteEventStore.open(path)
        for writer in writers:
            go(writer)
        seen = []
        while len(seen) < 100:
            after = seen[-1].position if seen else 0
            assert store.head(beyond=after, timeout_s=20) > after
            seen += store.read_all(after=after, limit=5)
        for writer in writers:
            writer.communicate(timeout=20)
            assert writer.returncode == 0
        assert seen == list(everything(store))
        times = [r.recorded_at for r in seen]
        assert times == sorted(times)
        assert list(store.faults()) == []
        store.close()
