"""Spaces come out of pickles as Gymnasium put them in."""

import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.adapters.converters.gymnasium_spaces import space_of
from arena_core.adapters.converters.torch_files import read_pickle
from arena_core.application import space_json
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Tuple,
)
from arena_core.domain.errors import Rejected


def read(space):
    return space_of(read_pickle(pickle.dumps(space)), field="observation_space")


PAIRS = {
    "box": (
        theirs.Box(
            np.array([-1.5, -np.inf]), np.array([np.inf, 2.0]), dtype=np.float64
        ),
        Box((2,), "float64", (-1.5, None), (None, 2.0)),
    ),
    "image": (
        theirs.Box(0, 255, (1, 2, 1), np.uint8),
        Box((1, 2, 1), "uint8", (0, 0), (255, 255)),
    ),
    "scalar": (theirs.Box(-1, 1, (), np.float32), Box((), "float32", (-1.0,), (1.0,))),
    "discrete": (theirs.Discrete(3, start=-1), Discrete(3, -1)),
    "small": (theirs.Discrete(3, dtype=np.int8), Discrete(3, 0, "int8")),
    "multi-discrete": (
        theirs.MultiDiscrete([3, 2], start=[1, 0]),
        MultiDiscrete((3, 2), (1, 0)),
    ),
    "multi-binary": (theirs.MultiBinary(4), MultiBinary((4,))),
    "matrix": (theirs.MultiBinary([2, 3]), MultiBinary((2, 3))),
    "dict": (
        theirs.Dict({"b": theirs.Discrete(2), "a": theirs.MultiBinary(1)}),
        Dict({"a": MultiBinary((1,)), "b": Discrete(2)}),
    ),
    "tuple": (
        theirs.Tuple((theirs.Discrete(2), theirs.Dict({"a": theirs.Discrete(3)}))),
        Tuple((Discrete(2), Dict({"a": Discrete(3)}))),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_space_is_what_it_was(name):
    theirs_, ours = PAIRS[name]
    assert read(theirs_) == ours
    assert space_json.from_json(space_json.to_json(ours), field="x") == ours


@pytest.mark.parametrize("environment", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_the_spaces_of_environments_are_read(environment):
    with gymnasium.make(environment) as env:
        space = read(env.observation_space)
        assert space.shape == env.observation_space.shape
        read(env.action_space)


def test_a_space_of_the_old_gym_has_no_start():
    found = read_pickle(pickle.dumps(theirs.Discrete(3)))
    found.module = "gym.spaces.discrete"
    del found.state["start"]
    assert space_of(found, field="action_space") == Discrete(3)


@pytest.mark.parametrize(
    "space",
    [
        theirs.Text(3),
        theirs.Sequence(theirs.Discrete(2)),
        theirs.Dict({"a": theirs.Text(3)}),
        theirs.MultiDiscrete([[1, 2], [3, 4]]),
        3,
        None,
        {"n": 3},
    ],
)
def test_other_spaces_are_refused(space):
    with pytest.raises(Rejected, match="cannot be converted: export"):
        read(space)


def test_a_space_that_is_nested_without_end_is_refused():
    space = theirs.Discrete(2)
    for _ in range(20):
        space = theirs.Tuple((space,))
    with pytest.raises(Rejected):
        read(space)


@given(
    name=st.sampled_from(sorted(PAIRS)),
    key=st.sampled_from(
        ["low", "high", "dtype", "n", "nvec", "start", "spaces", "_shape"]
    ),
    value=st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.integers(), max_size=3)
    | st.sampled_from([np.array(["a"]), np.array([np.nan]), np.array([[1.0]])]),
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_space_is_refused_or_a_space_again(name, key, value):
    found = read_pickle(pickle.dumps(PAIRS[name][0]))
    found.state[key] = value
    try:
        space = space_of(found, field="observation_space")
        space_json.from_json(space_json.to_json(space), field="observation_space")
    except Rejected:
        pass
