"""The data plane, for observations and actions of every shape."""

import numpy as np
import pytest

import bundles
import shapes
from end_to_end.http_world import assert_detail, wire
from end_to_end.shapes_over_http import (
    action,
    agents_of_every_shape,
    answered,
    received,
)
from every_shape import ACTING, EVERY_SHAPE, assert_same, mapped, sent

PREDICTING = sorted(EVERY_SHAPE.keys() - set(ACTING))
NOT_FINITE = (np.nan, np.inf, 1e300)


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with agents_of_every_shape(tmp_path_factory) as live:
        yield live


def refused(endpoint, body, status=400, verb="get_action"):
    return assert_detail(endpoint.post(verb, json=body), status)


# --- what is answered ----------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("name", ACTING)
def test_every_row_gets_the_action_that_training_says(agent, name, rows):
    shape = EVERY_SHAPE[name]
    seen = shape.observe(rows)
    answer = answered(agent(name), seen, batch_size=rows)
    assert answer.keys() == {"action"} | set(
        ["hidden_state"] if "recurrent" in shape.flags else []
    )
    assert_same(received(answer["action"]), shape.truth(seen))


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("name", PREDICTING)
def test_every_row_gets_the_prediction_that_training_says(agent, name, rows):
    shape = EVERY_SHAPE[name]
    inputs = shape.observe(rows)
    answer = agent(name).post("predict", json={"inputs": sent(inputs)})
    body = answer.json()
    assert body.keys() == {"results", "batch_size", "inference_time_ms", "success"}
    assert body["batch_size"] == rows
    assert_same(received(body["results"]), shape.truth(inputs))


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_the_status_says_the_shape_and_nothing_else(agent, name):
    shape, live = EVERY_SHAPE[name], agent(name)
    status = live.world.client().get(f"{live.path}/status").json()
    assert status.keys() == {"success", "deployment_id", "instance_id", "agent"}
    flags = dict.fromkeys(("multi_agent", "llm", "recurrent", "supervised"), False)
    assert status["agent"] == {
        "algo": shape.algorithm,
        **flags,
        **dict.fromkeys(shape.flags, True),
    }


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_every_other_route_is_refused(agent, name):
    shape, live = EVERY_SHAPE[name], agent(name)
    other = "get_action" if shape.predicts else "predict"
    tree = sent(shape.observe(1))
    assert shape.verb in refused(live, {"obs": tree, "inputs": tree}, verb=other)
    for verb in ("generate", "generate_stream"):
        refused(live, {"prompts": ["a"], "prompt": "a"}, verb=verb)
    client = live.world.client(live.key)
    for method, verb in (("GET", ""), ("GET", "/mine"), ("DELETE", "/mine")):
        assert_detail(client.request(method, f"{live.path}/sessions{verb}"), 400)


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_keys_that_are_not_known_are_ignored(agent, name):
    shape = EVERY_SHAPE[name]
    seen = shape.observe(7)
    more = {"": [{}], "mode": "sample", "seed": 1, "temperature": float(2**70)}
    nulls = {"hidden_state": None, "action_mask": None, "env_defined_actions": None}
    body = {shape.field: sent(seen), **more, **nulls}
    answer = agent(name).post(shape.verb, json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert_same(received(told.get("action", told.get("results"))), shape.truth(seen))


@pytest.mark.parametrize("name", EVERY_SHAPE)
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(np.float64),
        np.asfortranarray,
        lambda a: a.astype(a.dtype.newbyteorder(">")),
    ],
    ids=["float64", "Fortran", "big-endian"],
)
def test_what_the_arrays_are_made_of_is_all_the_same(agent, name, change):
    shape = EVERY_SHAPE[name]
    seen = shape.observe(7)
    body = {shape.field: sent(mapped(change, seen))}
    told = agent(name).post(shape.verb, json=body).json()
    assert_same(received(told.get("action", told.get("results"))), shape.truth(seen))


# --- masks ---------------------------------------------------------------------------


def test_every_part_of_an_action_obeys_its_mask(agent):
    obs, mask = shapes.vectors(7, 4), shapes.multi_discrete_mask(7)
    truth = shapes.multi_discrete(shapes.MULTI_DISCRETE({"obs": obs})["logits"], mask)
    live = agent("multi discrete")
    assert_same(action(live, obs, action_mask=sent(mask)), truth)
    parts = [sent(mask[:, :2]), sent(mask[:, 2:].astype("f8"))]
    assert_same(action(live, obs, action_mask=parts), truth)


