"""What is said of a training while it goes on: metrics, and its checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger

from arena_core.entrypoints.recipes import sb3_bundles, sb3_traces
from arena_core.entrypoints.recipes.sb3_evaluation import Evaluation
from arena_core.entrypoints.recipes.sb3_replay import Experience
from arena_core.training import STATES, Run


class Interval:
    """Says once when each multiple of a number of steps is reached."""

    def __init__(self, steps: int, first: int) -> None:
        self._steps = steps
        self._reached = first // steps

    def is_due(self, step: int) -> bool:
        before, self._reached = self._reached, step // self._steps
        return self._reached > before


class Checkpoints:
    """Writes checkpoints of a model, each with what it scores."""

    def __init__(
        self,
        run: Run,
        model: BaseAlgorithm,
        evaluation: Evaluation,
        experience: Experience | None,
    ) -> None:
        self.run = run
        self._model = model
        self._evaluation = evaluation
        self._experience = experience
        self._evaluated = self._written = -1

    @property
    def step(self) -> int:
        return self._model.num_timesteps

    def evaluate(self) -> None:
        """Record how good the policy is at this step, unless that is known."""
        if self._evaluated == self.step:
            return
        fitness = self._evaluation.fitness(self._model)
        self._evaluated = self.step
        self.run.log(self.step, score=_score(self._model), fitness=fitness)

    def write(self) -> None:
        """Write a checkpoint of this step, unless there is one."""
        if self._written == self.step:
            return
        self.evaluate()
        self._written = self.step
        saved = self.run.folder / STATES / str(self.step)
        self.run.checkpoint(
            self.step,
            lambda folder: sb3_bundles.bundle(saved, self._model, folder),
            state=self._save,
        )

    def _save(self, folder: Path) -> None:
        observed = self._evaluation.observations(self._model)
        sb3_bundles.save(self._model, folder, sb3_traces.record(self._model, observed))
        if self._experience is not None:
            self._experience.save(folder)


def watching(
    checkpoints: Checkpoints, evaluated: Interval, written: Interval
) -> BaseCallback:
    """Return what Stable-Baselines3 is to call while it trains."""
    return _Watch(checkpoints, evaluated, written)


def logger(run: Run) -> Logger:
    """Return what the library is to log to: the run, and no folder of its own."""
    return Logger(None, [_ToRun(run)])


class _Watch(BaseCallback):
    def __init__(
        self, checkpoints: Checkpoints, evaluated: Interval, written: Interval
    ) -> None:
        super().__init__()
        self._checkpoints = checkpoints
        self._evaluated, self._written = evaluated, written

    def _on_step(self) -> bool:
        if self._evaluated.is_due(self.num_timesteps):
            self._checkpoints.evaluate()
        if self._written.is_due(self.num_timesteps):
            self._checkpoints.write()
        return not self._checkpoints.run.should_stop


class _ToRun(KVWriter):
    """Hands on what Stable-Baselines3 logs of the training and its losses."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        del key_excluded
        self._run.log(step, **_metrics(key_values))

    def close(self) -> None:
        pass


def _metrics(logged: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers by the names that they have here."""
    metrics = {
        name.removeprefix("train/"): float(value)
        for name, value in logged.items()
        if name.startswith("train/") and isinstance(value, int | float | np.number)
    }
    if "rollout/ep_rew_mean" in logged:
        metrics["score"] = float(logged["rollout/ep_rew_mean"])
    return metrics


def _score(model: BaseAlgorithm) -> float | None:
    """Return the mean return of the latest episodes of the training, if any ended."""
    latest = [episode["r"] for episode in model.ep_info_buffer or ()]
    return float(np.mean(latest)) if latest else None
