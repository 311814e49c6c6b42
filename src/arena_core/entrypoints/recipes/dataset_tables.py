"""Tables to learn from: CSV and Parquet.

Each column is a number of a row; a column of words is one number for each word.
"""

from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as csv_files
from pyarrow import parquet as parquet_files

from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import LONGEST_NAME, shown
from arena_core.entrypoints.recipes.examples import Examples

MOST_CELLS = 50_000_000
MOST_COLUMNS = 10_000
MOST_WORDS = 100
"""Of one column: more are names or texts, and nothing to learn from."""


def csv(data: bytes, target: str | None) -> Examples:
    """Return the examples of a CSV file in UTF-8, whose first line names the columns.

    Raises `Rejected` or `TooLarge`.
    """
    convert = csv_files.ConvertOptions(strings_can_be_null=True)
    try:
        table = csv_files.read_csv(BytesIO(data), convert_options=convert)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _unreadable("CSV in UTF-8 with a line of names", error) from error
    return _examples(table, target)


def parquet(data: bytes, target: str | None) -> Examples:
    """Return the examples of a Parquet file.  Raises `Rejected` or `TooLarge`."""
    try:
        file = parquet_files.ParquetFile(BytesIO(data))
        _check_size(file.metadata.num_rows, file.metadata.num_columns)
        table = file.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable("Parquet", error) from error
    return _examples(table, target)


def _unreadable(form: str, error: Exception) -> Rejected:
    problem = shown(str(error).splitlines()[0] if str(error) else "")
    return Rejected(
        f"The dataset is no {form} ({problem}): write it with pandas or pyarrow.",
        field="source.name",
    )


def _check_size(rows: int, columns: int) -> None:
    if columns > MOST_COLUMNS or rows * columns > MOST_CELLS:
        raise TooLarge(
            f"The dataset has {rows} rows of {columns} columns: use at most "
            f"{MOST_COLUMNS} columns and {MOST_CELLS} cells.",
            field="source.name",
        )


def _examples(table: pa.Table, target: str | None) -> Examples:
    _check_size(table.num_rows, table.num_columns)
    names = _names(table)
    learned = _target(names, target)
    parts, columns = [], []
    for name in names:
        if name == learned:
            continue
        part, labels = _numbers(name, _filled(name, table.column(name)))
        parts.append(part)
        columns += labels
    _check_size(table.num_rows, len(columns))
    return Examples(
        np.concatenate(parts, axis=1),
        _values(learned, _filled(learned, table.column(learned))),
        tuple(columns),
    )


def _names(table: pa.Table) -> list[str]:
    names: list[str] = table.column_names
    if len(names) < 2:  # noqa: PLR2004 -- something to learn, and something to learn from
        raise Rejected(
            "The dataset needs two columns at least, of which one is the target.",
            field="source.name",
        )
    for name in names:
        if not name.strip() or len(name) > LONGEST_NAME or names.count(name) > 1:
            raise Rejected(
                f"The dataset has a column {shown(name)}: give each a name of its own "
                f"of 1 to {LONGEST_NAME} characters.",
                field="source.name",
            )
    return names


def _target(names: list[str], target: str | None) -> str:
    if target is None:
        return names[-1]
    if target not in names:
        known = ", ".join(shown(name) for name in names[:10])
        raise Rejected(
            f"There is no column {shown(target)}: name one of {known}"
            f"{'...' if len(names) > 10 else ''}.",  # noqa: PLR2004 -- as many as above
            field="config.target",
        )
    return target


def _filled(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column, in which nothing is missing."""
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise Rejected(
            f"Row {row} has nothing in the column {shown(name)}: fill it in, or leave "
            "the row or the column out.",
            field="source.name",
        )
    return column


def _values(name: str, column: pa.ChunkedArray) -> Array:
    """Return numbers or words, (N,)."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(name, column.cast(kind.value_type))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(column.to_numpy())
    if pa.types.is_boolean(kind):
        return np.array(["yes" if value else "no" for value in column.to_pylist()])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _words(name, column)
    raise Rejected(
        f"The column {shown(name)} holds values of the type {shown(str(kind))}: turn "
        "them into numbers or words, or leave the column out.",
        field="source.name",
    )


def _words(name: str, column: pa.ChunkedArray) -> Array:
    longest = max(map(len, column.unique().to_pylist()), default=0)
    if longest > LONGEST_NAME:
        raise Rejected(
            f"The column {shown(name)} holds texts of more than {LONGEST_NAME} "
            "characters: leave it out.",
            field="source.name",
        )
    return np.asarray(column.to_pylist(), dtype=f"U{max(1, longest)}")


def _numbers(name: str, column: pa.ChunkedArray) -> tuple[Array, list[str]]:
    """Return the numbers that stand for a column, (N, k), and what each is called."""
    values = _values(name, column)
    if values.dtype.kind in "iuf":
        return values.astype(np.float32)[:, None], [name]
    words: Any = np.unique(values)
    if len(words) > MOST_WORDS:
        raise Rejected(
            f"The column {shown(name)} holds {len(words)} different words: use at most "
            f"{MOST_WORDS}, or leave the column out.",
            field="source.name",
        )
    ones = (values[:, None] == words[None, :]).astype(np.float32)
    return ones, [f"{name}={word}" for word in words]
