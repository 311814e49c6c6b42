"""The spaces of a checkpoint: their JSON form, and what they demand of observations."""

import math
from typing import Any, TypeAlias, assert_never

import numpy as np

from arena_core.application.npy import MAX_AXES
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import DTYPES, Box, Discrete, Space
from arena_core.domain.errors import Rejected, TooLarge

MAX_ROWS = 65_536
"""The largest batch of observations."""
MAX_ELEMENTS = 2**22
"""The largest observation: 2048 x 2048 pixels in grey."""

_KEYS = {
    "Box": ({"type", "shape", "dtype", "low", "high"}, set[str]()),
    "Discrete": ({"type", "n"}, {"start", "dtype"}),
}

_Bounds: TypeAlias = tuple[float | None, ...]


def from_json(obj: object, *, field: str) -> Space:
    """Return the space that `obj`, decoded JSON, describes.

    Raises `Rejected`, which names the part of `field` that is wrong.
    """
    if not isinstance(obj, dict) or obj.get("type") not in tuple(_KEYS):
        raise Rejected(
            f"The {field} must be an object whose type is one of {', '.join(_KEYS)}.",
            field=f"{field}.type",
        )
    required, optional = _KEYS[obj["type"]]
    if not required <= obj.keys() <= required | optional:
        raise Rejected(
            f"The {field} of the type {obj['type']} must have the keys "
            f"{', '.join(sorted(required))} and no others"
            + (f" but {' and '.join(sorted(optional))}." if optional else "."),
            field=field,
        )
    return _box(obj, field) if obj["type"] == "Box" else _discrete(obj, field)


def to_json(space: Space) -> dict[str, object]:
    """Return the JSON form of `space`; bounds that are all the same become one."""
    match space:
        case Box():
            return {
                "type": "Box",
                "shape": list(space.shape),
                "dtype": space.dtype,
                "low": _collapsed(space.low),
                "high": _collapsed(space.high),
            }
        case Discrete():
            return {
                "type": "Discrete",
                "n": space.n,
                "start": space.start,
                "dtype": space.dtype,
            }
        case _:
            assert_never(space)


def conform(array: Array, space: Space, *, field: str) -> Array:
    """Return a batch of observations as the weights want it.

    It is (B, *shape) for a Box and (B,) for a Discrete, 1 <= B <= `MAX_ROWS`, C
    contiguous and of the dtype of the space; it is `array` itself if that is so
    already.  Floats take the place of integers if they are whole.  Values beyond the
    bounds of a Box pass, for simulators step over them now and then; what the dtype
    cannot hold does not, nor does what a Discrete does not contain.
    Raises `Rejected`, which names `field` and, for a value, a row that holds such.
    """
    _check_shape(array, space.shape if isinstance(space, Box) else (), field)
    _check_kind(array, space, field)
    dtype = np.dtype(space.dtype)
    if isinstance(space, Discrete):
        _check_integers(array, space.start, space.start + space.n - 1, field)
    elif dtype.kind == "f":
        return _as_floats(array, dtype, field)
    elif not np.can_cast(array.dtype, dtype):
        _check_integers(array, *_integer_limits(dtype), field)
    return _contiguous(array, dtype)


# --- the JSON form ---------------------------------------------------------------


def _box(obj: dict[str, Any], field: str) -> Box:
    shape = _shape(obj["shape"], f"{field}.shape")
    dtype = _dtype(obj["dtype"], DTYPES, f"{field}.dtype")
    low = _bounds(obj["low"], shape, dtype, f"{field}.low")
    high = _bounds(obj["high"], shape, dtype, f"{field}.high")
    if any(
        a is not None and b is not None and a > b
        for a, b in zip(low, high, strict=True)
    ):
        raise Rejected(
            f"The {field}.low must not be greater than {field}.high anywhere.",
            field=f"{field}.low",
        )
    return Box(shape=shape, dtype=dtype, low=low, high=high)


def _discrete(obj: dict[str, Any], field: str) -> Discrete:
    integers = tuple(name for name in DTYPES if np.dtype(name).kind in "iu")
    dtype = _dtype(obj.get("dtype", "int64"), integers, f"{field}.dtype")
    low, high = _integer_limits(np.dtype(dtype))
    n = _integer(obj["n"], 1, high - low + 1, f"{field}.n")
    start = _integer(obj.get("start", 0), low, high - n + 1, f"{field}.start")
    return Discrete(n=n, start=start, dtype=dtype)


def _shape(value: object, field: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) >= MAX_AXES:
        raise Rejected(
            f"The {field} must be a list of at most {MAX_AXES - 1} whole numbers.",
            field=field,
        )
    shape = tuple(
        _integer(axis, 1, MAX_ELEMENTS, f"{field}.{index}")
        for index, axis in enumerate(value)
    )
    if math.prod(shape) > MAX_ELEMENTS:
        raise TooLarge(
            f"The {field} has {math.prod(shape)} elements: "
            f"use at most {MAX_ELEMENTS} in one observation.",
            field=field,
        )
    return shape


