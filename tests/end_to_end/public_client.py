"""The clients of the data plane, released or not, and agents for them to call."""

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from attrs import frozen

from end_to_end.environments import environment
from end_to_end.processes import Client, an_agent, connect, tar_of, upload

OLD, NEW = "0.1.3", "1.29.0"
SCRIPT = Path(__file__).parent / "clients" / "agilerl_arena.py"


@frozen
class PublicClient:
    """One version of agilerl-arena, in a process that plays scenarios with it."""

    version: str
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
            yield cls(version, process)
            process.communicate()

    def __call__(self, scenario: str, **arguments: object) -> Any:
        """Return what became of a scenario of `clients/agilerl_arena.py`."""
        asking, telling = self._process.stdin, self._process.stdout
        assert asking is not None
        assert telling is not None
        asking.write(json.dumps({"scenario": scenario, **arguments}) + "\n")
        asking.flush()
        told = json.loads(telling.readline())
        assert "defect" not in told, told["defect"]
        return told


def python_of(version: str, request: pytest.FixtureRequest) -> Path:
    """Return a Python with agilerl-arena; it may have to be made first, visibly."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return environment(f"agilerl-arena=={version}")


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
        ("classic", {"kind": "gym", "name": "CartPole-v1"})
        if algorithm == "PPO"
        else ("advanced", {"kind": "dataset", "name": "some rows"})
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


# --- before the first release ----------------------------------------------------


@frozen
class FirstGeneration:
    """A client as the first users had it: always four keys, null where unused."""

    control: Client
    live: Live

    def get_action(self, observation, hidden_state=None, action_mask=None):
        """Return the HTTP status, the action and the hidden state."""
        body = {
            "obs": encoded(observation[np.newaxis]),
            "hidden_state": hidden_state,
            "action_mask": action_mask,
            "batch_size": 1,
        }
        path = f"{urlsplit(self.live.url).path}/get_action"
        answer = self.control.ask("POST", path, body, token=self.live.key)
        action = io.BytesIO(base64.b64decode(answer.body["action"], validate=True))
        return answer.status, np.load(action, allow_pickle=False).squeeze(0), None


def encoded(array: np.ndarray) -> str:
    """Return an array as NumPy itself writes it for the wire."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()
