"""An import that was acknowledged is done, whatever becomes of the server meanwhile.

The files are real, and so are the processes that convert them.
"""

import os
import random
import signal
import time
from pathlib import Path

import pytest

import arena_core
from arena_core.domain.checkpoint_import import Status

from end_to_end.processes import (
    Client,
    Place,
    an_agent,
    an_experiment,
    connect,
    eventually,
    serving,
)

pytestmark = pytest.mark.slow

SAVED = Path(__file__).parents[1] / "checkpoints" / "sb3" / "ppo_cartpole.zip"
KILLS = 3
LONGEST_LIFE_S = 1.0
"""About as long as one conversion takes."""


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def ask(client: Client, experiment: str, step: int) -> dict:
    path = f"/api/v1/experiments/{experiment}/checkpoints?from=sb3&step={step}"
    return client.ask("POST", path, raw=SAVED.read_bytes()).expect(202)


def ended(client: Client, one: dict) -> dict | None:
    found = client.get(f"/api/v1/imports/{one['id']}")
    return found if found["ended_at"] else None


def converters() -> list[int]:
    """Return the processes that convert something at this moment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if b"converters.child" in words:
            found.append(int(path.parent.name))
    return found


def test_what_was_acknowledged_is_done_once_however_often_the_server_dies(place):
    chance = random.Random(int(os.environ.get("ARENA_CRASH_SEED", "1")))  # noqa: S311 -- chooses when to kill, guards nothing
    experiment, asked = "", []
    for step in range(KILLS):
        with serving(place) as server:
            client = server.client()
            experiment = experiment or an_experiment(client)
            asked.append(ask(client, experiment, step))
            time.sleep(chance.uniform(0, LONGEST_LIFE_S))
            server.kill()
    with serving(place) as server:
        client = server.client()
        for one in asked:
            done = eventually(lambda one=one: ended(client, one), what="it is imported")
            assert (done["status"], done["reason"]) == ("Succeeded", None)
        path = f"/api/v1/experiments/{experiment}/checkpoints"
        kept = client.get(path)["items"]
        names = [event["name"] for event in client.events()]
    assert [checkpoint["step"] for checkpoint in kept] == list(range(KILLS))
    assert names.count("experiment.checkpoint_written") == KILLS
    assert names.count("import.succeeded") == KILLS
    eventually(lambda: not converters(), what="no converter outlives its server")


def test_a_stop_ends_what_is_being_converted_and_the_next_start_carries_on(place):
    with serving(place) as server:
        client = server.client()
        experiment = an_experiment(client)
        asked = ask(client, experiment, 1)
        where = f"/api/v1/imports/{asked['id']}"
        eventually(lambda: client.get(where)["doing"], what="it is being converted")
        begun = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - begun < 10
        assert server.stderr.read_text() == ""
    with arena_core.open(place.store, serve=False) as arena:
        (waiting,) = arena.imports.list(arena.experiments.list()[0].id)
        if waiting.status is not Status.SUCCEEDED:  # it may have been just done
            assert waiting.status is Status.PENDING
            assert waiting.reason == "The process that converted it was stopped."
    with serving(place) as server:
        client = server.client()
        eventually(lambda: ended(client, asked), what="it is imported")
        agent = an_agent(client, experiment)
        assert connect(client, agent)["deployment"]["status"] == "Deployed"
        assert connect(client, agent)["deployment"]["parity"]["verdict"] == "passed"
