"""The layers of networks: each once for NumPy, and once for ONNX.

What they compute, and the order of their weights, is PyTorch's.  Floats are float32.
Activations have a module of their own.
"""

from collections.abc import Sequence

import numpy as np
from attrs import converters, field, frozen
from numpy.typing import ArrayLike

from arena_core.adapters.converters.networks import Graph, Layer
from arena_core.application.ports import Array

_FLOAT, _INT64 = 1, 7
"""How ONNX numbers its dtypes."""


def _float32(numbers: ArrayLike) -> Array:
    return np.asarray(numbers, np.float32)


# --- with weights ----------------------------------------------------------------


@frozen(eq=False)
class Linear(Layer):
    """y = x W' + b; `weight` is (outputs, inputs)."""

    weight: Array = field(converter=_float32)
    bias: Array | None = field(converter=converters.optional(_float32), default=None)

    def apply(self, x: Array) -> Array:
        product = x @ self.weight.T
        return product if self.bias is None else product + self.bias

    def emit(self, graph: Graph, x: str) -> str:
        parts = [self.weight] if self.bias is None else [self.weight, self.bias]
        names = [graph.constant(part) for part in parts]
        return graph.node("Gemm", x, *names, transB=1)


@frozen(eq=False)
class Conv2d(Layer):
    """(B, C, H, W) to (B, C', H', W'); `weight` is (C', C, height, width)."""

    weight: Array = field(converter=_float32)
    bias: Array = field(converter=_float32)
    stride: int = 1
    padding: int = 0

    def apply(self, x: Array) -> Array:
        edge = (self.padding, self.padding)
        padded = np.pad(x, ((0, 0), (0, 0), edge, edge))
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, self.weight.shape[2:], axis=(2, 3)
        )[:, :, :: self.stride, :: self.stride]
        sums = np.tensordot(windows, self.weight, axes=((1, 4, 5), (1, 2, 3)))
        return np.moveaxis(sums + self.bias, 3, 1)

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node(
            "Conv",
            x,
            graph.constant(self.weight),
            graph.constant(self.bias),
            strides=[self.stride] * 2,
            pads=[self.padding] * 4,
        )


@frozen(eq=False)
class Repeat(Layer):
    """The same row, `row`, for each row of the argument."""

    row: Array = field(converter=_float32)

    def apply(self, like: Array) -> Array:
        return np.repeat(self.row[None], len(like), axis=0)

    def emit(self, graph: Graph, like: str) -> str:
        rows = graph.node("Shape", like, start=0, end=1)
        axes = graph.constant(np.array(self.row.shape, np.int64))
        shape = graph.node("Concat", rows, axes, axis=0)
        return graph.node("Expand", graph.constant(self.row), shape)


# --- arithmetic ------------------------------------------------------------------


class AsFloat(Layer):
    """The same numbers as float32."""

    def apply(self, x: Array) -> Array:
        return _float32(x)

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("Cast", x, to=_FLOAT)


@frozen(eq=False)
class Divide(Layer):
    """x / divisor, which is one number, or one for each element of a row."""

    divisor: Array = field(converter=_float32)

    def apply(self, x: Array) -> Array:
        return x / self.divisor

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("Div", x, graph.constant(self.divisor))


@frozen(eq=False)
class Clip(Layer):
    """The nearest number from `low` to `high`."""

    low: float
    high: float

    def apply(self, x: Array) -> Array:
        return np.clip(x, np.float32(self.low), np.float32(self.high))

    def emit(self, graph: Graph, x: str) -> str:
        bounds = (graph.constant(_float32(b)) for b in (self.low, self.high))
        return graph.node("Clip", x, *bounds)


class Add(Layer):
    def apply(self, x: Array, y: Array) -> Array:
        return x + y

    def emit(self, graph: Graph, x: str, y: str) -> str:
        return graph.node("Add", x, y)


class Multiply(Layer):
    def apply(self, x: Array, y: Array) -> Array:
        return x * y

    def emit(self, graph: Graph, x: str, y: str) -> str:
        return graph.node("Mul", x, y)


# --- shapes ----------------------------------------------------------------------


class Flatten(Layer):
    """One axis for all that come after the batch."""

    def apply(self, x: Array) -> Array:
        return x.reshape(len(x), -1)

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("Flatten", x, axis=1)


@frozen(eq=False)
class Reshape(Layer):
    """The shape `shape`, behind the batch."""

    shape: tuple[int, ...]

    def apply(self, x: Array) -> Array:
        return x.reshape(len(x), *self.shape)

    def emit(self, graph: Graph, x: str) -> str:
        # ONNX keeps the axis where a shape says 0.
        shape = np.array([0, *self.shape], np.int64)
        return graph.node("Reshape", x, graph.constant(shape))


@frozen(eq=False)
class Transpose(Layer):
    """The axes in another order; the batch, which stays first, is 0."""

    axes: tuple[int, ...]

    def apply(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("Transpose", x, perm=list(self.axes))


class Concat(Layer):
    """All arguments side by side, along the axis behind the batch."""

    def apply(self, *arrays: Array) -> Array:
        return np.concatenate(arrays, axis=1)

    def emit(self, graph: Graph, *names: str) -> str:
        return graph.node("Concat", *names, axis=1)


class Stack(Layer):
    """(B, ...), (B, ...), ... to (B, number of arguments, ...)."""

    def apply(self, *arrays: Array) -> Array:
        return np.stack(arrays, axis=1)

    def emit(self, graph: Graph, *names: str) -> str:
        axis = graph.constant(np.array([1]))
        rows = (graph.node("Unsqueeze", name, axis) for name in names)
        return graph.node("Concat", *rows, axis=1)


@frozen(eq=False)
class Take(Layer):
    """(B, n, ...) to (B, ...): the entry `index` of each row."""

    index: int

    def apply(self, x: Array) -> Array:
        return x[:, self.index]

    def emit(self, graph: Graph, x: str) -> str:
        index = graph.constant(np.array(self.index, np.int64))
        return graph.node("Gather", x, index, axis=1)


@frozen(eq=False)
class Columns(Layer):
    """(B, n, ...) to (B, stop - start, ...)."""

    start: int
    stop: int

    def apply(self, x: Array) -> Array:
        return x[:, self.start : self.stop]

    def emit(self, graph: Graph, x: str) -> str:
        limits = (np.array([n], np.int64) for n in (self.start, self.stop, 1))
        return graph.node("Slice", x, *(graph.constant(limit) for limit in limits))


@frozen(eq=False)
class OneHot(Layer):
    """(B,) or (B, k) of integers to (B, sum of sizes): entry i is one of `sizes[i]`."""

    sizes: Sequence[int]

    def apply(self, x: Array) -> Array:
        starts = np.cumsum([0, *self.sizes[:-1]])
        ones = np.zeros((len(x), sum(self.sizes)), np.float32)
        rows = np.arange(len(x))[:, None]
        ones[rows, starts + x.reshape(len(x), -1)] = 1
        return ones

    def emit(self, graph: Graph, x: str) -> str:
        columns = np.repeat(np.arange(len(self.sizes)), self.sizes)
        choices = np.concatenate([np.arange(size) for size in self.sizes])
        integers = graph.node("Flatten", graph.node("Cast", x, to=_INT64), axis=1)
        chosen = graph.node("Gather", integers, graph.constant(columns), axis=1)
        equal = graph.node("Equal", chosen, graph.constant(choices))
        return graph.node("Cast", equal, to=_FLOAT)
