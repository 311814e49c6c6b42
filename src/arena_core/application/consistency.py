"""Whether the parts of a manifest agree with each other.

Every refusal is a `Rejected` whose `field` is the path within `checkpoint.json`.
"""

import math
from collections.abc import Sequence
from typing import assert_never

from arena_core.domain.checkpoint import (
    Box,
    Discrete,
    Head,
    Manifest,
    TensorSpec,
)
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family


def check(manifest: Manifest) -> None:
    """Raise `Rejected` unless family, head, spaces, signature and normaliser agree."""
    if len(manifest.signature.inputs) != 1:
        raise Rejected(
            "The weights must have exactly one input, the observation.",
            field="signature.inputs",
        )
    _check_family(manifest)
    _check_observations(manifest)


def _check_family(manifest: Manifest) -> None:
    if manifest.family is Family.RL:
        _check_policy(manifest)
    elif manifest.head is not Head.OUTPUT:
        raise Rejected(
            f"The head must be {Head.OUTPUT.value} for a checkpoint of the family "
            f"{manifest.family.value}.",
            field="head",
        )


def _check_policy(manifest: Manifest) -> None:
    if manifest.observation_space is None:
        raise Rejected(
            "The observation_space is missing: a policy of the family rl needs one.",
            field="observation_space",
        )
    match manifest.action_space:
        case None:
            raise Rejected(
                "The action_space is missing: a policy of the family rl needs one.",
                field="action_space",
            )
        case Discrete(n=n):
            _check_head(manifest.head, (Head.LOGITS, Head.Q_VALUES), "Discrete")
            _check_answer(manifest.signature.outputs[0], (n,), floating=True)
        case Box(shape=shape):
            _check_head(manifest.head, (Head.ACTION,), "Box")
            _check_answer(manifest.signature.outputs[0], shape, floating=False)
        case _:
            assert_never(manifest.action_space)


def _check_head(head: Head, allowed: Sequence[Head], space: str) -> None:
    if head not in allowed:
        raise Rejected(
            f"The head {head.value} does not go with an action_space of the type "
            f"{space}: use {' or '.join(h.value for h in allowed)}.",
            field="head",
        )


def _check_answer(
    output: TensorSpec, shape: tuple[int, ...], *, floating: bool
) -> None:
    """Refuse a first output that is no row of actions, or of their values."""
    if output.shape != (None, *shape):
        raise Rejected(
            "The first output does not fit the action_space: its shape must be "
            f"{_spelled(shape)}.",
            field="signature.outputs 0.shape",
        )
    if floating and not output.dtype.startswith("float"):
        raise Rejected(
            "The first output holds a value for each action: its dtype must be one "
            "of float16, float32 and float64.",
            field="signature.outputs 0.dtype",
        )


def _check_observations(manifest: Manifest) -> None:
    space, normaliser = manifest.observation_space, manifest.normaliser
    if space is not None:
        shape = space.shape if isinstance(space, Box) else ()
        _check_observed(manifest.signature.inputs[0], shape)
    if normaliser is None:
        return
    if not isinstance(space, Box):
        raise Rejected(
            "The normaliser needs an observation_space of the type Box: "
            "give one, or make the normaliser null.",
            field="normaliser",
        )
    size = math.prod(space.shape)
    for key, values in (("mean", normaliser.mean), ("variance", normaliser.variance)):
        if len(values) != size:
            raise Rejected(
                f"The normaliser.{key} has {len(values)} numbers, but an observation "
                f"has {size} elements: give one for each in C order.",
                field=f"normaliser.{key}",
            )


def _check_observed(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    fits = len(spec.shape) == 1 + len(shape) and all(
        axis in (None, length)
        for axis, length in zip(spec.shape[1:], shape, strict=True)
    )
    if not fits:
        raise Rejected(
            "The first input does not fit the observation_space: its shape must be "
            f"{_spelled(shape)}.",
            field="signature.inputs 0.shape",
        )


def _spelled(shape: tuple[int, ...]) -> str:
    return " x ".join(("null", *map(str, shape)))
