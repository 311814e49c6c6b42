"""Bodies of the Open Inference Protocol: what they say, and what is refused."""

import json
from contextlib import suppress

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from arena_core.application import open_inference
from arena_core.application.inference import Choice, Mode
from arena_core.application.open_inference import (
    MOST_PARTS,
    InferRequest,
    Sequence,
    Wanted,
)
from arena_core.application.raw_arrays import MOST_NAMES
from arena_core.domain.errors import Rejected, TooLarge

OBS = np.arange(6, dtype="<f4").reshape(2, 3)
MASK = np.array([[True, False], [True, True]])
LISTED = {"name": "obs", "shape": [2, 3], "datatype": "FP32", "data": OBS.tolist()}
SIZED = {"name": "obs", "shape": [2, 3], "datatype": "FP32"}
ALL = Wanted(None, binary=False)


def body(**said):
    return json.dumps({"inputs": [LISTED], **said}).encode()


def read(**said):
    return open_inference.read(body(**said))


def sized(name, array, size=None):
    """Return what is said of an array that lies behind the JSON."""
    size = array.nbytes if size is None else size
    datatype = {"f": "FP32", "b": "BOOL"}[array.dtype.kind]
    shape, parameters = list(array.shape), {"binary_data_size": size}
    return {"name": name, "shape": shape, "datatype": datatype} | {
        "parameters": parameters
    }


def with_bytes(inputs, *blobs, **said):
    text = json.dumps({"inputs": inputs, **said}).encode()
    return b"".join((text, *blobs)), len(text)


def refused(*given, match=None, as_=Rejected, **said):
    with pytest.raises(as_, match=match) as caught:
        open_inference.read(*(given or [body(**said)]))
    assert str(caught.value).endswith(".")
    return caught.value


# --- requests ------------------------------------------------------------------------


def test_an_array_in_the_json_is_read():
    request = read()
    assert request.inputs["obs"].tolist() == OBS.tolist()
    assert (request.id, request.sequence, request.timeout_s) == (None, None, None)
    assert request.wanted == ALL
    assert request.choice == Choice()


def test_arrays_behind_the_json_are_read_in_their_order():
    parts = [sized("obs", OBS), sized("action_mask", MASK)]
    request = open_inference.read(*with_bytes(parts, OBS.tobytes(), MASK.tobytes()))
    assert request.inputs["obs"].tobytes() == OBS.tobytes()
    assert request.inputs["action_mask"].tolist() == MASK.tolist()


def test_arrays_of_both_kinds_can_be_mixed():
    parts = [sized("action_mask", MASK), LISTED]
    request = open_inference.read(*with_bytes(parts, MASK.tobytes()))
    assert list(request.inputs) == ["action_mask", "obs"]
    assert request.inputs["obs"].tolist() == OBS.tolist()


def test_what_is_null_is_left_out():
    sent = {**LISTED, "parameters": None}
    said = {"inputs": [sent], "id": None, "parameters": None, "outputs": None}
    assert read(**said).wanted == ALL


def test_what_nobody_knows_is_left_alone():
    read(more=1, parameters={"priority": 3, "x": "y"}, inputs=[{**LISTED, "z": {}}])


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"outputs": []}, ALL),
        ({"parameters": {"binary_data_output": True}}, Wanted(None, binary=True)),
        ({"outputs": [{"name": "action"}]}, Wanted({"action": False}, binary=False)),
        (
            {
                "outputs": [
                    {"name": "a", "parameters": {"binary_data": True}},
                    {"name": "b"},
                ]
            },
            Wanted({"a": True, "b": False}, binary=False),
        ),
        (
            {
                "outputs": [
                    {"name": "a", "parameters": {"binary_data": False}},
                    {"name": "b"},
                ],
                "parameters": {"binary_data_output": True},
            },
            Wanted({"a": False, "b": True}, binary=True),
        ),
    ],
)
def test_which_outputs_are_wanted_and_how(said, wanted):
    assert read(**said).wanted == wanted


