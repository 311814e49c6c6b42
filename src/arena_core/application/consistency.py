"""Whether the parts of a manifest agree with each other.

Every refusal is a `Rejected` whose `field` is the path within `checkpoint.json`.
"""

import math
from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np

from arena_core.application import spaces
from arena_core.application.space_json import MAX_ELEMENTS
from arena_core.domain.algorithms import is_multi_agent, is_recurrent
from arena_core.domain.checkpoint import (
    ActionTransform,
    Box,
    Discrete,
    Head,
    LeafSpace,
    Manifest,
    MultiBinary,
    MultiDiscrete,
    Normaliser,
    Policy,
    TensorSpec,
)
from arena_core.domain.errors import Rejected, TooLarge
from arena_core.domain.values import Family


def check(manifest: Manifest) -> None:
    """Raise `Rejected` unless family, heads, spaces, signatures and the rest agree."""
    for name, policy in manifest.policies.items():
        at = f"policies.{name}." if manifest.agents else ""
        _check_inputs(policy, at)
        _check_hidden_states(policy, at)
        if manifest.family is Family.RL:
            _check_actions(policy, at)
        _check_normalisers(policy, at)
        _check_extras(policy, at)
    _check_family(manifest)
    _check_name(manifest)
    _check_files(manifest)


def _check_name(manifest: Manifest) -> None:
    """Refuse a checkpoint that is not of the shape that its algorithm's name says."""
    if is_recurrent(manifest.algorithm) and not manifest.is_recurrent:
        raise Rejected(
            "The hidden_state is missing: a policy of this algorithm is recurrent, "
            "and answers wrongly without.",
            field="hidden_state",
        )
    if is_multi_agent(manifest.algorithm) and not manifest.is_multi_agent:
        raise Rejected(
            "The agents are missing: this algorithm has several, so name each with "
            "its policy.",
            field="agents",
        )


def _check_files(manifest: Manifest) -> None:
    for part in (*manifest.policies.values(), manifest.decoder):
        if part is not None and manifest.weights[part.weights] != part.signature:
            raise Rejected(
                "One file of weights has two signatures: give the same, or another "
                "file.",
                field="weights",
            )


def _check_family(manifest: Manifest) -> None:
    family = manifest.family
    if (manifest.decoder is not None) != (family is Family.LATENT):
        raise Rejected(
            f"A decoder goes with the family {Family.LATENT.value} and no other: add "
            "it, or take it away.",
            field="decoder",
        )
    if family is Family.RL:
        return
    if manifest.is_multi_agent or manifest.is_recurrent:
        raise Rejected(
            f"Several agents and hidden states go with the family {Family.RL.value} "
            "only.",
            field="family",
        )
    if manifest.policy.head is not Head.OUTPUT:
        raise Rejected(
            f"The head must be {Head.OUTPUT.value} for a checkpoint of the family "
            f"{family.value}.",
            field="head",
        )
    _check_decoder(manifest)


def _check_decoder(manifest: Manifest) -> None:
    if manifest.decoder is None:
        return
    inputs = manifest.decoder.signature.inputs
    latent = manifest.policy.signature.outputs[0]
    wanted = (latent.dtype, latent.shape)
    if [(spec.dtype, spec.shape) for spec in inputs] != [wanted]:
        raise Rejected(
            "The decoder must have one input, of the dtype and the shape of the "
            "policy's first output.",
            field="decoder.signature.inputs",
        )


# --- observations and hidden states --------------------------------------------------


def _check_inputs(policy: Policy, at: str) -> None:
    inputs, hidden = policy.signature.inputs, policy.hidden_states
    observed = inputs[: len(inputs) - len(hidden)]
    names = [spec.name for spec in inputs[len(observed) :]]
    if names != [state.input for state in hidden]:
        raise Rejected(
            "The last inputs must be those of hidden_state, in its order.",
            field=f"{at}hidden_state",
        )
    space = policy.observation_space
    expected = {"": None} if space is None else dict(spaces.leaves(space))
    if len(observed) != len(expected):
        raise Rejected(
            f"The weights must have one input for each array of an observation, "
            f"which are {len(expected)}, and for each hidden state.",
            field=f"{at}signature.inputs",
        )
    for place, (spec, (path, leaf)) in enumerate(
        zip(observed, expected.items(), strict=True)
    ):
        if path and spec.name != path:
            raise Rejected(
                f"Input {place} must be called {path}, like its part of the "
                "observation_space.",
                field=f"{at}signature.inputs {place}.name",
            )
        if leaf is not None:
            _check_observed(spec, leaf, f"{at}signature.inputs {place}")


