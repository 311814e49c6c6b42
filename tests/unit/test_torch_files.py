"""Files of torch are read without torch.

`checkpoints/torch_files/make.py` made those that are read here.
"""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.adapters import archives
from arena_core.adapters.archives import Archive, Limits
from arena_core.adapters.converters import torch_tensors
from arena_core.adapters.converters.torch_files import (
    Global,
    Stub,
    read_torch,
)
from arena_core.domain.errors import Rejected, TooLarge
from unit.canaries import Canary, Telltale
from unit.handmade_pickles import Call, Identity, Named, pickled, values

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
FILES = CHECKPOINTS / "torch_files"
NUMBERS = np.arange(24.0).reshape(2, 3, 4)


def content(name: str) -> bytes:
    return (FILES / name).read_bytes()


# --- what comes out --------------------------------------------------------------


@pytest.fixture(params=["tensors.pt", "dilled.pt"])
def saved(request):
    return read_torch(content(request.param))


@pytest.mark.parametrize(
    "dtype",
    [
        "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8",
        "uint16", "uint32", "uint64", "bool",
    ],
)  # fmt: skip
def test_tensors_come_out_as_arrays_of_their_dtype(saved, dtype):
    array = saved["dtypes"][dtype]
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array, NUMBERS.astype(dtype))
    assert not array.flags.writeable


def test_bfloat16_comes_out_as_float32(saved):
    array = saved["dtypes"]["bfloat16"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, NUMBERS)
    assert not array.flags.writeable


def test_views_and_parameters_come_out_as_what_they_show(saved):
    np.testing.assert_array_equal(saved["transposed"], NUMBERS.transpose(2, 1, 0))
    np.testing.assert_array_equal(saved["sliced"], NUMBERS[1:, ::2])
    np.testing.assert_array_equal(saved["expanded"], np.ones(5))
    np.testing.assert_array_equal(saved["parameter"], NUMBERS[0])
    assert saved["scalar"].shape == ()
    assert saved["scalar"] == 2.5
    assert saved["empty"].shape == (0, 3)


def test_what_is_beside_the_tensors_comes_out_too(saved):
    assert saved["numpy"]["scalar"] == 3.0
    np.testing.assert_array_equal(saved["numpy"]["array"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(saved["fortran"], np.arange(6.0).reshape(2, 3))
    assert saved["plain"] == [1, -5, 2**40, 1.5, None, True, "text", b"bytes", {1, 2}]
    assert saved["ordered"] == {"a": 1}
    assert saved["window"] == [1.0, 2.0]
    assert saved["size"] == (2, 3, 4)
    assert saved["dtype"] == Global("torch", "float32")
    assert (saved["device"].name, saved["device"].args) == ("device", ("cpu",))


def test_a_whole_module_is_a_stub_whose_weights_can_be_read():
    module = read_torch(content("module.pt"))
    assert (type(module), module.name) == (Stub, "Policy")
    layer = module.state["_modules"]["layer"]
    assert layer.name == "Linear"
    assert layer.state["_parameters"]["weight"].shape == (2, 3)


def test_tensors_of_unusual_kinds_stay_stubs():
    saved = read_torch(content("unusual.pt"))
    assert {type(value) for value in saved.values()} == {Stub}


@pytest.mark.parametrize(
    "path", sorted(CHECKPOINTS.glob("*/*.pt")), ids=lambda path: path.name
)
def test_checkpoints_that_others_have_trained_are_read(path):
    if path.parent.name == "agilerl":
        assert "agilerl_version" in read_torch(path.read_bytes())


@pytest.mark.parametrize(
    "path", sorted(CHECKPOINTS.glob("sb3/*.zip")), ids=lambda path: path.name
)
def test_the_weights_in_archives_of_stable_baselines_are_read(path):
    weights = read_torch(Archive(path.read_bytes()).read("policy.pth"))
    assert weights
    assert {type(array) for array in weights.values()} == {np.ndarray}


# --- what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("legacy.pt", "save it again with a newer torch"),
        ("script.pt", "export the model to ONNX and import that with the format onnx"),
        ("program.pt2", "the format torch"),
    ],
)
def test_other_formats_of_torch_are_refused_with_a_remedy(name, remedy):
    with pytest.raises(Rejected, match=remedy):
        read_torch(content(name))


@pytest.mark.parametrize("data", [b"", b"PK", pickle.dumps({}), b"x" * 1000])
def test_what_torch_has_not_written_is_refused(data):
    with pytest.raises(Rejected):
        read_torch(data)


@pytest.mark.parametrize("canary", Canary, ids=lambda canary: canary.name)
def test_nothing_in_a_file_of_torch_is_run(canary, tmp_path):
    with Telltale(tmp_path) as telltale:
        payload = telltale.pickled(canary, 2)
        assert type(read_torch(torch_file(payload))) is Stub
        assert not telltale.has_sung


def torch_file(pickled: bytes, *, members: dict[str, bytes] | None = None) -> bytes:
    """Return an archive as torch writes it, around a pickle."""
    members = {"byteorder": b"little", "data/0": bytes(24), **(members or {})}
    members["data.pkl"] = pickled
    return zipped({f"top/{name}": data for name, data in members.items()})


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def storage(kind="FloatStorage", numel=6, key="0") -> Identity:
    return Identity(("storage", Named("torch", kind), key, "cpu", numel))


