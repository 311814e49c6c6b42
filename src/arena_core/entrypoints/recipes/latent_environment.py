"""Rows of a dataset as an environment: to choose a latent vector is the only action.

Each episode is one row: the decoder makes an answer of the vector, and the reward says
how good that is.  Many rows are answered side by side.
"""

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import VecEnv

from arena_core.application.ports import Array
from arena_core.entrypoints.recipes.datasets import Dataset, Part
from arena_core.entrypoints.recipes.decoders import Decoder
from arena_core.entrypoints.recipes.examples import CLASSIFICATION

WORST = -10.0
"""The least that an answer of a regression can be worth."""


class Reward:
    """What a latent vector is worth: its answer's part, less what its length costs."""

    def __init__(self, decoder: Decoder, dataset: Dataset, penalty: float) -> None:
        self._decoder, self._penalty = decoder, penalty
        self._classifies = dataset.task == CLASSIFICATION
        self._variance = float(dataset.targets.var(dtype=np.float64)) or 1.0

    def __call__(self, latent: Array, targets: Array) -> Array:
        """Return the rewards (B,): at most 1."""
        answers = self._decoder(latent)
        if self._classifies:
            worth = answers[np.arange(len(targets)), targets]
        else:
            error = (answers[:, 0] - targets) ** 2 / self._variance
            worth = np.maximum(1 - error, WORST)
        cost = self._penalty * (latent**2).mean(axis=1)
        return np.asarray(worth - cost, np.float32)


class Rows(VecEnv):
    """`count` rows at once, each of `width` numbers, drawn anew at each step."""

    def __init__(
        self, reward: Reward, *, count: int, width: int, latent_dim: int
    ) -> None:
        super().__init__(
            count,
            Box(-np.inf, np.inf, (width,), np.float32),
            Box(-1.0, 1.0, (latent_dim,), np.float32),
        )
        self._reward = reward
        self._part = Part(np.zeros((1, width), np.float32), np.zeros(1, np.int64))
        self._random = np.random.default_rng(0)
        self._asked = np.zeros(count, np.int64)
        self._actions = np.zeros((count, latent_dim), np.float32)

    def show(self, part: Part) -> None:
        """Ask for rows of `part`, which are flat and standardised, from now on."""
        self._part = part

    def draw_from(self, random: np.random.Generator) -> None:
        """Draw rows by `random` from now on."""
        self._random = random

    def reset(self) -> Array:
        self._asked = self._random.integers(len(self._part), size=self.num_envs)
        return self._part.inputs[self._asked]

    def step_async(self, actions: Array) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        rewards = self._reward(self._actions, self._part.targets[self._asked])
        ended = np.ones(self.num_envs, bool)
        return self.reset(), rewards, ended, [{} for _ in range(self.num_envs)]

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: object = None) -> list[Any]:
        del indices
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: object, indices: object = None) -> None:
        raise NotImplementedError

    def env_method(
        self, method_name: str, *args: object, indices: object = None, **kwargs: object
    ) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type, indices: object = None) -> list[bool]:
        del wrapper_class, indices
        return [False] * self.num_envs
