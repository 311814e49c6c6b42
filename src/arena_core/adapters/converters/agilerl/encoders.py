"""From observations to the latent vector that the head of a network works on."""

from collections.abc import Mapping, Sequence

import numpy as np
from attrs import field, frozen

from arena_core.adapters.converters.agilerl import modules
from arena_core.adapters.converters.agilerl.observing import Leaf, is_image
from arena_core.adapters.converters.agilerl.settings import Settings
from arena_core.adapters.converters.layers import Concat, Flatten, Reshape
from arena_core.adapters.converters.lstm import step
from arena_core.adapters.converters.networks import Input, Value
from arena_core.adapters.converters.norms import LayerNorm
from arena_core.adapters.converters.weights import Weights, refuse
from arena_core.application import spaces
from arena_core.domain.checkpoint import (
    Box,
    Discrete,
    HiddenState,
    MultiDiscrete,
    TensorSpec,
)

_STATES = ("h", "c")
_VECTOR_MLP = "vector_mlp"


@frozen(eq=False)
class Encoded:
    """What an encoder makes of an observation."""

    inputs: tuple[Input, ...]
    """The arrays of the observation, then the hidden states."""
    latent: Value
    """(B, n)"""
    next_states: Mapping[str, Value] = field(factory=dict)
    """By output."""

    @property
    def hidden_states(self) -> tuple[HiddenState, ...]:
        pairs = zip(_STATES, self.next_states, strict=False)
        return tuple(HiddenState(name, output) for name, output in pairs)


def encode(
    settings: Settings,
    weights: Weights,
    leaves: Sequence[Leaf],
    *,
    normalises_images: bool,
) -> Encoded:
    """Return what the encoder of the network with these `settings` does."""
    if settings.get("encoder_cls") is not None or settings.get("encoder") is not None:
        refuse("its network has an encoder of its own kind")
    config = settings.part("encoder_config")
    inputs = tuple(leaf.input for leaf in leaves)
    seen = [
        leaf.seen_by_network(sent, normalises_images=normalises_images)
        for leaf, sent in zip(leaves, inputs, strict=True)
    ]
    is_recurrent = settings.flag("recurrent")
    if leaves[0].key is not None:
        if is_recurrent:
            refuse("it is recurrent and its observations are of several parts")
        return Encoded(inputs, _several(leaves, seen, config, weights))
    (leaf,), (x,) = leaves, seen
    at = f"encoder.model.{settings.text('encoder_name', 'encoder')}"
    if is_recurrent:
        x = _steady(leaf, x, config, weights, at)
        return _recurrent(inputs[0], x, config, weights, at)
    return Encoded(inputs, _one(leaf, x, settings, weights, at))


def _one(leaf: Leaf, x: Value, settings: Settings, weights: Weights, at: str) -> Value:
    config = settings.part("encoder_config")
    if is_image(leaf.seen):
        return modules.image_network(x, config, weights, at)
    _check_vector(leaf)
    if settings.flag("simba"):
        return modules.simba(x, config, weights, at)
    return _vector_network(x, config, weights, at)


def _check_vector(leaf: Leaf) -> None:
    if isinstance(leaf.seen, Box) and len(leaf.seen.shape) != 1:
        refuse("its observations are neither vectors nor images")


def _vector_network(x: Value, config: Settings, weights: Weights, at: str) -> Value:
    x = modules.perceptron(x, config, weights, at)
    return modules.output_activation(config, weights, f"{at}_activation_output")(x)


def _recurrent(
    sent: Input, x: Value, config: Settings, weights: Weights, at: str
) -> Encoded:
    cells = modules.cells(config, weights, at)
    shape = (None, len(cells), cells[0].weight_hh.shape[-1])
    h, c = (Input(TensorSpec(name, "float32", shape)) for name in _STATES)
    x, h_next, c_next = step(x, h, c, cells)
    latent = modules.lstm_output(x, config, weights, at)
    return Encoded((sent, h, c), latent, {"h_next": h_next, "c_next": c_next})


def _steady(leaf: Leaf, x: Value, config: Settings, weights: Weights, at: str) -> Value:
    """Return the part of an encoder that is before its LSTM."""
    if is_image(leaf.seen):
        trunk = f"{at}_cnn.{at.rpartition('.')[2]}"
        return modules.convolutions(x, config, weights, trunk)
    _check_vector(leaf)
    return x


# --- observations of several parts -----------------------------------------------


def _several(
    leaves: Sequence[Leaf], seen: Sequence[Value], config: Settings, weights: Weights
) -> Value:
    """Return what an `EvolvableMultiInput` makes of the parts of an observation.

    Images, and what is neither image nor vector, go through networks of their own;
    their features come first, in the order of the observation, and then the vectors,
    in the order of their keys.
    """
    vectors = {
        str(leaf.key): _flat(leaf, x)
        for leaf, x in zip(leaves, seen, strict=True)
        if _is_vector(leaf)
    }
    parts = [
        _features(leaf, x, config, weights)
        for leaf, x in zip(leaves, seen, strict=True)
        if not _is_vector(leaf)
    ]
    in_order = [vectors[key] for key in sorted(vectors)]
    if config.flag("vector_space_mlp"):
        parts.append(_vector_features(in_order, config, weights))
    else:
        parts += in_order
    return _dense(_joined(parts), config, weights)


def _is_vector(leaf: Leaf) -> bool:
    if isinstance(leaf.seen, Box):
        return len(leaf.seen.shape) not in {2, 3}
    return isinstance(leaf.seen, Discrete | MultiDiscrete)


def _flat(leaf: Leaf, x: Value) -> Value:
    if spaces.shape(leaf.seen) == () and isinstance(leaf.seen, Box):
        return Reshape((1,))(x)
    return Flatten()(x)


def _features(leaf: Leaf, x: Value, config: Settings, weights: Weights) -> Value:
    if not is_image(leaf.seen):
        return Flatten()(x)
    key = str(leaf.key)
    own = config.part("init_dicts").part(key)
    at = f"encoder.feature_net.{key}.model.{own.text('name', key)}"
    return modules.image_network(x, own, weights, at)


def _vector_features(
    vectors: Sequence[Value], config: Settings, weights: Weights
) -> Value:
    own = config.part("init_dicts").part(_VECTOR_MLP)
    name = own.text("name", _VECTOR_MLP)
    at = f"encoder.feature_net.{name}.model.{name}"
    return _vector_network(_joined(vectors), own, weights, at)


def _joined(parts: Sequence[Value]) -> Value:
    return parts[0] if len(parts) == 1 else Concat()(*parts)


def _dense(x: Value, config: Settings, weights: Weights) -> Value:
    dense = modules.linear(weights, "encoder.final_dense")
    x = dense(x)
    if _ends_normalised(config):
        size = len(dense.weight)
        x = LayerNorm(np.ones(size), np.zeros(size))(x)
    return modules.output_activation(config, weights, "encoder.output")(x)


def _ends_normalised(config: Settings) -> bool:
    if config.flag("output_layernorm"):
        return True
    if not config.flag("vector_space_mlp"):
        return False
    return config.part("init_dicts").part(_VECTOR_MLP).flag("layer_norm")
