"""Whether an agent is always on, and always answers by the weights that are live.

A real server on a store on disk is asked over keep-alive connections without a pause
while its agent's checkpoint is swapped and rolled back and its key is rotated, all over
HTTP, and with --kill-every while its processes are killed.  The weights give themselves
away in every answer, and so do the observations.  Of every answer is checked:

- it is a 200, its digest (a header) and its value are of the same weights, its rows are
  those of the question, and the log's position never goes back on a connection;
- what was asked after a swap was acknowledged is not answered by older weights;
- what was asked after a rotation was acknowledged is refused with the older key.

Exit status 1 if any of it is not so, or if memory grows.

    python bench/soak.py [--minutes 15] [--connections 16] [--workers 1]
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from attrs import asdict, define, field

from machine import describe
from memory import Growth, ResidentSets, children
from policies import write_telltale
from served import Agent, ControlPlane, Prepared, Refused, Server, prepare, serving
from timeline import Keys, Swaps
from watching import Findings, Watch, call, questions, try_old_keys
from wire import Lost

SAMPLE_S, PROGRESS_S, OLD_KEY_S = 5.0, 60.0, 0.02
LIMIT_MB_PER_HOUR = 50.0
JUDGED_AFTER_MINUTES = 10.0
"""A shorter run says nothing about memory: pools and caches still fill."""
PATIENCE_S = 60.0
ORDERS = ("swaps", "rollbacks", "rotations")
EVENTS = {
    "agent.checkpoint_replaced": ("swaps", "rollbacks"),
    "deployment.key_rotated": ("rotations",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--swap-every", type=float, default=10.0, metavar="S")
    parser.add_argument("--rollback-every", type=float, default=60.0, metavar="S")
    parser.add_argument("--rotate-every", type=float, default=15.0, metavar="S")
    parser.add_argument("--kill-every", type=float, metavar="S", help="a process")
    parser.add_argument("--out", type=Path, help="write what was measured, as JSON")
    given = parser.parse_args()
    if given.kill_every is not None and given.workers < 2:
        parser.error("--kill-every needs --workers of 2 or more")
    print(describe(), flush=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        numbers = range(1, given.checkpoints + 1)
        bundles = [write_telltale(folder / str(n), n) for n in numbers]
        prepared = prepare(folder, bundles)
        options = ["--workers", given.workers] if given.workers > 1 else []
        # What a swap replaces is freed again while this runs, not only at its end.
        # Old keys are tried all the time, from one address.
        environ = {"ARENA_KEEP_WARM_S": "60", "ARENA_FAILED_AUTH_RATE": "0"}
        with serving(prepared, *options, environ=environ) as server:
            soak = uvloop.run(run(server, prepared, given))
    sys.exit(report(soak, given))


# --- the run -----------------------------------------------------------------------


@define
class Soak:
    watch: Watch
    agent: Agent
    server: Server
    steps: dict[str, int]
    memory: ResidentSets
    began: float = field(factory=time.monotonic)
    minutes: float = 0.0

    @property
    def findings(self) -> Findings:
        return self.watch.findings


async def run(server: Server, prepared: Prepared, given: argparse.Namespace) -> Soak:
    """Put the agent live and soak it until the time is over, or Ctrl-C."""
    control = ControlPlane.of(server)
    agent = await Agent.connected(control, prepared.experiment, step=1, name="soak")
    path, key = await agent.access()
    steps = {digest: step for step, digest in prepared.digests.items()}
    swaps = Swaps([prepared.digests[1]])
    watch = Watch(server.port, path, swaps, Keys([key]), steps)
    soak = Soak(watch, agent, server, steps, ResidentSets(server.pid))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, watch.over.set)
    asked = questions()
    jobs = [call(watch, asked, 97 * n) for n in range(given.connections)]
    jobs += [
        try_old_keys(watch, asked, OLD_KEY_S),
        orders(soak, given),
        repeatedly(watch, given.rotate_every, lambda: rotate(soak)),
        repeatedly(watch, SAMPLE_S, lambda: sample(soak)),
        repeatedly(watch, PROGRESS_S, lambda: progress(soak)),
    ]
    if given.kill_every is not None:
        jobs.append(repeatedly(watch, given.kill_every, lambda: kill(soak)))
    tasks = [asyncio.ensure_future(job) for job in jobs]
    await asyncio.wait(
        [asyncio.ensure_future(watch.over.wait()), *tasks],
        timeout=60 * given.minutes,
        return_when=asyncio.FIRST_COMPLETED,
    )
    await finish(soak, tasks)
    return soak


async def finish(soak: Soak, tasks: list[asyncio.Task[None]]) -> None:
    """Let everybody come to an end, and raise what has ended anybody before."""
    soak.memory.sample()
    soak.minutes = (time.monotonic() - soak.began) / 60
    soak.watch.over.set()
    ended, waiting = await asyncio.wait(tasks, timeout=PATIENCE_S)
    for task in waiting:
        soak.findings.blame("never answered", str(task.get_stack()[-1]))
        task.cancel()
    for task in ended:
        task.result()
    await check_log(soak)


async def repeatedly(
    watch: Watch, every_s: float, act: Callable[[], Awaitable[None]]
) -> None:
    """Act at each multiple of `every_s`, or as soon after it as can be."""
    due = time.monotonic() + every_s
    while not await _over_by(watch, due):
        await act()
        due += every_s


async def _over_by(watch: Watch, due: float) -> bool:
    with suppress(TimeoutError):
        left_s = max(0.0, due - time.monotonic())
        await asyncio.wait_for(watch.over.wait(), left_s)
    return watch.over.is_set()


async def sample(soak: Soak) -> None:
    soak.memory.sample()


async def progress(soak: Soak) -> None:
    counted, minutes = soak.findings.counted, (time.monotonic() - soak.began) / 60
    done = ", ".join(f"{counted[name]} {name}" for name in ORDERS)
    print(
        f"{minutes:5.1f} min: {counted['requests']} requests, {done}, "
        f"{soak.findings.wrong.total()} wrong, {soak.memory.now_mb():.0f} MB",
        flush=True,
    )


# --- orders ------------------------------------------------------------------------


async def orders(soak: Soak, given: argparse.Namespace) -> None:
    """Swap, and half-way between two swaps roll back now and then."""
    begun = time.monotonic()
    swap_at = begun + given.swap_every
    rollback_at = begun + given.rollback_every - given.swap_every / 2
    while not await _over_by(soak.watch, min(swap_at, rollback_at)):
        if swap_at <= rollback_at:
            await swap(soak)
            swap_at += given.swap_every
        else:
            await roll_back(soak)
            rollback_at += given.rollback_every


async def swap(soak: Soak) -> None:
    """Swap to the checkpoint that comes after the one that is live."""
    step = soak.steps[soak.watch.swaps.newest] % len(soak.steps) + 1
    digest = next(d for d, s in soak.steps.items() if s == step)
    body = {"checkpoint": {"type": "specific", "step": step}, "reason": "soak"}
    await replace(soak, "swaps", "redeploy", digest, body)


async def roll_back(soak: Soak) -> None:
    """Roll back to the one before, or in turn to any that has been live."""
    digests = soak.watch.swaps.digests
    before = [d for d in digests if d != digests[-1]]
    if not before:
        return
    if soak.findings.counted["rollbacks"] % 2:
        digest = random.choice(before)  # noqa: S311 -- guards nothing
        await replace(soak, "rollbacks", "rollback", digest, {"to": digest})
    else:
        await replace(soak, "rollbacks", "rollback", before[-1], {})


async def replace(
    soak: Soak, name: str, verb: str, digest: str, body: Mapping[str, object]
) -> None:
    """Give the order, and acknowledge it once it is answered as carried out."""
    number = soak.watch.swaps.ask(digest)
    answered = await _ordered(soak, name, f"{verb}?wait=30", body, digest)
    if answered is None:
        return
    deployment = answered["deployment"]
    if deployment["swap"] is not None or deployment["digest"] != digest:
        soak.findings.blame(name, f"not carried out: {json.dumps(deployment)[:300]}")
        return
    soak.findings.counted[name] += 1
    soak.watch.swaps.acknowledge(number)


async def _ordered(
    soak: Soak, name: str, order: str, body: Mapping[str, object], digest: str
) -> Any:  # noqa: ANN401 -- JSON
    """Return the answer; None if there is none, which only a kill excuses."""
    kills = soak.watch.kills
    try:
        return await soak.agent.order(order, body)
    except Refused as refused:
        soak.findings.blame(name, str(refused))
    except Lost as lost:
        if kills == soak.watch.kills:
            soak.findings.blame(name, str(lost))
        if await _came_about(soak, digest):
            soak.findings.counted[name] += 1
            return None
        return await _ordered(soak, name, order, body, digest)
    return None


async def _came_about(soak: Soak, digest: str) -> bool:
    """Say whether an order whose answer was lost in a kill was carried out."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(Lost):
            deployment = (await soak.agent.shown())["deployment"]
            if deployment["swap"] is None:
                return bool(deployment["digest"] == digest)
        await asyncio.sleep(0.1)
    soak.findings.blame("swaps", f"one has not ended after {PATIENCE_S:g} s")
    return True


