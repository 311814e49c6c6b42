"""Actions that the environment has chosen, in place of those of the policy."""

from typing import Any

import numpy as np
from attrs import frozen

from arena_core.application import spaces
from arena_core.application.heads import bounds
from arena_core.application.observations import conform
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import Box, Discrete, LeafSpace, MultiDiscrete
from arena_core.domain.errors import Rejected


@frozen(eq=False)
class Forced:
    """Some of a batch of actions, (B, *shape of the space) in its dtype."""

    _actions: Array
    _where: Array
    """True where an action is forced."""

    def over(self, chosen: Array) -> Array:
        """Return `chosen`, the policy's own actions, with the forced ones in it."""
        return np.where(self._where, self._actions, chosen)

    def free(self) -> Array:
        """Return which rows, (B,), have no forced part."""
        forced: Array = np.any(self._where.reshape(len(self._where), -1), axis=1)
        return ~forced


def understood(array: Array, space: LeafSpace, rows: int, *, field: str) -> Forced:
    """Return what `array` forces: all that is not NaN.

    Where an action is one number it may come as a column, for environments say
    `[1]` as well as 1.  Raises `Rejected` for another shape, and for an action that
    is not in the space.
    """
    shape = (rows, *spaces.shape(space))
    if array.shape == (*shape, 1) == (rows, 1):
        array = array[:, 0]
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise Rejected(
            f"The {field} must be an array of numbers of the shape {shape}, like the "
            "actions.",
            field=field,
        )
    where, filled = _filled(array, space)
    actions = conform(filled, space, field=field)
    if isinstance(space, Box) and _is_left(space, actions, where):
        raise Rejected(
            f"The {field} must be within the bounds of the action_space.", field=field
        )
    return Forced(actions, where)


def _filled(array: Array, space: LeafSpace) -> tuple[Array, Array]:
    """Return where there are numbers, and `array` with members elsewhere."""
    where = ~np.isnan(array)
    if where.all():
        return where, array
    with np.errstate(invalid="ignore"):  # some NaNs signal when they are converted
        return where, np.where(where, array.astype("f8"), _member(space))


def _member(space: LeafSpace) -> Any:  # noqa: ANN401 -- a number, or one a column
    return space.start if isinstance(space, Discrete | MultiDiscrete) else 0


def _is_left(space: Box, actions: Array, where: Array) -> bool:
    low, high = (bound.astype(space.dtype) for bound in bounds(space))
    return bool((((actions < low) | (actions > high)) & where).any())
