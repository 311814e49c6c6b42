"""The data plane's calls, from the bytes of a request to the bytes of its answer.

Wire form: an array is `.npy` in base64; its first axis is the batch.  An observation
is an array, an object for a Dict or a list for a Tuple; where there are several
agents, observations, masks, hidden states and actions are objects by agent.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from attrs import frozen

from arena_core.application import forced_actions, npy, spaces
from arena_core.application.heads import MASK
from arena_core.application.models import NOTHING, SINGLE, Acted, Model, Turn
from arena_core.application.observations import Arrays, Decode
from arena_core.application.policies import LoadedPolicy
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import LeafSpace, MultiDiscrete
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import Family, one_of, shown


class ActionRequest(msgspec.Struct):
    """Body of `get_action`.  Keys that are not here are ignored."""

    obs: Any
    batch_size: int | None = None
    action_mask: Any = None
    hidden_state: Any = None
    env_defined_actions: Any = None


class PredictRequest(msgspec.Struct):
    """Body of `predict`."""

    inputs: Any


class Mode(Enum):
    """How an action is taken from a policy's distribution."""

    GREEDY = "greedy"
    SAMPLE = "sample"


@frozen
class Choice:
    """How actions are chosen: sampling draws the same for the same seed and request."""

    mode: Mode = Mode.GREEDY
    seed: int | None = None

    @classmethod
    def of(cls, mode: Mode | str, seed: int | str | None = None) -> "Choice":
        """Return the choice.  Raises `Rejected`; `seed` is from 0 to 2^64 - 1."""
        wanted = one_of(Mode, mode, field="mode")
        if seed is None:
            return cls(wanted)
        number = int(seed) if str(seed).isdecimal() and len(str(seed)) <= 20 else -1  # noqa: PLR2004 -- digits of 2^64
        if not 0 <= number < 2**64 or wanted is Mode.GREEDY:
            raise Rejected(
                "The seed must be a whole number from 0 to 2^64 - 1, and goes with "
                "the mode sample.",
                field="seed",
            )
        return cls(wanted, number)

    def random(self) -> np.random.Generator | None:
        """Return what draws; None: greedy."""
        return None if self.mode is Mode.GREEDY else np.random.default_rng(self.seed)


GREEDY = Choice()
LARGE_BODY_BYTES = 1 << 20
MOST_PARTS = 100_000
"""Of the JSON of a large body: its values and keys, about."""


R = TypeVar("R")
_ACTION = msgspec.json.Decoder(ActionRequest)
_PREDICT = msgspec.json.Decoder(PredictRequest)
_encode = msgspec.json.Encoder().encode


# --- get_action --------------------------------------------------------------------


class Asked(NamedTuple):
    """What a `get_action` request asks."""

    turns: dict[str, Turn]
    """Of each agent that lives, in the order of the request."""
    dead: tuple[str, ...] = ()


class Understood(NamedTuple):
    """A request that was read, and has yet to be answered."""

    rows: int
    answer: Callable[[], bytes]
    """Does the work, and returns the body."""


def get_action(model: Model, body: bytes, choice: Choice = GREEDY) -> bytes:
    """Answer a `get_action` request.  Raises `Rejected` for a bad one.

    Raises `Conflict` for the hidden state of other weights.
    """
    return begin_action(model, body, choice).answer()


def begin_action(model: Model, body: bytes, choice: Choice) -> Understood:
    """Read a `get_action` request, as far as that is quick."""
    asked = read_action_request(model, body)
    rows = sum(turn.rows for turn in asked.turns.values())
    return Understood(rows, partial(_act, model, asked, choice))


def _act(model: Model, asked: Asked, choice: Choice) -> bytes:
    return action_answer(model, asked, model.act(asked.turns, choice.random()))


def read_action_request(model: Model, body: bytes) -> Asked:
    """Return what a request asks.  Raises `Rejected` or `Conflict`."""
    _check_route(model, "get_action")
    return understood(model, _decoded(_ACTION, body), _leaf)


def understood(model: Model, request: ActionRequest, decode: Decode) -> Asked:
    """Return what `request` asks; `decode` makes an array of each of its leaves."""
    if model.manifest.is_multi_agent:
        asked = _asked_of_agents(model, request, decode)
    else:
        told = _Told(request.obs, request.action_mask, request.hidden_state)
        asked = Asked({SINGLE: told.turn(model.single, "", decode)})
    _check_rows(asked, request.batch_size)
    return asked


