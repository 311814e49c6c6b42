"""What proximal policy optimisation estimates and minimises, with its derivatives.

The clipped objective is that of Schulman et al. 2017, arXiv 1707.06347, and the
advantages are estimated as in Schulman et al. 2015, arXiv 1506.02438.
"""

import numpy as np
from attrs import frozen

from arena_core.entrypoints.demo.network import Array
from arena_core.entrypoints.demo.rollout import Rollout


@frozen(eq=False)
class Samples:
    """Steps of a rollout; each array begins with the axes (T, N), or B for T x N.

    Floats have the dtype of the networks, `actions` are int64.
    """

    observations: Array
    actions: Array
    log_probabilities: Array
    """Of the actions, when they were chosen."""
    advantages: Array
    returns: Array
    """What the critic should have said."""

    def __len__(self) -> int:
        return len(self.actions)

    def take(self, rows: Array) -> "Samples":
        """Return those that `rows` says, by numbers or by a mask; they begin with B."""
        return Samples(
            self.observations[rows],
            self.actions[rows],
            self.log_probabilities[rows],
            self.advantages[rows],
            self.returns[rows],
        )


def advantages(rollout: Rollout, values: Array, discount: float, decay: float) -> Array:
    """Return generalised advantage estimates (T, N) for `values` (T + 1, N).

    Nothing is to come after a termination; after a truncation or the last step, the
    value of the state that was reached stands for what would have come.  Where a
    step is not valid the result means nothing.
    """
    goes_on = (~rollout.terminated).astype(values.dtype)
    same_episode = goes_on * ~rollout.truncated
    surprises = rollout.rewards + discount * goes_on * values[1:] - values[:-1]
    found = np.zeros_like(values)
    for t in reversed(range(len(surprises))):
        found[t] = surprises[t] + discount * decay * same_episode[t] * found[t + 1]
    return found[:-1]


def normalised(advantages: Array) -> Array:
    """Return `advantages` (B,) shifted and scaled to mean 0 and deviation 1."""
    centred: Array = advantages - advantages.mean()
    centred /= advantages.std() + 1e-8
    return centred


def log_softmax(logits: Array) -> Array:
    """Return the log-probabilities (..., n) that `logits` (..., n) stand for."""
    shifted: Array = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def chosen(log_probabilities: Array, actions: Array) -> Array:
    """Return the entries of (..., n) that `actions` (...) name."""
    found: Array = np.take_along_axis(log_probabilities, actions[..., None], axis=-1)
    return found[..., 0]


def policy_loss(
    logits: Array, batch: Samples, clip_range: float
) -> tuple[float, Array]:
    """Return the negated clipped objective, and its derivative by `logits` (B, n)."""
    log_probabilities = log_softmax(logits)
    ratio = np.exp(chosen(log_probabilities, batch.actions) - batch.log_probabilities)
    free = ratio * batch.advantages
    clipped = np.clip(ratio, 1 - clip_range, 1 + clip_range) * batch.advantages
    # d ratio / d logits = ratio * (one hot of the action - probabilities)
    weight = free * (free <= clipped) / len(batch)
    slope = weight[:, None] * np.exp(log_probabilities)
    slope[np.arange(len(batch)), batch.actions] -= weight
    return -float(np.minimum(free, clipped).mean()), slope


def value_loss(values: Array, batch: Samples) -> tuple[float, Array]:
    """Return half the mean squared error, and its derivative by `values` (B, 1)."""
    errors = values - batch.returns[:, None]
    return 0.5 * float(np.mean(errors * errors)), errors / len(batch)
