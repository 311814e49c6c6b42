"""Which input of a model is which array of an observation, and what its outputs are.

Only what can be one thing alone is inferred; the rest must be written down.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from attrs import evolve

from arena_core.application import spaces
from arena_core.application.conversion import SPACES_FILE
from arena_core.application.filenames import shown
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Head,
    HiddenState,
    LeafSpace,
    Space,
    TensorSpec,
)
from arena_core.domain.errors import Rejected

_VALUE_BASED = ("dqn", "cqn")
"""How the names of algorithms end that learn what an action is worth."""


def arrange(
    space: Space, inputs: Sequence[TensorSpec]
) -> tuple[Space, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the space, the inputs that observe, by their paths, and the others.

    The first inputs are the arrays of an observation: each is called like its part
    of the space, or is the only one with its shape.  The rest are hidden states.  The
    space comes in the order of the inputs.  Raises `Rejected` if they do not fit.
    """
    leaves = spaces.leaves(space)
    if len(inputs) < len(leaves):
        raise Rejected(
            f"The model has {len(inputs)} inputs, but an observation is made of "
            f"{len(leaves)} arrays: write another observation_space, or export a "
            "model that takes them all.",
            field="observation_space",
        )
    observed, hidden = inputs[: len(leaves)], inputs[len(leaves) :]
    paths = _by_name(leaves, observed) or _by_shape(leaves, observed)
    if paths is None:
        raise Rejected(
            f"The inputs {_listed(spec.name for spec in observed)} cannot be told "
            f"apart: name them in the model like {_listed(leaves)}, the parts of the "
            "observation_space.",
            field="observation_space",
        )
    named = (
        _narrowed(spec, path, leaves[path])
        for spec, path in zip(observed, paths, strict=True)
    )
    return _in_order(space, paths), tuple(named), tuple(hidden)


def infer_hidden_states(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[HiddenState, ...]:
    """Return which outputs are the next hidden states of `inputs`, in their order.

    It is inferred if the outputs after the first have just one run of as many with
    the same dtypes and shapes.
    """
    wanted = [(spec.dtype, spec.shape) for spec in inputs]
    runs = [
        outputs[begin : begin + len(inputs)]
        for begin in range(1, len(outputs) - len(inputs) + 1)
    ]
    fitting = [run for run in runs if [(s.dtype, s.shape) for s in run] == wanted]
    if len(fitting) != 1:
        raise Rejected(
            f"The model takes {_listed(spec.name for spec in inputs)} beside the "
            f"observation: write hidden_state into {SPACES_FILE}, a list of objects "
            "with an input and the output that it becomes.",
            field="hidden_state",
        )
    pairs = zip(inputs, fitting[0], strict=True)
    return tuple(HiddenState(before.name, after.name) for before, after in pairs)


def infer_head(space: LeafSpace | None, first: TensorSpec, algorithm: str) -> Head:
    """Return what the first output means.  Raises `Rejected` if that is not certain."""
    if space is None:
        return Head.OUTPUT
    if isinstance(space, Box):
        return Head.ACTION
    floating = first.dtype.startswith("float")
    if floating and first.shape[1:] == spaces.scores(space):
        is_value = algorithm.lower().endswith(_VALUE_BASED)
        return Head.Q_VALUES if is_value else Head.LOGITS
    if not floating and first.shape[1:] == spaces.shape(space):
        return Head.ACTION
    raise Rejected(
        f"The first output, of {first.dtype}, does not fit the action_space: write "
        "another, or export a model that returns logits, values or actions first.",
        field="head",
    )


# --- inputs ----------------------------------------------------------------------


def _by_name(
    leaves: Mapping[str, LeafSpace], observed: Sequence[TensorSpec]
) -> list[str] | None:
    """Return the path of each input, if each is called like one, and like no other.

    Torch calls an input that is part of a dict by the names of both.
    """
    if [*leaves] == [""]:
        return [""]
    plain = {path: re.sub(r"[^A-Za-z0-9_]", "_", path) for path in leaves}
    paths = []
    for spec in observed:
        found = [
            path
            for path, name in plain.items()
            if spec.name in {path, name} or spec.name.endswith(f"_{name}")
        ]
        if len(found) != 1:
            return None
        paths += found
    return paths if len({*paths}) == len(leaves) else None


def _by_shape(
    leaves: Mapping[str, LeafSpace], observed: Sequence[TensorSpec]
) -> list[str] | None:
    paths = []
    for spec in observed:
        found = [
            path for path, leaf in leaves.items() if _fits(spec, spaces.shape(leaf))
        ]
        if len(found) != 1:
            return None
        paths += found
    return paths if len({*paths}) == len(leaves) else None


def _fits(spec: TensorSpec, shape: Sequence[int]) -> bool:
    return len(spec.shape) == len(shape) + 1 and all(
        size in {None, wanted}
        for size, wanted in zip(spec.shape[1:], shape, strict=True)
    )


def _narrowed(spec: TensorSpec, path: str, leaf: LeafSpace) -> TensorSpec:
    """Return the input by its path, with the shape that the space says."""
    shape = spaces.shape(leaf)
    if not _fits(spec, shape):
        raise Rejected(
            f"The input {shown(spec.name)} does not fit its part of the "
            f"observation_space, whose shape is {_spelled(shape)}: write another.",
            field="observation_space",
        )
    return evolve(spec, name=path or spec.name, shape=(spec.shape[0], *shape))


def _in_order(space: Space, paths: Sequence[str]) -> Space:
    """Return `space` with its parts in the order of `paths`.

    The order of a Dict means nothing to callers, who give its parts by their keys.
    """
    if list(spaces.leaves(space)) == list(paths):
        return space
    if isinstance(space, Dict):
        keys = {spaces.below("", key): key for key in space.spaces}
        if keys.keys() == {*paths}:
            return Dict({keys[path]: space.spaces[keys[path]] for path in paths})
    raise Rejected(
        f"The model takes its inputs in the order {_listed(paths)}: write the parts of "
        "the observation_space in that order, or export the model in the other.",
        field="observation_space",
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))


def _spelled(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "that of one number"
