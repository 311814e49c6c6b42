"""Callers who check every answer against what they have been told before."""

import asyncio
import math
import time
from collections import Counter

import msgspec
import numpy as np
from attrs import define, field, frozen

from arena_core.application import npy

from load import raw_request
from policies import telltale_observations
from timeline import Keys, Swaps
from wire import Answer, Connection, Lost

QUESTIONS, MOST_ROWS = 256, 4
TOLD_OF_EACH_KIND = 3
REOPEN_S, REOPEN_TRIES = 0.1, 100
GROWTH = 1.02


@define
class Latencies:
    """A histogram of seconds, good to 2 %."""

    counts: "Counter[int]" = field(factory=Counter)

    def add(self, seconds: float) -> None:
        self.counts[int(math.log(max(seconds, 1e-6)) / math.log(GROWTH))] += 1

    def quantile_ms(self, share: float) -> float:
        wanted, seen = share * self.counts.total(), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return 1000 * float(GROWTH ** (bucket + 1))
        return math.nan


@define
class Findings:
    """What was counted, and every kind of thing that must not be."""

    counted: "Counter[str]" = field(factory=Counter)
    wrong: "Counter[str]" = field(factory=Counter)
    sentences: list[str] = field(factory=list)
    latencies: Latencies = field(factory=Latencies)

    def blame(self, kind: str, what: str) -> None:
        self.wrong[kind] += 1
        if self.wrong[kind] <= TOLD_OF_EACH_KIND:
            self.sentences.append(f"{kind}: {what}")


@frozen(eq=False)
class Question:
    """A body, and the observations in it by name."""

    body: bytes
    names: "np.ndarray"


def questions() -> list[Question]:
    """Return questions of one to four rows; no two have an observation in common."""
    asked, first = [], 0
    for number in range(QUESTIONS):
        names = range(first, first + 1 + number % MOST_ROWS)
        obs = npy.to_base64(telltale_observations(names))
        body = msgspec.json.encode({"obs": obs, "batch_size": len(names)})
        asked.append(Question(body, np.array(names)))
        first += len(names)
    return asked


@define
class Watch:
    """What all callers know, and what they have found out."""

    port: int
    path: str
    swaps: Swaps
    keys: Keys
    numbers: dict[str, int]
    """What the weights of a digest answer."""
    findings: Findings = field(factory=Findings)
    kills: int = 0
    """How many of the server's processes were killed."""
    over: asyncio.Event = field(factory=asyncio.Event)
    new_key: asyncio.Event = field(factory=asyncio.Event)

    def learn(self, key: str) -> None:
        self.keys.learn(key)
        self.new_key.set()
        self.new_key = asyncio.Event()

    def request(self, question: Question, key: int) -> bytes:
        bearing = {"Authorization": f"Bearer {self.keys.known[key]}"}
        return raw_request(self.path, bearing, question.body)


@define
class Line:
    """One caller's connection, opened anew when a killed process takes it along."""

    watch: Watch
    connection: Connection | None = None
    kills: int = 0
    """How many there had been when the connection was opened."""
    place: int = 0
    """Of the latest swap that this connection has seen the weights of."""
    position: int = 0
    """In the log, of the newest answer."""

    async def ask(self, request: bytes) -> Answer:
        """Return the answer.  Raises `Lost`; the next goes over a new connection."""
        if self.connection is None:
            self.connection = await self._open()
        try:
            return await self.connection.ask(request)
        except Lost:
            self.connection = None
            raise

    def check_loss(self, lost: Lost) -> None:
        findings = self.watch.findings
        if self.kills < self.watch.kills:
            findings.counted["lost in a kill"] += 1
        else:
            findings.blame("connection lost", str(lost))

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    async def _open(self) -> Connection:
        self.kills, self.place, self.position = self.watch.kills, 0, 0
        for _ in range(REOPEN_TRIES):
            try:
                return await Connection.open(self.watch.port)
            except Lost:
                await asyncio.sleep(REOPEN_S)
        return await Connection.open(self.watch.port)


