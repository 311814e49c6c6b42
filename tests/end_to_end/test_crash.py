"""A server that is killed at any moment loses nothing that it has acknowledged.

What is killed when is chance, of a seed that is printed: ARENA_CRASH_SEED sets it.
"""

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import define, field

import arena_core

from bundles import CARTPOLE, Network, cartpole
from end_to_end.processes import (
    Client,
    Endpoint,
    Place,
    Process,
    actions,
    an_agent,
    an_experiment,
    connect,
    endpoint,
    eventually,
    run,
    serving,
    start,
    tar_of,
    upload,
)

pytestmark = pytest.mark.slow

KILLS = 20
STEADY, RESTLESS, CALLERS = 3, 2, 2
BACK_WITHIN_S = 15.0
"""In which an agent must answer again; the lease of a dead worker has 5 minutes."""

OBSERVED = np.random.default_rng(0).normal(scale=5.0, size=(7, 4)).astype("f4")
RIGHT = CARTPOLE(OBSERVED).argmax(axis=1).tolist()
GONE = (OSError, HTTPException)


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("ARENA_CRASH_SEED", "1"))
    print(f"ARENA_CRASH_SEED={seed}")  # noqa: T201 -- pytest shows it when a test fails
    return random.Random(seed)  # noqa: S311 -- chooses when to kill, guards nothing


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- what was acknowledged ---------------------------------------------------------


@define(eq=False)
class Watched:
    """An agent, and what it was last told with an answer."""

    id: str
    live: bool = True
    version: int = 1
    """Of its key."""
    keys: list[str] = field(factory=list)
    """Every key that it was ever seen to have, by version."""
    path: str = ""
    unsure: str = ""
    """The order that was under way when the server died."""

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.path, self.keys[-1])

    @contextmanager
    def ordered(self, verb: str) -> Iterator[None]:
        self.unsure = verb
        yield
        self.unsure = ""

    def learn(self, client: Client) -> None:
        """Look up the present key of a Deployed agent."""
        found = endpoint(client, self.id)
        self.path = found.path
        if found.key not in self.keys:
            self.keys.append(found.key)


@define
class Ledger:
    experiment: str
    steady: list[Watched]
    restless: list[Watched]
    created: dict[str, str] = field(factory=dict)
    """The name of the event that began each stream whose id was in an answer."""
    points: dict[int, float] = field(factory=dict)
    steps: int = 0
    positions: dict[int, str] = field(factory=dict)
    """The event at each position, as it was read in any of the lives."""
    answered: int = 0

    @property
    def watched(self) -> list[Watched]:
        return [*self.steady, *self.restless]

    def keep(self, made: Mapping[str, Any], event: str) -> None:
        assert made["id"] not in self.created
        self.created[made["id"]] = event


