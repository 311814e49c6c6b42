"""One episode of an environment: of one agent, or of a team at once or in turns."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium
from attrs import frozen

from arena_core.application.ports import Array
from arena_core.domain.errors import Unavailable
from arena_core.entrypoints.play.endpoint import Tree
from arena_core.entrypoints.play.legality import flat, masked
from arena_core.entrypoints.play.player import Player

ALONE = ""
"""The name of an agent that plays by itself."""
FORCED = "env_defined_actions"
"""Where an environment says, in the info of an agent, what that agent has to do."""

Environment: TypeAlias = Any
"""One of Gymnasium's; or of PettingZoo's, which need not be installed."""
Loop: TypeAlias = Callable[[Environment, Player, int], None]
"""Plays an environment to the end of one episode, which begins with a seed."""


@frozen
class Episode:
    """What came of one episode.  A team's figures are sums over its agents."""

    seed: int
    total: float
    """The return: the sum of all rewards, not discounted."""
    totals: Mapping[str, float]
    """The same by agent."""
    length: int
    latencies_ms: tuple[float, ...]
    violations: int | None


def play(env: Environment, loop: Loop, player: Player, seed: int) -> Episode:
    """Play one episode.  Raises what the calls of an `Endpoint` raise."""
    loop(env, player, seed)
    return Episode(
        seed,
        sum(player.earned.values()),
        player.earned,
        player.length,
        tuple(player.latencies_ms),
        player.violations,
    )


def alone(env: gymnasium.Env[Any, Any], player: Player, seed: int) -> None:
    """Play an episode of Gymnasium."""
    observation, info = env.reset(seed=seed)
    over = False
    while not over:
        seen, mask = masked(observation, info)
        mask = _method_mask(env) if mask is None else mask
        action = player.act(seen, mask)
        player.judge(action, env.action_space, mask)
        observation, reward, ended, cut, info = env.step(action)
        player.earn(ALONE, float(reward))
        player.length += 1
        over = ended or cut


def together(env: Environment, player: Player, seed: int) -> None:
    """Play an episode of PettingZoo's parallel interface."""
    observations, infos = env.reset(seed=seed)
    while env.agents:
        seen = {agent: observations[agent] for agent in env.agents}
        actions = _team_actions(env, player, seen, infos)
        observations, rewards, _, _, infos = env.step(actions)
        for agent, reward in rewards.items():
            player.earn(agent, reward)
        player.length += 1


def in_turns(env: Environment, player: Player, seed: int) -> None:
    """Play an episode of PettingZoo's AEC interface, where agents take turns."""
    env.reset(seed=seed)
    for agent in env.agent_iter():
        observation, reward, ended, cut, info = env.last()
        player.earn(agent, reward)
        if ended or cut:
            env.step(None)
            continue
        seen, infos = {agent: observation}, {agent: info}
        env.step(_team_actions(env, player, seen, infos)[agent])
        player.length += 1


def _team_actions(
    env: Environment,
    player: Player,
    observations: Mapping[str, Tree],
    infos: Mapping[str, Any],
) -> dict[str, Tree]:
    """Return the action of each agent that has an observation; the others have none."""
    views = {a: masked(seen, infos.get(a)) for a, seen in observations.items()}
    team = dict.fromkeys([*env.possible_agents, *views])
    masks = {agent: mask for agent, (_, mask) in views.items()}
    answered = player.act(
        team | {agent: seen for agent, (seen, _) in views.items()},
        team | masks if any(mask is not None for mask in masks.values()) else None,
        _forced(infos, team),
    )
    actions = {agent: _action_of(answered, agent) for agent in views}
    for agent, action in actions.items():
        player.judge(action, env.action_space(agent), masks[agent])
    return actions


def _forced(
    infos: Mapping[str, Any], team: Mapping[str, None]
) -> dict[str, Tree] | None:
    """Return what the environment has the agents do; None if it never says."""
    said = {
        agent: info[FORCED]
        for agent, info in infos.items()
        if isinstance(info, Mapping) and FORCED in info
    }
    return {**team, **said} if said else None


def _action_of(answered: Tree, agent: str) -> Tree:
    action = answered.get(agent) if isinstance(answered, Mapping) else None
    if action is None:
        raise Unavailable(
            f"The agent answered no action for {agent}, which is alive: it was trained "
            "for another environment."
        )
    return action


def _method_mask(env: gymnasium.Env[Any, Any]) -> Array | None:
    """Return the mask of an environment that has one by sb3-contrib's convention."""
    if not env.has_wrapper_attr("action_masks"):
        return None
    return flat(env.get_wrapper_attr("action_masks")())
