"""Tensors in files of torch, as arrays over the bytes of their storages."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from attrs import frozen

from arena_core.adapters.archives import Archive
from arena_core.adapters.converters.pickled_data import check_shape, is_natural
from arena_core.adapters.converters.pickles import (
    UNKNOWN,
    Global,
    Malformed,
    Rebuild,
)
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected, TooLarge

MOST_TENSOR_BYTES = 2 << 30
"""Of all tensors in a file, as arrays: strides of 0 can make much of little."""

_BFLOAT16 = "bfloat16"
_STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2",
    "BFloat16Storage": _BFLOAT16, "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "b1", "UntypedStorage": "",
}  # fmt: skip
"""How their elements are written, by class; untyped: the tensor says it."""
_DTYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": _BFLOAT16,
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1",
    "uint16": "u2", "uint32": "u4", "uint64": "u8", "bool": "b1",
}  # fmt: skip


@frozen(eq=False)
class _Storage:
    raw: bytes
    code: str
    """Of its elements as in `_STORAGES`; `?` if they are of no dtype of ours."""


class Tensors:
    """The storages of one archive, and the tensors over them."""

    def __init__(self, archive: Archive, top: str) -> None:
        self._archive = archive
        self._top = top
        self._raw: dict[str, bytes] = {}
        self._left = MOST_TENSOR_BYTES
        self._order = _byte_order(archive, top)

    def storage(self, identity: object) -> _Storage:
        """Return the storage that a persistent id names."""
        match identity:
            case ("storage", Global() as kind, str(key), str(), int(numel)):
                code = _STORAGES.get(kind.name, "?")
                raw = self._content(key)
                if not 0 <= numel * _item_bytes(code) <= len(raw):
                    raise Malformed("has a storage that is shorter than it says")
                return _Storage(raw, code)
        raise Malformed("refers to something that is no storage")

    def _content(self, key: str) -> bytes:
        if key not in self._raw:
            self._raw[key] = self._archive.read(f"{self._top}/data/{key}")
        return self._raw[key]

    def calls(self) -> Mapping[tuple[str, str], Rebuild]:
        return {
            ("torch", "Size"): _size,
            ("torch._tensor", "_rebuild_from_type_v2"): self._of_type,
            **self._plain_calls(),
        }

    def _plain_calls(self) -> Mapping[tuple[str, str], Rebuild]:
        return {
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
            ("torch._utils", "_rebuild_tensor"): self._typed,
            ("torch._utils", "_rebuild_tensor_v2"): self._typed,
            ("torch._utils", "_rebuild_tensor_v3"): self._untyped,
        }

    def _typed(self, args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        match args:
            case (_Storage() as storage, offset, tuple(size), tuple(strides), *_):
                return self._tensor(storage, storage.code, offset, size, strides)
        return UNKNOWN

    def _untyped(self, args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        match args:
            case (
                _Storage() as storage, offset, tuple(size), tuple(strides), _, _,
                Global(module="torch", name=name), *_,
            ):  # fmt: skip
                code = _DTYPES.get(name, "?")
                return self._tensor(storage, code, offset, size, strides)
        return UNKNOWN

    def _of_type(self, args: tuple[Any, ...]) -> Any:  # noqa: ANN401
        match args:
            case (
                Global() as function,
                Global(name="Tensor" | "Parameter"),
                tuple(inner),
                *_,
            ):
                rebuild = self._plain_calls().get((function.module, function.name))
                return UNKNOWN if rebuild is None else rebuild(inner)
        return UNKNOWN

    def _tensor(
        self,
        storage: _Storage,
        code: str,
        offset: Any,  # noqa: ANN401
        size: tuple[Any, ...],
        strides: tuple[Any, ...],
    ) -> Any:  # noqa: ANN401
        if code in {"", "?"}:
            return UNKNOWN
        wide = code == _BFLOAT16
        dtype = np.dtype(self._order + ("u2" if wide else code))
        _check_tensor(offset, size, strides, dtype.itemsize, len(storage.raw))
        self._left -= math.prod(size) * (4 if wide else dtype.itemsize)
        if self._left < 0:
            raise TooLarge(
                f"The torch file has tensors of more than {MOST_TENSOR_BYTES} bytes: "
                "save the weights alone."
            )
        array = _array(storage.raw, dtype, offset, size, strides)
        return _widened(array) if wide else _native(array)


def _byte_order(archive: Archive, top: str) -> str:
    """Return NumPy's letter for it.  Files without a note of it are little-endian."""
    name = f"{top}/byteorder"
    order = archive.read(name) if name in archive.names else b"little"
    if order not in {b"little", b"big"}:
        raise Rejected("The torch file has an unknown byte order: save it again.")
    return "<" if order == b"little" else ">"


def _item_bytes(code: str) -> int:
    """Return the size of an element; at least 1, where it is not known."""
    if code in {"", "?"}:
        return 1
    return 2 if code == _BFLOAT16 else int(code[1:])


def _check_tensor(
    offset: object,
    size: tuple[Any, ...],
    strides: tuple[Any, ...],
    item_bytes: int,
    storage_bytes: int,
) -> None:
    """Raise `Malformed` unless every element lies in the storage."""
    check_shape(size, item_bytes)
    if len(strides) != len(size) or not all(map(is_natural, (offset, *strides))):
        raise Malformed("has a tensor of impossible strides")
    if not all(size):
        return
    steps = zip(size, strides, strict=True)
    last = int(str(offset)) + sum((n - 1) * stride for n, stride in steps)
    if (last + 1) * item_bytes > storage_bytes:
        raise Malformed("has a tensor that leaves its storage")


def _array(
    raw: bytes,
    dtype: np.dtype[Any],
    offset: int,
    size: tuple[int, ...],
    strides: tuple[int, ...],
) -> Array:
    """Return the view of `raw`; `offset` and `strides` count elements."""
    if not all(size):
        return np.zeros(size, dtype)
    # The stride of an axis of one element is never used, and may be any number.
    steps = [
        stride * dtype.itemsize if n > 1 else 0
        for n, stride in zip(size, strides, strict=True)
    ]
    return np.ndarray(size, dtype, raw, offset * dtype.itemsize, steps)


def _native(array: Array) -> Array:
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise Malformed("has booleans that are neither 0 nor 1")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    native.flags.writeable = False
    return native


def _widened(array: Array) -> Array:
    """Return float32 for the bits of bfloat16, which are its upper half."""
    bits = np.zeros(array.shape, np.uint32)
    bits[...] = array
    bits <<= 16
    floats: Array = bits.view(np.float32)
    floats.flags.writeable = False
    return floats


def _parameter(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case (np.ndarray() as array, *_):
            return array
    return UNKNOWN


def _size(args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    match args:
        case (tuple(size),):
            return size
    return UNKNOWN
