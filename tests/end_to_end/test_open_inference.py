"""A real server process, and the protocol's own client in a process beside it."""

import io
import json
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import frozen

from arena_core.application import npy

import shapes
from end_to_end.environments import environment
from end_to_end.processes import Client, Place, connect, serving, tar_of, upload
from end_to_end.public_client import Live, frozen_agent, live_agent, taken, told
from end_to_end.shapes_over_http import raw_of
from every_shape import EVERY_SHAPE, whole_request

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "clients"
PINS = CLIENTS / "tritonclient.txt"
VERSION = "2.73.0"
STEPS = 6


@frozen
class Triton:
    """tritonclient, in a process that plays scenarios with it."""

    _process: "subprocess.Popen[str]"

    @classmethod
    @contextmanager
    def opened(cls, python: Path, home: Path):
        with subprocess.Popen(
            [python, "-I", CLIENTS / "open_inference.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"HOME": str(home)},
            text=True,
        ) as process:
            yield cls(process)
            process.communicate()

    def __call__(self, scenario: str, **arguments: object) -> Any:
        """Return what became of a scenario of `clients/open_inference.py`."""
        asking, telling = self._process.stdin, self._process.stdout
        asking.write(json.dumps({"scenario": scenario, **arguments}) + "\n")
        asking.flush()
        met = json.loads(telling.readline())
        assert "defect" not in met, met["defect"]
        return met


@pytest.fixture(scope="module")
def triton(request, tmp_path_factory):
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        python = environment(f"tritonclient[http]=={VERSION}", constraints=(PINS,))
    with Triton.opened(python, tmp_path_factory.mktemp("home")) as client:
        yield client


@frozen(eq=False)
class Server:
    """A running server, and the agents of every shape that were asked for."""

    control: Client
    folders: Any
    _live: dict[str, Live]

    @property
    def address(self) -> str:
        return self.control.address

    def live(self, name: str) -> Live:
        if name not in self._live:
            shape = EVERY_SHAPE[name]
            folder = shape.write(self.folders.mktemp("bundle"))
            self._live[name] = live_agent(self.control, folder, shape.algorithm)
        return self._live[name]

    def ask(self, name: str, arrays):
        """Return what the data plane itself answers to raw arrays."""
        live, verb = self.live(name), EVERY_SHAPE[name].verb
        files = io.BytesIO()
        for array in arrays.values():
            np.save(files, array)
        answer = self.control.ask(
            "POST",
            f"/inference/{live.deployment_id}/{verb}",
            raw=files.getvalue(),
            token=live.key,
            headers={
                "Content-Type": "application/x-npy",
                "Arena-Arrays": ", ".join(arrays),
            },
        )
        assert answer.status == 200, answer.raw
        names = tuple(answer.headers["Arena-Arrays"].split(", "))
        return dict(zip(names, npy.decode_all(answer.raw, names), strict=True))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(Place(tmp_path_factory.mktemp("server"))) as process:
        yield Server(process.client(), tmp_path_factory, {})


def where(server, name):
    live = server.live(name)
    return {"address": server.address, "key": live.key, "model": live.agent_id}


def arrays_of(met):
    assert "returned" in met, met
    return {name: taken(said) for name, said in met["returned"]["arrays"].items()}


def assert_identical(found, truth):
    assert found.keys() == truth.keys()
    for name, array in found.items():
        assert (array.dtype, array.shape) == (truth[name].dtype, truth[name].shape)
        assert array.tobytes() == truth[name].tobytes()


def whole(name):
    """Return a request with everything in it, as JSON can tell it to the client."""
    arrays = raw_of(name, whole_request(name))
    return {key: np.nan_to_num(array) for key, array in arrays.items()}


# --- looking -------------------------------------------------------------------------


def test_it_sees_the_server_and_the_model(triton, server):
    met = triton("look", **where(server, "image"))
    assert met["live"] is met["ready"] is met["model ready"] is True
    assert met["server"]["returned"]["name"] == "arena-core"
    model = met["model"]["returned"]
    assert model["name"] == server.live("image").agent_id
    assert model["inputs"][0] == {
        "name": "obs",
        "datatype": "UINT8",
        "shape": [-1, 6, 6, 3],
    }
    (entry,) = met["index"]["returned"]
    assert (entry["version"], entry["state"]) == (model["versions"][0], "READY")


def test_without_a_key_it_sees_health_alone(triton, server):
    met = triton("look", **where(server, "image") | {"key": None})
    assert met["live"] is met["ready"] is True
    assert met["model ready"] is False
    for what in ("server", "model", "index"):
        assert met[what]["status"] == "401"
        assert met[what]["text"].endswith("use a live token.")


# --- asking --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["binary", "json"])
@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_every_shape_is_answered_as_by_the_data_plane_bit_for_bit(
    triton, server, name, form
):
    arrays = whole(name)
    truth = server.ask(name, arrays)
    outputs = None if form == "binary" else dict.fromkeys(truth, False)
    met = triton(
        "infer", **where(server, name), arrays=told(arrays), form=form, outputs=outputs
    )
    assert_identical(arrays_of(met), truth)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i8", "u8"])
def test_an_observation_of_another_datatype_is_taken_as_the_data_plane_takes_it(
    triton, server, dtype
):
    arrays = {"obs": np.arange(6).reshape(2, 3).astype(dtype)}
    met = triton("infer", **where(server, "box"), arrays=told(arrays))
    assert_identical(arrays_of(met), server.ask("box", arrays))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("form", ["binary", "json"])
def test_a_compressed_request_is_answered_alike(triton, server, algorithm, form):
    arrays = {"obs": EVERY_SHAPE["image"].observe(3)}
    met = triton(
        "infer",
        **where(server, "image"),
        arrays=told(arrays),
        form=form,
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert_identical(arrays_of(met), server.ask("image", arrays))


def test_an_id_and_a_version_go_forth_and_back(triton, server):
    arrays = told({"obs": EVERY_SHAPE["box"].observe(1)})
    met = triton("infer", **where(server, "box"), arrays=arrays, request_id="42")
    model, version = met["returned"]["model"]
    assert (model, met["returned"]["id"]) == (server.live("box").agent_id, "42")
    again = triton(
        "infer", **where(server, "box"), arrays=arrays, model_version=version
    )
    assert again["returned"]["model"] == [model, version]
    other = triton("infer", **where(server, "box"), arrays=arrays, model_version="1")
    assert other["status"] == "404"


def test_an_action_is_drawn_with_parameters_of_its_own(triton, server):
    arrays = told({"obs": EVERY_SHAPE["multi binary"].observe(20)})
    drawn = {
        str(
            triton(
                "infer",
                **where(server, "multi binary"),
                arrays=arrays,
                parameters={"mode": "sample", "seed": seed},
            )["returned"]["arrays"]["action"]
        )
        for seed in (1, 2, 3, 1)
    }
    assert len(drawn) == 3


def test_several_requests_at_once_are_answered_each(triton, server):
    batches = [shapes.vectors(rows, 3, seed=rows) for rows in range(1, 9)]
    met = triton(
        "ask_at_once", **where(server, "box"), batches=list(map(told, batches))
    )
    for batch, answer in zip(batches, met, strict=True):
        (truth,) = server.ask("box", {"obs": batch}).values()
        np.testing.assert_allclose(
            taken(answer["arrays"]["action"]), truth, rtol=1e-5, atol=1e-6
        )


# --- refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "more", "refusal"),
    [
        ({"x": np.zeros((1, 3), "f4")}, {}, ("400", "There is no input x")),
        ({"obs": np.zeros((1, 2), "f4")}, {}, ("400", "must have the shape (B, 3)")),
        ({"obs": np.zeros((0, 3), "f4")}, {}, ("400", "has no row")),
        (
            {"obs": np.zeros((1, 3), "f4")},
            {"outputs": {"logits": True}},
            ("400", "There is no output logits"),
        ),
        ({"obs": np.zeros((1, 3), "f4")}, {"key": "x"}, ("401", "use a live token")),
        ({"obs": np.zeros((1, 3), "f4")}, {"model": "nobody"}, ("403", "not for this")),
        ({"obs": np.zeros((1, 3), "f4")}, {"timeout": 0}, ("400", "microseconds")),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_refused_is_an_error_with_our_sentence(
    triton, server, arrays, more, refusal
):
    status, said = refusal
    met = triton("infer", **where(server, "box") | {"arrays": told(arrays)} | more)
    assert met["status"] == status, met
    assert said in met["text"]
    assert met["shown"] == f"[{status}] {met['text']}"


def test_text_is_refused(triton, server):
    arrays = {"obs": {"shape": [1, 1], "dtype": "object", "values": ["left"]}}
    met = triton("infer", **where(server, "box"), arrays=arrays)
    assert met["status"] == "400"
    assert "nothing here is text" in met["text"]


# --- episodes ------------------------------------------------------------------------


def trace(network):
    hidden, actions = np.zeros((2, 1, network.width), "f4"), []
    for number in range(STEPS):
        logits, hidden = network(shapes.vectors(2, 3, seed=number), hidden)
        actions.append(logits.argmax(axis=1).tolist())
    return actions


def observed(number):
    return told(shapes.vectors(2, 3, seed=number))


def actions(met):
    return [taken(said).tolist() for said in met]


def test_an_episode_is_that_of_training(triton, server):
    steps = [observed(number) for number in range(STEPS)]
    for sequence in (1001, "an episode"):
        met = triton(
            "play", **where(server, "recurrent"), steps=steps, sequence=sequence
        )
        assert actions(met) == trace(shapes.RECURRENT)


def test_a_step_of_no_episode_is_an_error_that_says_how_to_begin(triton, server):
    met = triton("step", **where(server, "recurrent"), said=observed(0), sequence=404)
    assert met["status"] == "400"
    assert "begin it with sequence_start" in met["text"]


def test_a_running_episode_keeps_its_weights_over_a_swap(triton, server):
    newer, control = shapes.Recurrent(seed=5), server.control
    assert trace(newer) != trace(shapes.RECURRENT)
    folder = shapes.recurrent_policy(server.folders.mktemp("old"))
    agent_id = frozen_agent(control, folder, "Recurrent PPO")
    connect(control, agent_id)
    key = control.get(f"/api/v1/agents/{agent_id}/access")["api_key"]
    at = {"address": server.address, "key": key, "model": agent_id}

    def step(number, sequence):
        place = {"sequence_start": number == 0, "sequence_end": number == STEPS - 1}
        met = triton("step", **at, said=observed(number), sequence=sequence, **place)
        return arrays_of(met)["action"].tolist()

    old = [step(number, 1) for number in range(3)]
    cases = [list(shapes.episode(newer, rows)) for rows in shapes.BATCHES]
    bundle = shapes._write(
        server.folders.mktemp("new"),
        "Recurrent PPO",
        newer.manifest(),
        newer,
        cases=cases,
    )
    experiment = control.get(f"/api/v1/agents/{agent_id}")["experiment_id"]
    upload(control, experiment, 20, tar_of(bundle)).expect(201)
    control.post(
        f"/api/v1/agents/{agent_id}/redeploy?wait=30", {"checkpoint": {"type": "final"}}
    )
    new = [step(number, 2) for number in range(3)]
    old += [step(number, 1) for number in range(3, STEPS)]
    new += [step(number, 2) for number in range(3, STEPS)]
    assert (old, new) == (trace(shapes.RECURRENT), trace(newer))


# --- the repository ------------------------------------------------------------------


def test_it_unloads_and_loads_a_model(triton, server):
    at = where(server, "tuple")
    refused = triton("order", **at, what="unload")
    assert refused["ordered"]["status"] == "403"
    assert refused["ready"]
    at["key"] = server.control.token
    unloaded = triton("order", **at, what="unload")
    assert (unloaded["ordered"], unloaded["ready"]) == ({"returned": None}, False)
    loaded = triton("order", **at, what="load")
    assert (loaded["ordered"], loaded["ready"]) == ({"returned": None}, True)
