"""Observations, masks and actions that fit an agent: members of its spaces."""

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import TypeAlias, assert_never

import numpy as np
from attrs import frozen

from arena_core.application import spaces
from arena_core.application.heads import bounds
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    Head,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Policy,
    Space,
    Tuple,
)

Tree: TypeAlias = "Array | Mapping[str, Tree] | tuple[Tree, ...]"
MOST_WRITTEN_OUT = 8
"""The most elements of an array that are written one by one."""


def observation(policy: Policy) -> Tree:
    """Return an observation without a batch axis, zeros where those are members."""
    if policy.observation_space is not None:
        return _tree(policy.observation_space)
    spec = policy.signature.inputs[0]
    return np.zeros([axis or 1 for axis in spec.shape[1:]], spec.dtype)


def _tree(space: Space) -> Tree:
    match space:
        case Dict():
            return {key: _tree(part) for key, part in space.spaces.items()}
        case Tuple():
            return tuple(_tree(part) for part in space.spaces)
        case _:
            return member(space)


def member(space: LeafSpace) -> Array:
    """Return an element of the space that takes little to write.

    For a large Box of which no one number is within all bounds it is beyond some,
    where simulators step now and then, too: it is answered none the less.
    """
    dtype = spaces.dtype(space)
    match space:
        case Discrete() | MultiDiscrete():
            return np.array(space.start, dtype)
        case MultiBinary():
            return np.zeros(space.shape, dtype)
        case Box() if math.prod(space.shape) > MOST_WRITTEN_OUT:
            return np.full(space.shape, member(_common(space)), dtype)
        case Box():
            return np.asarray(np.clip(0, *bounds(space)), dtype)
        case _:
            assert_never(space)


def _common(space: Box) -> Box:
    """Return the Box of the single numbers that are within all bounds of `space`."""
    low = {bound for bound in space.low if bound is not None}
    high = {bound for bound in space.high if bound is not None}
    return Box((), space.dtype, (max(low, default=None),), (min(high, default=None),))


@frozen
class Forbidding:
    """A mask that forbids one choice and allows all others."""

    shape: tuple[int, ...]
    place: int
    """Of the choice, in C order."""


def forbidding(policy: Policy) -> Forbidding | None:
    """Return a mask for the policy; None if there is nothing that could be forbidden.

    So it is where actions are not chosen by their scores, and where there is one only.
    """
    space = policy.action_space
    match space:
        case _ if policy.head is Head.ACTION:
            return None
        case Discrete(n=n):
            return Forbidding((n,), 0) if n > 1 else None
        case MultiDiscrete(nvec=nvec):
            starts = zip(nvec, accumulate(nvec, initial=0), strict=False)
            some = [start for n, start in starts if n > 1]
            return Forbidding(spaces.scores(space), some[0]) if some else None
        case MultiBinary(shape=(_, *_)):
            return Forbidding(space.shape, 0)
        case _:
            return None
