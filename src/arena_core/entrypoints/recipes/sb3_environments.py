"""Environments of Gymnasium, several side by side, for Stable-Baselines3."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown

MOST_STEPS = 10_000
"""Of an episode of an evaluation, where the environment sets no limit."""


def maker(name: str, arguments: Mapping[str, Any]) -> Callable[[], gymnasium.Env]:
    """Return what makes an environment.  Raises `Rejected` if it cannot be made."""

    def make() -> gymnasium.Env:
        return gymnasium.make(name, **arguments)

    try:
        env = make()
        env.close()
    except (gymnasium.error.Error, ImportError) as error:
        raise Rejected(
            f"The environment {shown(name)} is not there: name one that Gymnasium "
            "knows, and install what it needs where this trains.",
            field="source",
        ) from error
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        raise Rejected(
            f"The environment {shown(name)} does not take these arguments: correct "
            f"config.env_kwargs ({shown(str(error))}).",
            field="config.env_kwargs",
        ) from error
    _check(name, env)
    return make


def _check(name: str, env: gymnasium.Env) -> None:
    """Raise `Rejected` for spaces that the library reads otherwise than Gymnasium."""
    seen = env.observation_space
    parts = list(seen.values()) if isinstance(seen, spaces.Dict) else [seen]
    if any(isinstance(part, spaces.Dict | spaces.Tuple) for part in parts):
        problem = "observes what is made of parts that have parts, or have no names"
    elif any(np.any(getattr(it, "start", 0)) for it in (*parts, env.action_space)):
        problem = "counts from another number than 0"
    else:
        return
    raise Rejected(
        f"The environment {shown(name)} {problem}, which Stable-Baselines3 does not: "
        "wrap it, or train on another one.",
        field="source",
    )


def plain(make: Callable[[], gymnasium.Env], *, count: int, seed: int) -> VecEnv:
    """Return copies whose episodes begin with different seeds, after each other."""
    return make_vec_env(make, n_envs=count, seed=seed)


def ending(make: Callable[[], gymnasium.Env]) -> Callable[[], gymnasium.Env]:
    """Return what makes an environment whose episodes end, whatever a policy does.

    Where the environment itself sets no limit, a greedy policy may walk in a circle.
    """

    def limited() -> gymnasium.Env:
        env = make()
        if env.spec is not None and env.spec.max_episode_steps is not None:
            return env
        return TimeLimit(env, MOST_STEPS)

    return limited


def normalised(
    env: VecEnv, *, training: bool, statistics: Path | None = None
) -> VecNormalize:
    """Return `env` with observations scaled, and rewards too while training.

    `statistics`: where they were saved, to go on with them.
    """
    if statistics is not None:
        scaled = VecNormalize.load(str(statistics), env)
    else:
        scaled = VecNormalize(env, **_what_is_scaled(env.observation_space))
    scaled.training = scaled.norm_reward = training
    return scaled


def _what_is_scaled(space: spaces.Space[Any]) -> dict[str, Any]:
    """Pixels have their scale, and integers have none."""
    if not isinstance(space, spaces.Dict):
        return {"norm_obs": _is_scaled(space)}
    keys = [key for key, part in space.items() if _is_scaled(part)]
    return {"norm_obs": bool(keys), "norm_obs_keys": keys or None}


def _is_scaled(space: spaces.Space[Any]) -> bool:
    return (
        isinstance(space, spaces.Box)
        and space.dtype.kind == "f"
        and not is_image_space(space)
    )
