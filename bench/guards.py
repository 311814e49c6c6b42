"""Whether a guard takes bad weights back, and leaves good ones alone.

An agent is asked steadily while it is given other weights behind a guard: bad ones of
several kinds in turn, which must be rolled back before the baking is over, and equal
ones of another digest, which must never be.  Figures are those of the events.

    python bench/guards.py [--trials 20] [--bake 8]
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop
from attrs import asdict, define, evolve, field, frozen

from arena_core.application import npy

from machine import describe
from policies import CHOICES, CHOOSER_WIDTH, Flaw, write_chooser
from served import Agent, ControlPlane, Prepared, Server, prepare, serving
from wire import Connection, post

CALLERS, RATE, ROWS = 8, 200.0, 2
BODIES = 64
UNDEFINED_SHARE = 0.2
LIMITS = {
    "error_rate": 0.02,
    "p99_ms": 75.0,
    "mask_violation_rate": 0.02,
    "action_shift": 0.1,
}
SEEN_BY = {
    Flaw.OTHERWISE: "action_shift",
    Flaw.SLOW: "p99_ms",
    Flaw.NON_FINITE: "error_rate",
    Flaw.VIOLATING: "mask_violation_rate",
}
POLL_S, PATIENCE_S = 0.05, 60.0
GOOD, EQUAL = 1, 2
BAD = {flaw: step for step, flaw in enumerate(Flaw, start=EQUAL + 1)}


class End(Enum):
    """How a guarded swap has ended, by the name of the event."""

    REVERTED = "deployment.swap_reverted"
    PASSED = "deployment.swap_passed"
    FAILED = "deployment.swap_failed"


@frozen
class Trial:
    planted: Flaw | None
    end: End | None
    """None: the log does not tell."""
    seconds: float | None = None
    """From the swap to its end, by the times of the events."""
    limit: str | None = None
    figures: Any = None
    is_live: bool = False
    """Whether what answers now is what then must."""

    @property
    def is_right(self) -> bool:
        wanted = End.PASSED if self.planted is None else End.REVERTED
        return self.end is wanted and self.is_live


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20, help="bad ones, and equal")
    parser.add_argument("--bake", type=float, default=8.0, metavar="S")
    parser.add_argument("--out", type=Path, help="write what was measured, as JSON")
    given = parser.parse_args()
    print(describe(), flush=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        bundles = [
            write_chooser(folder / "good"),
            write_chooser(folder / "equal", note="the same weights"),
            *(write_chooser(folder / flaw.name, flaw) for flaw in BAD),
        ]
        prepared = prepare(folder, bundles)
        with serving(prepared) as server:
            trials = uvloop.run(run(server, prepared, given.trials, given.bake))
    if given.out is not None:
        told = {"machine": describe(), "bake_s": given.bake, "limits": LIMITS}
        told["trials"] = [asdict(trial) for trial in trials]
        given.out.write_text(json.dumps(told, indent=1, default=lambda e: e.value))
    print("\n".join(table(trials)))
    sys.exit(0 if all(trial.is_right for trial in trials) else 1)


# --- the load ----------------------------------------------------------------------


@define
class Load:
    port: int
    path: str
    key: str
    statuses: "Counter[int]" = field(factory=Counter)

    async def ask_steadily(self, number: int) -> None:
        """Ask every `CALLERS / RATE` seconds, or as fast as answers come."""
        connection = await Connection.open(self.port)
        due = time.perf_counter() + number / RATE
        for body in cycle(bodies(number)):
            await asyncio.sleep(due - time.perf_counter())
            answer = await connection.ask(post(self.path, self.key, body))
            self.statuses[answer.status] += 1
            due = max(due + CALLERS / RATE, time.perf_counter())


def bodies(seed: int) -> list[bytes]:
    """Return questions whose masks forbid what good weights never prefer."""
    random = np.random.default_rng(seed)
    mask = np.ones((ROWS, CHOICES), np.int8)
    mask[:, -1] = 0
    asked = []
    for _ in range(BODIES):
        obs = random.normal(size=(ROWS, CHOOSER_WIDTH)).astype(np.float32)
        obs[:, -1] = -1.0 if random.random() < UNDEFINED_SHARE else 1.0
        body = {"obs": npy.to_base64(obs), "action_mask": npy.to_base64(mask)}
        asked.append(json.dumps(body | {"batch_size": ROWS}).encode())
    return asked


# --- the trials --------------------------------------------------------------------


async def run(
    server: Server, prepared: Prepared, trials: int, bake_s: float
) -> list[Trial]:
    control = ControlPlane.of(server)
    agent = await Agent.connected(
        control, prepared.experiment, step=GOOD, name="guarded"
    )
    load = Load(server.port, *(await agent.access()))
    callers = [asyncio.ensure_future(load.ask_steadily(n)) for n in range(CALLERS)]
    stage = Stage(agent, prepared.digests, bake_s)
    done: list[Trial] = []
    for flaw in (*islice(cycle(Flaw), trials), *[None] * trials):
        done.append(await stage.attempt(flaw))
        print(told(len(done), done[-1]), flush=True)
        for caller in callers:
            if caller.done():
                caller.result()
    for caller in callers:
        caller.cancel()
    print(f"statuses: {dict(load.statuses)}")
    return done


@define
class Stage:
    """The agent, and which checkpoint of it is live."""

    agent: Agent
    digests: Mapping[int, str]
    bake_s: float
    live: int = GOOD

    async def attempt(self, flaw: Flaw | None) -> Trial:
        """Swap to weights with that flaw, or to equal ones; see what comes of it."""
        step = GOOD + EQUAL - self.live if flaw is None else BAD[flaw]
        begun = (await self.agent.control.events())[-1]["position"]
        live = await self._swap(step, guard={"bake_s": self.bake_s, **LIMITS})
        events = await self.agent.control.events(after=begun)
        trial = _trial(flaw, {event["name"]: event for event in events})
        wanted = step if flaw is None else self.live
        trial = evolve(trial, is_live=live == self.digests[wanted])
        if not trial.is_right:
            await self._swap(self.live)
        elif flaw is None:
            self.live = step
        return trial

    async def _swap(self, step: int, **how: object) -> str:
        """Swap to the checkpoint of a step; return the digest that is live then."""
        choice = {"type": "specific", "step": step}
        await self.agent.order("redeploy", {"checkpoint": choice, **how})
        return await self._settled()

    async def _settled(self) -> str:
        """Return the digest that is live once the swap has ended."""
        deadline = time.monotonic() + self.bake_s + PATIENCE_S
        while (found := (await self.agent.shown())["deployment"])["swap"] is not None:
            if time.monotonic() > deadline:
                raise SystemExit(f"The swap does not end: {found}")
            await asyncio.sleep(POLL_S)
        return str(found["digest"])


def _trial(flaw: Flaw | None, events: Mapping[str, Any]) -> Trial:
    """Return what the log tells of a swap, by the events' names."""
    end = next((end for end in End if end.value in events), None)
    if end is None:
        return Trial(flaw, None)
    event = events[end.value]
    took = _seconds(events.get("deployment.checkpoint_swapped"), event)
    data = event["data"]
    return Trial(flaw, end, took, data.get("limit"), data.get("figures", data))


