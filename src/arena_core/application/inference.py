"""The data plane's calls, from the bytes of a request to the bytes of its answer.

What a policy answers is decided here and nowhere else: decoding, the check against
the space, the normaliser, the weights, the mask, the head, the encoding.  The parity
gate replays golden traces through these same functions.

Wire form: an array is `.npy` in base64; its first axis is the batch.
"""

import time
from typing import Any, TypeVar

import msgspec
import numpy as np
from attrs import frozen

from arena_core.application import npy
from arena_core.application.ports import Array, Runtime
from arena_core.application.spaces import conform
from arena_core.domain.algorithms import is_multi_agent, is_recurrent
from arena_core.domain.checkpoint import (
    Box,
    Discrete,
    Head,
    Manifest,
    Normaliser,
    Space,
    TensorSpec,
)
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.domain.values import Family


class ActionRequest(msgspec.Struct):
    """Body of `get_action`.  Keys that are not here are ignored."""

    obs: Any
    batch_size: int | None = None
    action_mask: Any = None


class PredictRequest(msgspec.Struct):
    """Body of `predict`."""

    inputs: Any


QUICK_S = 0.001
WARM_UP_RUNS = 3

R = TypeVar("R")
_ACTION = msgspec.json.Decoder(ActionRequest)
_PREDICT = msgspec.json.Decoder(PredictRequest)
_encode = msgspec.json.Encoder().encode


@frozen
class Model:
    """A loaded checkpoint that answers.  Safe to use from several threads."""

    manifest: Manifest
    runtime: Runtime
    quick: bool = False
    """Whether one row takes so little time that handing it to a thread costs more."""
    _normaliser: "_Normaliser | None" = None
    _bounds: tuple[Array, Array] | None = None

    @classmethod
    def of(cls, manifest: Manifest, runtime: Runtime) -> "Model":
        """Put a manifest and its weights together."""
        space = manifest.action_space
        return cls(
            manifest,
            runtime,
            _seconds(runtime) < QUICK_S,
            _Normaliser.of(manifest.normaliser, manifest.observation_space),
            _bounds(space) if isinstance(space, Box) else None,
        )

    @property
    def acts(self) -> bool:
        """Whether `get_action` is its route; `predict` is otherwise."""
        return self.manifest.family is Family.RL

    @property
    def axes(self) -> int:
        """How many axes one observation has."""
        return len(self.manifest.signature.inputs[0].shape) - 1

    def observe(self, leaf: object, *, name: str) -> Array:
        """Return the observations, shape (B, ...), that a leaf of a request holds."""
        return self.conformed(_leaf(leaf, name), name=name)

    def conformed(self, observations: Array, *, name: str) -> Array:
        """Return `observations` as the space has them.  Raises `Rejected`."""
        space = self.manifest.observation_space
        if space is not None:
            return conform(observations, space, field=name)
        return _fitting(observations, self.manifest.signature.inputs[0], name)

    def legal(self, mask: Array | None, rows: int) -> Array | None:
        """Return a mask as bool (rows, n), True where legal.  Raises `Rejected`.

        Every row must allow something.  None means that everything is legal.
        """
        return None if mask is None else _legal(mask, self.manifest, rows)

    def outputs(self, observations: Array) -> dict[str, Array]:
        """Return what the weights say, by name, each (B, ...)."""
        spec = self.manifest.signature.inputs[0]
        prepared = observations
        if self._normaliser is not None:
            prepared = self._normaliser(observations)
        return self.runtime.run({spec.name: prepared.astype(spec.dtype, copy=False)})

    def answer(self, outputs: dict[str, Array]) -> Array:
        """Return the first of the outputs.  Raises `Unavailable` if not finite."""
        first = outputs[self.manifest.signature.outputs[0].name]
        if not np.isfinite(first).all():
            raise Unavailable("The weights answered with a number that is not finite.")
        return first

    def act(self, outputs: dict[str, Array], mask: Array | None) -> Array:
        """Return the greedy actions, shape (B, *action shape).

        `mask`: bool (B, n), True where an action is legal; None: all are.
        """
        raw = self.answer(outputs)
        space = self.manifest.action_space
        if isinstance(space, Discrete) and self.manifest.head is not Head.ACTION:
            legal = raw if mask is None else np.where(mask, raw, -np.inf)
            actions: Array = legal.argmax(axis=1) + space.start
            return actions.astype(space.dtype)
        if isinstance(space, Box) and self._bounds is not None:
            shaped = raw.reshape(len(raw), *space.shape)
            return np.clip(shaped, *self._bounds).astype(space.dtype)
        return raw

    def close(self) -> None:
        self.runtime.close()


@frozen
class _Normaliser:
    """A normaliser's numbers as arrays of the observation's shape."""

    mean: Array
    scale: Array
    clip: float | None

    @classmethod
    def of(
        cls, normaliser: Normaliser | None, space: Space | None
    ) -> "_Normaliser | None":
        if normaliser is None:
            return None
        shape = space.shape if isinstance(space, Box) else (len(normaliser.mean),)
        variance = np.reshape(normaliser.variance, shape)
        scale = np.sqrt(variance + normaliser.epsilon)
        return cls(np.reshape(normaliser.mean, shape), scale, normaliser.clip)

    def __call__(self, observations: Array) -> Array:
        scaled: Array = (observations - self.mean) / self.scale
        return scaled if self.clip is None else np.clip(scaled, -self.clip, self.clip)


