"""The two policies that are served, as bundles, and the request for each."""

import json
from pathlib import Path

import numpy as np
from attrs import field, frozen

from machine import write_policy
from peers.codec import Array
from peers.policy import Policy


@frozen
class Workload:
    """A policy and one request: every server must answer it with `actions`."""

    name: str
    bundle: Path
    observations: Array = field(repr=False)
    actions: Array = field(repr=False)

    @property
    def weights(self) -> Path:
        return self.bundle / "policy.onnx"


def perceptron(folder: Path) -> Workload:
    """Return a perceptron 4-64-64-2, asked with (1, 4) float32."""
    bundle = write_policy(folder / "perceptron")
    random = np.random.default_rng(1)
    return _asked("MLP", bundle, random.normal(size=(1, 4)).astype(np.float32))


def nature_cnn(folder: Path) -> Workload:
    """Return the network of Mnih et al. (2015), asked with (1, 84, 84, 4) uint8."""
    from peers.nature_cnn import ACTIONS, FRAMES, write  # noqa: PLC0415 -- onnx is slow to import

    bundle = folder / "nature_cnn"
    bundle.mkdir()
    write(bundle / "policy.onnx")
    (bundle / "checkpoint.json").write_text(json.dumps(_manifest(FRAMES, ACTIONS)))
    random = np.random.default_rng(1)
    return _asked("CNN", bundle, random.integers(0, 256, (1, *FRAMES), np.uint8))


def _asked(name: str, bundle: Path, observations: Array) -> Workload:
    actions = Policy(str(bundle / "policy.onnx")).act(observations)
    return Workload(name, bundle, observations, actions)


def _manifest(frames: tuple[int, ...], actions: int) -> dict[str, object]:
    return {
        "format_version": 1,
        "algorithm": "PPO",
        "family": "rl",
        "framework": {"name": "numpy", "version": np.__version__},
        "weights": "policy.onnx",
        "signature": {
            "inputs": [{"name": "obs", "dtype": "uint8", "shape": [None, *frames]}],
            "outputs": [
                {"name": "logits", "dtype": "float32", "shape": [None, actions]}
            ],
        },
        "observation_space": {
            "type": "Box",
            "shape": frames,
            "dtype": "uint8",
            "low": 0,
            "high": 255,
        },
        "action_space": {"type": "Discrete", "n": actions},
        "head": "logits",
        "normaliser": None,
        "provenance": {"written by": "benchmark"},
    }
