"""Appending, loading and replaying events, beside raw sqlite3 in the same run.

Everything is in memory-backed storage, so that code is measured and not a disk; raw
sqlite3 writes the same number of bytes with the same pragmas and one index.  The two
take turns; what is quoted is the median of the rounds' ratios.

    python bench/event_store.py [--rounds 5] [--events 2000]
"""

import argparse
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from uuid import UUID, uuid4

from arena_core.adapters.stores.memory import MemoryEventStore
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.application.history import pages
from arena_core.application.ports import Context, EventStore, Write
from arena_core.domain import deployment
from arena_core.domain.deployment import DeploymentKeyRotated
from arena_core.domain.ids import (
    DEFAULT_ORGANISATION,
    AgentId,
    DeploymentId,
    Digest,
)
from arena_core.domain.values import LIBRARY

from machine import describe, memory_backed_folder

HUNDRED = 100
ROW_BYTES = 500
"""About what one event with its envelope takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=2000)
    arguments = parser.parse_args()
    print(describe())
    print(f"{arguments.rounds} rounds of {arguments.events} events\n")
    print("| what | events/s | raw sqlite3 | raw over it |")
    print("|---|---|---|---|")
    for batch in (1, HUNDRED):
        rounds = [
            append_round(arguments.events, batch) for _ in range(arguments.rounds)
        ]
        name = "append one at a time" if batch == 1 else "append in hundreds"
        print(row(f"sqlite, {name}", rounds))
    rounds = [read_round(arguments.events) for _ in range(arguments.rounds)]
    print(row("sqlite, load one stream and fold it", rounds))
    rounds = [replay_round(arguments.events) for _ in range(arguments.rounds)]
    print(row("sqlite, replay the whole log", rounds))
    memory = [
        rate(arguments.events, lambda: fill(MemoryEventStore(), arguments.events, 1))
        for _ in range(arguments.rounds)
    ]
    print(f"| memory, append one at a time | {statistics.median(memory):,.0f} | | |")


def row(name: str, rounds: Sequence[tuple[float, float]]) -> str:
    ours = statistics.median(ours for ours, _ in rounds)
    raw = statistics.median(raw for _, raw in rounds)
    ratio = statistics.median(raw / ours for ours, raw in rounds)
    return f"| {name} | {ours:,.0f} | {raw:,.0f} | {ratio:.1f} |"


def rate(events: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return events / (time.perf_counter() - begun)


def append_round(events: int, batch: int) -> tuple[float, float]:
    with memory_backed_folder() as folder:
        store = SQLiteEventStore.open(folder / "arena.db")
        ours = rate(events, lambda: fill(store, events, batch))
        store.close()
        database = raw_database(folder / "raw.db")
        raw = rate(events, lambda: raw_fill(database, events, batch))
        database.close()
    return ours, raw


def read_round(events: int) -> tuple[float, float]:
    def load(store: EventStore, stream: UUID) -> object:
        history = (recorded.event for recorded in store.read(stream))
        return reduce(deployment.evolve, history, CREATED)

    with memory_backed_folder() as folder:
        store = SQLiteEventStore.open(folder / "arena.db")
        stream = fill(store, events, HUNDRED)
        ours = rate(events, lambda: load(store, stream))
        store.close()
        raw = raw_read_rate(folder, events)
    return ours, raw


def replay_round(events: int) -> tuple[float, float]:
    with memory_backed_folder() as folder:
        store = SQLiteEventStore.open(folder / "arena.db")
        fill(store, events, HUNDRED)
        ours = rate(events, lambda: sum(1 for _ in pages(store)))
        store.close()
        raw = raw_read_rate(folder, events)
    return ours, raw


def raw_read_rate(folder: Path, events: int) -> float:
    database = raw_database(folder / "raw.db")
    raw_fill(database, events, HUNDRED)
    select = "SELECT * FROM events ORDER BY position"
    found = rate(events, lambda: database.execute(select).fetchall())
    database.close()
    return found


CREATED = deployment.Deployment(
    DeploymentId(uuid4()),
    AgentId(uuid4()),
    Digest("0" * 64),
    deployment.MemoryScope.USER,
)


def fill(store: EventStore, events: int, batch: int) -> UUID:
    """Append events to one stream, `batch` a transaction; return the stream."""
    stream, now = uuid4(), datetime.now(UTC)
    for begin in range(0, events, batch):
        command = uuid4()
        context = Context(DEFAULT_ORGANISATION, LIBRARY, command, command)
        changed = [DeploymentKeyRotated(begin + n) for n in range(batch)]
        store.append([Write(stream, begin, changed)], context=context, occurred_at=now)
    return stream


def raw_database(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(
        "CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT, "
        "stream TEXT, version INTEGER, topic TEXT, state BLOB, "
        "UNIQUE (stream, version))"
    )
    return database


def raw_fill(database: sqlite3.Connection, events: int, batch: int) -> None:
    insert = "INSERT INTO events (stream, version, topic, state) VALUES (?, ?, ?, ?)"
    stream, state = uuid4().hex, b"x" * ROW_BYTES
    for begin in range(0, events, batch):
        database.execute("BEGIN IMMEDIATE")
        rows = [
            (stream, begin + n, "deployment.key_rotated", state) for n in range(batch)
        ]
        database.executemany(insert, rows)
        database.execute("COMMIT")


if __name__ == "__main__":
    main()
