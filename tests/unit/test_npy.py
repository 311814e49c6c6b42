"""Arrays on the wire: what NumPy writes is read, and nothing else is."""

import base64
import struct
import tracemalloc
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application import npy
from arena_core.domain.errors import Rejected

CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
OVERHEAD_BYTES = 8_000
"""What one call may need besides the array: the header's text, an exception."""

dtypes = st.builds(
    lambda order, code: np.dtype(order + code),
    st.sampled_from("<>"),
    st.sampled_from(CODES),
)
shapes = st.one_of(
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
    hnp.array_shapes(min_dims=4, max_dims=8, min_side=1, max_side=2),
)
arrays = hnp.arrays(dtypes, shapes)


def saved(array, *, version=None):
    stream = BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=False)
    return stream.getvalue()


def loaded(data):
    return np.load(BytesIO(data), allow_pickle=False)


def same(left, right):
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()
    )


def npy_file(header, body=b"", *, version=1):
    text = header.encode("latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + body


def header(descr="<f4", shape="(2,)", fortran_order="False"):
    return f"{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}}}"


def decoded_within(data, budget):
    """Decode `data`; fail if more than `budget` bytes were allocated at once."""
    tracemalloc.start()
    try:
        return npy.decode(data, field="obs")
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= budget


def assert_refused(data, *, because):
    with pytest.raises(Rejected, match=because) as refusal:
        decoded_within(data, len(data) + OVERHEAD_BYTES)
    assert refusal.value.field == "obs"
    assert str(refusal.value).startswith("The obs ")
    assert not set("[]\n") & set(str(refusal.value))


# --- what NumPy writes -----------------------------------------------------------


@settings(deadline=None)
@given(arrays, st.sampled_from([(1, 0), (2, 0), (3, 0)]), st.booleans())
def test_what_numpy_saves_is_read(array, version, fortran):
    data = saved(np.asarray(array, order="F" if fortran else "C"), version=version)

    decoded = npy.decode(data)

    assert same(decoded, array.astype(array.dtype.newbyteorder("=")))
    assert decoded.dtype.isnative
    assert same(npy.decode(memoryview(data)), decoded)


@settings(deadline=None)
@given(arrays, st.booleans())
def test_what_is_encoded_are_the_bytes_that_numpy_saves(array, fortran):
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    expected = saved(little.reshape(array.shape))

    assert npy.encode(np.asarray(array, order="F" if fortran else "C")) == expected


@settings(deadline=None)
@given(arrays)
def test_an_array_survives_base64(array):
    text = npy.to_base64(array)

    assert same(npy.from_base64(text, field="obs"), loaded(base64.b64decode(text)))


def test_a_strided_view_is_encoded_as_what_it_shows():
    array = np.arange(24, dtype=np.int16).reshape(4, 6)[::2, ::-3]

    assert npy.encode(array) == saved(np.ascontiguousarray(array))


def test_a_decoded_array_shares_the_memory_of_its_bytes():
    data = saved(np.ones((256, 256), np.float32))

    decoded = decoded_within(data, OVERHEAD_BYTES)

    assert not decoded.flags.writeable
    assert decoded.sum() == 256 * 256


def test_a_header_may_name_its_entries_in_any_order_and_spacing():
    text = "{ 'shape':(2 , 1) ,'descr' : '<u2', 'fortran_order':True , }  \n"

    decoded = npy.decode(npy_file(text, b"\1\0\2\0"))

    assert same(decoded, np.array([[1], [2]], np.uint16))


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array(["left"]),
        np.array([b"left"]),
        np.zeros(1, np.complex64),
        np.zeros(1, "datetime64[s]"),
        np.zeros(1, [("x", "<f4")]),
        np.zeros(1, "V4"),
    ],
    ids=lambda array: array.dtype.kind,
)
def test_what_is_neither_number_nor_boolean_is_not_encoded(array):
    with pytest.raises(TypeError, match="does not travel"):
        npy.encode(array)


# --- what must never get in ------------------------------------------------------


