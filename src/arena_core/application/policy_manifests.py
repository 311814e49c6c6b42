"""One policy as `checkpoint.json` has it, put into the words of the domain.

Every refusal is a `Rejected` whose `field` is the path within the file, such as
`signature.inputs 0.dtype`, or `policies.speaker.head` if there are several.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec

from arena_core.application import space_json, strict_json
from arena_core.application.filenames import check_name, shown
from arena_core.domain.checkpoint import (
    DTYPES,
    ActionTransform,
    Decoder,
    Dict,
    Head,
    HiddenState,
    LeafSpace,
    Normaliser,
    Policy,
    Signature,
    Space,
    Squash,
    TensorSpec,
    Tuple,
)
from arena_core.domain.errors import Rejected

MOST_TENSORS = 64
MOST_AXES = 8
LONGEST_AXIS = 2**31 - 1
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")
PICKLES = frozenset(
    {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".zip", ".joblib", ".mar",
     ".dill", ".ts", ".torchscript", ".jit"}
)  # fmt: skip
"""Suffixes of what is a pickle, or usually holds one."""

E = TypeVar("E", bound=Enum)


class Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """An object in which every key is known."""


class StoredTensor(Strict, frozen=True, kw_only=True):
    name: str
    dtype: str
    shape: list[int | None]


class StoredSignature(Strict, frozen=True, kw_only=True):
    inputs: list[StoredTensor]
    outputs: list[StoredTensor]


class StoredNormaliser(Strict, frozen=True, kw_only=True):
    mean: list[float]
    variance: list[float]
    epsilon: float = 1e-8
    clip: float | None = None


class StoredTransform(Strict, frozen=True, kw_only=True):
    squash: str | None = None
    rescale_from: tuple[float, float] | None = None


class StoredHiddenState(Strict, frozen=True, kw_only=True):
    input: str
    output: str


class StoredPolicy(Strict, frozen=True, kw_only=True):
    weights: str
    signature: StoredSignature
    head: str
    observation_space: dict[str, Any] | None = None
    action_space: dict[str, Any] | None = None
    normaliser: dict[str, Any] | None = None
    action_transform: StoredTransform | None = None
    log_std: str | None = None
    hidden_state: list[StoredHiddenState] = []


class StoredDecoder(Strict, frozen=True, kw_only=True):
    weights: str
    signature: StoredSignature


def policy(stored: StoredPolicy, at: str) -> Policy:
    """Return the policy; `at` is what its fields come after, such as `policies.a.`."""
    observations = _space(stored.observation_space, f"{at}observation_space")
    return Policy(
        weights=_weights(stored.weights, f"{at}weights"),
        signature=_signature(stored.signature, f"{at}signature"),
        head=choice(Head, stored.head, field=f"{at}head"),
        observation_space=observations,
        action_space=_leaf_space(stored.action_space, f"{at}action_space"),
        normalisers=_normalisers(stored.normaliser, observations, f"{at}normaliser"),
        transform=_transform(stored.action_transform, f"{at}action_transform"),
        log_std=stored.log_std,
        hidden_states=tuple(
            HiddenState(state.input, state.output) for state in stored.hidden_state
        ),
    )


def decoder(stored: StoredDecoder) -> Decoder:
    return Decoder(
        _weights(stored.weights, "decoder.weights"),
        _signature(stored.signature, "decoder.signature"),
    )


def choice(choices: type[E], value: str, *, field: str) -> E:
    """Return the member of `choices` with this value.  Raises `Rejected`."""
    for member in choices:
        if member.value == value:
            return member
    known = ", ".join(c.value for c in choices)
    raise Rejected(
        f"The {field} {shown(value)} is not known: use one of {known}.", field=field
    )


def check_no_pickle(name: str, *, field: str) -> None:
    """Raise `Rejected` if the file is of a kind that is, or may hold, a pickle."""
    if PurePosixPath(name).suffix.lower() in PICKLES:
        raise Rejected(
            f"The file {shown(name)} may hold a pickle, and pickles are not opened "
            "here, for that would run whatever its author put in: import it with "
            "arena-core checkpoint import, or export the weights to ONNX.",
            field=field,
        )


def _weights(name: str, field: str) -> str:
    check_name(name, field=field)
    check_no_pickle(name, field=field)
    return name


# --- tensors -----------------------------------------------------------------------


def _signature(stored: StoredSignature, path: str) -> Signature:
    return Signature(
        _tensors(stored.inputs, f"{path}.inputs"),
        _tensors(stored.outputs, f"{path}.outputs"),
    )


def _tensors(tensors: Sequence[StoredTensor], path: str) -> tuple[TensorSpec, ...]:
    if not 0 < len(tensors) <= MOST_TENSORS:
        raise Rejected(
            f"The {path} has {len(tensors)} entries: give 1 to {MOST_TENSORS}.",
            field=path,
        )
    specs = tuple(_tensor(t, f"{path} {i}") for i, t in enumerate(tensors))
    if len({spec.name for spec in specs}) < len(specs):
        raise Rejected(f"The {path} has a name twice: name each once.", field=path)
    return specs


def _tensor(tensor: StoredTensor, path: str) -> TensorSpec:
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


# --- spaces, and what is done before and after the weights --------------------------


def _space(obj: object, path: str) -> Space | None:
    return None if obj is None else space_json.from_json(obj, field=path)


def _leaf_space(obj: object, path: str) -> LeafSpace | None:
    space = _space(obj, path)
    if isinstance(space, Dict | Tuple):
        raise Rejected(
            f"The {path} must be a Box, Discrete, MultiDiscrete or MultiBinary: an "
            "action is one array.",
            field=path,
        )
    return space


def _transform(stored: StoredTransform | None, path: str) -> ActionTransform:
    if stored is None:
        return ActionTransform()
    squash = stored.squash
    return ActionTransform(
        None if squash is None else choice(Squash, squash, field=f"{path}.squash"),
        stored.rescale_from,
    )


def _normalisers(
    obj: Mapping[str, Any] | None, observations: Space | None, path: str
) -> Mapping[str, Normaliser]:
    if obj is None:
        return {}
    if not isinstance(observations, Dict | Tuple):
        return {"": _normaliser(obj, path)}
    return {name: _normaliser(part, f"{path}.{name}") for name, part in obj.items()}


def _normaliser(obj: object, path: str) -> Normaliser:
    stored = strict_json.convert(obj, StoredNormaliser, at=path)
    least = min(stored.variance, default=0.0)
    if least < 0:
        raise Rejected(
            f"The {path}.variance has a negative number: none can be.",
            field=f"{path}.variance",
        )
    if stored.epsilon < 0 or least + stored.epsilon == 0:
        raise Rejected(
            f"The {path}.epsilon must be greater than 0, or 0 if every variance is "
            "greater than 0.",
            field=f"{path}.epsilon",
        )
    if stored.clip is not None and stored.clip <= 0:
        raise Rejected(
            f"The {path}.clip must be greater than 0, or null for no clipping.",
            field=f"{path}.clip",
        )
    return Normaliser(
        tuple(stored.mean), tuple(stored.variance), stored.epsilon, stored.clip
    )
