"""Trainings by the recipe `sb3` in this process, in a folder of the run protocol."""

import json
from contextlib import contextmanager
from functools import partial

import gymnasium
import numpy as np
from attrs import frozen
from gymnasium import spaces

from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.application.loading import load
from arena_core.entrypoints.recipes import sb3_training
from arena_core.entrypoints.runtimes import runtimes_of
from arena_core.training import Run

QUICK = {
    "n_envs": 2,
    "eval_episodes": 2,
    "evaluate_every": 64,
    "checkpoint_every": 64,
    "hyperparameters": {
        "n_steps": 32,
        "batch_size": 32,
        "n_epochs": 2,
        "policy_kwargs": {"net_arch": [8, 8]},
    },
}
"""Of an algorithm that learns from what it has just done."""
QUICK_OFF_POLICY = {
    "n_envs": 1,
    "eval_episodes": 2,
    "evaluate_every": 64,
    "checkpoint_every": 64,
    "hyperparameters": {
        "learning_starts": 50,
        "buffer_size": 1000,
        "batch_size": 16,
        "policy_kwargs": {"net_arch": [8, 8]},
    },
}


def with_(config, **changes):
    hyperparameters = config["hyperparameters"] | changes.pop("hyperparameters", {})
    return config | {"hyperparameters": hyperparameters} | changes


RECURRENT = (
    "Recurrent PPO",
    "CartPole-v1",
    with_(QUICK, hyperparameters={"policy_kwargs": {"lstm_hidden_size": 6}}),
)
ON_POLICY = [
    ("PPO", "CartPole-v1", QUICK),
    ("PPO", "Pendulum-v1", with_(QUICK, normalise=True)),
    ("PPO", "Image-v0", QUICK),
    ("PPO", "Kinds-v0", with_(QUICK, normalise=True)),
    ("A2C", "CartPole-v1", QUICK | {"hyperparameters": {"n_steps": 16}}),
    RECURRENT,
]
OFF_POLICY = [
    ("DQN", "CartPole-v1", QUICK_OFF_POLICY),
    ("SAC", "Pendulum-v1", QUICK_OFF_POLICY),
    ("TD3", "Pendulum-v1", with_(QUICK_OFF_POLICY, activation="elu", n_envs=2)),
]
EVERY = [*ON_POLICY, *OFF_POLICY]


@frozen
class Trained:
    """What a run has left in its folder."""

    folder: object

    @property
    def steps(self):
        return sorted(
            int(path.name) for path in (self.folder / "checkpoints").iterdir()
        )

    def checkpoint(self, step=None):
        return self.folder / "checkpoints" / str(step or self.steps[-1])

    def state(self, step=None):
        return self.folder / "states" / str(step or self.steps[-1])

    @property
    def total(self):
        """Up to which step it has said that it trains."""
        return json.loads((self.folder / "progress.json").read_bytes())["total"]

    def metrics(self, name):
        """Return the values of a metric by step."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        points = [json.loads(line) for line in lines]
        return {it["step"]: it[name] for it in points if name in it}


def ordered(folder, *, algorithm="PPO", env="CartPole-v1", config=None, seed=0):
    """Write an order; return the environment of a program that carries it out."""
    folder.mkdir(parents=True)
    order = {
        "recipe": "sb3",
        "algorithm": algorithm,
        "family": "rl",
        "source": {"kind": "gym", "name": env},
        "config": QUICK if config is None else config,
    }
    (folder / "order.json").write_text(json.dumps(order))
    return {
        "ARENA_RUN_FOLDER": str(folder),
        "ARENA_ORDER": str(folder / "order.json"),
        "ARENA_SEED": str(seed),
    }


def resumed(trained, step=None):
    """Return the variables of a run that goes on from a checkpoint with its state."""
    return {
        "ARENA_RESUME_CHECKPOINT": str(trained.checkpoint(step)),
        "ARENA_RESUME_STATE": str(trained.state(step)),
        "ARENA_RESUME_STEP": str(step or trained.steps[-1]),
    }


def train(folder, *, steps, more=None, **given):
    """Train in `folder` up to `steps`."""
    environ = ordered(folder, **given) | {"ARENA_MAX_STEPS": str(steps)}
    with Run(environ | (more or {})) as run:
        sb3_training.train(run)
    return Trained(folder)


def parity_of(bundle):
    """Return what comes of replaying the golden trace of a bundle, as it is served."""
    blobs = MemoryBlobStore()
    return load(blobs, runtimes_of(), blobs.put(bundle), None).parity


# --- environments whose observations are other than a vector of numbers --------------


class Noise(gymnasium.Env):
    """Observations at random, in episodes of eight steps."""

    def __init__(self, observation_space):
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        del options
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = 8
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        return self.observation_space.sample(), float(action), False, not self.left, {}


IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
KINDS = spaces.Dict(
    {
        "a vector": spaces.Box(-50, 50, (3,), np.float32),
        "cell": spaces.Discrete(4),
        "image": IMAGE,
    }
)


class Endless(Noise):
    """Episodes that end by themselves only after more steps than anybody waits for."""

    def reset(self, *, seed=None, options=None):
        answer = super().reset(seed=seed, options=options)
        self.left = 1000
        return answer

    def step(self, action):
        assert self.left > 1, "nobody has ended the episode"
        return super().step(action)


class Counting(Noise):
    """Actions 2, 3 and 4, which Stable-Baselines3 takes for 0, 1 and 2."""

    def __init__(self, observation_space):
        super().__init__(observation_space)
        self.action_space = spaces.Discrete(3, start=2)


VECTOR = KINDS["a vector"]
MORE = {
    "Image-v0": partial(Noise, IMAGE),
    "Kinds-v0": partial(Noise, KINDS),
    "Endless-v0": partial(Endless, VECTOR),
    "Counting-v0": partial(Counting, VECTOR),
    "CountingRows-v0": partial(Noise, spaces.MultiDiscrete([3, 2], start=[0, 1])),
    "Nested-v0": partial(Noise, spaces.Dict({"parts": KINDS})),
    "Tuple-v0": partial(Noise, spaces.Tuple([VECTOR])),
}


@contextmanager
def more_environments():
    """Let Gymnasium know those in `MORE`, none of which has a limit of steps."""
    for name, make in MORE.items():
        gymnasium.register(name, entry_point=make)
    yield
    for name in MORE:
        del gymnasium.registry[name]
