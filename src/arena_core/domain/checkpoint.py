"""What a checkpoint says of itself: its manifest, and the spaces it was trained in.

The bundle that carries it, and its JSON form, are described in `docs/bundle.md`.
"""

from enum import Enum
from typing import TypeAlias

from attrs import field, frozen

from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family, shown

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip
"""Names of NumPy's fixed-size numeric dtypes, the only ones that travel."""


def _dtype(_: object, attribute: object, value: str) -> None:
    del attribute
    if value not in DTYPES:
        raise Rejected(
            f"The dtype {shown(value)} is not supported: "
            f"use one of {', '.join(DTYPES)}.",
            field="dtype",
        )


@frozen
class Box:
    """A box in R^n.  A bound of None is infinite; bounds are in C order, flat."""

    shape: tuple[int, ...]
    dtype: str = field(validator=_dtype)
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@frozen
class Discrete:
    """The integers `start`, ..., `start + n - 1`."""

    n: int
    start: int = 0
    dtype: str = field(default="int64", validator=_dtype)


Space: TypeAlias = Box | Discrete


class Head(Enum):
    """What the first output of the weights means, hence how an action comes of it.

    LOGITS and Q_VALUES: float (B, n), the greedy action is the first of the largest.
    ACTION: the action itself, (B, ...) as the action space has it; clipped to a Box.
    OUTPUT: a prediction, passed on as it is (supervised).
    """

    LOGITS = "logits"
    Q_VALUES = "q_values"
    ACTION = "action"
    OUTPUT = "output"


@frozen
class TensorSpec:
    """One input or output of the weights.

    `shape` begins with the batch axis; None is a free axis.
    """

    name: str
    dtype: str = field(validator=_dtype)
    shape: tuple[int | None, ...]


@frozen
class Signature:
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@frozen
class Normaliser:
    """How observations are prepared before the weights see them.

    y = clip((x - mean) / sqrt(variance + epsilon), -clip, clip); each of `mean`
    and `variance` has one number for each element of the observation, in C order.
    """

    mean: tuple[float, ...]
    variance: tuple[float, ...]
    epsilon: float = 1e-8
    clip: float | None = None


@frozen
class Manifest:
    """The content of `checkpoint.json`, understood."""

    format_version: int
    algorithm: str
    family: Family
    weights: str
    """The name of the file in the bundle that holds the weights."""
    signature: Signature
    head: Head
    observation_space: Space | None = None
    action_space: Space | None = None
    normaliser: Normaliser | None = None
    golden: bool = False
    """Whether the bundle holds a golden trace, `golden.npz`."""
