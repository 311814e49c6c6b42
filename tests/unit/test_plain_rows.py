"""Plain requests are answered as the general way does; others are left to it."""

import json
from functools import cache

import numpy as np
import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arena_core.application import npy, observations, plain_rows
from arena_core.application.inference import GET_ACTION, GREEDY, unwatched
from arena_core.application.models import SINGLE
from arena_core.application.plain_rows import PlainCall, PlainRows
from arena_core.application.policies import MOST_ANSWER_BYTES
from arena_core.application.raw_arrays import RawAnswer
from arena_core.domain.checkpoint import DTYPES, Box, Discrete, Normaliser
from arena_core.domain.errors import ArenaError, NotFinite, Rejected, Unavailable
from unit.calls import encoded
from unit.exact_models import ACTIONS, SCORES, exact, policy
from unit.models import described, load

import bundles
import shapes
from every_shape import EVERY_SHAPE

NUMBERS = tuple(dtype for dtype in DTYPES if dtype != "bool")
SHAPES = ((), (4,), (2, 3))


def body(**said) -> bytes:
    return json.dumps(encoded(said)).encode()


@cache
def plain_of(action="discrete", shape=(4,), dtype="float32") -> PlainRows:
    plain = PlainRows.of(exact(action, shape, dtype))
    assert plain is not None
    return plain


def told(answer):
    """Return an answer so that two can be compared, refusals too."""
    if isinstance(answer, ArenaError):
        return type(answer), str(answer), getattr(answer, "field", None)
    return answer


def generally(model, request, names=None):
    """Return what the general way answers."""
    try:
        call = GET_ACTION.read(model, request, GREEDY, names)
    except ArenaError as error:
        return told(error)
    return told(GET_ACTION.answer(model, [call], unwatched)[0])


def plainly(plain, request, names=None):
    """Return what the plain way answers; None: it is not plain."""
    call = plain.read(request) if names is None else plain.read_raw(request)
    return None if call is None else told(plain.answer([call], unwatched)[0])


def few(shape, dtype, *, most_rows=5):
    """Return observations of which the weights make exact numbers."""
    low = 0 if dtype.startswith("u") else -8
    whole = st.integers(low, 8)
    rows = st.integers(1, most_rows)
    return rows.flatmap(
        lambda n: hnp.arrays("i8", (n, *shape), elements=whole).map(
            lambda array: array.astype(dtype)
        )
    )


def masks(action, rows):
    """Return masks that leave a choice."""
    legal = hnp.arrays(bool, (rows, *SCORES[action]))
    if action == "parts":
        return legal.filter(
            lambda mask: (mask[:, :2].any(1) & mask[:, 2:].any(1)).all()
        )
    return legal.filter(lambda mask: action == "bits" or mask.any(axis=1).all())


# --- which models have plain requests ------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_plain_are_those_to_one_agent_that_sees_one_box_and_forgets(tmp_path, name):
    model = load(EVERY_SHAPE[name].write(tmp_path))
    plain = PlainRows.of(model)
    seen = {"image", "multi discrete", "multi binary", "box"}
    assert (plain is not None) == (name in seen)


def test_an_observation_of_no_number_is_never_plain():
    nothing = Box((2, 0), "float32", (), ())
    model = described(exact("discrete"), observation_space=nothing)
    assert PlainRows.of(model) is None


def test_booleans_are_never_plain_for_not_every_byte_is_one():
    model = exact("discrete", (4,), "bool")
    assert PlainRows.of(model) is None
    file = bytearray(npy.encode(np.ones((1, 4), bool)))
    file[-1] = 7
    assert generally(model, bytes(file), ("obs",))[0] is Rejected


def test_an_observation_of_another_space_than_a_box_is_never_plain():
    assert PlainRows.of(policy("discrete", Discrete(3), ())) is None