def test_parts_of_a_mask_may_be_of_different_numbers_even_odd_ones(agent):
    signalling = np.full((7, 2), 0x7F800001, "u4").view("f4")  # NaN, so not zero: legal
    parts = [sent(signalling), sent(np.ones((7, 3)))]
    obs = shapes.vectors(7, 4)
    acted = action(agent("multi discrete"), obs, action_mask=parts)
    assert_same(acted, EVERY_SHAPE["multi discrete"].truth(obs))


def test_a_bit_that_is_masked_is_never_one(agent):
    obs = shapes.vectors(64, 4)
    live = agent("multi binary")
    free = action(live, obs)
    assert free.any(axis=0).all()
    mask = np.random.default_rng(0).integers(0, 2, (64, 3))
    assert_same(action(live, obs, action_mask=sent(mask)), free * mask.astype("i1"))


def test_a_mask_counts_from_the_first_action_whatever_that_is_called(agent):
    seen = EVERY_SHAPE["dict"].observe(7)
    only = np.tile(np.eye(3, dtype=bool)[1], (7, 1))
    assert action(agent("dict"), seen, action_mask=sent(only)).tolist() == [0] * 7


MASKS = {
    "no parts": [],
    "too few parts": [wire(np.ones((7, 2)))],
    "too many parts": [wire(np.ones((7, n))) for n in (2, 3, 1)],
    "parts of the wrong widths": [wire(np.ones((7, n))) for n in (1, 1)],
    "parts without a second axis": [wire(np.ones(7))] * 5,
    "parts of different rows": [wire(np.ones((n, n))) for n in (2, 3)],
    "parts in parts": [[wire(np.ones((7, 2)))], [wire(np.ones((7, 3)))]],
    "a null part": [wire(np.ones((7, 2))), None],
    "an object": {"0": wire(np.ones((7, 2)))},
    "an empty object": {},
    "a number": 1,
    "false": False,
    "empty text": "",
    "a part that allows nothing": wire([[1, 1, 0, 0, 0]] * 7),
    "rows that broadcast": wire(np.ones((1, 5))),
    "no columns": wire(np.ones((7, 0))),
}


@pytest.mark.parametrize("what", MASKS)
def test_a_malformed_mask_is_refused(agent, what):
    body = {"obs": wire(shapes.vectors(7, 4)), "action_mask": MASKS[what]}
    assert "action_mask" in refused(agent("multi discrete"), body)


@pytest.mark.parametrize("name", ["box", "tuple"])
def test_a_box_of_actions_cannot_be_masked(agent, name):
    seen = sent(EVERY_SHAPE[name].observe(1))
    body = {"obs": seen, "action_mask": wire(np.ones((1, 2)))}
    assert "discrete" in refused(agent(name), body)


# --- observations --------------------------------------------------------------------


def replaced(tree, path, part):
    """Return a copy of the tree with something else at a path; ... takes it out."""
    if not path:
        return part
    first, *rest = path
    items = dict(tree) if isinstance(tree, dict) else dict(enumerate(tree))
    items[first] = replaced(items.get(first), rest, part)
    kept = {key: item for key, item in items.items() if item is not ...}
    return kept if isinstance(tree, dict) else list(kept.values())


