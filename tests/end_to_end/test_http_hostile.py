"""What is made to harm is refused in one sentence, quickly and in little memory."""

import base64
import gzip
import io
import json
import pickle
import time
import tracemalloc
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

import shapes
from end_to_end.hostile import BODIES, LEAVES, npy_file
from end_to_end.http_world import Answer, asked, assert_detail, wire
from end_to_end.shapes_over_http import (
    action,
    agents_of_every_shape,
    answered,
    received,
)
from every_shape import ACTING, EVERY_SHAPE, assert_same, sent, whole_request

SLACK_BYTES = 4 << 20
"""What a call may take whatever the size of its body."""
MOST_ROWS = 65_536


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with agents_of_every_shape(tmp_path_factory) as live:
        yield live


def told(live, body: bytes | Iterable[bytes], verb="get_action", *headers) -> Answer:
    """Drive the app by hand with a body, in one part or many."""
    parts = [body] if isinstance(body, bytes) else body
    messages = (
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    )
    return asked(
        live.world.app,
        "POST",
        f"{live.path}/{verb}",
        headers=[("authorization", f"Bearer {live.key}"), *headers],
        messages=_ended(messages),
    )


def _ended(messages):
    yield from messages
    yield {"type": "http.request", "body": b""}


def peak_bytes(*call) -> tuple[int, Answer]:
    """Return the most memory that `told` has taken at once, and the answer."""
    tracemalloc.start()
    try:
        answer = told(*call)
        return tracemalloc.get_traced_memory()[1], answer
    finally:
        tracemalloc.stop()


def assert_refused(answer: Answer, *statuses: int) -> str:
    assert answer.status in (statuses or (400, 413)), answer
    detail = json.loads(answer.body)["detail"]
    assert len(detail) < 1000
    assert detail.endswith(".")
    assert not set("[]{}\n") & set(detail), detail
    return detail


# --- memory and time -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["image", "recurrent", "agents"])
@pytest.mark.parametrize("what", LEAVES)
def test_no_claim_of_an_array_takes_memory(agent, name, what):
    live, leaf = agent(name), LEAVES[what]
    good = sent(EVERY_SHAPE[name].observe(1))
    first = {"speaker_0": leaf} if name == "agents" else leaf
    state = {"h": leaf, "_checkpoint": leaf}
    requests = [{"obs": first}]
    if leaf is not None:
        requests += [
            {"obs": good, "action_mask": first},
            {"obs": good, "env_defined_actions": first},
            {"obs": good, "hidden_state": state if name == "recurrent" else first},
        ]
    for request in requests:
        body = json.dumps(request).encode()
        begun = time.perf_counter()
        told(live, body)
        assert time.perf_counter() - begun < 1
        taken, answer = peak_bytes(live, body)
        assert taken < 3 * len(body) + SLACK_BYTES
        if answer.status != 200:  # some parts mean nothing to some agents
            assert_refused(answer)


@pytest.mark.parametrize("what", BODIES)
def test_no_body_takes_memory(agent, what):
    for name in ("dict", "agents", "supervised"):
        taken, answer = peak_bytes(agent(name), BODIES[what], EVERY_SHAPE[name].verb)
        assert_refused(answer, 400)
        assert taken < 50 * len(BODIES[what]) + SLACK_BYTES


