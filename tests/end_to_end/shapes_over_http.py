"""Agents of every shape over HTTP, in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

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
