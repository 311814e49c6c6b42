"""The clients of the data plane, released or not, and agents for them to call."""

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import numpy as np
import pytest
from attrs import frozen

from arena_core.adapters.presence.files import FilePresence
from arena_core.application.handling import Change
from arena_core.application.ports import Context
from arena_core.domain import deployment
from arena_core.domain.ids import DEFAULT_ORGANISATION, WorkerId
from arena_core.domain.values import system
from arena_core.entrypoints.settings import Settings
from arena_core.entrypoints.wiring import open_arena

from end_to_end.environments import environment
from end_to_end.processes import Client, an_agent, connect, tar_of, upload

OLD, MIDDLE, NEW = VERSIONS = "0.1.3", "0.9.0", "1.29.0"
"""The last for deployment keys, one that knows organisation keys, and today's."""
NO_LANGUAGE_MODEL = "This deployment is no language model."
ADVANCED = ("Supervised", "LatentPPO")
SCRIPT = Path(__file__).parent / "clients" / "agilerl_arena.py"


@frozen
class PublicClient:
    """One version of agilerl-arena, in a process that plays scenarios with it."""

    version: str
    home: Path
    _process: "subprocess.Popen[str]"

    @classmethod
    @contextmanager
    def opened(cls, version: str, python: Path, home: Path) -> Iterator["PublicClient"]:
        with subprocess.Popen(
            [python, "-I", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"HOME": str(home)},
            text=True,
        ) as process:
            yield cls(version, home, process)
            process.communicate()

    def __call__(self, scenario: str, **arguments: object) -> Any:
        """Return what became of a scenario of `clients/agilerl_arena.py`."""
        self.begin(scenario, **arguments)
        return self.end()

    def begin(self, scenario: str, **arguments: object) -> None:
        asking = self._process.stdin
        assert asking is not None
        asking.write(json.dumps({"scenario": scenario, **arguments}) + "\n")
        asking.flush()

    def end(self) -> Any:
        """Return what became of the scenario that was begun."""
        telling = self._process.stdout
        assert telling is not None
        told = json.loads(telling.readline())
        assert "defect" not in told, told["defect"]
        return told