@pytest.mark.parametrize("descr", ["|V0", "|S0", "<U0"])
def test_elements_of_no_size_cannot_make_a_huge_array(descr):
    data = npy_file(header(descr, f"({2**62},)").ljust(117) + "\n")
    assert len(data) == 128
    assert loaded(data).size == 2**62  # that is why numpy.load is not used

    assert_refused(data, because="dtype")


def test_a_claim_of_a_tebibyte_is_refused():
    assert_refused(npy_file(header("<f4", f"({2**38},)")), because="has 0 bytes")


def test_a_size_that_overflows_64_bits_is_refused():
    shape = f"({2**32}, {2**32})"  # 2^64 elements, which is 0 modulo 2^64

    assert_refused(npy_file(header("|u1", shape)), because="larger than any memory")


@pytest.mark.parametrize(
    "shape", [f"(0, {2**62}, {2**62})", f"(0, {2**63})", f"(0, {'9' * 400})"]
)
def test_an_array_without_elements_that_numpy_cannot_make_is_refused(shape):
    assert_refused(npy_file(header("<f4", shape)), because="larger than|natural")


@pytest.mark.parametrize("opening", ["(", "[", "{", "-", "not "])
@pytest.mark.parametrize("depth", [100, 20_000])
def test_deep_nesting_in_the_header_is_refused(opening, depth):
    data = npy_file(header(shape=opening * depth), version=2)

    assert_refused(data, because="header")


def test_booleans_as_dimensions_are_refused():
    assert_refused(npy_file(header("|u1", "(True, True)"), b"\0"), because="header")


def test_negative_dimensions_are_refused():
    assert_refused(npy_file(header("|u1", "(-1, -1)"), b"\0"), because="header")


@pytest.mark.parametrize(
    "shape",
    ["(1)", "1", "(,)", "(1,,1)", "(1 1,)", "(01,)", "(1.0,)", "(1L,)", "'1,'", "True"],
)
def test_a_shape_that_is_no_tuple_of_natural_numbers_is_refused(shape):
    assert_refused(npy_file(header("|u1", shape), b"\0"), because="shape")


def test_a_zip_archive_is_not_opened():
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("obs.npy", saved(np.zeros(4_000_000, np.uint8)))

    assert_refused(stream.getvalue(), because=r"not in NumPy's \.npy format")


@pytest.mark.parametrize("excess", [b"\0", b"\0" * 4, saved(np.zeros(1))])
def test_bytes_behind_the_array_are_refused(excess):
    assert_refused(saved(np.zeros(3, np.float32)) + excess, because="which says 12")


def test_every_file_that_is_cut_short_is_refused():
    data = saved(np.arange(4, dtype=np.float32))

    for length in range(len(data)):
        assert_refused(data[:length], because="format|ends within|has .* bytes behind")


def test_an_object_array_is_not_unpickled():
    stream = BytesIO()
    np.save(stream, np.array([{}, 1], object), allow_pickle=True)

    assert_refused(stream.getvalue(), because="dtype")


@pytest.mark.parametrize("descr", ["|O", "=f4", "f4", "<c8", "<M8[s]", "|f4", "<f16"])
def test_only_whitelisted_dtypes_get_in(descr):
    assert_refused(npy_file(header(descr), b"\0" * 8), because="dtype")


def test_a_structured_dtype_is_refused():
    data = saved(np.zeros(2, [("x", "<f4")]))

    assert_refused(data, because="header")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("length", [4096, 2**32 - 1])
def test_a_huge_header_length_is_refused(version, length):
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<I", length)

    assert_refused(head + b" " * 5000, because="header of more than 1024 bytes")


@pytest.mark.parametrize("version", [(0, 0), (1, 1), (4, 0), (255, 255)])
def test_an_unknown_version_is_refused(version):
    data = bytearray(saved(np.zeros(1)))
    data[6:8] = bytes(version)

    assert_refused(bytes(data), because="format")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "()",
        "None",
        "'descr'",
        "{}",
        "{'descr', 'fortran_order', 'shape'}",
        "__import__('sys').exit()",
        "\0" * 64,
        "\xff" * 64,
        header() + header(),
        header() + "#",
    ],
)
def test_a_header_that_is_no_dictionary_is_refused(text):
    assert_refused(npy_file(text, b"\0" * 8), because="header")