@pytest.mark.parametrize(
    ("parameters", "sequence"),
    [
        ({}, None),
        ({"sequence_id": 0}, None),
        ({"sequence_id": "", "sequence_start": True}, None),
        ({"sequence_id": 7}, Sequence(7)),
        ({"sequence_id": 2**64 - 1}, Sequence(2**64 - 1)),
        (
            {"sequence_id": "7", "sequence_start": True, "sequence_end": True},
            Sequence("7", start=True, end=True),
        ),
    ],
)
def test_a_place_in_an_episode_is_read(parameters, sequence):
    assert read(parameters=parameters).sequence == sequence


@pytest.mark.parametrize(
    ("parameters", "choice"),
    [
        ({"mode": "greedy"}, Choice()),
        ({"mode": "sample"}, Choice(Mode.SAMPLE)),
        ({"mode": "sample", "seed": 7}, Choice(Mode.SAMPLE, 7)),
        ({"mode": "sample", "seed": "7"}, Choice(Mode.SAMPLE, 7)),
    ],
)
def test_actions_may_be_sampled(parameters, choice):
    assert read(parameters=parameters).choice == choice


def test_the_timeout_is_in_microseconds():
    assert read(parameters={"timeout": 1500}).timeout_s == 0.0015


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"sequence_id": -1}, "sequence_id"),
        ({"sequence_id": 2**64}, "sequence_id"),
        ({"sequence_id": 1.0}, "sequence_id"),
        ({"sequence_id": True}, "sequence_id"),
        ({"sequence_id": "x" * 257}, "sequence_id"),
        ({"sequence_id": 1, "sequence_start": 1}, "sequence_start"),
        ({"sequence_id": 1, "sequence_end": "yes"}, "sequence_end"),
        ({"binary_data_output": "true"}, "binary_data_output"),
        ({"mode": "best"}, "mode"),
        ({"mode": 1}, "mode"),
        ({"seed": 7}, "seed"),
        ({"mode": "sample", "seed": 1.5}, "seed"),
        ({"mode": "sample", "seed": True}, "seed"),
        ({"mode": "sample", "seed": -1}, "seed"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 1.5}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": 86_400_000_001}, "timeout"),
        ({"a": None}, "body"),
        ({"a": [1]}, "body"),
        ([], "body"),
    ],
    ids=repr,
)
def test_a_parameter_that_means_nothing_is_refused(parameters, field):
    assert refused(parameters=parameters).field == field


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"inputs": 1}', b"{}",
        b'{"inputs": [{"name": "obs"}]}', b'{"inputs": [{"name": 1}]}',
        b'{"inputs": [], "id": 7}', b"[" * 100_000,
        b'{"inputs": [{"name": "obs", "shape": [1], "datatype": "FP32", "data": '
        + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        b'{"inputs": [{"name": "a", "shape": [NaN], "datatype": "FP32", "data": []}]}',
    ],
    ids=lambda text: repr(text[:40]),
)  # fmt: skip
def test_a_body_that_is_none_is_refused(text):
    assert refused(text).field == "body"


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ([SIZED], "has no data"),
        ([{**SIZED, "data": None}], "has no data"),
        ([LISTED, LISTED], "comes twice"),
        ([LISTED | {"parameters": {"binary_data_size": 24}}], "both data and"),
        ([sized("obs", OBS)], "so many must be in the body"),
        ([sized("obs", OBS, -1)], "so many must be in the body"),
        ([sized("obs", OBS, "24")], "so many must be in the body"),
        ([sized("obs", OBS, True)], "so many must be in the body"),
        ([sized("obs", OBS, 0)], "of 24 bytes"),
        ([{**LISTED, "datatype": "BYTES"}], "text"),
        ([{**LISTED, "shape": [6, 2]}], "nested|elements"),
        ([{**SIZED, "parameters": {"shared_memory_region": "x"}}], "not supported"),
    ],
)
def test_an_input_that_is_not_whole_is_refused(inputs, match):
    refused(inputs=inputs, match=match)


def test_too_many_inputs_are_refused():
    many = [{**LISTED, "name": f"i{n}"} for n in range(MOST_NAMES + 1)]
    assert refused(inputs=many, match="more than").field == "inputs"


def test_too_many_outputs_are_refused_before_they_are_compared():
    many = [{"name": f"o{n}"} for n in range(MOST_NAMES + 1)]
    assert refused(outputs=many, match="more than").field == "outputs"


