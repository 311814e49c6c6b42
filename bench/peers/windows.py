"""Windows of load on servers that take turns, and what is made of them."""

import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
from attrs import frozen

from load import Asked, Measured
from peers import processes
from peers.server import BENCH, Server

SPARE_S = 30.0
"""How much longer than it was told to a generator may take."""
WARM_UP_CONNECTIONS = 16


@frozen
class Window:
    """Some time of load on one server."""

    rate: float
    """Requests answered with 200, a second."""
    failures: int
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Of all of the server's processes, for each request."""


@frozen
class Comparison:
    """The rounds in which two servers took turns under the same load."""

    workload: str
    connections: int
    first: str
    second: str
    rounds: tuple[tuple[Window, Window], ...]

    def ratio(self, figure: str) -> float:
        """Return the median of the first's figure over the second's, by round."""
        ratios: list[float] = [
            getattr(first, figure) / getattr(second, figure)
            for first, second in self.rounds
        ]
        return statistics.median(ratios)

    def medians(self, figure: str) -> tuple[float, float]:
        firsts, seconds = zip(*self.rounds, strict=True)
        return _median(firsts, figure), _median(seconds, figure)

    @property
    def failures(self) -> tuple[int, int]:
        firsts, seconds = zip(*self.rounds, strict=True)
        return sum(w.failures for w in firsts), sum(w.failures for w in seconds)


def _median(windows: Sequence[Window], figure: str) -> float:
    figures: list[float] = [getattr(window, figure) for window in windows]
    return statistics.median(figures)


def has_wrk(seconds: float) -> bool:
    """Return whether wrk generates the load: it counts whole seconds only."""
    return shutil.which("wrk") is not None and seconds >= 1 and seconds == int(seconds)


def warm_up(server: Server, seconds: float) -> None:
    window(server, WARM_UP_CONNECTIONS, seconds)


def window(server: Server, connections: int, seconds: float) -> Window:
    return _measured(server, _generator(server, connections, seconds), seconds)


def scheduled(server: Server, connections: int, seconds: float, rate: float) -> Window:
    """Measure at `rate` requests a second, on a constant schedule."""
    command = [*_own_generator(server, connections, seconds), "--open", str(rate)]
    return _measured(server, command, seconds)


def _measured(server: Server, command: Sequence[str], seconds: float) -> Window:
    request = server.request
    with NamedTemporaryFile() as body:
        Path(body.name).write_bytes(request.body)
        before = processes.cpu_seconds(server.process)
        ran = subprocess.run(
            [word.replace("{body}", body.name) for word in command],
            input=msgspec.json.encode(Asked(request.headers, request.body)),
            capture_output=True,
            check=True,
            timeout=seconds + SPARE_S,
        )
    used = processes.used(before, processes.cpu_seconds(server.process))
    last = ran.stdout.strip().rpartition(b"\n")[2]
    return _window(msgspec.json.decode(last, type=Measured), used)


def _window(measured: Measured, cpu_seconds: float) -> Window:
    answered = max(measured.requests, 1)
    return Window(
        rate=answered / measured.seconds,
        failures=measured.failures,
        p50_ms=measured.p50_ms,
        p99_ms=measured.p99_ms,
        cpu_us=1e6 * cpu_seconds / answered,
    )


def _generator(server: Server, connections: int, seconds: float) -> list[str]:
    if not has_wrk(seconds):
        return _own_generator(server, connections, seconds)
    url = f"http://127.0.0.1:{server.port}{server.path}"
    script = str(BENCH / "peers" / "wrk.lua")
    size = ["-t", "1", "-c", str(connections), "-d", f"{int(seconds)}s"]
    headers = [f"{name}: {value}" for name, value in server.request.headers.items()]
    return [
        "wrk",
        *size,
        "--timeout",
        "10s",
        "-s",
        script,
        url,
        "--",
        "{body}",
        *headers,
    ]


def _own_generator(server: Server, connections: int, seconds: float) -> list[str]:
    arguments = (server.port, server.path, connections, seconds)
    return [sys.executable, str(BENCH / "load.py"), *map(str, arguments)]