@pytest.mark.parametrize(
    "text",
    [
        header()[:-1] + ", 'more': True}",
        header()[:-1] + ", 'descr': '<f4'}",
        header().replace("descr", "Descr"),
        "{'descr': '<f4', 'shape': (2,)}",
        "{'descr': '<f4', 'descr': '<f4', 'shape': (2,)}",
    ],
)
def test_a_header_with_other_than_the_three_keys_is_refused(text):
    assert_refused(npy_file(text, b"\0" * 8), because="three entries")


@pytest.mark.parametrize("value", ["0", "None", "'False'", "()"])
def test_a_fortran_order_that_is_no_boolean_is_refused(value):
    data = npy_file(header(fortran_order=value), b"\0" * 8)

    assert_refused(data, because="header|fortran_order")


def test_nine_axes_are_refused():
    data = saved(np.zeros((1,) * 9, np.float32))

    assert_refused(data, because="9 axes: use at most 8")


def test_a_boolean_that_is_neither_0_nor_1_is_refused():
    data = npy_file(header("|b1"), b"\1\2")

    assert_refused(data, because="not 0 or 1")


def test_a_thousand_different_headers_are_not_kept_for_ever():
    for size in range(2 * npy.CACHED_HEADERS):
        npy.decode(saved(np.zeros(size, np.uint8)))
        npy.encode(np.zeros(size, np.uint8))

    assert npy._layout.cache_info().currsize == npy.CACHED_HEADERS
    assert npy._header.cache_info().currsize == npy.CACHED_HEADERS


@settings(deadline=None, max_examples=400)
@given(arrays, st.data())
def test_a_mutated_file_is_refused_or_is_what_numpy_makes_of_it(array, data):
    mutated = bytearray(saved(array))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        mutated[position] = data.draw(
            st.one_of(st.integers(0, 255), st.sampled_from(b"'(),0123456789<>|bifu"))
        )
    content = bytes(mutated)
    try:
        decoded = decoded_within(content, 2 * len(content) + OVERHEAD_BYTES)
    except Rejected:
        return

    reference = loaded(content)
    assert same(decoded, reference.astype(reference.dtype.newbyteorder("=")))


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(b"")
@example(b"\x93NUMPY\x01")
@example(b"\x93NUMPY\x02\x00\x00\x00")
def test_random_bytes_are_refused(data):
    assert_refused(data, because="format|header")


# --- base64 ----------------------------------------------------------------------

TEXT = npy.to_base64(np.zeros((1, 3), np.float32))  # 140 bytes: one "=" of padding
TWO = npy.to_base64(np.zeros((1, 2), np.float32))  # 136 bytes: two


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "====",
        TEXT.rstrip("="),
        TEXT + "=",
        TEXT + "====",
        TEXT + "\n",
        "\n" + TEXT,
        TEXT[:76] + "\n" + TEXT[76:],
        TEXT[:76] + "\r\n" + TEXT[76:],
        TEXT[:8] + " " + TEXT[8:],
        TEXT.replace("k", "-", 1),
        TEXT.replace("k", "_", 1),
        TEXT.replace("k", "é", 1),
        TEXT.replace("k", "\ud800", 1),
        TEXT.replace("k", "\0", 1),
        "data:," + TEXT,
        TEXT + TEXT,
        TWO.replace("==", "="),
    ],
)
def test_text_that_is_not_standard_base64_is_refused(text):
    with pytest.raises(Rejected, match=r"The info\.mask is not base64") as refusal:
        npy.from_base64(text, field="info.mask")

    assert refusal.value.field == "info.mask"


@pytest.mark.parametrize(("text", "padding"), [(TEXT, "="), (TWO, "==")])
def test_bits_that_are_lost_in_the_padding_are_refused(text, padding):
    spelled = text.removesuffix(padding)
    assert spelled[-1] == "A"
    other = spelled[:-1] + "B" + padding
    assert base64.b64decode(other) == base64.b64decode(text)

    with pytest.raises(Rejected, match="is not base64"):
        npy.from_base64(other, field="obs")


