"""/v2: what the data plane answers, in the form of the Open Inference Protocol."""

import gzip
import json
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from arena_core.application import npy
from arena_core.domain.errors import TooLarge
from arena_core.entrypoints.http.open_inference import infer as inferring
from arena_core.entrypoints.http.open_inference.encodings import inflated

from end_to_end.http_world import bearing, opened
from end_to_end.open_inference_calls import (
    DATATYPES,
    LENGTH,
    answered,
    assert_refused,
    infer,
    parts,
    request,
    tensor,
)
from end_to_end.shapes_over_http import agents_of_every_shape, raw_of
from every_shape import EVERY_SHAPE, whole_request

CONTRACT = {"arena-agent", "arena-checkpoint", "arena-log-position"}
BOX = EVERY_SHAPE["box"].observe(2)
OBS = {"obs": BOX}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with agents_of_every_shape(tmp_path_factory) as agents:
        yield agents


@pytest.fixture(scope="module")
def box(live):
    return live("box")


def whole(name, form):
    """Return a request with everything in it that can be sent so."""
    arrays = raw_of(name, whole_request(name))
    if form == "binary":
        return arrays
    # JSON has no NaN, by which an environment leaves a choice to the policy.
    return {n: np.nan_to_num(a, nan=0) for n, a in arrays.items()}


