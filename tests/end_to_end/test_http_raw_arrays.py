"""The binary form over HTTP: the answers of the JSON form, without JSON and base64."""

import json

import numpy as np
import pytest
from attrs import frozen

from arena_core.application import npy
from arena_core.application.hidden_states import MAKER

from end_to_end.connections import Side, looping
from end_to_end.shapes_over_http import agents_of_every_shape, decoded, raw_of
from every_shape import EVERY_SHAPE, whole_request

RAW = "application/x-npy"
CONTRACT = {"arena-agent", "arena-checkpoint", "arena-log-position"}


@frozen(eq=False)
class Agents:
    side: Side
    plain: Side
    live: object
    """Returns the agent of a shape."""

    def ask(
        self, name, body, *, kind="application/json", names=None, ours=True, **more
    ):
        """Return what the agent of a shape answers."""
        agent = self.live(name)
        verb = more.get("verb", EVERY_SHAPE[name].verb) + more.get("query", "")
        head = [
            f"POST {agent.path}/{verb} HTTP/1.1",
            "Host: here",
            f"Authorization: Bearer {agent.key}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
        ]
        if names is not None:
            head.append(f"Arena-Arrays: {', '.join(names)}")
        side = self.side if ours else self.plain
        request = "\r\n".join(head).encode() + b"\r\n\r\n" + body
        answer = side.connect().ask(request)
        assert answer.head.keys() >= CONTRACT
        return answer

    def ask_raw(self, name, arrays, **more):
        body = b"".join(map(npy.encode, arrays.values()))
        return self.ask(name, body, kind=RAW, names=list(arrays), **more)

    def ask_json(self, name, request, **more):
        answer = self.ask(name, json.dumps(request).encode(), **more)
        assert answer.status == 200, answer.body
        assert answer.head["content-type"] == "application/json"
        return json.loads(answer.body)


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    with agents_of_every_shape(tmp_path_factory) as live, looping() as loop:
        app = live("box").world.app
        side, plain = Side(app, loop), Side(app, loop, is_ours=False)
        yield Agents(side, plain, live)
        side.settle()
        plain.settle()


def arrays_in(answer):
    assert answer.status == 200, answer.body
    assert answer.head["content-type"] == RAW
    names = tuple(answer.head["arena-arrays"].split(", "))
    return dict(zip(names, npy.decode_all(answer.body, names), strict=True))


def assert_identical(arrays, truth):
    assert arrays.keys() == truth.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (truth[name].dtype, truth[name].shape)
        assert array.tobytes() == truth[name].tobytes()


def in_json(name, answer):
    """Return the arrays of a JSON answer, by the names of the binary form."""
    if EVERY_SHAPE[name].predicts:
        assert answer.keys() == {
            "results",
            "batch_size",
            "inference_time_ms",
            "success",
        }
        return {"results": decoded(answer["results"])}
    assert answer.keys() <= {"action", "hidden_state"}
    return raw_of(name, answer)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "ASGI"])
@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_the_binary_form_answers_what_json_answers_bit_for_bit(agents, name, ours):
    request = whole_request(name)
    truth = in_json(name, agents.ask_json(name, request, ours=ours))
    answer = agents.ask_raw(name, raw_of(name, request), ours=ours)
    assert_identical(arrays_in(answer), truth)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "ASGI"])
def test_the_binary_form_draws_what_json_draws(agents, ours):
    name, drawn = "multi binary", set()
    array = EVERY_SHAPE[name].observe(20)
    for seed in range(3):
        how = {"ours": ours, "query": f"?mode=sample&seed={seed}"}
        said = agents.ask_json(name, {"obs": npy.to_base64(array)}, **how)
        alone = arrays_in(agents.ask(name, npy.encode(array), kind=RAW, **how))
        assert_identical(alone, in_json(name, said))
        drawn.add(alone["action"].tobytes())
    assert len(drawn) == 3