# --- those who ask -----------------------------------------------------------------


async def call(watch: Watch, asked: list[Question], first: int) -> None:
    """Ask one question after the other until it is over."""
    line = Line(watch)
    while not watch.over.is_set():
        first += 1
        await ask(line, asked[first % len(asked)])
    line.close()


async def ask(line: Line, question: Question) -> None:
    """Ask until there is an answer, again where a kill or a rotation is the reason."""
    watch, losses = line.watch, 0
    while not watch.over.is_set():
        key, since = watch.keys.newest, watch.swaps.acknowledged
        was_dead, waiting = watch.keys.is_dead(key), watch.new_key
        try:
            answer = await line.ask(watch.request(question, key))
        except Lost as lost:
            line.check_loss(lost)
            losses += 1
            if losses > 1:
                watch.findings.blame("a retry was lost too", str(lost))
            continue
        if answer.status == 401 and watch.keys.may_be_dead(key):
            watch.findings.counted["refused in a rotation"] += 1
            await _either(waiting, watch.over)
            continue
        if was_dead:
            watch.findings.blame("a dead key not refused", f"status {answer.status}")
        check(line, question, answer, since)
        return


def check(line: Line, question: Question, answer: Answer, since: int) -> None:
    """Blame the server for whatever is wrong with an answer.

    `since`: the swap that was the latest acknowledged one when the request began.
    """
    findings = line.watch.findings
    findings.counted["requests"] += 1
    findings.latencies.add(answer.seconds)
    if answer.status != 200:
        said = answer.body[:200].decode(errors="replace")
        findings.blame(f"status {answer.status}", said)
        return
    digest = answer.header("Arena-Checkpoint") or "no header"
    _check_weights(line, digest, since)
    _check_position(line, answer)
    number, names = _read(answer)
    if set(number) != {line.watch.numbers.get(digest)}:
        findings.blame("header and value disagree", f"{digest}: {sorted(set(number))}")
    if names != question.names.tolist():
        findings.blame("answers mixed up", f"{names} for {question.names.tolist()}")


def _check_weights(line: Line, digest: str, since: int) -> None:
    swaps, findings = line.watch.swaps, line.watch.findings
    place = swaps.place(digest, since=max(since, line.place))
    if place is not None:
        line.place = place
        return
    known = "by old weights" if digest in swaps.digests else "by unknown weights"
    age_s = time.monotonic() - swaps.acknowledged_at
    findings.blame(
        f"answered {known}",
        f"{digest} when {swaps.digests[since]} was acknowledged as swap {since}; the "
        f"newest that is acknowledged is {swaps.acknowledged}, {age_s:.3f} s ago",
    )


def _check_position(line: Line, answer: Answer) -> None:
    position = int(answer.header("Arena-Log-Position") or -1)
    if position < line.position:
        line.watch.findings.blame(
            "the log went back", f"{position} after {line.position}"
        )
    line.position = position


def _read(answer: Answer) -> tuple[list[float], list[int]]:
    """Return which weights have answered each row, and which observation it was."""
    actions = npy.from_base64(answer.json["action"], field="action")
    return actions[:, 0].tolist(), actions[:, 1].astype(int).tolist()


async def try_old_keys(watch: Watch, asked: list[Question], every_s: float) -> None:
    """Ask with keys that are dead, the newest of them most of all."""
    line, turn = Line(watch), 0
    while not watch.over.is_set():
        await asyncio.sleep(every_s)
        dead = watch.keys.acknowledged
        if not dead:
            continue
        turn += 1
        key = dead - 1 if turn % 2 else turn % dead
        try:
            answer = await line.ask(watch.request(asked[0], key))
        except Lost as lost:
            line.check_loss(lost)
            continue
        watch.findings.counted["tries of a dead key"] += 1
        if answer.status != 401:
            watch.findings.blame("a dead key not refused", f"status {answer.status}")
    line.close()


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