@settings(deadline=None, max_examples=300)
@given(arrays, st.data())
def test_no_two_texts_are_the_same_array_file(array, data):
    text = list(npy.to_base64(array))
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] = data.draw(st.sampled_from("ABQgw+/-_=\n \u00e9"))
    mutated = "".join(text)
    try:
        npy.from_base64(mutated, field="obs")
    except Rejected:
        return

    assert (
        base64.b64encode(base64.b64decode(mutated, validate=True)) == mutated.encode()
    )


def test_base64_of_something_else_is_refused_by_name():
    with pytest.raises(Rejected, match=r"The obs is not in NumPy's \.npy format"):
        npy.from_base64("aGVsbG8=", field="obs")


# --- several files, one behind the other -----------------------------------------


@settings(deadline=None)
@given(st.lists(arrays, min_size=1, max_size=4))
def test_files_one_behind_the_other_are_read_as_each_alone(several):
    files = [saved(array) for array in several]
    names = [f"array{place}" for place in range(len(files))]

    decoded = npy.decode_all(b"".join(files), names)

    for array, file in zip(decoded, files, strict=True):
        assert same(array, npy.decode(file))


@settings(deadline=None)
@given(st.lists(arrays, min_size=1, max_size=3), st.data())
def test_files_that_are_cut_or_followed_by_more_are_refused_by_name(several, data):
    files = [saved(array) for array in several]
    names = [f"array{place}" for place in range(len(files))]
    whole = b"".join(files)
    cut = data.draw(st.integers(0, len(whole) - 1))
    where, left = 0, cut
    while left >= len(files[where]):
        left -= len(files[where])
        where += 1
    with pytest.raises(Rejected) as refusal:
        npy.decode_all(whole[:cut], names)
    assert refusal.value.field == names[where]
    with pytest.raises(Rejected, match=f"The {names[-1]} has") as refusal:
        npy.decode_all(whole + b"\0", names)
    assert refusal.value.field == names[-1]


def test_what_the_header_of_an_array_before_the_last_claims_is_not_believed():
    tail = saved(np.zeros(1))
    for shape in ("(9223372036854775000,)", "(137,)"):
        with pytest.raises(Rejected, match="bytes behind its header") as refusal:
            npy.decode_all(npy_file(header("|u1", shape)) + tail, ["first", "second"])
        assert refusal.value.field == "first"
    with pytest.raises(Rejected, match="npy format") as refusal:
        npy.decode_all(b"no" + tail, ["first", "second"])
    assert refusal.value.field == "first"
    with pytest.raises(Rejected, match="dtype") as refusal:
        npy.decode_all(npy_file(header("|O")) + tail, ["first", "second"])
    assert refusal.value.field == "first"


# --- what a header says ----------------------------------------------------------


@settings(deadline=None)
@given(arrays, st.sampled_from([(1, 0), (2, 0), (3, 0)]))
def test_a_header_alone_says_how_its_array_lies(array, version):
    data = saved(array, version=version)
    layout = npy.peek(data[: len(data) - array.nbytes])

    assert (layout.dtype, layout.shape) == (array.dtype, array.shape)
    assert (layout.start + layout.size, layout.size) == (len(data), array.nbytes)


@pytest.mark.parametrize("by", [-100, -1, 1])
def test_what_is_more_or_less_than_a_header_says_nothing(by):
    data = saved(np.zeros(3)) + b" "
    end = data.index(b"\n") + 1
    assert npy.peek(data[:end]) is not None
    assert npy.peek(data[: end + by]) is None


@pytest.mark.parametrize("head", [b"", b"\x93NUMPY\x01\x00", npy_file(header("|O"))])
def test_what_is_no_header_says_nothing(head):
    assert npy.peek(head) is None


@pytest.mark.parametrize("text", ["", "=", "AAAA\n", "AB==", "A", "\u00e9"])
def test_what_is_not_base64_has_no_bytes(text):
    assert npy.bytes_of(text) == b""
    assert npy.bytes_of("AA==") == b"\0"
