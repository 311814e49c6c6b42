"""The arrays that an observation or an action is made of, space by space."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, assert_never

import numpy as np

from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Space,
    Tuple,
)

_ODD = re.compile(r"[^A-Za-z0-9_.-]")


def leaves(space: Space) -> dict[str, LeafSpace]:
    """Return the arrays of an observation by path, depth first.

    A path is the keys of Dicts and the places of Tuples, joined by slashes, with
    underscores for odd characters; it is `""` if the space is one array itself.
    """
    return dict(walk(space))


def shape(space: LeafSpace) -> tuple[int, ...]:
    """Return the shape of one element of the space."""
    match space:
        case Box() | MultiBinary():
            return space.shape
        case MultiDiscrete():
            return (len(space.nvec),)
        case Discrete():
            return ()
        case _:
            assert_never(space)


def dtype(space: LeafSpace) -> str:
    """Return the name of the dtype of the elements of the space."""
    return "int8" if isinstance(space, MultiBinary) else space.dtype


def scores(space: LeafSpace) -> tuple[int, ...]:
    """Return the shape of the values, one for each possible choice, of one action."""
    match space:
        case Discrete(n=n):
            return (n,)
        case MultiDiscrete(nvec=nvec):
            return (sum(nvec),)
        case Box() | MultiBinary():
            return space.shape
        case _:
            assert_never(space)


def unflatten(leaves: Mapping[str, object], space: Space, path: str = "") -> object:
    """Return the tree of `space` whose leaves are `leaves`, by path.

    Raises `KeyError` if one is missing.
    """
    match space:
        case Dict():
            return {
                key: unflatten(leaves, part, below(path, key))
                for key, part in space.spaces.items()
            }
        case Tuple():
            return [
                unflatten(leaves, part, below(path, place))
                for place, part in enumerate(space.spaces)
            ]
        case _:
            return leaves[path]


def below(path: str, key: object) -> str:
    """Return the path of a part of the space at `path`."""
    name = _ODD.sub("_", str(key)) or "_"
    return f"{path}/{name}" if path else name


def walk(space: Space, path: str = "") -> Iterator[tuple[str, LeafSpace]]:
    """Yield each array's path and space, depth first; paths may come twice."""
    match space:
        case Dict():
            for key, part in space.spaces.items():
                yield from walk(part, below(path, key))
        case Tuple():
            for place, part in enumerate(space.spaces):
                yield from walk(part, below(path, place))
        case _:
            yield path, space


def integer_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the least and the greatest number that `dtype` can hold."""
    if dtype.kind == "b":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
