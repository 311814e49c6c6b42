"""Multilayer perceptrons with hand-written gradients, and the optimiser for them.

The parameters of several networks may lie in one vector, so that clipping and the
optimiser handle them all in one go.  Everything keeps the dtype of that vector.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


def parameter_count(sizes: Sequence[int]) -> int:
    """Return how many numbers a network with layers of `sizes` has."""
    return sum((n + 1) * m for n, m in pairwise(sizes))


def _views(flat: Array, sizes: Sequence[int]) -> tuple[tuple[Array, Array], ...]:
    layers, start = [], 0
    for n, m in pairwise(sizes):
        middle, end = start + n * m, start + (n + 1) * m
        layers.append((flat[start:middle].reshape(n, m), flat[middle:end]))
        start = end
    return tuple(layers)


@frozen(eq=False)
class Network:
    """Affine layers with tanh between them, and nothing after the last.

    `flat` holds the parameters; `layers` are views into it: for each layer the
    weights (n_in, n_out) and the biases (n_out,).
    """

    sizes: tuple[int, ...]
    flat: Array
    layers: tuple[tuple[Array, Array], ...] = field(init=False, repr=False)

    @layers.default
    def _views_of_flat(self) -> tuple[tuple[Array, Array], ...]:
        return _views(self.flat, self.sizes)

    def __call__(self, inputs: Array) -> Array:
        """Return the outputs (..., sizes[-1]) for `inputs` (..., sizes[0])."""
        return self.activations(inputs)[-1]

    def activations(self, inputs: Array) -> list[Array]:
        """Return the inputs and what each layer makes of them, outputs last."""
        found = [inputs]
        for index, (weights, biases) in enumerate(self.layers, start=1):
            outputs = found[-1] @ weights
            outputs += biases
            found.append(
                np.tanh(outputs, out=outputs) if index < len(self.layers) else outputs
            )
        return found

    def backward(
        self, activations: Sequence[Array], slope: Array, into: "Network"
    ) -> None:
        """Write the gradient of a loss into the parameters of `into`.

        `activations`: what the method of that name gave.  `slope` (B, sizes[-1]):
        the derivative of the loss by the outputs.
        """
        for index in reversed(range(len(self.layers))):
            inputs, (weight_slope, bias_slope) = activations[index], into.layers[index]
            np.matmul(inputs.T, slope, out=weight_slope)
            np.sum(slope, axis=0, out=bias_slope)
            if index:
                slope = slope @ self.layers[index][0].T
                slope *= 1 - inputs * inputs

    def copy(self) -> "Network":
        """Return a network that later training does not change."""
        return Network(self.sizes, self.flat.copy())


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Return a random (rows, columns) matrix, orthonormal along its shorter side.

    Saxe et al. 2013, arXiv 1312.6120.
    """
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    # The signs make the distribution uniform over all such matrices.
    q *= np.sign(np.diag(r))
    return q if rows >= columns else q.T


def initialise(network: Network, rng: np.random.Generator, output_gain: float) -> None:
    """Fill `network`: orthogonal weights, sqrt(2) before tanh, biases of zero."""
    for index, (weights, biases) in enumerate(network.layers, start=1):
        gain = output_gain if index == len(network.layers) else np.sqrt(2)
        weights[:] = gain * orthogonal(rng, *weights.shape)
        biases[:] = 0


def clip_norm(gradient: Array, limit: float) -> None:
    """Scale `gradient` in place so that its Euclidean norm is at most `limit`."""
    norm = float(np.sqrt(gradient @ gradient))
    if norm > limit:
        gradient *= limit / norm


class Adam:
    """Kingma and Ba 2014, arXiv 1412.6980, with its constants."""

    def __init__(self, parameters: Array) -> None:
        self._parameters = parameters
        self._mean = np.zeros_like(parameters)
        self._square = np.zeros_like(parameters)
        self._steps = 0

    def step(self, gradient: Array, learning_rate: float) -> None:
        """Move the parameters, in place, against `gradient`."""
        self._steps += 1
        self._mean += (1 - 0.9) * (gradient - self._mean)
        self._square += (1 - 0.999) * (gradient * gradient - self._square)
        mean_bias, square_bias = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        scale = np.sqrt(self._square / square_bias) + 1e-8
        self._parameters -= (learning_rate / mean_bias) * self._mean / scale
