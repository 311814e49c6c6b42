"""The player of one episode: asks an endpoint for every action, and keeps count."""

import time
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import Any

import gymnasium
import numpy as np
from attrs import define, field

from arena_core.application.inference import Mode
from arena_core.application.ports import Array
from arena_core.entrypoints.play.endpoint import Endpoint, Tree
from arena_core.entrypoints.play.legality import check, forbids

SAMPLE_SEEDS = 2**31


@define
class Player:
    """Plays one episode; make another for the next."""

    _endpoint: Endpoint
    _seeds: Iterator[int | None]
    """What each action is drawn with; None: the greedy one."""
    _hidden_state: object = None
    length: int = 0
    """Steps of the environment; turns where agents take turns."""
    earned: dict[str, float] = field(factory=dict)
    """The sum of the rewards of each agent."""
    latencies_ms: list[float] = field(factory=list)
    """Of every call, from before it is encoded until its answer is decoded."""
    violations: int | None = None
    """Actions that the environment's mask forbade; None while there was no mask."""

    @classmethod
    def of(cls, endpoint: Endpoint, mode: Mode, seed: int) -> "Player":
        """Return the player of the episode with `seed`.

        The same seed draws with the same numbers, whoever plays: two agents are to
        differ by what they are, and not by luck.
        """
        return cls(endpoint, _draws(seed) if mode is Mode.SAMPLE else repeat(None))

    def act(
        self,
        observation: Tree,
        mask: Tree = None,
        forced: Mapping[str, Tree] | None = None,
    ) -> Tree:
        """Return the action, and keep what the agent is to remember."""
        begun = time.perf_counter()
        answer = self._endpoint.get_action(
            observation,
            mask=mask,
            forced=forced,
            hidden_state=_wanted(self._hidden_state, observation),
            seed=next(self._seeds),
        )
        self.latencies_ms.append((time.perf_counter() - begun) * 1000)
        self._hidden_state = _remembered(self._hidden_state, answer.hidden_state)
        return answer.action

    def judge(
        self, action: Tree, space: gymnasium.Space[Any], mask: Array | None
    ) -> None:
        """Count `action` if it is forbidden.  Raises `Unavailable` if it is none."""
        check(action, space)
        if mask is not None:
            self.violations = (self.violations or 0) + forbids(mask, space, action)

    def earn(self, agent: str, reward: float) -> None:
        self.earned[agent] = self.earned.get(agent, 0.0) + float(reward)


def _wanted(state: object, observation: Tree) -> object:
    """Return what the agents remember that are asked now: the others may be dead."""
    if not (isinstance(state, dict) and isinstance(observation, Mapping)):
        return state
    return {k: kept for k, kept in state.items() if observation.get(k, "") is not None}


def _remembered(old: object, new: object) -> object:
    """Return what is remembered: of agents that were not asked now, what was before."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: state for key, state in new.items() if state is not None}


def _draws(seed: int) -> Iterator[int]:
    random = np.random.default_rng(seed)
    while True:
        yield int(random.integers(SAMPLE_SEEDS))
