"""Calls of the data plane, from arrays to arrays through the bytes of the wire."""

import json

import numpy as np
import pytest

from arena_core.application import inference
from arena_core.application.inference import Choice
from arena_core.application.models import Model
from arena_core.application.npy import from_base64, to_base64
from arena_core.domain.errors import ArenaError


def encoded(tree):
    """Return `tree` with its arrays as they travel, and all else as it is."""
    if isinstance(tree, np.ndarray):
        return to_base64(tree)
    if isinstance(tree, dict):
        return {key: encoded(part) for key, part in tree.items()}
    if isinstance(tree, list):
        return [encoded(part) for part in tree]
    return tree


def decoded(tree):
    if isinstance(tree, str):
        return from_base64(tree, field="answer")
    if isinstance(tree, dict):
        return {key: decoded(part) for key, part in tree.items()}
    return tree


def ask(model: Model, *, choice: Choice = inference.GREEDY, **said) -> dict:
    """Return the whole answer of `get_action`."""
    body = json.dumps(encoded(said)).encode()
    return decoded(json.loads(inference.get_action(model, body, choice)))


def action(model: Model, **said):
    return ask(model, **said)["action"]


def refusal(model: Model, **said) -> ArenaError:
    """Return why the call was refused: in a sentence that clients can print."""
    with pytest.raises(ArenaError) as caught:
        ask(model, **said)
    assert not set("[]\n") & set(str(caught.value))
    return caught.value
