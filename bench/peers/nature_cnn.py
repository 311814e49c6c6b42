"""The convolutional network of Mnih et al. (2015), untrained, as ONNX.

From `obs`, uint8 (batch, 84, 84, 4), to `logits`, float32 (batch, 6).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

if TYPE_CHECKING:
    import onnx

FRAMES, ACTIONS = (84, 84, 4), 6
CONVOLUTIONS = (((32, 4, 8, 8), 4), ((64, 32, 4, 4), 2), ((64, 64, 3, 3), 1))
"""Of each: the shape of its weights (out, in, height, width), and its stride."""
AFFINE = ((512, 7 * 7 * 64), (ACTIONS, 512))


def write(path: Path) -> None:
    graph = helper.make_graph(
        [*_scaled(), *_convolutions(), *_affine()],
        "policy",
        [helper.make_tensor_value_info("obs", TensorProto.UINT8, ["batch", *FRAMES])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["batch", ACTIONS]
            )
        ],
        _weights(),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    checker.check_model(model, full_check=True)
    save(model, path)


def _scaled() -> "list[onnx.NodeProto]":
    return [
        helper.make_node("Cast", ["obs"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["features0"], perm=[0, 3, 1, 2]),
    ]


def _convolutions() -> "list[onnx.NodeProto]":
    nodes = []
    for layer, (_, stride) in enumerate(CONVOLUTIONS):
        parts = [f"features{layer}", f"kernel{layer}"]
        nodes += [
            helper.make_node("Conv", parts, [f"conv{layer}"], strides=[stride] * 2),
            helper.make_node("Relu", [f"conv{layer}"], [f"features{layer + 1}"]),
        ]
    return nodes


def _affine() -> "list[onnx.NodeProto]":
    return [
        helper.make_node("Flatten", [f"features{len(CONVOLUTIONS)}"], ["flat"]),
        helper.make_node("Gemm", ["flat", "affine0"], ["wide"], transB=1),
        helper.make_node("Relu", ["wide"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "affine1"], ["logits"], transB=1),
    ]


def _weights() -> "list[onnx.TensorProto]":
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]]
    shapes = {f"kernel{n}": shape for n, (shape, _) in enumerate(CONVOLUTIONS)}
    shapes |= {f"affine{n}": shape for n, shape in enumerate(AFFINE)}
    drawn = {
        name: random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        for name, shape in shapes.items()
    }
    arrays = {"scale": np.array(1 / 255), **drawn}
    return [
        numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in arrays.items()
    ]
