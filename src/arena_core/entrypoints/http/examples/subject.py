"""The agent that examples are about."""

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen

from arena_core.application import spaces
from arena_core.application.callees import Callee
from arena_core.application.ports import Array
from arena_core.domain.checkpoint import Box, Discrete, Manifest, Policy, Space
from arena_core.domain.values import Family
from arena_core.entrypoints.http.examples import arrays
from arena_core.entrypoints.http.examples.arrays import Forbidding, Tree

MOST_NAMED = 8
"""The most agents that an example names."""
CONTINUOUS = None
PLAYABLE: Mapping[str, tuple[int, int | None]] = {
    "Acrobot-v1": (6, 3),
    "CartPole-v1": (4, 2),
    "MountainCar-v0": (2, 3),
    "MountainCarContinuous-v0": (2, CONTINUOUS),
    "Pendulum-v1": (3, CONTINUOUS),
}
"""What Gymnasium plays by itself: how many numbers are observed, and how many actions
there are, or that an action is one float."""


class Situation(Enum):
    """How an agent is called."""

    ALONE = "alone"
    TOGETHER = "together"
    PREDICTING = "predicting"
    TALKING = "talking"


@frozen(eq=False)
class Subject:
    callee: Callee
    endpoint: str
    base_url: str
    """Of the whole API."""
    api_key: str = field(repr=False)
    observed: Tree = field(init=False, repr=False)
    """An observation, of those agents that are named; it may be large."""

    @observed.default
    def _observe(self) -> Tree:
        if self.situation is not Situation.TOGETHER:
            return arrays.observation(self.manifest.policy)
        return {a: arrays.observation(policy) for a, policy in self.policies.items()}

    @property
    def manifest(self) -> Manifest:
        return self.callee.manifest

    @property
    def situation(self) -> Situation:
        match self.manifest.family:
            case Family.LLM:
                return Situation.TALKING
            case Family.RL if self.manifest.is_multi_agent:
                return Situation.TOGETHER
            case Family.RL:
                return Situation.ALONE
            case _:
                return Situation.PREDICTING

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The policies of the agents that are named, by agent."""
        named = list(self.manifest.agents.items())[:MOST_NAMED]
        return {agent: self.manifest.policies[policy] for agent, policy in named}

    @property
    def unnamed(self) -> int:
        """How many agents are not."""
        return max(0, len(self.manifest.agents) - MOST_NAMED)

    @property
    def forbidding(self) -> Forbidding | None:
        """The mask of an agent that is alone."""
        return arrays.forbidding(self.manifest.policy)

    @property
    def forced(self) -> Mapping[str, Array]:
        """What the environment chooses in place of one of several agents."""
        agent, policy = list(self.policies.items())[-1]
        assert policy.action_space is not None  # noqa: S101 -- it acts
        return {agent: arrays.member(policy.action_space)}

    @property
    def masks(self) -> Mapping[str, Forbidding]:
        """The masks of those of several agents that choose for themselves."""
        masks = {a: arrays.forbidding(policy) for a, policy in self.policies.items()}
        return {
            agent: mask
            for agent, mask in masks.items()
            if mask is not None and agent not in self.forced
        }

    @property
    def environment(self) -> str | None:
        """The environment that can be played by whoever has Gymnasium."""
        name = self.callee.gym or ""
        if self.situation is not Situation.ALONE or name not in PLAYABLE:
            return None
        observed, actions = PLAYABLE[name]
        policy = self.manifest.policy
        acts = policy.action_space
        fits = _is_vector(acts, 1) if actions is None else acts == Discrete(actions)
        return name if fits and _is_vector(policy.observation_space, observed) else None


def _is_vector(space: Space | None, size: int) -> bool:
    return isinstance(space, Box) and spaces.shape(space) == (size,)
