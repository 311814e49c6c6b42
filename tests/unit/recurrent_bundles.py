"""Bundles of policies with more memory than one hidden state of one agent."""

import json
from pathlib import Path

import numpy as np
from attrs import frozen
from onnx import TensorProto, helper, numpy_helper

import shapes
from onnx_models import model, value
from shapes import BATCHES, STEPS, Linear, Recurrent, box, vectors

LAYERS, SIZE = 2, 3


@frozen(eq=False)
class TwoStates:
    """c' = c / 2 + tanh(obs A + h B); h' = tanh(c'); logits = h' C.

    Both states are (rows, layers, size), so that the batch is not their only axis.
    """

    actions: int = 4
    gossip: float = 0.0
    """How much of the mean of all rows goes into each."""

    @property
    def matrices(self) -> shapes.Arrays:
        random = np.random.default_rng(7)
        wide = LAYERS * SIZE
        sizes = {"a": (3, wide), "b": (wide, wide), "w": (wide, self.actions)}
        return {n: random.normal(size=s).astype("f4") for n, s in sizes.items()}

    def __call__(self, obs: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple:
        m, flat = self.matrices, (len(obs), -1)
        drive = obs @ m["a"] + h.reshape(flat) @ m["b"]
        c_next = c.reshape(flat) / 2 + np.tanh(drive)
        h_next = np.tanh(c_next)
        return h_next @ m["w"], h_next.reshape(h.shape), c_next.reshape(c.shape)

    def signature(self) -> dict:
        def tensor(name: str, *shape: int) -> dict:
            return {"name": name, "dtype": "float32", "shape": [None, *shape]}

        return {
            "inputs": [
                tensor("obs", 3),
                tensor("h", LAYERS, SIZE),
                tensor("c", LAYERS, SIZE),
            ],
            "outputs": [
                tensor("logits", self.actions),
                tensor("h_next", LAYERS, SIZE),
                tensor("c_next", LAYERS, SIZE),
            ],
        }

    def onnx(self) -> bytes:
        def state(name: str):
            return value(name, TensorProto.FLOAT, ["batch", LAYERS, SIZE])

        weights = {
            **self.matrices,
            "flat": np.array([-1, LAYERS * SIZE]),
            "tall": np.array([-1, LAYERS, SIZE]),
            "half": np.float32(0.5),
            "rows": np.array([0]),
            "gossip": np.float32(self.gossip),
        }
        return model(
            [
                helper.make_node("Reshape", ["h", "flat"], ["flat_h"]),
                helper.make_node("Reshape", ["c", "flat"], ["flat_c"]),
                helper.make_node("MatMul", ["obs", "a"], ["seen"]),
                helper.make_node("MatMul", ["flat_h", "b"], ["kept"]),
                helper.make_node("Add", ["seen", "kept"], ["drive"]),
                helper.make_node("Tanh", ["drive"], ["added"]),
                helper.make_node("Mul", ["flat_c", "half"], ["left"]),
                # With gossip: what a row keeps is mixed with the mean of the batch.
                helper.make_node("ReduceMean", ["left", "rows"], ["mean"], keepdims=1),
                helper.make_node("Sub", ["mean", "left"], ["towards"]),
                helper.make_node("Mul", ["towards", "gossip"], ["moved"]),
                helper.make_node("Add", ["left", "moved"], ["mixed"]),
                helper.make_node("Add", ["mixed", "added"], ["flat_c_next"]),
                helper.make_node("Tanh", ["flat_c_next"], ["flat_h_next"]),
                helper.make_node("Reshape", ["flat_h_next", "tall"], ["h_next"]),
                helper.make_node("Reshape", ["flat_c_next", "tall"], ["c_next"]),
                helper.make_node("MatMul", ["flat_h_next", "w"], ["logits"]),
            ],
            [value("obs", TensorProto.FLOAT, ["batch", 3]), state("h"), state("c")],
            [
                value("logits", TensorProto.FLOAT, ["batch", self.actions]),
                state("h_next"),
                state("c_next"),
            ],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
        ).SerializeToString()


TWO_STATES = TwoStates()
FED = (("h", "h_next"), ("c", "c_next"))


def two_states_policy(
    folder: Path, *, network: TwoStates = TWO_STATES, fed=FED, raw: bool = True
) -> Path:
    """Write a policy with two hidden states; its trace is what `TWO_STATES` says."""
    described = {
        "head": "logits",
        "observation_space": box(3),
        "action_space": {"type": "Discrete", "n": 4},
        "hidden_state": [{"input": i, "output": o} for i, o in fed],
    }
    cases = [list(two_states_episode(rows, raw=raw)) for rows in BATCHES]
    return shapes._write(folder, "Recurrent PPO", described, network, cases=cases)


def two_states_episode(rows: int, *, raw: bool = True):
    h = c = np.zeros((rows, LAYERS, SIZE), "f4")
    for step in range(STEPS):
        obs = vectors(rows, 3, seed=step)
        logits, h, c = TWO_STATES(obs, h, c)
        recorded = {"obs": obs, "action": logits.argmax(axis=1)}
        yield recorded | ({"outputs/logits": logits} if raw else {})


# --- several agents, of whom two remember ------------------------------------------

SCOUT = Recurrent(seed=5)
GUARD = Linear({"obs": ("float32", (2,))}, {"logits": 2}, seed=6)
TEAM = {"scout_0": "scout", "guard": "guard", "scout_1": "scout"}
DEAD_AT = 2
"""The step in which, in the wide case, `scout_1` is dead; it begins anew after."""


def team_policy(folder: Path) -> Path:
    """Write two scouts that share a recurrent policy, and a guard without memory."""
    described = {
        "policies": {
            "scout": {"weights": "scout.onnx", **SCOUT.manifest()},
            "guard": {
                "weights": "guard.onnx",
                "signature": GUARD.signature(),
                "head": "q_values",
                "observation_space": box(2),
                "action_space": {"type": "Discrete", "n": 2},
            },
        },
        "agents": TEAM,
    }
    folder.mkdir(parents=True, exist_ok=True)
    whole = shapes._header("IPPO") | described
    (folder / "checkpoint.json").write_text(json.dumps(whole))
    (folder / "scout.onnx").write_bytes(SCOUT.onnx())
    (folder / "guard.onnx").write_bytes(GUARD.onnx())
    shapes._write_trace(folder, [team_episode(1), team_episode(7, dies=True)])
    return folder


def team_seen(rows: int, step: int) -> dict[str, np.ndarray]:
    """Return an observation of each agent."""
    return {
        "scout_0": vectors(rows, 3, seed=step),
        "guard": vectors(rows, 2, seed=step),
        "scout_1": vectors(rows, 3, seed=100 + step),
    }


def team_episode(rows: int, *, dies: bool = False) -> list[dict[str, np.ndarray]]:
    begin = np.zeros((rows, 1, SCOUT.width), "f4")
    hidden = {"scout_0": begin, "scout_1": begin}
    steps = []
    for step in range(STEPS):
        recorded = {}
        for agent, obs in team_seen(rows, step).items():
            if dies and step == DEAD_AT and agent == "scout_1":
                hidden[agent] = begin
                continue
            if agent == "guard":
                scores = GUARD({"obs": obs})["logits"]
            else:
                scores, hidden[agent] = SCOUT(obs, hidden[agent])
            recorded[f"agents/{agent}/obs"] = obs
            recorded[f"agents/{agent}/outputs/logits"] = scores
            recorded[f"agents/{agent}/action"] = scores.argmax(axis=1)
        steps.append(recorded)
    return steps
