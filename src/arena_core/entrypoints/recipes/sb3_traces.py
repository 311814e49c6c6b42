"""Golden traces: what Stable-Baselines3 itself answers to what it observes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from arena_core.application import spaces as paths
from arena_core.application.golden import Case, GoldenTrace, Step, leaves
from arena_core.application.ports import Array

T = TypeVar("T")

ROWS = (1, 7)
EPISODE_STEPS = 4
"""Of a policy with a memory; without one a step is as good as four."""
_LOG_STD = (-20.0, 2.0)
"""Within which SAC keeps what its last layer says."""
Observations: TypeAlias = Array | dict[str, Array]
Memory: TypeAlias = tuple[Array, ...] | None


def record(model: BaseAlgorithm, observed: Observations) -> GoldenTrace:
    """Return what the model answers to the greedy question.

    `observed`: consecutive observations, as the environment gives them, at least as
    many as `wanted` says.
    """
    cases, begin = [], 0
    for number, rows in enumerate(ROWS):
        steps = EPISODE_STEPS if _remembers(model) else 1
        taken = _take(observed, slice(begin, begin + rows * steps))
        begin += rows * steps
        cases.append(Case(f"case{number}", tuple(_episode(model, taken, rows, steps))))
    return GoldenTrace(tuple(cases))


def wanted(model: BaseAlgorithm) -> int:
    """Return how many observations `record` needs."""
    return sum(ROWS) * (EPISODE_STEPS if _remembers(model) else 1)


def observe(model: BaseAlgorithm, env: VecEnv, count: int) -> Observations:
    """Return the first observations of greedy episodes in `env`, one environment."""
    seen: list[Any] = []
    state: Memory = None
    start = np.ones(1, bool)
    obs: Any = env.reset()
    while len(seen) < count:
        seen.append(_as_given(env, obs))
        action, state = model.predict(
            obs, state=state, episode_start=start, deterministic=True
        )
        obs, _, start, _ = env.step(action)
    if isinstance(seen[0], dict):
        return {key: np.concatenate([it[key] for it in seen]) for key in seen[0]}
    return np.concatenate(seen)


def answers(model: BaseAlgorithm, case: Case) -> Iterator[dict[str, Array]]:
    """Yield what the model answers to each step of a case, as a trace calls it."""
    state: Memory = None
    start = True
    for step in case.steps:
        obs = _observed(model, step)
        said, state = _answer(model, obs, state, np.full(step.rows, start))
        start = False
        yield said


def by_path(parts: Mapping[str, T]) -> dict[str, T]:
    """Return what is known by the keys of a Dict by the paths of a bundle."""
    return {paths.below("", key): part for key, part in parts.items()}


def _observed(model: BaseAlgorithm, step: Step) -> Observations:
    # A trace is read only, and torch warns of arrays that cannot be written to.
    arrays = {path: it.copy() for path, it in leaves(step.recorded, "obs").items()}
    if not isinstance(model.observation_space, spaces.Dict):
        return arrays[""]
    keys = model.observation_space.spaces
    return {key: arrays[paths.below("", key)] for key in keys}


def _remembers(model: BaseAlgorithm) -> bool:
    return hasattr(model.policy, "lstm_actor")


def _as_given(env: VecEnv, obs: Any) -> Any:  # noqa: ANN401 -- one array, or several by name
    return env.get_original_obs() if isinstance(env, VecNormalize) else obs


def _take(observed: Observations, which: slice | Array) -> Observations:
    if isinstance(observed, dict):
        return {key: array[which] for key, array in observed.items()}
    return observed[which]


def _episode(
    model: BaseAlgorithm, observed: Observations, rows: int, steps: int
) -> Iterator[Step]:
    """Yield the steps of `rows` sequences that lie behind each other."""
    state: Memory = None
    start = np.ones(rows, bool)
    for number in range(steps):
        obs = _take(observed, np.arange(rows) * steps + number)
        said, state = _answer(model, obs, state, start)
        start = np.zeros(rows, bool)
        yield Step({**_flat(obs), **said})


def _flat(obs: Observations) -> dict[str, Array]:
    if isinstance(obs, dict):
        return {f"obs/{path}": array for path, array in by_path(obs).items()}
    return {"obs": obs}


def _answer(
    model: BaseAlgorithm, obs: Observations, state: Memory, start: Array
) -> tuple[dict[str, Array], Memory]:
    """Return the action, what the last layers said meanwhile, and the next state."""
    seen: Any = obs
    scaler = model.get_vec_normalize_env()
    if scaler is not None:
        seen = scaler.normalize_obs(obs)
    with _overheard(model) as outputs:
        action, state = model.predict(
            seen, state=state, episode_start=start, deterministic=True
        )
    said = {"action": action, **outputs}
    if state is not None:
        for name, array in zip(("h_next", "c_next"), state, strict=True):
            said[f"outputs/{name}"] = array.swapaxes(0, 1).copy()
    return said, state


@contextmanager
def _overheard(model: BaseAlgorithm) -> Iterator[dict[str, Array]]:
    """Collect what the last layers of the actor say."""
    outputs: dict[str, Array] = {}

    def keep(name: str, said: torch.Tensor) -> None:
        array = said.detach().cpu().numpy().copy()
        if isinstance(model.action_space, spaces.Box):
            array = array.reshape(-1, *model.action_space.shape)
        outputs[f"outputs/{name}"] = (
            array.clip(*_LOG_STD) if name == "log_std" else array
        )

    hooks = [
        layer.register_forward_hook(lambda _m, _i, said, name=name: keep(name, said))
        for name, layer in _last_layers(model).items()
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _last_layers(model: BaseAlgorithm) -> Mapping[str, torch.nn.Module]:
    """Return the layers by what their outputs are called in a bundle."""
    policy: Any = model.policy
    if isinstance(model, DQN):
        return {"q_values": policy.q_net.q_net}
    if isinstance(model, TD3):
        return {"action": policy.actor.mu}
    if isinstance(model, SAC):
        mean = {"mean": policy.actor.mu}
        return mean if model.use_sde else {**mean, "log_std": policy.actor.log_std}
    is_box = isinstance(model.action_space, spaces.Box)
    return {"mean" if is_box else "logits": policy.action_net}