def truth(endpoint, name, arrays, query=""):
    """Return what the data plane says to raw arrays."""
    body = b"".join(map(npy.encode, arrays.values()))
    headers = {"Content-Type": "application/x-npy", "Arena-Arrays": ", ".join(arrays)}
    verb = EVERY_SHAPE[name].verb + query
    answer = endpoint.post(verb, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    names = tuple(answer.headers["arena-arrays"].split(", "))
    return dict(zip(names, npy.decode_all(answer.content, names), strict=True))


def assert_identical(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (
            expected[name].dtype,
            expected[name].shape,
        )
        assert array.tobytes() == expected[name].tobytes()


def get(endpoint, path, token=""):
    client = endpoint.world.client(endpoint.key if token == "" else token)
    return client.get(f"/v2/{path}")


# --- what is answered ----------------------------------------------------------------


@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_every_shape_is_answered_as_by_the_data_plane_bit_for_bit(live, name, form):
    endpoint = live(name)
    arrays = whole(name, form)
    expected = truth(endpoint, name, arrays)
    for binary in (False, True):
        parameters = {"binary_data_output": binary}
        answer = infer(endpoint, arrays, form=form, parameters=parameters)
        assert answer.headers.keys() >= CONTRACT
        assert (LENGTH.lower() in answer.headers) == binary
        assert_identical(answered(answer), expected)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_what_is_described_is_what_is_taken_and_given(live, name):
    endpoint = live(name)
    described = get(endpoint, f"models/{endpoint.deployment_id}").json()
    inputs, outputs = (
        {part["name"]: part for part in described[which]}
        for which in ("inputs", "outputs")
    )
    arrays = whole(name, "binary")
    needed = {n for n, part in inputs.items() if "parameters" not in part}
    assert needed <= arrays.keys() <= inputs.keys()
    given = {n: (inputs[n], array) for n, array in arrays.items() if n in needed}
    told = answered(infer(endpoint, arrays, form="binary"))
    assert list(told) == list(outputs)
    for part, array in [*given.values(), *((outputs[n], a) for n, a in told.items())]:
        assert part["datatype"] == DATATYPES[str(array.dtype)]
        assert part["shape"] == [-1, *array.shape[1:]]


@settings(deadline=None)
@given(data=st.data())
def test_whatever_fits_is_answered_alike_in_all_forms(box, data):
    dtype = data.draw(st.sampled_from(["f2", "f4", "f8", "i1", "u8"]))
    rows = data.draw(st.integers(1, 5))
    numbers = (
        st.integers(0, 100) if dtype[0] in "iu" else st.floats(-1e3, 1e3, width=16)
    )
    drawn = data.draw(st.lists(numbers, min_size=3 * rows, max_size=3 * rows))
    arrays = {"obs": np.array(drawn, dtype).reshape(rows, 3)}
    expected = truth(box, "box", arrays)
    for form in ("flat", "nested", "binary"):
        assert_identical(answered(infer(box, arrays, form=form)), expected)


def test_a_sampled_action_is_that_of_the_data_plane(live):
    endpoint, arrays = live("multi binary"), {"obs": EVERY_SHAPE["box"].observe(20)}
    arrays = {"obs": EVERY_SHAPE["multi binary"].observe(20)}
    drawn = set()
    for seed in range(3):
        expected = truth(endpoint, "multi binary", arrays, f"?mode=sample&seed={seed}")
        sampled = infer(endpoint, arrays, parameters={"mode": "sample", "seed": seed})
        assert_identical(answered(sampled), expected)
        drawn.add(expected["action"].tobytes())
    assert len(drawn) == 3
    refused = infer(live("supervised"), {"inputs": BOX}, parameters={"mode": "sample"})
    assert "not sampled" in assert_refused(refused)


def test_the_id_of_a_request_is_that_of_its_answer(box):
    told = infer(box, OBS, id="42 \u00e4").json()
    assert told["id"] == "42 \u00e4"
    assert "id" not in infer(box, OBS).json()


def test_an_answer_names_the_model_as_it_was_asked_for_and_the_version(box):
    answer = infer(box, OBS, model=box.agent_id)
    told, version = answer.json(), answer.headers["arena-checkpoint"][:12]
    assert (told["model_name"], told["model_version"]) == (str(box.agent_id), version)


def test_outputs_are_told_as_they_are_wanted(live):
    endpoint = live("recurrent")
    arrays = {"obs": EVERY_SHAPE["recurrent"].observe(2)}
    wanted = [
        {"name": "hidden_state/h", "parameters": {"binary_data": True}},
        {"name": "action"},
    ]
    answer = infer(endpoint, arrays, outputs=wanted)
    head, rest = parts(answer)
    assert [output["name"] for output in head["outputs"]] == [
        "hidden_state/h",
        "action",
    ]
    assert "data" in head["outputs"][1]
    assert len(rest) == head["outputs"][0]["parameters"]["binary_data_size"]
    expected = truth(endpoint, "recurrent", arrays)
    told = answered(answer)
    assert_identical(told, {name: expected[name] for name in told})


def test_no_content_type_is_demanded_and_none_is_believed(box):
    body, headers = request(OBS, form="binary")
    path = f"/v2/models/{box.deployment_id}/infer"
    client = box.world.client(box.key)
    expected = answered(infer(box, OBS))
    for kind in ("", "text/plain", "application/x-npy"):
        answer = client.post(
            path, content=body, headers=headers | {"Content-Type": kind}
        )
        assert_identical(answered(answer), expected)


def test_it_counts_as_a_call_of_the_data_plane(box):
    def counted():
        page = box.world.member("manager").get("/metrics").text
        name = f'arena_inference_requests_total{{agent="{box.agent_id}"'
        return [line for line in page.splitlines() if line.startswith(name)]

    infer(box, OBS)
    before = counted()
    infer(box, OBS)
    infer(box, {"obs": BOX[:, :1]})
    after = counted()
    assert all('method="get_action"' in line for line in after)
    assert len(set(after) - set(before)) == 2


# --- compressed ----------------------------------------------------------------------


def compressed(endpoint, encoding, body, headers=(), **more):
    path = f"/v2/models/{endpoint.deployment_id}/infer"
    headers = {**dict(headers), "Content-Encoding": encoding}
    client = endpoint.world.client(endpoint.key)
    return client.post(path, content=body, headers=headers, **more)


@pytest.mark.parametrize("form", ["flat", "binary"])
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), (" GZip ", gzip.compress), ("deflate", zlib.compress),
     ("identity", bytes)],
)  # fmt: skip
def test_a_compressed_body_is_read(box, form, encoding, compress):
    body, headers = request(OBS, form=form)
    answer = compressed(box, encoding, compress(body), headers)
    assert_identical(answered(answer), answered(infer(box, OBS)))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b""),
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(request(OBS)[0])[:-1]),
        ("gzip", gzip.compress(request(OBS)[0]) + b"x"),
        ("gzip", gzip.compress(request(OBS)[0]) * 2),
        ("gzip", zlib.compress(request(OBS)[0])),
        ("deflate", gzip.compress(request(OBS)[0])),
        ("deflate", zlib.compress(request(OBS)[0])[:-4]),
    ],
)
def test_a_body_that_is_not_one_whole_stream_is_refused(box, encoding, body):
    assert "whole" in assert_refused(compressed(box, encoding, body))


