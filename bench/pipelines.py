"""What the runner of pipelines costs, beside DBOS and Prefect in the same run.

Every part has a process and a store of its own, on the disk of `--folder`, and every
append is synced.  Trainings do nothing but hand over a checkpoint, always the same one:
in memory of the same process, or (`processes`) as real processes.

- overhead: from "stage succeeded" to "next stage started", by the times in the log
- throughput: many pipelines at once to completion, for each number of them; with what
  syncing alone would take, by the time of one sync in the same run: that is the limit
- processes: the same with real processes
- idle: CPU of a process with stages that wait, and of one with none
- peer: chains of steps that do nothing in DBOS and in Prefect, both on SQLite

    python bench/pipelines.py [--part overhead ...] [--pipelines 50 200 1000]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import arena_core
from arena_core import Arena
from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.adapters.trainers.scripted import Report
from arena_core.application.ports import Context, Recorded, Write
from arena_core.application.trainer import Trainer
from arena_core.entrypoints import wiring

from machine import describe, write_policy
from peers.environments import InstallError, python_of

PEERS = Path(__file__).parent / "peers"
FOLDER = Path(__file__).parents[1] / ".environments" / "runs"
"""Where the stores are: a run that is killed leaves its own there."""
AT_ONCE = 64
"""Trainings at the same time, where they are in memory."""
PATIENCE_S = 1800.0
LOOK_S = 0.2
PAGE = 1000
SHELL = """
set -eu
mkdir -p checkpoints && cp -r "$0" checkpoints/.1 && mv checkpoints/.1 checkpoints/1
"""


@contextmanager
def opened(
    folder: Path, bundle: Path, *, in_memory: bool, trainings: int | None = None
) -> Iterator[Arena]:
    """Give a store whose trainings hand `bundle` over, and do nothing else."""

    def nothing(run: Report) -> None:
        run.checkpoint(1, lambda folder: _copy(bundle, folder))

    def in_this_process(_settings: object, resources: ExitStack) -> Trainer:
        return resources.enter_context(closing(MemoryTrainer({"command": nothing})))

    if in_memory:
        # The whole of the library as it is, but for what trains.
        vars(wiring)["_trainer"] = in_this_process
    with arena_core.open(folder / "arena.db", trainings=trainings) as arena:
        yield arena


def _copy(bundle: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in bundle.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())


def lay(
    arena: Arena, project: UUID, stages: int, bundle: Path, **first: object
) -> UUID:
    """Return a pipeline of Experiment stages, all but the first of them Auto."""
    line = arena.pipelines.create(project, name="line").id
    for number in range(stages):
        made = arena.experiments.create(
            project,
            name=f"{number}",
            algorithm="PPO",
            source=arena_core.gym("CartPole-v1"),
            recipe="command",
            config={"argv": ["/bin/sh", "-c", SHELL, str(bundle)]},
        )
        said = {"trigger": "auto", "checkpoint": "final"} if number else first
        arena.pipelines.insert_stage(
            line, type="experiment", experiment_id=made.id, **said
        )
    return line


def trigger(arena: Arena, line: UUID) -> None:
    arena.pipelines.trigger(line, arena.pipelines.get(line).stages[0].id)


def events(arena: Arena, after: int = 0) -> Iterator[Recorded]:
    store = arena.application.core.store
    while page := store.read_all(after=after, limit=PAGE):
        yield from page
        after = page[-1].position


def await_successes(arena: Arena, after: int, wanted: int) -> None:
    """Wait until so many stages have succeeded.  Raises `SystemExit` if one fails."""
    deadline, seen = time.monotonic() + PATIENCE_S, 0
    while seen < wanted:
        for recorded in events(arena, after):
            after = recorded.position
            seen += recorded.name == "stage.succeeded"
            if recorded.name == "stage.failed":
                raise SystemExit(f"a stage has failed: {recorded.event.reason}")
        if time.monotonic() > deadline:
            raise SystemExit(f"only {seen} of {wanted} stages have succeeded")
        time.sleep(LOOK_S)


# --- the parts -----------------------------------------------------------------------


def overhead(folder: Path, said: argparse.Namespace) -> dict[str, object]:
    bundle = write_policy(folder / "bundle")
    with opened(folder, bundle, in_memory=True) as arena:
        project = arena.projects.create("bench", kind="advanced").id
        for _ in range(said.chains):
            line = lay(arena, project, said.stages, bundle)
            after = arena.application.core.store.head()
            trigger(arena, line)
            await_successes(arena, after, said.stages)
        log = list(events(arena))
    return {
        "training succeeded to stage succeeded, ms": _figures(
            _gaps(log, "experiment.training_succeeded", "stage.succeeded")
        ),
        "stage succeeded to next started, ms": _figures(
            _gaps(log, "stage.succeeded", "stage.started")
        ),
        "the whole of a stage, ms": _figures(
            _gaps(log, "stage.started", "stage.succeeded")
        ),
    }


def _gaps(log: list[Recorded], first: str, second: str) -> list[float]:
    """Return the times between a `first` and the `second` that follows it, in ms."""
    gaps: list[float] = []
    begun: datetime | None = None
    for recorded in log:
        if recorded.name == first:
            begun = recorded.recorded_at
        elif recorded.name == second and begun is not None:
            gaps.append((recorded.recorded_at - begun).total_seconds() * 1000)
            begun = None
        elif recorded.name == "pipeline.created":
            begun = None
    return gaps


def _figures(values: list[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100)
    return {
        "n": len(values),
        "p50": round(median(values), 2),
        "p99": round(cuts[98], 2),
    }


def throughput(folder: Path, said: argparse.Namespace) -> dict[str, object]:
    (lines,) = said.pipelines
    return _many(folder, lines, said.stages, in_memory=True)


def processes(folder: Path, said: argparse.Namespace) -> dict[str, object]:
    return _many(folder, said.processes, said.stages, in_memory=False)


def _many(
    folder: Path, lines: int, stages: int, *, in_memory: bool
) -> dict[str, object]:
    bundle = write_policy(folder / "bundle")
    most = AT_ONCE if in_memory else None
    syncs = counted_syncs()
    with opened(folder, bundle, in_memory=in_memory, trainings=most) as arena:
        project = arena.projects.create("bench", kind="advanced").id
        began_to_lay = time.monotonic()
        laid = [lay(arena, project, stages, bundle) for _ in range(lines)]
        laid_s = time.monotonic() - began_to_lay
        before = arena.application.core.store.head()
        synced, used_s, begun = len(syncs), _used_s(), time.monotonic()
        for line in laid:
            trigger(arena, line)
        await_successes(arena, before, lines * stages)
        wall_s, used_s = time.monotonic() - begun, _used_s() - used_s
        count = arena.application.core.store.head() - before
        synced = len(syncs) - synced
    sync_s, every = sync_takes_s(folder), lines * stages
    return {
        "pipelines": lines,
        "stages": stages,
        "laying one, ms": round(laid_s / lines * 1000, 1),
        "wall_s": round(wall_s, 1),
        "events": count,
        "events_per_s": round(count / wall_s),
        "stages_per_s": round(every / wall_s, 1),
        "wall of a stage, ms": round(wall_s / every * 1000, 1),
        "processor of a stage, ms": round(used_s / every * 1000, 1),
        "syncs of a stage": round(synced / every, 1),
        "one sync, ms": round(sync_s * 1000, 3),
        "wall over the syncs alone": round(wall_s / (synced * sync_s), 1),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def counted_syncs() -> list[None]:
    """Return a list that grows by one with each sync of this process.

    Those by which SQLite brings its log into the file, each 1,000 pages, are left out.
    """
    syncs: list[None] = []
    sync, append = os.fsync, SQLiteEventStore.append

    def counting_sync(descriptor: int) -> None:
        syncs.append(None)
        sync(descriptor)

    def counting_append(
        store: SQLiteEventStore,
        writes: Sequence[Write],
        *,
        context: Context,
        occurred_at: datetime,
    ) -> int:
        if any(write.events for write in writes):
            syncs.append(None)
        return append(store, writes, context=context, occurred_at=occurred_at)

    vars(os)["fsync"] = counting_sync
    type.__setattr__(SQLiteEventStore, "append", counting_append)
    return syncs


def sync_takes_s(folder: Path, tries: int = 300) -> float:
    """Return the median time of a sync of 4 KiB more at the end of a file."""
    took: list[float] = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(tries):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    return median(took)


def idle(folder: Path, said: argparse.Namespace) -> dict[str, object]:
    none = _cpu(folder / "none", 0, said.idle_s)
    waiting = _cpu(folder / "waiting", said.waiting, said.idle_s)
    return {
        "seconds": said.idle_s,
        "no stage, % of a core": none,
        f"{said.waiting} waiting stages, % of a core": waiting,
    }


def _cpu(folder: Path, waiting: int, idle_s: float) -> float:
    """Return how much of a core is used while that many stages await approval."""
    bundle = write_policy(folder / "bundle")
    with opened(folder, bundle, in_memory=True) as arena:
        project = arena.projects.create("bench", kind="advanced").id
        for _ in range(waiting):
            trigger(arena, lay(arena, project, 1, bundle, approval=True))
        time.sleep(2.0)
        before = _used_s()
        time.sleep(idle_s)
        return round((_used_s() - before) / idle_s * 100, 2)


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peer(folder: Path, said: argparse.Namespace) -> dict[str, object]:
    chains = {"dbos": max(said.pipelines), "prefect": said.chains}
    return {
        name: _peer(folder, name, said, at_once) for name, at_once in chains.items()
    }


def _peer(
    folder: Path, name: str, said: argparse.Namespace, chains: int
) -> dict[str, object]:
    try:
        python = python_of(name)
    except InstallError as error:
        return {"not measured": str(error)}
    chain = PEERS / name / "chain.py"
    one = _of_peer(folder, python, chain, 1, said.chains * said.stages)
    many = _of_peer(folder, python, chain, chains, said.stages)
    between = [s * 1000 for s in one["between_s"]]
    return {
        "step done to next begun, ms": _figures(between),
        "chains": chains,
        "wall_s": round(many["wall_s"], 1),
        "steps_per_s": round(chains * said.stages / many["wall_s"], 1),
    }


def _of_peer(
    folder: Path, python: Path, chain: Path, chains: int, steps: int
) -> dict[str, Any]:
    done = subprocess.run(
        [str(python), str(chain), str(chains), str(steps)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
        cwd=folder,
    )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


PARTS: dict[str, Callable[[Path, argparse.Namespace], dict[str, object]]] = {
    part.__name__: part for part in (overhead, throughput, processes, idle, peer)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--pipelines", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--stages", type=int, default=5)
    parser.add_argument("--processes", type=int, default=20, help="pipelines of them")
    parser.add_argument("--chains", type=int, default=40, help="one after the other")
    parser.add_argument("--waiting", type=int, default=200)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the stores")
    said = parser.parse_args()
    many = "throughput" in said.part and len(said.pipelines) > 1
    if len(said.part) == 1 and not many:
        said.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=said.folder) as name:
            figures = PARTS[said.part[0]](Path(name).absolute(), said)
        print(json.dumps(figures))
        return
    parts = {part: _measured(part, said) for part in said.part}
    print(json.dumps({"machine": describe(), **parts}, indent=2))


def _measured(part: str, said: argparse.Namespace) -> object:
    if part != "throughput":
        return _apart(part, said)
    return [_apart(part, said, pipelines=[number]) for number in said.pipelines]


def _apart(part: str, said: argparse.Namespace, **instead: object) -> dict[str, Any]:
    """Measure one part in a process of its own, with what else was said."""
    command = [sys.executable, __file__, "--part", part]
    for name, value in (vars(said) | instead).items():
        if name != "part":
            values = value if isinstance(value, list) else [value]
            command += [f"--{name.replace('_', '-')}", *map(str, values)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
