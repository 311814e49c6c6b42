"""Activations by the names of PyTorch's modules, each for NumPy and for ONNX."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from attrs import frozen
from numpy.typing import ArrayLike

from arena_core.adapters.converters.networks import Graph, Layer
from arena_core.application.ports import Array


def _float32(numbers: ArrayLike) -> Array:
    return np.asarray(numbers, np.float32)


@frozen(eq=False)
class Activation(Layer):
    """A function of each element that is an operator of ONNX."""

    operator: str
    function: Callable[[Array], Array]
    attributes: Mapping[str, float] = {}

    def apply(self, x: Array) -> Array:
        return _float32(self.function(x))

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node(self.operator, x, **self.attributes)


class _SiLU(Layer):
    """Return x * sigmoid(x)."""

    def apply(self, x: Array) -> Array:
        return x * _sigmoid(x)

    def emit(self, graph: Graph, x: str) -> str:
        return graph.node("Mul", x, graph.node("Sigmoid", x))


class _GELU(Layer):
    """x * P(X <= x) for X of the standard normal distribution."""

    def apply(self, x: Array) -> Array:
        erf = np.vectorize(math.erf, otypes=[np.float32])
        return _float32(x * (0.5 + 0.5 * erf(x / math.sqrt(2))))

    def emit(self, graph: Graph, x: str) -> str:
        half, root = (graph.constant(_float32(c)) for c in (0.5, math.sqrt(2)))
        erf = graph.node("Erf", graph.node("Div", x, root))
        share = graph.node("Add", half, graph.node("Mul", half, erf))
        return graph.node("Mul", x, share)


def _sigmoid(x: Array) -> Array:
    # Does not overflow, as exp(-x) would.
    return _float32(0.5 + 0.5 * np.tanh(0.5 * x))


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


IDENTITY = Activation("Identity", lambda x: x)
TANH = Activation("Tanh", np.tanh)
RELU = Activation("Relu", lambda x: np.maximum(x, 0))
ELU = Activation("Elu", _elu)
SIGMOID = Activation("Sigmoid", _sigmoid)

ACTIVATIONS: Mapping[str, Layer] = {
    "ELU": ELU,
    "GELU": _GELU(),
    "Identity": IDENTITY,
    "LeakyReLU": Activation(
        "LeakyRelu", lambda x: np.where(x > 0, x, 0.01 * x), {"alpha": 0.01}
    ),
    "ReLU": RELU,
    "SELU": Activation(
        "Selu",
        lambda x: (
            1.0507009873554805
            * np.where(x > 0, x, 1.6732632423543772 * _elu(np.minimum(x, 0)))
        ),
    ),
    "Sigmoid": SIGMOID,
    "SiLU": _SiLU(),
    "Softplus": Activation("Softplus", lambda x: np.logaddexp(x, 0)),
    "Softsign": Activation("Softsign", lambda x: x / (1 + np.abs(x))),
    "Tanh": TANH,
}
"""With the parameters that PyTorch's modules have unless told otherwise."""