# --- one request ---------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
def test_a_plain_request_is_answered_to_the_last_bit_as_the_general_way_does(
    action, shape, data
):
    dtype = data.draw(st.sampled_from(NUMBERS))
    obs = data.draw(few(shape, dtype))
    plain = plain_of(action, shape, dtype)
    said = {"obs": obs}
    if data.draw(st.booleans()):
        said["batch_size"] = len(obs)
    if action in SCORES and data.draw(st.booleans()):
        said["action_mask"] = data.draw(masks(action, len(obs)))
    answer = plainly(plain, body(**said))
    assert isinstance(answer, bytes)
    assert answer == generally(plain.model, body(**said))


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@given(data=st.data())
def test_a_raw_array_is_answered_to_the_last_bit_as_the_general_way_does(
    action, shape, data
):
    dtype = data.draw(st.sampled_from(NUMBERS))
    file = npy.encode(data.draw(few(shape, dtype)))
    plain = plain_of(action, shape, dtype)
    answer = plainly(plain, file, ("obs",))
    assert isinstance(answer, RawAnswer)
    assert answer == generally(plain.model, file, ("obs",))


@pytest.mark.parametrize("dtype", NUMBERS)
@given(data=st.data())
def test_any_numbers_of_the_right_dtype_are_answered_or_refused_as_generally(
    dtype, data
):
    # Any bits are a number; Hypothesis discards most of those it draws for float16.
    bits = hnp.arrays(f"u{np.dtype(dtype).itemsize}", (data.draw(st.integers(1, 3)), 4))
    obs = data.draw(bits).view(dtype)
    plain = plain_of("discrete", (4,), dtype)
    for request, names in ((body(obs=obs), None), (npy.encode(obs), ("obs",))):
        answer = plainly(plain, request, names)
        assert answer is not None
        assert answer == generally(plain.model, request, names)


