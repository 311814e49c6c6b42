"""The public client's class `Agent` drives agents of every shape, on one real server.

Each version of agilerl-arena runs in an environment of its own, as in
`test_public_client.py`; what it gets must be what NumPy says of the same weights.
"""

from collections.abc import Iterator
from contextlib import closing
from functools import cache
from uuid import UUID

import numpy as np
import pytest

import shapes
from end_to_end.processes import Client, Place, Process, serving
from end_to_end.public_client import (
    NEW,
    OLD,
    FirstGeneration,
    Live,
    PublicClient,
    check_routes,
    live_agent,
    opened,
    taken,
    told,
)
from every_shape import ACTING, EVERY_SHAPE, assert_same, mapped

pytestmark = pytest.mark.slow

BATCHES = (7, 64)


@pytest.fixture(scope="module", params=[OLD, NEW])
def client(request, tmp_path_factory) -> Iterator[PublicClient]:
    with opened(request.param, request, tmp_path_factory) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Process]:
    with serving(Place(tmp_path_factory.mktemp("server"))) as process:
        yield process


@pytest.fixture
def control(server) -> Iterator[Client]:
    with closing(server.client()) as client:
        yield client


@pytest.fixture(scope="module")
def live(server, tmp_path_factory):
    """Puts an agent of a shape live when it is first asked for."""

    @cache
    def put_live(name: str) -> Live:
        shape = EVERY_SHAPE[name]
        bundle = shape.write(tmp_path_factory.mktemp("bundle"))
        with closing(server.client()) as control:
            return live_agent(control, bundle, shape.algorithm)

    return put_live


@pytest.fixture(scope="module")
def foreign(server, tmp_path_factory) -> Live:
    """A recurrent policy of other weights."""
    bundle = tmp_path_factory.mktemp("foreign")
    shapes.recurrent_policy(bundle, network=shapes.Recurrent(seed=5))
    (bundle / "golden.npz").unlink()  # it says what the weights of others would
    with closing(server.client()) as control:
        return live_agent(control, bundle, "Recurrent PPO")


def only(tree):
    """Return the only row of a tree."""
    return mapped(lambda array: array[0], tree)


def call(method, tree, **options):
    given = {
        name: value if isinstance(value, bool) else told(value)
        for name, value in options.items()
    }
    return {"method": method, "tree": told(tree), **given}


def asked(client: PublicClient, live: Live, *calls):
    """Return what calls came to."""
    return client("ask", url=live.url, key=live.key, calls=calls)["calls"]


def got(met):
    """Return the arrays and what comes with them, of a call that was answered."""
    assert "returned" in met, met
    first, second = met["returned"]
    return taken(first), second


# --- what every shape does -----------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_one_observation_gets_what_training_says(client, live, name):
    shape = EVERY_SHAPE[name]
    seen = shape.observe(1)
    (met,) = asked(client, live(name), call(shape.verb, only(seen)))
    answer, _ = got(met)
    truth = only(shape.truth(seen))
    assert_same(answer, mapped(np.asarray, truth))


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_a_batch_of_observations_gets_what_training_says(client, live, name):
    shape = EVERY_SHAPE[name]
    seen = [shape.observe(rows) for rows in BATCHES]
    calls = [call(shape.verb, tree, batched=True) for tree in seen]
    for tree, met in zip(seen, asked(client, live(name), *calls), strict=True):
        answer, metadata = got(met)
        assert_same(answer, shape.truth(tree))
        if shape.predicts:
            assert metadata.pop("inference_time_ms") >= 0
            rows = len(answer)
            assert metadata == {"batch_size": rows, "success": True}


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_the_status_is_what_the_clients_own_model_takes(client, live, name):
    shape, agent = EVERY_SHAPE[name], live(name)
    status = client("ask", url=agent.url, key=agent.key, calls=[])["status"]
    assert UUID(status.pop("instance_id"))
    flags = dict.fromkeys(("multi_agent", "llm", "recurrent", "supervised"), False)
    described = {**flags, **dict.fromkeys(shape.flags, True), "algo": shape.algorithm}
    assert status == {
        "success": True, "deployment_id": agent.deployment_id, "agent": described,
    }  # fmt: skip


@pytest.mark.parametrize("name", EVERY_SHAPE)
def test_each_shape_has_one_route_and_no_other(client, live, name):
    shape, agent = EVERY_SHAPE[name], live(name)
    seen = told(only(shape.observe(1)))
    met = client("wrong_routes", url=agent.url, key=agent.key, tree=seen)
    # 0.1.3 takes no status that does not say what the agent is.
    assert ("unknown" in met) == (client.version == NEW)
    refusal = "This deployment acts: call get_action, not {}."
    if shape.predicts:
        refusal = "This deployment predicts: call predict, not {}."
    check_routes(met, shape.verb, refusal)


