"""What holds while many ask at once: right weights, right rows, nothing lost.

`bench/soak.py` is the long form of the first two; here it runs for seconds.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from arena_core.application import npy

from bundles import Network, write_manifest
from end_to_end.processes import (
    Client,
    Endpoint,
    Place,
    Process,
    an_agent,
    an_experiment,
    connect,
    endpoint,
    environment,
    serving,
    tar_of,
    upload,
)
from torch_programs import Value, call, program

pytestmark = pytest.mark.slow

BENCH = Path(__file__).parents[2] / "bench"
CALLERS, QUESTIONS, MOST_ROWS = 64, 50, 3
SOAKING_CALLERS = 18
"""Those of the soak, the one who tries dead keys, and the one who gives orders."""
TIMEOUT_S = 120
NETWORK = Network.of(4, 4, seed=7)
SPACE = {"type": "Box", "shape": [4], "dtype": "float32", "low": None, "high": None}


def soaked(folder: Path, *options: object) -> dict:
    """Return what a short soak has measured.  Nothing may be wrong."""
    out = folder / "soak.json"
    ran = subprocess.run(
        [sys.executable, BENCH / "soak.py", "--out", out, *map(str, options)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    measured = json.loads(out.read_text())
    assert measured["wrong"] == {}
    return measured["counted"]


def test_swaps_rollbacks_and_rotations_are_exact_under_load(tmp_path):
    counted = soaked(
        tmp_path, "--minutes", 0.08, "--swap-every", 0.4, "--rollback-every", 1.5,
        "--rotate-every", 0.7,
    )  # fmt: skip
    assert counted["tries of a dead key"] > 0
    assert counted["requests"] > counted["swaps"] + counted["rollbacks"] > 3


def test_a_kill_under_load_costs_no_caller_more_than_one_retry(tmp_path):
    counted = soaked(
        tmp_path, "--minutes", 0.1, "--swap-every", 0.9, "--rollback-every", 2.5,
        "--rotate-every", 1.1, "--workers", 2, "--kill-every", 3.2,
    )  # fmt: skip
    assert counted["kills"] == 1
    assert counted.get("lost in a kill", 0) <= SOAKING_CALLERS


# --- answers and questions ------------------------------------------------------------


def an_onnx(folder: Path) -> None:
    (folder / "policy.onnx").write_bytes(NETWORK.onnx(answer="answer"))


def a_torch_export(folder: Path) -> None:
    arrays = {
        name: np.ascontiguousarray(array.T) for name, array in NETWORK.weights.items()
    }
    nodes = [
        linear("h0", "obs", "w0", "b0"),
        call("aten.tanh.default", "h1", self=Value("h0")),
        linear("answer", "h1", "w1", "b1"),
    ]
    (folder / "policy.pt2").write_bytes(program(nodes, arrays=arrays))


def linear(makes: str, rows: str, weight: str, bias: str) -> dict:
    given = {"input": Value(rows), "weight": Value(weight), "bias": Value(bias)}
    return call("aten.linear.default", makes, **given)


def written(folder: Path, weights: Callable[[Path], None]) -> Path:
    """Write a policy of `NETWORK`, whose numbers are its actions."""
    folder.mkdir()
    weights(folder)
    (file,) = folder.iterdir()
    tensor = {"dtype": "float32", "shape": [None, 4]}
    write_manifest(
        folder,
        {
            "format_version": 1,
            "algorithm": "PPO",
            "family": "rl",
            "framework": {"name": "numpy", "version": np.__version__},
            "weights": file.name,
            "signature": {
                "inputs": [{"name": "obs", **tensor}],
                "outputs": [{"name": "answer", **tensor}],
            },
            "observation_space": SPACE,
            "action_space": SPACE,
            "head": "action",
            "normaliser": None,
            "provenance": {},
        },
    )
    return folder


@pytest.mark.parametrize("environ", [{}, {"ARENA_MAX_BATCH": "1"}], ids=str)
@pytest.mark.parametrize("weights", [an_onnx, a_torch_export])
def test_everybody_is_given_the_answer_to_his_own_question(tmp_path, weights, environ):
    bundle = tar_of(written(tmp_path / "bundle", weights))
    with serving(Place(tmp_path), environ=environ) as server:
        client = server.client()
        experiment = an_experiment(client)
        upload(client, experiment, 1, bundle).expect(201)
        agent = an_agent(client, experiment)
        connect(client, agent)
        served = endpoint(client, agent)
        with ThreadPoolExecutor(CALLERS) as callers:
            wrong = callers.map(lambda n: mistaken(server, served, n), range(CALLERS))
            assert sum(wrong) == 0
        assert mistaken(server, served, CALLERS) == 0  # alone


def mistaken(server: Process, served: Endpoint, seed: int) -> int:
    """Return how many of one caller's questions are not answered as NumPy answers."""
    random, client = np.random.default_rng(seed), server.client()
    return sum(
        not is_right(client, served, random.normal(size=(1 + n % MOST_ROWS, 4)))
        for n in range(QUESTIONS)
    )


def is_right(client: Client, served: Endpoint, drawn: np.ndarray) -> bool:
    observed = drawn.astype("f4")
    answered = served.ask(client, observed).expect(200)["action"]
    acted = npy.from_base64(answered, field="action")
    # Four numbers as near to each other as that are not those of any other question.
    return acted.shape == observed.shape and np.allclose(
        acted, NETWORK(observed), rtol=0, atol=1e-5
    )