def test_a_hidden_state_goes_forth_and_back_over_an_episode(agents):
    name, state, texts = "recurrent", {}, None
    for _ in range(4):
        request = whole_request(name, texts)
        answer = agents.ask_json(name, request)
        texts = answer["hidden_state"]
        raw = raw_of(name, {**request, "hidden_state": None})
        arrays = arrays_in(agents.ask_raw(name, raw | state))
        assert_identical(arrays, in_json(name, answer))
        before, state = state, {k: v for k, v in arrays.items() if k != "action"}
        assert any((state[k] != v).any() for k, v in before.items()) == bool(before)
    assert f"hidden_state/{MAKER}" in state


def test_a_dead_agent_is_left_out_of_the_answer(agents):
    arrays = raw_of("agents", whole_request("agents"))
    alive = {k: v for k, v in arrays.items() if k.startswith("agents/speaker_0/")}
    assert arrays_in(agents.ask_raw("agents", alive)).keys() == {
        "agents/speaker_0/action"
    }


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "ASGI"])
@pytest.mark.parametrize(
    ("name", "field"), [("box", "obs"), ("image", "obs"), ("supervised", "inputs")]
)
def test_one_array_alone_needs_no_name(agents, name, field, ours):
    array = EVERY_SHAPE[name].observe(3)
    named = arrays_in(agents.ask_raw(name, {field: array}))
    answer = agents.ask(name, npy.encode(array), kind=RAW, ours=ours)
    assert_identical(arrays_in(answer), named)


@pytest.mark.parametrize("kind", [f"{RAW}; v=1", RAW.upper(), f" {RAW} "])
def test_the_content_type_is_read_as_others_read_it(agents, kind):
    body = npy.encode(EVERY_SHAPE["box"].observe(1))
    assert arrays_in(agents.ask("box", body, kind=kind)).keys() == {"action"}


BOX = EVERY_SHAPE["box"].observe(2)
WHOLE = npy.encode(BOX)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "ASGI"])
@pytest.mark.parametrize(
    ("names", "body", "said"),
    [
        (None, b"", "obs"),
        (None, WHOLE[:-1], "obs"),
        (None, WHOLE + b"x", "obs"),
        (None, b'{"obs": 1}', "obs"),
        (None, npy.encode(BOX[0]), "obs"),
        (None, npy.encode(BOX[:0]), "obs"),
        (None, npy.encode(BOX * np.float32(np.nan)), "obs"),
        (None, npy.encode(BOX[:, :1]), "obs"),
        (["obs", "action_mask"], WHOLE, "action_mask"),
        (["obs", "action_mask"], WHOLE + npy.encode(BOX), "action_mask"),
        (["obs", "obs"], WHOLE + WHOLE, "twice"),
        (["other"], WHOLE, "arrays"),
        (["obs/x"], WHOLE, "obs"),
        (["agents/x/obs"], WHOLE, "Arena-Arrays"),
        (["", ""], WHOLE, "Arena-Arrays"),
        (["ob s"], WHOLE, "Arena-Arrays"),
        ([f"a{n}" for n in range(257)], WHOLE, "Arena-Arrays"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_json_sentence(
    agents, names, body, said, ours
):
    answer = agents.ask("box", body, kind=RAW, names=names, ours=ours)
    assert (answer.status, answer.head["content-type"]) == (400, "application/json")
    said_so = json.loads(answer.body)
    assert said_so.keys() == {"detail"}
    assert said in said_so["detail"]
    assert said_so["detail"].endswith(".")
    assert not set("[]") & set(said_so["detail"])


def test_the_wrong_call_of_the_family_is_refused(agents):
    answer = agents.ask("box", WHOLE, kind=RAW, verb="predict")
    assert (answer.status, answer.head["content-type"]) == (400, "application/json")
    assert "get_action" in json.loads(answer.body)["detail"]


def test_a_hidden_state_of_other_weights_is_a_conflict(agents):
    arrays = raw_of("recurrent", whole_request("recurrent"))
    state = arrays_in(agents.ask_raw("recurrent", arrays))
    state = {k: v for k, v in state.items() if k != "action"}
    state[f"hidden_state/{MAKER}"] = state[f"hidden_state/{MAKER}"] ^ np.uint8(1)
    answer = agents.ask_raw("recurrent", arrays | state)
    assert (answer.status, answer.head["content-type"]) == (409, "application/json")
