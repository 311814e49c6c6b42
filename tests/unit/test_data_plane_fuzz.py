"""Whatever JSON a caller sends: an answer or a plain refusal, and no more memory."""

import json
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application import inference
from arena_core.application.hidden_states import MAKER
from arena_core.application.npy import to_base64
from arena_core.application.plain_rows import PlainRows
from arena_core.application.raw_arrays import names_of
from arena_core.domain.errors import ArenaError, Conflict, Rejected, Unavailable
from unit import recurrent_bundles
from unit.calls import encoded
from unit.models import load

import bundles
import shapes

WRITERS = {
    "dict": shapes.dict_policy,
    "tuple": shapes.tuple_policy,
    "image": shapes.image_policy,
    "multi_discrete": shapes.multi_discrete_policy,
    "multi_binary": shapes.multi_binary_policy,
    "scaled": shapes.scaled_policy,
    "recurrent": shapes.recurrent_policy,
    "several": shapes.multi_agent_policy,
    "team": recurrent_bundles.team_policy,
    "normalised": lambda folder: bundles.cartpole(folder, normalised=True),
    "latent": shapes.latent_policy,
    "regressor": bundles.regressor,
}
KEYS = ("obs", "action_mask", "hidden_state", "env_defined_actions", "batch_size")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        name: load(write(tmp_path_factory.mktemp(name)))
        for name, write in WRITERS.items()
    }


@pytest.fixture(scope="module")
def plain(models):
    """How plain requests to each model are read; None: it has none."""
    return {name: PlainRows.of(model) for name, model in models.items()}


def good(name: str, rows: int = 2) -> dict:
    """Return what a request that is answered says, as it travels."""
    vectors = shapes.vectors
    seen = {
        "dict": lambda: _tree(shapes.dict_observations(rows)),
        "tuple": lambda: list(shapes.tuple_observations(rows).values()),
        "image": lambda: shapes.images(rows),
        "several": lambda: shapes.meeting(rows),
        "team": lambda: recurrent_bundles.team_seen(rows, 0),
        "scaled": lambda: vectors(rows, 3),
        "recurrent": lambda: vectors(rows, 3),
        "regressor": lambda: vectors(rows, 3),
    }
    said = {"obs": seen.get(name, lambda: vectors(rows, 4))(), "batch_size": rows}
    state = {"h": np.zeros((rows, 1, 4), "f4"), MAKER: np.zeros((rows, 32), "u1")}
    said |= {
        "recurrent": {"hidden_state": state, "action_mask": np.ones((rows, 3))},
        "team": {"hidden_state": {"scout_0": state, "scout_1": None}},
        "several": {
            "action_mask": {"speaker_0": np.ones((rows, 3), bool)},
            "env_defined_actions": {
                "speaker_0": np.array([np.nan, 1.0] * rows)[:rows],
                "listener_0": np.zeros((rows, 2)),
            },
        },
        "dict": {"action_mask": np.ones((rows, 3))},
        "multi_discrete": {"action_mask": [np.ones((rows, 2)), np.ones((rows, 3))]},
        "multi_binary": {"action_mask": np.zeros((rows, 3))},
    }.get(name, {})
    if name in {"latent", "regressor"}:
        said = {"inputs": said["obs"]}
    return encoded(said)


def _tree(leaves):
    inner = [leaves.pop("inner/0"), leaves.pop("inner/1")]
    return leaves | {"inner": inner}


def call(models, name, body: bytes) -> bytes:
    answer = (
        inference.predict if name in {"latent", "regressor"} else inference.get_action
    )
    return answer(models[name], body)


def answered(models, name, body: bytes) -> bool:
    """Say whether there was an answer; whatever is no plain refusal is raised."""
    try:
        call(models, name, body)
    except (Rejected, Conflict, Unavailable) as error:
        sentence = str(error)
    else:
        return True
    assert not set("[]\n\x1b") & set(sentence), sentence
    assert len(sentence) < 600
    return False


@pytest.mark.parametrize("name", WRITERS)
def test_each_of_these_requests_is_answered_as_long_as_it_is_left_alone(models, name):
    assert answered(models, name, json.dumps(good(name)).encode())


# --- any JSON in any place -----------------------------------------------------------