# --- masks ---------------------------------------------------------------------------


def masked(client, agent, obs, mask):
    """Return the actions of a batch and of its first row alone, under masks."""
    batch, one = asked(
        client,
        agent,
        call("get_action", obs, batched=True, info={"action_mask": mask}),
        call("get_action", only(obs), info={"action_mask": only(mask)}),
    )
    return got(batch)[0], got(one)[0]


def test_a_masked_action_is_never_chosen(client, live):
    obs = shapes.images(7)
    logits = shapes.IMAGE({"obs": obs})["logits"]
    mask = logits.argmax(axis=1)[:, None] != np.arange(4)
    truth = np.where(mask, logits, -np.inf).argmax(axis=1)
    for kind in ("?", "i1", "f8"):
        batch, one = masked(client, live("image"), obs, mask.astype(kind))
        assert_same(batch, truth)
        assert one == truth[0]


def test_every_part_of_an_action_obeys_its_mask(client, live):
    obs, mask = shapes.vectors(7, 4), shapes.multi_discrete_mask(7)
    logits = shapes.MULTI_DISCRETE({"obs": obs})["logits"]
    truth = shapes.multi_discrete(logits, mask)
    for masks in (mask, (mask[:, :2], mask[:, 2:])):
        batch, one = masked(client, live("multi discrete"), obs, masks)
        assert_same(batch, truth)
        assert_same(one, truth[0])


def test_a_bit_that_is_masked_is_never_one(client, live):
    obs = shapes.vectors(7, 4)
    mask = np.random.default_rng(0).integers(0, 2, (7, 3)).astype("i1")
    batch, one = masked(client, live("multi binary"), obs, mask)
    truth = EVERY_SHAPE["multi binary"].truth(obs) * mask
    assert_same(batch, truth)
    assert_same(one, truth[0])


def test_a_mask_that_allows_nothing_or_is_misplaced_is_refused(client, live):
    nothing = {"action_mask": np.zeros(4)}
    (met,) = asked(client, live("image"), call("get_action", *_image(), info=nothing))
    assert met["status"] == 400
    assert "row 0" in met["text"]
    obs = only(shapes.vectors(1, 3))
    bounds = {"action_mask": np.ones(2)}
    (met,) = asked(client, live("box"), call("get_action", obs, info=bounds))
    assert met["status"] == 400


def _image():
    return (only(shapes.images(1)),)


# --- memory --------------------------------------------------------------------------


def played(client, agent, recorded, *, batched=True, ended=None):
    """Return the actions and hidden states of the steps that are recorded."""
    shaped = (lambda tree: tree) if batched else only
    steps = [
        {
            "obs": told(shaped(step["obs"])),
            "action_mask": told(shaped(step.get("action_mask"))),
            "ended": (ended or {}).get(number, []),
        }
        for number, step in enumerate(recorded)
    ]
    met = client("episode", url=agent.url, key=agent.key, steps=steps, batched=batched)
    return [taken(step["action"]) for step in met], [
        taken(step["hidden_state"]) for step in met
    ]


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("rows", BATCHES)
def test_episodes_side_by_side_go_as_in_training(client, live, rows, is_masked):
    recorded = list(shapes.episode(shapes.RECURRENT, rows, masked=is_masked))
    actions, states = played(client, live("recurrent"), recorded)
    for step, action, state in zip(recorded, actions, states, strict=True):
        assert_same(action, step["action"])
        assert_same(state["h"], step["outputs/h_next"])


@pytest.mark.parametrize("is_masked", [False, True])
def test_one_episode_goes_as_in_training(client, live, is_masked):
    recorded = list(shapes.episode(shapes.RECURRENT, 1, masked=is_masked))
    actions, states = played(client, live("recurrent"), recorded, batched=False)
    for step, action, state in zip(recorded, actions, states, strict=True):
        assert action == step["action"][0]
        assert_same(state["h"], step["outputs/h_next"][0])


def test_an_environment_of_many_begins_anew_by_zeros(client, live):
    recorded = list(shapes.episode(shapes.RECURRENT, 7))
    ended = {1: [0, 4], 3: [4]}
    actions, _ = played(client, live("recurrent"), recorded, ended=ended)
    hidden = np.zeros((7, 1, shapes.RECURRENT.width), "f4")
    for number, (step, action) in enumerate(zip(recorded, actions, strict=True)):
        hidden[ended.get(number, [])] = 0
        logits, hidden = shapes.RECURRENT(step["obs"], hidden)
        assert_same(action, logits.argmax(axis=1))


