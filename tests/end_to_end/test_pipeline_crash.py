"""Pipelines of a real server that is killed at random, again and again, go on.

The trainings are real processes too: each writes a line into a ledger when it begins.
They outlive the server, and whoever serves the store next adopts them.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

import arena_core
from arena_core import Arena, gym

import bundles
from end_to_end.processes import Place, eventually, serving

pytestmark = pytest.mark.slow

LINES = 4
KILLS = 5
SHORTEST_LIFE_S, LONGEST_LIFE_S = 0.2, 2.0
PATIENCE_S = 90.0
TRAIN = """
set -eu
echo "$ARENA_RUN_ID" >> "$0/ledger"
sleep 0.3
echo '{"step": 1, "score": 1.0, "fitness": 1.0}' >> metrics.jsonl
mkdir -p checkpoints
cp -r "$0/bundle" checkpoints/.1
mv checkpoints/.1 checkpoints/1
"""


@pytest.fixture
def place(tmp_path):
    bundles.cartpole(tmp_path / "bundle")
    return Place(tmp_path)


def lay(arena: Arena, project: UUID, place: Place) -> UUID:
    """Lay out two trainings and a deployment, and trigger the first."""
    line = arena.pipelines.create(project, name="line").id
    for trigger in ("manual", "auto"):
        made = arena.experiments.create(
            project,
            name=trigger,
            algorithm="PPO",
            source=gym("CartPole-v1"),
            recipe="command",
            config={"argv": ["/bin/sh", "-c", TRAIN, str(place.folder)]},
        )
        arena.pipelines.insert_stage(
            line, type="experiment", trigger=trigger, experiment_id=made.id
        )
    arena.pipelines.insert_stage(line, type="deployment", trigger="auto")
    first = arena.pipelines.get(line).stages[0]
    arena.pipelines.trigger(line, first.id)
    return line


def trainings(place: Place) -> list[int]:
    """Return the processes that train something of this place at this moment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if f"{place.store}.runs".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()]


def statuses(place: Place, lines: list[UUID]) -> list[list[str]]:
    with arena_core.open(place.store, serve=False) as arena:
        return [
            [stage.status.value for stage in arena.pipelines.get(line).stages]
            for line in lines
        ]


def await_the_end(place: Place, lines: list[UUID]) -> None:
    done = [["Succeeded"] * 3] * LINES
    eventually(
        lambda: statuses(place, lines) == done or time.sleep(0.1),
        what="all pipelines have ended",
        timeout_s=PATIENCE_S,
    )


def check_that_nothing_was_done_twice(place: Place, lines: list[UUID]) -> None:
    ledger = Counter((place.folder / "ledger").read_text().split())
    assert (len(ledger), set(ledger.values())) == (2 * LINES, {1})
    with arena_core.open(place.store, serve=False) as arena:
        names = Counter(event.name for event in arena.audit.log(limit=10_000))
        assert len(arena.agents.list()) == LINES
        assert list(arena.audit.verify()) == []
        runs = [
            (stage.run.number, stage.run.attempt)
            for line in lines
            for stage in arena.pipelines.get(line).stages
        ]
    assert runs == [(1, 1)] * 3 * LINES
    assert names["experiment.training_requested"] == 2 * LINES
    assert names["experiment.checkpoint_written"] == 2 * LINES
    assert names["stage.succeeded"] == 3 * LINES


@pytest.fixture
def lines(place):
    with arena_core.open(place.store, serve=False) as arena:
        project = arena.projects.create("lab", kind="advanced").id
        return [lay(arena, project, place) for _ in range(LINES)]


def chances() -> random.Random:
    return random.Random(int(os.environ.get("ARENA_CRASH_SEED", "1")))  # noqa: S311 -- chooses when to kill, guards nothing


def test_pipelines_end_as_they_should_however_often_the_server_dies(place, lines):
    chance = chances()
    for _ in range(KILLS):
        with serving(place, ready=False) as server:
            time.sleep(chance.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            server.kill()
    with serving(place):
        await_the_end(place, lines)
        check_that_nothing_was_done_twice(place, lines)
        eventually(lambda: not trainings(place), what="no training is left running")


@pytest.mark.skipif(sys.platform != "linux", reason="finds workers through /proc")
def test_pipelines_end_as_they_should_however_often_workers_die(place, lines):
    chance = chances()
    options = ("--token-file", place.token_file, "--workers", 2)
    with serving(place, *options) as server:
        for _ in range(KILLS):
            time.sleep(chance.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            workers = children(server.pid)
            if workers:
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
        await_the_end(place, lines)
        check_that_nothing_was_done_twice(place, lines)
        eventually(lambda: not trainings(place), what="no training is left running")