def _check_observed(spec: TensorSpec, leaf: LeafSpace, field: str) -> None:
    shape = spaces.shape(leaf)
    fits = len(spec.shape) == 1 + len(shape) and all(
        axis in (None, length)
        for axis, length in zip(spec.shape[1:], shape, strict=True)
    )
    if not fits:
        raise Rejected(
            "This input does not fit the observation_space: its shape must be "
            f"{_spelled(shape)}.",
            field=f"{field}.shape",
        )
    if not _holds(np.dtype(spec.dtype), leaf):
        raise Rejected(
            f"This input cannot hold every observation: its dtype {spec.dtype} does "
            "not go with the observation_space.",
            field=f"{field}.dtype",
        )


def _holds(dtype: np.dtype[Any], leaf: LeafSpace) -> bool:
    """Say whether what fits `leaf` is the same, but for rounding, as `dtype`."""
    if dtype.kind == "f":
        return True
    least, greatest = spaces.integer_limits(dtype)
    match leaf:
        case Box():
            return np.can_cast(leaf.dtype, dtype)
        case Discrete(n=n, start=start):
            return least <= start and start + n - 1 <= greatest
        case MultiDiscrete(nvec=nvec, start=starts):
            return least <= min(starts) and all(
                start + n - 1 <= greatest for n, start in zip(nvec, starts, strict=True)
            )
        case MultiBinary():
            return True
        case _:
            assert_never(leaf)


def _check_hidden_states(policy: Policy, at: str) -> None:
    inputs = {spec.name: spec for spec in policy.signature.inputs}
    outputs = {spec.name: spec for spec in policy.signature.outputs[1:]}
    fed = [state.output for state in policy.hidden_states]
    if len(set(fed)) < len(fed):
        raise Rejected(
            "Two hidden states have the same output: give each its own.",
            field=f"{at}hidden_state",
        )
    for place, state in enumerate(policy.hidden_states):
        before, after = inputs[state.input], outputs.get(state.output)
        field = f"{at}hidden_state {place}"
        if after is None:
            raise Rejected(
                "The output of a hidden state must be one of the weights' outputs, "
                "but not the first.",
                field=field,
            )
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            raise Rejected(
                "The input and the output of a hidden state must have the same dtype "
                "and shape.",
                field=field,
            )
        if None in before.shape[1:]:
            raise Rejected(
                "The shape of a hidden state must be fixed but for the batch.",
                field=field,
            )
        if math.prod(size or 1 for size in before.shape) > MAX_ELEMENTS:
            raise TooLarge(
                f"A hidden state has more than {MAX_ELEMENTS} numbers in a row: use "
                "fewer.",
                field=field,
            )


def _check_normalisers(policy: Policy, at: str) -> None:
    space = policy.observation_space
    known = {} if space is None else spaces.leaves(space)
    inputs = {spec.name: spec for spec in policy.signature.inputs}
    for path, normaliser in policy.normalisers.items():
        field = f"{at}normaliser.{path}" if path else f"{at}normaliser"
        leaf = known.get(path)
        if not isinstance(leaf, Box):
            raise Rejected(
                "The normaliser needs an observation_space of the type Box, or its "
                "part must be one: give one, or make the normaliser null.",
                field=field,
            )
        _check_normaliser(normaliser, leaf, field)
        name = path or policy.signature.inputs[0].name
        if not inputs[name].dtype.startswith("float"):
            raise Rejected(
                "What is normalised has fractions: the dtype of its input must be one "
                "of float16, float32 and float64.",
                field=field,
            )


def _check_normaliser(normaliser: Normaliser, box: Box, field: str) -> None:
    size = math.prod(box.shape)
    for key, values in (("mean", normaliser.mean), ("variance", normaliser.variance)):
        if len(values) != size:
            raise Rejected(
                f"The {field}.{key} has {len(values)} numbers, but the array that it "
                f"is for has {size} elements: give one for each in C order.",
                field=f"{field}.{key}",
            )


