"""Spaces of Gymnasium, and of the old Gym, out of pickles that were not unpickled."""

from collections.abc import Callable, Mapping
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena_core.adapters.converters.pickles import Global, Stub
from arena_core.application.filenames import shown
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
from arena_core.domain.errors import Rejected

MOST_LEVELS = 8


def space_of(found: object, *, field: str, levels: int = MOST_LEVELS) -> Space:
    """Return the space that `found`, an object out of a pickle, is.

    Raises `Rejected`, which names `field`, for anything else.
    """
    if not isinstance(found, Stub) or not isinstance(found.state, dict):
        raise _unknown(type(found).__name__, field)
    library = found.module.partition(".spaces")[0]
    read = _READERS.get(found.name)
    if library not in {"gymnasium", "gym"} or read is None or levels == 0:
        raise _unknown(f"{found.module}.{found.name}", field)
    try:
        return read(found.state, field, levels)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unknown(f"damaged {found.name}", field) from error


def _unknown(name: str, field: str) -> Rejected:
    return Rejected(
        f"The {field} is a {shown(name)}, which cannot be converted: export the "
        "policy to ONNX and import that with the format onnx.",
        field=field,
    )


def _box(state: Mapping[str, Any], _field: str, _levels: int) -> Box:
    low, high = np.asarray(state["low"]), np.asarray(state["high"])
    if low.shape != high.shape:
        raise ValueError("bounds of two shapes")
    return Box(low.shape, _dtype(state["dtype"]), _bounds(low), _bounds(high))


def _bounds(bounds: NDArray[Any]) -> tuple[float | None, ...]:
    if np.isnan(bounds).any():
        raise ValueError("a bound that is no number")
    flat: list[float] = bounds.ravel().tolist()
    return tuple(bound if np.isfinite(bound) else None for bound in flat)


def _discrete(state: Mapping[str, Any], _field: str, _levels: int) -> Discrete:
    start = index(state.get("start", 0))
    return Discrete(index(state["n"]), start, _dtype(state.get("dtype", "int64")))


def _multi_discrete(
    state: Mapping[str, Any], _field: str, _levels: int
) -> MultiDiscrete:
    nvec = _integers(state["nvec"])
    start = _integers(state["start"]) if "start" in state else (0,) * len(nvec)
    if len(start) != len(nvec):
        raise ValueError("not a start for each")
    return MultiDiscrete(nvec, start, _dtype(state.get("dtype", "int64")))


def _multi_binary(state: Mapping[str, Any], _field: str, _levels: int) -> MultiBinary:
    return MultiBinary(_integers(state["n"]))


def _integers(found: object) -> tuple[int, ...]:
    array = np.atleast_1d(np.asarray(found))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError("no vector of integers")
    return tuple(array.tolist())


def _dict(state: Mapping[str, Any], field: str, levels: int) -> Dict:
    parts = dict(state["spaces"])
    if not all(isinstance(key, str) for key in parts):
        raise TypeError("a key that is no text")
    return Dict(
        {
            key: space_of(part, field=f"{field}.{shown(key)}", levels=levels - 1)
            for key, part in parts.items()
        }
    )


def _tuple(state: Mapping[str, Any], field: str, levels: int) -> Tuple:
    return Tuple(
        tuple(
            space_of(part, field=f"{field}.{place}", levels=levels - 1)
            for place, part in enumerate(state["spaces"])
        )
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any], str, int], Space]] = {
    "Box": _box,
    "Dict": _dict,
    "Discrete": _discrete,
    "MultiBinary": _multi_binary,
    "MultiDiscrete": _multi_discrete,
    "Tuple": _tuple,
}


def _dtype(found: object) -> str:
    name = found.name if isinstance(found, Global) else str(found)
    if name not in DTYPES:
        raise ValueError("a dtype of no fixed size")
    return name
