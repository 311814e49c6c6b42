"""The JSON form of spaces, which says what those of Gymnasium say.

The form is described in `docs/bundle.md`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, assert_never

import numpy as np

from arena_core.application.npy import MAX_AXES
from arena_core.application.spaces import below, integer_limits, walk
from arena_core.domain.checkpoint import (
    DTYPES,
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Space,
    Tuple,
)
from arena_core.domain.errors import Rejected, TooLarge

MAX_ELEMENTS = 2**22
"""The largest array of an observation: 2048 x 2048 pixels in grey."""
MAX_LEAVES = 64
"""The most arrays that one observation is made of."""

_KEYS: Mapping[str, tuple[set[str], set[str]]] = {
    "Box": ({"type", "shape", "dtype", "low", "high"}, set()),
    "Discrete": ({"type", "n"}, {"start", "dtype"}),
    "MultiDiscrete": ({"type", "nvec"}, {"start", "dtype"}),
    "MultiBinary": ({"type", "shape"}, set()),
    "Dict": ({"type", "spaces"}, set()),
    "Tuple": ({"type", "spaces"}, set()),
}
_INTEGERS = tuple(name for name in DTYPES if np.dtype(name).kind in "iu")

_Bounds: TypeAlias = tuple[float | None, ...]


def from_json(obj: object, *, field: str) -> Space:
    """Return the space that `obj`, decoded JSON, describes.

    Raises `Rejected`, which names the part of `field` that is wrong.
    """
    space = _space(obj, field)
    paths = [path for path, _ in walk(space)]
    if not 0 < len(paths) <= MAX_LEAVES:
        raise Rejected(
            f"The {field} is made of {len(paths)} arrays: use 1 to {MAX_LEAVES}.",
            field=field,
        )
    if len(set(paths)) < len(paths):
        raise Rejected(
            f"The {field} has two keys that differ only in characters other than "
            "letters, digits, dots, underscores and hyphens: rename one.",
            field=field,
        )
    return space


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
        case MultiDiscrete():
            return {
                "type": "MultiDiscrete",
                "nvec": list(space.nvec),
                "start": list(space.start),
                "dtype": space.dtype,
            }
        case MultiBinary():
            return {"type": "MultiBinary", "shape": list(space.shape)}
        case Dict():
            parts = {key: to_json(part) for key, part in space.spaces.items()}
            return {"type": "Dict", "spaces": parts}
        case Tuple():
            return {"type": "Tuple", "spaces": [to_json(s) for s in space.spaces]}
        case _:
            assert_never(space)


# --- the JSON form ---------------------------------------------------------------


def _space(obj: object, field: str) -> Space:
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
    return _READERS[obj["type"]](obj, field)


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
    dtype = _dtype(obj.get("dtype", "int64"), _INTEGERS, f"{field}.dtype")
    low, high = integer_limits(np.dtype(dtype))
    n = _integer(obj["n"], 1, high - low + 1, f"{field}.n")
    start = _integer(obj.get("start", 0), low, high - n + 1, f"{field}.start")
    return Discrete(n=n, start=start, dtype=dtype)


def _multi_discrete(obj: dict[str, Any], field: str) -> MultiDiscrete:
    dtype = _dtype(obj.get("dtype", "int64"), _INTEGERS, f"{field}.dtype")
    low, high = integer_limits(np.dtype(dtype))
    nvec = _list(obj["nvec"], f"{field}.nvec")
    counts = tuple(
        _integer(n, 1, min(high - low + 1, MAX_ELEMENTS), f"{field}.nvec.{place}")
        for place, n in enumerate(nvec)
    )
    given = _list(obj.get("start", [0] * len(counts)), f"{field}.start")
    if len(given) != len(counts):
        raise Rejected(
            f"The {field}.start must have one number for each of {field}.nvec.",
            field=f"{field}.start",
        )
    start = tuple(
        _integer(first, low, high - n + 1, f"{field}.start.{place}")
        for place, (first, n) in enumerate(zip(given, counts, strict=True))
    )
    return MultiDiscrete(counts, start, dtype)


def _multi_binary(obj: dict[str, Any], field: str) -> MultiBinary:
    return MultiBinary(_shape(obj["shape"], f"{field}.shape"))


def _dict(obj: dict[str, Any], field: str) -> Dict:
    parts = obj["spaces"]
    if not isinstance(parts, dict):
        raise Rejected(
            f"The {field}.spaces must be an object: a space for each key.",
            field=f"{field}.spaces",
        )
    return Dict({k: _space(v, f"{field}.{below('', k)}") for k, v in parts.items()})


def _tuple(obj: dict[str, Any], field: str) -> Tuple:
    parts = _list(obj["spaces"], f"{field}.spaces")
    return Tuple(tuple(_space(v, f"{field}.{i}") for i, v in enumerate(parts)))


_READERS: Mapping[str, Callable[[dict[str, Any], str], Space]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": _multi_binary,
    "Dict": _dict,
    "Tuple": _tuple,
}


def _list(value: object, field: str) -> list[Any]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ELEMENTS:
        raise Rejected(f"The {field} must be a list that is not empty.", field=field)
    return value


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
        return integer_limits(dtype)
    # A decimal such as 3.4028235e38 lies just above the float32 that it stands for.
    info = np.finfo(dtype)
    greatest = float(info.max) * (1 + float(info.eps) / 4)
    return -greatest, greatest


def _collapsed(bounds: _Bounds) -> object:
    return bounds[0] if len(set(bounds)) == 1 else list(bounds)