@pytest.mark.parametrize(
    ("outputs", "match"),
    [
        ([{"name": "a"}, {"name": "a"}], "wanted twice"),
        ([{"name": "a", "parameters": {"classification": 3}}], "not supported"),
        ([{"name": "a", "parameters": {"binary_data": 1}}], "true or false"),
    ],
)
def test_an_output_that_cannot_be_had_is_refused(outputs, match):
    refused(outputs=outputs, match=match)


def test_bytes_that_are_nobodys_are_refused():
    whole, length = with_bytes([sized("obs", OBS)], OBS.tobytes(), b"x")
    refused(whole, length, match="1 bytes behind the last")


def test_bytes_that_are_missing_are_refused():
    whole, length = with_bytes([sized("obs", OBS)], OBS.tobytes()[:-1])
    refused(whole, length, match="so many must be in the body")


def test_bytes_of_the_array_before_are_never_used_again():
    parts = [sized("obs", OBS), sized("other", OBS)]
    whole, length = with_bytes(parts, OBS.tobytes())
    refused(whole, length, match="so many must be in the body")


def test_json_that_is_said_to_be_longer_than_the_body_is_refused():
    error = refused(body(), len(body()) + 1, match="but the body has")
    assert error.field == "inference-header-content-length"


@pytest.mark.parametrize("part", [b"1,", b"[],", b"{},"])
def test_json_of_too_many_parts_is_refused_before_it_is_decoded(part):
    refused(part * (MOST_PARTS + 1), as_=TooLarge, match="send the data as bytes")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(data=st.data())
def test_whatever_comes_is_read_or_refused(data):
    sent = {**LISTED, "parameters": {"binary_data_size": 24}}
    whole = {"inputs": [sent], "outputs": [{"name": "action"}], "parameters": {}}
    key = data.draw(st.sampled_from(["inputs", "outputs", "parameters", "id"]))
    whole[key] = data.draw(JSON)
    if data.draw(st.booleans(), "inside of an input"):
        sent[data.draw(st.sampled_from(sorted(sent)))] = data.draw(JSON)
        whole["inputs"] = [sent]
    text = json.dumps(whole).encode()
    length = data.draw(st.none() | st.integers(0, len(text) + 1))
    with suppress(Rejected):
        open_inference.read(text + data.draw(st.binary()), length)


# --- answers -------------------------------------------------------------------------

ACTION = np.array([2, 0])
STATE = np.array([[0.1], [1.5]], "f4")
ARRAYS = {"action": ACTION, "hidden_state/h": STATE}


def answered(wanted=ALL, name=None):
    request = InferRequest({}, wanted, name)
    answer = open_inference.answer(ARRAYS, request, "m", "1")
    length = answer.json_bytes
    return json.loads(answer.body[:length]), answer.body[length:] if length else None


def test_an_answer_in_json_says_each_number_exactly():
    told, rest = answered(name="42")
    assert rest is None
    assert told == {
        "model_name": "m",
        "model_version": "1",
        "id": "42",
        "outputs": [
            {"name": "action", "datatype": "INT64", "shape": [2], "data": [2, 0]},
            {
                "name": "hidden_state/h",
                "datatype": "FP32",
                "shape": [2, 1],
                "data": [float(np.float32(0.1)), 1.5],
            },
        ],
    }


def test_who_names_no_id_is_told_none():
    assert "id" not in answered()[0]


def test_an_answer_in_bytes_has_them_behind_the_json():
    told, rest = answered(Wanted(None, binary=True))
    sizes = [output["parameters"] for output in told["outputs"]]
    assert sizes == [{"binary_data_size": 16}, {"binary_data_size": 8}]
    assert rest == ACTION.tobytes() + STATE.tobytes()
    assert not any("data" in output for output in told["outputs"])


def test_only_what_is_wanted_is_told_in_the_order_of_the_wish():
    wanted = Wanted({"hidden_state/h": True, "action": False}, binary=False)
    told, rest = answered(wanted)
    assert [output["name"] for output in told["outputs"]] == list(wanted.by_name)
    assert told["outputs"][1]["data"] == [2, 0]
    assert rest == STATE.tobytes()
