"""What a server does that is asked four times what it can answer.

First how much that is: a dear agent (a convolutional policy of about 1 ms a row) is
asked in a closed loop.  Then requests arrive at four times that rate whatever happens,
from a process of its own, while a cheap agent on the same server is asked 50 times a
second, as it was when nothing else was going on.  Exit status 1 where a goal is missed.

    python bench/overload.py [--seconds 10] [--factor 4] [--deadline-ms 1000]
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from attrs import asdict, frozen

from arena_core.application import npy

from machine import describe, write_policy
from policies import FRAME, write_dear
from served import Agent, ControlPlane, Prepared, Server, prepare, serving

HERE = Path(__file__).parent
DEAR, CHEAP = 1, 2
CAPACITY_CONNECTIONS, CAPACITY_S = 64, 5.0
SPARE_CONNECTIONS, MOST_CONNECTIONS = 512, 6000
OPEN_FILES = 8192
NEIGHBOUR_RATE, NEIGHBOUR_CONNECTIONS = 50.0, 8
GOODPUT, REFUSAL_MS, NEIGHBOUR_MS = 0.9, 50.0, 50.0


@frozen
class Load:
    """What one process asks."""

    port: int
    path: str
    headers: dict[str, str]
    body: str

    def start(
        self, rate: float, seconds: float, connections: int
    ) -> "subprocess.Popen[str]":
        command = [sys.executable, str(HERE / "arrivals.py"), str(self.port), self.path]
        process = subprocess.Popen(
            [*command, str(rate), str(seconds), str(connections)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        json.dump({"headers": self.headers, "body": self.body}, process.stdin)
        process.stdin.close()
        return process


def result(process: "subprocess.Popen[str]") -> Any:  # noqa: ANN401 -- JSON
    assert process.stdout is not None
    said = process.stdout.read()
    if process.wait():
        raise SystemExit("The load generator has failed.")
    return json.loads(said)


@frozen
class Measured:
    capacity: float
    """Answers in a second, in the closed loop."""
    dear: Any
    quiet: Any
    """What the cheap agent's caller met before."""
    beside: Any
    """What it met beside the overload."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--factor", type=float, default=4.0)
    parser.add_argument("--deadline-ms", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="write what was measured, as JSON")
    given = parser.parse_args()
    print(describe(), flush=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    with TemporaryDirectory() as name:
        folder = Path(name)
        bundles = [write_dear(folder / "dear"), write_policy(folder / "cheap")]
        prepared = prepare(folder, bundles)
        with serving(prepared) as server:
            dear, cheap = asyncio.run(loads(server, prepared, given.deadline_ms))
            measured = measure(dear, cheap, given)
    if given.out is not None:
        said = {"machine": describe(), **asdict(measured)}
        given.out.write_text(json.dumps(said, indent=1))
    sys.exit(report(measured))


async def loads(
    server: Server, prepared: Prepared, deadline_ms: int
) -> tuple[Load, Load]:
    """Put both agents live; return what they are to be asked."""
    control = ControlPlane.of(server)
    frame = np.random.default_rng(0).integers(0, 256, (1, *FRAME), np.uint8)
    asked = {DEAR: frame, CHEAP: np.zeros((1, 4), np.float32)}
    made = []
    for step, observed in asked.items():
        agent = await Agent.connected(
            control, prepared.experiment, step=step, name=f"agent {step}"
        )
        path, key = await agent.access()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if step == DEAR:
            headers["Arena-Timeout-Ms"] = str(deadline_ms)
        body = json.dumps({"obs": npy.to_base64(observed)})
        made.append(Load(server.port, path, headers, body))
    dear, cheap = made
    return dear, cheap


def measure(dear: Load, cheap: Load, given: argparse.Namespace) -> Measured:
    for load in (dear, cheap):
        result(load.start(0, 1.0, 4))
    closed = result(dear.start(0, CAPACITY_S, CAPACITY_CONNECTIONS))
    capacity = answered(closed, "200")["in_time"] / CAPACITY_S
    print(f"capacity: {capacity:.0f} answers/s", flush=True)
    neighbour = (NEIGHBOUR_RATE, given.seconds, NEIGHBOUR_CONNECTIONS)
    quiet = result(cheap.start(*neighbour))
    # As many as wait at most until their deadline, and one for each that is refused.
    waiting = int(capacity * given.deadline_ms / 1000 * 1.5) + SPARE_CONNECTIONS
    connections = min(waiting, MOST_CONNECTIONS)
    flood = dear.start(given.factor * capacity, given.seconds, connections)
    beside = result(cheap.start(*neighbour))
    return Measured(capacity, result(flood), quiet, beside)


def answered(load: Any, status: str) -> Any:  # noqa: ANN401 -- JSON
    """Return the answers of one status."""
    nothing = dict.fromkeys(("p50_ms", "p99_ms", "p99_ms_since_sent"), float("nan"))
    return load["answered"].get(status, {"count": 0, "in_time": 0, **nothing})


def failures(load: Any) -> int:  # noqa: ANN401 -- JSON
    """Return how many requests were not answered with 200."""
    others = sum(a["count"] for s, a in load["answered"].items() if s != "200")
    return int(others + load["lost"] + load["unanswered"])


@frozen
class Goal:
    what: str
    wanted: str
    found: str
    is_met: bool

    def __str__(self) -> str:
        met = "met" if self.is_met else "**missed**"
        return f"| {self.what} | {self.wanted} | {self.found} | {met} |"


def goals(measured: Measured) -> list[Goal]:
    dear, beside = measured.dear, measured.beside
    in_time = answered(dear, "200")["in_time"] / dear["seconds"]
    share = in_time / measured.capacity
    refused, late = answered(dear, "503"), answered(dear, "504")
    p99 = refused["p99_ms"]
    odd = failures(dear) - refused["count"] - late["count"]
    cheap = answered(beside, "200")["p99_ms"]
    failed = failures(beside)
    return [
        Goal("goodput over capacity", "0.9", f"{share:.2f}", share >= GOODPUT),
        Goal("refusals (503): p99", "50 ms", f"{p99:.1f} ms", p99 < REFUSAL_MS),
        Goal("neither answered nor refused", "0", str(odd), odd == 0),
        Goal("the other agent: p99", "50 ms", f"{cheap:.1f} ms", cheap < NEIGHBOUR_MS),
        Goal("the other agent: failures", "0", str(failed), failed == 0),
    ]


def report(measured: Measured) -> int:
    """Print the tables; return the exit status."""
    reached = goals(measured)
    print("\n| what | goal | measured | |\n|---|---|---|---|")
    print("\n".join([*map(str, reached), *rows(measured)]))
    return 0 if all(goal.is_met for goal in reached) else 1


def rows(measured: Measured) -> list[str]:
    """Return what was asked and answered, status by status."""
    lines = ["", "| load | status | answers | p50 ms | p99 ms | p99 ms since sent |"]
    lines.append("|---|---|---|---|---|---|")
    for name in ("dear", "quiet", "beside"):
        load = getattr(measured, name)
        for status, a in load["answered"].items():
            figures = (a["p50_ms"], a["p99_ms"], a["p99_ms_since_sent"])
            shown = " | ".join(f"{figure:.1f}" for figure in figures)
            lines.append(f"| {name} | {status} | {a['count']} | {shown} |")
        lines.append(f"| {name} | lost | {load['lost']} | | | |")
        lines.append(f"| {name} | unanswered | {load['unanswered']} | | | |")
        late = f"{load['late_p99_ms']:.1f}"
        lines.append(f"| {name} | generator late by | | | {late} | |")
    return lines


if __name__ == "__main__":
    main()
