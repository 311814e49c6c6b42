"""Datasets by name: read, checked, and split into what is learned and what is held."""

from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from attrs import frozen

from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown
from arena_core.entrypoints.recipes import (
    dataset_arrays,
    dataset_files,
    dataset_tables,
)
from arena_core.entrypoints.recipes.examples import (
    CLASSIFICATION,
    REGRESSION,
    Examples,
    Task,
)

FEWEST_ROWS = 20
MOST_CLASSES = 1_000
MOST_NAMED = 100
"""In the log."""
FEW = 20
"""Whole numbers of at most so many kinds are classes, if the task is auto."""

Asked: TypeAlias = Literal["auto", "classification", "regression"]


@frozen
class Choice:
    """Which dataset is asked for, and what is to be learned from it."""

    name: str
    task: Asked = "auto"
    target: str | None = None


@frozen(eq=False)
class Dataset:
    """Rows with what is to be answered to each: (N, ...) float32 and (N,).

    The targets are places in `classes`, int64, or numbers, float32.
    """

    name: str
    sha256: str
    """Of the file; of the arrays where the dataset is shipped."""
    inputs: Array
    targets: Array
    columns: tuple[str, ...]
    """What each number of a row is; empty for images."""
    classes: tuple[str, ...]
    """Empty in a regression."""

    @property
    def task(self) -> Task:
        return CLASSIFICATION if self.classes else REGRESSION

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return self.inputs.shape[1:]

    @property
    def width(self) -> int:
        """How many numbers answer a row."""
        return len(self.classes) or 1

    def described(self) -> str:
        """Say what is sent and what is answered, in their order: lines of a log."""
        return "\n".join(
            f"{what}: {', '.join(map(shown, names[:MOST_NAMED]))}"
            f"{', ...' if len(names) > MOST_NAMED else ''}"
            for what, names in (("columns", self.columns), ("classes", self.classes))
            if names
        )

    def provenance(self) -> dict[str, object]:
        """Return what a bundle says of it."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "rows": len(self.inputs),
            "columns": list(self.columns),
            "classes": list(self.classes),
        }


@frozen(eq=False)
class Part:
    """Some rows of a dataset."""

    inputs: Array
    targets: Array

    def __len__(self) -> int:
        return len(self.inputs)


@frozen(eq=False)
class Split:
    train: Part
    validation: Part


def load(choice: Choice, folder: Path | None) -> Dataset:
    """Return the dataset of that name; `folder` is the operator's, if there is one.

    Raises `Rejected` or `TooLarge`, in one sentence, for what cannot be learned from.
    """
    kind = dataset_files.suffix(choice.name)
    if choice.target is not None and kind not in dataset_files.TABLES:
        raise Rejected(
            f"The dataset {shown(choice.name)} has one target, and its columns cannot "
            "be chosen as that: leave config.target out, or use a table.",
            field="config.target",
        )
    path = dataset_files.located(choice.name, folder)
    if path is None:
        examples = _shipped(choice.name)
        digest = sha256(examples.inputs.tobytes() + examples.targets.tobytes())
    else:
        data = _content(choice.name, path)
        digest = sha256(data)
        examples = _parsed(choice, data)
    _check(examples.inputs, choice.name)
    targets, classes = _answers(examples, choice.task)
    return Dataset(
        choice.name,
        digest.hexdigest(),
        np.ascontiguousarray(examples.inputs, np.float32),
        targets,
        examples.columns,
        classes,
    )


def split(dataset: Dataset, share: float) -> Split:
    """Hold `share` of the rows back: always the same ones.

    A row's place is that of its own digest, and no seed has a say.  So what one stage
    holds back was not trained on by the stage before, nor by whoever wrote the weights
    to begin with.
    """
    order = np.argsort(_places(dataset.inputs), kind="stable")
    held = max(1, round(share * len(order)))
    train, validation = (
        Part(dataset.inputs[rows], dataset.targets[rows])
        for rows in (np.sort(order[held:]), np.sort(order[:held]))
    )
    return Split(train, validation)


def _places(rows: Array) -> list[bytes]:
    """Return by what rows are ordered; those that are alike lie anywhere."""
    seen: Counter[bytes] = Counter()
    places = []
    for row in rows:
        digest = sha256(row).digest()
        seen[digest] += 1
        places.append(sha256(digest + seen[digest].to_bytes(8, "big")).digest())
    return places


# --- where it comes from -----------------------------------------------------------


def _shipped(name: str) -> Examples:
    from sklearn import datasets  # noqa: PLC0415 -- slow to import

    found = getattr(datasets, f"load_{name}")()
    classes = tuple(str(c) for c in getattr(found, "target_names", ()))
    images = getattr(found, "images", None)
    return Examples(
        found.data if images is None else images,
        found.target,
        () if images is not None else tuple(map(str, found.feature_names)),
        classes,
        REGRESSION if not classes else CLASSIFICATION,
    )


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise dataset_files.not_there(name) from error


def _parsed(choice: Choice, data: bytes) -> Examples:
    match dataset_files.suffix(choice.name):
        case ".csv":
            return dataset_tables.csv(data, choice.target)
        case ".parquet":
            return dataset_tables.parquet(data, choice.target)
        case _:
            return dataset_arrays.npz(data)


# --- whether it can be learned from ------------------------------------------------


def _check(inputs: Array, name: str) -> None:
    if len(inputs) < FEWEST_ROWS:
        raise Rejected(
            f"The dataset {shown(name)} has {len(inputs)} rows: give at least "
            f"{FEWEST_ROWS}.",
            field="source.name",
        )
    finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
    if not finite.all():
        raise Rejected(
            f"Row {int(finite.argmin()) + 1} of the dataset {shown(name)} has a number "
            "that is not finite: fill it in, or leave the row out.",
            field="source.name",
        )


def _answers(examples: Examples, asked: Asked) -> tuple[Array, tuple[str, ...]]:
    """Return the targets, and the classes that they are places in, if there are any."""
    values = examples.targets
    words = values.dtype.kind not in "iuf"
    if (asked if asked != "auto" else _task(examples)) == REGRESSION:
        if words:
            raise Rejected(
                "The target holds words, and a regression learns numbers: choose "
                "another target, or the task classification.",
                field="config.task",
            )
        return _numbers(values), ()
    if not words:
        _numbers(values)  # what is missing is no class
    kinds, places = np.unique(values, return_inverse=True)
    if not 1 < len(kinds) <= MOST_CLASSES:
        raise Rejected(
            f"The target has {len(kinds)} classes: there must be 2 to {MOST_CLASSES}.",
            field="config.target",
        )
    return places.astype(np.int64), examples.classes or tuple(map(str, kinds))


def _task(examples: Examples) -> Task:
    if examples.task is not None:
        return examples.task
    values = examples.targets
    if values.dtype.kind == "f":
        return REGRESSION
    few = values.dtype.kind not in "iu" or len(np.unique(values)) <= FEW
    return CLASSIFICATION if few else REGRESSION


def _numbers(values: Array) -> Array:
    numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise Rejected(
            f"The target of row {int(np.isfinite(numbers).argmin()) + 1} is not "
            "finite: fill it in, or leave the row out.",
            field="config.target",
        )
    return numbers
