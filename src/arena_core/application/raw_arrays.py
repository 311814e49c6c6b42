"""The binary form of the data plane's calls: arrays as they are, no JSON, no base64.

A body is one `.npy` file for each array, one behind the other, as `numpy.save` writes
them to one open file.  A header lists their names, which are those of a golden trace:
`obs`, or `obs/<key>` for each part of a Dict or Tuple; `action_mask`;
`hidden_state/<name>`; with several agents `agents/<agent>/obs` and so on.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from arena_core.application import golden, npy, spaces
from arena_core.application.action_requests import ActionRequest
from arena_core.application.models import SINGLE, Acted, Model
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected

Names: TypeAlias = tuple[str, ...]
FIELD = "arena-arrays"
"""The header that lists the names."""
MOST_NAMES = 256
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_OF_ACTION = re.compile(r"obs(/.+)?|action_mask|hidden_state/.+|env_defined_action")
_OF_PREDICTION = re.compile(r"inputs(/.+)?")


class RawAnswer(NamedTuple):
    """The body of an answer, and the names of its arrays."""

    body: bytes
    names: str


def names_of(text: str) -> Names:
    """Return the names that a header lists, separated by commas.  Raises `Rejected`."""
    names = tuple(name.strip() for name in text.split(","))
    if len(names) > MOST_NAMES or not all(map(_NAME.fullmatch, names)):
        raise Rejected(
            f"The header Arena-Arrays must list the names of the arrays, {MOST_NAMES} "
            "at most, separated by commas, such as obs, action_mask.",
            field=FIELD,
        )
    if len(set(names)) < len(names):
        raise Rejected("The header Arena-Arrays has a name twice.", field=FIELD)
    return names


def action_request(model: Model, names: Names, body: bytes) -> ActionRequest:
    """Return what the arrays of a `get_action` request say.  Raises `Rejected`."""
    agents = golden.Step(_decoded(names, body)).by_agent()
    told = {agent: _told(model, agent, own) for agent, own in agents.items()}
    if not model.manifest.is_multi_agent:
        return ActionRequest(**told[SINGLE])

    def by_agent(what: str) -> dict[str, Any]:
        return {a: own[what] for a, own in told.items() if own[what] is not None}

    return ActionRequest(
        by_agent("obs"),
        None,
        by_agent("action_mask") or None,
        by_agent("hidden_state") or None,
        by_agent("env_defined_actions") or None,
    )


def inputs(model: Model, names: Names, body: bytes) -> object:
    """Return the tree of arrays that a `predict` request holds.  Raises `Rejected`."""
    own = _decoded(names, body)
    _check_names(own, _OF_PREDICTION, "inputs")
    return _observation(model, SINGLE, own, "inputs")


def as_given(leaf: object, field: str) -> Array:
    """Return a leaf, which is an array already."""
    del field
    assert isinstance(leaf, np.ndarray)  # noqa: S101 -- of raw arrays every leaf is one
    return leaf


def action_answer(model: Model, acted: Mapping[str, Acted]) -> RawAnswer:
    """Return what the agents do, and what they remember."""
    arrays: dict[str, Array] = {}
    for agent, done in acted.items():
        at = f"agents/{agent}/" if model.manifest.is_multi_agent else ""
        arrays[f"{at}action"] = done.actions
        memory = model.agents[agent].memory
        kept = memory.carry(done.outputs) if memory.is_kept else {}
        arrays |= {f"{at}hidden_state/{name}": array for name, array in kept.items()}
    return answer(arrays)


def answer(arrays: Mapping[str, Array]) -> RawAnswer:
    """Return the body that holds `arrays`."""
    return RawAnswer(b"".join(map(npy.encode, arrays.values())), ", ".join(arrays))


def arrays_in(answer: RawAnswer) -> dict[str, Array]:
    """Return what an answer holds."""
    return _decoded(tuple(answer.names.split(", ")), answer.body)


def header(answer: RawAnswer) -> str:
    """Return the header that lists the arrays of an answer.

    Raises `Rejected` for a name that no header can hold.
    """
    if not all(map(_NAME.fullmatch, answer.names.split(", "))):
        raise Rejected(
            "The answer has names that no header can hold: use the JSON form.",
            field="content-type",
        )
    return answer.names


def _decoded(names: Names, body: bytes) -> dict[str, Array]:
    return dict(zip(names, npy.decode_all(body, names), strict=True))


def _told(model: Model, agent: str, own: dict[str, Array]) -> dict[str, Any]:
    """Return what one agent says, as the JSON form would have it."""
    if agent not in model.agents:
        raise Rejected(
            "The header Arena-Arrays names an agent that this deployment does not "
            "have.",
            field=FIELD,
        )
    _check_names(
        own, _OF_ACTION, "obs, action_mask, hidden_state/... and env_defined_action"
    )
    hidden = {
        name.removeprefix("hidden_state/"): array
        for name, array in own.items()
        if name.startswith("hidden_state/")
    }
    return {
        "obs": _observation(model, agent, own, "obs"),
        "action_mask": own.get("action_mask"),
        "hidden_state": hidden or None,
        "env_defined_actions": own.get("env_defined_action"),
    }


def _observation(
    model: Model, agent: str, own: Mapping[str, Array], what: str
) -> object:
    space = model.agents[agent].policy.observation_space
    leaves = golden.leaves(own, what)
    parts = {""} if space is None else spaces.leaves(space).keys()
    if leaves.keys() != parts:
        raise Rejected(
            f"The header Arena-Arrays must name every part of {what}, and no others.",
            field=FIELD,
        )
    return leaves[""] if space is None else spaces.unflatten(leaves, space)


def _check_names(
    names: Iterable[str], known: re.Pattern[str], those_known: str
) -> None:
    if not all(map(known.fullmatch, names)):
        raise Rejected(
            "The header Arena-Arrays names arrays that are not known here: use "
            f"{those_known}.",
            field=FIELD,
        )
