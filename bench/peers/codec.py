"""The codec that every peer gets: typed JSON, base64 and .npy, as fast as Python can.

It is like the project's own, less the checks of what strangers send, and uses nothing
of it, so that what is compared are the servers.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pybase64
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

CONTENT_TYPE = "application/json"
_PREFIX = 10
"""Bytes of a version 1 file before the header's text: magic, version, length."""


class Request(msgspec.Struct):
    obs: str


_request = msgspec.json.Decoder(Request)


def decode(body: bytes) -> Array:
    """Return the observations (B, ...) of a request."""
    return from_text(_request.decode(body).obs)


def encode(actions: Array) -> bytes:
    """Return the answer that holds `actions` (B,)."""
    return b'{"action":"%b"}' % pybase64.b64encode(_npy(actions))


def from_text(text: str) -> Array:
    """Return the array of a version 1 .npy file in base64."""
    raw = pybase64.b64decode(text, validate=True)
    start = _PREFIX + int.from_bytes(raw[8:_PREFIX], "little")
    dtype, shape = _layout(raw[_PREFIX:start])
    return np.frombuffer(raw, dtype, offset=start).reshape(shape)


def to_text(array: Array) -> str:
    """Return `array` as a .npy file in base64."""
    return pybase64.b64encode_as_string(_npy(array))


def join(arrays: Sequence[Array]) -> Array:
    """Return the rows of all `arrays` (B, ...) as one batch."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def split(rows: Array, arrays: Sequence[Array]) -> list[Array]:
    """Return `rows` in parts as long as `arrays`, which were joined for them."""
    if len(rows) == len(arrays):
        return list(rows[:, None])
    return np.split(rows, np.cumsum([len(array) for array in arrays])[:-1])


def _npy(array: Array) -> bytes:
    return _header(array.dtype, array.shape) + array.tobytes()


@lru_cache
def _layout(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    file = BytesIO(struct.pack("<H", len(header)) + header)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return dtype, shape


@lru_cache
def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    file, empty = BytesIO(), np.empty(shape, dtype)
    np.lib.format.write_array_header_1_0(
        file, np.lib.format.header_data_from_array_1_0(empty)
    )
    return file.getvalue()