def _seconds(runtime: Runtime) -> float:
    """Return the least time that one row of zeros took, in a few tries."""
    zeros = {
        spec.name: np.zeros([1, *(axis or 1 for axis in spec.shape[1:])], spec.dtype)
        for spec in runtime.signature.inputs
    }
    tries = []
    for _ in range(WARM_UP_RUNS):
        begun = time.perf_counter()
        runtime.run(zeros)
        tries.append(time.perf_counter() - begun)
    return min(tries)


def get_action(model: Model, body: bytes) -> bytes:
    """Answer a `get_action` request.  Raises `Rejected` for a bad one."""
    if not model.acts:
        raise Rejected("This deployment predicts: call predict, not get_action.")
    request = _decoded(_ACTION, body)
    observations = model.observe(request.obs, name="obs")
    rows = len(observations)
    if request.batch_size not in (None, rows):
        raise Rejected(
            f"batch_size is {request.batch_size}, but obs has {rows} rows.",
            field="batch_size",
        )
    leaf = request.action_mask
    mask = None if leaf is None else _leaf(leaf, "action_mask")
    actions = model.act(model.outputs(observations), model.legal(mask, rows))
    return _encode({"action": npy.to_base64(actions)})


def predict(model: Model, body: bytes) -> bytes:
    """Answer a `predict` request.  Raises `Rejected` for a bad one."""
    if model.acts:
        raise Rejected("This deployment acts: call get_action, not predict.")
    request = _decoded(_PREDICT, body)
    inputs = model.observe(request.inputs, name="inputs")
    begun = time.perf_counter()
    results = model.answer(model.outputs(inputs))
    took_ms = (time.perf_counter() - begun) * 1000
    return _encode(
        {
            "results": npy.to_base64(results),
            "batch_size": len(inputs),
            "inference_time_ms": round(took_ms, 3),
            "success": True,
        }
    )


def status(model: Model, *, deployment_id: str, instance_id: str) -> bytes:
    """Return the body of `status`: exactly these keys, for clients forbid others."""
    algorithm, family = model.manifest.algorithm, model.manifest.family
    return _encode(
        {
            "success": True,
            "deployment_id": deployment_id,
            "instance_id": instance_id,
            "agent": {
                "algo": algorithm,
                "multi_agent": is_multi_agent(algorithm),
                "llm": family is Family.LLM,
                "recurrent": is_recurrent(algorithm),
                "supervised": family in (Family.SUPERVISED, Family.LATENT),
            },
        }
    )


def _decoded(decoder: msgspec.json.Decoder[R], body: bytes) -> R:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"The body does not fit: {_plain(error)}.") from error


def _plain(error: Exception) -> str:
    # Clients print through markup that takes square brackets for its own.
    return str(error).replace("[", "(").replace("]", ")")


def _leaf(leaf: object, name: str) -> Array:
    if not isinstance(leaf, str):
        raise Rejected(
            f"{name} must be one array, as base64 of a .npy file.", field=name
        )
    return npy.from_base64(leaf, field=name)


def _fitting(array: Array, spec: TensorSpec, name: str) -> Array:
    """Return `array` if it is what the weights take and all finite."""
    fits = array.ndim == len(spec.shape) and all(
        wanted in (None, size)
        for wanted, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits or len(array) == 0:
        wanted = ", ".join("any" if n is None else str(n) for n in spec.shape)
        raise Rejected(
            f"{name} must have the shape ({wanted}), not {array.shape}.", field=name
        )
    if array.dtype.kind not in ("biuf" if spec.dtype.startswith("float") else "biu"):
        raise Rejected(
            f"{name} must hold numbers that fit {spec.dtype}, not {array.dtype}.",
            field=name,
        )
    if not np.isfinite(array).all():
        raise Rejected(f"{name} holds a number that is not finite.", field=name)
    return array


def _legal(mask: Array, manifest: Manifest, rows: int) -> Array:
    space = manifest.action_space
    if not isinstance(space, Discrete) or manifest.head is Head.ACTION:
        raise Rejected(
            "action_mask is for discrete actions that are chosen by their scores: "
            "leave it out.",
            field="action_mask",
        )
    if mask.shape != (rows, space.n):
        raise Rejected(
            f"action_mask must have the shape ({rows}, {space.n}), not {mask.shape}.",
            field="action_mask",
        )
    legal: Array = mask != 0
    for row in np.flatnonzero(~legal.any(axis=1))[:1]:
        raise Rejected(
            f"action_mask allows no action in row {row}.", field="action_mask"
        )
    return legal


def _bounds(space: Box) -> tuple[Array, Array]:
    low = [-np.inf if bound is None else bound for bound in space.low]
    high = [np.inf if bound is None else bound for bound in space.high]
    return np.reshape(low, space.shape), np.reshape(high, space.shape)