@define
class Writer:
    """Changes whatever can be changed, until the server is gone."""

    client: Client
    ledger: Ledger
    chance: random.Random

    def run(self) -> None:
        steps: list[Callable[[], None]] = [
            self.project,
            self.experiment,
            self.metrics,
            self.agent,
            self.toss,
            self.rotate,
        ]
        try:
            while True:
                self.chance.choice(steps)()
        except GONE:
            return

    def project(self) -> None:
        made = self.client.post("/api/v1/projects", {"name": "p", "kind": "advanced"})
        self.ledger.keep(made, "project.created")

    def experiment(self) -> None:
        known = self.client.get(f"/api/v1/experiments/{self.ledger.experiment}")
        asked = {"project_id": known["project_id"], "name": "e", "algorithm": "DQN"}
        made = self.client.post("/api/v1/experiments", asked)
        self.ledger.keep(made, "experiment.drafted")

    def metrics(self) -> None:
        self.ledger.steps += 1
        step, value = self.ledger.steps, self.chance.random()
        path = f"/api/v1/experiments/{self.ledger.experiment}/metrics"
        point = {"step": step, "name": "loss", "value": value}
        self.client.post(path, {"points": [point]})
        self.ledger.points[step] = value

    def agent(self) -> None:
        asked = {
            "experiment_id": self.ledger.experiment,
            "checkpoint": {"type": "final"},
        }
        made = self.client.post("/api/v1/agents", {"name": "a", **asked})
        self.ledger.keep(made, "agent.checkpoint_frozen")

    def toss(self) -> None:
        agent = self.chance.choice(self.ledger.restless)
        verb = "disconnect" if agent.live else "connect"
        with agent.ordered(verb):
            self.client.post(f"/api/v1/agents/{agent.id}/{verb}")
            agent.live = not agent.live

    def rotate(self) -> None:
        agent = self.chance.choice(self.ledger.restless)
        if not agent.live:
            return
        with agent.ordered("rotate-key"):
            rotated = self.client.post(f"/api/v1/agents/{agent.id}/rotate-key")
            agent.version = rotated["deployment"]["key_version"]
        # There is a key to be shown only while it is Deployed.
        eventually(lambda: self._is_deployed(agent), what="it is Deployed")
        agent.learn(self.client)

    def _is_deployed(self, agent: Watched) -> bool:
        shown = self.client.get(f"/api/v1/agents/{agent.id}")
        return bool(shown["deployment"]["connected"])


def call(client: Client, ledger: Ledger) -> int:
    """Ask every agent in turn until the server is gone; return how many answered."""
    answered = 0
    try:
        while True:
            for agent in ledger.watched:
                answer = agent.endpoint.ask(client, OBSERVED)
                if agent in ledger.steady or answer.status == 200:
                    assert actions(answer) == RIGHT
                    answered += 1
                else:
                    assert answer.status in {401, 404, 503}, answer
    except GONE:
        return answered


# --- lives -------------------------------------------------------------------------


def begin(place: Place) -> Ledger:
    """Fill a new store: agents that are live and answer."""
    with serving(place) as server:
        client = server.client()
        experiment = an_experiment(client)
        bundle = tar_of(cartpole(place.folder / "bundle"))
        upload(client, experiment, 1, bundle).expect(201)
        names = [f"agent {number}" for number in range(STEADY + RESTLESS)]
        watched = [Watched(an_agent(client, experiment, name=name)) for name in names]
        for agent in watched:
            connect(client, agent.id)
            agent.learn(client)
        return Ledger(experiment, watched[:STEADY], watched[STEADY:])


def live_and_die(server: Process, ledger: Ledger, chance: random.Random) -> None:
    """Write and serve until the server is killed at some moment."""
    with ThreadPoolExecutor() as threads:
        writer = Writer(server.client(), ledger, chance)
        moment_s = chance.uniform(0.02, 0.35)
        writing = threads.submit(writer.run)
        calls = [threads.submit(call, server.client(), ledger) for _ in range(CALLERS)]
        time.sleep(moment_s)
        server.kill()
        writing.result()
        ledger.answered += sum(calling.result() for calling in calls)


def check_log(client: Client, ledger: Ledger) -> list[dict[str, Any]]:
    """Return all events: of those ever seen none is gone, or somewhere else."""
    events = client.events()
    assert all(a["position"] < b["position"] for a, b in pairwise(events))
    now = {event["position"]: event["event_id"] for event in events}
    assert now.items() >= ledger.positions.items()
    assert len(set(now.values())) == len(now)
    ledger.positions = now
    return events


def check_agents(client: Client, ledger: Ledger, events: list[dict[str, Any]]) -> None:
    """See every agent answer, or not, just as the log says, with the right key."""
    for agent in ledger.watched:
        mine = [e for e in events if is_of(agent, e)]
        settle(agent, mine)
        if agent.live:
            await_answer(client, agent, Counter(e["name"] for e in mine))
        for old in agent.keys[:-1] if agent.live else agent.keys:
            status = Endpoint(agent.path, old).ask(client, OBSERVED).status
            assert status == (401 if agent.live else 404)


