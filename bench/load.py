"""A load generator over keep-alive connections, in a process of its own.

    python bench/load.py PORT PATH CONNECTIONS SECONDS [--open RATE] < request.json

Closed loop: each connection asks again as soon as it is answered.  With `--open`, RATE
requests a second arrive on a constant schedule, whatever the server does; each waits
for a free connection, and its latency counts from when it was to arrive, so that a
server that stalls is not asked less (no coordinated omission).

The request on standard input is {"headers": {...}, "body": "<base64>"}.  Prints one
JSON object: requests answered with 200, others, seconds, and latency percentiles in ms.
"""

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

import msgspec
import uvloop

HEAD_END = b"\r\n\r\n"
DRAINED_WITHIN_S = 5.0


class Asked(msgspec.Struct):
    headers: dict[str, str]
    body: bytes


class Measured(msgspec.Struct):
    requests: int
    failures: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Connection(asyncio.Protocol):
    """One keep-alive connection.  Answers must carry a Content-Length."""

    def __init__(self, request: bytes, answered: "Answered") -> None:
        self.begun = 0.0
        """When the request that is under way was to be asked."""
        self._request = request
        self._answered = answered
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(HEAD_END)
        if not separator or len(rest) < content_length(head):
            return
        self._buffer = b""
        self._answered(self, head.startswith(b"HTTP/1.1 200"))

    def ask(self, begun: float) -> None:
        assert self._transport is not None
        self.begun = begun
        self._transport.write(self._request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


Answered = Callable[[Connection, bool], None]
"""Called with each answer, and whether its status was 200."""


def content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.index(b"content-length:") + len(b"content-length:")
    return int(lowered[start:].split(b"\r\n", 1)[0])


def raw_request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEAD_END + body


class Tally:
    """The latencies and failures of one run."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.failures = 0

    def count(self, connection: Connection, *, succeeded: bool) -> None:
        self.latencies.append(time.perf_counter() - connection.begun)
        self.failures += not succeeded

    def over(self, seconds: float, *, unanswered: int = 0) -> Measured:
        ordered = sorted(self.latencies)
        return Measured(
            len(ordered) - self.failures,
            self.failures + unanswered,
            seconds,
            1000 * ordered[len(ordered) // 2],
            1000 * ordered[int(len(ordered) * 0.99)],
        )


async def connect(
    port: int, request: bytes, connections: int, answered: Answered
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda: Connection(request, answered), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    return [protocol for _, protocol in made]


async def closed_loop(
    port: int, request: bytes, connections: int, seconds: float
) -> Measured:
    tally = Tally()

    def answered(connection: Connection, succeeded: bool) -> None:  # noqa: FBT001 -- a callback's arguments have no names
        tally.count(connection, succeeded=succeeded)
        if not done:
            connection.ask(time.perf_counter())

    done, made = False, await connect(port, request, connections, answered)
    begun = time.perf_counter()
    for connection in made:
        connection.ask(begun)
    await asyncio.sleep(seconds)
    done, elapsed = True, time.perf_counter() - begun
    measured = tally.over(elapsed)
    for connection in made:
        connection.close()
    return measured


async def open_loop(
    port: int, request: bytes, connections: int, seconds: float, rate: float
) -> Measured:
    """Ask on schedule.  Keeps one core busy: the loop's timers count milliseconds."""
    tally, waiting = Tally(), deque[float]()

    def answered(connection: Connection, succeeded: bool) -> None:  # noqa: FBT001 -- a callback's arguments have no names
        tally.count(connection, succeeded=succeeded)
        free.append(connection)

    made = await connect(port, request, connections, answered)
    free, planned, arrivals = deque(made), int(rate * seconds), 0
    begun = time.perf_counter()
    ends = begun + seconds + DRAINED_WITHIN_S
    while len(tally.latencies) < planned and (now := time.perf_counter()) < ends:
        while arrivals < planned and begun + arrivals / rate <= now:
            waiting.append(begun + arrivals / rate)
            arrivals += 1
        while waiting and free:
            free.popleft().ask(waiting.popleft())
        await asyncio.sleep(0)
    elapsed, unanswered = time.perf_counter() - begun, planned - len(tally.latencies)
    for connection in made:
        connection.close()
    return tally.over(elapsed, unanswered=unanswered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--open", type=float, metavar="RATE")
    given = parser.parse_args()
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    request = raw_request(given.path, asked.headers, asked.body)
    job: Coroutine[Any, Any, Measured]
    if given.open is None:
        job = closed_loop(given.port, request, given.connections, given.seconds)
    else:
        job = open_loop(
            given.port, request, given.connections, given.seconds, given.open
        )
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(job)) + b"\n")


if __name__ == "__main__":
    main()
