"""Sequences of PyTorch's layers as ONNX, and back.

Every parameter and buffer keeps its name, so that what was served can be trained on.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import nn

from arena_core.adapters.converters.networks import BATCH, IR_VERSION, OPSET

if TYPE_CHECKING:
    import onnx


class Standardise(nn.Module):
    """(x - mean) / scale: one number for each element, or for each channel."""

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.get_buffer("mean")) / self.get_buffer("scale")


class Rescale(nn.Module):
    """The other way round: x * scale + mean."""

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.get_buffer("scale") + self.get_buffer("mean")


class ChannelsFirst(nn.Module):
    """(B, H, W) or (B, H, W, C) to (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        has_channels = x.dim() == 4  # noqa: PLR2004 -- the batch, and three of its own
        return x.permute(0, 3, 1, 2) if has_channels else x[:, None]


@frozen
class Piece:
    """A sequence of layers, from the tensor `source` to the tensor `result`."""

    name: str
    layers: nn.Sequential
    source: str
    result: str


Shapes = Mapping[str, tuple[int, ...]]
"""Of one row, by the name of the tensor."""


def to_onnx(pieces: Iterable[Piece], inputs: Shapes, outputs: Shapes) -> bytes:
    """Return the pieces, each of which may take what one before it has made.

    Raises `TypeError` for a layer that is not written here.
    """
    from onnx import checker, helper  # noqa: PLC0415 -- slow to import

    graph = _Graph({name: len(shape) for name, shape in inputs.items()})
    for piece in pieces:
        graph.add(piece)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [_value(*it) for it in inputs.items()],
            [_value(*it) for it in outputs.items()],
            graph.tensors,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="arena-core",
    )
    checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def parameters_of(model: "onnx.ModelProto") -> dict[str, torch.Tensor]:
    """Return the arrays of a model by their names."""
    from onnx import numpy_helper  # noqa: PLC0415 -- slow to import

    return {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in model.graph.initializer
    }


def _value(name: str, shape: tuple[int, ...]) -> "onnx.ValueInfoProto":
    from onnx import TensorProto, helper  # noqa: PLC0415 -- slow to import

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])


class _Graph:
    """An ONNX graph in the making.  `axes`: of one row, by tensor."""

    def __init__(self, axes: Mapping[str, int]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._axes = dict(axes)

    def add(self, piece: Piece) -> None:
        """Add the layers one behind the other; the last makes `piece.result`."""
        value = piece.source
        self._images = self._axes.get(value) == 3  # noqa: PLR2004 -- with channels
        layers = list(piece.layers.named_children())
        for place, (name, layer) in enumerate(layers, start=1):
            path = f"{piece.name}.{name}"
            last = place == len(layers)
            value = self._layer(path, layer, value, piece.result if last else path)

    def _layer(self, path: str, layer: nn.Module, value: str, result: str) -> str:
        match layer:
            case nn.Linear():
                return self._node(
                    "Gemm", value, *self._own(path, layer), to=result, transB=1
                )
            case nn.Conv2d():
                return self._node(
                    "Conv", value, *self._own(path, layer), to=result,
                    strides=list(layer.stride), pads=[int(layer.padding[0])] * 4,
                )  # fmt: skip
            case Standardise():
                mean, scale = self._own(path, layer)
                centred = self._node("Sub", value, mean, to=f"{path}.centred")
                return self._node("Div", centred, scale, to=result)
            case Rescale():
                mean, scale = self._own(path, layer)
                scaled = self._node("Mul", value, scale, to=f"{path}.scaled")
                return self._node("Add", scaled, mean, to=result)
            case ChannelsFirst() if self._images:
                return self._node("Transpose", value, to=result, perm=[0, 3, 1, 2])
            case ChannelsFirst():
                axis = self._constant(f"{path}.axis", torch.tensor([1]))
                return self._node("Unsqueeze", value, axis, to=result)
            case nn.Hardtanh():
                bounds = torch.tensor([layer.min_val, layer.max_val])
                low = self._constant(f"{path}.low", bounds[0])
                high = self._constant(f"{path}.high", bounds[1])
                return self._node("Clip", value, low, high, to=result)
            case nn.ReLU():
                return self._node("Relu", value, to=result)
            case nn.Tanh():
                return self._node("Tanh", value, to=result)
            case nn.Flatten():
                return self._node("Flatten", value, to=result, axis=1)
            case nn.Softmax():
                return self._node("Softmax", value, to=result, axis=1)
            case _:
                raise TypeError(f"{type(layer).__name__} is not written as ONNX")

    def _own(self, path: str, layer: nn.Module) -> list[str]:
        state = layer.state_dict()
        return [self._constant(f"{path}.{name}", state[name]) for name in state]

    def _constant(self, name: str, tensor: torch.Tensor) -> str:
        from onnx import numpy_helper  # noqa: PLC0415 -- slow to import

        array = tensor.detach().cpu().numpy()
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def _node(self, operator: str, *values: str, to: str, **attributes: Any) -> str:  # noqa: ANN401 -- as ONNX has them
        from onnx import helper  # noqa: PLC0415 -- slow to import

        self.nodes.append(helper.make_node(operator, values, [to], **attributes))
        return to
