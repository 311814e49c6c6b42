"""Training with Stable-Baselines3, from an order to its last checkpoint."""

from collections.abc import Callable
from pathlib import Path

import gymnasium
import torch
from attrs import frozen
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from arena_core.application.recipe_settings import Sb3
from arena_core.entrypoints.recipes import sb3_bundles, sb3_environments, sb3_models
from arena_core.entrypoints.recipes.sb3_evaluation import Evaluation
from arena_core.entrypoints.recipes.sb3_replay import Experience
from arena_core.entrypoints.recipes.sb3_watching import (
    Checkpoints,
    Interval,
    logger,
    watching,
)
from arena_core.entrypoints.recipes.sb3_weights import load_weights
from arena_core.entrypoints.recipes.schedules import settings_of
from arena_core.training import Run

TENTHS = 10
EVALUATION_SEED = 1_000_003
"""Added to the seed, so that no episode of an evaluation was trained on."""


@frozen(eq=False)
class Task:
    """What is trained, on what, and how far."""

    run: Run
    algorithm: str
    settings: Sb3
    make: Callable[[], gymnasium.Env]

    @property
    def last(self) -> int:
        """The last step.  What has made them all makes as many again."""
        last = self.run.max_steps or self.settings.total_steps
        first = self.run.first_step
        return last if last > first else first + self.settings.total_steps

    @property
    def seed(self) -> int:
        """Another one from each step on, or a resumed training would repeat itself."""
        return (self.run.seed + self.run.first_step) % 2**31

    def env(self) -> VecEnv:
        return sb3_environments.plain(
            self.make, count=self.settings.n_envs, seed=self.seed
        )


def train(run: Run) -> None:
    """Train what the run orders.  Raises `Rejected` for what cannot be trained."""
    torch.set_num_threads(1)  # more only make small networks slower, and unrepeatable
    settings = settings_of(run, Sb3)
    order = run.order
    make = sb3_environments.maker(order["source"]["name"], settings.env_kwargs)
    task = Task(run, order["algorithm"], settings, make)
    model = _model(task)
    experience = _experience(task, model)
    checkpoints = Checkpoints(run, model, _evaluation(task, model), experience)
    tenth = max(1, task.last // TENTHS)
    watch = watching(
        checkpoints,
        Interval(settings.evaluate_every or tenth, run.first_step),
        Interval(settings.checkpoint_every or tenth, run.first_step),
    )
    # Before it learns, or the library makes a folder for a log that nobody reads.
    model.set_logger(logger(run))
    run.total(task.last)
    left = task.last - model.num_timesteps
    model.learn(left, watch, log_interval=1, reset_num_timesteps=False)
    checkpoints.write()


def _model(task: Task) -> BaseAlgorithm:
    """Return the model, with the weights that it is to begin with."""
    set_random_seed(task.seed)
    resume = task.run.resume
    if resume is not None and resume.state is not None:
        return _restored(task, resume.state)
    env = task.env()
    if task.settings.normalise:
        env = sb3_environments.normalised(env, training=True)
    model = sb3_models.make(task.algorithm, env, task.settings, task.seed)
    begin = task.run.start if resume is None else resume.bundle
    if begin is not None:
        load_weights(model, begin)
    model.num_timesteps = task.run.first_step
    return model


def _restored(task: Task, state: Path) -> BaseAlgorithm:
    kind = sb3_models.algorithm(task.algorithm)
    model = sb3_bundles.restored(kind, state, task.env(), task.settings.device)
    model.set_random_seed(task.seed)
    return model


def _experience(task: Task, model: BaseAlgorithm) -> Experience | None:
    """Return what is kept of it, and begin with what was; None if it needs none."""
    if not isinstance(model, OffPolicyAlgorithm):
        return None
    experience = Experience(model, task.settings.max_replay_bytes)
    if task.run.resume is not None:
        experience.restore(task.run.resume.state)
    return experience


def _evaluation(task: Task, model: BaseAlgorithm) -> Evaluation:
    seed = (task.run.seed + EVALUATION_SEED) % 2**31
    make = sb3_environments.ending(task.make)
    env = sb3_environments.plain(make, count=1, seed=seed)
    scaler = model.get_vec_normalize_env()
    if scaler is not None:
        env = sb3_environments.normalised(env, training=False)
    return Evaluation(task.run, env, seed, task.settings.eval_episodes)