def test_an_encoding_that_nobody_knows_is_refused(box):
    body = request(OBS)[0]
    assert "gzip, deflate" in assert_refused(compressed(box, "br", body), 415)


def test_of_a_bomb_no_more_is_inflated_than_a_body_may_have():
    bomb, limit_bytes = gzip.compress(b" " * (64 << 20)), 100_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflated(bomb, "gzip", limit_bytes=limit_bytes)
        assert tracemalloc.get_traced_memory()[1] < 10 * limit_bytes
    finally:
        tracemalloc.stop()


def test_an_error_does_not_keep_what_was_inflated():
    limit_bytes = 1 << 20
    bomb = gzip.compress(b" " * (2 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge) as caught:
            inflated(bomb, "gzip", limit_bytes=limit_bytes)
        assert caught.value
        assert tracemalloc.get_traced_memory()[0] < limit_bytes / 2
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path):
    """A limit on the body is one on what comes of it."""
    with opened(max_body_bytes=100_000) as world:
        shape = EVERY_SHAPE["box"]
        endpoint = world.live(shape.write(tmp_path / "box"), algorithm="SAC")
        body = request(OBS)[0]
        fits = body + b" " * (100_000 - len(body))
        answered(compressed(endpoint, "gzip", gzip.compress(fits)))
        for bomb in (fits + b" ", b" " * (64 << 20)):
            answer = compressed(endpoint, "gzip", gzip.compress(bomb))
            assert "100000 bytes" in assert_refused(answer, 413)


def test_few_compressed_bodies_are_inflated_at_the_same_time(box, monkeypatch):
    """Each of some kilobytes may take as much memory as a body may have."""
    underway, most, lock = 0, 0, threading.Lock()

    def counted(*given, **named):
        nonlocal underway, most
        with lock:
            underway += 1
            most = max(most, underway)
        time.sleep(0.05)
        with lock:
            underway -= 1
        return inflated(*given, **named)

    monkeypatch.setattr(inferring, "inflated", counted)
    body = gzip.compress(request(OBS)[0])
    path = f"/v2/models/{box.deployment_id}/infer"

    headers = {"content-encoding": "gzip"}
    with box.world.client(box.key) as client, ThreadPoolExecutor(8) as threads:
        asking = [
            threads.submit(client.post, path, content=body, headers=headers)
            for _ in range(8)
        ]
        assert {each.result().status_code for each in asking} == {200}
    assert most == inferring.MOST_INFLATING


# --- what is refused -----------------------------------------------------------------

