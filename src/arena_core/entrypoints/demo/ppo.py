"""Training CartPole-v1 by proximal policy optimisation, in NumPy.

Schulman et al. 2017, arXiv 1707.06347; the mathematics are in `objective`.
"""

from collections.abc import Iterator

import numpy as np
from attrs import evolve, frozen

from arena_core.entrypoints.demo.network import (
    Adam,
    Array,
    Network,
    clip_norm,
    initialise,
    parameter_count,
)
from arena_core.entrypoints.demo.objective import (
    Samples,
    advantages,
    chosen,
    log_softmax,
    normalised,
    policy_loss,
    value_loss,
)
from arena_core.entrypoints.demo.rollout import Collector, Rollout, evaluate

OBSERVATION_SIZE, ACTIONS, HIDDEN = 4, 2, (32, 32)
PERFECT_RETURN = 500.0
EVALUATION_EPISODES = 64
EVALUATION_SEED = 1_000_003
"""For comparing checkpoints; what is reported of the best one needs other seeds."""
FEWEST_CHECKPOINTS = 3
RECORDED_OBSERVATIONS = 8
GRADIENT_NORM = 0.5


@frozen
class Settings:
    """What training may vary.  With the defaults it takes about a second."""

    total_steps: int = 50_000
    environments: int = 16
    rollout_steps: int = 64
    epochs: int = 10
    minibatch: int = 256
    """The largest one.  Twice as much would make BLAS start threads for a product
    that takes microseconds, and on a busy machine they wait milliseconds."""
    learning_rate: float = 2e-3
    """In the first update; it falls linearly, to almost zero in the last."""
    discount: float = 0.99
    trace_decay: float = 0.98
    """Lambda of the advantage estimates."""
    clip_range: float = 0.1
    """How far the probability ratio may move from 1 before its slope is cut."""
    checkpoint_steps: int = 4096


@frozen(eq=False)
class Checkpoint:
    """A policy at one step of training, and how good it is."""

    step: int
    policy: Network
    fitness: float
    """The mean return of `EVALUATION_EPISODES` greedy episodes."""
    observations: Array
    """Some that training has just met: float32 (`RECORDED_OBSERVATIONS`, 4)."""


@frozen(eq=False)
class Progress:
    """Where training is after an update."""

    step: int
    total_steps: int
    score: float | None
    """The mean return of the latest episodes of training, if any has ended."""
    checkpoint: Checkpoint | None
    """The one that has been taken after this update, if one has."""


def train(settings: Settings, seed: int) -> Iterator[Progress]:
    """Train a policy, and yield after each update.

    A checkpoint is taken about every `checkpoint_steps` and at the end.  Training
    ends before `total_steps` once a checkpoint is perfect, but not before there are
    `FEWEST_CHECKPOINTS`.  The same settings and seed give the same policies.
    """
    rng = np.random.default_rng(seed)
    learner = Learner(settings, rng)
    collector = Collector(settings.environments, rng)
    steps = settings.environments * settings.rollout_steps
    updates = -(-settings.total_steps // steps)
    interval = max(1, settings.checkpoint_steps // steps)
    for update in range(1, updates + 1):
        samples = learner.samples(
            collector.collect(learner.actor, settings.rollout_steps)
        )
        learner.improve(samples, 1 - (update - 1) / updates)
        step, checkpoint = update * steps, None
        if update % interval == 0 or update == updates:
            checkpoint = _checkpoint(step, learner.actor, samples)
        yield Progress(step, updates * steps, collector.score, checkpoint)
        if (
            checkpoint is not None
            and checkpoint.fitness >= PERFECT_RETURN
            and update >= FEWEST_CHECKPOINTS * interval
        ):
            return


def _checkpoint(step: int, actor: Network, samples: Samples) -> Checkpoint:
    rows = np.linspace(0, len(samples) - 1, RECORDED_OBSERVATIONS).astype(int)
    fitness = evaluate(actor, EVALUATION_EPISODES, EVALUATION_SEED)
    return Checkpoint(step, actor.copy(), fitness, samples.observations[rows])


class Learner:
    """An actor and a critic, whose parameters lie in one vector, and what moves it."""

    def __init__(self, settings: Settings, rng: np.random.Generator) -> None:
        self._settings = settings
        self._rng = rng
        actor = (OBSERVATION_SIZE, *HIDDEN, ACTIONS)
        critic = (OBSERVATION_SIZE, *HIDDEN, 1)
        cut = parameter_count(actor)
        parameters, gradient = np.zeros((2, cut + parameter_count(critic)), np.float32)
        self.actor = Network(actor, parameters[:cut])
        self._critic = Network(critic, parameters[cut:])
        self._actor_gradient = Network(actor, gradient[:cut])
        self._critic_gradient = Network(critic, gradient[cut:])
        self._gradient = gradient
        self._adam = Adam(parameters)
        initialise(self.actor, rng, output_gain=0.01)
        initialise(self._critic, rng, output_gain=1.0)

    def samples(self, rollout: Rollout) -> Samples:
        """Return the valid steps of `rollout`, which the present actor has made."""
        discount, decay = self._settings.discount, self._settings.trace_decay
        # So that returns lie in 0..1, where the critic begins.
        scaled = evolve(rollout, rewards=rollout.rewards * (1 - discount))
        observations = rollout.observations
        values = self._critic(observations)[..., 0]
        estimates = advantages(scaled, values, discount, decay)
        every_step = Samples(
            observations[:-1],
            rollout.actions,
            chosen(log_softmax(self.actor(observations[:-1])), rollout.actions),
            estimates,
            estimates + values[:-1],
        )
        return every_step.take(rollout.valid)

    def improve(self, samples: Samples, remaining: float) -> None:
        """Run the epochs of one update.  `remaining`: share of training, 1 at first."""
        learning_rate = self._settings.learning_rate * remaining
        count = -(-len(samples) // self._settings.minibatch)
        for _ in range(self._settings.epochs):
            for rows in np.array_split(self._rng.permutation(len(samples)), count):
                self._descend(samples.take(rows), learning_rate)

    def _descend(self, batch: Samples, learning_rate: float) -> None:
        batch = evolve(batch, advantages=normalised(batch.advantages))
        layers = self.actor.activations(batch.observations)
        _, slope = policy_loss(layers[-1], batch, self._settings.clip_range)
        self.actor.backward(layers, slope, self._actor_gradient)
        layers = self._critic.activations(batch.observations)
        _, slope = value_loss(layers[-1], batch)
        self._critic.backward(layers, slope, self._critic_gradient)
        clip_norm(self._actor_gradient.flat, GRADIENT_NORM)
        clip_norm(self._critic_gradient.flat, GRADIENT_NORM)
        self._adam.step(self._gradient, learning_rate)
