"""Trees of arrays, as Gymnasium's own spaces make them, and what is no such tree."""

import numpy as np
import pytest
from gymnasium import spaces as gym
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application import spaces
from arena_core.application.observations import conform, gather
from arena_core.application.space_json import from_json
from arena_core.domain.checkpoint import (
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Tuple,
)
from arena_core.domain.errors import Rejected

import shapes

NAMES = st.text("abcXYZ019_.-é/ ", min_size=0, max_size=5)


def ours(space: gym.Space):
    """Return the space in the words of the domain."""
    match space:
        case gym.Box():
            low, high = (
                tuple(None if np.isinf(b) else b.item() for b in bounds.ravel())
                for bounds in (space.low, space.high)
            )
            return Box(space.shape, space.dtype.name, low, high)
        case gym.Discrete():
            return Discrete(int(space.n), int(space.start), space.dtype.name)
        case gym.MultiDiscrete():
            counts, starts = space.nvec.tolist(), space.start.tolist()
            return MultiDiscrete(tuple(counts), tuple(starts), space.dtype.name)
        case gym.MultiBinary():
            return MultiBinary(space.shape)
        case gym.Dict():
            return Dict({key: ours(part) for key, part in space.spaces.items()})
        case gym.Tuple():
            return Tuple(tuple(map(ours, space.spaces)))


boxes = st.builds(
    lambda shape, dtype, bounds: gym.Box(*bounds, shape, dtype),
    st.lists(st.integers(1, 3), max_size=3).map(tuple),
    st.sampled_from([np.float32, np.float64, np.uint8, np.int64]),
    st.sampled_from([(0, 255), (0, 1), (3, 9)]),
) | st.builds(lambda n: gym.Box(-np.inf, np.inf, (n,), np.float32), st.integers(1, 3))
leaves = (
    boxes
    | st.builds(
        lambda n, start: gym.Discrete(n, start=start),
        st.integers(1, 5),
        st.integers(-3, 3),
    )
    | st.lists(st.integers(1, 4), min_size=1, max_size=3).map(gym.MultiDiscrete)
    | st.builds(
        lambda counts: gym.MultiDiscrete(counts, start=[-1] * len(counts)),
        st.lists(st.integers(1, 4), min_size=1, max_size=3),
    )
    | st.sampled_from([gym.MultiBinary(3), gym.MultiBinary((2, 2))])
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(gym.Dict)
        | st.lists(inner, min_size=1, max_size=3).map(gym.Tuple)
    ),
    max_leaves=5,
).filter(lambda space: _is_told_apart(ours(space)))


def _is_told_apart(space) -> bool:
    """Say whether no two keys differ in odd characters only."""
    paths = [path for path, _ in spaces.walk(space)]
    return len(set(paths)) == len(paths)


def batch(space: gym.Space, rows: int, seed: int):
    space.seed(seed)
    samples = [space.sample() for _ in range(rows)]
    return concatenate(space, samples, create_empty_array(space, rows)), samples


def as_it_is(leaf, field):
    assert isinstance(leaf, np.ndarray), field
    return leaf


