"""Arrays as they travel: NumPy's .npy format, versions 1 to 3, in base64.

What callers send never reaches `numpy.load`, which unpickles, unzips, ignores what
follows the array and believes whatever size the header claims.  Here a header is
matched by one regular expression, and the body must have exactly the size that
the header says before an array is laid over it.
"""

import math
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
import pybase64
from attrs import frozen

from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected

MAX_AXES = 8
MAX_HEADER_BYTES = 1024
"""Four times what `numpy.save` writes for `MAX_AXES` huge axes."""
CACHED_HEADERS = 1024

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_REMEDY = "write it with numpy.save and allow_pickle=False"

_DTYPES = {
    order + code: np.dtype(order + code)
    for orders, codes in (
        ("|<>", ("b1", "i1", "u1")),
        ("<>", ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")),
    )
    for code in codes
    for order in orders
}
_WIRE_DTYPES = frozenset(d for name, d in _DTYPES.items() if name[0] != ">")

_ENTRY = r" *'(\w+)' *: *('[^']*'|True|False|\([0-9, ]*\))"
_HEADER = re.compile(
    rf" *\{{{_ENTRY} *,{_ENTRY} *,{_ENTRY} *(?:, *)?\}}[ \n]*", re.ASCII
)
_AXIS = re.compile(r"0|[1-9][0-9]{0,18}")


@frozen
class Layout:
    """What a header says of the bytes behind it."""

    start: int
    size: int
    dtype: np.dtype[Any]
    native: np.dtype[Any]
    order: Literal["C", "F"]
    shape: tuple[int, ...]


class _Malformed(Exception):  # noqa: N818 -- says what the array is
    """Why it is no array of ours, as the predicate of a sentence about it."""


def decode(data: bytes | memoryview, *, field: str | None = None) -> Array:
    """Return the array that `data`, the bytes of one .npy file, holds.

    It is C or Fortran ordered as it was written, has the byte order of this machine,
    and shares the memory of `data` unless bytes had to be swapped: do not write to it.
    Raises `Rejected`, which names `field`, for anything but a whole array of numbers
    or booleans with at most `MAX_AXES` axes and nothing behind it.
    """
    try:
        return _decode(data)
    except _Malformed as problem:
        raise Rejected(f"The {field or 'array'} {problem}.", field=field) from None


def decode_all(data: bytes, names: Sequence[str]) -> list[Array]:
    """Return the arrays of several .npy files that lie one behind the other.

    Raises `Rejected`, which names the one that is wrong, as `decode` does.
    """
    view = memoryview(data)
    arrays: list[Array] = []
    for name in names:
        end = len(view)
        if len(arrays) + 1 < len(names):
            end = _size(view, name)
        arrays.append(decode(view[:end], field=name))
        view = view[end:]
    return arrays


def peek(head: bytes) -> Layout | None:
    """Return what `head`, everything before the first element, says; None: nothing."""
    try:
        return _layout(head) if _header_end(head) == len(head) else None
    except _Malformed:
        return None


def encode(array: Array) -> bytes:
    """Return `array` as a .npy file of version 1.0, C ordered, little-endian.

    Raises `TypeError` unless it holds numbers of a fixed size or booleans.
    """
    header, dtype = _header(array.dtype, array.shape)
    return b"".join((header, np.asarray(array, dtype, order="C").data))


def from_base64(text: str, *, field: str) -> Array:
    """Return the array that `text` holds, as `decode` does.

    Raises `Rejected`, which names `field`, unless `text` is the one canonical
    spelling of its bytes in standard base64: padded, with no foreign character.
    """
    data = bytes_of(text)
    if not data:
        raise Rejected(
            f"The {field} is not base64: encode the bytes of a .npy file with "
            "the standard alphabet, padding and no line breaks.",
            field=field,
        )
    return decode(data, field=field)


def bytes_of(text: str) -> bytes:
    """Return the bytes whose one canonical spelling `text` is; none if it is not."""
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:
        return b""
    return data if _is_canonical(text, data) else b""


def to_base64(array: Array) -> str:
    """Return `encode(array)` in standard base64."""
    return pybase64.b64encode_as_string(encode(array))


def _is_canonical(text: str, data: bytes) -> bool:
    """Say whether the bits before the padding, which decoders ignore, are zero."""
    if not text.endswith("="):
        return True
    return text[-4:] == pybase64.b64encode_as_string(data[-(len(data) % 3) :])


def _size(data: memoryview, field: str) -> int:
    """Return the size of the .npy file that `data` begins with."""
    try:
        layout = _layout(bytes(data[: _header_end(data)]))
    except _Malformed as problem:
        raise Rejected(f"The {field} {problem}.", field=field) from None
    return layout.start + layout.size


def _decode(data: bytes | memoryview) -> Array:
    layout = _layout(bytes(data[: _header_end(data)]))
    size = len(data) - layout.start
    if size != layout.size:
        raise _Malformed(
            f"has {size} bytes behind its header, which says {layout.size}: {_REMEDY}"
        )
    array: Array = np.ndarray(
        layout.shape, layout.dtype, data, layout.start, None, layout.order
    )
    if layout.dtype is not layout.native:
        return array.astype(layout.native)
    if layout.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise _Malformed(f"has bytes for booleans that are not 0 or 1: {_REMEDY}")
    return array


def _header_end(data: bytes | memoryview) -> int:
    """Return the number of bytes before the first element."""
    width = _LENGTH_BYTES.get(bytes(data[6:8]))
    if width is None or len(data) < 8 + width or data[:6] != _MAGIC:
        raise _Malformed(f"is not in NumPy's .npy format: {_REMEDY}")
    end = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    if end > MAX_HEADER_BYTES:
        raise _Malformed(
            f"has a header of more than {MAX_HEADER_BYTES} bytes: {_REMEDY}"
        )
    if end > len(data):
        raise _Malformed(f"ends within its header: {_REMEDY}")
    return end


@lru_cache(maxsize=CACHED_HEADERS)
def _layout(head: bytes) -> Layout:
    """Return what `head`, everything before the first element, says."""
    text = head[8 + _LENGTH_BYTES[head[6:8]] :].decode("latin-1")
    match = _HEADER.fullmatch(text)
    groups = match.groups() if match else ()
    entries = dict(zip(groups[::2], groups[1::2], strict=True))
    if entries.keys() != {"descr", "fortran_order", "shape"}:
        raise _Malformed(
            "has a header that is not the three entries descr, fortran_order and "
            f"shape: {_REMEDY}"
        )
    dtype, shape = _dtype(entries["descr"]), _shape(entries["shape"])
    # NumPy can't make some arrays without elements, such as one of 0 x 2^63.
    if dtype.itemsize * math.prod(max(1, axis) for axis in shape) > sys.maxsize:
        raise _Malformed("claims a shape that is larger than any memory")
    return Layout(
        start=len(head),
        size=dtype.itemsize * math.prod(shape),
        dtype=dtype,
        native=dtype.newbyteorder("=") if not dtype.isnative else dtype,
        order=_order(entries["fortran_order"]),
        shape=shape,
    )


def _dtype(text: str) -> np.dtype[Any]:
    try:
        return _DTYPES[text[1:-1]]
    except KeyError:
        raise _Malformed(
            "has a dtype that is not supported: "
            "use booleans, integers or floats of at most 64 bits"
        ) from None


def _order(text: str) -> Literal["C", "F"]:
    if text not in {"True", "False"}:
        raise _Malformed(f"has a fortran_order that is no boolean: {_REMEDY}")
    return "F" if text == "True" else "C"


def _shape(text: str) -> tuple[int, ...]:
    axes = [axis.strip() for axis in text[1:-1].split(",")]
    if axes[-1] == "":
        axes.pop()
    elif len(axes) == 1:
        axes.append("")  # without a comma, parentheses make no tuple
    if not text.startswith("(") or not all(map(_AXIS.fullmatch, axes)):
        raise _Malformed(f"has a shape that is no tuple of natural numbers: {_REMEDY}")
    if len(axes) > MAX_AXES:
        raise _Malformed(f"has {len(axes)} axes: use at most {MAX_AXES}")
    return tuple(map(int, axes))


@lru_cache(maxsize=CACHED_HEADERS)
def _header(
    dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[bytes, np.dtype[Any]]:
    """Return the header of such an array, and the dtype its elements travel in."""
    wire = dtype.newbyteorder("<")
    if wire not in _WIRE_DTYPES:
        raise TypeError(f"an array of {dtype} does not travel")
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": wire.str, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue(), wire