def _seconds(first: Any, last: Any) -> float | None:  # noqa: ANN401 -- JSON
    if first is None or last is None:
        return None
    begin, end = (datetime.fromisoformat(e["occurred_at"]) for e in (first, last))
    return (end - begin).total_seconds()


# --- afterwards --------------------------------------------------------------------


def told(number: int, trial: Trial) -> str:
    name = "equal" if trial.planted is None else trial.planted.value
    end = "no end" if trial.end is None else trial.end.name.lower()
    right = "" if trial.is_right else "  WRONG"
    took = "" if trial.seconds is None else f" after {trial.seconds:.1f} s"
    by = "" if trial.limit is None else f" by {trial.limit}"
    return f"{number:3} {name}: {end}{by}{took}; {trial.figures}{right}"


def table(trials: Sequence[Trial]) -> list[str]:
    lines = ["", "| weights | trials | rolled back | by | seconds, median and most |"]
    lines.append("|---|---|---|---|---|")
    for planted in (*Flaw, None):
        those = [trial for trial in trials if trial.planted is planted]
        back = [trial for trial in those if trial.end is End.REVERTED]
        limits = Counter(trial.limit for trial in back)
        by = ", ".join(f"{limit} {n}" for limit, n in limits.items())
        seconds = [trial.seconds for trial in back if trial.seconds is not None]
        took = f"{np.median(seconds):.1f}, {max(seconds):.1f}" if seconds else ""
        name = "equal" if planted is None else planted.value
        lines.append(f"| {name} | {len(those)} | {len(back)} | {by} | {took} |")
    wrong = sum(not trial.is_right for trial in trials)
    return [*lines, f"| wrong in all | {wrong} of {len(trials)} | | | |"]


if __name__ == "__main__":
    main()
