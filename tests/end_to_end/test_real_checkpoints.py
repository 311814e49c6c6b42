"""Real checkpoints, imported and asked over HTTP, answer as their libraries did.

A server process of its own gets the files of Stable-Baselines3, AgileRL, torch and
ONNX as their users have them; what it answers is compared with what the libraries
recorded when the files were made.
"""

import base64
import io
import tarfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from arena_core.adapters.converters.child import write
from arena_core.adapters.converters.process import MODULES
from arena_core.application import bundles, golden, npy, spaces
from arena_core.application.conversion import Options
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.values import Family

from contract.converter import lay
from end_to_end.processes import (
    Client,
    Place,
    an_agent,
    connect,
    endpoint,
    eventually,
    serving,
)
from real_checkpoints import ALL, Checkpoint

TOLERANCE = 1e-4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("real"))
    with serving(place) as process:
        yield process.client()


@pytest.mark.parametrize("checkpoint", ALL, ids=str)
def test_it_answers_over_http_as_its_own_library_did(checkpoint, client, tmp_path):
    manifest = understood(checkpoint, tmp_path)
    agent = imported(client, checkpoint, manifest, tmp_path)
    deployed = connect(client, agent)["deployment"]
    assert deployed["parity"]["verdict"] == "passed"
    door = endpoint(client, agent)
    for case in golden.read(checkpoint.recorded.read_bytes()).cases:
        hidden_state = None
        for step in case.steps:
            body = asked(manifest, step, hidden_state)
            verb = "get_action" if "obs" in body else "predict"
            answer = client.ask("POST", f"{door.path}/{verb}", body, token=door.key)
            hidden_state = compare(step, answer.expect(200))


def understood(checkpoint: Checkpoint, folder: Path) -> Manifest:
    convert = import_module(MODULES[checkpoint.source]).convert
    order = lay(folder / "order", checkpoint.order)
    bundle = folder / "bundle"
    bundle.mkdir()
    write(bundle, convert(order, Options(), lambda _: None))
    return bundles.check(bundle)


def imported(
    client: Client, checkpoint: Checkpoint, manifest: Manifest, folder: Path
) -> str:
    """Import it over HTTP, wait, and return the id of an agent that is made of it."""
    name = str(checkpoint)
    project = client.post("/api/v1/projects", {"name": name, "kind": "classic"})
    described = {"project_id": project["id"], "name": name}
    described["algorithm"] = manifest.algorithm
    experiment = client.post("/api/v1/experiments", described)
    path = f"/api/v1/experiments/{experiment['id']}/checkpoints"
    source = checkpoint.source.value
    accepted = client.ask(
        "POST", f"{path}?from={source}&step=7", raw=archive(folder / "order")
    ).expect(202)

    def ended():
        found = client.get(f"/api/v1/imports/{accepted['id']}")
        return None if found["status"] in {"Pending", "Running"} else found

    done = eventually(ended, what=f"the end of the import of {name}")
    assert done["status"] == "Succeeded", done["reason"]
    return an_agent(client, experiment["id"], name=name)


def archive(order: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in sorted(order.iterdir()):
            tar.add(file, file.name)
    return packed.getvalue()


def asked(manifest: Manifest, step: golden.Step, hidden_state: object) -> dict:
    """Return the body with which a caller would have asked."""
    agents = step.by_agent()
    what = "obs" if manifest.family is Family.RL else "inputs"

    def tree(agent: str, own) -> object:
        name = manifest.agents.get(agent, "policy")
        space = manifest.policies[name].observation_space
        leaves = {
            key.removeprefix(what).removeprefix("/"): npy.to_base64(array)
            for key, array in own.items()
            if key.partition("/")[0] == what
        }
        return leaves[""] if space is None else spaces.unflatten(leaves, space)

    def all_of(values: dict) -> object:
        return values if manifest.is_multi_agent else values.get("")

    body = {what: all_of({agent: tree(agent, own) for agent, own in agents.items()})}
    masks = {
        agent: npy.to_base64(own["action_mask"])
        for agent, own in agents.items()
        if "action_mask" in own
    }
    if masks:
        body["action_mask"] = all_of(masks)
    if hidden_state is not None:
        body["hidden_state"] = hidden_state
    return body


def compare(step: golden.Step, answer: dict) -> object:
    """Compare an answer with what was recorded; return the hidden state after it."""
    for agent, own in step.by_agent().items():
        recorded = own.get("action", own.get("results"))
        leaf = answer["action"] if "action" in answer else answer["results"]
        served = decoded(leaf[agent] if agent else leaf)
        if recorded.dtype.kind in "biu":
            np.testing.assert_array_equal(served, recorded)
        else:
            np.testing.assert_allclose(served, recorded, rtol=TOLERANCE, atol=TOLERANCE)
    return answer.get("hidden_state")


def decoded(leaf: str) -> np.ndarray:
    return np.load(io.BytesIO(base64.b64decode(leaf)), allow_pickle=False)
