"""What callers send, and what AgileRL makes of it before a network sees it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import evolve, frozen

from arena_core.adapters.converters.layers import AsFloat, Divide, OneHot, Transpose
from arena_core.adapters.converters.networks import Input, Layer, Value, chain
from arena_core.adapters.converters.norms import Shift
from arena_core.adapters.converters.pickles import Stub
from arena_core.adapters.converters.weights import refuse
from arena_core.application import spaces
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Normaliser,
    Space,
    TensorSpec,
    Tuple,
)

_IMAGE_AXES = 3
_CHANNELS_LAST = (1, 2, 0)
_CHANNELS_FIRST = (0, 3, 1, 2)
_MOST_PARTS = 10
"""Of a Tuple: AgileRL sorts them by the text of their numbers."""
_MOST_CHOICES = 1 << 20


@frozen(eq=False)
class Leaf:
    """One array of an observation."""

    key: str | None
    """In the Dict, or its place in the Tuple; None if it is the observation."""
    served: LeafSpace
    seen: LeafSpace
    """Its space as the network has it: an image has its channels first."""
    normaliser: Normaliser | None

    @property
    def path(self) -> str:
        return "" if self.key is None else spaces.below("", self.key)

    @property
    def input(self) -> Input:
        """The input of the weights that it is."""
        dtype = "int8" if isinstance(self.served, MultiBinary) else self.served.dtype
        if self.normaliser is not None:
            dtype = "float32"
        shape = (None, *spaces.shape(self.served))
        return Input(TensorSpec(self.path or "obs", dtype, shape))

    def seen_by_network(self, sent: Value, *, normalises_images: bool) -> Value:
        """Return float32 (B, ...): choices are one-hot, pixels from 0 to 1."""
        match self.seen:
            case Discrete(n=n, start=start):
                return _one_hot((n,), (start,))(sent)
            case MultiDiscrete(nvec=nvec, start=starts):
                return _one_hot(nvec, starts)(sent)
            case MultiBinary():
                return AsFloat()(sent)
            case Box() as box:
                is_turned = spaces.shape(self.served) != box.shape
                turn = (Transpose(_CHANNELS_FIRST),) if is_turned else ()
                pixels = _scale(box) if normalises_images and is_image(box) else ()
                return chain(sent, *turn, AsFloat(), *pixels)


def _one_hot(sizes: tuple[int, ...], starts: tuple[int, ...]) -> OneHot:
    if any(starts):
        refuse("its observations do not begin at 0, as they do for AgileRL")
    if sum(sizes) > _MOST_CHOICES:
        refuse("an integer of its observations has too many values")
    return OneHot(sizes)


def is_image(space: LeafSpace) -> bool:
    """Say whether AgileRL takes it for one: it does not ask for the dtype."""
    return isinstance(space, Box) and len(space.shape) == _IMAGE_AXES


def leaves(
    served: Space, seen: Space, statistics: object, *, channels_last: bool
) -> tuple[Leaf, ...]:
    """Return the arrays of an observation of `served`, in order.

    `seen`: the space as the network has it.  `statistics`: what `RSNorm` knows.
    `channels_last`: serve images so that are channels first in `served`.
    """
    parts, networks = _parts(served), _parts(seen)
    if parts.keys() != networks.keys():
        refuse("its networks were made for other observations")
    found = tuple(
        _leaf(key, part, networks[key], _of_leaf(statistics, key), last=channels_last)
        for key, part in parts.items()
    )
    if not len(found) == len({leaf.path for leaf in found}) > 0:
        refuse("its observations have no parts, or two that are called alike")
    return found


def served_space(space: Space, observed: tuple[Leaf, ...]) -> Space:
    """Return the space of what callers send."""
    match space:
        case Dict():
            return Dict({str(leaf.key): leaf.served for leaf in observed})
        case Tuple():
            return Tuple(tuple(leaf.served for leaf in observed))
        case _:
            return observed[0].served


def _parts(space: Space) -> Mapping[str | None, Space]:
    match space:
        case Dict(spaces=parts):
            return dict(parts.items())
        case Tuple(spaces=places):
            if len(places) > _MOST_PARTS:
                refuse("its observations are Tuples of more than ten parts")
            return {str(place): part for place, part in enumerate(places)}
        case _:
            return {None: space}


def _leaf(
    key: str | None, served: Space, seen: Space, statistics: object, *, last: bool
) -> Leaf:
    if isinstance(served, Dict | Tuple) or isinstance(seen, Dict | Tuple):
        refuse("its observations are Dicts or Tuples of such")
    if isinstance(served, Box) and isinstance(seen, Box):
        if last and is_image(served) and served.shape == seen.shape:
            served = _turned(served)
        if seen.shape not in (served.shape, _channels_first(served.shape)):
            refuse("its networks were made for other observations")
    elif served != seen:
        refuse("its networks were made for other observations")
    if statistics is None:
        return Leaf(key, served, seen, None)
    if not isinstance(served, Box) or is_image(served) or "float" not in served.dtype:
        refuse("it normalises observations that are no vectors of floats")
    return Leaf(key, served, seen, _normaliser(statistics))


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[-1:], *shape[:-1]) if len(shape) == _IMAGE_AXES else shape


def _turned(box: Box) -> Box:
    """Return the space of the same images with their channels last."""

    def turn(bounds: tuple[float | None, ...]) -> tuple[float | None, ...]:
        cube = np.array(bounds, object).reshape(box.shape)
        return tuple(cube.transpose(_CHANNELS_LAST).ravel().tolist())

    shape = tuple(box.shape[axis] for axis in _CHANNELS_LAST)
    return evolve(box, shape=shape, low=turn(box.low), high=turn(box.high))


def _scale(image: Box) -> tuple[Layer, ...]:
    """Return what brings an image into 0 to 1; nothing if a bound is infinite."""
    if None in image.low or None in image.high:
        return ()
    low, high = (
        np.array(bounds, np.float32).reshape(image.shape)
        for bounds in (image.low, image.high)
    )
    if (low == 0).all() and (high == 1).all():
        return ()
    if (high == low).any():
        refuse("it has images with a pixel that can have but one value")
    return Shift(_collapsed(low)), Divide(_collapsed(high - low))


def _collapsed(numbers: Array) -> Array:
    """Return one number if they are all the same."""
    first: Array = numbers.ravel()[0]
    return first if (numbers == first).all() else numbers


# --- running statistics --------------------------------------------------------------


def _of_leaf(statistics: object, key: str | None) -> object:
    if not isinstance(statistics, dict | tuple):
        return statistics
    by_key = (
        statistics
        if isinstance(statistics, dict)
        else {str(place): part for place, part in enumerate(statistics)}
    )
    if key not in by_key:
        refuse("it normalises some parts of the observations only")
    return by_key[key]


def _normaliser(statistics: object) -> Normaliser:
    state = statistics.state if isinstance(statistics, Stub) else None
    match state:
        case {
            "mean": np.ndarray() as mean,
            "var": np.ndarray() as variance,
            "epsilon": float(epsilon),
        }:
            return Normaliser(_flat(mean), _flat(variance), epsilon)
        case _:
            return refuse("its statistics of observations are not those of RSNorm")


def _flat(numbers: Array) -> tuple[float, ...]:
    flat: Any = numbers.ravel().tolist()
    return tuple(flat)