WHOLE = tensor("obs", BOX)
BYTES = tensor("obs", BOX, form="binary")
HOSTILE = {
    "no json": (b"{", None),
    "nothing": (b"", None),
    "a list": (b"[]", None),
    "no inputs": (json.dumps({}).encode(), None),
    "deep": (b"[" * 100_000, None),
    "a digit too many": (b'{"inputs":' + b"1" * 1_000_000 + b"}", None),
    "no input": (json.dumps({"inputs": []}).encode(), None),
    "another name": (json.dumps({"inputs": [tensor("x", BOX)]}).encode(), None),
    "a part": (json.dumps({"inputs": [tensor("obs/x", BOX)]}).encode(), None),
    "an agent": (json.dumps({"inputs": [tensor("agents/a/obs", BOX)]}).encode(), None),
    "no data": (json.dumps({"inputs": [BYTES | {"parameters": {}}]}).encode(), None),
    "no bytes": (json.dumps({"inputs": [BYTES]}).encode(), None),
    "another shape": (
        json.dumps({"inputs": [tensor("obs", BOX[:, :2])]}).encode(),
        None,
    ),
    "no rows": (json.dumps({"inputs": [tensor("obs", BOX[:0])]}).encode(), None),
    "no axes": (json.dumps({"inputs": [tensor("obs", BOX[0, 0])]}).encode(), None),
    "text": (json.dumps({"inputs": [WHOLE | {"datatype": "BYTES"}]}).encode(), None),
    "bfloat": (json.dumps({"inputs": [WHOLE | {"datatype": "BF16"}]}).encode(), None),
    "a mask of nothing": (
        json.dumps(
            {"inputs": [WHOLE, tensor("action_mask", np.ones((2, 2), bool))]}
        ).encode(),
        None,
    ),
    "not finite": (
        json.dumps({"inputs": [BYTES]}).encode() + np.full_like(BOX, np.nan).tobytes(),
        len(json.dumps({"inputs": [BYTES]})),
    ),
    "an output": (
        json.dumps({"inputs": [WHOLE], "outputs": [{"name": "logits"}]}).encode(),
        None,
    ),
    "a header that is none": (json.dumps({"inputs": [WHOLE]}).encode(), "x"),
    "a negative header": (json.dumps({"inputs": [WHOLE]}).encode(), "-1"),
    "a huge header": (json.dumps({"inputs": [WHOLE]}).encode(), "9" * 400),
    "a header beyond the body": (json.dumps({"inputs": [WHOLE]}).encode(), 10**6),
    "bytes of nobody": (request(OBS, form="binary")[0] + b"x", None),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_does_not_fit_is_refused_in_one_sentence(box, what):
    body, length = HOSTILE[what]
    headers = {} if length is None else {LENGTH: str(length)}
    path = f"/v2/models/{box.deployment_id}/infer"
    answer = box.world.client(box.key).post(path, content=body, headers=headers)
    assert_refused(answer)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.keys() >= CONTRACT


def test_what_is_too_much_is_refused(box):
    body = b'{"inputs":[' + b"1," * 1_000_001 + b"1]}"
    path = f"/v2/models/{box.deployment_id}/infer"
    answer = box.world.client(box.key).post(path, content=body)
    assert "as bytes" in assert_refused(answer, 413)


@settings(deadline=None)
@given(data=st.data())
def test_whatever_is_done_to_a_body_the_server_is_not_at_fault(box, data):
    form = data.draw(st.sampled_from(["flat", "binary"]))
    body, headers = request(OBS, form=form)
    begin = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(begin, min(len(body), begin + 8)))
    changed = body[:begin] + data.draw(st.binary(max_size=8)) + body[end:]
    headers |= data.draw(
        st.sampled_from([{}, {LENGTH: "5"}, {"Content-Encoding": "gzip"}])
    )
    path = f"/v2/models/{box.deployment_id}/infer"
    answer = box.world.client(box.key).post(path, content=changed, headers=headers)
    if answer.status_code == 200:
        answered(answer)
    else:
        assert answer.status_code < 500
        assert_refused(answer, answer.status_code)


def test_a_call_whose_deadline_is_over_is_refused(box):
    lanes = box.world.app.data_plane
    answer = infer(box, OBS, parameters={"timeout": 1})
    assert assert_refused(answer, answer.status_code)
    assert answer.status_code in {503, 504}
    assert lanes.is_live()


# --- who may ask, and for what -------------------------------------------------------

