"""get_action over HTTP against a bare Starlette echo of the same body.

Both servers are up together and take turns of one second; what is quoted is the median
of the rounds' ratios.  The load comes from a process of its own (`load.py`).

    python bench/data_plane.py [--rounds 5] [--seconds 1]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from attrs import frozen

import arena_core
from arena_core.application import npy

from machine import describe, memory_backed_folder, record, write_policy

HERE = Path(__file__).parent
CONNECTIONS = (1, 16, 64)
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@frozen
class Target:
    """A server that answers one request, again and again."""

    name: str
    process: int
    port: int
    path: str
    headers: dict[str, str]


@frozen
class Window:
    """One second, or so, of load on one target."""

    rate: float
    cpu_us: float
    """Of the server, for each request."""
    p50_ms: float
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    print(describe())
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s, medians of ratios\n")
    print("| connections | requests/s over echo | CPU/request | p50 | p99 | us CPU |")
    print("|---|---|---|---|---|---|")
    body = json.dumps({"obs": npy.to_base64(np.zeros((1, 4), np.float32))})
    with ExitStack() as stack:
        arena = stack.enter_context(arena_server())
        echo = stack.enter_context(echo_server())
        for target in (arena, echo):
            measure(target, body, 16, arguments.seconds)
        for connections in CONNECTIONS:
            rounds = [
                (
                    measure(arena, body, connections, arguments.seconds),
                    measure(echo, body, connections, arguments.seconds),
                )
                for _ in range(arguments.rounds)
            ]
            print(row(connections, rounds))


def row(connections: int, rounds: list[tuple[Window, Window]]) -> str:
    def ratio(figure: str) -> float:
        ratios: list[float] = [
            getattr(ours, figure) / getattr(echo, figure) for ours, echo in rounds
        ]
        return statistics.median(ratios)

    cpu_us = statistics.median(ours.cpu_us for ours, _ in rounds)
    ratios = [f"{ratio(name):.2f}" for name in ("rate", "cpu_us", "p50_ms", "p99_ms")]
    return f"| {connections} | {' | '.join(ratios)} | {cpu_us:.0f} |"


def measure(target: Target, body: str, connections: int, seconds: float) -> Window:
    before = cpu_seconds(target.process)
    command = [
        sys.executable,
        str(HERE / "load.py"),
        *map(str, (target.port, target.path, connections, seconds)),
    ]
    request = json.dumps({"headers": target.headers, "body": body})
    ran = subprocess.run(
        command, input=request, capture_output=True, text=True, check=True
    )
    found = json.loads(ran.stdout)
    assert found["failures"] == 0, f"{target.name}: {found}"
    used = cpu_seconds(target.process) - before
    rate = found["requests"] / found["seconds"]
    cpu_us = 1e6 * used / found["requests"]
    return Window(rate, cpu_us, found["p50_ms"], found["p99_ms"])


def cpu_seconds(process: int) -> float:
    """Return the user and system time of a process, from /proc (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


@contextmanager
def arena_server() -> Iterator[Target]:
    with memory_backed_folder() as folder:
        store = folder / "arena.db"
        deployment, key = put_live(store, write_policy(folder / "bundle"))
        command = ["-m", "arena_core", "serve", "--store", str(store), "--port", "0"]
        with running(command) as process:
            port = listening_port(process)
            path = f"/inference/{deployment}/get_action"
            yield Target("arena", process.pid, port, path, authorisation(key))


def put_live(store: Path, bundle: Path) -> tuple[str, str]:
    with arena_core.open(store) as arena:
        experiment = record(arena, bundle)
        agent = arena.agents.create("bench", experiment, checkpoint=arena_core.final())
        deployment = arena.agents.connect(agent.id).deployment
        assert deployment is not None
        return str(deployment.id), arena.agents.access(agent.id).api_key


def listening_port(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Listening on "):
            time.sleep(1.0)  # until the agent is live again in the new process
            return int(line.rpartition(":")[2])
    raise AssertionError("the server did not start")


@contextmanager
def echo_server() -> Iterator[Target]:
    with running([str(HERE / "echo.py")]) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        # The same headers, so that both parse the same request.
        yield Target("echo", process.pid, port, "/echo", authorisation("x" * 100))


def authorisation(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


@contextmanager
def running(arguments: list[str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    main()
