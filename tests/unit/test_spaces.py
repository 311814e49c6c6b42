"""Spaces: their JSON form, and which batches of observations fit them."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application.observations import MAX_ROWS, conform
from arena_core.application.space_json import (
    MAX_ELEMENTS,
    MAX_LEAVES,
    from_json,
    to_json,
)
from arena_core.application.spaces import leaves, walk
from arena_core.domain.checkpoint import (
    DTYPES,
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Tuple,
)
from arena_core.domain.errors import Rejected, TooLarge

FLOATS = ("float16", "float32", "float64")
INTEGERS = tuple(name for name in DTYPES if "int" in name)

CARTPOLE = Box((4,), "float32", (-4.8, None, -0.42, None), (4.8, None, 0.42, None))
PIXELS = Box((2, 2, 3), "uint8", (0,) * 12, (255,) * 12)
BITS = Box((3,), "bool", (0,) * 3, (1,) * 3)
MOVES = Discrete(4, start=-1)


def box(dtype, shape=()):
    bounds = (None,) * math.prod(shape)
    return Box(shape, dtype, bounds, bounds)


@st.composite
def boxes(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=3))
    numbers = hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)
    bounds = st.none() | numbers.map(lambda number: number.item() + 0)  # no bool
    size = math.prod(shape)
    pairs = draw(st.lists(st.tuples(bounds, bounds), min_size=size, max_size=size))
    if draw(st.booleans()):
        pairs = pairs[:1] * size
    pairs = [pair if None in pair else sorted(pair) for pair in pairs]
    low, high = zip(*pairs, strict=True)
    return Box(shape, dtype, low, high)


@st.composite
def discretes(draw):
    dtype = draw(st.sampled_from(INTEGERS))
    numbers = hnp.from_dtype(np.dtype(dtype)).map(int)
    low, high = sorted((draw(numbers), draw(numbers)))
    return Discrete(high - low + 1, low, dtype)


@st.composite
def multi_discretes(draw):
    parts = draw(st.lists(discretes(), min_size=1, max_size=3))
    dtype = parts[0].dtype
    kept = [
        part for part in parts if part.dtype == dtype and part.n <= MAX_ELEMENTS
    ] or [Discrete(2, 0, dtype)]
    return MultiDiscrete(
        tuple(part.n for part in kept), tuple(part.start for part in kept), dtype
    )


multi_binaries = st.builds(
    MultiBinary, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)
)
arrays = boxes() | discretes() | multi_discretes() | multi_binaries
trees = st.recursive(
    arrays,
    lambda inner: (
        st.dictionaries(
            st.text("ab/ é", max_size=3), inner, min_size=1, max_size=3
        ).map(Dict)
        | st.lists(inner, min_size=1, max_size=3).map(tuple).map(Tuple)
    ),
    max_leaves=6,
)


def ambiguous(space) -> bool:
    """Say whether two leaves would have the same name."""
    paths = [path for path, _ in walk(space)]
    return len(set(paths)) < len(paths)


# --- the JSON form ---------------------------------------------------------------


@settings(deadline=None)
@given(trees)
def test_a_space_survives_its_json_form(space):
    if ambiguous(space):
        with pytest.raises(Rejected, match="rename one"):
            from_json(to_json(space), field="observation_space")
        return
    text = json.dumps(to_json(space))
    found = from_json(json.loads(text), field="observation_space")
    assert found == space
    assert list(leaves(found)) == list(leaves(space)), "the order of keys is kept"


def test_the_parts_of_a_multi_discrete_start_at_0_unless_they_say_otherwise():
    space = from_json({"type": "MultiDiscrete", "nvec": [3, 2]}, field="s")

    assert space == MultiDiscrete((3, 2), (0, 0), "int64")


def test_a_leaf_is_named_by_its_path_with_underscores_for_odd_characters():
    binary = {"type": "MultiBinary", "shape": [2]}
    inner = {
        "type": "Tuple",
        "spaces": [binary, {"type": "Dict", "spaces": {"": binary}}],
    }
    tree = {"type": "Dict", "spaces": {"a key/é": inner, "x": binary}}

    assert list(leaves(from_json(tree, field="s"))) == ["a_key__/0", "a_key__/1/_", "x"]
    assert list(leaves(from_json(binary, field="s"))) == [""]


@pytest.mark.parametrize(
    "keys",
    [("a b", "a_b"), ("é", "ö"), ("", "_"), ("a/b", "a b"), ("a", "b", "[", "]")],
)
def test_keys_that_would_name_the_same_input_are_refused(keys):
    spaces = {key: {"type": "MultiBinary", "shape": [2]} for key in keys}

    with pytest.raises(Rejected, match="rename one") as refusal:
        from_json({"type": "Dict", "spaces": spaces}, field="s")

    assert refusal.value.field == "s"


@pytest.mark.parametrize("count", [0, MAX_LEAVES + 1])
def test_an_observation_is_made_of_some_arrays_but_not_of_too_many(count):
    binary = {"type": "MultiBinary", "shape": [2]}
    spaces = {str(number): binary for number in range(count)}

    with pytest.raises(Rejected, match=f"made of {count} arrays: use 1 to 64"):
        from_json({"type": "Dict", "spaces": spaces}, field="s")

    assert from_json({"type": "Dict", "spaces": {"0": binary}}, field="s")


def test_a_tree_with_too_many_branches_is_refused():
    tree = {"type": "MultiBinary", "shape": [1]}
    for _ in range(7):
        tree = {"type": "Tuple", "spaces": [tree, tree]}

    with pytest.raises(Rejected, match="128 arrays"):
        from_json(tree, field="s")


def test_bounds_that_are_all_the_same_are_written_once():
    assert to_json(PIXELS) == {
        "type": "Box",
        "shape": [2, 2, 3],
        "dtype": "uint8",
        "low": 0,
        "high": 255,
    }
    assert to_json(box("float32", (3,)))["low"] is None
    assert to_json(CARTPOLE)["high"] == [4.8, None, 0.42, None]


def test_a_discrete_starts_at_0_with_int64_unless_it_says_otherwise():
    space = from_json({"type": "Discrete", "n": 6}, field="action_space")

    assert space == Discrete(6, 0, "int64")


def test_bounds_may_be_rounded_decimals_of_the_largest_float():
    given_ = {"type": "Box", "shape": [2], "dtype": "float32"}

    space = from_json(given_ | {"low": -3.4028235e38, "high": 3.4028235e38}, field="s")

    assert np.isfinite(np.array(space.high, np.float32)).all()


@pytest.mark.parametrize(
    "obj",
    [None, [], "Box", 3, {}, {"type": None}, {"type": []}, {"type": "Text"}],
)
def test_an_unknown_type_is_refused_with_those_that_are_known(obj):
    with pytest.raises(Rejected, match="one of Box, Discrete") as refusal:
        from_json(obj, field="action_space")

    assert refusal.value.field == "action_space.type"


BOX = {"type": "Box", "shape": [2], "dtype": "float32", "low": 0, "high": 1}
BYTES = BOX | {"dtype": "uint8"}
DISCRETE = {"type": "Discrete", "n": 2}
PARTS = {"type": "MultiDiscrete", "nvec": [2, 3]}
BINARY = {"type": "MultiBinary", "shape": [2]}
TREE = {"type": "Dict", "spaces": {"a key": BINARY}}
LIST = {"type": "Tuple", "spaces": [BINARY, DISCRETE]}


@pytest.mark.parametrize(
    ("obj", "field", "remedy"),
    [
        (BOX | {"seed": 1}, "s", "dtype, high, low, shape, type and no others."),
        ({"type": "Box", "shape": [2]}, "s", "dtype, high, low, shape, type"),
        (DISCRETE | {"low": 0}, "s", "keys n, type and no others but dtype and start."),
        ({"type": "Discrete"}, "s", "keys n, type"),
        (BOX | {"shape": 2}, "s.shape", "list of at most 7 whole numbers"),
        (BOX | {"shape": [1] * 8}, "s.shape", "at most 7"),
        (BOX | {"shape": [2, 0]}, "s.shape.1", "whole number from 1"),
        (BOX | {"shape": [-2]}, "s.shape.0", "whole number from 1"),
        (BOX | {"shape": [True]}, "s.shape.0", "whole number from 1"),
        (BOX | {"shape": [2.0]}, "s.shape.0", "whole number from 1"),
        (BOX | {"shape": [10**30]}, "s.shape.0", "to 4194304"),
        (BOX | {"dtype": "object"}, "s.dtype", "one of bool, int8"),
        (BOX | {"dtype": ["<f4"]}, "s.dtype", "one of bool, int8"),
        (BOX | {"low": [0]}, "s.low", "1 bounds, but the shape has 2 elements"),
        (BOX | {"high": [1, 1, 1]}, "s.high", "3 bounds, but the shape has 2"),
        (BOX | {"low": [[0, 0], 0]}, "s.low", "numbers that a float32 can hold"),
        (BOX | {"low": "-inf"}, "s.low", "null where there is no bound"),
        (BOX | {"low": -math.inf}, "s.low", "null where there is no bound"),
        (BOX | {"low": math.nan}, "s.low", "null where there is no bound"),
        (BOX | {"high": True}, "s.high", "null where there is no bound"),
        (BOX | {"high": 3.5e38}, "s.high", "numbers that a float32 can hold"),
        (BOX | {"high": 10**400}, "s.high", "numbers that a float32 can hold"),
        (BYTES | {"low": -1}, "s.low", "numbers that a uint8 can hold"),
        (BYTES | {"high": 256}, "s.high", "numbers that a uint8 can hold"),
        (BYTES | {"high": 0.5}, "s.high", "numbers that a uint8 can hold"),
        (BOX | {"low": [0, 2]}, "s.low", "not be greater than s.high"),
        (DISCRETE | {"n": 0}, "s.n", "whole number from 1"),
        (DISCRETE | {"n": 2.0}, "s.n", "whole number from 1"),
        (DISCRETE | {"n": True}, "s.n", "whole number from 1"),
        (DISCRETE | {"start": None}, "s.start", "whole number"),
        (DISCRETE | {"dtype": "float32"}, "s.dtype", "one of int8"),
        (DISCRETE | {"dtype": "bool"}, "s.dtype", "one of int8"),
        (DISCRETE | {"n": 257, "dtype": "uint8"}, "s.n", "from 1 to 256"),
        (DISCRETE | {"start": 255, "dtype": "uint8"}, "s.start", "from 0 to 254"),
        ({"type": "MultiDiscrete"}, "s", "keys nvec, type and no others but dtype and"),
        (PARTS | {"nvec": []}, "s.nvec", "a list that is not empty"),
        (PARTS | {"nvec": 3}, "s.nvec", "a list that is not empty"),
        (PARTS | {"nvec": [2, 0]}, "s.nvec.1", "whole number from 1 to 4194304"),
        (PARTS | {"nvec": [2, 2**40]}, "s.nvec.1", "whole number from 1 to 4194304"),
        (PARTS | {"nvec": [[2]]}, "s.nvec.0", "whole number from 1"),
        (PARTS | {"nvec": [300], "dtype": "uint8"}, "s.nvec.0", "from 1 to 256"),
        (PARTS | {"start": [0]}, "s.start", "one number for each of s.nvec"),
        (PARTS | {"start": 0}, "s.start", "a list that is not empty"),
        (PARTS | {"start": [0, 0.5]}, "s.start.1", "whole number"),
        (PARTS | {"start": [0, 127], "dtype": "int8"}, "s.start.1", "to 125"),
        (PARTS | {"dtype": "float32"}, "s.dtype", "one of int8"),
        (BINARY | {"n": 2}, "s", "keys shape, type and no others."),
        (BINARY | {"shape": 2}, "s.shape", "list of at most 7"),
        (BINARY | {"shape": [0]}, "s.shape.0", "whole number from 1"),
        (TREE | {"spaces": [BINARY]}, "s.spaces", "an object: a space for each key"),
        (TREE | {"spaces": {"a key": None}}, "s.a_key.type", "one of Box, Discrete"),
        (TREE | {"spaces": {"": BINARY | {"shape": [0]}}}, "s._.shape.0", "from 1"),
        (LIST | {"spaces": []}, "s.spaces", "a list that is not empty"),
        (LIST | {"spaces": {"0": BINARY}}, "s.spaces", "a list that is not empty"),
        (LIST | {"spaces": [BINARY, LIST | {"spaces": 1}]}, "s.1.spaces", "a list"),
    ],
)
def test_bad_json_is_refused_with_the_place_and_the_remedy(obj, field, remedy):
    with pytest.raises(Rejected) as refusal:
        from_json(obj, field="s")

    assert refusal.value.field == field
    assert remedy in str(refusal.value)
    assert not set("[]\n") & set(str(refusal.value))


def test_a_shape_of_too_many_elements_is_refused_before_they_are_made():
    side = math.isqrt(MAX_ELEMENTS)
    largest = from_json(BOX | {"shape": [side, side]}, field="s")
    assert len(largest.low) == MAX_ELEMENTS

    with pytest.raises(TooLarge, match="use at most 4194304"):
        from_json(BOX | {"shape": [MAX_ELEMENTS] * 7}, field="s")


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*BOX, *DISCRETE, "start"]), inner)
        ),
    ),
    st.sampled_from([BOX, DISCRETE, PARTS, BINARY, TREE, LIST]),
    st.sampled_from([*BOX, *DISCRETE, "start", "nvec", "spaces"]),
)
def test_any_json_is_a_space_or_is_refused(value, obj, key):
    for candidate in (value, obj | {key: value}):
        try:
            space = from_json(candidate, field="s")
        except Rejected:
            continue
        assert from_json(to_json(space), field="s") == space


# --- observations ----------------------------------------------------------------


@settings(deadline=None)
@given(boxes() | discretes(), st.integers(1, 5))
def test_what_fits_already_is_not_copied(space, rows):
    shape = space.shape if isinstance(space, Box) else ()
    low = space.start if isinstance(space, Discrete) else 0
    batch = np.full((rows, *shape), low, space.dtype)

    assert conform(batch, space, field="obs") is batch


@settings(deadline=None)
@given(
    st.sampled_from(FLOATS),
    hnp.arrays(
        st.sampled_from(DTYPES).map(np.dtype),
        hnp.array_shapes(max_dims=2, max_side=3).map(lambda shape: (*shape, 2)),
        elements=st.integers(0, 1),
    ),
    st.sampled_from("<>"),
    st.booleans(),
)
def test_a_box_of_floats_takes_every_number(dtype, batch, order, fortran):
    given_ = np.asarray(
        batch, batch.dtype.newbyteorder(order), order="F" if fortran else "C"
    )

    result = conform(given_, box(dtype, batch.shape[1:]), field="obs")

    assert result.dtype == dtype
    assert result.flags.c_contiguous
    assert (result == batch).all()


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from([name for name in DTYPES if name not in FLOATS]),
    hnp.arrays(st.sampled_from(DTYPES).map(np.dtype), st.integers(1, 3)),
)
def test_a_box_of_integers_takes_what_its_dtype_holds_and_nothing_else(dtype, batch):
    values = batch.tolist()
    limits = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    fits = all(
        math.isfinite(value)
        and value == int(value)
        and int(limits[0]) <= int(value) <= int(limits[1])
        for value in values
    )

    if fits:
        result = conform(batch, box(dtype), field="obs")
        assert result.dtype == dtype
        assert [int(value) for value in result.tolist()] == [int(v) for v in values]
    else:
        with pytest.raises(Rejected, match="The obs must hold whole numbers from"):
            conform(batch, box(dtype), field="obs")


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_the_float_just_above_the_largest_integer_is_refused(dtype):
    batch = np.array([float(np.iinfo(dtype).max)])
    assert int(batch[0]) == int(np.iinfo(dtype).max) + 1

    with pytest.raises(Rejected, match="whole numbers"):
        conform(batch, box(dtype), field="obs")


@settings(deadline=None)
@given(
    discretes(),
    hnp.arrays(
        st.sampled_from([*INTEGERS, *FLOATS]).map(np.dtype),
        st.integers(1, 3),
        elements=st.integers(0, 100),
    ),
)
def test_a_discrete_takes_its_members_and_nothing_else(space, batch):
    members = all(
        space.start <= value < space.start + space.n for value in batch.tolist()
    )

    if members:
        result = conform(batch, space, field="obs")
        assert result.dtype == space.dtype
        assert result.tolist() == batch.tolist()
    else:
        with pytest.raises(Rejected, match="whole numbers from"):
            conform(batch, space, field="obs")


@pytest.mark.parametrize("value", [-1, 0, 2, 2.0])
def test_the_first_and_the_last_of_a_discrete_are_members(value):
    result = conform(np.array([value]), MOVES, field="obs")

    assert result.dtype == np.int64
    assert result.tolist() == [value]


@pytest.mark.parametrize(
    ("values", "row"),
    [([0, -2], 1), ([3, 0], 0), ([0, 0, 0.5], 2), ([0, math.nan], 1), ([math.inf], 0)],
)
def test_what_a_discrete_does_not_contain_is_refused_with_its_row(values, row):
    with pytest.raises(Rejected) as refusal:
        conform(np.array(values), MOVES, field="obs")

    assert str(refusal.value) == (
        f"The obs must hold whole numbers from -1 to 2, but row {row} does not."
    )


@pytest.mark.parametrize("space", [CARTPOLE, box("float64", (4,))])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity_are_refused_with_their_row(space, value, dtype):
    batch = np.zeros((3, 4), dtype)
    batch[2, 1] = value

    with pytest.raises(Rejected, match=r"finite numbers .* row 2 does not") as refusal:
        conform(batch, space, field="obs")

    assert refusal.value.field == "obs"


def test_a_signalling_nan_is_refused_without_a_warning():
    batch = np.array([0x7FA00000], np.uint32).view(np.float32)

    for dtype in ("float64", "uint8"):
        with pytest.raises(Rejected):
            conform(batch, box(dtype), field="obs")


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (box("float32"), 1e300),
        (box("float16"), 70_000),
        (box("uint8"), 300),
        (box("uint8"), -1),
        (box("int8"), 128.0),
        (box("bool"), 2),
    ],
)
def test_what_the_dtype_cannot_hold_is_refused(space, value):
    with pytest.raises(Rejected, match="row 1 does not"):
        conform(np.array([0, value]), space, field="obs")


def test_values_beyond_the_bounds_of_a_box_pass():
    batch = np.array([[-9.0, 1e9, 9.0, -1e9]])

    assert conform(batch, CARTPOLE, field="obs").tolist() == batch.tolist()


def test_a_row_is_the_place_along_the_first_axis():
    batch = np.zeros((3, 2, 2, 3), np.int32)
    batch[1, 1, 1, 2] = 256

    with pytest.raises(Rejected, match="row 1 does not"):
        conform(batch, PIXELS, field="obs")


@pytest.mark.parametrize(
    ("space", "shape", "expected", "came"),
    [
        (CARTPOLE, (4,), "(B, 4)", "(4,)"),
        (CARTPOLE, (1, 5), "(B, 4)", "(1, 5)"),
        (CARTPOLE, (1, 4, 1), "(B, 4)", "(1, 4, 1)"),
        (PIXELS, (7, 3, 2, 2), "(B, 2, 2, 3)", "(7, 3, 2, 2)"),
        (MOVES, (), "(B,)", "()"),
        (MOVES, (3, 1), "(B,)", "(3, 1)"),
        (box("float32"), (), "(B,)", "()"),
    ],
)
def test_another_shape_is_refused_with_both_of_them(space, shape, expected, came):
    with pytest.raises(Rejected) as refusal:
        conform(np.zeros(shape, space.dtype), space, field="obs")

    assert str(refusal.value) == (
        f"The obs must have the shape {expected}, where B is the number of rows, "
        f"but has {came}."
    )
    assert refusal.value.field == "obs"


@pytest.mark.parametrize("space", [CARTPOLE, PIXELS, BITS])
def test_a_batch_has_at_least_one_row(space):
    with pytest.raises(Rejected, match="no row"):
        conform(np.zeros((0, *space.shape), space.dtype), space, field="obs")


def test_a_batch_has_no_more_rows_than_the_limit():
    rows = np.zeros(MAX_ROWS + 1, np.int64)

    assert len(conform(rows[1:], MOVES, field="obs")) == MAX_ROWS
    with pytest.raises(TooLarge, match="has 65537 rows: send at most 65536"):
        conform(rows, MOVES, field="obs")


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "c8", "M8[s]", "m8[s]", "V4"])
@pytest.mark.parametrize("space", [box("float32"), box("uint8"), MOVES])
def test_what_is_no_number_is_refused(space, dtype):
    with pytest.raises(Rejected, match="The obs must hold numbers that"):
        conform(np.zeros(1, dtype), space, field="obs")


def test_booleans_are_no_members_of_a_discrete():
    with pytest.raises(Rejected, match="numbers that int64 can represent"):
        conform(np.array([True]), MOVES, field="obs")


@settings(deadline=None)
@given(st.integers(0, 7))
def test_elements_at_an_odd_place_in_memory_are_moved(offset):
    data = bytes(offset) + np.arange(4, dtype=np.float64).tobytes()
    batch = np.frombuffer(data, np.float64, offset=offset)
    assume(not batch.flags.aligned)

    result = conform(batch, box("float64"), field="obs")

    assert result.flags.aligned
    assert result.tolist() == [0, 1, 2, 3]