def tensor(offset=0, size=(2, 3), strides=(3, 1), **named) -> Call:
    rebuild = Named("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, (storage(**named), offset, size, strides, False, {}))


def test_a_tensor_made_by_hand_is_read():
    raw = np.arange(6, dtype="<f4").tobytes()
    array = read_torch(torch_file(pickled(tensor()), members={"data/0": raw}))
    np.testing.assert_array_equal(array, np.arange(6).reshape(2, 3))


def test_numbers_of_the_other_byte_order_are_turned():
    raw = np.arange(6, dtype=">f4").tobytes()
    members = {"data/0": raw, "byteorder": b"big"}
    array = read_torch(torch_file(pickled(tensor()), members=members))
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    "hostile",
    [
        {"offset": 1},
        {"offset": -1},
        {"offset": 2**63},
        {"offset": True},
        {"size": (2, 4)},
        {"size": (2**62, 1)},
        {"size": (-2, 3)},
        {"size": (2, 3.0)},
        {"size": (0, 2**62)},
        {"size": (1,) * 65, "strides": (1,) * 65},
        {"strides": (3,)},
        {"strides": (4, 1)},
        {"strides": (-3, 1)},
        {"strides": (2**62, 1)},
        {"numel": 7},
        {"numel": 2**62},
        {"numel": -1},
        {"kind": "DoubleStorage"},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"key": 0},
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(hostile):
    with pytest.raises(Rejected):
        read_torch(torch_file(pickled(tensor(**hostile))))


def test_the_stride_of_a_single_element_may_be_anything():
    huge = tensor(size=(1, 3), strides=(2**62, 1))
    assert read_torch(torch_file(pickled(huge))).shape == (1, 3)


def test_tensors_that_are_huge_by_repetition_are_refused():
    one = tensor(size=(2**29, 2), strides=(0, 0))
    with pytest.raises(TooLarge):
        read_torch(torch_file(pickled(one)))
    many = tensor(size=(2**20, 2), strides=(0, 0))
    assert torch_tensors.MOST_TENSOR_BYTES < 300 * 2**23
    with pytest.raises(TooLarge):
        read_torch(torch_file(pickled([many] * 300)))


def test_booleans_that_are_neither_are_refused():
    odd = tensor(kind="BoolStorage")
    with pytest.raises(Rejected, match="neither 0 nor 1"):
        read_torch(torch_file(pickled(odd), members={"data/0": b"\2" * 24}))


@pytest.mark.parametrize("identity", ["storage", ("storage", 1), ("other",)])
def test_an_identity_that_is_no_storage_is_refused(identity):
    with pytest.raises(Rejected, match="storage"):
        read_torch(torch_file(pickled([Identity(identity)])))


@pytest.mark.parametrize(
    "members",
    [
        {"other/data.pkl": b"N."},
        {"data.pkl": b"N."},
        {"top/data.pkl": b"N.", "elsewhere/x": b""},
        {"top/version": b"3"},
        {"top/data.pkl": b"N.", "top/byteorder": b"middle"},
    ],
)
def test_an_archive_of_another_form_is_refused(members):
    if "other/data.pkl" in members:
        assert read_torch(zipped(members)) is None  # the folder may have any name
    else:
        with pytest.raises(Rejected):
            read_torch(zipped(members))


# --- archives --------------------------------------------------------------------


def test_an_archive_gives_what_is_in_it():
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = Archive(zipped({"a": b"1", "folder/b": b"2" * 5000}, compression))
        assert archive.names == ("a", "folder/b")
        assert archive.read("folder/b") == b"2" * 5000


def test_a_member_that_is_not_there_is_refused():
    with pytest.raises(Rejected):
        Archive(zipped({"a": b""})).read("b")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    with pytest.raises(Rejected, match="twice"):
        Archive(stream.getvalue())


def test_two_members_whose_names_differ_in_case_alone_are_refused():
    with pytest.raises(Rejected, match="twice"):
        Archive(zipped({"a": b"1", "A": b"2"}))


@pytest.mark.parametrize(
    "name", ["../a", "/a", "a/../b", "a//b", "./a", "a\\b", "a\nb", "a/..", "a\x01"]
)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(Rejected, match="no name"):
        Archive(zipped({name: b""}))


def test_a_name_with_something_behind_its_end_is_refused():
    data = zipped({"axb": b""}).replace(b"axb", b"a\0b")
    with pytest.raises(Rejected, match="no name"):
        Archive(data)


def test_an_encrypted_archive_is_refused():
    data = bytearray(zipped({"a": b"1"}))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(Rejected, match="password"):
        Archive(bytes(data))


def test_unusual_compression_is_refused():
    with pytest.raises(Rejected, match="unusual"):
        Archive(zipped({"a": b"1" * 1000}, zipfile.ZIP_LZMA))


def test_a_changed_byte_is_noticed():
    data = zipped({"a": b"content"}).replace(b"content", b"kontent")
    with pytest.raises(Rejected, match="damaged"):
        Archive(data).read("a")


def test_a_bomb_is_not_inflated():
    bomb = zipped({"a": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(TooLarge):
        Archive(bomb).read("a")


def test_all_that_is_read_counts():
    archive = Archive(
        zipped({"a": bytes(600), "b": bytes(600)}), Limits(total_bytes=1000)
    )
    archive.read("a")
    with pytest.raises(TooLarge):
        archive.read("b")


def test_too_many_members_are_refused():
    data = zipped({str(n): b"" for n in range(11)})
    assert len(Archive(data, Limits(members=11)).names) == 11
    with pytest.raises(TooLarge):
        Archive(data, Limits(members=10))


def test_a_directory_that_claims_to_be_huge_is_refused_before_it_is_read():
    data = bytearray(zipped({"a": b""}))
    struct.pack_into("<I", data, len(data) - 22 + 12, 10_000 * 512 + 1)
    with pytest.raises(TooLarge):
        Archive(bytes(data))
    data = bytearray(content("tensors.pt"))
    at = len(data) - 22 - 20 - 56
    assert data[at : at + 4] == b"PK\6\6"
    struct.pack_into("<Q", data, at + 40, 10_000 * 512 + 1)
    with pytest.raises(TooLarge):
        Archive(bytes(data))


def test_64_bit_records_must_lie_where_every_reader_looks_for_them():
    data = bytearray(content("tensors.pt"))
    struct.pack_into("<Q", data, len(data) - 22 - 20 + 8, 0)
    with pytest.raises(Rejected, match="damaged"):
        Archive(bytes(data))


def test_a_comment_or_anything_else_behind_the_end_is_refused():
    with pytest.raises(Rejected):
        Archive(zipped({"a": b""}) + b"more")


# --- any bytes -------------------------------------------------------------------

REAL = [content("tensors.pt"), content("module.pt"), zipped({"data.pkl": b"N."})]


@given(st.data())
def test_any_damage_to_a_file_is_read_or_refused(data):
    damaged = bytearray(data.draw(st.sampled_from(REAL)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=4)
        )
    _read_or_refuse(bytes(damaged))


@given(st.data())
def test_any_damage_to_the_pickle_in_a_file_is_read_or_refused(data):
    archive = Archive(content("tensors.pt"))
    members = {name: archive.read(name) for name in archive.names}
    (name,) = (name for name in members if name.endswith("/data.pkl"))
    damaged = bytearray(members[name])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    _read_or_refuse(zipped({**members, name: bytes(damaged)}))


NAMES = [
    ("torch", "Size"), ("torch", "float32"), ("torch", "Tensor"),
    ("torch", "FloatStorage"), ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor_v3"),
    ("collections", "OrderedDict"),
]  # fmt: skip
sizes = st.lists(st.integers(-1, 7) | st.just(2**62), max_size=3).map(tuple)
numbers = st.integers(-1, 24) | sizes | st.none()
storages = st.builds(
    storage,
    st.sampled_from(["FloatStorage", "BFloat16Storage", "UntypedStorage", "Other"]),
    st.integers(-1, 25),
)


@given(values(NAMES, numbers | storages))
def test_any_calls_in_a_file_are_read_or_refused(value):
    _read_or_refuse(torch_file(pickled(value)))


@given(storages, numbers, sizes, sizes, st.sampled_from(NAMES))
def test_any_tensor_shows_its_storage_or_is_refused(
    stored, offset, size, strides, last
):
    for version, rest in ((2, ({},)), (3, ({}, Named(*last), None))):
        rebuild = Named("torch._utils", f"_rebuild_tensor_v{version}")
        arguments = (stored, offset, size, strides, False, *rest)
        made = _read_or_refuse(torch_file(pickled(Call(rebuild, arguments))))
        if isinstance(made, np.ndarray):
            assert made.shape == size
            assert not made.any()  # for the storage holds nothing but zeros


def test_a_tensor_of_a_type_of_its_own_is_read_as_one_of_torch():
    raw = np.arange(6, dtype="<f4").tobytes()
    rebuild = Named("torch._tensor", "_rebuild_from_type_v2")
    for kind, made in (("Tensor", np.ndarray), ("Distributed", Stub)):
        inner = tensor()
        typed = (inner.function, Named("torch", kind), inner.arguments, {"a": 1})
        data = pickled(Call(rebuild, typed))
        assert type(read_torch(torch_file(data, members={"data/0": raw}))) is made


def test_types_in_types_without_end_are_no_tensor():
    rebuild = b"ctorch._tensor\n_rebuild_from_type_v2\n"
    opened, depth = b"(" + rebuild + b"ctorch\nTensor\n", 5_000
    data = rebuild + opened * depth + b")" + b"}t" * depth + b"R."
    assert type(read_torch(torch_file(data))) is Stub


def _read_or_refuse(data: bytes) -> object:
    try:
        return read_torch(data)
    except Rejected as refusal:
        text = str(refusal)
        assert text.endswith(".")
        assert not set(text) & set("[]\n")


def test_the_limits_are_those_of_what_is_read():
    assert Limits() == archives.LIMITS
