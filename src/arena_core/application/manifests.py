"""`checkpoint.json`, parsed by type and put into the words of the domain.

Every refusal is a `Rejected` whose `field` is the path within the file, such as
`signature.inputs 0.dtype`.
"""

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec

from arena_core.application import consistency, spaces, strict_json
from arena_core.application.filenames import check_name, shown
from arena_core.domain.checkpoint import (
    DTYPES,
    Head,
    Manifest,
    Normaliser,
    Signature,
    Space,
    TensorSpec,
)
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import Family, trimmed

FORMAT_VERSION = 1
MOST_BYTES = 1 << 20
MOST_LEVELS = 32
MOST_TENSORS = 64
MOST_AXES = 8
LONGEST_AXIS = 2**31 - 1
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")
WEIGHTS_SUFFIX = ".onnx"
PICKLES = frozenset(
    {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".zip", ".joblib", ".mar",
     ".dill", ".ts", ".torchscript", ".jit"}
)  # fmt: skip
"""Suffixes of what is a pickle, or usually holds one."""

E = TypeVar("E", bound=Enum)


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An object in which every key is known."""


class _Tensor(_Strict, frozen=True):
    name: str
    dtype: str
    shape: list[int | None]


class _Signature(_Strict, frozen=True):
    inputs: list[_Tensor]
    outputs: list[_Tensor]


class _Normaliser(_Strict, frozen=True):
    mean: list[float]
    variance: list[float]
    epsilon: float = 1e-8
    clip: float | None = None


class _Framework(msgspec.Struct, frozen=True):
    name: str
    version: str


class _Checkpoint(_Strict, frozen=True):
    format_version: int
    algorithm: str
    family: str
    framework: _Framework
    weights: str
    signature: _Signature
    head: str
    observation_space: dict[str, Any] | None = None
    action_space: dict[str, Any] | None = None
    normaliser: _Normaliser | None = None
    provenance: dict[str, Any] = {}


class _Version(msgspec.Struct, frozen=True):
    """All that is read before it is certain that the rest can be."""

    format_version: int


def parse(data: bytes) -> Manifest:
    """Return what `data` say, with `golden` false.  Raises `Rejected`."""
    if len(data) > MOST_BYTES:
        raise TooLarge(f"It has {len(data)} bytes: use at most {MOST_BYTES}.")
    obj = strict_json.decode(data, most_levels=MOST_LEVELS)
    if strict_json.convert(obj, _Version).format_version != FORMAT_VERSION:
        raise Rejected(
            f"The format_version must be {FORMAT_VERSION}, the only one that this "
            "release reads: write that one, or update the server.",
            field="format_version",
        )
    manifest = _manifest(strict_json.convert(obj, _Checkpoint))
    consistency.check(manifest)
    return manifest


def check_no_pickle(name: str, *, field: str) -> None:
    """Raise `Rejected` if the file is of a kind that is, or may hold, a pickle."""
    if PurePosixPath(name).suffix.lower() in PICKLES:
        raise Rejected(
            f"The file {shown(name)} may hold a pickle, and pickles are not opened "
            "here, for that would run whatever its author put in: export the weights "
            "to ONNX.",
            field=field,
        )


# --- into the words of the domain ------------------------------------------------


def _manifest(stored: _Checkpoint) -> Manifest:
    return Manifest(
        format_version=stored.format_version,
        algorithm=trimmed(stored.algorithm, field="algorithm"),
        family=_choice(Family, stored.family, field="family"),
        weights=_weights(stored.weights),
        signature=Signature(
            _tensors(stored.signature.inputs, "signature.inputs"),
            _tensors(stored.signature.outputs, "signature.outputs"),
        ),
        head=_choice(Head, stored.head, field="head"),
        observation_space=_space(stored.observation_space, "observation_space"),
        action_space=_space(stored.action_space, "action_space"),
        normaliser=_normaliser(stored.normaliser),
    )


def _choice(choices: type[E], value: str, *, field: str) -> E:
    for choice in choices:
        if choice.value == value:
            return choice
    known = ", ".join(c.value for c in choices)
    raise Rejected(
        f"The {field} {shown(value)} is not known: use one of {known}.", field=field
    )


def _weights(name: str) -> str:
    check_name(name, field="weights")
    check_no_pickle(name, field="weights")
    if PurePosixPath(name).suffix != WEIGHTS_SUFFIX:
        raise Rejected(
            f"The weights {shown(name)} are of a kind that this release cannot load: "
            f"export them to ONNX, in a file whose name ends in {WEIGHTS_SUFFIX}.",
            field="weights",
        )
    return name


def _tensors(tensors: Sequence[_Tensor], path: str) -> tuple[TensorSpec, ...]:
    if not 0 < len(tensors) <= MOST_TENSORS:
        raise Rejected(
            f"The {path} has {len(tensors)} entries: give 1 to {MOST_TENSORS}.",
            field=path,
        )
    specs = tuple(_tensor(t, f"{path} {i}") for i, t in enumerate(tensors))
    if len({spec.name for spec in specs}) < len(specs):
        raise Rejected(f"The {path} has a name twice: name each once.", field=path)
    return specs


def _tensor(tensor: _Tensor, path: str) -> TensorSpec:
    if not TENSOR_NAME.fullmatch(tensor.name):
        raise Rejected(
            f"The {path}.name {shown(tensor.name)} is not allowed: use 1 to 200 "
            "letters, digits, dots, colons, slashes, underscores and hyphens.",
            field=f"{path}.name",
        )
    if tensor.dtype not in DTYPES:
        raise Rejected(
            f"The {path}.dtype {shown(tensor.dtype)} is not supported: "
            f"use one of {', '.join(DTYPES)}.",
            field=f"{path}.dtype",
        )
    return TensorSpec(tensor.name, tensor.dtype, _shape(tensor.shape, f"{path}.shape"))


def _shape(axes: Sequence[int | None], path: str) -> tuple[int | None, ...]:
    if not 0 < len(axes) <= MOST_AXES or axes[0] is not None:
        raise Rejected(
            f"The {path} must begin with null, the free batch axis, and have at most "
            f"{MOST_AXES} axes.",
            field=path,
        )
    if not all(axis is None or 0 < axis <= LONGEST_AXIS for axis in axes):
        raise Rejected(
            f"The {path} has an axis that is not from 1 to {LONGEST_AXIS}: "
            "use such numbers, or null for a free axis.",
            field=path,
        )
    return tuple(axes)


def _space(obj: object, path: str) -> Space | None:
    return None if obj is None else spaces.from_json(obj, field=path)


def _normaliser(stored: _Normaliser | None) -> Normaliser | None:
    if stored is None:
        return None
    least = min(stored.variance, default=0.0)
    if least < 0:
        raise Rejected(
            "The normaliser.variance has a negative number: none can be.",
            field="normaliser.variance",
        )
    if stored.epsilon < 0 or least + stored.epsilon == 0:
        raise Rejected(
            "The normaliser.epsilon must be greater than 0, or 0 if every variance is "
            "greater than 0.",
            field="normaliser.epsilon",
        )
    if stored.clip is not None and stored.clip <= 0:
        raise Rejected(
            "The normaliser.clip must be greater than 0, or null for no clipping.",
            field="normaliser.clip",
        )
    return Normaliser(
        tuple(stored.mean), tuple(stored.variance), stored.epsilon, stored.clip
    )
