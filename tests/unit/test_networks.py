"""What NumPy computes of a network, ONNX Runtime computes of its ONNX."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.adapters.converters.activations import ACTIVATIONS, RELU, SIGMOID, TANH
from arena_core.adapters.converters.layers import (
    Add,
    AsFloat,
    Clip,
    Columns,
    Concat,
    Conv2d,
    Divide,
    Flatten,
    Linear,
    Multiply,
    OneHot,
    Repeat,
    Reshape,
    Stack,
    Take,
    Transpose,
)
from arena_core.adapters.converters.lstm import Cell, step
from arena_core.adapters.converters.networks import Input, Network, chain
from arena_core.adapters.runtimes.onnx_safety import refuse_unsafe
from arena_core.domain.checkpoint import TensorSpec
from arena_core.domain.errors import Rejected

RNG = np.random.default_rng(7)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def given_arrays(*shapes, dtype="float32"):
    return tuple(
        Input(TensorSpec(f"in{i}", dtype, (None, *shape)))
        for i, shape in enumerate(shapes)
    )


def batch(network, rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        spec.name: (rng.normal(size=(rows, *spec.shape[1:])) * 3).astype(spec.dtype)
        for spec in network.signature.inputs
    }


def run_onnx(network, inputs):
    weights = network.to_onnx()
    refuse_unsafe(weights)
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def agree(network, inputs):
    ours, theirs = network.run(inputs), run_onnx(network, inputs)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        assert array.shape == theirs[name].shape
        np.testing.assert_allclose(array, theirs[name], rtol=1e-5, atol=1e-5)


LAYERS = {
    "linear": (Linear(floats(3, 5), floats(3)), [(5,)]),
    "linear without bias": (Linear(floats(3, 5)), [(5,)]),
    "convolution": (Conv2d(floats(4, 2, 3, 2), floats(4)), [(2, 6, 5)]),
    "strided": (Conv2d(floats(4, 2, 3, 3), floats(4), 2, 1), [(2, 6, 5)]),
    "repeat": (Repeat(floats(2, 3)), [(4,)]),
    "divide": (Divide(np.array(255.0)), [(4,)]),
    "divide each": (Divide(np.array([2.0, 3.0])), [(2,)]),
    "clip": (Clip(-1.0, 0.5), [(4,)]),
    "add": (Add(), [(4,), (4,)]),
    "multiply": (Multiply(), [(4,), (4,)]),
    "flatten": (Flatten(), [(2, 3)]),
    "flatten scalars": (Flatten(), [()]),
    "reshape": (Reshape((3, 2)), [(6,)]),
    "transpose": (Transpose((0, 3, 1, 2)), [(2, 3, 4)]),
    "concat": (Concat(), [(2,), (3,), (1,)]),
    "stack": (Stack(), [(2,), (2,)]),
    "take": (Take(1), [(3, 2)]),
    "columns": (Columns(1, 3), [(4,)]),
    **{name: (layer, [(9,)]) for name, layer in ACTIVATIONS.items()},
}


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_is_the_same_in_numpy_and_in_onnx(name, rows):
    layer, shapes = LAYERS[name]
    inputs = given_arrays(*shapes)
    network = Network(inputs, {"out": layer(*inputs)})
    agree(network, batch(network, rows))


@pytest.mark.parametrize("name", LAYERS)
def test_rows_do_not_see_each_other(name):
    layer, shapes = LAYERS[name]
    inputs = given_arrays(*shapes)
    network = Network(inputs, {"out": layer(*inputs)})
    together = batch(network, 3)
    alone = {key: array[1:2] for key, array in together.items()}
    np.testing.assert_allclose(
        network.run(together)["out"][1:2], network.run(alone)["out"], rtol=1e-5
    )


@given(dtype=st.sampled_from(["uint8", "int64", "int32", "bool", "float64"]))
@settings(max_examples=5, deadline=None)
def test_numbers_of_every_dtype_become_floats(dtype):
    inputs = given_arrays((4,), dtype=dtype)
    network = Network(inputs, {"out": AsFloat()(*inputs)})
    agree(network, {"in0": np.arange(8).reshape(2, 4).astype(dtype)})


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), rows=st.integers(1, 4)
)
@settings(max_examples=20, deadline=None)
def test_integers_become_one_hot(sizes, rows):
    inputs = given_arrays((len(sizes),), dtype="int64")
    network = Network(inputs, {"out": OneHot(sizes)(*inputs)})
    chosen = np.random.default_rng(rows).integers(0, sizes, (rows, len(sizes)))
    out = network.run({"in0": chosen})["out"]
    agree(network, {"in0": chosen})
    assert (out.sum(axis=1) == len(sizes)).all()
    starts = np.cumsum([0, *sizes[:-1]])
    assert all(out[row, starts + chosen[row]].all() for row in range(rows))


def test_a_single_integer_becomes_one_hot():
    inputs = given_arrays((), dtype="int32")
    network = Network(inputs, {"out": OneHot((3,))(*inputs)})
    agree(network, {"in0": np.array([2, 0], np.int32)})
    assert network.run({"in0": np.array([1])})["out"].tolist() == [[0, 1, 0]]


def test_large_numbers_do_not_overflow():
    for layer in (SIGMOID, TANH, *ACTIVATIONS.values()):
        x = np.array([[-200.0, 200.0]], np.float32)
        assert np.isfinite(layer.apply(x)).all()


def cells(inputs, size, layers):
    return [
        Cell(
            floats(4 * size, inputs if layer == 0 else size),
            floats(4 * size, size),
            floats(4 * size),
            floats(4 * size),
        )
        for layer in range(layers)
    ]


def recurrent(layers):
    x, h, c = given_arrays((5,), (layers, 3), (layers, 3))
    out, h_next, c_next = step(x, h, c, cells(5, 3, layers))
    return Network((x, h, c), {"out": out, "h_next": h_next, "c_next": c_next})


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_is_the_same_in_numpy_and_in_onnx(layers, rows):
    network = recurrent(layers)
    agree(network, batch(network, rows))


def test_an_lstm_keeps_what_its_forget_gate_lets_through():
    size, open_, shut = 2, 50.0, -50.0
    bias = np.repeat([shut, open_, 0.0, open_], size)
    cell = Cell(np.zeros((8, 5)), np.zeros((8, 2)), bias, np.zeros(8))
    x, h, c = given_arrays((5,), (1, size), (1, size))
    out, h_next, c_next = step(x, h, c, [cell])
    network = Network((x, h, c), {"out": out, "h": h_next, "c": c_next})
    kept = np.array([[[0.25, -0.5]]], np.float32)
    outputs = network.run({"in0": floats(1, 5), "in1": floats(1, 1, 2), "in2": kept})
    np.testing.assert_allclose(outputs["c"], kept, rtol=1e-6)
    np.testing.assert_allclose(outputs["h"], np.tanh(kept), rtol=1e-6)
    np.testing.assert_allclose(outputs["out"], np.tanh(kept[:, 0]), rtol=1e-6)


def test_the_signature_has_a_free_batch_axis_and_the_outputs_in_order():
    network = recurrent(2)
    assert [spec.name for spec in network.signature.outputs] == [
        "out", "h_next", "c_next",
    ]  # fmt: skip
    assert network.signature.outputs[1] == TensorSpec("h_next", "float32", (None, 2, 3))
    session = onnxruntime.InferenceSession(
        network.to_onnx(), providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].shape == ["batch", 5]


def test_one_value_may_be_two_outputs_and_an_input_one():
    (x,) = given_arrays((2,))
    y = RELU(x)
    network = Network((x,), {"a": y, "b": y, "c": x})
    agree(network, batch(network, 3))


def test_a_value_that_two_layers_need_is_computed_once():
    (x,) = given_arrays((2,))
    shared = RELU(x)
    for _ in range(60):
        shared = Multiply()(shared, shared)
    network = Network((x,), {"out": shared})
    assert network.run({"in0": np.ones((1, 2), np.float32)})["out"].tolist() == [[1, 1]]


def test_layers_that_do_not_fit_together_are_refused():
    (x,) = given_arrays((4,))
    with pytest.raises(Rejected, match="do not fit together"):
        Network((x,), {"out": chain(x, Linear(floats(3, 4)), Linear(floats(2, 5)))})


def test_the_same_network_gives_the_same_bytes():
    (x,) = given_arrays((4,))
    network = Network((x,), {"out": chain(x, Linear(np.ones((3, 4))), TANH)})
    assert network.to_onnx() == network.to_onnx()