ASKED = [
    ("GET", "", 401),
    ("GET", "/", 401),
    ("GET", "/health/live", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/models/{m}", 401),
    ("GET", "/models/{m}/versions/1", 401),
    ("GET", "/models/{m}/ready", 401),
    ("POST", "/models/{m}/infer", 401),
    ("POST", "/models/{m}/versions/1/infer", 401),
    ("POST", "/repository/index", 401),
    ("POST", "/repository/models/{m}/load", 401),
    ("POST", "/repository/models/{m}/unload", 401),
]


@pytest.mark.parametrize(
    "token", [None, "forged", "arena_dep_x", "arena_pat_x", "eyJ.x.y"]
)
@pytest.mark.parametrize(("method", "path", "status"), ASKED)
def test_nothing_but_health_is_public(box, method, path, status, token):
    if status == 401 and token == "forged":  # noqa: S105 -- made below
        token = box.key[:-1] + ("a" if box.key[-1] != "a" else "b")
    client = box.world.client(token)
    for model in (box.deployment_id, box.agent_id, "an agent", uuid4()):
        answer = client.request(method, f"/v2{path.format(m=model)}")
        assert answer.status_code == status, answer.text
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_health_is_told_as_the_protocol_has_it(box):
    for path in ("health/live", "health/ready"):
        assert get(box, path, None).json() == {"live": True, "ready": True}
    assert box.world.client().head("/v2/health/ready").status_code == 200


def test_the_server_says_what_it_can(box):
    told = get(box, "").json()
    assert told["name"] == "arena-core"
    assert {"binary_tensor_data", "sequence"} <= set(told["extensions"])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "models/x/infer", "POST"),
        ("POST", "models/x", "GET"),
        ("DELETE", "models/x/ready", "GET"),
        ("GET", "repository/index", "POST"),
        ("POST", "health/live", "GET"),
    ],
)
def test_another_method_is_refused(box, method, path, allowed):
    answer = box.world.client(box.key).request(method, f"/v2/{path}")
    assert_refused(answer, 405)
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["x", "models", "models/", "health", "repository", "models/versions"]
)
def test_an_address_that_is_none_is_not_found(box, path):
    answer = get(box, path)
    assert answer.status_code in {403, 404}
    assert_refused(answer, answer.status_code)


@pytest.mark.parametrize("kind", ["pat", "org"])
@pytest.mark.parametrize("role", ["member", "manager"])
def test_members_of_the_organisation_may_ask(box, kind, role):
    token = box.world.issued(role, kind=kind).token
    answer = infer(box, OBS, token=token, model=box.agent_id)
    assert_identical(answered(answer), answered(infer(box, OBS)))


def test_who_may_only_look_may_not_ask(box):
    token = box.world.token("viewer")
    assert "member" in assert_refused(infer(box, OBS, token=token), 403)
    assert_refused(get(box, f"models/{box.agent_id}", token), 403)


def test_what_is_another_organisations_is_not_there(box):
    token = box.world.token("manager", organisation="rivals")
    client = box.world.client(token)
    for model in (box.deployment_id, box.agent_id, "an agent"):
        unknown = assert_refused(client.get(f"/v2/models/{uuid4()}"), 404)
        for method, path in (
            ("GET", f"models/{model}"),
            ("GET", f"models/{model}/ready"),
            ("POST", f"repository/models/{model}/unload"),
            ("POST", f"models/{model}/infer"),
        ):
            said = assert_refused(client.request(method, f"/v2/{path}"), 404)
            assert said == unknown
    assert client.post("/v2/repository/index").json() == []


def test_the_key_of_another_deployment_is_not_for_this_one(live, box):
    other = live("image")
    for model in (other.deployment_id, other.agent_id, uuid4(), "x"):
        answer = infer(box, OBS, model=model)
        assert "not for this deployment" in assert_refused(answer, 403)


def test_a_name_that_several_have_means_none(live, box):
    live("image")
    token = box.world.token("member")
    answer = get(box, "models/an agent", token)
    assert "use the id" in assert_refused(answer)
    with_key = get(box, "models/an agent")  # of which there is one, for the key
    assert with_key.json()["name"] == "an agent"


def test_a_name_that_one_has_means_it(box):
    client = box.world.member()
    name = "bo/x \u00e4?"
    client.patch(f"/api/v1/agents/{box.agent_id}", json={"name": name})
    quoted = "bo/x%20%C3%A4%3F"
    for own in (client, box.world.client(box.key)):
        assert own.get(f"/v2/models/{quoted}/ready").json() == {
            "name": name,
            "ready": True,
        }
        body, headers = request(OBS)
        path = f"/v2/models/{quoted}/infer"
        told = answered(own.post(path, content=body, headers=headers))
        assert_identical(told, answered(infer(box, OBS)))
    client.patch(f"/api/v1/agents/{box.agent_id}", json={"name": "an agent"})