def action_answer(model: Model, asked: Asked, acted: Mapping[str, Acted]) -> bytes:
    """Return the body that says what the agents do."""
    if not model.manifest.is_multi_agent:
        done, memory = acted[SINGLE], model.single.memory
        action = npy.to_base64(done.actions)
        if not memory.is_kept:
            return _encode({"action": action})
        state = _encoded(memory.carry(done.outputs))
        return _encode({"action": action, "hidden_state": state})
    actions = {name: npy.to_base64(done.actions) for name, done in acted.items()}
    answer = {"action": {**actions, **dict.fromkeys(asked.dead)}}
    if not model.manifest.is_recurrent:
        return _encode(answer)
    hidden = {
        name: _encoded(model.agents[name].memory.carry(done.outputs))
        for name, done in acted.items()
        if model.agents[name].memory.is_kept
    }
    return _encode({**answer, "hidden_state": hidden})


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


def _encoded(arrays: Mapping[str, Array]) -> dict[str, str]:
    return {name: npy.to_base64(array) for name, array in arrays.items()}


# --- predict -----------------------------------------------------------------------


def predict(model: Model, body: bytes, choice: Choice = GREEDY) -> bytes:
    """Answer a `predict` request.  Raises `Rejected` for a bad one."""
    return begin_prediction(model, body, choice).answer()


def begin_prediction(model: Model, body: bytes, choice: Choice) -> Understood:
    """Read a `predict` request, as far as that is quick."""
    if choice != GREEDY:
        raise Rejected("A prediction is not sampled: leave mode out.", field="mode")
    observed = read_predict_request(model, body)
    rows = len(next(iter(observed.values())))
    return Understood(rows, partial(_predict, model, observed))


def _predict(model: Model, observed: Arrays) -> bytes:
    begun = time.perf_counter()
    results, _ = model.predict(observed)
    return predict_answer(results, (time.perf_counter() - begun) * 1000)


def read_predict_request(model: Model, body: bytes) -> Arrays:
    """Return the arrays that a request holds.  Raises `Rejected`."""
    _check_route(model, "predict")
    request = _decoded(_PREDICT, body)
    return model.single.observe(request.inputs, _leaf, field="inputs")


def predict_answer(results: Array, took_ms: float) -> bytes:
    return _encode(
        {
            "results": npy.to_base64(results),
            "batch_size": len(results),
            "inference_time_ms": round(took_ms, 3),
            "success": True,
        }
    )


# --- status ------------------------------------------------------------------------


def status(model: Model, *, deployment_id: str, instance_id: str) -> bytes:
    """Return the body of `status`: exactly these keys, for clients forbid others."""
    manifest = model.manifest
    return _encode(
        {
            "success": True,
            "deployment_id": deployment_id,
            "instance_id": instance_id,
            "agent": {
                "algo": manifest.algorithm,
                "multi_agent": manifest.is_multi_agent,
                "llm": manifest.family is Family.LLM,
                "recurrent": manifest.is_recurrent,
                "supervised": manifest.family in (Family.SUPERVISED, Family.LATENT),
            },
        }
    )


def _check_route(model: Model, called: str) -> None:
    """Refuse a call that is not the one of the checkpoint's family."""
    family = model.manifest.family
    if family is Family.LLM:
        raise Rejected(f"This deployment is a language model: {called} is not for it.")
    if model.acts and called != "get_action":
        raise Rejected(f"This deployment acts: call get_action, not {called}.")
    if not model.acts and called != "predict":
        raise Rejected(f"This deployment predicts: call predict, not {called}.")


def _decoded(decoder: msgspec.json.Decoder[R], body: bytes) -> R:
    if len(body) > LARGE_BODY_BYTES:
        _check_parts(body)
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"The body does not fit: {_plain(error)}.") from error


def _check_parts(body: bytes) -> None:
    """Refuse what would be forty times its size once it is decoded: `[],[],[]`...

    Base64 has none of these characters, so that arrays are as large as they like.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_PARTS:
        raise TooLarge(
            f"The body has more than {MOST_PARTS} parts: send fewer arrays, with more "
            "rows."
        )


def _plain(error: Exception) -> str:
    # Clients print through markup that takes square brackets for its own.
    return str(error).replace("[", "(").replace("]", ")")


def _leaf(leaf: object, name: str) -> Array:
    if not isinstance(leaf, str):
        raise Rejected(
            f"{name} must be one array, as base64 of a .npy file.", field=name
        )
    return npy.from_base64(leaf, field=name)
