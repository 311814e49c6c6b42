"""Weights of a bundle, put back into a policy of Stable-Baselines3.

A bundle holds ONNX alone, in which weights have no names.  So the policy's own weights
are numbered, and it is exported: where the numbers are then, there each weight is.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from attrs import evolve
from onnx import numpy_helper
from stable_baselines3.common.base_class import BaseAlgorithm

from arena_core.application import bundles, golden, manifests
from arena_core.application.conversion import Converted
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import Manifest, Normaliser, Policy
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.recipes import sb3_bundles, sb3_traces

MOST_WEIGHTS = 1 << 24
"""Up to there every whole number is a float32."""
TOLERANCE = 1e-4
SEEN = 10_000.0
"""How many observations a bundle's mean and spread count for."""
_TARGETS = (("actor", "actor_target"), ("q_net", "q_net_target"))
"""Networks, and those that begin as copies of them."""


def load_weights(model: BaseAlgorithm, folder: Path) -> None:
    """Give the model's actor the weights of the bundle in `folder`.

    What only training needs, such as a critic, stays as it is.  Raises `Rejected` if
    the bundle is not of such a policy, or does not answer afterwards as it did.
    """
    given = bundles.check(folder)
    own = _exported(model)
    _check_same_policy(given, own)
    onnx_file = (folder / given.policy.weights).read_bytes()
    _put(model, own, onnx.load_from_string(onnx_file))
    _scale(model, given.policy.normalisers)
    if given.golden:
        _check_answers(model, (folder / golden.FILE).read_bytes())


def _exported(model: BaseAlgorithm) -> Converted:
    with TemporaryDirectory() as folder:
        sb3_bundles.save_model(model, Path(folder))
        return sb3_bundles.converted(Path(folder), model)


def _unfit(problem: str) -> Rejected:
    return Rejected(
        f"The checkpoint to begin with does not fit: {problem}; begin with one of "
        "the same algorithm, environment and network, or from scratch.",
        field="start",
    )


def _check_same_policy(given: Manifest, own: Converted) -> None:
    if given.is_multi_agent:
        raise _unfit("it has several policies")
    mine = manifests.parse(json.dumps(own.checkpoint).encode()).policy
    if given.policy.normalisers.keys() != mine.normalisers.keys():
        raise _unfit(
            "either it or this training scales its observations, and not both (see "
            "config.normalise)"
        )
    if _plain(given.policy) != _plain(mine):
        raise _unfit("its observations, actions or outputs are others")


def _plain(policy: Policy) -> Policy:
    return evolve(policy, normalisers={}, weights="")


# --- weights -----------------------------------------------------------------------


def _put(model: BaseAlgorithm, own: Converted, given: onnx.ModelProto) -> None:
    (content,) = own.weights.values()
    if _nodes(onnx.load_from_string(content)) != _nodes(given):
        raise _unfit("its network has other layers")
    weights = _flat(model)
    above, below = _numbered(model, weights, 1), _numbered(model, weights, -1)
    arrays = _arrays(given)
    for plus, minus, array in zip(above, below, arrays, strict=True):
        if plus.shape != array.shape or plus.dtype != array.dtype:
            raise _unfit("its layers have other sizes")
        if np.array_equal(plus, minus):
            continue  # no weights, but a number that is part of the graph
        weights[torch.from_numpy(plus.ravel().astype(np.int64) - 1)] = torch.from_numpy(
            array.ravel().copy()
        )
    _unflatten(model, weights)
    for online, target in _TARGETS:
        if hasattr(model.policy, target):
            state = getattr(model.policy, online).state_dict()
            getattr(model.policy, target).load_state_dict(state)


def _nodes(network: onnx.ModelProto) -> list[bytes]:
    return [node.SerializeToString(deterministic=True) for node in network.graph.node]


def _arrays(network: onnx.ModelProto) -> list[Array]:
    return [numpy_helper.to_array(tensor) for tensor in network.graph.initializer]


def _numbered(model: BaseAlgorithm, weights: torch.Tensor, sign: int) -> list[Array]:
    """Return what the export holds where the weights are 1, 2, 3 and so on."""
    if len(weights) > MOST_WEIGHTS:
        raise _unfit(f"it has more than {MOST_WEIGHTS} weights")
    _unflatten(model, sign * torch.arange(1, len(weights) + 1, dtype=torch.float32))
    (content,) = _exported(model).weights.values()
    return _arrays(onnx.load_from_string(content))


def _flat(model: BaseAlgorithm) -> torch.Tensor:
    state = model.policy.state_dict().values()
    return torch.cat([tensor.detach().cpu().float().ravel() for tensor in state])


def _unflatten(model: BaseAlgorithm, weights: torch.Tensor) -> None:
    state = model.policy.state_dict()
    parts = torch.split(weights, [tensor.numel() for tensor in state.values()])
    model.policy.load_state_dict(
        {
            name: part.reshape(tensor.shape).to(tensor.dtype)
            for (name, tensor), part in zip(state.items(), parts, strict=True)
        }
    )


# --- beside them -------------------------------------------------------------------


def _scale(model: BaseAlgorithm, normalisers: Mapping[str, Normaliser]) -> None:
    """Let the running means go on from those of the bundle."""
    scaler = model.get_vec_normalize_env()
    if scaler is None:
        return
    running: Any = scaler.obs_rms
    by_path = (
        sb3_traces.by_path(running) if isinstance(running, dict) else {"": running}
    )
    for path, normaliser in normalisers.items():
        mean = by_path[path]
        mean.mean = np.reshape(normaliser.mean, mean.mean.shape)
        mean.var = np.reshape(normaliser.variance, mean.var.shape)
        mean.count = SEEN


def _check_answers(model: BaseAlgorithm, recorded: bytes) -> None:
    for case in golden.read(recorded).cases:
        answers = sb3_traces.answers(model, case)
        for step, said in zip(case.steps, answers, strict=True):
            for name, array in said.items():
                expected = step.recorded.get(name, array)
                if not np.allclose(array, expected, TOLERANCE, TOLERANCE):
                    raise _unfit("with its weights other answers come than its own")
