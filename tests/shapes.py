"""Bundles of every shape: each function writes a small real one into a folder.

All networks are linear but for a tanh, so that what NumPy says of them is the truth.
Traces have batches of 1 and of 7 rows, and 4 steps where the policy is recurrent.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from attrs import frozen
from onnx import TensorProto, helper, numpy_helper

from arena_core.application import golden

from onnx_models import model, value

BATCHES = (1, 7)
STEPS = 4
ONNX_TYPES = {
    "float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64, "int8": TensorProto.INT8,
}  # fmt: skip
Arrays = Mapping[str, np.ndarray]


def box(*shape: int, low=None, high=None, dtype: str = "float32") -> dict:
    return {
        "type": "Box", "shape": list(shape), "dtype": dtype, "low": low, "high": high,
    }  # fmt: skip


# --- networks --------------------------------------------------------------------


@frozen(eq=False)
class Linear:
    """Flattens and joins all inputs, scales them, and multiplies by a matrix."""

    inputs: Mapping[str, tuple[str, tuple[int, ...]]]
    """The dtype and the shape of one row of each, by name."""
    outputs: Mapping[str, int]
    """The width of each, by name."""
    scale: float = 1.0
    axes: tuple[int, ...] | None = None
    """How the axes of the first input are turned before it is flattened."""
    seed: int = 0

    @property
    def matrices(self) -> Arrays:
        random = np.random.default_rng(self.seed)
        width = sum(int(np.prod(shape)) for _, shape in self.inputs.values())
        return {
            name: random.normal(size=(width, columns)).astype("f4")
            for name, columns in self.outputs.items()
        }

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        flat = [
            (array.transpose(0, *self.axes) if self.axes else array).reshape(
                len(array), -1
            )
            for array in (arrays[name] for name in self.inputs)
        ]
        joined = np.concatenate(flat, axis=1).astype("f4") * np.float32(self.scale)
        return {name: joined @ matrix for name, matrix in self.matrices.items()}

    def signature(self) -> dict:
        return {
            "inputs": [
                {"name": name, "dtype": dtype, "shape": [None, *shape]}
                for name, (dtype, shape) in self.inputs.items()
            ],
            "outputs": [
                {"name": name, "dtype": "float32", "shape": [None, width]}
                for name, width in self.outputs.items()
            ],
        }

    def onnx(self) -> bytes:
        nodes, flat = [], []
        for place, name in enumerate(self.inputs):
            turned = name
            if self.axes:
                turned = f"turned{place}"
                axes = [0, *self.axes]
                nodes.append(helper.make_node("Transpose", [name], [turned], perm=axes))
            nodes += [
                helper.make_node(
                    "Cast", [turned], [f"cast{place}"], to=TensorProto.FLOAT
                ),
                helper.make_node("Reshape", [f"cast{place}", "rows"], [f"f{place}"]),
            ]
            flat.append(f"f{place}")
        nodes += [
            helper.make_node("Concat", flat, ["joined"], axis=1),
            helper.make_node("Mul", ["joined", "scale"], ["scaled"]),
            *(
                helper.make_node("MatMul", ["scaled", f"w_{name}"], [name])
                for name in self.outputs
            ),
        ]
        weights = {f"w_{name}": matrix for name, matrix in self.matrices.items()}
        weights |= {"rows": np.array([0, -1]), "scale": np.float32(self.scale)}
        return model(
            nodes,
            [
                value(name, ONNX_TYPES[dtype], ["batch", *shape])
                for name, (dtype, shape) in self.inputs.items()
            ],
            [
                value(name, TensorProto.FLOAT, ["batch", width])
                for name, width in self.outputs.items()
            ],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
        ).SerializeToString()


@frozen(eq=False)
class Recurrent:
    """h' = tanh(obs A + h B); logits = h' C.  Hidden states are (rows, 1, width)."""

    observed: int = 3
    width: int = 4
    actions: int = 3
    seed: int = 0
    feeds_back: bool = True

    @property
    def matrices(self) -> Arrays:
        random = np.random.default_rng(self.seed)
        shapes = {
            "a": (self.observed, self.width),
            "b": (self.width, self.width),
            "c": (self.width, self.actions),
        }
        made = {n: random.normal(size=s).astype("f4") for n, s in shapes.items()}
        return made if self.feeds_back else {**made, "b": made["b"] * 0}

    def __call__(self, obs: np.ndarray, h: np.ndarray) -> tuple:
        w = self.matrices
        after = np.tanh(obs @ w["a"] + h[:, 0] @ w["b"])
        return after @ w["c"], after[:, None]

    def signature(self) -> dict:
        def tensor(name: str, *shape: int) -> dict:
            return {"name": name, "dtype": "float32", "shape": [None, *shape]}

        return {
            "inputs": [tensor("obs", self.observed), tensor("h", 1, self.width)],
            "outputs": [
                tensor("logits", self.actions),
                tensor("h_next", 1, self.width),
            ],
        }

    def onnx(self) -> bytes:
        return model(
            [
                helper.make_node("MatMul", ["obs", "a"], ["seen"]),
                helper.make_node("Squeeze", ["h", "one"], ["flat"]),
                helper.make_node("MatMul", ["flat", "b"], ["kept"]),
                helper.make_node("Add", ["seen", "kept"], ["sum"]),
                helper.make_node("Tanh", ["sum"], ["after"]),
                helper.make_node("Unsqueeze", ["after", "one"], ["h_next"]),
                helper.make_node("MatMul", ["after", "c"], ["logits"]),
            ],
            [
                value("obs", TensorProto.FLOAT, ["batch", self.observed]),
                value("h", TensorProto.FLOAT, ["batch", 1, self.width]),
            ],
            [
                value("logits", TensorProto.FLOAT, ["batch", self.actions]),
                value("h_next", TensorProto.FLOAT, ["batch", 1, self.width]),
            ],
            [
                *(numpy_helper.from_array(w, n) for n, w in self.matrices.items()),
                numpy_helper.from_array(np.array([1]), "one"),
            ],
        ).SerializeToString()

    def manifest(self) -> dict:
        return {
            "signature": self.signature(),
            "head": "logits",
            "observation_space": box(self.observed),
            "action_space": {"type": "Discrete", "n": self.actions},
            "hidden_state": [{"input": "h", "output": "h_next"}],
        }


DICT_SPACE = {
    "type": "Dict",
    "spaces": {
        "image": box(4, 3, 2, low=0, high=255, dtype="uint8"),
        "inner": {
            "type": "Tuple",
            "spaces": [
                {"type": "MultiBinary", "shape": [3]},
                {"type": "MultiDiscrete", "nvec": [2, 3]},
            ],
        },
        "level": {"type": "Discrete", "n": 3},
        "position": box(2),
    },
}
DICT = Linear(
    {
        "image": ("uint8", (4, 3, 2)),
        "inner/0": ("int8", (3,)),
        "inner/1": ("int64", (2,)),
        "level": ("int64", ()),
        "position": ("float32", (2,)),
    },
    {"logits": 3},
    scale=0.01,
)
TUPLE = Linear({"0": ("float32", (2,)), "1": ("int64", ())}, {"mean": 2, "log_std": 2})
IMAGE = Linear(
    {"obs": ("uint8", (6, 6, 3))}, {"logits": 4}, scale=1 / 255, axes=(3, 1, 2)
)
MULTI_DISCRETE = Linear({"obs": ("float32", (4,))}, {"logits": 5})
MULTI_BINARY = Linear({"obs": ("float32", (4,))}, {"logits": 3})
SCALED = Linear({"obs": ("float32", (3,))}, {"mean": 2, "log_std": 2})
RECURRENT = Recurrent()
SPEAKER = Linear({"obs": ("float32", (3,))}, {"logits": 3}, seed=1)
LISTENER = Linear({"obs": ("float32", (5,))}, {"mean": 2}, seed=2)
ENCODER = Linear({"obs": ("float32", (4,))}, {"latent": 2}, seed=3)
DECODER = Linear({"latent": ("float32", (2,))}, {"boxes": 6}, seed=4)
AGENTS = {"speaker_0": "speaker", "listener_0": "listener", "listener_1": "listener"}
LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 1.0])


# --- one agent -------------------------------------------------------------------


def dict_policy(folder: Path) -> Path:
    """Write a policy that sees an image, a position, a level and a nested tuple."""
    described = {
        "observation_space": DICT_SPACE,
        "action_space": {"type": "Discrete", "n": 3, "start": -1},
        "head": "logits",
    }
    steps = []
    for rows in BATCHES:
        obs = dict_observations(rows)
        logits = DICT(obs)["logits"]
        steps.append(
            {f"obs/{path}": array for path, array in obs.items()}
            | {"outputs/logits": logits, "action": logits.argmax(axis=1) - 1}
        )
    return _write(folder, "DQN", described, DICT, steps)


def dict_observations(rows: int) -> dict[str, np.ndarray]:
    """Return observations of `DICT_SPACE` by path."""
    random = np.random.default_rng(rows)
    return {
        "image": random.integers(0, 256, (rows, 4, 3, 2)).astype("u1"),
        "inner/0": random.integers(0, 2, (rows, 3)).astype("i1"),
        "inner/1": random.integers(0, (2, 3), (rows, 2)),
        "level": random.integers(0, 3, rows),
        "position": random.normal(size=(rows, 2)).astype("f4"),
    }


def tuple_policy(folder: Path) -> Path:
    """Write a policy of a Tuple, whose actions are squashed, rescaled and clipped."""
    described = {
        "observation_space": {
            "type": "Tuple",
            "spaces": [box(2), {"type": "Discrete", "n": 3}],
        },
        **_scaled(),
    }
    steps = []
    for rows in BATCHES:
        obs = tuple_observations(rows)
        mean = TUPLE(obs)["mean"]
        steps.append(
            {f"obs/{path}": array for path, array in obs.items()}
            | {"outputs/mean": mean, "action": rescaled(mean)}
        )
    return _write(folder, "SAC", described, TUPLE, steps)


def tuple_observations(rows: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows)
    return {
        "0": random.normal(size=(rows, 2)).astype("f4"),
        "1": random.integers(0, 3, rows),
    }


def image_policy(folder: Path) -> Path:
    """Write a policy of square images, channels last, that turns them itself."""
    described = {
        "observation_space": box(6, 6, 3, low=0, high=255, dtype="uint8"),
        "action_space": {"type": "Discrete", "n": 4},
        "head": "logits",
    }
    steps = [_greedy(IMAGE, images(rows)) for rows in BATCHES]
    return _write(folder, "PPO", described, IMAGE, steps)


def images(rows: int) -> np.ndarray:
    random = np.random.default_rng(rows)
    return random.integers(0, 256, (rows, 6, 6, 3)).astype("u1")


def multi_discrete_policy(folder: Path) -> Path:
    """Write a policy with actions of two parts, masked in its trace."""
    described = {
        "observation_space": box(4),
        "action_space": {"type": "MultiDiscrete", "nvec": [2, 3], "start": [0, 4]},
        "head": "logits",
    }
    steps = []
    for rows in BATCHES:
        obs = vectors(rows, 4)
        logits = MULTI_DISCRETE({"obs": obs})["logits"]
        mask = multi_discrete_mask(rows)
        steps.append(
            {
                "obs": obs,
                "action_mask": mask,
                "outputs/logits": logits,
                "action": multi_discrete(logits, mask),
            }
        )
    return _write(folder, "MaskablePPO", described, MULTI_DISCRETE, steps)


def multi_discrete(logits: np.ndarray, mask: np.ndarray) -> np.ndarray:
    legal = np.where(mask, logits, -np.inf)
    parts = [legal[:, :2].argmax(axis=1), legal[:, 2:].argmax(axis=1) + 4]
    return np.stack(parts, axis=1)


def multi_discrete_mask(rows: int) -> np.ndarray:
    """Return masks of which every part allows some, but not what is best."""
    logits = MULTI_DISCRETE({"obs": vectors(rows, 4)})["logits"]
    best = multi_discrete(logits, np.ones_like(logits, bool))
    mask = np.ones((rows, 5), bool)
    mask[np.arange(rows), best[:, 0]] = False
    mask[np.arange(rows), best[:, 1] - 2] = False
    return mask


def multi_binary_policy(folder: Path) -> Path:
    described = {
        "observation_space": box(4),
        "action_space": {"type": "MultiBinary", "shape": [3]},
        "head": "logits",
    }
    steps = []
    for rows in BATCHES:
        obs = vectors(rows, 4)
        logits = MULTI_BINARY({"obs": obs})["logits"]
        steps.append({"obs": obs, "action": (logits > 0).astype("i1")})
    return _write(folder, "A2C", described, MULTI_BINARY, steps)


def scaled_policy(folder: Path) -> Path:
    """Write a policy with a distribution over a Box of actions."""
    described = {"observation_space": box(3), **_scaled()}
    steps = []
    for rows in BATCHES:
        obs = vectors(rows, 3)
        mean = SCALED({"obs": obs})["mean"]
        steps.append({"obs": obs, "action": rescaled(mean)})
    return _write(folder, "SAC", described, SCALED, steps)


def _scaled() -> dict:
    return {
        "action_space": box(2, low=LOW.tolist(), high=HIGH.tolist()),
        "head": "action",
        "action_transform": {"squash": "tanh", "rescale_from": [-1.0, 1.0]},
        "log_std": "log_std",
    }


def rescaled(mean: np.ndarray) -> np.ndarray:
    return (LOW + (np.tanh(mean) + 1) / 2 * (HIGH - LOW)).astype("f4")


def recurrent_policy(
    folder: Path, *, masked: bool = False, network: Recurrent = RECURRENT
) -> Path:
    """Write a policy with a hidden state; its trace is what `RECURRENT` says."""
    described = RECURRENT.manifest()
    cases = [list(episode(RECURRENT, rows, masked=masked)) for rows in BATCHES]
    return _write(folder, "Recurrent PPO", described, network, cases=cases)


def episode(
    network: Recurrent, rows: int, *, masked: bool = False
) -> Iterable[dict[str, np.ndarray]]:
    """Yield what is recorded of each step of `rows` episodes side by side."""
    hidden = np.zeros((rows, 1, network.width), "f4")
    for step in range(STEPS):
        obs = vectors(rows, network.observed, seed=step)
        logits, hidden = network(obs, hidden)
        recorded = {"obs": obs, "outputs/logits": logits, "outputs/h_next": hidden}
        greedy = logits.argmax(axis=1)
        if masked:
            mask = greedy[:, None] != np.arange(network.actions)
            recorded["action_mask"] = mask
            greedy = np.where(mask, logits, -np.inf).argmax(axis=1)
        yield recorded | {"action": greedy}


def latent_policy(folder: Path, *, algorithm: str = "LatentPPO") -> Path:
    """Write a policy whose latent action a frozen decoder turns into the answer."""
    described = {
        "family": "latent",
        "observation_space": box(4),
        "head": "output",
        "decoder": {"weights": "decoder.onnx", "signature": DECODER.signature()},
    }
    steps = []
    for rows in BATCHES:
        inputs = vectors(rows, 4)
        latent = ENCODER({"obs": inputs})["latent"]
        steps.append(
            {
                "inputs": inputs,
                "outputs/latent": latent,
                "results": DECODER({"latent": latent})["boxes"],
            }
        )
    _write(folder, algorithm, described, ENCODER, steps)
    (folder / "decoder.onnx").write_bytes(DECODER.onnx())
    return folder


# --- several agents --------------------------------------------------------------


def multi_agent_policy(folder: Path, *, algorithm: str = "MADDPG") -> Path:
    """Write a speaker with a policy of its own and two listeners that share one.

    In the second case of the trace a listener is dead, and one is forced.
    """
    described = {
        "policies": {
            "speaker": {
                "weights": "speaker.onnx",
                "signature": SPEAKER.signature(),
                "head": "logits",
                "observation_space": box(3),
                "action_space": {"type": "Discrete", "n": 3},
            },
            "listener": {
                "weights": "listener.onnx",
                "signature": LISTENER.signature(),
                "head": "action",
                "observation_space": box(5),
                "action_space": box(2, low=-1.0, high=1.0),
            },
        },
        "agents": AGENTS,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint.json").write_text(json.dumps(_header(algorithm) | described))
    (folder / "speaker.onnx").write_bytes(SPEAKER.onnx())
    (folder / "listener.onnx").write_bytes(LISTENER.onnx())
    _write_trace(folder, [[_meeting(1)], [_meeting(7, dead="listener_1")]])
    return folder


def meeting(rows: int) -> dict[str, np.ndarray]:
    """Return an observation of each agent."""
    return {
        "speaker_0": vectors(rows, 3),
        "listener_0": vectors(rows, 5, seed=1),
        "listener_1": vectors(rows, 5, seed=2),
    }


def agent_actions(observed: Arrays) -> dict[str, np.ndarray]:
    """Return what each agent does."""
    return {
        agent: SPEAKER({"obs": obs})["logits"].argmax(axis=1)
        if AGENTS[agent] == "speaker"
        else np.clip(LISTENER({"obs": obs})["mean"], -1, 1)
        for agent, obs in observed.items()
    }


def _meeting(rows: int, dead: str | None = None) -> dict[str, np.ndarray]:
    observed = {a: obs for a, obs in meeting(rows).items() if a != dead}
    actions = agent_actions(observed)
    recorded = {f"agents/{a}/obs": obs for a, obs in observed.items()}
    recorded |= {f"agents/{a}/action": action for a, action in actions.items()}
    if dead:
        forced = np.full(rows, np.nan)
        forced[::2] = 1
        recorded["agents/speaker_0/env_defined_action"] = forced
        spoken = np.where(np.isnan(forced), actions["speaker_0"], forced)
        recorded["agents/speaker_0/action"] = spoken.astype(np.int64)
    return recorded


# --- the parts -------------------------------------------------------------------


def vectors(rows: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Return observations, float32, no two rows alike."""
    random = np.random.default_rng([rows, seed])
    return random.normal(size=(rows, width)).astype("f4")


def _greedy(network: Linear, obs: np.ndarray) -> dict[str, np.ndarray]:
    logits = network({"obs": obs})["logits"]
    return {"obs": obs, "outputs/logits": logits, "action": logits.argmax(axis=1)}


def _header(algorithm: str) -> dict:
    return {
        "format_version": 1,
        "algorithm": algorithm,
        "family": "rl",
        "framework": {"name": "numpy", "version": np.__version__},
    }


def _write(  # noqa: PLR0917
    folder: Path, algorithm: str, described: dict, network, steps=(), cases=None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    whole = _header(algorithm) | {
        "weights": "policy.onnx", "signature": network.signature(),
    }  # fmt: skip
    (folder / "checkpoint.json").write_text(json.dumps(whole | described))
    (folder / "policy.onnx").write_bytes(network.onnx())
    _write_trace(folder, cases or [[step] for step in steps])
    return folder


def _write_trace(folder: Path, cases: Iterable[Iterable[Arrays]]) -> None:
    trace = golden.GoldenTrace(
        tuple(
            golden.Case(f"case{n}", tuple(golden.Step(dict(s)) for s in steps))
            for n, steps in enumerate(cases)
        )
    )
    (folder / "golden.npz").write_bytes(golden.write(trace))