MIB = 1 << 20
LARGE_BODIES = {
    "a million empty lists": b'{"obs": [' + b"[]," * MIB + b"[]]}",
    "a million objects": b'{"obs": [' + b"{}," * MIB + b"{}]}",
    "lists in lists": b'{"obs": [' + b"[[[[[]]]]]," * (MIB // 3) + b"[]]}",
    "a million numbers": b'{"obs": [' + b"0.5," * MIB + b"1]}",
    "as many keys": b'{"obs": {' + b'"":1,' * MIB + b'"":1}}',
    "a million agents": b'{"obs": {'
    + b",".join(b'"%x":null' % n for n in range(MIB // 2))
    + b"}}",
    "a number of a million digits": b'{"obs": ' + b"9" * MIB + b"}",
    "a batch of a million digits": b'{"obs": "", "batch_size": ' + b"9" * MIB + b"}",
    "a fraction of a million digits": b'{"obs": 0.' + b"9" * MIB + b"}",
    "lists a million deep": b'{"obs": ' + b"[" * MIB,
    "objects a million deep": b'{"a":' * MIB,
    "a long key": b'{"obs": {"' + b"k" * MIB + b'": 1}}',
    "a long text": b'{"obs": "' + b"A" * MIB + b'"}',
    "a text of escapes": b'{"obs": "' + b"\\u00e4" * (MIB // 6) + b'"}',
    "gaps": b'{"obs":' + b" " * MIB + b"}",
}


@pytest.mark.parametrize("what", LARGE_BODIES)
@pytest.mark.parametrize("name", ["dict", "agents"])
def test_no_large_body_takes_much_more_than_itself(agent, name, what):
    body = LARGE_BODIES[what]
    begun = time.perf_counter()
    assert_refused(told(agent(name), body))
    assert time.perf_counter() - begun < 2
    taken, _ = peak_bytes(agent(name), body)
    assert taken < 3 * len(body) + SLACK_BYTES


def test_a_body_in_many_parts_takes_no_more_than_itself(agent):
    live = agent("image")
    body = json.dumps({"obs": sent(shapes.images(1)), "x": "x" * 400_000}).encode()
    parts = (body[at : at + 2] for at in range(0, len(body), 2))
    taken, answer = peak_bytes(live, parts)
    assert answer.status == 200
    assert taken < 6 * len(body) + SLACK_BYTES


@pytest.mark.parametrize("header", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_body_that_is_compressed_is_not_inflated(agent, header):
    bomb = gzip.compress(b'{"obs": "' + b"A" * (64 * MIB) + b'"}')
    encoding = ("content-encoding", header)
    taken, answer = peak_bytes(agent("image"), bomb, "get_action", encoding)
    assert_refused(answer, 400)
    assert taken < SLACK_BYTES


TALL = np.ones((MOST_ROWS, 1), "u1")


@pytest.mark.parametrize(
    "more",
    [
        {"env_defined_actions": {"speaker_0": wire(TALL)}},
        {"env_defined_actions": {"speaker_0": wire(TALL.T)}},
        {"action_mask": {"speaker_0": wire(TALL)}},
        {"action_mask": {"speaker_0": [wire(TALL)] * 40}},
        {"action_mask": {"speaker_0": wire(TALL.T)}},
    ],
    ids=["forced column", "forced row", "mask column", "many parts", "mask row"],
)
def test_rows_against_columns_take_no_memory(agent, more):
    obs = {"speaker_0": wire(np.zeros((MOST_ROWS, 3), "f2"))}
    body = json.dumps({"obs": obs, **more}).encode()
    taken, answer = peak_bytes(agent("agents"), body)
    assert answer.status in {200, 400}
    assert taken < 12 * len(body) + SLACK_BYTES


# --- nothing runs --------------------------------------------------------------------


class _Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return (Path.touch, (self._path,))


def _saved(write, value) -> str:
    file = io.BytesIO()
    write(file, value)
    return base64.b64encode(file.getvalue()).decode()


def test_no_pickle_is_ever_opened(agent, tmp_path):
    canary = tmp_path / "canary"
    objects = np.array([_Canary(canary)], dtype=object)
    header = npy_file("|O", "(1,)", body=pickle.dumps(objects))
    leaves = [
        _saved(np.save, objects),
        _saved(np.savez, objects),
        _saved(np.savez_compressed, objects),
        base64.b64encode(pickle.dumps(objects)).decode(),
        base64.b64encode(pickle.dumps(objects, protocol=0)).decode(),
        header,
    ]
    obs = wire(shapes.vectors(1, 3))
    for leaf in leaves:
        state = {"h": leaf, "_checkpoint": leaf}
        for request in (
            {"obs": leaf},
            {"obs": obs, "action_mask": leaf},
            {"obs": obs, "hidden_state": state},
        ):
            answer = agent("recurrent").post("get_action", json=request)
            assert_detail(answer, 400)
        answer = agent("supervised").post("predict", json={"inputs": leaf})
        assert_detail(answer, 400)
    assert not canary.exists()
    pickle.loads(pickle.dumps(_Canary(canary)))  # noqa: S301 -- the canary does sing
    assert canary.exists()


# --- callers do not see each other ---------------------------------------------------


def test_bad_rows_of_one_caller_spoil_nothing_for_another(agent):
    live = agent("box")
    bad = shapes.vectors(7, 3)
    bad[3] = np.nan

    def call(number: int) -> None:
        if number % 2:
            answer = live.post("get_action", json={"obs": wire(bad)})
            assert "row 3" in assert_detail(answer, 400)
        else:
            obs = shapes.vectors(7, 3, seed=number)
            assert_same(action(live, obs), EVERY_SHAPE["box"].truth(obs))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(64)))


# --- anything at all -----------------------------------------------------------------


def _filled(dtype: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return random bytes as an array: every NaN and every extreme comes up."""
    random = np.random.default_rng(seed)
    if dtype == "?":
        return random.integers(0, 2, shape).astype(bool)
    if seed % 3:
        return random.integers(0, 3, shape).astype(dtype)
    data = random.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(data, dtype).reshape(shape)


DTYPES = st.sampled_from(["?", "i1", "u1", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2"])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=8)
ARRAYS = st.builds(_filled, DTYPES, SHAPES, st.integers(0, 99))
WIRED = ARRAYS.map(wire)


KEYS = st.sampled_from(
    ["obs", "h", "_checkpoint", "speaker_0", "listener_0", "image", "inner", "level",
     "position", "", "0", "[x]", "\ud7ff\u2028"]
) | st.text(max_size=5)  # fmt: skip
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LEAF = (
    st.none() | st.booleans() | st.integers() | FLOATS
    | st.text(max_size=20) | st.sampled_from(list(LEAVES.values())) | WIRED
)  # fmt: skip
ANYTHING = st.recursive(
    LEAF,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(KEYS, part, max_size=4),
    max_leaves=8,
)


def places(tree, at=()):
    """Yield where the parts of a JSON tree are."""
    yield at
    if isinstance(tree, dict | list | tuple):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(part, (*at, key))


def put(tree, at, part):
    """Return a copy of the tree with another part at a place."""
    if not at:
        return part
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[at[0]] = put(copy[at[0]], at[1:], part)
    return copy


@pytest.fixture(scope="module")
def whole(agent):
    """Returns a request that an agent of a shape answers, with all that it can say."""

    @cache
    def request(name: str) -> dict:
        if name != "recurrent":
            return whole_request(name)
        seen = EVERY_SHAPE[name].observe(2)
        return whole_request(name, answered(agent(name), seen)["hidden_state"])

    return request


@pytest.mark.parametrize("name", EVERY_SHAPE)
@given(data=st.data())
def test_whatever_is_sent_is_answered_or_refused_in_one_sentence(
    agent, whole, name, data
):
    live, shape = agent(name), EVERY_SHAPE[name]
    request = whole(name)
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        at = data.draw(st.sampled_from(list(places(request))), "at")
        request = put(request, at, data.draw(ANYTHING, "part"))
    params = data.draw(st.sampled_from([None, {"mode": "sample", "seed": "1"}]))
    answer = live.post(shape.verb, json=request, params=params)
    if answer.status_code == 503:  # huge numbers, though finite, overflow the weights
        assert "not finite" in assert_detail(answer, 503)
    elif answer.status_code != 200:
        assert answer.status_code in {400, 409, 413}
        assert_detail(answer, answer.status_code)
    elif shape.predicts:
        assert np.isfinite(received(answer.json()["results"])).all()
    else:
        assert set(answer.json()) <= {"action", "hidden_state"}
        assert answer.json()["action"] is not None


@pytest.mark.parametrize("name", ACTING)
def test_a_whole_request_is_one_that_is_answered(agent, whole, name):
    answer = agent(name).post("get_action", json=whole(name))
    assert answer.status_code == 200, answer.text