def test_the_version_is_that_of_the_weights(box):
    described = get(box, f"models/{box.agent_id}").json()
    (version,) = described["versions"]
    digest = infer(box, OBS).headers["arena-checkpoint"]
    assert digest.startswith(version)
    for said in (version, digest):
        model = f"{box.agent_id}/versions/{said}"
        assert get(box, f"models/{model}").status_code == 200
        assert get(box, f"models/{model}/ready").json()["ready"]
        assert answered(infer(box, OBS, model=model))
    model = f"{box.agent_id}/versions/1"
    assert version in assert_refused(get(box, f"models/{model}"), 404)
    assert version in assert_refused(get(box, f"models/{model}/ready"), 404)
    assert version in assert_refused(infer(box, OBS, model=model), 404)


def test_a_rotated_key_is_dead(tmp_path):
    with opened() as world:
        shape = EVERY_SHAPE["box"]
        endpoint = world.live(shape.write(tmp_path / "box"), algorithm="SAC")
        assert answered(infer(endpoint, OBS))
        world.member().post(f"/api/v1/agents/{endpoint.agent_id}/rotate-key")
        assert_refused(infer(endpoint, OBS), 401)
        assert_refused(get(endpoint, f"models/{endpoint.agent_id}"), 401)


def test_a_made_up_key_is_unknown_whatever_it_is_said_to_be_for(alone):
    gone, key = str(alone.agent_id), alone.key
    order(alone, "unload")
    for some_id in (alone.deployment_id, alone.agent_id, uuid4()):
        forged = "_".join(("arena_dep", some_id.hex, "1", key.rsplit("_", 1)[1][::-1]))
        for path in ("", f"models/{gone}"):
            assert_refused(get(alone, path, forged), 401)
    assert_refused(get(alone, f"models/{gone}"), 404)
    alone.world.member().post(f"/api/v1/agents/{gone}/rotate-key")
    assert_refused(get(alone, f"models/{gone}"), 401)


def test_who_insists_on_bad_credentials_is_slowed_down(tmp_path):
    with opened(failed_auth_rate=0.001) as world:
        shape = EVERY_SHAPE["box"]
        endpoint = world.live(shape.write(tmp_path / "box"), algorithm="SAC")
        bad = world.client(f"arena_dep_{uuid4().hex}_1_x")
        for path in ("", f"/models/{endpoint.agent_id}"):
            statuses = [bad.get(f"/v2{path}").status_code for _ in range(2)]
            assert statuses[1] == 429
        path = f"/v2/models/{endpoint.agent_id}/infer"
        refused = bad.post(path, content=request(OBS)[0])
        assert_refused(refused, 429)
        assert int(refused.headers["retry-after"]) > 0
        assert answered(infer(endpoint, OBS)), "a good one is never affected"


# --- the repository ------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path):
    """The only agent of a server."""
    with opened() as world:
        shape = EVERY_SHAPE["box"]
        yield world.live(shape.write(tmp_path / "box"), algorithm="SAC")


