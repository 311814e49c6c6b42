"""By how much two checkpoints differ in what they prefer, of the same observations."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from arena_core.application import spaces
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import Box, LeafSpace

ROUNDING = 1e-4
"""Of a number's range or size: the same weights differ by less from batch to batch."""
SMALLEST = 1e-6
"""Numbers without a range that differ by no more are the same."""


class Shift(NamedTuple):
    """What `domain.guards.Figures` says of differences, of one agent."""

    compared: int
    shift: float
    greatest_of: int


class Tally:
    """Adds up differences, part by part.  To be used by one thread at a time.

    A part is an action, one of its choices, or one of its numbers.
    """

    def __init__(self, differ: Callable[[Array, Array], Array], parts: int) -> None:
        """`differ(a, b)`: by how much rows differ, (B, parts), each from 0 to 1."""
        self._differ = differ
        self._sums = np.zeros(parts)
        self._compared = 0

    def add(self, served: Array, other: Array | None) -> None:
        """Count rows, at least one, of what both prefer.  None: no answer to them."""
        if other is None:
            self._sums += len(served)
        else:
            self._sums += self._differ(served, other).sum(axis=0)
        self._compared += len(served)

    def shift(self) -> Shift:
        """Return the greatest mean difference of all parts; 0 of no rows."""
        share = float(self._sums.max(initial=0)) / max(1, self._compared)
        return Shift(self._compared, min(1.0, share), max(1, len(self._sums)))


def tally_of(space: LeafSpace | None) -> Tally:
    """Return what compares actions of a space; None: results that have none."""
    match space:
        case None:
            return Tally(_results, 1)
        case Box():
            bounds = zip(space.low, space.high, strict=True)
            halves = np.array([_half_range(low, high) for low, high in bounds])
            return Tally(partial(_numbers, halves), len(halves))
        case _:
            return Tally(_choices, prod(spaces.shape(space)))


def _choices(a: Array, b: Array) -> Array:
    """Return 1 where the choices differ.

    It is the total variation distance of two greedy policies, given an observation.
    """
    differ: Array = np.not_equal(a, b).reshape(len(a), -1)
    return differ


def _numbers(half_ranges: Array, a: Array, b: Array) -> Array:
    """Return differences as shares of the range of each number, if it has one."""
    halves = [_halved(array).reshape(len(array), -1) for array in (a, b)]
    with np.errstate(invalid="ignore"):
        shares = np.abs(halves[0] - halves[1]) / half_ranges
    shares[shares < ROUNDING] = 0
    filled: Array = np.where(np.isnan(shares), _relative(*halves), shares)
    return filled


def _results(a: Array, b: Array) -> Array:
    """Return the mean relative difference of all numbers of each row."""
    if a.shape != b.shape:
        return np.ones((len(a), 1))
    differences = _relative(_halved(a), _halved(b)).reshape(len(a), -1)
    mean: Array = differences.mean(axis=1, keepdims=True)
    return mean


def _half_range(low: float | None, high: float | None) -> float:
    """Return half the width of an interval; NaN: it has no width, or no end."""
    if low is None or high is None or low == high:
        return np.nan
    return high / 2 - low / 2


def _halved(array: Array) -> Array:
    """Return half of each number: so the difference of two is never infinite."""
    halves: Array = array.astype("f8") / 2
    return halves


def _relative(a: Array, b: Array) -> Array:
    """Return |a - b| / (|a| + |b|): 1 if one is 0 or of another sign."""
    difference, scale = np.abs(a - b), np.abs(a) + np.abs(b)
    is_other = difference > SMALLEST / 2 + ROUNDING * scale
    zeros = np.zeros_like(scale)
    shares: Array = np.divide(difference, scale, out=zeros, where=is_other)
    return shares