SEEN = sent(EVERY_SHAPE["dict"].observe(2))
OBSERVATIONS = {
    "a key is missing": (["level"], ...),
    "a key too many": (["more"], SEEN["level"]),
    "a list for an object": ([], list(SEEN.values())),
    "an object for a list": (["inner"], dict(zip("01", SEEN["inner"], strict=True))),
    "a text for an object": ([], SEEN["level"]),
    "an object for an array": (["image"], SEEN),
    "a place is missing": (["inner", 1], ...),
    "a place too many": (["inner", 2], SEEN["level"]),
    "an empty list": (["inner"], []),
    "null": ([], None),
    "a null part": (["image"], None),
    "a null in a list": (["inner", 0], None),
    "a number": (["level"], 1),
    "a list of numbers": (["level"], [1, 1]),
    "rows that differ": (["level"], wire(np.zeros(3, int))),
    "one row for all": (["level"], wire(np.zeros(1, int))),
    "no rows": (["position"], wire(np.zeros((0, 2)))),
    "another width": (["position"], wire(np.zeros((2, 3)))),
    "an axis too many": (["level"], wire(np.zeros((2, 1), int))),
    "channels first": (["image"], wire(np.zeros((2, 2, 4, 3), "u1"))),
    "a pixel too bright": (["image"], wire(np.full((2, 4, 3, 2), 256))),
    "a pixel below black": (["image"], wire(np.full((2, 4, 3, 2), -1))),
    "half a pixel": (["image"], wire(np.full((2, 4, 3, 2), 0.5))),
    "not in the Discrete": (["level"], wire([0, 3])),
    "below the Discrete": (["level"], wire([0, -1])),
    "half of a Discrete": (["level"], wire([0, 0.5])),
    "no bit": (["inner", 0], wire([[0, 1, 2]] * 2)),
    "not in the MultiDiscrete": (["inner", 1], wire([[2, 0]] * 2)),
    **{f"{n} in {at}": ([at], wire(np.full((2, 2), n)))
       for n in NOT_FINITE for at in ("position",)},
    **{f"{n} for a level": (["level"], wire([0, n])) for n in NOT_FINITE},
}  # fmt: skip


@pytest.mark.parametrize("what", OBSERVATIONS)
def test_an_observation_that_is_not_of_the_space_is_refused(agent, what):
    path, part = OBSERVATIONS[what]
    detail = refused(agent("dict"), {"obs": replaced(SEEN, path, part)})
    assert "obs" in detail


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_a_tuple_has_as_many_parts_as_its_space(agent, parts):
    body = {"obs": [wire(np.zeros((1, 2)))] * parts}
    assert "2 parts" in refused(agent("tuple"), body)


@pytest.mark.parametrize("number", NOT_FINITE)
@pytest.mark.parametrize("name", ["supervised", "latent", "box"])
def test_no_number_that_is_not_finite_reaches_the_weights(agent, name, number):
    shape = EVERY_SHAPE[name]
    seen = shape.observe(7).astype("f8")
    seen[3, 1] = number
    assert shape.field in refused(
        agent(name), {shape.field: wire(seen)}, verb=shape.verb
    )


def test_more_rows_than_any_batch_has_are_too_many(agent):
    body = {"obs": wire(np.zeros((65_537, 4), "f2"))}
    assert "65536" in refused(agent("multi binary"), body, status=413)


# --- several agents ------------------------------------------------------------------


def test_an_agent_that_is_dead_or_absent_changes_nothing_for_the_others(agent):
    seen = shapes.meeting(7)
    truth = shapes.agent_actions(seen)
    live = agent("agents")
    dead = {**seen, "listener_0": None}
    assert_same(action(live, dead), {**truth, "listener_0": None})
    for name, obs in seen.items():
        assert_same(action(live, {name: obs}), {name: truth[name]})


def test_when_all_are_dead_nobody_acts(agent):
    nobody = dict.fromkeys(shapes.AGENTS)
    assert answered(agent("agents"), nobody, batch_size=1) == {"action": nobody}


def test_each_agent_has_a_mask_of_its_own(agent):
    seen = shapes.meeting(7)
    best = shapes.agent_actions(seen)["speaker_0"]
    masks = {"speaker_0": wire(best[:, None] != np.arange(3)), "listener_0": None}
    logits = shapes.SPEAKER({"obs": seen["speaker_0"]})["logits"]
    logits[np.arange(7), best] = -np.inf
    acted = action(agent("agents"), seen, action_mask=masks)
    truth = {**shapes.agent_actions(seen), "speaker_0": logits.argmax(axis=1)}
    assert_same(acted, truth)


def test_what_the_environment_defines_is_what_an_agent_does(agent):
    seen = shapes.meeting(7)
    truth = shapes.agent_actions(seen)
    spoken, heard = np.full(7, np.nan), np.full((7, 2), np.nan)
    spoken[2], heard[5] = (truth["speaker_0"][2] + 1) % 3, (0.25, -0.5)
    forced = {
        "speaker_0": wire(spoken), "listener_0": wire(heard), "listener_1": None,
    }  # fmt: skip
    acted = action(agent("agents"), seen, env_defined_actions=forced)
    truth["speaker_0"][2], truth["listener_0"][5] = spoken[2], heard[5]
    assert_same(acted, truth)