def python_of(version: str, request: pytest.FixtureRequest) -> Path:
    """Return a Python with agilerl-arena; it may have to be made first, visibly."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return environment(f"agilerl-arena=={version}")


@contextmanager
def opened(
    version: str, request: pytest.FixtureRequest, folders: pytest.TempPathFactory
) -> Iterator[PublicClient]:
    """Give a version of the client, in a home of its own."""
    python = python_of(version, request)
    with PublicClient.opened(version, python, folders.mktemp("home")) as client:
        yield client


# --- what it is told, and what it tells --------------------------------------------


def told(tree: Any) -> Any:
    """Return a tree of arrays as the client's process takes and gives it."""
    if isinstance(tree, dict):
        return {key: told(part) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return [told(part) for part in tree]
    if tree is None:
        return None
    array = np.asarray(tree)
    shape, dtype = list(array.shape), str(array.dtype)
    return {"shape": shape, "dtype": dtype, "values": array.ravel().tolist()}


def taken(tree: Any) -> Any:
    """Return the tree of arrays that was told."""
    if isinstance(tree, list):
        return tuple(taken(part) for part in tree)
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {"shape", "dtype", "values"}:
        return np.array(tree["values"], tree["dtype"]).reshape(tree["shape"])
    return {key: taken(part) for key, part in tree.items()}


def refused(met: dict, status: int, detail: str) -> bool:
    """Say whether a call ended in the client's own error, with our sentence in it."""
    return met == {
        "error": "ArenaInferenceError",
        "status": status,
        "text": f"InferenceError ({status}): {{'detail': '{detail}'}}",
    }


def check_routes(met: dict, verb: str, refusal: str) -> None:
    """Check that one method is answered, and what is said to all others.

    `refusal`: what the server says to the other method for policies.
    """
    guarded = met.pop("guarded")
    assert "returned" in guarded.pop(verb)
    assert {error["status"] for error in guarded.values()} == {0}
    for outcomes in met.values():
        # No client reads the body of a refused stream: all it can tell is that.
        assert outcomes.pop("generate_stream")["error"] == "ResponseNotRead"
        assert "returned" in outcomes.pop(verb)
        for name, error in outcomes.items():
            acts = name in {"get_action", "predict"}
            said = refusal.format(name) if acts else NO_LANGUAGE_MODEL
            assert refused(error, 400, said), (name, error)


# --- agents --------------------------------------------------------------------------


@frozen
class Live:
    """An agent and how it is called, whether it answers now or not."""

    agent_id: str
    url: str
    key: str

    @property
    def deployment_id(self) -> str:
        return self.url.rpartition("/")[2]


def frozen_agent(control: Client, bundle: Path, algorithm: str = "PPO") -> str:
    """Upload a bundle and make an agent of it; return the agent's id."""
    kind, source = (
        ("advanced", {"kind": "dataset", "name": "some rows"})
        if algorithm in ADVANCED
        else ("classic", {"kind": "gym", "name": "CartPole-v1"})
    )
    project = control.post("/api/v1/projects", {"name": "p", "kind": kind})
    described = {"project_id": project["id"], "name": "e", "algorithm": algorithm}
    made = control.post("/api/v1/experiments", {**described, "source": source})
    upload(control, made["id"], 10, tar_of(bundle)).expect(201)
    return an_agent(control, made["id"])


def live_agent(control: Client, bundle: Path, algorithm: str = "PPO") -> Live:
    """Put an agent of the bundle live."""
    agent_id = frozen_agent(control, bundle, algorithm)
    connect(control, agent_id)
    access = control.get(f"/api/v1/agents/{agent_id}/access")
    return Live(agent_id, access["endpoint"], access["api_key"])


@contextmanager
def loading_elsewhere(store: Path, deployment_id: UUID) -> Iterator[None]:
    """Be another worker of the same store, which is slow to load a deployment."""
    presence = FilePresence(store.with_name(store.name + ".workers"))
    worker = WorkerId(uuid4())
    presence.announce(worker)
    order = uuid4()
    context = Context(DEFAULT_ORGANISATION, system("supervisor"), order, order)
    lease = deployment.ClaimConnect(worker, datetime.now(UTC) + timedelta(minutes=5))
    with open_arena(Settings(str(store)), serve=False) as arena:
        arena.application.core.handler.handle(
            context,
            Change(deployment, deployment_id, deployment.Connect()),
            Change(deployment, deployment_id, lease),
        )
    try:
        yield
    finally:
        presence.withdraw(worker)


# --- before the first release ----------------------------------------------------


@frozen
class FirstGeneration:
    """A client as the first users had it: always four keys, null where unused."""

    control: Client
    url: str
    key: str

    @classmethod
    def named(cls, control: Client, name: str) -> "FirstGeneration":
        """Return the client of the one agent that has this name."""
        (row,) = control.get(f"/api/cli/v1/inference/deployments/list?name={name}")
        return cls(control, row["spec"]["url"], row["api_key"])

    def get_action(self, observation, hidden_state=None, action_mask=None):
        """Return the HTTP status, the action and the hidden state."""
        body = {
            "obs": _packed(observation),
            "hidden_state": _packed(hidden_state),
            "action_mask": _packed(action_mask),
            "batch_size": 1,
        }
        path = f"{urlsplit(self.url).path}/get_action"
        answer = self.control.ask("POST", path, body, token=self.key)
        answered = answer.body
        state = _unpacked(answered.get("hidden_state"))
        return answer.status, _unpacked(answered["action"]), state


def _packed(tree: Any) -> Any:
    """Return a tree of arrays as they travel, each with a batch axis."""
    if isinstance(tree, dict):
        return {key: _packed(part) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return [_packed(part) for part in tree]
    return None if tree is None else encoded(np.expand_dims(tree, 0))


def _unpacked(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _unpacked(part) for key, part in tree.items()}
    if tree is None:
        return None
    file = io.BytesIO(base64.b64decode(tree, validate=True))
    return np.load(file, allow_pickle=False).squeeze(0)


def encoded(array: np.ndarray) -> str:
    """Return an array as NumPy itself writes it for the wire."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()
