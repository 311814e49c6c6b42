"""Golden traces: what agents of AgileRL themselves answer, to the greedy question."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from agilerl.algorithms import RainbowDQN
from agilerl.models.env import make_single_env
from agilerl.networks.actors import DeterministicActor, StochasticActor
from agilerl.wrappers.agent import RSNorm
from gymnasium import spaces

from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.ports import Array
from arena_core.application.spaces import below

ROWS = (1, 7)
EPISODE_STEPS = 4
"""Of a policy with a memory; without one a step is as good as four."""
SEED = 1_000_003
Said: TypeAlias = dict[str, Array]


@torch.no_grad()
def record(agent: Any, environment: Any) -> GoldenTrace:  # noqa: ANN401 -- of AgileRL
    """Return what the agent answers to what it observes in the environment.

    The agent is left in the mode, training or not, in which it was.
    """
    before = agent.training
    agent.set_training_mode(False)
    try:
        cases = tuple(_cases(agent, environment))
    finally:
        agent.set_training_mode(before)
    return GoldenTrace(cases)


def _cases(agent: Any, environment: Any) -> Iterator[Case]:  # noqa: ANN401 -- of AgileRL
    many = hasattr(agent, "agent_ids")
    steps = EPISODE_STEPS if getattr(agent, "recurrent", False) else 1
    seen = _observations(agent, environment, sum(ROWS) * steps, many=many)
    begin = 0
    for number, rows in enumerate(ROWS):
        taken = [
            _stacked([seen[begin + row * steps + step] for row in range(rows)])
            for step in range(steps)
        ]
        begin += rows * steps
        said = _of_many(agent, taken[0]) if many else _of_one(agent, taken, rows)
        yield Case(f"case{number}", tuple(map(Step, said)))


# --- what is observed ----------------------------------------------------------------


def _observations(agent: Any, environment: Any, count: int, *, many: bool) -> list[Any]:  # noqa: ANN401 -- of AgileRL
    """Return consecutive observations of actions at random."""
    env = make_single_env(environment, multi_agent=many)
    actions = agent.possible_action_spaces if many else {"": agent.action_space}
    for number, space in enumerate(actions.values()):
        space.seed(SEED + number)
    seen: list[Any] = []
    obs, _ = env.reset(seed=SEED)
    while len(seen) < count:
        seen.append(obs)
        chosen = {name: space.sample() for name, space in actions.items()}
        obs, *ended, _ = env.step(chosen if many else chosen[""])
        if _is_over(ended[1:]):
            obs, _ = env.reset()
    env.close()
    return seen


def _is_over(ends: list[Any]) -> bool:
    return any(
        any(end.values()) if isinstance(end, dict) else bool(end) for end in ends
    )


def _stacked(samples: list[Any]) -> Any:  # noqa: ANN401 -- observations of any space
    match samples[0]:
        case dict() as first:
            return {key: _stacked([it[key] for it in samples]) for key in first}
        case tuple() as first:
            return tuple(_stacked([it[i] for it in samples]) for i in range(len(first)))
        case _:
            return np.stack(samples)


def _flat(obs: Any, path: str = "") -> Said:  # noqa: ANN401 -- observations of any space
    match obs:
        case dict():
            parts: Mapping[Any, Any] = obs
        case tuple():
            parts = dict(enumerate(obs))
        case _:
            return {f"obs/{path}".rstrip("/"): obs}
    flat: Said = {}
    for key, inner in parts.items():
        flat |= _flat(inner, below(path, key))
    return flat


# --- what is answered ----------------------------------------------------------------


def _of_one(agent: Any, steps: list[Any], rows: int) -> Iterator[Said]:  # noqa: ANN401 -- of AgileRL
    recurrent = getattr(agent, "recurrent", False)
    hidden = agent.get_initial_hidden_state(rows) if recurrent else None
    for obs in steps:
        said, hidden = _answer(agent, obs, hidden)
        for name, state in (hidden or {}).items():
            if not name.startswith("critic"):
                letter = name.rsplit("_", 1)[1]
                said[f"outputs/{letter}_next"] = _array(state).swapaxes(0, 1)
        yield {**_flat(obs), **said}


def _of_many(agent: Any, observed: Mapping[str, Any]) -> Iterator[Said]:  # noqa: ANN401 -- of AgileRL
    step: Said = {}
    for name in agent.agent_ids:
        group = agent.get_network_id(name)
        seen = agent.preprocess_observation({name: observed[name]}, [group])[group]
        actor = agent.actors[group]
        if isinstance(actor, StochasticActor):
            said, _ = _stochastic(actor, seen, None)
        else:
            said = _deterministic(actor, seen, agent.get_action(observed)[0][name])
        arrays = {**_flat(observed[name]), **said}
        step |= {f"agents/{name}/{what}": array for what, array in arrays.items()}
    yield step


def _answer(agent: Any, obs: Any, hidden: Any) -> tuple[Said, Any]:  # noqa: ANN401 -- of AgileRL
    if isinstance(agent.actor, StochasticActor):
        return _stochastic(agent.actor, agent.preprocess_observation(obs), hidden)
    if isinstance(agent.actor, DeterministicActor):
        seen = obs
        if isinstance(agent, RSNorm):
            seen = agent.normalize_observation(torch.as_tensor(obs))
        action = agent.get_action(obs, training=False)
        return _deterministic(
            agent.actor, agent.preprocess_observation(seen), action
        ), None
    greedy = {"training": False} if isinstance(agent, RainbowDQN) else {"epsilon": 0.0}
    action = np.asarray(agent.get_action(obs, **greedy))
    agent.actor.eval()
    values = _array(agent.actor(agent.preprocess_observation(obs)))
    return {"action": action, "outputs/q_values": values}, None


def _stochastic(actor: Any, seen: Any, hidden: Any) -> tuple[Said, Any]:  # noqa: ANN401 -- of AgileRL
    latent = actor.extract_features(seen, hidden_state=hidden)
    if hidden is not None:
        latent, hidden = latent
    actor.forward_head(latent, sample=False)
    said, space = actor.head_net.dist, actor.action_space
    if said.mu is None:
        logits = _array(said.logits)
        action = _likeliest(logits, space)
        return {"action": action, "outputs/logits": logits}, hidden
    mean = _array(said.mu)
    action = mean.clip(space.low, space.high)
    if actor.squash_output:
        action = _array(actor.scale_action(torch.tanh(said.mu)))
    outputs = {"outputs/action": mean, "outputs/log_std": _array(said.log_std)}
    return {"action": action, **outputs}, hidden


def _deterministic(actor: Any, seen: Any, action: Array) -> Said:  # noqa: ANN401 -- of AgileRL
    if isinstance(actor.action_space, spaces.Discrete):
        logits = _before_activation(actor, seen)
        return {
            "action": _likeliest(logits, actor.action_space),
            "outputs/logits": logits,
        }
    # Only this activation is not part of the weights that are served.
    is_tanh = actor.output_activation == "Tanh"
    said = _before_activation(actor, seen) if is_tanh else _array(actor(seen))
    return {"action": action, "outputs/action": said}


def _before_activation(actor: Any, seen: Any) -> Array:  # noqa: ANN401 -- of AgileRL
    """Return what the last layer of the actor says."""
    said: list[torch.Tensor] = []
    layer = actor.head_net.get_output_dense()
    hook = layer.register_forward_hook(lambda *call: said.append(call[-1]))
    actor(seen)
    hook.remove()
    return _array(said[0])


def _likeliest(logits: Array, space: Any) -> Array:  # noqa: ANN401 -- of Gymnasium
    match space:
        case spaces.MultiDiscrete():
            parts = np.split(logits, np.cumsum(space.nvec)[:-1], axis=1)
            return np.stack([part.argmax(axis=1) for part in parts], axis=1)
        case spaces.MultiBinary():
            return (logits > 0).astype(np.int8)
        case _:
            return np.asarray(logits.argmax(axis=1))


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array
