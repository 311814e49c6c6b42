"""Which actions an environment forbids, and whether one of them was taken.

A mask says of each action whether it is legal, non-zero meaning yes: for a Discrete
one entry for each action, for a MultiDiscrete those of all parts side by side, for a
MultiBinary one for each bit that might be set.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

from arena_core.application.ports import Array
from arena_core.domain.errors import Unavailable
from arena_core.entrypoints.play.endpoint import Tree

MASK = "action_mask"
_MASKED = {"observation", MASK}


def masked(observation: Tree, info: object) -> tuple[Tree, Array | None]:
    """Return what the policy is to see, and the mask that comes with it, if one does.

    A mask is in `info`, or beside the observation as PettingZoo's classic games have
    it: in a dict of nothing but the two.
    """
    mask = info.get(MASK) if isinstance(info, Mapping) else None
    if isinstance(observation, Mapping) and set(observation) == _MASKED:
        beside = observation[MASK]
        mask = beside if mask is None else mask
        observation = observation["observation"]
    return observation, None if mask is None else flat(mask)


def flat(mask: Tree) -> Array:
    """Return a mask as one array; Gymnasium's own have one for each part."""
    if isinstance(mask, tuple | list):
        return np.concatenate([np.ravel(part) for part in mask])
    return np.asarray(mask)


def forbids(mask: Array, space: gymnasium.Space[Any], action: Tree) -> bool:
    """Say whether `action` is one that the mask does not allow."""
    legal = mask.ravel() != 0
    match space:
        case Discrete():
            return not legal[int(action) - int(space.start)]
        case MultiDiscrete():
            sizes = space.nvec.ravel()
            begins = np.cumsum(sizes) - sizes
            chosen = begins + (np.asarray(action) - space.start).ravel()
            return not legal[chosen].all()
        case MultiBinary():
            return bool((np.ravel(action).astype(bool) & ~legal).any())
        case _:
            return False


def check(action: Tree, space: gymnasium.Space[Any]) -> None:
    """Raise `Unavailable` if `action` is none of the environment's.

    Of a continuous action only the shape is looked at: its bounds, and its dtype,
    are the environment's to judge.
    """
    fits = np.shape(action) == space.shape and (
        not isinstance(space, Discrete) or space.contains(action)
    )
    if not fits:
        raise Unavailable(
            "The agent answered an action that the environment does not know: it was "
            "trained for another environment."
        )
