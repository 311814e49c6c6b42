"""The modules that AgileRL's networks are made of, in evaluation mode.

Each function takes the weights it needs from `Weights` and returns what the module
makes of `x`, (B, ...).  `at` is the name that all names of its weights begin with.
"""

from collections.abc import Sequence

import numpy as np

from arena_core.adapters.converters.activations import ACTIVATIONS, IDENTITY, RELU
from arena_core.adapters.converters.agilerl.settings import Settings
from arena_core.adapters.converters.layers import Add, Conv2d, Flatten, Linear
from arena_core.adapters.converters.lstm import Cell
from arena_core.adapters.converters.networks import Layer, Value, chain
from arena_core.adapters.converters.norms import BatchNorm, LayerNorm, Slope, Softmax
from arena_core.adapters.converters.weights import Weights, refuse
from arena_core.application.filenames import shown
from arena_core.application.ports import Array

_NAMED = (
    "ELU", "GELU", "Identity", "LeakyReLU", "ReLU", "Sigmoid", "Softplus", "Softsign",
    "Tanh",
)  # fmt: skip
"""Activations of AgileRL that are functions of each element alone."""
_CONV_AXES, _MATRIX_AXES = 4, 2


def activation(name: str, weights: Weights, at: str) -> Layer:
    """Return the activation called `name`; some have weights of their own."""
    if name == "Softmax":
        return Softmax()
    if name == "PReLU":
        return Slope(weights.take(f"{at}.weight"))
    if name not in _NAMED:
        refuse(f"its activation {shown(name)} is not known")
    return ACTIVATIONS[name]


def output_activation(settings: Settings, weights: Weights, at: str) -> Layer:
    name = settings.text("output_activation", "Identity")
    return IDENTITY if name == "Identity" else activation(name, weights, at)


def perceptron(x: Value, settings: Settings, weights: Weights, at: str) -> Value:
    """Return what an `EvolvableMLP` makes of `x` before its output's activation."""
    name = settings.text("activation", "ReLU")
    for number in range(1, len(settings.sequence("hidden_size")) + 1):
        x = linear(weights, f"{at}_linear_layer_{number}")(x)
        if weights.has(f"{at}_layer_norm_{number}."):
            x = layer_norm(weights, f"{at}_layer_norm_{number}")(x)
        x = activation(name, weights, f"{at}_activation_{number}")(x)
    last = linear(weights, f"{at}_linear_layer_output")
    x = last(x)
    if settings.flag("output_layernorm"):
        size = len(last.weight)
        x = LayerNorm(np.ones(size), np.zeros(size))(x)
    return x


def linear(weights: Weights, at: str) -> Linear:
    """Return a linear layer; that of a noisy one without its noise."""
    if not weights.has(f"{at}.weight_mu"):
        return weights.linear(at)
    weight, bias = _matrix(weights, f"{at}.weight_mu"), weights.take(f"{at}.bias_mu")
    weights.drop(
        *(f"{at}.{p}_{q}" for p in ("weight", "bias") for q in ("sigma", "epsilon"))
    )
    return Linear(weight, bias)


def _matrix(weights: Weights, name: str) -> Array:
    matrix = weights.take(name)
    if matrix.ndim != _MATRIX_AXES:
        refuse(f"its weights {shown(name)} are no matrix")
    return matrix


def layer_norm(weights: Weights, at: str) -> LayerNorm:
    return LayerNorm(weights.take(f"{at}.weight"), weights.take(f"{at}.bias"))


def simba(x: Value, settings: Settings, weights: Weights, at: str) -> Value:
    """Return what an `EvolvableSimBa` makes of `x`."""
    x = linear(weights, f"{at}_linear_layer_input")(x)
    for number in range(1, settings.count("num_blocks") + 1):
        block = f"{at}_residual_block_{number}"
        inner = chain(
            x,
            layer_norm(weights, f"{block}.layer_norm"),
            linear(weights, f"{block}.linear1"),
            RELU,
            linear(weights, f"{block}.linear2"),
        )
        x = Add()(x, inner)
    return chain(
        x,
        layer_norm(weights, f"{at}_layer_norm_output"),
        linear(weights, f"{at}_linear_layer_output"),
        output_activation(settings, weights, f"{at}_activation_output"),
    )


def image_network(x: Value, settings: Settings, weights: Weights, at: str) -> Value:
    """Return what an `EvolvableCNN` makes of `x`, (B, channels, height, width)."""
    return chain(
        convolutions(x, settings, weights, at),
        linear(weights, f"{at}_linear_output"),
        output_activation(settings, weights, f"{at}_output_activation"),
    )


def convolutions(x: Value, settings: Settings, weights: Weights, at: str) -> Value:
    """Return the features behind all convolutions, (B, n)."""
    if settings.text("block_type", "Conv2d") != "Conv2d":
        refuse("its convolutions are not those of flat images")
    name = settings.text("activation", "ReLU")
    for number, stride in enumerate(settings.sizes("stride_size"), start=1):
        x = _convolution(weights, f"{at}_conv_layer_{number}", stride)(x)
        if weights.has(f"{at}_layer_norm_{number}."):
            x = _batch_norm(weights, f"{at}_layer_norm_{number}")(x)
        x = activation(name, weights, f"{at}_activation_{number}")(x)
    return Flatten()(x)


def _convolution(weights: Weights, at: str, stride: int) -> Conv2d:
    weight, bias = weights.take(f"{at}.weight"), weights.take(f"{at}.bias")
    if weight.ndim != _CONV_AXES or bias.shape != weight.shape[:1]:
        refuse(f"{shown(at)} is no convolution of flat images")
    return Conv2d(weight, bias, stride)


def _batch_norm(weights: Weights, at: str) -> BatchNorm:
    weights.drop(f"{at}.num_batches_tracked")
    parts = ("weight", "bias", "running_mean", "running_var")
    return BatchNorm(*(weights.take(f"{at}.{part}") for part in parts))


def lstm_output(x: Value, settings: Settings, weights: Weights, at: str) -> Value:
    """Return what an `EvolvableLSTM` makes of the output `x` of its LSTM."""
    return chain(
        x,
        linear(weights, f"{at}_lstm_output"),
        output_activation(settings, weights, f"{at}_output_activation"),
    )


def cells(settings: Settings, weights: Weights, at: str) -> Sequence[Cell]:
    return [
        Cell(
            _matrix(weights, f"{at}_lstm.weight_ih_l{layer}"),
            _matrix(weights, f"{at}_lstm.weight_hh_l{layer}"),
            weights.take(f"{at}_lstm.bias_ih_l{layer}"),
            weights.take(f"{at}_lstm.bias_hh_l{layer}"),
        )
        for layer in range(settings.count("num_layers"))
    ]
