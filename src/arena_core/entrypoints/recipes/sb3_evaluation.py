"""How good a policy is: the mean return of its greedy episodes."""

from typing import Any

import numpy as np
from attrs import frozen
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from arena_core.entrypoints.recipes import sb3_traces
from arena_core.entrypoints.recipes.sb3_traces import Observations
from arena_core.training import Run


class _Stopped(Exception):  # noqa: N818 -- nothing went wrong
    """The training was asked to end in the middle of an evaluation."""


@frozen(eq=False)
class Evaluation:
    """Episodes that begin alike each time, in one environment of their own."""

    run: Run
    env: VecEnv
    seed: int
    episodes: int

    def fitness(self, model: BaseAlgorithm) -> float | None:
        """Return the mean return; None if the training is asked to end meanwhile."""
        self._begin(model)
        try:
            mean, _ = evaluate_policy(
                model, self.env, self.episodes, callback=self._check_stop
            )
        except _Stopped:
            return None
        return float(np.mean(mean))

    def observations(self, model: BaseAlgorithm) -> Observations:
        """Return what a golden trace of the model is made of."""
        self._begin(model)
        return sb3_traces.observe(model, self.env, sb3_traces.wanted(model))

    def _begin(self, model: BaseAlgorithm) -> None:
        scaler = model.get_vec_normalize_env()
        if scaler is not None and isinstance(self.env, VecNormalize):
            self.env.obs_rms = scaler.obs_rms
        self.env.seed(self.seed)

    def _check_stop(self, _locals: dict[str, Any], _globals: dict[str, Any]) -> None:
        if self.run.should_stop:
            raise _Stopped
