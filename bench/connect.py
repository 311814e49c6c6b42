"""From a frozen checkpoint to the first action: how long a user waits.

Cold: a new process from its start (less the start of a bare interpreter) to the first
action of a 2x64 MLP; warm: in a process that has connected something before, from
asking for Connect to Deployed (parity checked), and to the first action, in process
and over HTTP.  The log is on the disk that holds this folder, fsynced.

    python bench/connect.py [--rounds 7]
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import numpy as np

import arena_core
from arena_core.entrypoints.http.server import Server, listen
from arena_core.entrypoints.play.endpoint import Endpoint

from machine import describe, record, write_policy

OBSERVATION = np.zeros(4, np.float32)
COLD = """
import sys, uuid, numpy, arena_core
store, experiment = sys.argv[1], uuid.UUID(sys.argv[2])
with arena_core.open(store) as arena:
    agent = arena.agents.create("cold", experiment, checkpoint=arena_core.final())
    arena.agents.connect(agent.id)
    arena.inference(agent.id).get_action(numpy.zeros(4, numpy.float32))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(describe())
    print(f"medians of {rounds} rounds, in ms\n")
    print("| from freezing | to Deployed | to the first action |")
    print("|---|---|---|")
    with TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        store = folder / "arena.db"
        experiment = prepare(store, write_policy(folder / "bundle"))
        bare = statistics.median(timed(lambda: python("pass")) for _ in range(rounds))
        cold = statistics.median(
            timed(lambda: python(COLD, str(store), str(experiment)))
            for _ in range(rounds)
        )
        print(f"| cold process, beyond interpreter start | | {cold - bare:.0f} |")
        with arena_core.open(store) as arena:
            report("warm, in process", in_process(arena, experiment), rounds)
            with Server(arena.asgi(), listen("127.0.0.1", 0)).in_background() as url:
                report("warm, over HTTP", over_http(arena, experiment, url), rounds)


Lap = Callable[[], tuple[float, float]]


def report(name: str, lap: Lap, rounds: int) -> None:
    lap()
    laps = [lap() for _ in range(rounds)]
    deployed, acted = (statistics.median(column) for column in zip(*laps, strict=True))
    print(f"| {name} | {deployed:.1f} | {acted:.1f} |")


def in_process(arena: arena_core.Arena, experiment: UUID) -> Lap:
    def lap() -> tuple[float, float]:
        begun = time.perf_counter()
        agent = connect(arena, experiment)
        deployed = ms_since(begun)
        arena.inference(agent).get_action(OBSERVATION)
        return deployed, ms_since(begun)

    return lap


def over_http(arena: arena_core.Arena, experiment: UUID, url: str) -> Lap:
    def lap() -> tuple[float, float]:
        begun = time.perf_counter()
        agent = arena.agents.get(connect(arena, experiment))
        deployed = ms_since(begun)
        assert agent.deployment is not None
        key = arena.agents.access(agent.id).api_key
        with Endpoint(f"{url}/inference/{agent.deployment.id}", key) as endpoint:
            endpoint.get_action(OBSERVATION)
        return deployed, ms_since(begun)

    return lap


def connect(arena: arena_core.Arena, experiment: UUID) -> UUID:
    agent = arena.agents.create("warm", experiment, checkpoint=arena_core.final())
    connected = arena.agents.connect(agent.id)
    assert connected.deployment is not None
    assert connected.deployment.connected, connected.deployment.reason
    return agent.id


def prepare(store: Path, bundle: Path) -> UUID:
    with arena_core.open(store) as arena:
        return record(arena, bundle)


def python(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return ms_since(begun)


def ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    main()
