"""Traces that are computed from the weights agree with what serves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.adapters.converters.computed_traces import greedy, trace
from arena_core.adapters.converters.layers import AsFloat, Concat, Flatten, Linear
from arena_core.adapters.converters.networks import Input, Network, chain
from arena_core.application import observations, spaces
from arena_core.application.heads import head_of
from arena_core.domain.checkpoint import (
    ActionTransform,
    Box,
    Dict,
    Discrete,
    Head,
    MultiBinary,
    MultiDiscrete,
    Normaliser,
    Policy,
    Signature,
    Squash,
    TensorSpec,
    Tuple,
)

BOUNDED = Box((2,), "float32", (-2.0, 1.0), (2.0, 5.0))
SQUASHED = ActionTransform(Squash.TANH, (-1.0, 1.0))
ACTIONS = {
    "logits": (Head.LOGITS, Discrete(3, 5, "int32"), ActionTransform()),
    "q values": (Head.Q_VALUES, Discrete(3), ActionTransform()),
    "several": (Head.LOGITS, MultiDiscrete((2, 3), (0, -4)), ActionTransform()),
    "bits": (Head.LOGITS, MultiBinary((2, 2)), ActionTransform()),
    "box": (Head.ACTION, BOUNDED, ActionTransform()),
    "unbounded": (
        Head.ACTION, Box((2,), "float64", (None, 0.0), (1.0, None)), ActionTransform(),
    ),
    "squashed": (Head.ACTION, BOUNDED, SQUASHED),
    "rescaled": (Head.ACTION, BOUNDED, ActionTransform(None, (0.0, 2.0))),
}  # fmt: skip


def acting(name):
    head, space, transform = ACTIONS[name]
    shape = spaces.shape(space) if head is Head.ACTION else spaces.scores(space)
    signature = Signature(
        (TensorSpec("obs", "float32", (None, 1)),),
        (TensorSpec("out", "float32", (None, *shape)),),
    )
    return Policy(
        "policy.onnx", signature, head, action_space=space, transform=transform
    )


@pytest.mark.parametrize("name", ACTIONS)
@given(seed=st.integers(0, 2**16), masked=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_greedy_action_is_the_one_that_is_served(name, seed, masked):
    policy = acting(name)
    rng = np.random.default_rng(seed)
    said = rng.normal(size=(5, *policy.signature.outputs[0].shape[1:])) * 3
    outputs = {"out": said.astype(np.float32)}
    mask = None
    if masked and isinstance(policy.action_space, Discrete | MultiDiscrete):
        mask = rng.random(said.shape) < 0.5
        mask[:, [0, 2]] = True  # something is legal in each part
    action = greedy(policy, outputs, mask)
    served = head_of(policy).choose(outputs, mask, None)
    assert action.dtype == served.dtype
    np.testing.assert_allclose(action, served, rtol=1e-6, atol=1e-6)


OBSERVATIONS = {
    "bounded": BOUNDED,
    "half bounded": Box((3,), "float32", (None, 0.0, None), (None, None, -1.0)),
    "huge bounds": Box((1,), "float32", (-3.4e38,), (3.4e38,)),
    "bytes": Box((2, 3), "uint8", (0,) * 6, (255,) * 6),
    "integers": Discrete(4, -2),
    "several": MultiDiscrete((2, 9), (1, 0), "int16"),
    "bits": MultiBinary((3,)),
    "tree": Dict({"a b": BOUNDED, "c": Tuple((Discrete(2), MultiBinary((2,))))}),
}


def observing(space, normalisers):
    inputs = []
    for path, leaf in spaces.leaves(space).items():
        dtype = "int8" if isinstance(leaf, MultiBinary) else leaf.dtype
        shape = (None, *spaces.shape(leaf))
        dtype = "float32" if path in normalisers else dtype
        inputs.append(Input(TensorSpec(path or "obs", dtype, shape)))
    flat = Concat()(*(chain(i, AsFloat(), Flatten()) for i in inputs))
    size = sum(int(np.prod(i.spec.shape[1:])) for i in inputs)
    weight = np.random.default_rng(0).normal(size=(3, size))
    network = Network(tuple(inputs), {"logits": Linear(weight)(flat)})
    policy = Policy(
        "policy.onnx",
        network.signature,
        Head.LOGITS,
        space,
        Discrete(3),
        normalisers,
    )
    return policy, network


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_are_of_the_space(name):
    space = OBSERVATIONS[name]
    for case in trace(*observing(space, {})).cases:
        (step,) = case.steps
        for path, leaf in spaces.leaves(space).items():
            array = step.recorded[f"obs/{path}" if path else "obs"]
            assert observations.conform(array, leaf, field=path) is array
            if isinstance(leaf, Box):
                for low, high, column in zip(
                    leaf.low, leaf.high, array.reshape(len(array), -1).T, strict=True
                ):
                    assert low is None or (column >= low).all()
                    assert high is None or (column <= high).all()


def test_the_rows_of_a_trace_differ():
    _, case = trace(*observing(BOUNDED, {})).cases
    obs = case.steps[0].recorded["obs"]
    assert len(np.unique(obs, axis=0)) == len(obs) == 7


def test_what_is_normalised_is_drawn_from_where_training_was():
    space = Box((1,), "float32", (None,), (None,))
    normaliser = Normaliser((1000.0,), (4.0,), 1e-8, 10.0)
    policy, network = observing(space, {"": normaliser})
    _, case = trace(policy, network).cases
    step = case.steps[0].recorded
    assert (abs(step["obs"] - 1000) < 20).all()
    scaled = (step["obs"].astype(np.float64) - 1000) / 2
    expected = network.run({"obs": scaled.astype(np.float32)})["logits"]
    np.testing.assert_allclose(step["outputs/logits"], expected, rtol=1e-5)


def test_masks_leave_a_choice_and_are_obeyed():
    policy, network = observing(BOUNDED, {})
    for case in trace(policy, network, masked=True).cases:
        step = case.steps[0].recorded
        mask = step["action_mask"]
        assert mask.any(axis=1).all()
        assert mask[np.arange(len(mask)), step["action"]].all()
