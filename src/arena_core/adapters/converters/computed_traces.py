"""Golden traces of policies whose training has recorded none.

What comes of an observation is computed by the NumPy half of the network, and by
nothing of what serves: a mistake on either side shows as a difference.
"""

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

import numpy as np

from arena_core.adapters.converters.networks import Network
from arena_core.application import spaces
from arena_core.application.golden import Case, GoldenTrace, Step
from arena_core.application.ports import Array, Tensors
from arena_core.domain.checkpoint import (
    Box,
    Discrete,
    Head,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Normaliser,
    Policy,
    Squash,
)

BATCHES = (1, 7)
EPISODE_STEPS = 4
SEED = 0
_HUGE = 1e6
"""Bounds beyond it are none: some simulators name the largest float."""


def trace(policy: Policy, network: Network, *, masked: bool = False) -> GoldenTrace:
    """Return what the policy answers to observations that are drawn from its space.

    `masked`: draw action masks too.
    """
    rng = np.random.default_rng(SEED)
    episodes = [episode(policy, network, n, rng, masked=masked) for n in BATCHES]
    return GoldenTrace(
        tuple(
            Case(f"case{number}", tuple(Step(recorded) for recorded in steps))
            for number, steps in enumerate(episodes)
        )
    )


def episode(
    policy: Policy,
    network: Network,
    rows: int,
    rng: np.random.Generator,
    *,
    masked: bool = False,
) -> list[dict[str, Array]]:
    """Return what is recorded of each step: one, or a few of a recurrent policy."""
    hidden = _zeros(policy, rows)
    steps = []
    for _ in range(EPISODE_STEPS if policy.hidden_states else 1):
        observed = _observations(policy, rows, rng)
        outputs = network.run({**_inputs(policy, observed), **hidden})
        recorded = {f"obs/{path}".rstrip("/"): a for path, a in observed.items()}
        recorded |= {f"outputs/{name}": array for name, array in outputs.items()}
        mask = _mask(policy.action_space, rows, rng) if masked else None
        if mask is not None:
            recorded["action_mask"] = mask
        recorded["action"] = greedy(policy, outputs, mask)
        steps.append(recorded)
        hidden = {state.input: outputs[state.output] for state in policy.hidden_states}
    return steps


def _zeros(policy: Policy, rows: int) -> dict[str, Array]:
    names = {state.input for state in policy.hidden_states}
    return {
        spec.name: np.zeros((rows, *(n or 1 for n in spec.shape[1:])), spec.dtype)
        for spec in policy.signature.inputs
        if spec.name in names
    }


# --- what goes in ----------------------------------------------------------------


def _observations(
    policy: Policy, rows: int, rng: np.random.Generator
) -> dict[str, Array]:
    if policy.observation_space is None:
        raise ValueError("a policy that observes nothing")
    return {
        path: _sample(space, policy.normalisers.get(path), rows, rng)
        for path, space in spaces.leaves(policy.observation_space).items()
    }


def _sample(
    space: LeafSpace, normaliser: Normaliser | None, rows: int, rng: np.random.Generator
) -> Array:
    match space:
        case Box():
            return _sample_box(space, normaliser, rows, rng)
        case Discrete():
            integers = rng.integers(space.n, size=rows) + space.start
            return np.asarray(integers, space.dtype)
        case MultiDiscrete():
            size = (rows, len(space.nvec))
            vectors = rng.integers(space.nvec, size=size) + np.array(space.start)
            return np.asarray(vectors, space.dtype)
        case MultiBinary():
            return rng.integers(2, size=(rows, *space.shape), dtype=np.int8)


def _sample_box(
    space: Box, normaliser: Normaliser | None, rows: int, rng: np.random.Generator
) -> Array:
    """Draw around the mean if there is one, else evenly where there are bounds."""
    low, high = _bounds(space)
    if normaliser is None:
        bounded = np.isfinite(low) & np.isfinite(high)
        begin, end = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        share = rng.random((rows, *space.shape))
        sample = begin + share * (end - begin)
        sample = np.where(bounded, sample, rng.normal(size=sample.shape))
    else:
        spread = np.sqrt(np.reshape(normaliser.variance, space.shape))
        noise = rng.normal(size=(rows, *space.shape))
        sample = np.reshape(normaliser.mean, space.shape) + spread * noise
    sample = np.clip(sample, low, high)
    if np.dtype(space.dtype).kind != "f":
        sample = np.rint(sample)
    return np.asarray(sample, space.dtype)