def test_what_other_weights_remember_is_a_conflict(client, live, foreign):
    obs = shapes.vectors(7, 3)
    _, states = played(client, foreign, [{"obs": obs}])
    handed = call("get_action", obs, batched=True, hidden_state=states[0])
    met, anew = asked(
        client, live("recurrent"), handed, call("get_action", obs, batched=True)
    )
    assert (met["error"], met["status"]) == ("ArenaInferenceError", 409)
    assert "begin the episode anew" in met["text"]
    assert_same(got(anew)[0], EVERY_SHAPE["recurrent"].truth(obs))


# --- several agents ------------------------------------------------------------------


def test_a_dead_agent_does_nothing(client, live):
    seen = shapes.meeting(7)
    dead = {**seen, "listener_0": None}
    truth = {**shapes.agent_actions(seen), "listener_0": None}
    nobody = dict.fromkeys(seen)
    batch, one, none = asked(
        client,
        live("agents"),
        call("get_action", dead, batched=True),
        call("get_action", only(dead)),
        call("get_action", nobody),
    )
    assert_same(got(batch)[0], truth)
    assert_same(got(one)[0], only(truth))
    assert got(none)[0] == nobody


def test_an_agent_that_is_absent_is_not_answered_for(client, live):
    seen = {"listener_1": shapes.meeting(7)["listener_1"]}
    (met,) = asked(client, live("agents"), call("get_action", seen, batched=True))
    assert_same(got(met)[0], shapes.agent_actions(seen))


def test_each_agent_has_a_mask_of_its_own(client, live):
    seen = shapes.meeting(7)
    logits = shapes.SPEAKER({"obs": seen["speaker_0"]})["logits"]
    mask = logits.argmax(axis=1)[:, None] != np.arange(3)
    truth = {
        **shapes.agent_actions(seen),
        "speaker_0": np.where(mask, logits, -np.inf).argmax(axis=1),
    }
    masks = {"speaker_0": mask, "listener_0": None}
    batch, one = masked(client, live("agents"), seen, masks)
    assert_same(batch, truth)
    assert_same(one, only(truth))


def test_one_mask_for_all_agents_is_refused_by_the_client_itself(client, live):
    info = {"action_mask": np.ones((7, 3))}
    seen = shapes.meeting(7)
    (met,) = asked(
        client, live("agents"), call("get_action", seen, batched=True, info=info)
    )
    assert (met["error"], met["status"]) == ("ArenaInferenceError", 0)


def test_what_the_environment_defines_is_what_an_agent_does(client, live):
    seen = shapes.meeting(7)
    truth = shapes.agent_actions(seen)
    spoken, heard = np.full(7, np.nan), np.full((7, 2), np.nan)
    spoken[::2], heard[0] = 2, (0.25, -0.5)
    forced = {"speaker_0": spoken, "listener_0": heard, "listener_1": None}
    truth["speaker_0"][::2], truth["listener_0"][0] = 2, (0.25, -0.5)
    batch, told_by_info, one, nothing = asked(
        client,
        live("agents"),
        call("get_action", seen, batched=True, env_defined_actions=forced),
        call("get_action", seen, batched=True, info={"env_defined_actions": forced}),
        call("get_action", only(seen), env_defined_actions=only(forced)),
        call("get_action", seen, batched=True, env_defined_actions={}),
    )
    assert_same(got(batch)[0], truth)
    assert_same(got(told_by_info)[0], truth)
    assert got(one)[0]["speaker_0"] == 2
    assert got(one)[0]["listener_0"].tolist() == [0.25, -0.5]
    assert_same(got(nothing)[0], shapes.agent_actions(seen))


def test_what_is_no_action_is_not_done_whoever_defines_it(client, live):
    seen = shapes.meeting(1)
    (met,) = asked(
        client,
        live("agents"),
        call("get_action", only(seen), env_defined_actions={"speaker_0": np.array(3)}),
    )
    assert met["status"] == 400
    assert "env_defined_actions" in met["text"]


# --- the first generation ------------------------------------------------------------


def test_the_first_generation_remembers_too(control, live):
    agent = live("recurrent")
    first = FirstGeneration(control, agent.url, agent.key)
    hidden = None
    for step in shapes.episode(shapes.RECURRENT, 1, masked=True):
        status, action, hidden = first.get_action(
            step["obs"][0], hidden, step["action_mask"][0]
        )
        assert status == 200
        assert action == step["action"][0]
        assert_same(hidden["h"], step["outputs/h_next"][0])


@pytest.mark.parametrize("name", ACTING)
def test_the_first_generation_sends_nulls_to_every_shape(control, live, name):
    shape = EVERY_SHAPE[name]
    seen, agent = shape.observe(1), live(name)
    first = FirstGeneration(control, agent.url, agent.key)
    status, action, hidden = first.get_action(only(seen))
    assert status == 200
    assert_same(action, mapped(np.asarray, only(shape.truth(seen))))
    assert (hidden is not None) == ("recurrent" in shape.flags)
