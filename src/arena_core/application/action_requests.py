"""What a request asks of a model: understood, and checked before anything is run.

Wire form: an array is `.npy` in base64; its first axis is the batch.  An observation
is an array, an object for a Dict or a list for a Tuple; where there are several
agents, observations, masks, hidden states and actions are objects by agent.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from arena_core.application import forced_actions, spaces
from arena_core.application.heads import MASK
from arena_core.application.models import NOTHING, SINGLE, Model, Turn
from arena_core.application.observations import Decode
from arena_core.application.policies import LoadedPolicy
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import LeafSpace, MultiDiscrete
from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown


class ActionRequest(msgspec.Struct):
    """Body of `get_action`.  Keys that are not here are ignored."""

    obs: Any
    batch_size: int | None = None
    action_mask: Any = None
    hidden_state: Any = None
    env_defined_actions: Any = None


class Asked(NamedTuple):
    """What a `get_action` request asks."""

    turns: dict[str, Turn]
    """Of each agent that lives, in the order of the request."""
    dead: tuple[str, ...] = ()


def understood(model: Model, request: ActionRequest, decode: Decode) -> Asked:
    """Return what `request` asks; `decode` makes an array of each of its leaves."""
    if model.manifest.is_multi_agent:
        asked = _asked_of_agents(model, request, decode)
    else:
        told = _Told(request.obs, request.action_mask, request.hidden_state)
        asked = Asked({SINGLE: told.turn(model.single, "", decode)})
    _check_rows(asked, request.batch_size)
    return asked


class _Told(NamedTuple):
    """What a request says of one agent, not yet understood."""

    obs: object
    mask: object = None
    hidden_state: object = None
    env_defined_action: object = None

    def turn(self, policy: LoadedPolicy, of: str, decode: Decode) -> Turn:
        """Understand it; `of` is what fields come before, such as `.agent_0`."""
        observed = policy.observe(self.obs, decode, field=f"obs{of}")
        rows = len(next(iter(observed.values())))
        legal = hidden = forced = None
        if self.mask is not None:
            legal = _legal(policy, self.mask, rows, decode, f"{MASK}{of}")
        if policy.memory.is_kept:
            field = f"hidden_state{of}"
            hidden = policy.memory.recall(self.hidden_state, rows, decode, field=field)
        if self.env_defined_action is not None:
            field = f"env_defined_actions{of}"
            array, space = decode(self.env_defined_action, field), policy.action_space
            forced = forced_actions.understood(array, space, rows, field=field)
        return Turn(observed, rows, legal, hidden or NOTHING, forced)


def _asked_of_agents(model: Model, request: ActionRequest, decode: Decode) -> Asked:
    policies = model.agents
    observations = _by_agent(request.obs, policies, "obs")
    if not observations:
        raise Rejected("The obs must hold an agent at least.", field="obs")
    masks = _by_agent(request.action_mask, policies, MASK)
    hidden = _by_agent(request.hidden_state, policies, "hidden_state")
    forced = _by_agent(request.env_defined_actions, policies, "env_defined_actions")
    living = {
        name: _Told(obs, masks.get(name), hidden.get(name), forced.get(name))
        for name, obs in observations.items()
        if obs is not None
    }
    return Asked(
        {
            name: told.turn(policies[name], f".{name}", decode)
            for name, told in living.items()
        },
        tuple(name for name, obs in observations.items() if obs is None),
    )


def _by_agent(
    value: object, agents: Mapping[str, LoadedPolicy], field: str
) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Rejected(
            f"The {field} must be an object, by agent: this deployment has several.",
            field=field,
        )
    for name in value.keys() - agents.keys():
        raise Rejected(
            f"The {field} names an agent that this deployment does not have: its "
            f"agents are {shown(', '.join(agents))}.",
            field=f"{field}.{shown(str(name))}",
        )
    return value


def _check_rows(asked: Asked, batch_size: int | None) -> None:
    expected = batch_size
    for turn in asked.turns.values():
        if expected is None:
            expected = turn.rows
        if turn.rows == expected:
            continue
        if batch_size is None:
            raise Rejected("All agents must have the same number of rows.", field="obs")
        raise Rejected(
            f"batch_size is {batch_size}, but obs has {turn.rows} rows.",
            field="batch_size",
        )


def _legal(
    policy: LoadedPolicy, tree: object, rows: int, decode: Decode, field: str
) -> Array:
    """Return what a mask allows; a list is one array for each part of the action."""
    if isinstance(tree, list):
        mask = _joined(tree, policy.action_space, rows, decode, field)
    else:
        mask = decode(tree, field)
    if mask.shape[:1] != (rows,):
        raise Rejected(
            f"The {field} must have {rows} rows, like the observations.", field=field
        )
    assert policy.head is not None  # noqa: S101 -- policies of the family rl act
    return policy.head.legal(mask, field=field)


def _joined(
    parts: Sequence[object],
    space: LeafSpace,
    rows: int,
    decode: Decode,
    field: str,
) -> Array:
    widths = space.nvec if isinstance(space, MultiDiscrete) else spaces.scores(space)
    are_as_many = 0 < len(parts) == len(widths)
    arrays = [decode(part, field) for part in parts] if are_as_many else []
    shapes = [array.shape for array in arrays]
    if not shapes or shapes != [(rows, width) for width in widths]:
        raise Rejected(
            f"The {field} must be one array, or a list of one for each part of the "
            f"action, of {rows} rows like the observations.",
            field=field,
        )
    with np.errstate(invalid="ignore"):  # some NaNs signal when they are converted
        return np.concatenate(arrays, axis=1)