def is_of(agent: Watched, event: Mapping[str, Any]) -> bool:
    return event["stream"] == agent.path.rpartition("/")[2]


def settle(agent: Watched, events: list[dict[str, Any]]) -> None:
    """Compare what was acknowledged with the log, which settles what was not."""
    orders = {"deployment.connect_requested": True, "deployment.disconnected": False}
    last = [orders[e["name"]] for e in events if e["name"] in orders][-1]
    if agent.unsure in {"connect", "disconnect"}:
        agent.live, agent.unsure = last, ""
    assert agent.live == last, "an acknowledged order is not in the log"


def await_answer(client: Client, agent: Watched, seen: Counter[str]) -> None:
    version = 1 + seen["deployment.key_rotated"]
    unsure = agent.unsure == "rotate-key"
    assert agent.version <= version <= agent.version + unsure
    agent.version, agent.unsure = version, ""
    if version > len(agent.keys):
        with_key = f"/api/v1/agents/{agent.id}/access"
        eventually(
            lambda: client.ask("GET", with_key).status == 200,
            what="it is Deployed again",
            timeout_s=BACK_WITHIN_S,
        )
        agent.learn(client)
        assert len(agent.keys) == version
    answer = eventually(
        lambda: _answer(client, agent),
        what="it answers again",
        timeout_s=BACK_WITHIN_S,
    )
    assert answer == RIGHT


def _answer(client: Client, agent: Watched) -> list[int] | None:
    answer = agent.endpoint.ask(client, OBSERVED)
    assert answer.status in {200, 503}, answer
    return actions(answer) if answer.status == 200 else None


def test_kill_9_at_any_moment_loses_nothing_and_doubles_nothing(place, chance):
    ledger = begin(place)
    for _ in range(KILLS):
        if chance.random() < 0.2:
            still_born = start(place)
            time.sleep(chance.uniform(0.0, 0.7))
            still_born.kill()
        with serving(place) as server:
            client = server.client()
            check_agents(client, ledger, check_log(client, ledger))
            live_and_die(server, ledger, chance)
    with serving(place) as server:
        client = server.client()
        events = check_log(client, ledger)
        check_agents(client, ledger, events)
        check_writes(client, ledger, events)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert ledger.answered > KILLS
    assert len(ledger.created) > KILLS
    assert max(len(agent.keys) for agent in ledger.restless) > 1
    check_points(place, ledger)
    check_views(place)
    verified = run("audit", "verify", "--store", place.store)
    assert verified.returncode == 0, verified.stderr


def check_writes(client: Client, ledger: Ledger, events: list[dict[str, Any]]) -> None:
    begun = Counter((e["stream"], e["name"]) for e in events)
    for made, event in ledger.created.items():
        assert begun[made, event] == 1, f"{event} of {made}"
    names = Counter(e["name"] for e in events)
    assert names["deployment.connect_failed"] == 0
    listed = client.get(f"/api/v1/experiments/{ledger.experiment}/metrics?name=loss")
    kept = {point["step"]: point["value"] for point in listed["items"]}
    assert kept.items() >= ledger.points.items()


def check_points(place: Place, ledger: Ledger) -> None:
    count = "SELECT count(*), count(DISTINCT step) FROM metric_points"
    with closing(sqlite3.connect(place.store)) as database:
        points, steps = database.execute(count).fetchone()
    assert points == steps >= len(ledger.points)


def check_views(place: Place) -> None:
    """Compare the read model that outlived the kills with a fold of the log."""
    with arena_core.open(place.store, serve=False) as arena:
        fresh = arena.audit.replay()
        assert list(arena.projects.list()) == fresh.projects
        assert list(arena.experiments.list()) == fresh.experiments
        assert list(arena.pipelines.list()) == fresh.pipelines
        assert list(arena.agents.list()) == fresh.agents
        assert list(arena.tokens.list()) == fresh.tokens


# --- in the midst of something ------------------------------------------------------

