"""Pickles of plain data and of NumPy's arrays, as objects that can do nothing."""

import codecs
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from arena_core.adapters.converters import pickle_machine
from arena_core.adapters.converters.pickled_containers import key
from arena_core.adapters.converters.pickles import (
    UNKNOWN,
    Global,
    Known,
    Malformed,
    Rebuild,
    Restore,
    Stub,
)
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected

MOST_AXES = 16
_CODES = (
    "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8",
)  # fmt: skip
_ORDERS = "<>|="
_TYPES = (
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int",
    "list", "set", "slice", "str", "tuple",
)  # fmt: skip


def read_pickle(data: bytes) -> Any:  # noqa: ANN401
    """Return what the pickle `data` holds, of which nothing is run.

    Containers, texts and numbers come out as they are, arrays of numbers as read-only
    arrays, and anything else as a `Stub` or, if it is only named, as a `Global`.
    Raises `Rejected` if it is damaged or no pickle.
    """
    try:
        return pickle_machine.run(data, PLAIN)
    except Malformed as problem:
        raise Rejected(f"The pickle {problem}: save it again.") from problem


def laid_over(
    raw: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], order: str
) -> Array:
    """Return `raw` as a read-only array, `order` C or F, in this machine's byte order.

    Raises `Malformed` unless its size is exactly that of the shape.
    """
    check_shape(shape, dtype.itemsize)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise Malformed("has an array whose size is not that of its shape")
    fortran = order == "F"
    flat = np.frombuffer(bytes(raw), dtype)
    if dtype.kind == "b" and flat.size and flat.view(np.uint8).max() > 1:
        raise Malformed("has booleans that are neither 0 nor 1")
    array: Array = flat.reshape(shape, order="F" if fortran else "C")
    native = array.astype(dtype.newbyteorder("="), copy=False)
    native.flags.writeable = False
    return native


def check_shape(shape: tuple[int, ...], itemsize: int) -> None:
    """Raise `Malformed` for a shape that no array can have."""
    if len(shape) > MOST_AXES or not all(is_natural(axis) for axis in shape):
        raise Malformed("has an array of an impossible shape")
    # NumPy can't make some arrays without elements, such as one of 0 x 2^63.
    if itemsize * math.prod(max(1, axis) for axis in shape) > sys.maxsize:
        raise Malformed("has an array that is larger than any memory")


def is_natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# --- what is rebuilt -------------------------------------------------------------


def _dtype(stub: Stub) -> Any:  # noqa: ANN401
    """Return the dtype, if it is one of numbers or booleans."""
    match stub.args, stub.state:
        case (str(code), *_), (3 | 4, str(order), None, None, None, *_) if (
            code in _CODES and order in _ORDERS
        ):
            return np.dtype(f"{order}{code}")
    return UNKNOWN


def _array(stub: Stub) -> Any:  # noqa: ANN401
    match stub.args:
        case (Global(module="numpy", name="ndarray"), *_):
            return _array_of(stub.state)
    return UNKNOWN


def _array_of(state: object) -> Any:  # noqa: ANN401
    match state:
        case (1, tuple(shape), np.dtype() as dtype, bool(fortran), raw):
            return _from_bytes(raw, dtype, shape, "F" if fortran else "C")
    return UNKNOWN


def _from_bytes(
    raw: object, dtype: np.dtype[Any], shape: tuple[int, ...], order: str
) -> Any:  # noqa: ANN401
    if isinstance(raw, str):
        raw = _latin1(raw)
    if not isinstance(raw, (bytes, bytearray)):
        return UNKNOWN
    return laid_over(raw, dtype, shape, order)


def _from_buffer(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case (raw, np.dtype() as dtype, tuple(shape), "C" | "F" as order):
            return _from_bytes(raw, dtype, shape, order)
    return UNKNOWN


def _scalar(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case (np.dtype() as dtype, raw):
            array = _from_bytes(raw, dtype, (), "C")
            return UNKNOWN if array is UNKNOWN else array[()]
    return UNKNOWN


def _dill_array(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """Rebuild what dill makes of an array: how to reconstruct it, and its state."""
    match args:
        case (Global(name="_reconstruct"), (Global("numpy", "ndarray"), *_), state, *_):
            return _array_of(state)
    return UNKNOWN


def _dill_type(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    """Return the name of a type of Python's own, of which dill writes a name of its."""
    match args:
        case (str(name),) if name in _TYPES:
            return Global("builtins", name)
    return UNKNOWN


def _encoded(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case (str(text), "latin1" | "latin-1"):
            return _latin1(text)
    return UNKNOWN


def _latin1(text: str) -> bytes:
    try:
        return codecs.latin_1_encode(text)[0]
    except UnicodeEncodeError as error:
        raise Malformed("has bytes that are none") from error


def _list(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case () | (list() | tuple() | set() | frozenset(), *_):
            return list(*args[:1])
    return UNKNOWN


def _tuple(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    items = _list(args)
    return UNKNOWN if items is UNKNOWN else tuple(items)


def _set(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    items = _list(args)
    return UNKNOWN if items is UNKNOWN else set(map(key, items))


def _frozenset(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    items = _set(args)
    return UNKNOWN if items is UNKNOWN else frozenset(items)


def _dict(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case ():
            return {}
        case (dict(items),):
            return dict(items)
        case (list(pairs),):
            return _dict_of(pairs)
    return UNKNOWN


def _dict_of(pairs: list[Any]) -> Any:  # noqa: ANN401
    made = {}
    for pair in pairs:
        match pair:
            case [name, value]:
                made[key(name)] = value
            case _:
                return UNKNOWN
    return made


def _default_dict(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    return _dict(args[1:])


def _complex(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case (float(real), float(imaginary)):
            return complex(real, imaginary)
    return UNKNOWN


def _bytes(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case ():
            return b""
        case (bytes() | bytearray() as data,):
            return bytes(data)
        case (str(text), "latin1" | "latin-1"):
            return _latin1(text)
    return UNKNOWN


CALLS: Mapping[tuple[str, str], Rebuild] = {
    ("_codecs", "encode"): _encoded,
    ("builtins", "bytearray"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("builtins", "complex"): _complex,
    ("builtins", "dict"): _dict,
    ("builtins", "frozenset"): _frozenset,
    ("builtins", "list"): _list,
    ("builtins", "set"): _set,
    ("builtins", "tuple"): _tuple,
    ("collections", "OrderedDict"): _dict,
    ("collections", "defaultdict"): _default_dict,
    ("collections", "deque"): _list,
    ("dill._dill", "_create_array"): _dill_array,
    ("dill._dill", "_load_type"): _dill_type,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
STATES: Mapping[tuple[str, str], Restore] = {
    ("numpy", "dtype"): _dtype,
    ("numpy._core.multiarray", "_reconstruct"): _array,
}
PLAIN = Known(CALLS, STATES)
