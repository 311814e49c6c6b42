"""Agents of every shape over HTTP, in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from arena_core.application import npy

from end_to_end.http_world import Endpoint, array, opened
from every_shape import EVERY_SHAPE, Tree, mapped, sent


@contextmanager
def agents_of_every_shape(
    folders: pytest.TempPathFactory, **settings: object
) -> Iterator[Callable[[str], Endpoint]]:
    """Give what puts an agent of a shape live when it is first asked for."""
    with opened(**settings) as world:

        @cache
        def live(name: str) -> Endpoint:
            shape = EVERY_SHAPE[name]
            folder = shape.write(folders.mktemp("bundle"))
            return world.live(folder, algorithm=shape.algorithm)

        yield live


def received(tree: Any) -> Tree:
    """Return the arrays of an answer, which may be written to."""
    return mapped(lambda text: array(text).copy(), tree)


def answered(endpoint: Endpoint, obs: Tree, *, params=None, **more: Any) -> Any:
    """Return the body that answers to observations; `more` is sent beside them."""
    body = {"obs": sent(obs), **more}
    answer = endpoint.post("get_action", json=body, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def action(endpoint: Endpoint, obs: Tree, **more: Any) -> Tree:
    return received(answered(endpoint, obs, **more)["action"])


# --- the names of raw arrays ---------------------------------------------------------


def _leaves(tree, at):
    """Return the arrays of a tree by their paths; what is None has none."""
    if isinstance(tree, dict):
        parts = tree.items()
    elif isinstance(tree, tuple | list):
        parts = enumerate(tree)
    else:
        return {} if tree is None else {at: tree}
    return {
        k: v for key, part in parts for k, v in _leaves(part, f"{at}/{key}").items()
    }


def decoded(text):
    return npy.from_base64(text, field="answer")


def raw_of(name, request):
    """Return the arrays of a JSON request, by the names of the binary form."""
    tree = _arrays(request)
    if name == "agents":
        renamed = {"env_defined_actions": "env_defined_action"}
        return {
            path: array
            for field, by_agent in tree.items()
            for agent, own in by_agent.items()
            for path, array in _leaves(
                own, f"agents/{agent}/{renamed.get(field, field)}"
            ).items()
        }
    if name == "multi discrete" and "action_mask" in tree:
        tree["action_mask"] = np.concatenate(tree["action_mask"], axis=1)
    return {k: v for field, own in tree.items() for k, v in _leaves(own, field).items()}


def _arrays(request):
    return {
        field: mapped(decoded, own)
        for field, own in request.items()
        if field != "batch_size" and own is not None
    }
