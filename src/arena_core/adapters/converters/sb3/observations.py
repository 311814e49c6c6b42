"""What callers send to a policy of Stable-Baselines3, array by array."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

import numpy as np
from attrs import evolve, frozen

from arena_core.application import spaces
from arena_core.application.conversion import STATISTICS_FILE
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    LeafSpace,
    MultiBinary,
    Normaliser,
    Space,
    TensorSpec,
    Tuple,
)
from arena_core.domain.errors import Rejected

T = TypeVar("T")

LARGEST_PIXEL = 255
IMAGE_AXES = 3
_TO_CHANNELS_LAST = (1, 2, 0)


@frozen(eq=False)
class Leaf:
    """One array of the observation."""

    key: str
    """In the Dict; `""` if the observation is one array."""
    trained: LeafSpace
    """Its space, as the policy was trained on."""
    normaliser: Normaliser | None
    """Of the array as it was in training."""
    is_turned: bool = False
    """Whether callers send it with the channels last, other than in training."""

    @property
    def path(self) -> str:
        return spaces.below("", self.key) if self.key else ""

    @property
    def served(self) -> LeafSpace:
        """Its space, as callers send it."""
        if not self.is_turned or not isinstance(self.trained, Box):
            return self.trained
        shape = self.trained.shape
        return evolve(
            self.trained,
            shape=tuple(shape[axis] for axis in _TO_CHANNELS_LAST),
            low=_turned(self.trained.low, shape),
            high=_turned(self.trained.high, shape),
        )

    @property
    def served_normaliser(self) -> Normaliser | None:
        if not self.is_turned or self.normaliser is None:
            return self.normaliser
        shape = spaces.shape(self.trained)
        return evolve(
            self.normaliser,
            mean=_turned(self.normaliser.mean, shape),
            variance=_turned(self.normaliser.variance, shape),
        )

    @property
    def spec(self) -> TensorSpec:
        """The input of the weights that it is."""
        space = self.served
        dtype = "int8" if isinstance(space, MultiBinary) else space.dtype
        if self.normaliser is not None:
            dtype = "float32"
        return TensorSpec(self.path or "obs", dtype, (None, *spaces.shape(space)))


def leaves(
    space: Space, normalisers: Mapping[str, Normaliser], turned: AbstractSet[str]
) -> tuple[Leaf, ...]:
    """Return the arrays of an observation of `space`, in order.

    `normalisers`: by key; `turned`: the keys of those with the channels last.
    Raises `Rejected` if a normaliser does not fit.
    """
    parts = space.spaces if isinstance(space, Dict) else {"": space}
    found = {
        key: Leaf(key, part, normalisers.get(key), key in turned)
        for key, part in parts.items()
        if not isinstance(part, Dict | Tuple)
    }
    for key, normaliser in normalisers.items():
        part = found[key].trained if key in found else None
        if not isinstance(part, Box) or len(normaliser.mean) != len(part.low):
            raise Rejected(
                "The statistics file does not fit the observation_space of the "
                "checkpoint: give the one that VecNormalize.save wrote with it.",
                field=STATISTICS_FILE,
            )
    return tuple(found.values())


def served_space(trained: Space, observed: tuple[Leaf, ...]) -> Space:
    """Return the space of the observations that callers send."""
    if isinstance(trained, Dict):
        return Dict({leaf.key: leaf.served for leaf in observed})
    return observed[0].served


def is_image(space: Space) -> bool:
    """Say whether Stable-Baselines3 takes the array for an image."""
    return (
        isinstance(space, Box)
        and len(space.shape) == IMAGE_AXES
        and space.dtype == "uint8"
        and set(space.low) == {0}
        and set(space.high) == {LARGEST_PIXEL}
    )


def _turned(flat: tuple[T, ...], shape: tuple[int, ...]) -> tuple[T, ...]:
    """Return numbers in C order of (C, H, W) in that of (H, W, C)."""
    places = np.arange(len(flat)).reshape(shape).transpose(_TO_CHANNELS_LAST)
    return tuple(flat[place] for place in places.ravel())
