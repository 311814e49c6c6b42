"""A policy in the words of the domain, as `checkpoint.json` has it."""

from typing import Any

from arena_core.application import space_json
from arena_core.domain.checkpoint import (
    ActionTransform,
    Normaliser,
    Policy,
    Space,
    TensorSpec,
)


def to_json(policy: Policy) -> dict[str, Any]:
    """Return the keys of `checkpoint.json` that are about one policy."""
    optional: dict[str, Any] = {}
    if policy.normalisers:
        parts = {path: _normaliser(n) for path, n in policy.normalisers.items()}
        optional["normaliser"] = parts.get("", parts)
    if policy.hidden_states:
        optional["hidden_state"] = [
            {"input": state.input, "output": state.output}
            for state in policy.hidden_states
        ]
    if policy.transform != ActionTransform():
        optional["action_transform"] = _transform(policy.transform)
    if policy.log_std is not None:
        optional["log_std"] = policy.log_std
    return {
        "weights": policy.weights,
        "signature": {
            "inputs": [_tensor(spec) for spec in policy.signature.inputs],
            "outputs": [_tensor(spec) for spec in policy.signature.outputs],
        },
        "head": policy.head.value,
        "observation_space": _space(policy.observation_space),
        "action_space": _space(policy.action_space),
        **optional,
    }


def _space(space: Space | None) -> dict[str, object] | None:
    return None if space is None else space_json.to_json(space)


def _tensor(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


def _normaliser(normaliser: Normaliser) -> dict[str, object]:
    return {
        "mean": list(normaliser.mean),
        "variance": list(normaliser.variance),
        "epsilon": normaliser.epsilon,
        "clip": normaliser.clip,
    }


def _transform(transform: ActionTransform) -> dict[str, object]:
    squash = transform.squash
    rescale = transform.rescale_from
    return {
        "squash": None if squash is None else squash.value,
        "rescale_from": None if rescale is None else list(rescale),
    }
