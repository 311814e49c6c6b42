"""Models whose arithmetic is exact: whole numbers, and few of them.

So they answer the same to the last bit, however requests to them are put together.
"""

from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from arena_core.application.models import Model
from arena_core.domain.checkpoint import (
    Box,
    Discrete,
    Head,
    LeafSpace,
    Manifest,
    MultiBinary,
    MultiDiscrete,
    Policy,
    Signature,
    Space,
    TensorSpec,
)
from arena_core.domain.ids import Digest
from arena_core.domain.values import Family
from unit.models import of

from onnx_models import model, value

DIGEST = Digest("0" * 64)
PLANE = Box((2,), "float32", (-9.0, None), (9.0, None))
ACTIONS: dict[str, tuple[LeafSpace, Head]] = {
    "discrete": (Discrete(3, start=-1), Head.LOGITS),
    "values": (Discrete(3, dtype="uint8"), Head.Q_VALUES),
    "parts": (MultiDiscrete((2, 3), (0, 4)), Head.LOGITS),
    "bits": (MultiBinary((3,)), Head.LOGITS),
    "plane": (PLANE, Head.ACTION),
    "number": (Box((), "float32", (-9.0,), (9.0,)), Head.ACTION),
    "given": (MultiBinary((3,)), Head.ACTION),
}
SCORES = {"discrete": (3,), "values": (3,), "parts": (5,), "bits": (3,)}
"""The shape of a mask of one row, for what takes masks."""
_ANSWERED = SCORES | {"plane": (2,), "number": (), "given": (3,)}


@cache
def exact(action: str, shape: tuple[int, ...] = (4,), dtype: str = "float32") -> Model:
    """Return a policy that sees a Box of that shape and dtype, and acts so."""
    count = int(np.prod(shape, dtype=int))
    return policy(action, Box(shape, dtype, (None,) * count, (None,) * count), shape)


def policy(action: str, space: Space, seen: tuple[int, ...]) -> Model:
    """Return a policy that sees one array of `space`, and acts so."""
    answered = _ANSWERED[action]
    signature = Signature(
        (TensorSpec("obs", "float32", (None, *seen)),),
        (TensorSpec("first", "float32", (None, *answered)),),
    )
    action_space, head = ACTIONS[action]
    made = Policy("p.onnx", signature, head, space, action_space)
    manifest = Manifest(1, "PPO", Family.RL, {"policy": made})
    return of(manifest, DIGEST, lambda _: _weights(seen, answered))


def _weights(seen: tuple[int, ...], answered: tuple[int, ...]) -> bytes:
    """Return what multiplies by whole numbers from -3 to 3."""
    sizes = (int(np.prod(seen, dtype=int)), int(np.prod(answered, dtype=int)))
    matrix = np.random.default_rng(0).integers(-3, 4, sizes).astype("f4")
    constants = {
        "matrix": matrix,
        "flat": np.array([-1, sizes[0]]),
        "shape": np.array([-1, *answered]),
    }
    return model(
        [
            helper.make_node("Reshape", ["obs", "flat"], ["flattened"]),
            helper.make_node("MatMul", ["flattened", "matrix"], ["answered"]),
            helper.make_node("Reshape", ["answered", "shape"], ["first"]),
        ],
        [value("obs", TensorProto.FLOAT, ["batch", *seen])],
        [value("first", TensorProto.FLOAT, ["batch", *answered])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    ).SerializeToString()
