"""How sure a mean is, and whether two of them differ: the percentile bootstrap.

B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, Chapman & Hall 1993,
chapters 6 and 13; paired data are resampled in pairs, that is by their differences.
"""

from collections.abc import Sequence
from enum import Enum

import numpy as np
from attrs import frozen

RESAMPLES = 10_000
BLOCKS = 10
"""Resamples are drawn in so many parts: less memory for many episodes."""
CONFIDENCE = 0.95
SEED = 0
"""Of the resampling: the same returns give the same interval."""
FEWEST_PAIRS = 6
"""With fewer pairs, even if one agent is better in all of them, chance does as much
more than once in twenty times: 2 * 0.5 ** 5 > 1 - CONFIDENCE."""


class Verdict(Enum):
    """What the returns of two agents on the same episodes say."""

    HIGHER = "higher"
    LOWER = "lower"
    EQUAL = "equal"
    """Every pair is the same."""
    UNCLEAR = "unclear"
    """They may differ, but by less than so many episodes could show."""
    TOO_FEW = "too few"


@frozen
class Interval:
    """Where a mean lies, with the confidence `CONFIDENCE`."""

    low: float
    high: float


@frozen
class Comparison:
    """The first agent against the second, on the same episodes."""

    pairs: int
    difference: float
    """The mean of the first one's returns less that of the second one's."""
    interval: Interval | None
    verdict: Verdict


def interval_of_mean(values: Sequence[float]) -> Interval | None:
    """Return the interval of the mean of `values`; None for one or none."""
    sample = np.asarray(values, float)
    if len(sample) < 2:  # noqa: PLR2004 -- one value says nothing of how they vary
        return None
    random = np.random.default_rng(SEED)
    size = (RESAMPLES // BLOCKS, len(sample))
    means = [
        sample[random.integers(len(sample), size=size)].mean(axis=1)
        for _ in range(BLOCKS)
    ]
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [outside, 1 - outside])
    return Interval(float(low), float(high))


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare returns that belong together in pairs.  There must be at least one."""
    differences = np.subtract(first, second, dtype=float)
    interval = interval_of_mean(differences.tolist())
    return Comparison(
        len(differences),
        float(differences.mean()),
        interval,
        _verdict(differences.tolist(), interval),
    )


def _verdict(differences: Sequence[float], interval: Interval | None) -> Verdict:
    if interval is None or len(differences) < FEWEST_PAIRS:
        return Verdict.TOO_FEW
    if not any(differences):
        return Verdict.EQUAL
    if interval.low > 0:
        return Verdict.HIGHER
    return Verdict.LOWER if interval.high < 0 else Verdict.UNCLEAR