def assert_equal(one, other):
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key, part in one.items():
            assert_equal(part, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for part, same in zip(one, other, strict=True):
            assert_equal(part, same)
    else:
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype


@given(anything, st.integers(1, 4), st.integers(0, 99))
def test_what_gymnasium_samples_fits_and_comes_back_as_it_was(space, rows, seed):
    seen, _ = batch(space, rows, seed)
    arrays = gather(seen, ours(space), as_it_is, field="obs")
    assert list(arrays) == list(spaces.leaves(ours(space)))
    assert_equal(spaces.unflatten(arrays, ours(space)), seen)
    for path, leaf in spaces.leaves(ours(space)).items():
        assert arrays[path].shape == (rows, *spaces.shape(leaf))
        assert arrays[path].dtype == spaces.dtype(leaf)


@given(anything, st.integers(0, 99))
def test_each_row_is_the_observation_of_its_place(space, seed):
    seen, samples = batch(space, 3, seed)
    together = gather(seen, ours(space), as_it_is, field="obs")
    for row, sample in enumerate(samples):
        alone = gather(
            sample, ours(space), lambda leaf, _: np.asarray(leaf)[None], field="obs"
        )
        for path, array in alone.items():
            assert (array[0] == together[path][row]).all()


@given(leaves, st.sampled_from(["f8", "i8", "f4", "i1", "u1"]), st.integers(0, 99))
def test_numbers_of_another_dtype_are_the_same_numbers(space, dtype, seed):
    seen, _ = batch(space, 3, seed)
    with np.errstate(all="ignore"):
        other = seen.astype(dtype)
    if (other == seen).all():
        assert np.array_equal(conform(other, ours(space), field="obs"), seen)


# --- what fits no tree ---------------------------------------------------------------

SPACE = Dict(
    {
        "image": Box((2,), "uint8", (0, 0), (255, 255)),
        "odd key": Tuple((Discrete(3), MultiBinary((2,)))),
    }
)
FINE = {"image": np.zeros((2, 2)), "odd key": [np.zeros(2), np.zeros((2, 2))]}


def test_a_tuple_may_come_as_a_list_and_a_dict_in_any_order():
    turned = dict(reversed({**FINE, "odd key": tuple(FINE["odd key"])}.items()))
    found = gather(turned, SPACE, as_it_is, field="obs")
    assert list(found) == ["image", "odd_key/0", "odd_key/1"]


@pytest.mark.parametrize(
    ("tree", "field", "said"),
    [
        (None, "obs", "an object with the keys image, odd key and no others"),
        ([], "obs", "an object with the keys image, odd key and no others"),
        (np.zeros((2, 2)), "obs", "an object with the keys"),
        ({}, "obs", "an object with the keys"),
        ({"image": FINE["image"]}, "obs", "an object with the keys"),
        (FINE | {"other": FINE["image"]}, "obs", "and no others"),
        (FINE | {"odd key": FINE["image"]}, "obs.odd_key", "a list of 2 parts"),
        (FINE | {"odd key": {}}, "obs.odd_key", "a list of 2 parts"),
        (FINE | {"odd key": []}, "obs.odd_key", "a list of 2 parts"),
        (FINE | {"odd key": FINE["odd key"] * 2}, "obs.odd_key", "a list of 2 parts"),
        (FINE | {"image": np.zeros((2, 3))}, "obs.image", "the shape (B, 2)"),
        (
            FINE | {"odd key": [np.full(2, 3), np.zeros((2, 2))]},
            "obs.odd_key.0",
            "whole numbers from 0 to 2, but row 0",
        ),
        (
            FINE | {"odd key": [np.zeros(2), np.array([[0, 1], [0, 2]])]},
            "obs.odd_key.1",
            "whole numbers from 0 to 1, but row 1",
        ),
        (
            FINE | {"image": np.zeros((3, 2))},
            "obs",
            "the same number of rows: 3 in image, 2 in odd_key/0, 2 in odd_key/1",
        ),
    ],
)
def test_what_is_no_such_tree_is_refused_with_its_part(tree, field, said):
    with pytest.raises(Rejected) as refused:
        gather(tree, SPACE, as_it_is, field="obs")
    assert refused.value.field == field
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("space", "values", "row"),
    [
        (MultiDiscrete((2, 3), (0, 0)), [[0, 0], [1, 2], [2, 0]], 2),
        (MultiDiscrete((2, 3), (0, 0)), [[0, 0], [1, 3], [0, 0]], 1),
        (MultiDiscrete((2, 3), (5, -1)), [[5, -1], [6, 1], [4, 0]], 2),
        (MultiDiscrete((2, 3), (0, 0)), [[0, 0], [1, 0.5]], 1),
        (MultiBinary((2,)), [[0, 1], [1, -1]], 1),
        (MultiBinary((2,)), [[0, 1], [1, np.nan]], 1),
    ],
)
def test_what_is_not_in_the_space_is_refused_with_its_row(space, values, row):
    with pytest.raises(Rejected, match=f"but row {row} does not"):
        conform(np.array(values), space, field="obs")


@pytest.mark.parametrize("dtype", ["?", "O", "U1", "c8"])
def test_a_multi_discrete_is_made_of_numbers(dtype):
    space = MultiDiscrete((2,), (0,))
    with pytest.raises(Rejected, match="numbers that int64 can represent"):
        conform(np.zeros((1, 1), dtype), space, field="obs")


def test_a_multi_binary_may_be_made_of_booleans():
    bits = np.array([[True, False]])
    found = conform(bits, MultiBinary((2,)), field="obs")
    assert (found.tolist(), found.dtype) == ([[1, 0]], np.int8)


def test_the_leaves_of_a_tree_are_named_by_their_paths():
    found = gather(
        {
            "level": np.zeros(1),
            "position": np.zeros((1, 2)),
            "inner": [np.zeros((1, 3)), np.zeros((1, 2))],
            "image": np.zeros((1, 4, 3, 2)),
        },
        from_json(shapes.DICT_SPACE, field="observation_space"),
        as_it_is,
        field="obs",
    )
    assert list(found) == list(shapes.dict_observations(1))


def test_a_missing_part_of_a_tree_is_an_error_of_its_own():
    with pytest.raises(KeyError):
        spaces.unflatten({"image": np.zeros(1)}, SPACE)
