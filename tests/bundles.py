"""Small real checkpoint bundles: each function writes one into a folder."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from attrs import field, frozen
from onnx import TensorProto, helper, numpy_helper

from arena_core.application import golden

from onnx_models import model, value

BATCHES = (1, 7)
MEAN, VARIANCE, EPSILON, CLIP = (0.5, -0.25, 1.0, 0.0), (4.0, 0.25, 1.0, 9.0), 1e-8, 2.0
NORMALISER = {
    "mean": list(MEAN), "variance": list(VARIANCE), "epsilon": EPSILON, "clip": CLIP,
}  # fmt: skip
OBSERVED = {"type": "Box", "shape": [4], "dtype": "float32", "low": None, "high": None}
ACTIONS = {"type": "Discrete", "n": 2}


@frozen(eq=False)
class Network:
    """A perceptron with one hidden layer: what NumPy says of it is the truth."""

    weights: Mapping[str, np.ndarray] = field()

    @classmethod
    def of(cls, inputs: int, outputs: int, *, seed: int = 0) -> "Network":
        random = np.random.default_rng(seed)
        sizes = {"w0": (inputs, 8), "b0": 8, "w1": (8, outputs), "b1": outputs}
        return cls({n: random.normal(size=s).astype("f4") for n, s in sizes.items()})

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        w = self.weights
        return np.tanh(rows @ w["w0"] + w["b0"]) @ w["w1"] + w["b1"]

    def perturbed(self, by: float) -> "Network":
        return Network({n: w + np.float32(by) for n, w in self.weights.items()})

    def swapped(self) -> "Network":
        """Return the network with its outputs in the opposite order."""
        turned = {n: self.weights[n][..., ::-1].copy() for n in ("w1", "b1")}
        return Network({**self.weights, **turned})

    def onnx(self, *, answer: str) -> bytes:
        inputs, outputs = len(self.weights["w0"]), len(self.weights["b1"])
        return model(
            [
                helper.make_node("Gemm", ["obs", "w0", "b0"], ["h0"]),
                helper.make_node("Tanh", ["h0"], ["h1"]),
                helper.make_node("Gemm", ["h1", "w1", "b1"], [answer]),
            ],
            [value("obs", TensorProto.FLOAT, ["batch", inputs])],
            [value(answer, TensorProto.FLOAT, ["batch", outputs])],
            [numpy_helper.from_array(w, n) for n, w in self.weights.items()],
        ).SerializeToString()


CARTPOLE = Network.of(4, 2)
PENDULUM = Network.of(3, 1, seed=4)
REGRESSOR = Network.of(3, 2, seed=2)
BALANCER = Network(
    {
        # Push to the side on which the pole will be, and the cart a little too.
        "w0": np.array([[0.05], [0.1], [1.0], [0.5]], "f4"),
        "b0": np.zeros(1, "f4"),
        "w1": np.array([[-1.0, 1.0]], "f4"),
        "b1": np.zeros(2, "f4"),
    }
)
"""Keeps the pole of CartPole-v1 up for the whole episode, untrained."""


def observations(rows: int, width: int) -> np.ndarray:
    """Return observations, shape (rows, width), no two rows alike."""
    return np.random.default_rng(rows).normal(size=(rows, width)).astype("f4")


def cartpole(
    folder: Path,
    *,
    network: Network = CARTPOLE,
    with_golden: bool = True,
    normalised: bool = False,
    masked: bool = False,
) -> Path:
    """Write a policy of CartPole's shape: four numbers in, one of two actions out."""
    described = _manifest("PPO", "rl", "logits", 4, 2)
    described |= {"observation_space": OBSERVED, "action_space": ACTIONS}
    if normalised:
        described["normaliser"] = NORMALISER
    write(folder, described, network)
    if with_golden:
        steps = [_acting(network, n, normalised, masked) for n in BATCHES]
        write_golden(folder, *steps)
    return folder


def _acting(
    network: Network, rows: int, normalised: bool, masked: bool
) -> dict[str, np.ndarray]:
    obs = observations(rows, 4)
    scaled = (obs - np.array(MEAN)) / np.sqrt(np.array(VARIANCE) + EPSILON)
    logits = network(np.clip(scaled, -CLIP, CLIP).astype("f4") if normalised else obs)
    recorded = {"obs": obs, "outputs/logits": logits, "action": logits.argmax(axis=1)}
    if masked:
        # The greedy action is forbidden in every row, so the other must be taken.
        recorded["action_mask"] = logits.argmax(axis=1)[:, None] != np.arange(2)
        recorded["action"] = 1 - recorded["action"]
    return recorded


def pendulum(folder: Path, *, with_golden: bool = True) -> Path:
    """Write a policy with a Box of actions, which its weights often leave."""
    described = _manifest("TD3", "rl", "action", 3, 1)
    space = {"type": "Box", "dtype": "float32"}
    described |= {
        "observation_space": {**space, "shape": [3], "low": None, "high": None},
        "action_space": {**space, "shape": [1], "low": -2.0, "high": 2.0},
    }
    write(folder, described, PENDULUM)
    if with_golden:
        traced = {rows: observations(rows, 3) for rows in BATCHES}
        write_golden(
            folder,
            *(
                {"obs": obs, "action": np.clip(PENDULUM(obs), -2, 2)}
                for obs in traced.values()
            ),
        )
    return folder


def regressor(
    folder: Path, *, with_golden: bool = True, algorithm: str = "Supervised"
) -> Path:
    """Write a supervised model without spaces: three numbers in, two out."""
    write(folder, _manifest(algorithm, "supervised", "output", 3, 2), REGRESSOR)
    if with_golden:
        traced = [observations(rows, 3) for rows in BATCHES]
        write_golden(folder, *({"inputs": x, "results": REGRESSOR(x)} for x in traced))
    return folder


# --- the parts -------------------------------------------------------------------


def write(folder: Path, described: dict[str, object], network: Network) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, described)
    write_weights(folder, network)


def write_manifest(folder: Path, described: Mapping[str, object]) -> None:
    (folder / "checkpoint.json").write_text(json.dumps(described))


def manifest(folder: Path) -> dict[str, object]:
    return json.loads((folder / "checkpoint.json").read_text())


def write_weights(folder: Path, network: Network) -> None:
    answer = manifest(folder)["signature"]["outputs"][0]["name"]
    (folder / "policy.onnx").write_bytes(network.onnx(answer=answer))


def write_golden(folder: Path, *cases: Mapping[str, np.ndarray]) -> None:
    """Write a trace of one step for each case: arrays by what they are."""
    trace = golden.GoldenTrace(
        tuple(
            golden.Case(f"case{number}", (golden.Step(dict(recorded)),))
            for number, recorded in enumerate(cases)
        )
    )
    (folder / "golden.npz").write_bytes(golden.write(trace))


def _manifest(
    algorithm: str, family: str, head: str, inputs: int, outputs: int
) -> dict[str, object]:
    def tensor(name: str, width: int) -> dict[str, object]:
        return {"name": name, "dtype": "float32", "shape": [None, width]}

    answer = "logits" if head == "logits" else "answer"
    return {
        "format_version": 1,
        "algorithm": algorithm,
        "family": family,
        "framework": {"name": "numpy", "version": np.__version__},
        "weights": "policy.onnx",
        "signature": {
            "inputs": [tensor("obs", inputs)],
            "outputs": [tensor(answer, outputs)],
        },
        "observation_space": None,
        "action_space": None,
        "head": head,
        "normaliser": None,
        "provenance": {},
    }
