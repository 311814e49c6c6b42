"""Trainings of a real server: it may be killed, they go on, and nothing is lost.

They are programs, so the server is told to allow those.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import arena_core
from arena_core.domain.experiment import Status

import bundles
from end_to_end.processes import Client, Place, eventually, serving

pytestmark = pytest.mark.slow

ALLOWED = {"ARENA_ALLOW_COMMANDS": "1", "ARENA_SECRET_KEY": "k" * 64}
STEPS = 12
LIVES = 4
ENDED = ("Succeeded", "Failed", "Stopped")

STEADY = """
set -eu
echo begun >> "$0/ledger"
step=0
while [ "$step" -lt STEPS ]; do
    step=$((step + 1))
    while [ ! -e "$0/go.$step" ]; do sleep 0.02; done
    echo "{\\"step\\": $step, \\"fitness\\": $step}" >> metrics.jsonl
    mkdir -p checkpoints
    cp -r "$0/bundle" "checkpoints/.$step"
    mv "checkpoints/.$step" "checkpoints/$step"
done
""".replace("STEPS", str(STEPS))


@pytest.fixture
def place(tmp_path):
    bundles.cartpole(tmp_path / "bundle")
    return Place(tmp_path)


def an_experiment(client: Client, place: Place, script: str) -> str:
    project = client.post("/api/v1/projects", {"name": "p", "kind": "advanced"})
    made = client.post(
        "/api/v1/experiments",
        {
            "project_id": project["id"],
            "name": "ppo",
            "algorithm": "PPO",
            "source": {"kind": "gym", "name": "CartPole-v1"},
            "recipe": "command",
            "config": {"argv": ["/bin/sh", "-c", script, str(place.folder)]},
        },
    )
    return f"/api/v1/experiments/{made['id']}"


def ended(client: Client, one: str) -> dict | None:
    found = client.get(one)
    return found if found["status"] in ENDED else None


def at_work(place: Place) -> list[int]:
    """Return the processes that train something of this place at this moment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended meanwhile
            if f"{place.store}.runs".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def checkpoints(client: Client, one: str) -> list[int]:
    return [c["step"] for c in client.get(f"{one}/checkpoints")["items"]]


def has(client: Client, one: str, step: int) -> bool:
    return step in checkpoints(client, one)


def test_a_training_outlives_servers_that_are_killed_and_nothing_of_it_is_lost(place):
    one = ""
    for life in range(LIVES):
        with serving(place, environ=ALLOWED) as server:
            client = server.client()
            if not one:
                one = an_experiment(client, place, STEADY)
                client.post(f"{one}/train", {})
            (place.folder / f"go.{2 * life + 1}").touch()
            eventually(
                partial(has, client, one, 2 * life + 1),
                what="the next server goes on listening",
            )
            server.kill()
        (place.folder / f"go.{2 * life + 2}").touch()  # nobody listens just now
    for step in range(2 * LIVES, STEPS + 1):
        (place.folder / f"go.{step}").touch()
    with serving(place, environ=ALLOWED) as server:
        client = server.client()
        done = eventually(lambda: ended(client, one), what="it has ended")
        assert (done["status"], done["reason"]) == ("Succeeded", None)
        assert checkpoints(client, one) == list(range(1, STEPS + 1))
        points = client.get(f"{one}/metrics")["items"]
        names = [event["name"] for event in client.events()]
    assert [(p["step"], p["value"]) for p in points] == [
        (step, float(step)) for step in range(1, STEPS + 1)
    ]
    assert (place.folder / "ledger").read_text() == "begun\n"
    assert names.count("experiment.checkpoint_written") == STEPS
    assert names.count("experiment.training_started") == 1
    eventually(lambda: not at_work(place), what="nothing is left running")


def test_a_server_that_is_stopped_leaves_its_trainings_to_the_next(place):
    with serving(place, environ=ALLOWED) as server:
        client = server.client()
        one = an_experiment(client, place, STEADY)
        client.post(f"{one}/train", {})
        eventually(lambda: client.get(one)["status"] == "Running", what="it runs")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert at_work(place)
    with serving(place, environ=ALLOWED) as server:
        client = server.client()
        assert client.get(one)["status"] == "Running"
        client.post(f"{one}/stop", {})
        done = eventually(lambda: ended(client, one), what="it has ended")
        assert done["status"] == "Stopped"
    assert (place.folder / "ledger").read_text() == "begun\n"
    eventually(lambda: not at_work(place), what="nothing is left running")


