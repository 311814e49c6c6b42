import shutil
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.domain.errors import Unavailable

from contract.event_store import EventStoreContract
from contract.event_store_machine import EventStoreMachine


class TestMemory(EventStoreContract):
    @pytest.fixture
    def store(self, clock):
        store = MemoryEventStore(clock)
        yield store
        store.close()


class TestSQLite(EventStoreContract):
    @pytest.fixture
    def store(self, clock, tmp_path):
        store = SQLiteEventStore.open(tmp_path / "events.db", clock=clock)
        yield store
        store.close()

    def test_who_waited_while_it_was_closed_opens_no_connection_that_nobody_closes(
        self, store, monkeypatch
    ):
        with ThreadPoolExecutor(1) as threads:
            with store._recorder.datastore.pool._get_semaphore:
                waiting = threads.submit(store.head)
                time.sleep(0.03)
                store.close()
                monkeypatch.delattr(sqlite3, "connect")
            with pytest.raises(Unavailable, match="closed"):
                waiting.result(timeout=10)


class MemoryMachine(EventStoreMachine):
    def make(self):
        return MemoryEventStore(self.clock)


class SQLiteMachine(EventStoreMachine):
    def make(self):
        fast = Path("/dev/shm")  # noqa: S108 -- a fresh folder below it
        self.folder = tempfile.mkdtemp(dir=fast if fast.is_dir() else None)
        return SQLiteEventStore.open(Path(self.folder) / "events.db", clock=self.clock)

    def open_again(self):
        self.store.close()
        return SQLiteEventStore.open(Path(self.folder) / "events.db", clock=self.clock)

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.folder)


@pytest.mark.parametrize(
    ("machine", "examples"), [(MemoryMachine, 80), (SQLiteMachine, 40)]
)
def test_any_sequence_of_steps_agrees_with_lists(machine, examples):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, database=None
        ),
    )
