"""One policy that is loaded: from observations to what its weights say."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np
from attrs import frozen

from arena_core.application import observations, spaces
from arena_core.application.heads import ActionHead, head_of
from arena_core.application.hidden_states import Memory
from arena_core.application.observations import Arrays
from arena_core.application.ports import Array, Runtime, Tensors
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Head,
    LeafSpace,
    Normaliser,
    Policy,
    TensorSpec,
    Tuple,
)
from arena_core.domain.errors import NotFinite, Rejected, TooLarge, Unavailable
from arena_core.domain.ids import Digest

MOST_ANSWER_BYTES = 64 << 20
"""Of all that the weights answer to one request: a byte may ask for a kilobyte."""


class _Input(NamedTuple):
    """How one array of an observation comes to the weights."""

    path: str
    name: str
    dtype: np.dtype[Any]
    normaliser: "_Normaliser | None"
    is_safe: bool
    """Every number of the observation becomes a finite one of `dtype`."""


@frozen(eq=False)
class LoadedPolicy:
    """Weights, and what is done with observations before they see them."""

    policy: Policy
    runtime: Runtime
    memory: Memory
    head: ActionHead | None
    """None: it does not act."""
    _inputs: tuple["_Input", ...]
    _leaf: LeafSpace | None
    """The space of the observations, if that is one array."""
    most_rows: int
    """How many rows one request may have: what comes of them must stay in bounds."""

    @classmethod
    def of(cls, policy: Policy, runtime: Runtime, digest: Digest) -> "LoadedPolicy":
        space = policy.observation_space
        return cls(
            policy,
            runtime,
            Memory.of(policy, digest),
            None if policy.head is Head.OUTPUT else head_of(policy),
            tuple(_inputs(policy)),
            None if space is None or isinstance(space, Dict | Tuple) else space,
            max(1, MOST_ANSWER_BYTES // _row_bytes(policy)),
        )

    @property
    def action_space(self) -> LeafSpace:
        space = self.policy.action_space
        assert space is not None  # noqa: S101 -- policies of the family rl have one
        return space

    @property
    def first(self) -> str:
        """The name of the output that the head is about."""
        return self.policy.signature.outputs[0].name

    def observe(
        self, tree: object, decode: observations.Decode, *, field: str
    ) -> Arrays:
        """Return the arrays of the observations that `tree` is.  Raises `Rejected`."""
        observed = self._observed(tree, decode, field)
        rows = len(next(iter(observed.values())))
        if rows > self.most_rows:
            raise TooLarge(
                f"The {field} has {rows} rows: this deployment answers so much to each "
                f"that it takes {self.most_rows} at most.",
                field=field,
            )
        return observed

    def _observed(
        self, tree: object, decode: observations.Decode, field: str
    ) -> Arrays:
        leaf, space = self._leaf, self.policy.observation_space
        if leaf is not None:  # to walk a tree would cost a microsecond
            return {"": observations.conform(decode(tree, field), leaf, field=field)}
        if space is not None:
            return observations.gather(tree, space, decode, field=field)
        array = decode(tree, field)
        return {"": _fitting(array, self.policy.signature.inputs[0], field)}

    def run(self, observed: Arrays, hidden: Tensors) -> dict[str, Array]:
        """Return what the weights say, by name, each (B, ...).

        `hidden`: by input.  Raises `Rejected` for a number that the weights cannot
        take, `Unavailable` if what matters of their answer is not finite.
        """
        inputs = dict(hidden)
        for path, name, dtype, normaliser, is_safe in self._inputs:
            array = observed[path]
            if normaliser is not None or not is_safe:
                inputs[name] = _prepared(array, normaliser, dtype)
            else:
                inputs[name] = array if array.dtype is dtype else array.astype(dtype)
        outputs = self.runtime.run(inputs)
        if not self._is_finite(outputs):
            self._blame(inputs)
        return outputs

    def _is_finite(self, outputs: Tensors) -> bool:
        """Say whether all numbers are that callers, or the next step, depend on."""
        # Three times as fast as `all()` for the few numbers that come mostly.
        return 0 not in np.isfinite(outputs[self.first]).tobytes() and all(
            0 not in np.isfinite(outputs[state.output]).tobytes()
            for state in self.policy.hidden_states
        )

    def _blame(self, inputs: Tensors) -> NoReturn:
        """Say who is at fault for a number that is not finite.

        Weights that answer zeros with finite numbers are well.
        """
        zeros = {name: np.zeros_like(array) for name, array in inputs.items()}
        if not self._is_finite(self.runtime.run(zeros)):
            raise Unavailable("The weights answered with a number that is not finite.")
        field = "inputs" if self.head is None else "obs"
        raise NotFinite(
            f"The {field} holds numbers that the weights answer with ones that are "
            "not finite: send such as they were trained on.",
            field=field,
        )


def _row_bytes(policy: Policy) -> int:
    """Return how much the weights answer to one row, and remember of it."""
    return sum(
        math.prod(size or 1 for size in spec.shape[1:]) * np.dtype(spec.dtype).itemsize
        for spec in policy.signature.outputs
    )


@frozen(eq=False)
class _Normaliser:
    """A normaliser's numbers as arrays of the observation's shape."""

    mean: Array
    scale: Array
    clip: float | None

    @classmethod
    def of(cls, normaliser: Normaliser, shape: tuple[int, ...]) -> "_Normaliser":
        variance = np.reshape(normaliser.variance, shape)
        scale = np.sqrt(variance + normaliser.epsilon)
        return cls(np.reshape(normaliser.mean, shape), scale, normaliser.clip)

    def __call__(self, array: Array) -> Array:
        scaled: Array = (array - self.mean) / self.scale
        return scaled if self.clip is None else np.clip(scaled, -self.clip, self.clip)


def _inputs(policy: Policy) -> Iterator[_Input]:
    space = policy.observation_space
    leaves = {"": None} if space is None else dict(spaces.leaves(space))
    for (path, leaf), spec in zip(
        leaves.items(), policy.signature.inputs, strict=False
    ):
        dtype = np.dtype(spec.dtype)
        is_safe = leaf is None or np.can_cast(spaces.dtype(leaf), dtype)
        yield _Input(path, spec.name, dtype, _normaliser(policy, path), is_safe)


def _prepared(
    array: Array, normaliser: _Normaliser | None, dtype: np.dtype[Any]
) -> Array:
    with np.errstate(all="ignore"):
        scaled = array if normaliser is None else normaliser(array)
        prepared = scaled.astype(dtype, copy=False)
    if 0 in np.isfinite(prepared).tobytes():
        raise Rejected(
            f"An observation holds a number that is beyond the {dtype} of the weights."
        )
    return prepared


def _normaliser(policy: Policy, path: str) -> _Normaliser | None:
    normaliser, space = policy.normalisers.get(path), policy.observation_space
    if normaliser is None or space is None:
        return None
    return _Normaliser.of(normaliser, spaces.shape(spaces.leaves(space)[path]))


def _fitting(array: Array, spec: TensorSpec, name: str) -> Array:
    """Return a batch as the weights want it, where no space says how it must be."""
    fits = array.ndim == len(spec.shape) and all(
        wanted in (None, size)
        for wanted, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits or array.size == 0:
        wanted = ", ".join("any" if n is None else str(n) for n in spec.shape)
        raise Rejected(
            f"{name} must have the shape ({wanted}), not {array.shape}.", field=name
        )
    if array.dtype.kind not in ("biuf" if spec.dtype.startswith("float") else "biu"):
        raise Rejected(
            f"{name} must hold numbers that fit {spec.dtype}, not {array.dtype}.",
            field=name,
        )
    anything = Box(array.shape[1:], spec.dtype, (), ())
    return observations.conform(array, anything, field=name)
