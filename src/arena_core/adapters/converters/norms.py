"""Layers that look at a whole row, or at what a whole channel was in training."""

import numpy as np
from attrs import field, frozen
from numpy.typing import ArrayLike

from arena_core.adapters.converters.networks import Graph, Layer
from arena_core.application.ports import Array

EPSILON = 1e-5
"""What PyTorch adds to variances unless told otherwise."""


def _float32(numbers: ArrayLike) -> Array:
    return np.asarray(numbers, np.float32)


@frozen(eq=False)
class LayerNorm(Layer):
    """(B, n): each row to mean 0 and variance 1, times `weight`, plus `bias`."""

    weight: Array = field(converter=_float32)
    bias: Array = field(converter=_float32)

    def apply(self, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(variance + np.float32(EPSILON))
        return _float32(scaled * self.weight + self.bias)

    def emit(self, graph: Graph, x: str) -> str:
        parts = (graph.constant(part) for part in (self.weight, self.bias))
        return graph.node("LayerNormalization", x, *parts, axis=-1, epsilon=EPSILON)


@frozen(eq=False)
class BatchNorm(Layer):
    """(B, C, ...): each channel by the `mean` and `variance` of training.

    All of `weight`, `bias`, `mean` and `variance` are (C,).
    """

    weight: Array = field(converter=_float32)
    bias: Array = field(converter=_float32)
    mean: Array = field(converter=_float32)
    variance: Array = field(converter=_float32)

    def apply(self, x: Array) -> Array:
        shape = (-1, *(1,) * (x.ndim - 2))
        scale = self.weight / np.sqrt(self.variance + np.float32(EPSILON))
        centred = x - self.mean.reshape(shape)
        return _float32(centred * scale.reshape(shape) + self.bias.reshape(shape))

    def emit(self, graph: Graph, x: str) -> str:
        parts = (self.weight, self.bias, self.mean, self.variance)
        names = (graph.constant(part) for part in parts)
        return graph.node("BatchNormalization", x, *names, epsilon=EPSILON)


class Softmax(Layer):
    """Probabilities along the last axis."""

    def apply(self, x: Array) -> Array:
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return _float32(powers / powers.sum(axis=-1, keepdims=True))

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("Softmax", x, axis=-1)


@frozen(eq=False)
class Slope(Layer):
    """PReLU with one slope for all: x where positive, else `slope` times x."""

    slope: Array = field(converter=_float32)

    def apply(self, x: Array) -> Array:
        return np.where(x > 0, x, self.slope * x)

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("PRelu", x, graph.constant(self.slope))


class Centre(Layer):
    """(B, n, ...): the mean over the n is taken away."""

    def apply(self, x: Array) -> Array:
        return _float32(x - x.mean(axis=1, keepdims=True))

    def emit(self, graph: Graph, x: str) -> str:
        mean = graph.node("ReduceMean", x, axes=[1], keepdims=1)
        return graph.node("Sub", x, mean)


@frozen(eq=False)
class Shift(Layer):
    """x - offset, which is one number, or one for each element of a row."""

    offset: Array = field(converter=_float32)

    def apply(self, x: Array) -> Array:
        return x - self.offset

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("Sub", x, graph.constant(self.offset))


@frozen(eq=False)
class WeightedSum(Layer):
    """(B, n, k) to (B, n): the sum of each k numbers times `weights`, (k,)."""

    weights: Array = field(converter=_float32)

    def apply(self, x: Array) -> Array:
        return _float32((x * self.weights).sum(axis=-1))

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("MatMul", x, graph.constant(self.weights))