def _bounds(space: Box) -> tuple[Array, Array]:
    low = [-np.inf if b is None or b < -_HUGE else b for b in space.low]
    high = [np.inf if b is None or b > _HUGE else b for b in space.high]
    return np.reshape(low, space.shape), np.reshape(high, space.shape)


def _inputs(policy: Policy, observed: Mapping[str, Array]) -> dict[str, Array]:
    inputs = {}
    for spec, (path, array) in zip(
        policy.signature.inputs, observed.items(), strict=False
    ):
        prepared = array
        if path in policy.normalisers:
            prepared = _normalised(array, policy.normalisers[path])
        inputs[spec.name] = prepared.astype(spec.dtype)
    return inputs


def _normalised(array: Array, normaliser: Normaliser) -> Array:
    shape = array.shape[1:]
    mean = np.reshape(normaliser.mean, shape)
    scale = np.sqrt(np.reshape(normaliser.variance, shape) + normaliser.epsilon)
    scaled: Array = (array - mean) / scale
    clip = np.inf if normaliser.clip is None else normaliser.clip
    return np.clip(scaled, -clip, clip)


def _mask(space: LeafSpace | None, rows: int, rng: np.random.Generator) -> Array | None:
    """Return which choices are legal; at least one is in each part."""
    match space:
        case Discrete(n=n):
            sizes: tuple[int, ...] = (n,)
        case MultiDiscrete(nvec=nvec):
            sizes = nvec
        case _:
            return None
    parts = []
    for size in sizes:
        part = rng.random((rows, size)) < 0.5  # noqa: PLR2004 -- one half
        part[np.arange(rows), rng.integers(size, size=rows)] = True
        parts.append(part)
    return np.concatenate(parts, axis=1)


# --- what comes out --------------------------------------------------------------


def greedy(policy: Policy, outputs: Tensors, mask: Array | None = None) -> Array:
    """Return the action that the policy prefers, (B, *shape of the action space)."""
    said = outputs[policy.signature.outputs[0].name]
    space = policy.action_space
    if policy.head is Head.ACTION and isinstance(space, Box):
        return _continuous(said, space, policy)
    if policy.head is Head.ACTION:
        return said
    scores = said if mask is None else np.where(mask, said, -np.inf)
    return _DISCRETE[type(space)](scores, space)


def _continuous(said: Array, space: Box, policy: Policy) -> Array:
    transform = policy.transform
    action = np.tanh(said) if transform.squash is Squash.TANH else said
    low, high = (
        np.reshape([infinite if b is None else b for b in bounds], space.shape)
        for bounds, infinite in ((space.low, -np.inf), (space.high, np.inf))
    )
    if transform.rescale_from is not None:
        begin, end = transform.rescale_from
        action = low + (action - begin) / (end - begin) * (high - low)
    return np.clip(action, low, high).astype(space.dtype)


def _categorical(scores: Array, space: Discrete) -> Array:
    return np.asarray(scores.argmax(axis=1) + space.start, space.dtype)


def _multi_categorical(scores: Array, space: MultiDiscrete) -> Array:
    parts = pairwise(accumulate(space.nvec, initial=0))
    chosen = [scores[:, begin:end].argmax(axis=1) for begin, end in parts]
    actions = np.stack(chosen, axis=1) + np.array(space.start)
    return np.asarray(actions, space.dtype)


def _bernoulli(scores: Array, _: MultiBinary) -> Array:
    return (scores > 0).astype(np.int8)


_DISCRETE: Mapping[type, Callable[..., Array]] = {
    Discrete: _categorical,
    MultiBinary: _bernoulli,
    MultiDiscrete: _multi_categorical,
}
