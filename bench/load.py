"""A closed-loop load generator: N keep-alive connections, each asks again at once.

Runs as a process of its own, so that it shares no interpreter with what it measures:

    python bench/load.py PORT PATH CONNECTIONS SECONDS < request.json

The request on standard input is {"headers": {...}, "body": "..."}.  Prints one JSON
object: requests answered with 200, others, seconds, and latency percentiles in ms.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

HEAD_END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One keep-alive connection.  Answers must carry a Content-Length."""

    def __init__(self, request: bytes, done: asyncio.Event) -> None:
        self.request = request
        self.done = done
        self.latencies: list[float] = []
        self.failures = 0
        self._buffer = b""
        self._begun = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(HEAD_END)
        if not separator or len(rest) < content_length(head):
            return
        self.latencies.append(time.perf_counter() - self._begun)
        self.failures += not head.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        if self.done.is_set():
            self.close()
        else:
            self._ask()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _ask(self) -> None:
        assert self._transport is not None
        self._begun = time.perf_counter()
        self._transport.write(self.request)


def content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.index(b"content-length:") + len(b"content-length:")
    return int(lowered[start:].split(b"\r\n", 1)[0])


def raw_request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEAD_END + body


async def measure(
    port: int, request: bytes, connections: int, seconds: float
) -> dict[str, float]:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    made = [
        await loop.create_connection(
            lambda: Connection(request, done), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - begun
    done.set()
    protocols = [protocol for _, protocol in made]
    latencies = sorted(t for protocol in protocols for t in protocol.latencies)
    failures = sum(protocol.failures for protocol in protocols)
    for protocol in protocols:
        protocol.close()
    return {
        "requests": len(latencies) - failures,
        "failures": failures,
        "seconds": elapsed,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[int(len(latencies) * 0.99)],
    }


def main() -> None:
    port, path, connections, seconds = sys.argv[1:5]
    asked = json.load(sys.stdin)
    request = raw_request(path, asked["headers"], asked["body"].encode())
    job = measure(int(port), request, int(connections), float(seconds))
    print(json.dumps(uvloop.run(job)))


if __name__ == "__main__":
    main()
