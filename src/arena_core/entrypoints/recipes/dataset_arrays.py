"""Arrays to learn from: an .npz archive with `x` and `y`.

`x` is (N, columns), or images: (N, height, width) or (N, height, width, channels).
"""

import zipfile
import zlib
from io import BytesIO

import numpy as np

from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.entrypoints.recipes.examples import Examples

MOST_BYTES = 1 << 30
"""Of the arrays, unpacked."""
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, KeyError,
    MemoryError,
)  # fmt: skip
"""What NumPy raises for archives that are none, and for pickles."""


def npz(data: bytes) -> Examples:
    """Return the examples of an archive.  Raises `Rejected` or `TooLarge`."""
    try:
        _check_size(data)
        with np.load(BytesIO(data), allow_pickle=False) as archive:
            inputs, targets = np.asarray(archive["x"]), np.asarray(archive["y"])
    except _UNREADABLE as error:
        raise Rejected(
            "The dataset is no archive with the arrays x and y, of numbers or texts: "
            "write it with numpy.savez.",
            field="source.name",
        ) from error
    _check(inputs, targets)
    columns = tuple(f"x{n}" for n in range(inputs.shape[1]) if inputs.ndim == 2)  # noqa: PLR2004 -- a table
    return Examples(inputs.astype(np.float32), targets, columns)


def _check_size(data: bytes) -> None:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > MOST_BYTES:
        raise TooLarge(
            f"The dataset has {unpacked} bytes unpacked: use at most {MOST_BYTES}.",
            field="source.name",
        )


def _check(inputs: Array, targets: Array) -> None:
    if (
        inputs.ndim not in (2, 3, 4)
        or inputs.dtype.kind not in "biuf"
        or 0 in inputs.shape
    ):
        raise Rejected(
            "The array x must hold numbers: rows of columns, or images of height, "
            "width and, if there are several, channels.",
            field="source.name",
        )
    if targets.shape != inputs.shape[:1] or targets.dtype.kind not in "biufU":
        raise Rejected(
            "The array y must hold one number or one text for each row of x.",
            field="source.name",
        )