def test_what_is_defined_for_everybody_is_done_by_everybody(agent):
    seen = shapes.meeting(7)
    forced = {
        "speaker_0": np.full(7, 2, "u1"),
        "listener_0": np.zeros((7, 2), "f4"),
        "listener_1": np.ones((7, 2), int),
    }
    acted = action(agent("agents"), seen, env_defined_actions=sent(forced))
    for name, did in acted.items():
        np.testing.assert_array_equal(did, forced[name])
    column = {"speaker_0": wire(forced["speaker_0"][:, None])}
    acted = action(agent("agents"), seen, env_defined_actions=column)
    assert acted["speaker_0"].tolist() == [2] * 7


MEETING = sent(shapes.meeting(7))
AGENTS_REQUESTS = {
    "one array for all": {"obs": MEETING["speaker_0"]},
    "a list of agents": {"obs": list(MEETING.values())},
    "nobody": {"obs": {}},
    "a stranger": {"obs": {**MEETING, "listener_2": MEETING["listener_1"]}},
    "rows that differ": {"obs": {**MEETING, "speaker_0": wire(np.zeros((6, 3)))}},
    "another batch size": {"obs": MEETING, "batch_size": 6},
    "an observation of another": {
        "obs": {**MEETING, "speaker_0": MEETING["listener_0"]}
    },
    **{
        f"{key} {what}": {"obs": MEETING, key: value}
        for key in ("action_mask", "env_defined_actions", "hidden_state")
        for what, value in {
            "is a text": wire(np.ones((7, 3))),
            "is empty text": "",
            "is false": False,
            "is zero": 0,
            "is an empty list": [],
            "is of a stranger": {"speaker_1": wire(np.ones((7, 3)))},
        }.items()
    },
    **{
        f"{key} of an agent is {what}": {"obs": MEETING, key: {"speaker_0": value}}
        for key in ("action_mask", "env_defined_actions")
        for what, value in {
            "a number": 1,
            "an empty list": [],
            "an object": {},
            "of other rows": wire(np.ones(6)),
            "without rows": wire(np.float64(1)),
            "of a wrong width": wire(np.ones((7, 2))),
        }.items()
    },
    **{
        f"defined: {what}": {"obs": MEETING, "env_defined_actions": {name: value}}
        for what, name, value in (
            ("an axis too many", "speaker_0", wire(np.ones((7, 1, 1)))),
            ("an axis too few", "listener_0", wire(np.ones(7))),
            ("what broadcasts", "listener_0", wire(np.ones((7, 1)))),
            ("no such action", "speaker_0", wire(np.full(7, 3))),
            ("half an action", "speaker_0", wire(np.full(7, 0.5))),
            ("beyond the bounds", "listener_0", wire(np.full((7, 2), 1.5))),
            ("infinity", "listener_0", wire(np.full((7, 2), np.inf))),
            ("too large a number", "listener_0", wire(np.full((7, 2), 1e300))),
        )
    },
    "a mask for a Box": {
        "obs": MEETING, "action_mask": {"listener_0": wire(np.ones((7, 2)))},
    },
}  # fmt: skip


@pytest.mark.parametrize("what", AGENTS_REQUESTS)
def test_a_malformed_request_of_several_agents_is_refused(agent, what):
    refused(agent("agents"), AGENTS_REQUESTS[what])


def test_agents_who_share_weights_answer_as_if_each_were_alone(agent):
    seen = {a: o for a, o in shapes.meeting(64).items() if a != "speaker_0"}
    together = action(agent("agents"), seen)
    for name, obs in seen.items():
        assert_same(action(agent("agents"), {name: obs})[name], together[name])


# --- a single agent ------------------------------------------------------------------


def test_what_is_defined_for_agents_means_nothing_to_a_single_one(agent):
    obs = bundles.observations(2, 4)
    for nothing in ({}, [], "x", {"agent_0": None}):
        acted = action(agent("multi binary"), obs, env_defined_actions=nothing)
        assert_same(acted, EVERY_SHAPE["multi binary"].truth(obs))
