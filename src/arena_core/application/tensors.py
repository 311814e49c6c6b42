"""Arrays as the Open Inference Protocol writes them: a datatype, a shape and elements.

The elements are JSON, nested or in one row-major list, or bytes, little-endian.  What
is said of sizes is compared with what has come before anything is made of it.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from arena_core.application import decoding, npy
from arena_core.application.filenames import shown
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected

DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_ELEMENTS: Mapping[str, type] = {"b": bool, "i": int, "u": int, "f": float}
_TEXT, _SHORT_FLOAT = "BYTES", "BF16"


def datatype(dtype: np.dtype[Any]) -> str:
    """Return what the protocol calls a dtype."""
    return _NAMES[dtype.newbyteorder("<")]


def dtype(name: str, *, field: str) -> np.dtype[Any]:
    """Return the dtype of a datatype.  Raises `Rejected`."""
    try:
        return DATATYPES[name]
    except KeyError:
        pass
    why = "is not known"
    if name == _TEXT:
        why = "holds text, and nothing here is text"
    elif name == _SHORT_FLOAT:
        why = "is not supported: convert the array to FP32"
    raise Rejected(
        f"The datatype {shown(name)} of {field} {why}. Use one of "
        f"{', '.join(DATATYPES)}.",
        field=field,
    )


def from_json(
    data: msgspec.Raw, dtype: np.dtype[Any], shape: Sequence[int], *, field: str
) -> Array:
    """Return the array whose elements `data` lists.  Raises `Rejected`."""
    count = _count(dtype, shape, field)
    elements = _flat(data, _ELEMENTS[dtype.kind], shape, field)
    if len(elements) != count:
        raise Rejected(
            f"The data of {field} has {len(elements)} elements, but its shape is of "
            f"{count}.",
            field=field,
        )
    try:
        with np.errstate(all="ignore"):  # what is too large is infinite, and refused
            return np.array(elements, dtype).reshape(shape)
    except OverflowError:
        raise Rejected(
            f"The data of {field} holds a number that {datatype(dtype)} cannot hold.",
            field=field,
        ) from None


def from_bytes(
    data: memoryview, dtype: np.dtype[Any], shape: Sequence[int], *, field: str
) -> Array:
    """Return the array that lies in `data`, of which nothing is copied.

    Raises `Rejected` unless `data` is exactly as long as the shape says.
    """
    size = _count(dtype, shape, field) * dtype.itemsize
    if len(data) != size:
        raise Rejected(
            f"The {field} has a binary_data_size of {len(data)}, but its datatype and "
            f"shape are of {size} bytes.",
            field=field,
        )
    array: Array = np.frombuffer(data, dtype).reshape(shape)
    if dtype.kind == "b" and size and array.view(np.uint8).max() > 1:
        raise Rejected(
            f"The {field} has bytes for booleans that are not 0 or 1.", field=field
        )
    return array


def to_bytes(array: Array) -> bytes:
    """Return the elements in C order, little-endian."""
    return np.asarray(array, array.dtype.newbyteorder("<")).tobytes()


def to_json(array: Array) -> list[Any]:
    """Return the elements in C order, as numbers that say each of them exactly."""
    elements: list[Any] = array.ravel().tolist()
    return elements


def _count(dtype: np.dtype[Any], shape: Sequence[int], field: str) -> int:
    if len(shape) > npy.MAX_AXES or any(axis < 0 for axis in shape):
        raise Rejected(
            f"The shape of {field} must have at most {npy.MAX_AXES} axes, none of them "
            "below 0.",
            field=field,
        )
    # NumPy can't make some arrays without elements, such as one of 0 x 2^63.
    if dtype.itemsize * math.prod(max(1, axis) for axis in shape) > sys.maxsize:
        raise Rejected(f"The shape of {field} is larger than any memory.", field=field)
    return math.prod(shape)


def _flat(
    data: msgspec.Raw, element: type, shape: Sequence[int], field: str
) -> list[Any]:
    """Return the elements of a list, which may be nested as the shape is."""
    listed: Any = list[element]  # type: ignore[valid-type]  # one of three
    try:
        try:
            return _decoded(data, listed)
        except msgspec.ValidationError:
            return _converted(_unnested(_decoded(data, list[Any]), shape), listed)
    except ValueError as error:
        raise Rejected(
            f"The data of {field} must be one list, or lists nested as its shape says, "
            "of elements that are all of its datatype.",
            field=field,
        ) from error


def _decoded(data: msgspec.Raw, listed: Any) -> list[Any]:  # noqa: ANN401
    elements: list[Any] = decoding.decoder(listed).decode(data)
    return elements


def _converted(elements: list[Any], listed: Any) -> list[Any]:  # noqa: ANN401
    converted: list[Any] = decoding.convert(elements, listed)
    return converted


def _unnested(tree: list[Any], shape: Sequence[int]) -> list[Any]:
    """Return the elements of lists in lists.  Raises `ValueError` for another shape."""
    parts: list[Any] = [tree]
    for size in shape:
        if any(not isinstance(part, list) or len(part) != size for part in parts):
            raise ValueError(size)
        parts = list(chain.from_iterable(parts))
    return parts
