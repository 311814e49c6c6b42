"""Agents of every shape: how each is asked, and what NumPy says that it answers.

Arrays have the batch as their first axis.  The bundles are those of `shapes.py` and
`bundles.py`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from attrs import frozen

from arena_core.application import npy

import bundles
import shapes

Tree: TypeAlias = Any
"""An array, or a dict or tuple of trees; None where an agent is dead."""


@frozen
class Shape:
    """A bundle, and the truth about one step of it."""

    algorithm: str
    write: Callable[[Path], Path]
    observe: Callable[[int], Tree]
    """Returns observations of so many rows, no two alike."""
    truth: Callable[[Tree], Tree]
    """Returns what is answered to them, at the beginning of an episode."""
    flags: tuple[str, ...] = ()
    """What `/status` says is true of it."""

    @property
    def predicts(self) -> bool:
        return "supervised" in self.flags

    @property
    def verb(self) -> str:
        return "predict" if self.predicts else "get_action"

    @property
    def field(self) -> str:
        """The key of the request that holds the observations."""
        return "inputs" if self.predicts else "obs"


def _dict(rows: int) -> Tree:
    seen = shapes.dict_observations(rows)
    return {
        "image": seen["image"],
        "inner": (seen["inner/0"], seen["inner/1"]),
        "level": seen["level"],
        "position": seen["position"],
    }


def _dict_action(seen: Tree) -> np.ndarray:
    left, right = seen["inner"]
    flat = {**seen, "inner/0": left, "inner/1": right}
    return shapes.DICT(flat)["logits"].argmax(axis=1) - 1


def _tuple(rows: int) -> Tree:
    return tuple(shapes.tuple_observations(rows).values())


def _tuple_action(seen: Tree) -> np.ndarray:
    return shapes.rescaled(shapes.TUPLE({"0": seen[0], "1": seen[1]})["mean"])


def _greedy(network: shapes.Linear) -> Callable[[np.ndarray], np.ndarray]:
    return lambda obs: network({"obs": obs})["logits"].argmax(axis=1)


def _vectors(width: int) -> Callable[[int], np.ndarray]:
    return lambda rows: shapes.vectors(rows, width)


def _multi_discrete(obs: np.ndarray) -> np.ndarray:
    logits = shapes.MULTI_DISCRETE({"obs": obs})["logits"]
    return shapes.multi_discrete(logits, np.ones_like(logits, bool))


def _multi_binary(obs: np.ndarray) -> np.ndarray:
    return (shapes.MULTI_BINARY({"obs": obs})["logits"] > 0).astype("i1")


def _first_step(obs: np.ndarray) -> np.ndarray:
    zeros = np.zeros((len(obs), 1, shapes.RECURRENT.width), "f4")
    return shapes.RECURRENT(obs, zeros)[0].argmax(axis=1)


def _decoded(obs: np.ndarray) -> np.ndarray:
    return shapes.DECODER(shapes.ENCODER({"obs": obs}))["boxes"]


EVERY_SHAPE: Mapping[str, Shape] = {
    "dict": Shape("DQN", shapes.dict_policy, _dict, _dict_action),
    "tuple": Shape("SAC", shapes.tuple_policy, _tuple, _tuple_action),
    "image": Shape("PPO", shapes.image_policy, shapes.images, _greedy(shapes.IMAGE)),
    "multi discrete": Shape(
        "MaskablePPO", shapes.multi_discrete_policy, _vectors(4), _multi_discrete
    ),
    "multi binary": Shape(
        "A2C", shapes.multi_binary_policy, _vectors(4), _multi_binary
    ),
    "box": Shape(
        "SAC",
        shapes.scaled_policy,
        _vectors(3),
        lambda obs: shapes.rescaled(shapes.SCALED({"obs": obs})["mean"]),
    ),
    "recurrent": Shape(
        "Recurrent PPO",
        shapes.recurrent_policy,
        _vectors(3),
        _first_step,
        ("recurrent",),
    ),
    "agents": Shape(
        "MADDPG",
        shapes.multi_agent_policy,
        shapes.meeting,
        shapes.agent_actions,
        ("multi_agent",),
    ),
    "supervised": Shape(
        "Supervised",
        bundles.regressor,
        _vectors(3),
        bundles.REGRESSOR,
        ("supervised",),
    ),
    "latent": Shape(
        "LatentPPO", shapes.latent_policy, _vectors(4), _decoded, ("supervised",)
    ),
}
ACTING = tuple(name for name, shape in EVERY_SHAPE.items() if not shape.predicts)


def mapped(change: Callable[[np.ndarray], Any], tree: Tree) -> Tree:
    """Return `tree` with every array changed; tuples stay tuples."""
    if isinstance(tree, dict):
        return {key: mapped(change, part) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(mapped(change, part) for part in tree)
    return None if tree is None else change(tree)


def sent(tree: Tree) -> Any:
    """Return a tree of arrays as it travels."""
    return mapped(npy.to_base64, tree)


def whole_request(name: str, hidden_state: Any = None) -> dict[str, Any]:
    """Return a request of two rows with everything that the shape understands.

    `hidden_state`: what an answer to two rows held.
    """
    shape = EVERY_SHAPE[name]
    request = {shape.field: sent(shape.observe(2)), "batch_size": 2}
    match name:
        case "recurrent":
            more = {"action_mask": np.eye(3)[:2]}
        case "agents":
            more = {
                "action_mask": {"speaker_0": np.eye(3)[:2]},
                "env_defined_actions": {
                    "speaker_0": np.array([np.nan, 1]),
                    "listener_0": np.full((2, 2), 0.5),
                },
            }
        case "multi discrete":
            more = {"action_mask": (np.ones((2, 2)), np.ones((2, 3)))}
        case _:
            more = {}
    return {**request, **sent(more), "hidden_state": hidden_state}


def assert_same(answered: Tree, truth: Tree) -> None:
    """Assert that two trees are the same: whole numbers exactly, floats nearly."""
    if isinstance(truth, dict):
        assert answered.keys() == truth.keys()
        for key, part in truth.items():
            assert_same(answered[key], part)
    elif truth is None:
        assert answered is None
    else:
        assert (answered.shape, answered.dtype) == (truth.shape, truth.dtype)
        tolerance = 1e-4 if truth.dtype.kind == "f" else 0
        np.testing.assert_allclose(answered, truth, rtol=tolerance, atol=tolerance)