arrays = hnp.arrays(
    st.sampled_from([*DTYPES, ">f4", ">i8"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)
anything = (
    st.none()
    | st.integers(-2, 6)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.lists(arrays, max_size=2)
    | arrays
    | arrays.map(lambda array: np.asfortranarray(array[..., None, None]))
    | few((4,), "float32")
    | st.dictionaries(st.sampled_from(["obs", ""]), arrays, max_size=2)
)
keys = st.sampled_from(
    ["obs", "batch_size", "action_mask", "hidden_state", "env_defined_actions", "x"]
)


@pytest.mark.parametrize("action", ["discrete", "plane"])
@given(st.dictionaries(keys, anything))
def test_whatever_is_asked_has_one_answer_at_most(action, said):
    plain = plain_of(action)
    request = body(**said)
    answer = plainly(plain, request)
    assert answer in (None, generally(plain.model, request))


@given(data=st.data())
def test_damaged_bytes_have_one_answer_at_most(data):
    plain = plain_of()
    obs, mask = np.ones((2, 4), "f4"), np.ones((2, 3))
    whole, names = body(obs=obs, batch_size=2, action_mask=mask), None
    if data.draw(st.booleans()):
        whole, names = npy.encode(obs), ("obs",)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(
            st.integers(0, 255) | st.sampled_from(b"'(),0123456789<>|f=\"")
        )
    request = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    answer = plainly(plain, request, names)
    assert answer in (None, generally(plain.model, request, names))


OBS = np.arange(8, dtype="f4").reshape(2, 4)


@pytest.mark.parametrize(
    "said",
    [
        {"obs": OBS.astype("f8")},
        {"obs": OBS.astype("i4")},
        {"obs": OBS[:, :3]},
        {"obs": OBS[0]},
        {"obs": OBS[:0]},
        {"obs": np.ones((), "f4")},
        {"obs": OBS[:, None]},
        {"obs": "AAAA"},
        {"obs": ""},
        {"obs": None},
        {},
        {"obs": OBS, "batch_size": 3},
        {"obs": OBS, "batch_size": "2"},
        {"obs": OBS, "action_mask": "AAAA"},
        {"obs": OBS, "action_mask": np.ones((1, 3))},
        {"obs": OBS, "action_mask": np.ones((2, 4))},
        {"obs": OBS, "action_mask": np.zeros((2, 3))},
        {"obs": OBS, "action_mask": [np.ones((2, 3))]},
        {"obs": OBS, "hidden_state": {}},
        {"obs": OBS, "env_defined_actions": {}},
        {"obs": OBS, "other": [[[]]]},
    ],
)
def test_what_is_not_plain_is_left_to_the_general_way(said):
    assert plain_of().read(body(**said)) is None


def test_neither_another_order_nor_another_version_of_a_header_is_plain():
    for file in (
        npy.encode(OBS).replace(b"<f4", b">f4"),
        npy.encode(OBS).replace(b"False", b"True "),
        b"\x93NUMPY\x02\x00" + (118).to_bytes(4, "little") + npy.encode(OBS)[10:],
        b"\x93NUMPY\x01\x00" + (2000).to_bytes(2, "little") + b" " * 3000,
    ):
        assert plain_of().read_raw(file) is None


@pytest.mark.parametrize("by", [-1, 1, -4, 16])
def test_a_header_that_was_plain_once_does_not_vouch_for_other_bytes(by):
    file = npy.encode(OBS)
    assert plain_of().read_raw(file) is not None
    longer = file + bytes(16)
    assert plain_of().read_raw(longer[: len(file) + by]) is None


def test_keys_that_are_null_and_the_right_number_of_rows_are_plain():
    nulls = dict.fromkeys(["action_mask", "hidden_state", "env_defined_actions"])
    call = plain_of().read(body(obs=OBS, batch_size=2, **nulls))
    assert call == PlainCall(2, OBS.tobytes(), None, is_raw=False)


def test_a_mask_is_read_as_what_it_allows():
    mask = np.array([[0, 1, 2], [1, 0, 0]], "f8")
    call = plain_of().read(body(obs=OBS, action_mask=mask))
    assert call.mask.tolist() == (mask != 0).tolist()


def test_as_many_rows_are_plain_as_a_request_may_have(monkeypatch):
    monkeypatch.setattr(observations, "MAX_ROWS", 3)
    for rows, is_plain in ((3, True), (4, False)):
        plain = PlainRows.of(exact("discrete"))
        file = npy.encode(np.ones((rows, 4), "f4"))
        assert (plain.read_raw(file) is not None) == is_plain
        assert isinstance(generally(plain.model, file, ("obs",)), RawAnswer) == is_plain


def test_no_more_rows_are_plain_than_the_answer_may_be_large():
    model = exact("discrete")
    most = model.single.most_rows
    assert most == MOST_ANSWER_BYTES // 12
    single = evolve(model.single, most_rows=2)
    narrow = evolve(model, agents={SINGLE: single}, policies={"policy": single})
    plain = PlainRows.of(narrow)
    for rows, is_plain in ((2, True), (3, False)):
        file = npy.encode(np.ones((rows, 4), "f4"))
        assert (plain.read_raw(file) is not None) == is_plain


def test_plain_rows_are_normalised_too(tmp_path):
    model = load(bundles.cartpole(tmp_path, normalised=True))
    request = body(obs=shapes.vectors(5, 4))
    assert plainly(PlainRows.of(model), request) == generally(model, request)
    unlike = described(model, normalisers={"": Normaliser((9.0,) * 4, (1.0,) * 4)})
    assert generally(unlike, request) != generally(model, request)


def test_a_nought_keeps_its_sign():
    """Both are equal: what is kept of one must not answer the other."""
    positive = Box((), "float32", (-0.0,), (9.0,))
    plain = PlainRows.of(described(exact("number", ()), action_space=positive))
    answers = set()
    for number in (0.0, -1.0, 1.0, 0.0):
        request = body(obs=np.array([number], "f4"))
        answers.add(plainly(plain, request))
        assert plainly(plain, request) == generally(plain.model, request)
    assert len(answers) == 3


def test_one_number_that_is_no_batch_is_not_plain():
    assert plain_of("discrete", ()).read(body(obs=np.ones((), "f4"))) is None


# --- several at once -----------------------------------------------------------------


@st.composite
def requests(draw, action):
    """Return plain requests, JSON and raw, with masks and without."""
    obs = draw(few((4,), "float32", most_rows=draw(st.sampled_from([1, 3]))))
    if draw(st.integers(0, 5)) == 0:
        obs[draw(st.integers(0, len(obs) - 1)), 0] = np.nan
    if draw(st.booleans()):
        return npy.encode(obs), ("obs",)
    said = {"obs": obs}
    if action in SCORES and draw(st.booleans()):
        said["action_mask"] = draw(masks(action, len(obs)))
    return body(**said), None


@pytest.mark.parametrize("action", ACTIONS)
@given(data=st.data())
def test_several_are_answered_as_each_alone(action, data):
    asked = data.draw(st.lists(requests(action), min_size=1, max_size=6))
    plain = plain_of(action)
    calls = [
        plain.read(request) if names is None else plain.read_raw(request)
        for request, names in asked
    ]
    answers = [told(answer) for answer in plain.answer(calls, unwatched)]
    assert answers == [generally(plain.model, *request) for request in asked]


def test_one_that_is_not_finite_spoils_no_other_and_is_told_its_own_row():
    plain = plain_of()
    wrong = np.array(OBS)
    wrong[1, 2] = np.inf
    asked = [body(obs=obs) for obs in (OBS, OBS, wrong, OBS)]
    answers = plain.answer([plain.read(request) for request in asked], unwatched)
    assert [type(answer) for answer in answers] == [bytes, bytes, Rejected, bytes]
    assert "row 1 does not" in str(answers[2])
    assert answers[2].field == "obs"


def test_one_that_the_weights_overflow_on_is_told_so_and_spoils_no_other():
    plain = plain_of()
    huge = np.full((1, 4), 3e38, "f4")
    asked = [body(obs=obs) for obs in (OBS, huge, OBS)]
    answers = plain.answer([plain.read(request) for request in asked], unwatched)
    assert [type(answer) for answer in answers] == [bytes, NotFinite, bytes]
    assert answers[1].field == "obs"


def test_weights_that_are_gone_are_nobodys_fault():
    model = policy("discrete", exact("discrete").single.policy.observation_space, (4,))
    plain = PlainRows.of(model)
    model.close()
    calls = [plain.read(body(obs=OBS))] * 3
    for answer in plain.answer(calls, unwatched):
        assert isinstance(answer, Unavailable)


def test_whoever_watches_is_told_once_of_all_rows_and_their_masks():
    plain, watched = plain_of(), []
    mask = np.array([[False, True, True], [True, True, False]])
    calls = [
        plain.read(body(obs=OBS)),
        plain.read(body(obs=OBS[::-1], action_mask=mask)),
        plain.read(body(obs=OBS[:1])),
    ]
    plain.answer(calls, lambda *told: watched.append(told))
    ((turns, acted),) = watched
    assert turns[SINGLE].rows == 5
    seen = np.concatenate([OBS, OBS[::-1], OBS[:1]])
    assert turns[SINGLE].observed[""].tolist() == seen.tolist()
    everything = np.ones((2, 3), bool)
    legal = np.concatenate([everything, mask, everything[:1]])
    assert turns[SINGLE].legal.tolist() == legal.tolist()
    assert len(acted[SINGLE].actions) == len(acted[SINGLE].outputs["first"]) == 5


def test_where_nobody_sends_a_mask_there_is_none():
    plain, watched = plain_of(), []
    plain.answer([plain.read(body(obs=OBS))] * 2, lambda *told: watched.append(told))
    assert watched[0][0][SINGLE].legal is None


# --- what is kept --------------------------------------------------------------------


def test_what_is_kept_of_headers_and_answers_has_an_end(monkeypatch):
    monkeypatch.setattr(plain_rows, "MOST_HEADERS", 3)
    monkeypatch.setattr(plain_rows, "MOST_ANSWERS", 2)
    plain = PlainRows.of(exact("discrete"))
    for rows in range(1, 9):
        request = body(obs=np.eye(9, 4, -rows + 1, "f4")[:rows])
        assert plainly(plain, request) == generally(plain.model, request)
        assert len(plain._rows_of) <= 3
    kept = set()
    for row in np.concatenate([np.eye(4, dtype="f4"), -np.eye(4, dtype="f4")]):
        request = body(obs=row[None])
        for _ in range(2):
            answer = plainly(plain, request)
            assert answer == generally(plain.model, request)
        kept.add(answer)
    assert len(kept) == 3
    assert len(plain._encoded) == 2


@given(few((4,), "float32", most_rows=1))
@example(np.zeros((1, 4), "f4"))
def test_what_is_kept_of_json_is_not_sent_to_who_asks_in_raw_arrays(obs):
    plain = plain_of()
    for _ in range(2):
        for request, names in ((body(obs=obs), None), (npy.encode(obs), ("obs",))):
            answer = plainly(plain, request, names)
            assert answer == generally(plain.model, request, names)