async def rotate(soak: Soak) -> None:
    """Rotate the key, and tell the callers of the new one."""
    keys, kills = soak.watch.keys, soak.watch.kills
    keys.asked += 1
    try:
        shown = await soak.agent.order("rotate-key")
        keys.acknowledged = keys.asked
    except Refused as refused:
        soak.findings.blame("rotations", str(refused))
        return
    except Lost as lost:
        if kills == soak.watch.kills:
            soak.findings.blame("rotations", str(lost))
        shown = await soak.agent.shown()
        if shown["deployment"]["key_version"] == len(keys.known):
            keys.asked -= 1
            return
    soak.findings.counted["rotations"] += 1
    _, key = await soak.agent.access()
    soak.watch.learn(key)


async def kill(soak: Soak) -> None:
    """Kill the oldest of the processes that answer, unless one is missing already."""
    doomed, *others = children(soak.server.pid) or [0]
    if not others:
        return
    soak.watch.kills += 1
    os.kill(doomed, signal.SIGKILL)
    while doomed in children(soak.server.pid):  # noqa: ASYNC110 -- a process
        await asyncio.sleep(0.01)
    # A connection that was opened meanwhile may have gone with it.
    soak.watch.kills += 1
    soak.findings.counted["kills"] += 1


# --- afterwards --------------------------------------------------------------------


