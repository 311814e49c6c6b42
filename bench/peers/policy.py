"""The policy that every peer serves: one ONNX model, on one thread."""

import os
from typing import NamedTuple

import onnxruntime

from peers.codec import Array

MAX_BATCH = 32
MAX_WAIT_MS = 1
"""For what a peer calls batching; no peer takes less than a millisecond."""


class Asked(NamedTuple):
    """What the benchmark asks of a server that it starts, in the environment."""

    weights: str
    port: int
    batching: bool


def asked() -> Asked:
    given = os.environ
    return Asked(
        given["PEER_WEIGHTS"], int(given["PEER_PORT"]), given["PEER_BATCHING"] == "1"
    )


class Policy:
    """Greedy actions of a model from `obs` to `logits`."""

    def __init__(self, weights: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            weights, options, providers=["CPUExecutionProvider"]
        )

    def act(self, observations: Array) -> Array:
        """Return the actions (B,) for `observations` (B, ...)."""
        logits: Array = self._session.run(None, {"obs": observations})[0]
        actions: Array = logits.argmax(axis=1)
        return actions
