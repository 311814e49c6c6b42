"""Writing a checkpoint of the trainer as a bundle, as `docs/bundle.md` describes it."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

import arena_core
from arena_core.application import golden, space_json
from arena_core.application.bundles import MANIFEST_FILE
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.domain.checkpoint import Box, Discrete
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.demo.network import Array, Network
from arena_core.entrypoints.demo.ppo import Checkpoint
from arena_core.entrypoints.demo.rollout import ENVIRONMENT

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8
GOLDEN_BATCHES = (1, 7)
_WEIGHTS = "policy.onnx"


def write_bundle(folder: Path, checkpoint: Checkpoint, *, seed: int) -> None:
    """Write `checkpoint`, of the training with `seed`, into `folder`.

    The folder is made if need be.  The same checkpoint gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = json.dumps(_manifest(checkpoint, seed), indent=2, allow_nan=False)
    (folder / MANIFEST_FILE).write_text(manifest + "\n", encoding="utf-8")
    model = onnx_model(checkpoint.policy)
    (folder / _WEIGHTS).write_bytes(model.SerializeToString(deterministic=True))
    (folder / golden.FILE).write_bytes(golden.write(golden_trace(checkpoint)))


def _manifest(checkpoint: Checkpoint, seed: int) -> dict[str, object]:
    inputs, *_, outputs = checkpoint.policy.sizes
    with gymnasium.make(ENVIRONMENT) as environment:
        observation_space = space_to_json(environment.observation_space)
        action_space = space_to_json(environment.action_space)
    return {
        "format_version": 1,
        "algorithm": "PPO",
        "family": "rl",
        "framework": {"name": "numpy", "version": np.__version__},
        "weights": _WEIGHTS,
        "signature": {
            "inputs": [{"name": "obs", "dtype": "float32", "shape": [None, inputs]}],
            "outputs": [
                {"name": "logits", "dtype": "float32", "shape": [None, outputs]}
            ],
        },
        "observation_space": observation_space,
        "action_space": action_space,
        "head": "logits",
        "normaliser": None,
        "provenance": _provenance(checkpoint, seed),
    }


def _provenance(checkpoint: Checkpoint, seed: int) -> dict[str, object]:
    return {
        "trainer": "arena-core demo",
        "environment": ENVIRONMENT,
        "seed": seed,
        "step": checkpoint.step,
        "versions": {
            "arena-core": arena_core.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("gymnasium", "numpy", "onnx")},
        },
    }


def space_to_json(space: gymnasium.Space[Any]) -> dict[str, object]:
    """Return the JSON form of a Box or a Discrete.  Raises `Rejected` for another."""
    match space:
        case gymnasium.spaces.Box():
            return space_json.to_json(
                Box(
                    space.shape,
                    str(space.dtype),
                    _bounds(space.low),
                    _bounds(space.high),
                )
            )
        case gymnasium.spaces.Discrete():
            return space_json.to_json(
                Discrete(int(space.n), int(space.start), str(space.dtype))
            )
        case _:
            raise Rejected(
                f"The space {type(space).__name__} is not supported: use Box or "
                "Discrete.",
                field="space",
            )


def _bounds(bounds: Array) -> tuple[float | None, ...]:
    flat = bounds.ravel().tolist()
    return tuple(bound if np.isfinite(bound) else None for bound in flat)


def golden_trace(checkpoint: Checkpoint) -> GoldenTrace:
    """Return what the policy itself answered to what it met in training."""
    ends = np.cumsum(GOLDEN_BATCHES)
    batches = np.split(checkpoint.observations[: ends[-1]], ends[:-1])
    return GoldenTrace(
        tuple(
            Case(f"case{number}", (_recorded(checkpoint.policy, observations),))
            for number, observations in enumerate(batches)
        )
    )


def _recorded(policy: Network, observations: Array) -> Step:
    logits = policy(observations)
    action = logits.argmax(axis=1)
    return Step({"obs": observations, "action": action, "outputs/logits": logits})


def onnx_model(policy: Network) -> "onnx.ModelProto":
    """Return `policy` as ONNX, from `obs` (batch, n) to `logits` (batch, m)."""
    from onnx import checker, helper  # noqa: PLC0415 -- slow to import

    inputs, *_, outputs = policy.sizes
    graph = helper.make_graph(
        _nodes(len(policy.layers)),
        "policy",
        [_value("obs", inputs)],
        [_value("logits", outputs)],
        _tensors(policy),
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="arena-core",
    )
    checker.check_model(model, full_check=True)
    return model


def _nodes(layers: int) -> "list[onnx.NodeProto]":
    from onnx import helper  # noqa: PLC0415 -- slow to import

    nodes, value = [], "obs"
    for layer in range(1, layers + 1):
        parts = [value, f"weights{layer}", f"biases{layer}"]
        if layer == layers:
            nodes.append(helper.make_node("Gemm", parts, ["logits"]))
        else:
            nodes.append(helper.make_node("Gemm", parts, [f"affine{layer}"]))
            value = f"hidden{layer}"
            nodes.append(helper.make_node("Tanh", [f"affine{layer}"], [value]))
    return nodes


def _tensors(policy: Network) -> "list[onnx.TensorProto]":
    from onnx import numpy_helper  # noqa: PLC0415 -- slow to import

    return [
        numpy_helper.from_array(array, f"{name}{layer}")
        for layer, arrays in enumerate(policy.layers, start=1)
        for name, array in zip(("weights", "biases"), arrays, strict=True)
    ]


def _value(name: str, size: int) -> "onnx.ValueInfoProto":
    from onnx import TensorProto, helper  # noqa: PLC0415 -- slow to import

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
