"""Pickles are read as data: their content comes out, what they would do is not done."""

import ast
import codecs
import collections
import copyreg
import enum
import pickle
import pickletools
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import arena_core
from arena_core.adapters.converters.pickle_machine import MOST_OPCODES
from arena_core.adapters.converters.pickled_data import CALLS, STATES, read_pickle
from arena_core.adapters.converters.pickles import Global, Stub
from arena_core.domain.errors import Rejected
from unit.canaries import Canary, Telltale
from unit.handmade_pickles import Call, Named, pickled, values

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
SAVED = sorted((Path(__file__).parents[1] / "checkpoints" / "sb3").glob("*.pkl"))

keys = st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.text()
plain = st.recursive(
    keys | st.floats(allow_nan=False) | st.binary() | st.builds(bytearray),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(keys, inner)
        | st.tuples(inner, inner)
        | st.sets(keys)
        | st.frozensets(keys)
    ),
    max_leaves=20,
)
DTYPES = (
    arrays.boolean_dtypes()
    | arrays.integer_dtypes()
    | arrays.unsigned_integer_dtypes()
    | arrays.floating_dtypes(sizes=(16, 32, 64))
)


class Opaque:
    def __init__(self, what):
        self.what = what


class Pair(NamedTuple):
    first: int
    second: int


class Colour(enum.Enum):
    RED = "red"


class _Reduced:
    def __init__(self, reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


class Appended(list):
    pass


class Keyed(dict):
    pass


# --- what comes out --------------------------------------------------------------


@given(plain, st.sampled_from(PROTOCOLS))
def test_plain_data_comes_out_as_it_went_in(value, protocol):
    assert read_pickle(pickle.dumps(value, protocol)) == value


@given(
    arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, min_side=0)),
    st.sampled_from(PROTOCOLS),
    st.booleans(),
)
def test_arrays_come_out_as_they_went_in(array, protocol, turned):
    array = array.T if turned else array
    read = read_pickle(pickle.dumps(array, protocol))
    assert isinstance(read, np.ndarray)
    assert (read.dtype, read.shape) == (array.dtype.newbyteorder("="), array.shape)
    np.testing.assert_array_equal(read, array)
    assert not read.flags.writeable


@given(arrays.arrays(DTYPES, ()), st.sampled_from(PROTOCOLS))
def test_numbers_of_numpy_come_out_as_they_went_in(array, protocol):
    read = read_pickle(pickle.dumps(array[()], protocol))
    assert isinstance(read, np.generic)
    np.testing.assert_array_equal(read, array[()])


