"""Calls of the Open Inference Protocol, written as others would."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from end_to_end.http_world import INSIDE, Endpoint

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64", "int8": "INT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
DTYPES = {datatype: name for name, datatype in DATATYPES.items()}
LENGTH = "Inference-Header-Content-Length"
Arrays = Mapping[str, np.ndarray]
PROBLEM = {"type", "title", "status", "detail", "code", "errors", "error"}


def tensor(name: str, array: np.ndarray, *, form: str = "flat") -> dict[str, Any]:
    """Return what is said of an array; `form`: flat, nested or binary."""
    said = {
        "name": name,
        "shape": list(array.shape),
        "datatype": DATATYPES[str(array.dtype)],
    }
    if form == "binary":
        return said | {"parameters": {"binary_data_size": array.nbytes}}
    return said | {
        "data": array.tolist() if form == "nested" else array.ravel().tolist()
    }


def request(
    arrays: Arrays, *, form: str = "flat", **more: object
) -> tuple[bytes, dict[str, str]]:
    """Return the body that asks with arrays, and its headers."""
    inputs = [tensor(name, array, form=form) for name, array in arrays.items()]
    head = json.dumps({"inputs": inputs, **more}).encode()
    if form != "binary":
        return head, {}
    blobs = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return b"".join([head, *blobs]), {LENGTH: str(len(head))}


def infer(endpoint: Endpoint, arrays: Arrays, *, model=None, token="", **said):
    """Ask for an answer with the deployment's key, or with a token; return it."""
    body, headers = request(arrays, **said)
    path = f"/v2/models/{model or endpoint.deployment_id}/infer"
    client = endpoint.world.client(endpoint.key if token == "" else token)
    return client.post(path, content=body, headers=headers)


def answered(answer) -> dict[str, np.ndarray]:
    """Return the arrays of an answer, in JSON or in bytes."""
    assert answer.status_code == 200, answer.text
    head, rest = parts(answer)
    arrays = {}
    for output in head["outputs"]:
        dtype = DTYPES[output["datatype"]]
        if "data" in output:
            array = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            array, rest = np.frombuffer(rest[:size], dtype), rest[size:]
        arrays[output["name"]] = array.reshape(output["shape"])
    assert not rest
    return arrays


def parts(answer) -> tuple[Any, bytes]:
    """Return the JSON of an answer, and what is behind it."""
    length = answer.headers.get(LENGTH)
    if length is None:
        assert answer.headers["content-type"] == "application/json"
        return answer.json(), b""
    assert answer.headers["content-type"] == "application/octet-stream"
    return json.loads(answer.content[: int(length)]), answer.content[int(length) :]


def assert_refused(answer, status: int = 400) -> str:
    """Assert that it says what is wrong as clients of the protocol read it."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() >= PROBLEM
    assert (body["status"], body["detail"]) == (status, body["error"])
    assert body["error"].endswith(".")
    assert not INSIDE.search(body["error"]), body["error"]
    return body["error"]
