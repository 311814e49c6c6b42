"""Policies that are made for watching a server: bundles of ONNX written by hand."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from arena_core.application import golden
from arena_core.application.bundles import MANIFEST_FILE
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.ports import Array

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
WEIGHTS = "policy.onnx"
TRACED_ROWS = (1, 7)
TELLTALE_WIDTH = 4
FRAME = (84, 84, 4)
CNN_ACTIONS = 6
CNN_WIDTH = 3
"""Times the channels of the network of Mnih et al. (Nature, 2015)."""


@frozen(eq=False)
class Graph:
    """A network from `obs` to one output, both float32 unless it says otherwise."""

    nodes: Sequence["onnx.NodeProto"]
    weights: Mapping[str, Array]
    observed: tuple[int, ...]
    answer: str
    width: int
    dtype: str = "float32"

    def serialised(self) -> bytes:
        from onnx import checker, helper, numpy_helper  # noqa: PLC0415 -- slow to import

        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        real = helper.np_dtype_to_tensor_dtype(np.dtype("float32"))
        obs = helper.make_tensor_value_info("obs", kind, ["batch", *self.observed])
        answer = helper.make_tensor_value_info(self.answer, real, ["batch", self.width])
        tensors = [numpy_helper.from_array(w, n) for n, w in self.weights.items()]
        graph = helper.make_graph(self.nodes, "policy", [obs], [answer], tensors)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def node(kind: str, inputs: Sequence[str], output: str, **how: Any) -> Any:  # noqa: ANN401 -- whatever onnx calls an attribute
    from onnx import helper  # noqa: PLC0415 -- slow to import

    return helper.make_node(kind, list(inputs), [output], **how)


def write(  # noqa: PLR0913 -- what a bundle holds
    folder: Path,
    graph: Graph,
    actions: Mapping[str, object],
    *,
    head: str,
    trace: Sequence[Mapping[str, Array]] = (),
    note: object = None,
) -> Path:
    """Write a bundle into a new folder.  `note` tells bundles apart that act alike."""
    folder.mkdir(parents=True)
    bounds = {"low": 0, "high": 255} if graph.dtype == "uint8" else _FREE
    obs = {"shape": [None, *graph.observed], "dtype": graph.dtype, "name": "obs"}
    answer = {"shape": [None, graph.width], "dtype": "float32", "name": graph.answer}
    described = {
        "format_version": 1,
        "algorithm": "PPO",
        "family": "rl",
        "framework": {"name": "numpy", "version": np.__version__},
        "weights": WEIGHTS,
        "signature": {"inputs": [obs], "outputs": [answer]},
        "observation_space": {
            "type": "Box",
            "shape": list(graph.observed),
            "dtype": graph.dtype,
            **bounds,
        },
        "action_space": actions,
        "head": head,
        "normaliser": None,
        "provenance": {"note": note},
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(described), encoding="utf-8")
    (folder / WEIGHTS).write_bytes(graph.serialised())
    if trace:
        cases = [Case(f"case{n}", (Step(dict(s)),)) for n, s in enumerate(trace)]
        (folder / golden.FILE).write_bytes(golden.write(GoldenTrace(tuple(cases))))
    return folder


_FREE: dict[str, object] = {"low": None, "high": None}


# --- telltale ----------------------------------------------------------------------


def write_telltale(folder: Path, number: int) -> Path:
    """Write a policy whose every action says which weights made it, and of what.

    The action for an observation is (`number`, the observation's first element), both
    without any rounding.
    """
    matrix = np.zeros((TELLTALE_WIDTH, 2), np.float32)
    matrix[0, 1] = 1.0
    biases = np.array([number, 0], np.float32)
    graph = Graph(
        [node("Gemm", ["obs", "w", "b"], "answer")],
        {"w": matrix, "b": biases},
        (TELLTALE_WIDTH,),
        "answer",
        2,
    )
    trace = [
        {"obs": obs, "action": obs @ matrix + biases}
        for obs in (telltale_observations(range(rows)) for rows in TRACED_ROWS)
    ]
    actions = {"type": "Box", "shape": [2], "dtype": "float32", **_FREE}
    return write(folder, graph, actions, head="action", trace=trace)


def telltale_observations(names: Sequence[int]) -> Array:
    """Return an observation for each whole number below 2^24, shape (n, 4)."""
    observed = np.zeros((len(names), TELLTALE_WIDTH), np.float32)
    observed[:, 0] = names
    return observed


# --- dear --------------------------------------------------------------------------


def write_dear(folder: Path) -> Path:
    """Write an untrained convolutional policy that takes about 1 ms a row."""
    random = np.random.default_rng(0)
    layers = ((8, 4, 32), (4, 2, 64), (3, 1, 64))
    nodes = [
        node("Cast", ["obs"], "real", to=1),
        node("Div", ["real", "scale"], "scaled"),
        node("Transpose", ["scaled"], "h0", perm=[0, 3, 1, 2]),
    ]
    weights: dict[str, Array] = {"scale": np.array(255, np.float32)}
    channels = FRAME[-1]
    for number, (size, stride, made) in enumerate(layers):
        width = made * CNN_WIDTH
        shape = (width, channels, size, size)
        weights[f"k{number}"] = _initial(random, shape, fan_in=channels * size**2)
        parts = [f"h{number}", f"k{number}"]
        nodes += [
            node("Conv", parts, f"c{number}", strides=[stride, stride]),
            node("Relu", [f"c{number}"], f"h{number + 1}"),
        ]
        channels = width
    flat = channels * 7 * 7
    weights["w0"] = _initial(random, (flat, 512), fan_in=flat)
    weights["w1"] = _initial(random, (512, CNN_ACTIONS), fan_in=512)
    nodes += [
        node("Flatten", [f"h{len(layers)}"], "flat"),
        node("MatMul", ["flat", "w0"], "affine"),
        node("Relu", ["affine"], "hidden"),
        node("MatMul", ["hidden", "w1"], "logits"),
    ]
    graph = Graph(nodes, weights, FRAME, "logits", CNN_ACTIONS, "uint8")
    return write(folder, graph, {"type": "Discrete", "n": CNN_ACTIONS}, head="logits")


def _initial(
    random: np.random.Generator, shape: tuple[int, ...], *, fan_in: int
) -> Array:
    drawn = random.normal(scale=np.sqrt(2 / fan_in), size=shape)
    return drawn.astype(np.float32)


# --- good and bad ------------------------------------------------------------------


class Flaw(Enum):
    """What is wrong with a policy; each is seen by a limit of its own."""

    OTHERWISE = "acts otherwise"
    SLOW = "is slow"
    NON_FINITE = "is not finite at times"
    VIOLATING = "prefers what masks forbid"


CHOOSER_WIDTH, CHOICES = 4, 3
SLOW_SIZE, SLOW_PRODUCTS = 1024, 8
NEVER = -10.0


def write_chooser(folder: Path, flaw: Flaw | None = None, *, note: str = "") -> Path:
    """Write a policy that chooses between 0 and 1 by the greater of two numbers.

    A mask may forbid the third action, which it never prefers.
    """
    matrix = np.eye(CHOOSER_WIDTH, CHOICES, dtype=np.float32)
    matrix[2] = 0
    biases = np.array([0, 0, NEVER], np.float32)
    if flaw is Flaw.OTHERWISE:
        biases[0] -= NEVER
    if flaw is Flaw.VIOLATING:
        biases[2] *= -1
    weights: dict[str, Array] = {"w": matrix, "b": biases}
    nodes = [node("Gemm", ["obs", "w", "b"], "scores")]
    match flaw:
        case Flaw.NON_FINITE:
            nodes += _undefined_at_times(weights)
        case Flaw.SLOW:
            nodes += _slow(weights)
        case _:
            nodes.append(node("Identity", ["scores"], "logits"))
    graph = Graph(nodes, weights, (CHOOSER_WIDTH,), "logits", CHOICES)
    actions = {"type": "Discrete", "n": CHOICES}
    return write(folder, graph, actions, head="logits", note=note)


def _undefined_at_times(weights: dict[str, Array]) -> "list[onnx.NodeProto]":
    """Return nodes that add nothing, or NaN unless the last number is above 0."""
    weights["last"] = np.array([CHOOSER_WIDTH - 1])
    return [
        node("Gather", ["obs", "last"], "number", axis=1),
        node("Log", ["number"], "log"),
        node("Sub", ["log", "log"], "nothing"),
        node("Add", ["scores", "nothing"], "logits"),
    ]


def _slow(weights: dict[str, Array]) -> "list[onnx.NodeProto]":
    """Return nodes that add nothing, and take their time for it."""
    weights["m0"] = np.full((SLOW_SIZE, SLOW_SIZE), 1e-3, np.float32)
    weights["zero"] = np.zeros(1, np.float32)
    nodes = [
        # It depends on the input, so that it cannot be worked out beforehand.
        node("ReduceMean", ["obs"], "mean", keepdims=0),
        node("Add", ["m0", "mean"], "m1"),
    ]
    nodes += [
        node("MatMul", [f"m{number}", "m0"], f"m{number + 1}")
        for number in range(1, SLOW_PRODUCTS + 1)
    ]
    return [
        *nodes,
        node("ReduceMax", [f"m{SLOW_PRODUCTS + 1}"], "most", keepdims=0),
        node("Mul", ["most", "zero"], "nothing"),
        node("Add", ["scores", "nothing"], "logits"),
    ]