@pytest.mark.parametrize("module", ["multiarray", "numeric"])
def test_arrays_of_releases_of_numpy_before_2_are_read(module):
    array = np.arange(6.0).reshape(2, 3)
    from_buffer = array.__reduce_ex__(5)[0]
    written = {
        "multiarray": array,
        "numeric": _Reduced((from_buffer, (bytes(array), array.dtype, (2, 3), "C"))),
    }[module]
    new, old = f"numpy._core.{module}".encode(), f"numpy.core.{module}".encode()
    data = pickle.dumps(written, 2)
    assert new in data
    np.testing.assert_array_equal(read_pickle(data.replace(new, old)), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_of_other_kinds_become_lists_and_dicts(protocol):
    value = {
        "window": collections.deque([1, 2], maxlen=3),
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "defaults": collections.defaultdict(list, {"a": [1]}),
        "complex": 1 + 2j,
    }
    read = read_pickle(pickle.dumps(value, protocol))
    assert read == {
        "window": [1, 2],
        "ordered": {"b": 1, "a": 2},
        "defaults": {"a": [1]},
        "complex": 1 + 2j,
    }
    assert list(read["ordered"]) == ["b", "a"]
    assert all(type(read[name]) is dict for name in ("ordered", "defaults"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_becomes_a_stub_that_keeps_its_attributes(protocol):
    read = read_pickle(pickle.dumps(Opaque([1, Opaque("inner")]), protocol))
    assert type(read) is Stub
    assert (read.module, read.name) == (__name__, "Opaque")
    assert read.state["what"][0] == 1
    assert read.state["what"][1].state == {"what": "inner"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stub_keeps_what_was_put_into_its_object(protocol):
    listed, keyed = Appended([1, 2]), Keyed(a=1)
    read = read_pickle(pickle.dumps([listed, keyed], protocol))
    assert read[0].items == [1, 2] or read[0].args[-1] == [1, 2]
    assert read[1].entries == [("a", 1)] or read[1].args[-1] == {"a": 1}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_stub_keeps_the_arguments_of_its_object(protocol):
    named, colour = read_pickle(pickle.dumps([Pair(1, 2), Colour.RED], protocol))
    assert (named.name, named.args) == ("Pair", (1, 2))
    assert (colour.name, colour.args) == ("Colour", ("red",))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_only_named_becomes_two_words(protocol):
    read = read_pickle(pickle.dumps([Opaque, len, codecs.encode], protocol))
    assert read[0] == Global(__name__, "Opaque")
    assert read[1] == Global("builtins", "len")
    assert read[2] == Global("_codecs", "encode")


def test_one_object_stays_one_object_and_a_list_may_hold_itself():
    shared = [1]
    first, second, array, again = read_pickle(
        pickle.dumps([shared, shared, *([np.arange(3)] * 2)])
    )
    assert first is second
    assert array is again
    looped: list[object] = []
    looped.append(looped)
    read = read_pickle(pickle.dumps(looped))
    assert read[0] is read


def test_arrays_of_objects_text_and_records_stay_stubs():
    for array in (
        np.array([None, {}], dtype=object),
        np.array(["a"]),
        np.zeros(1, dtype=[("a", "f4")]),
        np.zeros(1, dtype="c8"),
    ):
        assert type(read_pickle(pickle.dumps(array))) is Stub


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.name)
def test_statistics_that_stable_baselines_has_saved_are_read(path):
    read = read_pickle(path.read_bytes())
    assert (read.name, read.state["norm_obs"]) == ("VecNormalize", True)


# --- what is not done ------------------------------------------------------------


@pytest.mark.parametrize("canary", Canary, ids=lambda canary: canary.name)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_that_a_pickle_would_run_is_run(canary, protocol, tmp_path):
    with Telltale(tmp_path) as telltale:
        read = read_pickle(telltale.pickled(canary, protocol))
        assert type(read) is Stub
        assert not telltale.has_sung


@pytest.mark.parametrize("canary", Canary, ids=lambda canary: canary.name)
def test_the_same_pickle_runs_where_pickle_reads_it(canary, tmp_path):
    with Telltale(tmp_path) as telltale:
        pickle.loads(telltale.pickled(canary, 4))  # noqa: S301 -- it is our own
        assert telltale.has_sung


def test_no_module_is_imported_for_a_name(tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(str(tmp_path))
    read = read_pickle(b"cnever_imported\nthing\n.")
    assert read == Global("never_imported", "thing")
    assert "never_imported" not in sys.modules


def test_registered_extensions_are_refused():
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(Rejected, match="EXT1"):
            read_pickle(b"\x80\x02\x82\xf0.")
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "damaged"),
        (b"no pickle", "damaged"),
        (b"N", "damaged"),
        (b".", "more from its stack"),
        (b"NN.", "something over"),
        (b"(N.", "something over"),
        (b"N.N", "behind its end"),
        (b"t.", "no mark"),
        (b"h\x00.", "not there"),
        (b"NNR.", "without a tuple"),
        (b"N)R.", "no function"),
        (b"K\x01Nb.", "what has none"),
        (b"K\x01K\x02a.", "no list"),
        (b"K\x01K\x02K\x03s.", "no dict"),
        (b"}]K\x03s.", "cannot be one"),
        (b"(K\x01d.", "without a value"),
        (b"P1\n.", "PERSID"),
        (b"NQ.", "BINPERSID"),
        (b"K\x01K\x02\x93.", "no text"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"o.", "no mark"),
        (b"(o.", "no function"),
    ],
)
def test_what_makes_no_sense_is_refused(data, problem):
    with pytest.raises(Rejected, match=problem):
        read_pickle(data)


def _array_state(shape, raw):
    """Return a pickle of an array of 8-byte integers that claims `shape`."""
    parts = np.arange(3).__reduce__()
    state = (1, shape, np.dtype("i8"), False, raw)
    return pickle.dumps(_Reduced((parts[0], parts[1], state)), 4)


@pytest.mark.parametrize(
    ("shape", "raw"),
    [
        ((2**62,), b""),
        ((2**40,), bytes(8)),
        ((0, 2**62), b""),
        ((-1,), b""),
        ((2,), bytes(24)),
        ((True,), bytes(8)),
        ((1.0,), bytes(8)),
        ((1,) * 33, bytes(8)),
    ],
)
def test_an_array_that_claims_more_than_is_there_is_refused(shape, raw):
    with pytest.raises(Rejected):
        read_pickle(_array_state(shape, raw))


def test_claims_of_size_take_no_memory():
    for claim in (
        b"\x8e" + (2**40).to_bytes(8, "little") + b".",  # BINBYTES8
        b"\x96" + (2**40).to_bytes(8, "little") + b".",  # BYTEARRAY8
        b"\x8d" + (2**40).to_bytes(8, "little") + b".",  # BINUNICODE8
        b"\x95" + (2**62).to_bytes(8, "little"),  # FRAME
        b"N" + b"r" + (2**32 - 1).to_bytes(4, "little") + b"t",  # LONG_BINPUT
        b"\x8b" + (2**31 - 1).to_bytes(4, "little") + b".",  # LONG4
        b"I" + b"9" * 10_000 + b"\n.",
    ):
        with pytest.raises(Rejected):
            read_pickle(claim)


def test_too_many_instructions_are_refused():
    with pytest.raises(Rejected, match="instructions"):
        read_pickle(b"N0" * (MOST_OPCODES // 2 + 1) + b"N.")


def test_an_integer_of_too_many_digits_is_refused():
    with pytest.raises(Rejected, match="1024 bits"):
        read_pickle(pickle.dumps(1 << 1024))


def test_what_is_nested_too_deep_to_be_hashed_is_refused():
    with pytest.raises(Rejected, match="parts"):
        read_pickle(b"}N" + b"\x85" * 100_000 + b"Ns.")


def test_deep_lists_are_read_and_let_go():
    read = read_pickle(b"]" * 100_000 + b"a" * 99_999 + b".")
    assert len(read) == 1


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    _read_or_refuse(data)


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


@given(st.lists(st.sampled_from(OPCODES) | st.binary(max_size=3), max_size=60))
def test_any_opcodes_are_read_or_refused(parts):
    _read_or_refuse(b"\x80\x04" + b"".join(parts) + b".")


KNOWN = [*CALLS, *STATES, ("numpy", "ndarray"), ("os", "system"), ("copyreg", "other")]
KNOWN += [
    ("copyreg", name) for name in ("_reconstructor", "__newobj__", "__newobj_ex__")
]
dtypes = st.builds(
    Call,
    st.just(Named("numpy", "dtype")),
    st.tuples(st.sampled_from(["f4", "i8", "b1", "O8", "U1"]), st.just(False)),
    st.tuples(
        st.just(3), st.sampled_from("<>|x"), *[st.none()] * 3, *[st.just(-1)] * 2
    ),
)


@given(values(KNOWN, plain | dtypes | st.just(bytes(8)) | st.just((2,))))
def test_any_calls_are_read_or_refused(value):
    _read_or_refuse(pickled(value))


def test_makers_that_make_makers_do_not_go_on():
    data = b"ccopyreg\n__newobj__\n(" + b"ccopyreg\n__newobj__\n" * 5_000 + b"tR."
    assert type(read_pickle(data)) is Stub


def test_a_small_pickle_cannot_say_a_large_thing_again_and_again():
    large = pickle.dumps(bytes(1 << 20), 4).removesuffix(b".")
    again = b"cbuiltins\nbytearray\nh\0\x85R"
    assert read_pickle(large + again * 2 + b"00.") == bytes(1 << 20)
    with pytest.raises(Rejected, match="too often"):
        read_pickle(large + again * 300 + b"0" * 300 + b".")


@given(st.data())
def test_any_damage_is_read_or_refused(data):
    sample = data.draw(st.sampled_from(SAMPLES))
    damaged = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from(OPCODES)
        )
    _read_or_refuse(bytes(damaged))


SAMPLES = [
    pickle.dumps(value, protocol)
    for value in (
        np.arange(6.0).reshape(2, 3), np.float32(1), [Opaque({1: (2,)})], Pair(1, 2),
        collections.OrderedDict(a=collections.deque([1])), {1, 2}, Appended([1]),
    )
    for protocol in PROTOCOLS
]  # fmt: skip


def _read_or_refuse(data: bytes) -> None:
    try:
        read_pickle(data)
    except Rejected as refusal:
        text = str(refusal)
        assert text.endswith(".")
        assert not set(text) & set("[]\n")


# --- what the code never does ----------------------------------------------------

RUNS_PICKLES = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal",
    "shelve",
}  # fmt: skip


def test_no_module_of_ours_can_unpickle_evaluate_or_load_with_trust():
    found = []
    for path in Path(arena_core.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found += [f"{path.name}: {what}" for what in _trusting(node)]
    assert sorted(found) == READ_IN_TRAININGS


READ_IN_TRAININGS = ["dataset_arrays.py: np.load", "sb3_replay.py: np.load"]
"""The operator's own files, and what a training has kept for itself: without pickles,
and never in the server's process.
"""


def _trusting(node: ast.AST):
    match node:
        case ast.Import(names=names):
            yield from {it.name.partition(".")[0] for it in names} & RUNS_PICKLES
        case ast.ImportFrom(module=str(module)):
            yield from {module.partition(".")[0]} & RUNS_PICKLES
        case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
            yield name
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np"), attr="load")):
            yield "np.load"
        case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
            yield "allow_pickle"
        case ast.keyword(arg="weights_only", value=value):
            if not (isinstance(value, ast.Constant) and value.value is True):
                yield "weights_only"
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id="torch"), attr="load"), keywords=given
        ) if "weights_only" not in {it.arg for it in given}:
            yield "torch.load"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from dill import load", "import joblib.numpy_pickle",
        "eval(x)", "np.load(f)", "f(allow_pickle=True)", "torch.load(f)",
        "torch.load(f, weights_only=False)", "g(weights_only=trusted)",
    ],
)  # fmt: skip
def test_the_check_for_that_finds_each(code):
    assert any(list(_trusting(node)) for node in ast.walk(ast.parse(code)))
