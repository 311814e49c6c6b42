"""Layers that look at a whole row or channel are the same in NumPy and in ONNX."""

import numpy as np
import onnxruntime
import pytest

from arena_core.adapters.converters.networks import Input, Network, chain
from arena_core.adapters.converters.norms import (
    BatchNorm,
    Centre,
    LayerNorm,
    Shift,
    Slope,
    Softmax,
    WeightedSum,
)
from arena_core.domain.checkpoint import TensorSpec

RNG = np.random.default_rng(3)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


LAYERS = {
    "layer norm": (LayerNorm(floats(5), floats(5)), (5,)),
    "batch norm": (BatchNorm(*floats(3, 4), np.array([0.1, 1, 2, 9.0])), (4, 3, 2)),
    "batch norm of vectors": (BatchNorm(*floats(3, 4), np.ones(4)), (4,)),
    "softmax": (Softmax(), (5,)),
    "softmax of the last axis": (Softmax(), (3, 5)),
    "slope": (Slope([0.25]), (5,)),
    "slope of images": (Slope([0.25]), (2, 3, 3)),
    "centre": (Centre(), (4, 3)),
    "shift": (Shift(0.5), (5,)),
    "shift of each element": (Shift(floats(2, 3, 3)), (2, 3, 3)),
    "weighted sum": (WeightedSum(floats(4)), (3, 4)),
}


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_a_layer_is_the_same_in_numpy_and_in_onnx(layer, shape, rows):
    x = Input(TensorSpec("x", "float32", (None, *shape)))
    network = Network((x,), {"y": chain(x, layer)})
    session = onnxruntime.InferenceSession(
        network.to_onnx(), providers=["CPUExecutionProvider"]
    )
    given = {"x": 3 * floats(rows, *shape)}
    (theirs,) = session.run(["y"], given)
    ours = network.run(given)["y"]
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_layer_norm_has_mean_and_variance_of_its_own():
    layer = LayerNorm(np.full(64, 2.0), np.full(64, 5.0))
    normal = layer.apply(100 + 7 * floats(3, 64))
    np.testing.assert_allclose(normal.mean(axis=1), 5, rtol=1e-4)
    np.testing.assert_allclose(normal.std(axis=1), 2, rtol=1e-4)


def test_a_batch_norm_goes_by_training_not_by_the_batch():
    layer = BatchNorm([2.0], [1.0], [10.0], [4.0])
    given = np.array([[[12.0]], [[10.0]]], np.float32)
    np.testing.assert_allclose(layer.apply(given), [[[3.0]], [[1.0]]], rtol=1e-5)


def test_a_softmax_stands_numbers_whose_powers_are_infinite():
    given = np.array([[1000.0, 1000.0, -1000.0]], np.float32)
    np.testing.assert_allclose(Softmax().apply(given), [[0.5, 0.5, 0.0]])
