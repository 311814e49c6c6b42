"""Acting in CartPole-v1: to gather experience, and to measure a policy.

The environments are vectorised in NumPy.  The step after an episode's last one only
resets its environment: the action is ignored, so it is no experience.
"""

from collections import deque

import gymnasium
import numpy as np
from attrs import frozen

from arena_core.entrypoints.demo.network import Array, Network

ENVIRONMENT = "CartPole-v1"
RECENT_EPISODES = 20


@frozen(eq=False)
class Rollout:
    """What N environments did in T steps.

    The axes are (T, N), but `observations`, float32, are (T + 1, N, 4): the last
    ones come after the last step.  `actions`: int64.  `rewards`: float32.  The rest
    is bool; where `valid` is False, the step only reset its environment.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminated: Array
    truncated: Array
    valid: Array


class Collector:
    """N environments that go on from one rollout to the next."""

    def __init__(self, environments: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._environments = _environments(environments)
        self._observation, _ = self._environments.reset(seed=int(rng.integers(2**31)))
        self._over = np.zeros(environments, bool)
        self._returns = np.zeros(environments)
        self._finished: deque[float] = deque(maxlen=RECENT_EPISODES)

    @property
    def score(self) -> float | None:
        """The mean return of the `RECENT_EPISODES` that ended last, if any has."""
        return float(np.mean(self._finished)) if self._finished else None

    def collect(self, actor: Network, steps: int) -> Rollout:
        """Act for `steps` steps, by actions drawn from the softmax of the logits."""
        count = len(self._over)
        # The largest of the logits plus Gumbel noise is a draw from their softmax.
        noise = self._rng.gumbel(size=(steps, count, actor.sizes[-1]))
        observations = np.empty((steps + 1, count, actor.sizes[0]), np.float32)
        actions = np.empty((steps, count), np.int64)
        rewards = np.empty((steps, count), np.float32)
        terminated, truncated, valid = np.empty((3, steps, count), bool)
        observations[0] = self._observation
        for t in range(steps):
            valid[t] = ~self._over
            actions[t] = (actor(observations[t]) + noise[t]).argmax(axis=1)
            observations[t + 1], rewards[t], terminated[t], truncated[t], _ = (
                self._environments.step(actions[t])
            )
            self._count(rewards[t], terminated[t] | truncated[t])
        self._observation = observations[-1]
        return Rollout(observations, actions, rewards, terminated, truncated, valid)

    def _count(self, rewards: Array, over: Array) -> None:
        self._over = over
        self._returns += rewards
        if over.any():
            self._finished.extend(self._returns[over].tolist())
            self._returns[over] = 0


def evaluate(policy: Network, episodes: int, seed: int) -> float:
    """Return the mean return of `episodes` episodes of greedy actions."""
    environments = _environments(episodes)
    observations, _ = environments.reset(seed=seed)
    returns, running = np.zeros(episodes), np.ones(episodes, bool)
    while running.any():
        actions = policy(observations).argmax(axis=1)
        observations, rewards, terminated, truncated, _ = environments.step(actions)
        returns += rewards * running
        running &= ~(terminated | truncated)
    return float(returns.mean())


def _environments(count: int) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec(
        ENVIRONMENT, num_envs=count, vectorization_mode="vector_entry_point"
    )
