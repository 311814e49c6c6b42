"""What observations must be: trees of arrays that fit a space, batch axis first."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, assert_never

import numpy as np

from arena_core.application import spaces
from arena_core.application.filenames import shown
from arena_core.application.ports import Array
from arena_core.application.spaces import integer_limits
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Space,
    Tuple,
)
from arena_core.domain.errors import Rejected, TooLarge

MAX_ROWS = 65_536
"""The largest batch of observations."""

Arrays: TypeAlias = dict[str, Array]
"""The arrays of a batch of observations, by their paths in the space."""
Decode: TypeAlias = Callable[[object, str], Array]
"""Makes an array of a leaf; takes the name of the field too."""


def gather(
    tree: object,
    space: Space,
    decode: Decode,
    *,
    field: str,
) -> Arrays:
    """Return the arrays of a batch of observations that `tree` is, each (B, ...).

    `tree` has a mapping for each Dict, a sequence for each Tuple, and for each array
    what `decode(leaf, field)` makes one of.  Raises `Rejected`, which names the part
    that is wrong; no two arrays may have different numbers of rows.
    """
    arrays = dict(_gather(tree, space, decode, "", field))
    if len({len(array) for array in arrays.values()}) > 1:
        rows = ", ".join(f"{len(a)} in {path}" for path, a in arrays.items())
        raise Rejected(
            f"The arrays of {field} must have the same number of rows: {rows}.",
            field=field,
        )
    return arrays


def _gather(
    tree: object,
    space: Space,
    decode: Decode,
    path: str,
    field: str,
) -> Iterator[tuple[str, Array]]:
    match space:
        case Dict():
            if not isinstance(tree, dict) or tree.keys() != space.spaces.keys():
                raise Rejected(
                    f"The {field} must be an object with the keys "
                    f"{', '.join(map(shown, space.spaces))} and no others.",
                    field=field,
                )
            for key, part in space.spaces.items():
                name = spaces.below("", key)
                below = spaces.below(path, key)
                yield from _gather(tree[key], part, decode, below, f"{field}.{name}")
        case Tuple():
            if not isinstance(tree, list | tuple) or len(tree) != len(space.spaces):
                raise Rejected(
                    f"The {field} must be a list of {len(space.spaces)} parts, for "
                    "the space is a Tuple.",
                    field=field,
                )
            for place, part in enumerate(space.spaces):
                below = spaces.below(path, place)
                yield from _gather(tree[place], part, decode, below, f"{field}.{place}")
        case _:
            yield path, conform(decode(tree, field), space, field=field)


def conform(array: Array, space: LeafSpace, *, field: str) -> Array:
    """Return a batch of one array as the weights want it.

    It is (B, *shape of the space), 1 <= B <= `MAX_ROWS`, C contiguous and of the
    dtype of the space; it is `array` itself if that is so already.  Floats take the
    place of integers if they are whole.  Values beyond the bounds of a Box pass, for
    simulators step over them now and then; what the dtype cannot hold does not, nor
    does what another space does not contain.
    Raises `Rejected`, which names `field` and, for a value, a row that holds such.
    """
    _check_shape(array, spaces.shape(space), field)
    match space:
        case Box():
            return _conform_box(array, space, field)
        case Discrete(n=n, start=start, dtype=dtype):
            _check_kind(array, "iuf", dtype, field)
            _check_integers(array, start, start + n - 1, field)
            return laid_out(array, np.dtype(dtype))
        case MultiDiscrete():
            _check_kind(array, "iuf", space.dtype, field)
            for column, (n, start) in enumerate(
                zip(space.nvec, space.start, strict=True)
            ):
                _check_integers(array[:, column], start, start + n - 1, field)
            return laid_out(array, np.dtype(space.dtype))
        case MultiBinary():
            _check_kind(array, "iufb", "int8", field)
            _check_integers(array, 0, 1, field)
            return laid_out(array, np.dtype("int8"))
        case _:
            assert_never(space)


def _conform_box(array: Array, space: Box, field: str) -> Array:
    dtype = np.dtype(space.dtype)
    _check_kind(array, "iufb", space.dtype, field)
    if dtype.kind == "f":
        return _as_floats(array, dtype, field)
    if not np.can_cast(array.dtype, dtype):
        _check_integers(array, *integer_limits(dtype), field)
    return laid_out(array, dtype)


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


def _check_kind(array: Array, kinds: str, dtype: str, field: str) -> None:
    if array.dtype.kind not in kinds:
        raise Rejected(
            f"The {field} must hold numbers that {dtype} can represent.", field=field
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
        floats = laid_out(array, dtype)
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


def laid_out(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return `array` in C order and of `dtype`; `array` itself if it is so already."""
    converted = np.asarray(array, dtype, order="C")
    # What lies at an odd place in a request is moved to where it can be computed on.
    return converted if converted.flags.aligned else converted.copy()
