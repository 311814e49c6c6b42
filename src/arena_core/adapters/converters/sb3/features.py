"""From observations to features, as the extractors of Stable-Baselines3 do it."""

from collections.abc import Iterable

from attrs import frozen

from arena_core.adapters.converters.activations import RELU
from arena_core.adapters.converters.layers import (
    AsFloat,
    Concat,
    Conv2d,
    Divide,
    Flatten,
    OneHot,
    Transpose,
)
from arena_core.adapters.converters.networks import Input, Layer, Value, chain
from arena_core.adapters.converters.sb3.observations import (
    IMAGE_AXES,
    LARGEST_PIXEL,
    Leaf,
    is_image,
)
from arena_core.adapters.converters.weights import Weights, refuse
from arena_core.domain.checkpoint import Box, Dict, Discrete, MultiDiscrete, Space

_MOST_CHOICES = 1 << 20
_KERNELS = ((0, 8, 4), (2, 4, 2), (4, 3, 1))
"""Of the convolutions: the place in the sequence, the size and the stride."""
_TO_CHANNELS_FIRST = (0, 3, 1, 2)


@frozen(eq=False)
class Extractor:
    """The weights below `prefix` that make features of observations."""

    weights: Weights
    prefix: str
    """Such as `features_extractor.`"""
    normalize_images: bool

    def images(self, space: Space) -> set[str]:
        """Return the keys of the arrays that are images."""
        parts = space.spaces if isinstance(space, Dict) else {"": space}
        return {
            key
            for key, part in parts.items()
            if isinstance(part, Box)
            and len(part.shape) == IMAGE_AXES
            and (is_image(part) or self._is_convolved(key))
        }

    def features(self, leaves: Iterable[Leaf]) -> tuple[tuple[Input, ...], Value]:
        """Return an input for each array, and the features (B, n)."""
        inputs, parts = [], []
        for leaf in leaves:
            inputs.append(Input(leaf.spec))
            prepared = chain(inputs[-1], *self._preparation(leaf))
            parts.append(chain(prepared, *self._extraction(leaf.key)))
        return tuple(inputs), parts[0] if len(parts) == 1 else Concat()(*parts)

    def _preparation(self, leaf: Leaf) -> list[Layer]:
        match leaf.trained:
            case Discrete(n=n):
                return [_one_hot((n,))]
            case MultiDiscrete(nvec=nvec):
                return [_one_hot(nvec)]
        layers: list[Layer] = [AsFloat()]
        if leaf.is_turned:
            layers.append(Transpose(_TO_CHANNELS_FIRST))
        if self.normalize_images and is_image(leaf.trained):
            layers.append(Divide(LARGEST_PIXEL))
        return layers

    def _extraction(self, key: str) -> list[Layer]:
        if not self._is_convolved(key):
            return [Flatten()]
        at = self._at(key)
        layers: list[Layer] = []
        for place, size, stride in _KERNELS:
            layers += [self._convolution(f"{at}cnn.{place}", size, stride), RELU]
        return [*layers, Flatten(), self.weights.linear(f"{at}linear.0"), RELU]

    def _convolution(self, name: str, size: int, stride: int) -> Conv2d:
        weight = self.weights.take(f"{name}.weight")
        if weight.shape[2:] != (size, size):
            refuse("its convolutions are not those of NatureCNN")
        return Conv2d(weight, self.weights.take(f"{name}.bias"), stride)

    def _is_convolved(self, key: str) -> bool:
        return self.weights.has(f"{self._at(key)}cnn.")

    def _at(self, key: str) -> str:
        return f"{self.prefix}extractors.{key}." if key else self.prefix


def _one_hot(sizes: tuple[int, ...]) -> OneHot:
    if sum(sizes) > _MOST_CHOICES:
        refuse("an integer of its observations has too many values")
    return OneHot(sizes)
