"""From what the weights say to an action: greedy, or sampled where they say how.

There is one head for each kind of action space; which of them serves a policy follows
from its manifest.  A mask is always enforced.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Protocol, assert_never

import numpy as np
from attrs import frozen

from arena_core.application import spaces
from arena_core.application.ports import Array, Tensors
from arena_core.domain.checkpoint import (
    ActionTransform,
    Box,
    Discrete,
    Head,
    LeafSpace,
    MultiBinary,
    MultiDiscrete,
    Policy,
    Squash,
)
from arena_core.domain.errors import Rejected, Unavailable

MASK = "action_mask"


class ActionHead(Protocol):
    """Turns outputs into actions.  Rows do not see each other."""

    def legal(self, mask: Array, *, field: str) -> Array:
        """Return the mask as bool, True where legal.  Raises `Rejected`.

        `mask` has a row for each observation; non-zero is legal.
        """
        ...

    def choose(
        self,
        outputs: Tensors,
        legal: Array | None,
        random: np.random.Generator | None,
    ) -> Array:
        """Return the actions, (B, *shape of the space), in the dtype of the space.

        `legal`: what `legal` has returned; None: all is.  `random`: draw from the
        policy's distribution; None: the greedy action.  Raises `Rejected` if the
        policy has no distribution.
        """
        ...

    def violations(self, outputs: Tensors, legal: Array) -> int:
        """Return in how many rows the greedy action is one that `legal` forbids."""
        ...


def head_of(policy: Policy) -> ActionHead:
    """Return the head of a policy that acts."""
    space = policy.action_space
    first = policy.signature.outputs[0].name
    is_ranking = policy.head is Head.Q_VALUES
    match space:
        case None:
            raise Rejected("The policy has no action_space.", field="action_space")
        case Box():
            return _Continuous.of(space, policy.transform, first, policy.log_std)
        case _ if policy.head is Head.ACTION:
            return _Given(space, first)
        case Discrete():
            start = np.array(space.start, space.dtype)
            return _Categorical(space, first, start, is_ranking=is_ranking)
        case MultiDiscrete():
            return _MultiCategorical.of(space, first)
        case MultiBinary():
            return _Bernoulli(space, first)
        case _:
            assert_never(space)


@frozen
class _Categorical:
    space: Discrete
    first: str
    _start: Array
    is_ranking: bool

    def legal(self, mask: Array, *, field: str) -> Array:
        allowed = _mask(mask, (self.space.n,), field)
        _check_some_is_legal(allowed, field)
        return allowed

    def choose(
        self,
        outputs: Tensors,
        legal: Array | None,
        random: np.random.Generator | None,
    ) -> Array:
        scores = outputs[self.first]
        if random is not None and self.is_ranking:
            raise _deterministic()
        return _counted(_pick(scores, legal, random), self._start)

    def violations(self, outputs: Tensors, legal: Array) -> int:
        return int((~_preferred(outputs[self.first], legal)).sum())


@frozen
class _MultiCategorical:
    space: MultiDiscrete
    first: str
    _parts: tuple[slice, ...]
    _start: Array

    @classmethod
    def of(cls, space: MultiDiscrete, first: str) -> "_MultiCategorical":
        ends = accumulate(space.nvec, initial=0)
        parts = tuple(slice(begin, end) for begin, end in pairwise(ends))
        return cls(space, first, parts, np.array(space.start, space.dtype))

    def legal(self, mask: Array, *, field: str) -> Array:
        allowed = _mask(mask, spaces.scores(self.space), field)
        for part in self._parts:
            _check_some_is_legal(allowed[:, part], field)
        return allowed

    def choose(
        self,
        outputs: Tensors,
        legal: Array | None,
        random: np.random.Generator | None,
    ) -> Array:
        scores = outputs[self.first]
        columns = [
            _pick(scores[:, part], None if legal is None else legal[:, part], random)
            for part in self._parts
        ]
        return _counted(np.stack(columns, axis=1), self._start)

    def violations(self, outputs: Tensors, legal: Array) -> int:
        scores = outputs[self.first]
        kept = [_preferred(scores[:, part], legal[:, part]) for part in self._parts]
        return int((~np.logical_and.reduce(kept)).sum())


@frozen
class _Bernoulli:
    space: MultiBinary
    first: str

    def legal(self, mask: Array, *, field: str) -> Array:
        """Return where a one is legal; a zero always is."""
        return _mask(mask, self.space.shape, field)

    def choose(
        self,
        outputs: Tensors,
        legal: Array | None,
        random: np.random.Generator | None,
    ) -> Array:
        logits = outputs[self.first]
        threshold = 0.0 if random is None else random.logistic(size=logits.shape)
        ones = logits > threshold
        return (ones if legal is None else ones & legal).astype(np.int8)

    def violations(self, outputs: Tensors, legal: Array) -> int:
        forbidden = (outputs[self.first] > 0) & ~legal
        return int(forbidden.reshape(len(forbidden), -1).any(axis=1).sum())


@frozen
class _Continuous:
    space: Box
    first: str
    log_std: str | None
    squash: Squash | None
    _rescale: tuple[Array, Array] | None
    """What to multiply by and to add."""
    _low: Array
    _high: Array

    @classmethod
    def of(
        cls, space: Box, transform: ActionTransform, first: str, log_std: str | None
    ) -> "_Continuous":
        low, high = bounds(space)
        rescale = None
        if transform.rescale_from is not None:
            begin, end = transform.rescale_from
            factor = (high - low) / (end - begin)
            rescale = (factor, low - begin * factor)
        return cls(space, first, log_std, transform.squash, rescale, low, high)

    def legal(self, mask: Array, *, field: str) -> Array:
        del mask
        raise _unmaskable(field)

    def choose(
        self,
        outputs: Tensors,
        legal: Array | None,
        random: np.random.Generator | None,
    ) -> Array:
        del legal
        actions = outputs[self.first]
        if random is not None:
            actions = self._drawn(actions, outputs, random)
        if self.squash is Squash.TANH:
            actions = np.tanh(actions)
        if self._rescale is not None:
            with np.errstate(over="ignore"):  # what is too large is clipped
                actions = actions * self._rescale[0] + self._rescale[1]
        return np.clip(actions, self._low, self._high).astype(self.space.dtype)

    def violations(self, outputs: Tensors, legal: Array) -> int:
        del outputs, legal
        raise _unmaskable(MASK)

    def _drawn(
        self, means: Array, outputs: Tensors, random: np.random.Generator
    ) -> Array:
        if self.log_std is None:
            raise _deterministic()
        noise = random.standard_normal(means.shape)
        with np.errstate(all="ignore"):
            drawn: Array = means + np.exp(outputs[self.log_std]) * noise
        if not np.isfinite(drawn).all():
            raise Unavailable("The weights answered with a deviation not finite.")
        return drawn


@frozen
class _Given:
    """The weights answer with the action itself."""

    space: LeafSpace
    first: str

    def legal(self, mask: Array, *, field: str) -> Array:
        del mask
        raise _unmaskable(field)

    def choose(
        self,
        outputs: Tensors,
        legal: Array | None,
        random: np.random.Generator | None,
    ) -> Array:
        del legal
        if random is not None:
            raise _deterministic()
        return outputs[self.first].astype(spaces.dtype(self.space), copy=False)

    def violations(self, outputs: Tensors, legal: Array) -> int:
        del outputs, legal
        raise _unmaskable(MASK)


def bounds(space: Box) -> tuple[Array, Array]:
    """Return the bounds of a Box as arrays of its shape; its dtype holds them all."""
    least, greatest = _limits(np.dtype(space.dtype))
    low = [least if bound is None else bound for bound in space.low]
    high = [greatest if bound is None else bound for bound in space.high]
    return (
        np.clip(np.reshape(low, space.shape).astype("f8"), least, greatest),
        np.clip(np.reshape(high, space.shape).astype("f8"), least, greatest),
    )


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and the greatest float that `dtype` can hold."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    low, high = spaces.integer_limits(dtype)
    # The float next to the largest int64 is one too many.
    nearest = float(high)
    return low, nearest if nearest <= high else float(np.nextafter(nearest, 0))


def _counted(places: Array, start: Array) -> Array:
    """Return `places` counted from `start`, in its dtype.

    A place that the dtype cannot hold wraps around, and back again with the start.
    """
    counted: Array = places.astype(start.dtype, copy=False) + start
    return counted


def _pick(
    scores: Array, legal: Array | None, random: np.random.Generator | None
) -> Array:
    """Return the place of the best legal score in each row, or a place drawn by it.

    Drawing is by the Gumbel-max trick (Maddison et al., 2014, arXiv:1411.0030).
    """
    if random is not None:
        scores = scores + random.gumbel(size=scores.shape)
    if legal is not None:
        scores = np.where(legal, scores, -np.inf)
    places: Array = scores.argmax(axis=1)
    return places


def _preferred(scores: Array, legal: Array) -> Array:
    """Return, for each row, whether the best score of all is a legal one."""
    kept: Array = np.take_along_axis(legal, scores.argmax(axis=1)[:, None], axis=1)
    return kept[:, 0]


def _mask(mask: Array, shape: Sequence[int], field: str) -> Array:
    if mask.dtype.kind not in "biuf":
        raise Rejected(f"The {field} must hold numbers or booleans.", field=field)
    if mask.shape[1:] != tuple(shape):
        wanted = ", ".join(map(str, (len(mask), *shape)))
        raise Rejected(
            f"The {field} must have the shape ({wanted}), not {mask.shape}.",
            field=field,
        )
    legal: Array = mask != 0
    return legal


def _check_some_is_legal(legal: Array, field: str) -> None:
    for row in np.flatnonzero(~legal.any(axis=1))[:1]:
        raise Rejected(f"The {field} allows no action in row {row}.", field=field)


def _unmaskable(field: str) -> Rejected:
    return Rejected(
        f"The {field} is for discrete actions that are chosen by their scores: leave "
        "it out.",
        field=field,
    )


def _deterministic() -> Rejected:
    return Rejected(
        "This policy has no distribution to sample from: leave mode out, or say "
        "greedy.",
        field="mode",
    )
