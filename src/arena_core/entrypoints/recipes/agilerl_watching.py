"""Standing by while AgileRL trains: after each evolution, and at each step.

Its trainers tell nothing to whoever calls them.  But they ask a selection strategy and
a mutation, which are arguments, after each evaluation of the population.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from arena_core.entrypoints.recipes.agilerl_checkpoints import Checkpoints
from arena_core.training import Run

LATEST = 100
"""Episodes that the training score is the mean of, at most."""


class Stopped(Exception):  # noqa: N818 -- nothing went wrong
    """The training was asked to end."""


class Selection:
    """The selection that was asked for, if one was, and what is said before it."""

    def __init__(
        self,
        run: Run,
        checkpoints: Checkpoints,
        strategy: Any,  # noqa: ANN401 -- of AgileRL, or None
        population_size: int,
    ) -> None:
        self.population_size = population_size
        self._run = run
        self._checkpoints = checkpoints
        self._strategy = strategy

    def select(
        self, population: list[Any]
    ) -> tuple[Any, list[Any], Sequence[int] | None]:
        """Return the best, the next generation, and which of it may be mutated."""
        self._checkpoints.evaluated(population)
        if self._run.should_stop:
            raise Stopped
        if self._strategy is None:
            return population[0], population, None
        selected: tuple[Any, list[Any], Sequence[int] | None]
        selected = self._strategy.select(population)
        return selected


class Mutation:
    """The mutation that was asked for, if one was."""

    def __init__(self, mutations: Any, returns: "Returns | None") -> None:  # noqa: ANN401 -- of AgileRL, or None
        self.parameters_mut = getattr(mutations, "parameters_mut", 0.0)
        self._mutations = mutations
        self._returns = returns

    def mutation(self, population: list[Any], **options: Any) -> list[Any]:  # noqa: ANN401 -- as AgileRL passes them
        mutated = population
        if self._mutations is not None:
            mutated = self._mutations.mutation(population, **options)
        if self._returns is not None:
            self._returns.population = mutated
        return mutated


class Returns(VectorWrapper):
    """Sums the rewards of the episodes that are trained on."""

    def __init__(self, env: VectorEnv, population: list[Any]) -> None:
        super().__init__(env)
        self.population = population
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._sums = np.zeros(env.num_envs)

    def mean(self) -> float | None:
        """Return the mean of the latest; None if no episode has ended."""
        return float(np.mean(self._latest)) if self._latest else None

    def reset(self, **options: Any) -> Any:  # noqa: ANN401 -- as Gymnasium has it
        self._sums[:] = 0
        return self.env.reset(**options)

    def step(self, actions: Any) -> Any:  # noqa: ANN401 -- as Gymnasium has it
        observed, rewards, terminated, truncated, info = self.env.step(actions)
        self._sums += rewards
        ended = np.logical_or(terminated, truncated)
        # Agents are evaluated in their order: the first of them tells which it is.
        if self.population[0].training:
            self._latest.extend(self._sums[ended].tolist())
        self._sums[ended] = 0
        return observed, rewards, terminated, truncated, info
