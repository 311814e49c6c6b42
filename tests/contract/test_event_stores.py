import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.adapters.stores.sqlite import SQLiteEventStore

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
