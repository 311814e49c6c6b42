"""Converting what training code has saved into a checkpoint bundle.

A converter reads a foreign format, which may be a pickle, so it runs in a process of
its own that can harm nothing (`adapters/converters/`).  It is given a folder with the
files of an order, and answers with the parts of a bundle.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from attrs import frozen

from arena_core.application.golden import GoldenTrace

MODEL_FILE = "model"
"""What is to be converted, whatever it was called."""
SPACES_FILE = "spaces.json"
"""What the model itself cannot say: keys of `checkpoint.json`, its spaces above all."""
STATISTICS_FILE = "statistics"
"""Running means and variances kept in a file of their own, such as VecNormalize's."""
TRACE_FILE = "golden.npz"
"""A golden trace that the training code has recorded itself."""


class Format(Enum):
    """How a foreign checkpoint was saved."""

    SB3 = "sb3"
    AGILERL = "agilerl"
    TORCH = "torch"
    ONNX = "onnx"


@frozen
class Options:
    """What whoever converts may say about it."""

    algorithm: str | None = None
    """Its algorithm, in place of what the files say; None: as they say."""
    channels_last: bool = False
    """Whether callers send images as (height, width, channels), though the network
    was trained on (channels, height, width)."""


@frozen(eq=False)
class Converted:
    """The parts of a bundle."""

    checkpoint: Mapping[str, Any]
    """The content of `checkpoint.json`."""
    weights: Mapping[str, bytes]
    """The files of weights, by name."""
    trace: GoldenTrace


Report: TypeAlias = Callable[[str], None]
"""Takes a few words on what is being done now, such as `reading the weights`."""


class Convert(Protocol):
    """One foreign format.  Called in the limited process only."""

    def __call__(self, folder: Path, options: Options, report: Report) -> Converted:
        """Convert `folder / MODEL_FILE`; other files of the order may be beside it.

        Raises `Rejected`, in one sentence, for what it cannot convert.
        """
        ...


class Converter(Protocol):
    """Runs conversions where they cannot harm this process."""

    def __call__(
        self,
        format: Format,  # noqa: A002 -- the field's word
        order: Path,
        bundle: Path,
        options: Options,
        report: Report,
    ) -> None:
        """Write the bundle of the order in the folder `order` into `bundle`.

        `bundle` must not exist; it does after success only.  Raises `Rejected` with
        the reason, also if the conversion took too much time or memory.  Stops
        early, and raises what it raised, if `report` raises.
        """
        ...
