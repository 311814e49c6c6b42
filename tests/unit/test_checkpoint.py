import pytest

from arena_core.domain.checkpoint import DTYPES, Box, Discrete, TensorSpec
from arena_core.domain.errors import Rejected


def a_box(dtype):
    return Box((1,), dtype, (None,), (None,))


def a_discrete(dtype):
    return Discrete(2, 0, dtype)


def a_tensor(dtype):
    return TensorSpec("obs", dtype, (None, 1))


@pytest.mark.parametrize("made", [a_box, a_discrete, a_tensor])
def test_numeric_dtypes_travel(made):
    for dtype in DTYPES:
        assert made(dtype).dtype == dtype


@pytest.mark.parametrize("made", [a_box, a_discrete, a_tensor])
@pytest.mark.parametrize("dtype", ["object", "complex64", "str", "float", ""])
def test_no_other_dtype_travels(made, dtype):
    with pytest.raises(Rejected, match="use one of bool, int8") as caught:
        made(dtype)
    assert caught.value.field == "dtype"


def test_a_discrete_space_counts_from_zero_in_int64_unless_it_says_otherwise():
    assert Discrete(3) == Discrete(3, start=0, dtype="int64")
