"""Arrays as the Open Inference Protocol writes them: exact, and never believed."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from arena_core.application import tensors
from arena_core.domain.checkpoint import DTYPES
from arena_core.domain.errors import Rejected

ARRAYS = st.sampled_from(sorted(tensors.DATATYPES)).flatmap(
    lambda name: hnp.arrays(
        tensors.DATATYPES[name],
        hnp.array_shapes(min_dims=0, max_side=4),
        elements=None
        if "FP" not in name
        else {"allow_nan": False, "allow_infinity": False},
    )
)


def raw(value):
    return msgspec.Raw(msgspec.json.encode(value))


def from_json(value, datatype="FP32", shape=(2,)):
    data = value if isinstance(value, msgspec.Raw) else raw(value)
    dtype = tensors.DATATYPES[datatype]
    return tensors.from_json(data, dtype, shape, field="obs")


def from_bytes(data, datatype="FP32", shape=(2,)):
    dtype = tensors.DATATYPES[datatype]
    return tensors.from_bytes(memoryview(data), dtype, shape, field="obs")


def same(array, truth):
    assert (array.shape, array.dtype) == (truth.shape, truth.dtype)
    assert array.tobytes() == truth.tobytes()


def refused(read, *given, match=None):
    with pytest.raises(Rejected, match=match) as caught:
        read(*given)
    assert caught.value.field == "obs"
    assert str(caught.value).endswith(".")


def test_every_dtype_that_travels_has_a_datatype_and_back():
    for name in DTYPES:
        called = tensors.datatype(np.dtype(name))
        assert tensors.dtype(called, field="obs") == np.dtype(name)


def test_big_endian_arrays_have_the_datatype_of_little_endian_ones():
    assert tensors.datatype(np.dtype(">f4")) == "FP32"
    array = np.array([1.5, -2], ">f4")
    same(from_bytes(tensors.to_bytes(array)), array.astype("<f4"))


@pytest.mark.parametrize(
    ("name", "why"),
    [("BYTES", "nothing here is text"), ("BF16", "to FP32"), ("fp32", "not known")],
)
def test_a_datatype_that_there_is_not_is_refused_with_a_remedy(name, why):
    with pytest.raises(Rejected, match=why) as caught:
        tensors.dtype(name, field="obs")
    assert "FP64" in str(caught.value)


@settings(deadline=None)
@given(array=ARRAYS)
def test_bytes_come_back_bit_for_bit(array):
    name = tensors.datatype(array.dtype)
    same(from_bytes(tensors.to_bytes(array), name, array.shape), array)


@settings(deadline=None)
@given(array=ARRAYS, is_nested=st.booleans())
def test_json_comes_back_bit_for_bit_nested_or_flat(array, is_nested):
    name = tensors.datatype(array.dtype)
    data = array.tolist() if is_nested and array.ndim else tensors.to_json(array)
    same(from_json(data, name, array.shape), array)


def test_the_axes_of_a_transposed_array_are_written_in_their_order():
    array = np.arange(6, dtype="<i4").reshape(2, 3).T
    assert tensors.to_json(array) == [0, 3, 1, 4, 2, 5]
    same(from_bytes(tensors.to_bytes(array), "INT32", (3, 2)), array)


def test_whole_numbers_are_floats_too():
    same(from_json([1, 2.5]), np.array([1, 2.5], "f4"))


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        (["1", "2"], "FP32"),
        ([None, 1.0], "FP32"),
        ([True, False], "FP32"),
        ([True, False], "INT8"),
        ([1.5, 2], "INT8"),
        ([1.0, 2.0], "INT64"),
        ([1, 0], "BOOL"),
        ([[1], [2]], "FP32"),
        ([{}, {}], "FP32"),
        ({"a": 1}, "FP32"),
        ("12", "FP32"),
        (1, "FP32"),
    ],
    ids=repr,
)
def test_elements_of_another_type_are_refused(value, datatype):
    refused(from_json, value, datatype, match="all of its datatype")


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2], [3]],
        [[1, 2, 3], [4, 5, 6]],
        [[1], [2], [3], [4]],
        [[[1], [2]], [[3], [4]]],
        [[1, 2], 3, 4],
        [[1, 2], {}],
        [[1, 2], ["3", 4]],
    ],
    ids=repr,
)
def test_lists_that_are_nested_otherwise_than_the_shape_are_refused(value):
    refused(from_json, value, "FP32", (2, 2), match="nested as its shape")


@pytest.mark.parametrize("value", [[], [1.0], [1.0, 2.0, 3.0]])
def test_too_few_or_too_many_elements_are_refused(value):
    refused(from_json, value, match="elements, but its shape is of 2")


@pytest.mark.parametrize(
    ("value", "datatype"),
    [([256, 0], "UINT8"), ([-1, 0], "UINT64"), ([2**64, 0], "UINT64")],
)
def test_a_number_that_the_datatype_cannot_hold_is_refused(value, datatype):
    refused(from_json, value, datatype, match=f"that {datatype} cannot hold")


def test_a_float_that_is_too_large_is_infinite_and_left_to_the_space():
    assert np.isinf(from_json([1e300, 0.0])).tolist() == [True, False]


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_more_or_fewer_bytes_than_the_shape_says_are_refused(size):
    refused(from_bytes, b"\0" * size, match="of 8 bytes")


def test_bytes_that_are_no_booleans_are_refused():
    refused(from_bytes, b"\1\2", "BOOL", match="not 0 or 1")
    assert from_bytes(b"", "BOOL", (0,)).size == 0


@pytest.mark.parametrize("shape", [(-1,), (1, -2, -1), (1,) * 9])
def test_a_shape_that_no_array_has_is_refused(shape):
    refused(from_bytes, b"\0" * 8, "FP32", shape, match="none of them below 0")


@pytest.mark.parametrize("shape", [(2**62,), (0, 2**62), (2**40, 2**40)])
def test_a_shape_beyond_all_memory_is_refused_and_nothing_allocated(shape):
    refused(from_bytes, b"", "FP32", shape, match="larger than any memory")
    refused(from_json, [], "FP32", shape, match="larger than any memory")


def test_nothing_is_copied_of_bytes():
    data = bytearray(b"\0" * 8)
    array = from_bytes(data)
    data[:] = b"\0\0\x80?" * 2
    assert array.tolist() == [1, 1]
