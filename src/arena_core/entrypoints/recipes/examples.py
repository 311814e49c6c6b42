"""Examples to learn from, as they stand in a file."""

from typing import Literal, TypeAlias

from attrs import frozen

from arena_core.application.ports import Array

Task: TypeAlias = Literal["classification", "regression"]
CLASSIFICATION: Task = "classification"
REGRESSION: Task = "regression"


@frozen(eq=False)
class Examples:
    """Numbers (N, ...), and what belongs to each row: numbers or words, (N,)."""

    inputs: Array
    targets: Array
    columns: tuple[str, ...] = ()
    """What each number of a row is; empty for images."""
    classes: tuple[str, ...] = ()
    """What the targets 0, 1, 2... are called, if it is known."""
    task: Task | None = None
    """What the targets are for, if it is known."""