dtypes = st.sampled_from(
    ["?", "i1", "i2", "i8", "u1", "u8", "f2", "f4", "f8", ">f4", ">i8"]
)
arrays = hnp.arrays(
    dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | arrays.map(lambda array: to_base64(array.astype(array.dtype.newbyteorder("="))))
    | st.binary(max_size=40).map(lambda junk: to_base64(np.frombuffer(junk, "u1")))
)
names = st.sampled_from(
    ["obs", "image", "inner", "level", "position", "h", MAKER, "speaker_0",
     "listener_0", "scout_0", "guard", "x", "\x1b[31m", "", "é"]
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
    ),
    max_leaves=12,
)


def places(tree, path=()):
    """Yield the path of every part of `tree`."""
    yield path
    parts = tree.items() if isinstance(tree, dict) else ()
    for key, part in enumerate(tree) if isinstance(tree, list) else parts:
        yield from places(part, (*path, key))


def with_at(tree, path, value):
    if not path:
        return value
    key, *rest = path
    copy = tree.copy()
    copy[key] = with_at(tree[key], rest, value)
    return copy


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
def test_any_json_in_any_place_is_answered_or_plainly_refused(models, name, data):
    said = good(name)
    place = data.draw(st.sampled_from(list(places(said))))
    answered(models, name, json.dumps(with_at(said, place, data.draw(trees))).encode())


@pytest.mark.parametrize("name", WRITERS)
@given(said=st.dictionaries(st.sampled_from([*KEYS, "inputs", "x"]), trees))
def test_any_object_is_answered_or_plainly_refused(models, name, said):
    answered(models, name, json.dumps(said).encode())


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
def test_any_numbers_in_the_right_shape_are_answered_or_plainly_refused(
    models, name, data
):
    said = good(name)
    leaves = [p for p in places(said) if isinstance(_at(said, p), str)]
    place = data.draw(st.sampled_from(leaves))
    shape = inference.npy.from_base64(_at(said, place), field="x").shape
    array = data.draw(hnp.arrays(dtypes.filter(lambda d: d[0] != ">"), shape))
    answered(models, name, json.dumps(with_at(said, place, to_base64(array))).encode())


def _at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