async def check_log(soak: Soak) -> None:
    """Check that the log tells of all that was done."""
    told = [event["name"] for event in await soak.agent.control.events()]
    for name, orders_of in EVENTS.items():
        done = sum(soak.findings.counted[order] for order in orders_of)
        if told.count(name) != done:
            soak.findings.blame("log", f"{told.count(name)} {name} of {done}")


def report(soak: Soak, given: argparse.Namespace) -> int:
    """Print what was found; return the exit status."""
    findings, growths = soak.findings, soak.memory.growths()
    for name in ("requests", *ORDERS):
        if not findings.counted[name]:
            findings.blame("nothing was tried", name)
    if soak.minutes >= JUDGED_AFTER_MINUTES:
        for growth in growths:
            if growth.exceeds(LIMIT_MB_PER_HOUR):
                findings.blame("memory grows", f"{growth.mb_per_hour:.0f} MB an hour")
    rate = findings.counted["requests"] / (60 * soak.minutes)
    p50, p99 = (findings.latencies.quantile_ms(share) for share in (0.5, 0.99))
    print(f"\n{soak.minutes:.1f} minutes, {given.connections} connections, ", end="")
    print(f"{given.workers} worker(s): {rate:.0f} requests/s, ", end="")
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms\n")
    print("\n".join(table(findings, growths)))
    for sentence in findings.sentences:
        print(sentence)
    if given.out is not None:
        given.out.write_text(json.dumps(measured(soak, rate, p50, p99), indent=1))
    return 1 if findings.wrong else 0


def table(findings: Findings, growths: list[Growth]) -> list[str]:
    rows = ["| what | how many |", "|---|---|"]
    rows += [f"| {name} | {n} |" for name, n in findings.counted.items()]
    rows += [f"| **wrong: {name}** | {n} |" for name, n in findings.wrong.items()]
    rows += [f"| memory of process {g.pid} | {_shown(g)} |" for g in growths]
    return [*rows, f"| wrong in all | {findings.wrong.total()} |"]


def _shown(growth: Growth) -> str:
    ends = f"{growth.first_mb:.0f} MB, then {growth.last_mb:.0f} MB"
    if growth.mb_per_hour is None or growth.standard_error is None:
        return ends
    slope = f"{growth.mb_per_hour:+.1f} (± {growth.standard_error:.1f})"
    return f"{ends}; second half {slope} MB/hour"


def measured(soak: Soak, rate: float, p50: float, p99: float) -> dict[str, object]:
    return {
        "machine": describe(),
        "minutes": soak.minutes,
        "requests_per_s": rate,
        "p50_ms": p50,
        "p99_ms": p99,
        "counted": dict(soak.findings.counted),
        "wrong": dict(soak.findings.wrong),
        "sentences": soak.findings.sentences,
        "memory": [asdict(growth) for growth in soak.memory.growths()],
        "resident_bytes": soak.memory.samples,
    }


if __name__ == "__main__":
    main()
