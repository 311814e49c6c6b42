"""How well answers fit, for a task: the larger, the better."""

import numpy as np

from arena_core.application.ports import Array
from arena_core.entrypoints.recipes.examples import CLASSIFICATION, Task


def fit(task: Task, answers: Array, targets: Array) -> float:
    """Return the accuracy, or R2, the share of the variance that is explained.

    `answers`: probabilities (B, classes), or numbers (B, 1).  R2 is at most 1, and
    below 0 where the mean would have been the better answer.
    """
    if task == CLASSIFICATION:
        return float((answers.argmax(axis=1) == targets).mean())
    numbers = answers[:, 0].astype(np.float64)
    error = ((numbers - targets) ** 2).sum()
    spread = ((targets - targets.mean(dtype=np.float64)) ** 2).sum()
    return float(1 - error / spread) if spread else float(error == 0)
