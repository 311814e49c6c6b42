"""Checkpoints of a population of AgileRL: its best agent, whenever one is due."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arena_core.adapters.converters import agilerl, child
from arena_core.application import golden
from arena_core.application.conversion import MODEL_FILE, TRACE_FILE, Options
from arena_core.entrypoints.recipes import agilerl_traces
from arena_core.training import STATES, Run

if TYPE_CHECKING:
    from arena_core.entrypoints.recipes.agilerl_watching import Returns


class Checkpoints:
    """Writes the agent with the highest fitness, and records what it scores."""

    def __init__(
        self,
        run: Run,
        environment: Any,  # noqa: ANN401 -- as AgileRL describes it
        every: int,
        returns: "Returns | None",
    ) -> None:
        self._run = run
        self._environment = environment
        self._every = every
        self._returns = returns
        self._best: Any = None
        self._step = self._written = run.first_step

    def evaluated(self, population: list[Any]) -> None:
        """Take note of a population that has just been evaluated."""
        self._best = max(population, key=_fitness)
        self._step = int(self._best.metrics.steps)
        score = None if self._returns is None else self._returns.mean()
        self._run.log(self._step, score=score, fitness=_fitness(self._best))
        if self._step // self._every > self._written // self._every:
            self._write()

    def write_last(self) -> None:
        """Write the best agent of the last evaluation, unless that was done."""
        if self._best is not None and self._step > self._written:
            self._write()

    def _write(self) -> None:
        self._written = self._step
        saved = self._run.folder / STATES / str(self._step)
        self._run.checkpoint(
            self._step, lambda folder: _bundle(saved, folder), state=self._save
        )

    def _save(self, folder: Path) -> None:
        self._best.save_checkpoint(str(folder / MODEL_FILE))
        trace = agilerl_traces.record(self._best, self._environment)
        (folder / TRACE_FILE).write_bytes(golden.write(trace))


def _bundle(saved: Path, folder: Path) -> None:
    child.write(folder, agilerl.convert(saved, Options(), lambda _: None))


def _fitness(agent: Any) -> float:  # noqa: ANN401 -- an algorithm of AgileRL
    """Return the latest evaluation; of several agents the sum."""
    latest: Any = agent.metrics.fitness[-1]
    return float(np.sum(list(latest.values()) if isinstance(latest, dict) else latest))
