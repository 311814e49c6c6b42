"""A load generator with an open loop: requests come when they come.

They arrive at a constant rate, whatever the server does, and latency counts from when
a request was due, so that a slow server cannot hide by slowing its callers.  A process
of its own, so that it shares no interpreter with what it measures:

    python bench/arrivals.py PORT PATH RATE SECONDS CONNECTIONS < request.json

The request is {"headers": {...}, "body": "..."}.  A RATE of 0 closes the loop: each
connection asks again at once.  Prints one JSON object; `answered` is by status.
"""

import asyncio
import gc
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import uvloop
from attrs import define, field

from load import raw_request
from wire import Connection, Lost

LAST_ANSWERS_S = 10.0
SETTLING_S = 0.5
TICK_S = 0.001


@define
class Schedule:
    """When requests are due; shared by all connections."""

    rate: float
    begin: float
    end: float
    late: list[float] = field(factory=list)
    """By how much this process itself was behind, request by request."""
    _due: "asyncio.Queue[float | None]" = field(factory=asyncio.Queue)

    async def announce(self, connections: int) -> None:
        """Make each request known when it is due, or in the same millisecond."""
        for number in range(int(self.rate * (self.end - self.begin))):
            due = self.begin + number / self.rate
            while (left_s := due - time.perf_counter()) > 0:  # noqa: ASYNC110 -- a clock
                await asyncio.sleep(max(left_s, TICK_S))
            self.late.append(-left_s)
            self._due.put_nowait(due)
        for _ in range(connections):
            self._due.put_nowait(None)

    async def arrivals(self) -> AsyncIterator[float]:
        """Yield when the requests that one connection takes were due."""
        await asyncio.sleep(self.begin - time.perf_counter())
        while self.rate and (due := await self._due.get()) is not None:
            yield due
        while not self.rate and (now := time.perf_counter()) < self.end:
            yield now

    def waiting(self) -> int:
        """Return how many requests were due and had no connection."""
        left = [self._due.get_nowait() for _ in range(self._due.qsize())]
        return sum(due is not None for due in left)


@define
class Outcome:
    """The answers of one status."""

    since_due: list[float] = field(factory=list)
    since_sent: list[float] = field(factory=list)
    in_time: int = 0
    """Answered before the end."""

    def summary(self) -> dict[str, float]:
        return {
            "count": len(self.since_due),
            "in_time": self.in_time,
            "p50_ms": percentile_ms(self.since_due, 0.5),
            "p99_ms": percentile_ms(self.since_due, 0.99),
            "p99_ms_since_sent": percentile_ms(self.since_sent, 0.99),
        }


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    return 1000 * sorted(seconds)[int(share * (len(seconds) - 1))]


@define
class Outcomes:
    answered: dict[int, Outcome] = field(factory=lambda: defaultdict(Outcome))
    lost: int = 0


async def ask_on(
    connection: Connection,
    port: int,
    request: bytes,
    schedule: Schedule,
    outcomes: Outcomes,
) -> None:
    """Send what is due over one connection, opened anew when the server closes it."""
    async for due in schedule.arrivals():
        if not connection.is_open:
            connection = await Connection.open(port)
        try:
            answer = await connection.ask(request)
        except Lost:
            outcomes.lost += 1
            continue
        now, outcome = time.perf_counter(), outcomes.answered[answer.status]
        outcome.since_due.append(now - due)
        outcome.since_sent.append(answer.seconds)
        outcome.in_time += now <= schedule.end
        if (answer.header("Connection") or "").lower() == "close":
            connection.close()
    connection.close()


async def measure(
    port: int, request: bytes, rate: float, seconds: float, connections: int
) -> dict[str, object]:
    opened = [await Connection.open(port) for _ in range(connections)]
    begin = time.perf_counter() + SETTLING_S
    schedule, outcomes = Schedule(rate, begin, begin + seconds), Outcomes()
    callers = [
        asyncio.ensure_future(ask_on(connection, port, request, schedule, outcomes))
        for connection in opened
    ]
    if rate:
        await schedule.announce(connections)
    finished, unfinished = await asyncio.wait(
        callers, timeout=max(0.0, schedule.end - time.perf_counter()) + LAST_ANSWERS_S
    )
    for caller in unfinished:
        caller.cancel()
    for caller in finished:
        caller.result()
    return {
        "seconds": seconds,
        "scheduled": int(rate * seconds),
        "answered": {
            str(status): outcome.summary()
            for status, outcome in sorted(outcomes.answered.items())
        },
        "late_p99_ms": percentile_ms(schedule.late, 0.99) if rate else 0.0,
        "lost": outcomes.lost,
        "unanswered": len(unfinished) + schedule.waiting(),
    }


def main() -> None:
    port, path, rate, seconds, connections = sys.argv[1:6]
    asked = json.load(sys.stdin)
    request = raw_request(path, asked["headers"], asked["body"].encode())
    gc.disable()  # a pause here would look like one of the server
    job = measure(int(port), request, float(rate), float(seconds), int(connections))
    print(json.dumps(uvloop.run(job)))


if __name__ == "__main__":
    main()