LARGE = 50_000
UPLOADS = 5


def large(seed: int) -> Network:
    """Return a network that takes a while to send and to load."""
    chance = np.random.default_rng(seed)
    sizes = {"w0": (4, LARGE), "b0": LARGE, "w1": (LARGE, 2), "b1": 2}
    return Network({n: chance.normal(size=s).astype("f4") for n, s in sizes.items()})


def test_a_kill_during_an_upload_leaves_no_half_checkpoint(place, chance):
    folders = [place.folder / f"bundle{step}" for step in range(UPLOADS)]
    bundles = [
        tar_of(cartpole(folder, network=large(step), with_golden=False))
        for step, folder in enumerate(folders)
    ]
    with serving(place) as server:
        experiment = an_experiment(server.client())
        interrupted(server, experiment, 0, bundles[0], chance)
    for step, bundle in enumerate(bundles):
        verified = run("audit", "verify", "--store", place.store)
        assert verified.returncode == 0, verified.stderr
        with serving(place) as server:
            client = server.client()
            written = upload(client, experiment, step, bundle).expect(201)
            shown = client.get(f"/api/v1/experiments/{experiment}/checkpoints")
            assert shown["items"][-1] == written
            assert len(shown["items"]) == step + 1
            events = [e["name"] for e in client.events()]
            assert events.count("experiment.checkpoint_written") == step + 1
            if step + 1 < UPLOADS:
                interrupted(server, experiment, step + 1, bundles[step + 1], chance)


def interrupted(
    server: Process, experiment: str, step: int, bundle: bytes, chance: random.Random
) -> None:
    """Kill the server in the midst of the body, or while it works on it."""
    sent = len(bundle) if step % 2 else chance.randrange(len(bundle))
    connection = HTTPConnection(server.address)
    path = f"/api/v1/experiments/{experiment}/checkpoints?step={step}"
    connection.putrequest("POST", path)
    connection.putheader("Authorization", f"Bearer {server.place.token}")
    connection.putheader("Content-Length", str(len(bundle)))
    connection.endheaders(bundle[:sent])
    time.sleep(chance.uniform(0.0, 0.03))
    server.kill()
    connection.close()


def test_a_claim_that_a_dead_worker_has_left_is_taken_over_at_once(place):
    with serving(place) as server:
        client = server.client()
        experiment = an_experiment(client)
        bundle = tar_of(cartpole(place.folder / "bundle", network=large(0)))
        upload(client, experiment, 1, bundle).expect(201)
        agent = an_agent(client, experiment)
    attempts = 5  # for the model may be loaded before the server is killed
    for _ in range(attempts):
        with serving(place) as server:
            client = server.client()
            client.post(f"/api/v1/agents/{agent}/disconnect")
            claims = topics(place).count("deployment.connect_claimed@1")
            client.post(f"/api/v1/agents/{agent}/connect")
            eventually(
                lambda before=claims: (
                    topics(place).count("deployment.connect_claimed@1") > before
                ),
                what="a worker has claimed it",
            )
            server.kill()
        if topics(place)[-1] == "deployment.connect_claimed@1":
            break
    else:
        pytest.fail(f"in {attempts} attempts no claim was left behind")
    left = len(topics(place))
    with serving(place) as server:
        client = server.client()
        connect(client, agent)
        assert actions(endpoint(client, agent).ask(client, OBSERVED))
        since = [event for event in client.events() if event["position"] > left]
    assert [event["name"] for event in since] == [
        "deployment.connection_lost",
        "deployment.connect_claimed",
        "deployment.parity_checked",
        "deployment.connected",
    ]
    assert since[1]["data"]["attempt"] == 2


def topics(place: Place) -> list[str]:
    """Return what is in the log, without a word to the server."""
    with closing(sqlite3.connect(f"file:{place.store}?mode=ro", uri=True)) as log:
        found = log.execute("SELECT topic FROM arena_events ORDER BY rowid")
        return [topic for (topic,) in found]