HOSTILE = {
    "crashes": ("echo 'it broke'; exit 3", "exit code 3"),
    "prints": ("yes 'a line of many' | head -n 1000000; exit 4", "a line of many"),
    "children": ("(setsid sleep 1000 &) ; exit 5", "exit code 5"),
    "nonsense": ("echo '{' >> metrics.jsonl; sleep 1000", "Line 1 of"),
    "empty": ("mkdir -p checkpoints/5; sleep 1000", "checkpoint at step 5"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_goes_wrong_is_told_and_leaves_nothing_running(place, kind):
    script, reason = HOSTILE[kind]
    with serving(place, environ=ALLOWED) as server:
        client = server.client()
        one = an_experiment(client, place, script)
        client.post(f"{one}/train", {})
        done = eventually(lambda: ended(client, one), what="it has ended")
        assert done["status"] == "Failed"
        assert reason in done["reason"]
        assert str(place.folder) not in done["reason"]
        eventually(lambda: not at_work(place), what="nothing is left running")
        assert client.ask("GET", "/readyz").status == 200
        assert server.stderr.read_text() == ""


def test_a_training_whose_watcher_is_killed_fails_and_leaves_nothing_running(place):
    script = 'echo begun; (setsid sleep 1000 &); echo > "$0/began"; sleep 1000'
    with serving(place, environ=ALLOWED) as server:
        client = server.client()
        one = an_experiment(client, place, script)
        client.post(f"{one}/train", {})
        eventually((place.folder / "began").exists, what="it runs")
        (started,) = Path(f"{place.store}.runs").glob("*/started.json")
        os.kill(json.loads(started.read_text())["shim"][0], signal.SIGKILL)
        done = eventually(lambda: ended(client, one), what="it has ended", timeout_s=10)
        assert done["status"] == "Failed"
        assert "killed together with what watched it" in done["reason"]
        eventually(lambda: not at_work(place), what="nothing is left running")


def test_a_training_sees_no_secret_of_the_server(place):
    with serving(place, environ=ALLOWED) as server:
        client = server.client()
        one = an_experiment(client, place, 'env > "$0/seen"')
        client.post(f"{one}/train", {})
        assert eventually(lambda: ended(client, one), what="it has ended")
    seen = (place.folder / "seen").read_text()
    assert "ARENA_RUN_FOLDER=" in seen
    assert "ARENA_SECRET_KEY" not in seen
    assert "ARENA_ALLOW_COMMANDS" not in seen


def test_without_leave_of_the_operator_no_program_is_run_over_http(place):
    with serving(place) as server:
        client = server.client()
        project = client.post("/api/v1/projects", {"name": "p", "kind": "advanced"})
        asked = {
            "project_id": project["id"],
            "name": "ppo",
            "algorithm": "PPO",
            "source": {"kind": "gym", "name": "CartPole-v1"},
            "recipe": "command",
            "config": {"argv": ["/bin/true"]},
        }
        refused = client.ask("POST", "/api/v1/experiments", asked)
        assert refused.status == 403
        assert "ARENA_ALLOW_COMMANDS" in refused.body["detail"]


def test_what_trains_for_a_store_in_memory_ends_with_it(tmp_path):
    script = 'echo $$ > "$0/pid"; sleep 1000'
    with arena_core.open("memory:") as arena:
        project = arena.projects.create("p").id
        made = arena.experiments.create(
            project,
            name="ppo",
            algorithm="PPO",
            source=arena_core.gym("CartPole-v1"),
            recipe="command",
            config={"argv": ["/bin/sh", "-c", script, str(tmp_path)]},
        )
        arena.training.train(made.id)
        pid = int(eventually(lambda: said(tmp_path / "pid"), what="it runs"))
        assert arena.experiments.get(made.id).status in (
            Status.PENDING,
            Status.RUNNING,
        )
    eventually(lambda: not is_alive(pid), what="it has ended")


def said(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return sys.platform != "linux" or " Z " not in Path(f"/proc/{pid}/stat").read_text()
