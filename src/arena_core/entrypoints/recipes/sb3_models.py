"""The algorithms of Stable-Baselines3, made with settings that are plain JSON."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from arena_core.application.recipe_settings import Sb3
from arena_core.domain.algorithms import is_recurrent, is_same
from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown

ALGORITHMS: Mapping[str, type[BaseAlgorithm]] = {
    "A2C": A2C,
    "DQN": DQN,
    "PPO": PPO,
    "Recurrent PPO": RecurrentPPO,
    "SAC": SAC,
    "TD3": TD3,
}
_ACTIVATIONS = {
    "elu": torch.nn.ELU,
    "leaky_relu": torch.nn.LeakyReLU,
    "relu": torch.nn.ReLU,
    "tanh": torch.nn.Tanh,
}
_UNMADE = (
    AssertionError, MemoryError, OverflowError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What the library raises for arguments that it does not take."""
_POLICIES = {"mlp": "Mlp", "cnn": "Cnn", "multi_input": "MultiInput"}
_OURS = frozenset({
    "self", "policy", "env", "seed", "device", "verbose", "tensorboard_log",
    "_init_setup_model", "supported_action_spaces", "stats_window_size",
})  # fmt: skip
"""Arguments that have settings of their own, or are no business of users."""
_OBJECTS = frozenset({
    "action_noise", "replay_buffer_class", "rollout_buffer_class", "activation_fn",
    "features_extractor_class", "optimizer_class", "observation_space",
    "action_space", "lr_schedule",
})  # fmt: skip
"""Arguments that no JSON can say."""


def algorithm(name: str) -> type[BaseAlgorithm]:
    """Return the class of an algorithm.  Raises `Rejected` if there is none."""
    for known, kind in ALGORITHMS.items():
        if is_same(known, name):
            return kind
    raise Rejected(
        f"The recipe sb3 does not train {shown(name)}: use one of "
        f"{', '.join(ALGORITHMS)}.",
        field="algorithm",
    )


def make(name: str, env: VecEnv, settings: Sb3, seed: int) -> BaseAlgorithm:
    """Return a model that has not been trained.

    Raises `Rejected`, naming the setting, for arguments that the algorithm has not,
    or does not take.
    """
    kind = algorithm(name)
    policy = _policy(name, settings.policy, env.observation_space)
    given = _arguments(settings.hyperparameters, kind, "config.hyperparameters")
    network = _arguments(
        given.pop("policy_kwargs", {}),
        kind.policy_aliases[policy],
        "config.hyperparameters.policy_kwargs",
    )
    _check_episodes(given.get("train_freq"), env)
    if settings.activation is not None:
        network["activation_fn"] = _ACTIVATIONS[settings.activation]
    try:
        return kind(
            policy,
            env,
            policy_kwargs=network,
            seed=seed,
            device=settings.device,
            **given,
        )
    except _UNMADE as error:
        raise Rejected(
            f"Stable-Baselines3 makes no {name} of these settings: correct "
            f"config.hyperparameters, or train on another environment "
            f"({_in_one_line(error)}).",
            field="config.hyperparameters",
        ) from error


def _check_episodes(train_freq: object, env: VecEnv) -> None:
    """Raise `Rejected` for what the library would only refuse when it trains."""
    if env.num_envs > 1 and isinstance(train_freq, tuple) and "episode" in train_freq:
        raise Rejected(
            "Stable-Baselines3 trains after each episode in one environment only: set "
            "config.n_envs to 1, or give train_freq in steps.",
            field="config.hyperparameters.train_freq",
        )


def _policy(name: str, wanted: str, observed: spaces.Space[Any]) -> str:
    """Return what Stable-Baselines3 calls the kind of network."""
    kind = wanted
    if wanted == "auto":
        kind = "cnn" if is_image_space(observed) else "mlp"
        kind = "multi_input" if isinstance(observed, spaces.Dict) else kind
    return f"{_POLICIES[kind]}{'Lstm' if is_recurrent(name) else ''}Policy"


def _arguments(given: object, of: type, field: str) -> dict[str, Any]:
    """Return the arguments of `of`, all of which it has."""
    if not isinstance(given, dict):
        raise Rejected(f"The {field} must be an object, by name.", field=field)
    known = _known(of)
    for name in given:
        if name not in known:
            raise Rejected(
                f"There is no setting {shown(name)} in {field}: use some of "
                f"{', '.join(sorted(known))}.",
                field=f"{field}.{shown(name)}",
            )
    return {name: _plain(name, value) for name, value in given.items()}


def _known(of: type) -> set[str]:
    return _names(inspect.signature(of).parameters) - _OURS - _OBJECTS


def _names(parameters: Iterable[str]) -> set[str]:
    return set(parameters) - {"args", "kwargs"}


def _plain(name: str, value: object) -> object:
    """Return the value as the library wants it: JSON has no tuples."""
    is_pair = name == "train_freq" and isinstance(value, list)
    return tuple(value) if is_pair and isinstance(value, list) else value


def _in_one_line(error: Exception) -> str:
    plain = " ".join(str(error).split()).replace("[", "(").replace("]", ")")
    return plain[:300]
