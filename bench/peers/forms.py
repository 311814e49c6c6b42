"""The forms in which servers take one and the same request, and answer it.

Most take any body.  Where a server's protocol is its own, the array travels in that.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from attrs import field, frozen

from peers import codec
from peers.codec import Array


@frozen
class Request:
    headers: dict[str, str]
    body: bytes = field(repr=False)


@frozen
class Form:
    """How to ask with observations (B, ...), and how to read the answer's array.

    That is the actions (B,), or again the observations.
    """

    request: Callable[[Array], Request]
    array: Callable[[bytes, Mapping[str, str]], Array]
    echoes: bool = False


def _json(content: object) -> Request:
    headers = {"Content-Type": codec.CONTENT_TYPE}
    return Request(headers, json.dumps(content).encode())


def _text_tensor(observations: Array) -> Request:
    tensor = {
        "name": "obs",
        "shape": [1],
        "datatype": "BYTES",
        "data": [codec.to_text(observations)],
    }
    return _json({"inputs": [tensor]})


def _raw_tensor(observations: Array) -> Request:
    """Triton's binary extension of KServe's protocol, for float32."""
    raw = observations.tobytes()
    tensor = {
        "name": "obs",
        "shape": observations.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    wanted = {"name": "action", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [wanted]}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        _HEAD_LENGTH: str(len(head)),
    }
    return Request(headers, head + raw)


_HEAD_LENGTH = "Inference-Header-Content-Length"


def _raw_actions(body: bytes, headers: Mapping[str, str]) -> Array:
    return np.frombuffer(body, np.int64, offset=int(headers[_HEAD_LENGTH]))


def _answer(read: Callable[[Any], str]) -> Callable[[bytes, Mapping[str, str]], Array]:
    return lambda body, _: codec.from_text(read(json.loads(body)))


OBJECT = Form(
    lambda observations: _json({"obs": codec.to_text(observations)}),
    _answer(lambda content: content["action"]),
)
"""The project's own: an object with the array in base64."""

ECHO = Form(OBJECT.request, _answer(lambda content: content["obs"]), echoes=True)

LIST = Form(
    lambda observations: _json({"obs": [codec.to_text(observations)]}),
    _answer(lambda content: content[0]),
)
TEXT_TENSOR = Form(
    _text_tensor, _answer(lambda content: content["outputs"][0]["data"][0])
)
RAW_TENSOR = Form(_raw_tensor, _raw_actions)