def indexed(endpoint, token="", **wanted):
    client = endpoint.world.client(endpoint.key if token == "" else token)
    answer = client.post("/v2/repository/index", json=wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


def order(endpoint, what, token="", **body):
    client = endpoint.world.client(token or endpoint.world.token("member"))
    return client.post(
        f"/v2/repository/models/{endpoint.agent_id}/{what}", json=body or None
    )


def test_the_index_lists_what_may_be_asked(alone):
    version = infer(alone, OBS).headers["arena-checkpoint"][:12]
    entry = {"name": "an agent", "version": version, "state": "READY", "reason": ""}
    token = alone.world.token("member")
    assert indexed(alone) == indexed(alone, token) == [entry]
    assert order(alone, "unload").status_code == 200
    assert indexed(alone, token) == [entry | {"state": "UNAVAILABLE"}]
    assert indexed(alone, token, ready=True) == []
    assert_refused(alone.world.client(alone.key).post("/v2/repository/index"), 404)


def test_those_that_share_a_name_are_listed_by_their_ids(live, box):
    live("image")
    names = {entry["name"] for entry in indexed(box, box.world.token("member"))}
    assert str(box.agent_id) in names
    assert "an agent" not in names
    for name in names:
        client = box.world.member()
        assert client.get(f"/v2/models/{name}/ready").status_code in {200, 503}


def test_a_saved_model_that_was_never_connected_is_not_available(tmp_path):
    with opened() as world:
        shape = EVERY_SHAPE["supervised"]
        made = world.experiment(
            shape.write(tmp_path / "b"), kind="advanced", algorithm="Supervised"
        )
        client = world.member()
        choice = {"type": "final"}
        body = {"name": "saved", "experiment_id": str(made.id), "checkpoint": choice}
        client.post("/api/v1/agents", json=body | {"kind": "advanced"})
        (entry,) = client.post("/v2/repository/index").json()
        assert (entry["name"], entry["state"]) == ("saved", "UNAVAILABLE")
        assert_refused(client.get("/v2/models/saved"), 404)
        assert client.post("/v2/repository/models/saved/load").status_code == 200
        assert client.get("/v2/models/saved/ready").json()["ready"]


def test_unload_takes_an_agent_off_and_load_puts_it_live_again(alone):
    token = alone.world.token("member")
    answer = order(alone, "unload", unload_dependents=True)
    assert (answer.status_code, answer.content) == (200, b"")
    gone = get(alone, f"models/{alone.agent_id}/ready", token)
    assert (gone.status_code, gone.json()["ready"]) == (503, False)
    assert_refused(infer(alone, OBS), 404)
    assert (order(alone, "load").status_code, order(alone, "load").content) == (
        200,
        b"",
    )
    assert answered(infer(alone, OBS))
    log = alone.world.member().get("/api/v1/events?limit=1000").json()["items"]
    asked = [event for event in log if event["name"] == "deployment.connect_requested"]
    assert [event["actor"].partition(":")[0] for event in asked] == ["library", "user"]


def test_an_order_has_the_trace_of_its_request(alone):
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    client = alone.world.member()
    path = f"/v2/repository/models/{alone.agent_id}/unload"
    assert client.post(path, headers={"traceparent": trace}).status_code == 200
    log = client.get("/api/v1/events?limit=1000").json()["items"]
    traced = [event["name"] for event in log if event["traceparent"] == trace]
    assert traced == ["deployment.disconnected"]


def test_a_model_is_loaded_as_its_agent_says_and_not_otherwise(alone):
    assert "redeploy" in assert_refused(
        order(alone, "load", parameters={"config": "x"})
    )
    answer = order(alone, "load", parameters=7)
    assert_refused(answer)


def test_a_key_gives_no_orders(alone):
    for what in ("load", "unload"):
        said = assert_refused(order(alone, what, alone.key), 403)
        assert "access token" in said
    assert answered(infer(alone, OBS))


def test_who_may_only_look_gives_no_orders(alone):
    assert_refused(order(alone, "unload", alone.world.token("viewer")), 403)


def test_an_agent_that_cannot_be_put_live_is_said_to_be_failed(tmp_path):
    with opened() as world:
        folder = EVERY_SHAPE["box"].write(tmp_path / "box")
        trace = EVERY_SHAPE["box"].write(tmp_path / "other") / "golden.npz"
        recorded = dict(np.load(trace))
        name = next(n for n in recorded if n.endswith("action"))
        np.savez(folder / "golden.npz", **{**recorded, name: recorded[name] + 0.5})
        agent = world.agent(folder, algorithm="SAC")
        client = world.member()
        answer = client.post(f"/v2/repository/models/{agent.id}/load")
        assert "The agent is Failed." in assert_refused(answer, 503)
        (entry,) = client.post("/v2/repository/index").json()
        assert entry["state"] == "UNAVAILABLE"
        assert entry["reason"]


def test_a_long_body_is_refused_before_it_is_read(alone):
    token = alone.world.token("member")
    headers = bearing(token)
    path = f"/v2/repository/models/{alone.agent_id}/load"
    answer = alone.world.client().post(path, content=b" " * 70_000, headers=headers)
    assert_refused(answer, 413)