# --- actions --------------------------------------------------------------------------


def _check_actions(policy: Policy, at: str) -> None:
    for key, space in (
        ("observation_space", policy.observation_space),
        ("action_space", policy.action_space),
    ):
        if space is None:
            raise Rejected(
                f"The {key} is missing: a policy of the family rl needs one.",
                field=f"{at}{key}",
            )
    assert policy.action_space is not None  # noqa: S101 -- seen above
    _check_head(policy.head, policy.action_space, at)
    _check_answer(policy, policy.action_space, at)


def _check_head(head: Head, space: LeafSpace, at: str) -> None:
    allowed: Sequence[Head]
    match space:
        case Box():
            allowed = (Head.ACTION,)
        case Discrete():
            allowed = (Head.LOGITS, Head.Q_VALUES, Head.ACTION)
        case MultiDiscrete() | MultiBinary():
            allowed = (Head.LOGITS, Head.ACTION)
        case _:
            assert_never(space)
    if head not in allowed:
        raise Rejected(
            f"The head {head.value} does not go with an action_space of the type "
            f"{type(space).__name__}: use {' or '.join(h.value for h in allowed)}.",
            field=f"{at}head",
        )


def _check_answer(policy: Policy, space: LeafSpace, at: str) -> None:
    """Refuse a first output that is no row of actions, or of their values."""
    first = policy.signature.outputs[0]
    is_action = policy.head is Head.ACTION
    shape = spaces.shape(space) if is_action else spaces.scores(space)
    if first.shape != (None, *shape):
        raise Rejected(
            "The first output does not fit the action_space: its shape must be "
            f"{_spelled(shape)}.",
            field=f"{at}signature.outputs 0.shape",
        )
    floating = first.dtype.startswith("float")
    if is_action and not isinstance(space, Box) and floating:
        raise Rejected(
            "The first output is the action itself, of whole numbers: its dtype must "
            "be an integer.",
            field=f"{at}signature.outputs 0.dtype",
        )
    if not is_action and not floating:
        raise Rejected(
            "The first output holds a value for each choice: its dtype must be one "
            "of float16, float32 and float64.",
            field=f"{at}signature.outputs 0.dtype",
        )


def _check_extras(policy: Policy, at: str) -> None:
    """Refuse a transform or a deviation that no action of a Box comes by."""
    box = policy.action_space if policy.head is Head.ACTION else None
    if policy.transform != ActionTransform():
        _check_transform(policy.transform, box, f"{at}action_transform")
    if policy.log_std is None:
        return
    outputs = {spec.name: spec for spec in policy.signature.outputs}
    deviation = outputs.get(policy.log_std)
    first = policy.signature.outputs[0]
    if not isinstance(box, Box) or deviation is None or deviation.shape != first.shape:
        raise Rejected(
            "The log_std must name an output of the shape of the first one, for an "
            "action_space of the type Box.",
            field=f"{at}log_std",
        )


def _check_transform(
    transform: ActionTransform, box: LeafSpace | None, field: str
) -> None:
    if not isinstance(box, Box):
        raise Rejected(
            "An action_transform is for an action_space of the type Box.", field=field
        )
    if transform.rescale_from is None:
        return
    low, high = transform.rescale_from
    if low >= high:
        raise Rejected(
            "The action_transform.rescale_from must be a smaller number and a "
            "greater one.",
            field=f"{field}.rescale_from",
        )
    if None in box.low or None in box.high:
        raise Rejected(
            "The action_space must have finite bounds everywhere, for the action is "
            "rescaled to them.",
            field=f"{field}.rescale_from",
        )
    for least, greatest in zip(box.low, box.high, strict=True):
        assert least is not None  # noqa: S101 -- seen above
        assert greatest is not None  # noqa: S101
        factor = (greatest - least) / (high - low)
        if not math.isfinite(least - low * factor):
            raise Rejected(
                "The action_space is too wide to be rescaled to in numbers: give "
                "bounds, or a rescale_from, of a usual size.",
                field=f"{field}.rescale_from",
            )


def _spelled(shape: tuple[int, ...]) -> str:
    return " x ".join(("null", *map(str, shape)))
