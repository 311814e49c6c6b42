"""From the zip archive of a model to the parts of a bundle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_core.adapters.converters import computed_traces, policy_json
from arena_core.adapters.converters.networks import Network
from arena_core.adapters.converters.sb3 import files, statistics
from arena_core.adapters.converters.sb3.actors import actor, features_prefix
from arena_core.adapters.converters.sb3.features import Extractor
from arena_core.adapters.converters.sb3.files import SavedModel
from arena_core.adapters.converters.sb3.models import Architecture, Model, understand
from arena_core.adapters.converters.sb3.observations import leaves, served_space
from arena_core.application import golden
from arena_core.application.conversion import (
    MODEL_FILE,
    STATISTICS_FILE,
    TRACE_FILE,
    Converted,
    Options,
    Report,
)
from arena_core.application.golden import GoldenTrace
from arena_core.application.manifests import FORMAT_VERSION
from arena_core.domain.checkpoint import Normaliser, Policy
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family

_WEIGHTS = "policy.onnx"
_LIBRARY = "stable-baselines3"
_ON_POLICY = frozenset({
    Architecture.ACTOR_CRITIC, Architecture.MASKABLE, Architecture.RECURRENT,
})  # fmt: skip
_MOST_STEPS = 2**53
"""Larger numbers are not the same in every reader of JSON."""


def convert(folder: Path, options: Options, report: Report) -> Converted:
    """Convert `folder / MODEL_FILE`, which `model.save` has written.

    Beside it may lie what `VecNormalize.save` has written, and a golden trace.
    Raises `Rejected`, in one sentence, for what cannot be converted.
    """
    report("reading the checkpoint")
    saved = files.read((folder / MODEL_FILE).read_bytes())
    model = understand(saved)
    normalisers = _normalisers(folder / STATISTICS_FILE, saved, model)
    report("putting the policy together")
    policy, network = _policy(saved, model, normalisers, options)
    report("recording what it answers")
    trace, origin = _trace(folder / TRACE_FILE, model, policy, network)
    return Converted(
        _checkpoint(saved, options.algorithm or model.algorithm, policy, origin),
        {policy.weights: network.to_onnx()},
        trace,
    )


def _normalisers(
    given: Path, saved: SavedModel, model: Model
) -> Mapping[str, Normaliser]:
    if given.exists():
        return statistics.read(given.read_bytes())
    # These algorithms keep what an environment said before VecNormalize changed it,
    # and nothing where there was none; the others keep it in any case.
    if model.architecture in _ON_POLICY and (
        saved.attribute("_last_original_obs") is not None
    ):
        raise Rejected(
            "The checkpoint was trained with VecNormalize: give the file that its "
            "save has written too, as the statistics.",
            field=STATISTICS_FILE,
        )
    return {}


def _policy(
    saved: SavedModel,
    model: Model,
    normalisers: Mapping[str, Normaliser],
    options: Options,
) -> tuple[Policy, Network]:
    weights, trained = saved.weights, model.observation_space
    prefix = features_prefix(weights, model.architecture)
    extractor = Extractor(weights, prefix, model.normalize_images)
    images = extractor.images(trained)
    if options.channels_last and not images:
        raise Rejected(
            "No part of an observation is an image: import the checkpoint without "
            "the option channels_last.",
            field="channels_last",
        )
    observed = leaves(trained, normalisers, images if options.channels_last else set())
    inputs, features = extractor.features(observed)
    acting = actor(weights, model, features)
    weights.check_none_left()
    network = Network((*inputs, *acting.memory), acting.outputs)
    policy = Policy(
        weights=_WEIGHTS,
        signature=network.signature,
        head=acting.head,
        observation_space=served_space(trained, observed),
        action_space=model.action_space,
        normalisers={
            leaf.path: leaf.served_normaliser
            for leaf in observed
            if leaf.served_normaliser is not None
        },
        transform=acting.transform,
        log_std=acting.log_std,
        hidden_states=acting.hidden_states,
    )
    return policy, network


def _trace(
    recorded: Path, model: Model, policy: Policy, network: Network
) -> tuple[GoldenTrace, str]:
    """Return the golden trace, and where it comes from."""
    if recorded.exists():
        return golden.read(recorded.read_bytes()), "recorded in training"
    masked = model.architecture is Architecture.MASKABLE
    trace = computed_traces.trace(policy, network, masked=masked)
    return trace, "computed from the weights"


def _checkpoint(
    saved: SavedModel, algorithm: str, policy: Policy, origin: str
) -> dict[str, Any]:
    steps = saved.attribute("num_timesteps")
    # Only an int is looked up in a range; anything else is compared with all of it.
    is_step = type(steps) is int and steps in range(_MOST_STEPS)
    return {
        "format_version": FORMAT_VERSION,
        "algorithm": algorithm,
        "family": Family.RL.value,
        "framework": {
            "name": _LIBRARY,
            "version": saved.versions.get(_LIBRARY, "unknown"),
        },
        **policy_json.to_json(policy),
        "provenance": {
            "converted_from": _LIBRARY,
            "golden": origin,
            "step": steps if is_step else None,
            "versions": dict(saved.versions),
        },
    }