def _dtype(value: object, known: tuple[str, ...], field: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise Rejected(f"The {field} must be one of {', '.join(known)}.", field=field)
    return value


def _integer(value: object, low: int, high: int, field: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise Rejected(
            f"The {field} must be a whole number from {low} to {high}.", field=field
        )
    return value


def _bounds(value: object, shape: tuple[int, ...], dtype: str, field: str) -> _Bounds:
    size = math.prod(shape)
    if isinstance(value, list) and len(value) != size:
        raise Rejected(
            f"The {field} has {len(value)} bounds, but the shape has {size} elements: "
            "give one for each in C order, or a single one for all.",
            field=field,
        )
    given = value if isinstance(value, list) else (value,)
    low, high = _limits(np.dtype(dtype))
    if not all(_is_bound(bound, low, high, dtype) for bound in given):
        raise Rejected(
            f"The {field} must be made of numbers that a {dtype} can hold, "
            "with null where there is no bound.",
            field=field,
        )
    return tuple(given) * (1 if isinstance(value, list) else size)


def _is_bound(value: object, low: float, high: float, dtype: str) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return low <= value <= high and ("float" in dtype or value == int(value))


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and the greatest number that become finite ones of `dtype`."""
    if dtype.kind != "f":
        return _integer_limits(dtype)
    # A decimal such as 3.4028235e38 lies just above the float32 that it stands for.
    info = np.finfo(dtype)
    greatest = float(info.max) * (1 + float(info.eps) / 4)
    return -greatest, greatest


def _integer_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    if dtype.kind == "b":
        return 0, 1
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _collapsed(bounds: _Bounds) -> object:
    return bounds[0] if len(set(bounds)) == 1 else list(bounds)


# --- observations ----------------------------------------------------------------


def _check_shape(array: Array, shape: tuple[int, ...], field: str) -> None:
    if array.ndim == 0 or array.shape[1:] != shape:
        raise Rejected(
            f"The {field} must have the shape {_written('B', *shape)}, where B is the "
            f"number of rows, but has {_written(*array.shape)}.",
            field=field,
        )
    if len(array) == 0:
        raise Rejected(f"The {field} has no row: send at least one.", field=field)
    if len(array) > MAX_ROWS:
        raise TooLarge(
            f"The {field} has {len(array)} rows: send at most {MAX_ROWS} at once.",
            field=field,
        )


def _written(*axes: object) -> str:
    return f"({', '.join(map(str, axes))}{',' if len(axes) == 1 else ''})"


def _check_kind(array: Array, space: Space, field: str) -> None:
    if array.dtype.kind not in ("iuf" if isinstance(space, Discrete) else "iufb"):
        raise Rejected(
            f"The {field} must hold numbers that {space.dtype} can represent.",
            field=field,
        )


def _check_integers(array: Array, low: int, high: int, field: str) -> None:
    """Refuse elements that are not whole, or not from `low` to `high`."""
    row = _fractional_row(array) if array.dtype.kind == "f" else None
    # In Python's integers: as a float, the largest int64 is one too many.
    if row is None and int(array.min()) < low:
        row = _row(array, int(array.argmin()))
    if row is None and int(array.max()) > high:
        row = _row(array, int(array.argmax()))
    if row is not None:
        raise Rejected(
            f"The {field} must hold whole numbers from {low} to {high}, "
            f"but row {row} does not.",
            field=field,
        )


def _fractional_row(array: Array) -> int | None:
    with np.errstate(all="ignore"):
        whole = np.isfinite(array) & (np.trunc(array) == array)
    return None if whole.all() else _row(array, int(whole.argmin()))


def _as_floats(array: Array, dtype: np.dtype[Any], field: str) -> Array:
    with np.errstate(all="ignore"):
        floats = _contiguous(array, dtype)
    finite = np.isfinite(floats)
    # Three times as fast as `finite.all()` for the few numbers that come mostly.
    if 0 in finite.tobytes():
        raise Rejected(
            f"The {field} must hold finite numbers within the range of {dtype.name}, "
            f"but row {_row(array, int(finite.argmin()))} does not.",
            field=field,
        )
    return floats


def _row(array: Array, index: int) -> int:
    """Return the row of the element at `index`, in C order."""
    return index // (array.size // len(array))


def _contiguous(array: Array, dtype: np.dtype[Any]) -> Array:
    converted = np.asarray(array, dtype, order="C")
    # What lies at an odd place in a request is moved to where it can be computed on.
    return converted if converted.flags.aligned else converted.copy()