@pytest.mark.parametrize("name", WRITERS)
@given(data=st.data())
def test_damaged_bytes_are_answered_or_plainly_refused(models, name, data):
    body = bytearray(json.dumps(good(name)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    answered(models, name, bytes(body[: data.draw(st.integers(0, len(body)))]))


# --- the plain way, and raw arrays ---------------------------------------------------


def answered_plainly(plain, models, name, body: bytes) -> bool:
    """Say whether a body is plain; if so, it is answered as the general way does."""
    request = plain[name] and plain[name].read(body)
    if not request:
        return False
    (answer,) = plain[name].answer([request], inference.unwatched)
    if isinstance(answer, ArenaError):
        with pytest.raises(type(answer)) as refused:
            call(models, name, body)
        assert str(refused.value) == str(answer)
    else:
        assert answer == call(models, name, body)
    return True


PLAIN = ("image", "multi_binary", "scaled", "normalised")
"""Of those whose good requests are plain: one array, and no list of masks."""


@pytest.mark.parametrize("name", WRITERS)
def test_each_of_these_requests_is_plain_or_is_not(plain, models, name):
    body = json.dumps(good(name)).encode()
    assert answered_plainly(plain, models, name, body) == (name in PLAIN)


@pytest.mark.parametrize("name", PLAIN)
@given(data=st.data())
def test_any_json_that_is_plain_has_the_same_answer_in_the_general_way(
    plain, models, name, data
):
    said = good(name)
    place = data.draw(st.sampled_from(list(places(said))))
    body = json.dumps(with_at(said, place, data.draw(trees))).encode()
    answered_plainly(plain, models, name, body)


@pytest.mark.parametrize("name", PLAIN)
@given(data=st.data())
def test_damaged_bytes_that_are_plain_have_the_same_answer_in_the_general_way(
    plain, models, name, data
):
    body = bytearray(json.dumps(good(name)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    answered_plainly(plain, models, name, bytes(body))


@pytest.mark.parametrize("name", WRITERS)
@given(names=st.lists(st.text(max_size=12), max_size=3), junk=st.binary(max_size=200))
def test_any_bytes_as_raw_arrays_are_answered_or_plainly_refused(
    plain, models, name, names, junk
):
    verb, first = inference.GET_ACTION, "obs"
    if name in {"latent", "regressor"}:
        verb, first = inference.PREDICT, "inputs"
    for header in (", ".join(names), first):
        with pytest.raises(Rejected) as refused:
            verb.read(models[name], junk, inference.GREEDY, names_of(header))
        assert not set("[]\n\x1b") & set(str(refused.value))
    assert plain[name] is None or plain[name].read_raw(junk) is None


# --- memory --------------------------------------------------------------------------


def npy_claiming(shape: str, dtype: str = "|u1", data: bytes = b"") -> str:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    return inference.npy.pybase64.b64encode_as_string(magic + header.encode() + data)


CLAIMS = [
    npy_claiming("(4611686018427387904,)"),
    npy_claiming("(274877906944,)", "<f4"),
    npy_claiming("(4611686018427387904, 0)"),
    npy_claiming("(1099511627776, 0, 4)", "<f8"),
    npy_claiming("(9223372036854775807, 0)", "<f8"),
    npy_claiming("(4611686018427387904,)", "|V0"),
    npy_claiming("(65536, 0)"),
    npy_claiming("(0, 65536)"),
]


def peak_bytes(models, name, body: bytes) -> int:
    with suppress(Rejected, Conflict):
        call(models, name, json.dumps(good(name)).encode())  # caches are warm
    tracemalloc.start()
    try:
        with pytest.raises((Rejected, Conflict)):
            call(models, name, body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("name", WRITERS)
def test_what_a_header_claims_is_not_allocated(models, name, claim):
    said = good(name)
    for place in places(said):
        if isinstance(_at(said, place), str):
            body = json.dumps(with_at(said, place, claim)).encode()
            assert peak_bytes(models, name, body) < 20 * len(body) + 50_000


ROWS = 4096


@pytest.mark.parametrize(
    ("name", "place", "shape"),
    [
        ("several", ("env_defined_actions", "speaker_0"), (ROWS, 2)),
        ("several", ("env_defined_actions", "speaker_0"), (1, ROWS)),
        ("several", ("env_defined_actions", "speaker_0"), (ROWS, 1, 1)),
        ("several", ("env_defined_actions", "listener_0"), (ROWS, 1)),
        ("several", ("env_defined_actions", "listener_0"), (ROWS, 1, 1)),
        ("several", ("env_defined_actions", "listener_0"), (1, ROWS, 1)),
        ("several", ("action_mask", "speaker_0"), (ROWS, 1)),
        ("several", ("action_mask", "speaker_0"), (1, ROWS)),
        ("recurrent", ("hidden_state", "h"), (ROWS, 1)),
        ("recurrent", ("hidden_state", "h"), (1, 1, 4)),
        ("recurrent", ("hidden_state", MAKER), (ROWS, 1)),
        ("recurrent", ("hidden_state", MAKER), (1, 32)),
        ("recurrent", ("action_mask",), (1, 3)),
        ("multi_discrete", ("action_mask",), (ROWS, 1)),
        ("multi_discrete", ("action_mask", 0), (ROWS, 1)),
        ("multi_discrete", ("action_mask", 1), (1, ROWS)),
        ("multi_binary", ("action_mask",), (ROWS, 1)),
        ("dict", ("obs", "level"), (ROWS, 1)),
        ("dict", ("obs", "level"), (1,)),
        ("dict", ("obs", "inner", 1), (1, 2)),
    ],
)
def test_nothing_is_stretched_to_the_shape_of_something_else(
    models, name, place, shape
):
    said = with_at(good(name, ROWS), place, to_base64(np.ones(shape, np.uint8)))
    body = json.dumps(said).encode()
    assert peak_bytes(models, name, body) < 20 * len(body)


def test_a_list_of_many_masks_is_refused_at_once(models):
    said = good("multi_discrete") | {"action_mask": [to_base64(np.ones((2, 2)))] * 9999}
    body = json.dumps(said).encode()
    assert peak_bytes(models, "multi_discrete", body) < 3 * len(body)


def test_a_batch_has_a_limit_where_no_space_sets_one(models):
    rows = np.zeros((65_537, 3), bool)
    with pytest.raises(Rejected, match="send at most 65536"):
        call(models, "regressor", json.dumps({"inputs": to_base64(rows)}).encode())
