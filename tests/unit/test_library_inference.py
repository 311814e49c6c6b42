"""Calls in this process, on arrays: of every shape, batched and not."""

import json

import numpy as np
import pytest

from arena_core import Conflict, Guard, Rejected, Unavailable, final
from arena_core.application.hidden_states import MAKER
from arena_core.domain.errors import NotFinite
from arena_core.domain.swap import Phase
from unit import recurrent_bundles
from unit.recurrent_bundles import SCOUT, TWO_STATES, team_seen
from unit.scenes import Scene

import bundles
import shapes
from shapes import RECURRENT, STEPS, vectors

ROWS = 4
WRITERS = {
    "cartpole": bundles.cartpole,
    "dict": shapes.dict_policy,
    "tuple": shapes.tuple_policy,
    "image": shapes.image_policy,
    "multi_discrete": shapes.multi_discrete_policy,
    "multi_binary": shapes.multi_binary_policy,
    "scaled": shapes.scaled_policy,
    "recurrent": shapes.recurrent_policy,
    "two_states": recurrent_bundles.two_states_policy,
    "several": shapes.multi_agent_policy,
    "team": recurrent_bundles.team_policy,
    "regressor": bundles.regressor,
    "latent": shapes.latent_policy,
}


def live(scene, name, write):
    folder = write(scene.folder / name)
    algorithm = json.loads((folder / "checkpoint.json").read_text())["algorithm"]
    said = {"of": name, "algorithm": algorithm, "bundle": folder}
    if name in {"regressor", "latent"}:
        agent = scene.live(scene.saved_model(name, **said))
    else:
        agent = scene.live(scene.agent(name, **said))
    assert agent.deployment.connected, agent.deployment.reason
    return scene.arena.inference(agent.id)


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    scene = Scene.open(tmp_path_factory.mktemp("scene"))
    yield {name: live(scene, name, write) for name, write in WRITERS.items()}
    scene.arena.close()


def dict_seen(rows=ROWS):
    leaves = shapes.dict_observations(rows)
    inner = (leaves.pop("inner/0"), leaves.pop("inner/1"))
    return leaves | {"inner": inner}


def tuple_seen():
    return tuple(shapes.tuple_observations(ROWS).values())


def first(tree):
    """Return the first row of every array."""
    if isinstance(tree, dict):
        return {key: first(part) for key, part in tree.items()}
    return tuple(map(first, tree)) if isinstance(tree, tuple) else tree[0]


CASES = {
    "cartpole": (
        bundles.observations(ROWS, 4),
        lambda obs: bundles.CARTPOLE(obs).argmax(axis=1),
    ),
    "dict": (
        dict_seen(),
        lambda _: shapes.DICT(shapes.dict_observations(ROWS))["logits"].argmax(1) - 1,
    ),
    "tuple": (
        tuple_seen(),
        lambda _: shapes.rescaled(
            shapes.TUPLE(shapes.tuple_observations(ROWS))["mean"]
        ),
    ),
    "image": (
        shapes.images(ROWS),
        lambda obs: shapes.IMAGE({"obs": obs})["logits"].argmax(axis=1),
    ),
    "multi_discrete": (
        vectors(ROWS, 4),
        lambda obs: shapes.multi_discrete(
            shapes.MULTI_DISCRETE({"obs": obs})["logits"], np.ones((ROWS, 5), bool)
        ),
    ),
    "multi_binary": (
        vectors(ROWS, 4),
        lambda obs: shapes.MULTI_BINARY({"obs": obs})["logits"] > 0,
    ),
    "scaled": (
        vectors(ROWS, 3),
        lambda obs: shapes.rescaled(shapes.SCALED({"obs": obs})["mean"]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_row_of_a_batch_is_answered(agents, name):
    seen, truth = CASES[name]
    actions = agents[name].get_action(seen, batched=True)
    assert np.allclose(actions, truth(seen), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_one_observation_is_answered_without_a_batch(agents, name):
    seen, truth = CASES[name]
    action = agents[name].get_action(first(seen))
    assert np.shape(action) == np.shape(truth(seen))[1:]
    assert np.allclose(action, truth(seen)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_policy_without_memory_has_no_state_to_hand_back(agents, name):
    seen, _ = CASES[name]
    action, state = agents[name].get_action_and_state(first(seen), None)
    assert np.array_equal(action, agents[name].get_action(first(seen)))
    assert state is None


def test_lists_are_as_good_as_arrays(agents):
    obs = vectors(2, 4)
    actions = agents["cartpole"].get_action(obs.tolist(), batched=True)
    assert actions.tolist() == bundles.CARTPOLE(obs).argmax(axis=1).tolist()
    one = agents["tuple"].get_action([[0.5, 0.5], 2])
    assert np.array_equal(one, agents["tuple"].get_action(([0.5, 0.5], 2)))


# --- masks and sampling --------------------------------------------------------------


def test_a_mask_is_of_one_observation_or_of_a_batch(agents):
    obs = bundles.observations(ROWS, 4)
    greedy = bundles.CARTPOLE(obs).argmax(axis=1)
    mask = greedy[:, None] != np.arange(2)
    call = agents["cartpole"].get_action
    assert call(obs, batched=True, action_mask=mask).tolist() == (1 - greedy).tolist()
    assert call(obs[0], action_mask=mask[0].tolist()) == 1 - greedy[0]


def test_a_mask_of_several_parts_is_a_tuple_of_them_or_all_side_by_side(agents):
    obs, mask = vectors(ROWS, 4), shapes.multi_discrete_mask(ROWS)
    logits = shapes.MULTI_DISCRETE({"obs": obs})["logits"]
    expected = shapes.multi_discrete(logits, mask).tolist()
    call = agents["multi_discrete"].get_action
    parts = (mask[:, :2], mask[:, 2:])
    assert call(obs, batched=True, action_mask=mask).tolist() == expected
    assert call(obs, batched=True, action_mask=parts).tolist() == expected
    assert call(obs[0], action_mask=mask[0]).tolist() == expected[0]
    assert call(obs[0], action_mask=first(parts)).tolist() == expected[0]


@pytest.mark.parametrize("name", ["cartpole", "multi_discrete", "multi_binary"])
def test_a_seed_draws_the_same_again(agents, name):
    obs = vectors(64, 4)

    def drawn(seed):
        call = agents[name].get_action
        return call(obs, batched=True, mode="sample", seed=seed).tolist()

    assert drawn(3) == drawn(3) != drawn(4)
    assert drawn(None) != drawn(None)


def test_a_sample_of_a_box_stays_within_it(agents):
    actions = agents["scaled"].get_action(vectors(500, 3), batched=True, mode="sample")
    assert ((actions >= shapes.LOW) & (actions <= shapes.HIGH)).all()
    assert len(np.unique(actions)) > 900


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"mode": "random"}, "mode"),
        ({"mode": None}, "mode"),
        ({"seed": 1}, "seed"),
        ({"mode": "sample", "seed": -1}, "seed"),
        ({"mode": "sample", "seed": 2**64}, "seed"),
        ({"mode": "sample", "seed": 1.5}, "seed"),
        ({"mode": "sample", "seed": True}, "seed"),
        ({"mode": "sample", "seed": "one"}, "seed"),
        ({"mode": "sample", "seed": ""}, "seed"),
        ({"action_mask": [1, 1, 1]}, "action_mask"),
        ({"action_mask": ["a", "b"]}, "action_mask"),
        ({"action_mask": [[1], [1, 1]]}, "action_mask"),
        ({"action_mask": {"a": [1, 1]}}, "action_mask"),
        ({"action_mask": ()}, "action_mask"),
        ({"action_mask": ([1], [1])}, "action_mask"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused(agents, said, field):
    with pytest.raises(Rejected) as refused:
        agents["cartpole"].get_action([0.0] * 4, **said)
    assert refused.value.field == field


def test_the_largest_seed_is_a_seed(agents):
    action = agents["cartpole"].get_action([0.0] * 4, mode="sample", seed=2**64 - 1)
    assert action in (0, 1)


# --- memory --------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [True, False])
def test_a_state_is_handed_back_from_step_to_step(agents, batched):
    call, state = agents["recurrent"].get_action_and_state, None
    hidden = np.zeros((ROWS, 1, RECURRENT.width), "f4")
    for step in range(STEPS):
        obs = vectors(ROWS, 3, seed=step)
        logits, hidden = RECURRENT(obs, hidden)
        seen = obs if batched else obs[0]
        action, state = call(seen, state, batched=batched)
        expected = logits.argmax(axis=1)
        assert np.array_equal(action, expected if batched else expected[0])
    assert np.allclose(state["h"], hidden if batched else hidden[0], atol=1e-5)
    assert state[MAKER].shape == ((ROWS, 32) if batched else (32,))


def test_a_state_of_several_arrays_is_handed_back_whole(agents):
    call, state = agents["two_states"].get_action_and_state, None
    h = c = np.zeros((1, recurrent_bundles.LAYERS, recurrent_bundles.SIZE), "f4")
    for step in range(STEPS):
        obs = vectors(1, 3, seed=step)
        logits, h, c = TWO_STATES(obs, h, c)
        action, state = call(obs[0], state)
        assert action == logits[0].argmax()
    assert np.allclose(state["c"], c[0], atol=1e-5)


def test_a_recurrent_policy_does_not_act_without_its_state_being_asked_for(agents):
    for name, seen in (("recurrent", vectors(1, 3)[0]), ("team", team_seen(1, 0))):
        with pytest.raises(Rejected, match="call get_action_and_state"):
            agents[name].get_action(seen)


def test_a_state_of_other_weights_is_a_conflict(agents):
    _, state = agents["recurrent"].get_action_and_state(vectors(1, 3)[0], None)
    foreign = state | {MAKER: state[MAKER] + np.uint8(1)}
    with pytest.raises(Conflict, match="begin the episode anew"):
        agents["recurrent"].get_action_and_state(vectors(1, 3)[0], foreign)


@pytest.mark.parametrize(
    "state", [{}, {"h": 1}, "text", [1], np.zeros(3), {"h": "a", MAKER: "b"}]
)
def test_a_state_that_was_never_answered_is_refused(agents, state):
    for name, seen in (
        ("recurrent", vectors(1, 3)[0]),
        ("team", first(team_seen(1, 0))),
    ):
        if name == "team" and isinstance(state, dict):
            told = {"scout_0": state}
        else:
            told = state
        with pytest.raises(Rejected) as refused:
            agents[name].get_action_and_state(seen, told)
        assert refused.value.field.startswith("hidden_state")


# --- several agents ------------------------------------------------------------------


@pytest.mark.parametrize("batched", [True, False])
def test_several_agents_are_told_apart_by_name(agents, batched):
    seen = shapes.meeting(ROWS)
    truth = shapes.agent_actions(seen)
    seen, truth = (seen, truth) if batched else (first(seen), first(truth))
    dead = seen | {"listener_0": None}
    actions = agents["several"].get_action(dead, batched=batched)
    assert actions["listener_0"] is None
    for agent in ("speaker_0", "listener_1"):
        assert np.shape(actions[agent]) == np.shape(truth[agent])
        assert np.allclose(actions[agent], truth[agent], atol=1e-5)


def test_agents_are_masked_and_forced_by_name(agents):
    seen = first(shapes.meeting(1))
    greedy = agents["several"].get_action(seen)
    masked = agents["several"].get_action(
        seen,
        action_mask={"speaker_0": np.arange(3) != greedy["speaker_0"]},
        env_defined_actions={"listener_0": [0.5, np.nan], "listener_1": None},
    )
    assert masked["speaker_0"] != greedy["speaker_0"]
    assert masked["listener_0"].tolist() == [0.5, greedy["listener_0"][1]]
    assert np.array_equal(masked["listener_1"], greedy["listener_1"])


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"action_mask": np.ones(3)}, "action_mask"),
        ({"action_mask": [1, 1, 1]}, "action_mask"),
        ({"env_defined_actions": np.ones(3)}, "env_defined_actions"),
        ({"env_defined_actions": {"speaker_0": "go"}}, "env_defined_actions.speaker_0"),
        (
            {"env_defined_actions": {"speaker_0": [1, 2]}},
            "env_defined_actions.speaker_0",
        ),
        ({"env_defined_actions": {7: 1}}, "env_defined_actions.7"),
    ],
)
def test_what_is_not_said_by_agent_is_refused(agents, said, field):
    with pytest.raises(Rejected) as refused:
        agents["several"].get_action(first(shapes.meeting(1)), **said)
    assert refused.value.field == field


def test_a_team_hands_back_a_state_for_each_that_remembers(agents):
    call, state = agents["team"].get_action_and_state, None
    hidden = np.zeros((1, 1, SCOUT.width), "f4")
    for step in range(STEPS):
        seen = team_seen(1, step)
        logits, hidden = SCOUT(seen["scout_1"], hidden)
        actions, state = call(first(seen), state)
        assert actions["scout_1"] == logits[0].argmax()
        assert state.keys() == {"scout_0", "scout_1"}
    assert np.allclose(state["scout_1"]["h"], hidden[0], atol=1e-5)
    actions, state = call({"guard": first(team_seen(1, 0))["guard"]}, None)
    assert state is None


# --- predictions ---------------------------------------------------------------------


def decoded(inputs):
    return shapes.DECODER(shapes.ENCODER({"obs": inputs}))["boxes"]


@pytest.mark.parametrize(
    ("name", "width", "truth"),
    [("regressor", 3, bundles.REGRESSOR), ("latent", 4, decoded)],
)
def test_a_prediction_is_of_one_input_or_of_a_batch(agents, name, width, truth):
    inputs = vectors(ROWS, width)
    batch = agents[name].predict(inputs, batched=True)
    assert np.allclose(batch, truth(inputs), rtol=1e-3, atol=1e-4)
    assert np.allclose(agents[name].predict(inputs[0]), batch[0], rtol=1e-4, atol=1e-5)


def test_each_kind_of_agent_has_its_own_call(agents):
    with pytest.raises(Rejected, match="acts: call get_action"):
        agents["cartpole"].predict([0.0] * 4)
    with pytest.raises(Rejected, match="predicts: call predict"):
        agents["regressor"].get_action([0.0] * 3)


# --- what is no observation ----------------------------------------------------------


@pytest.mark.parametrize("name", ["cartpole", "dict", "tuple", "several"])
@pytest.mark.parametrize(
    "seen", [None, 7, "text", [[1.0], [1.0, 2.0]], {"x": 1}, [], object(), {7: [1.0]}]
)
def test_what_is_no_observation_is_refused(agents, name, seen):
    for batched in (True, False):
        with pytest.raises(Rejected) as refused:
            agents[name].get_action(seen, batched=batched)
        assert not set("[]\n") & set(str(refused.value))


def test_several_rows_are_said_to_be_several(agents):
    with pytest.raises(Rejected, match="say batched=True for several rows"):
        agents["cartpole"].get_action(np.zeros((2, 4)))
    with pytest.raises(Rejected, match="say batched=True for several rows"):
        agents["regressor"].predict(np.zeros((2, 3)))
    with pytest.raises(Rejected, match="must have the shape"):
        agents["dict"].get_action(dict_seen())


def test_an_agent_that_is_not_live_does_not_answer(scene):
    folder = bundles.cartpole(scene.folder / "cartpole")
    agent = scene.live(scene.agent(bundle=folder))
    inference = scene.arena.inference(agent.id)
    inference.wait(0.0)
    scene.use.agents.disconnect(agent.id)
    scene.pass_()
    with pytest.raises(Unavailable, match="not live"):
        inference.get_action([0.0] * 4)
    with pytest.raises(Unavailable, match="does not serve"):
        inference.wait(0.0)


# --- under a guard -------------------------------------------------------------------


@pytest.fixture
def scene(tmp_path):
    scene = Scene.open(tmp_path)
    yield scene
    scene.arena.close()


def baking(scene, first, second):
    """Return the calls of an agent whose second checkpoint bakes, and its mirror."""
    algorithm = json.loads((first / "checkpoint.json").read_text())["algorithm"]
    said = {"algorithm": algorithm, "bundle": first}
    make = scene.saved_model if algorithm == "Supervised" else scene.agent
    agent = scene.live(make("guarded", **said))
    arena = scene.arena
    arena.experiments.add_checkpoint(agent.experiment_id, step=10**6, path=second)
    guard = Guard(60, p99_ms=60_000)
    scene.use.agents.redeploy(agent.id, checkpoint=final(), guard=guard)
    scene.pass_()
    assert arena.agents.get(agent.id).deployment.swap.phase is Phase.BAKING
    live = arena.application.registry.live(str(agent.deployment.id))
    return arena.inference(agent.id), live.mirror


def seen(mirror):
    mirror.drain()
    return mirror.figures()


def test_a_guard_sees_what_the_library_is_answered(scene, tmp_path):
    opposite = bundles.cartpole(tmp_path / "b", network=bundles.CARTPOLE.swapped())
    agent, mirror = baking(scene, bundles.cartpole(tmp_path / "a"), opposite)
    agent.get_action(bundles.observations(ROWS, 4), batched=True)
    figures = seen(mirror)
    assert (figures.requests, figures.errors) == (1, 0)
    assert (figures.compared, figures.action_shift) == (ROWS, 1.0)


def test_a_guard_sees_predictions_of_the_library(scene, tmp_path):
    first = bundles.regressor(tmp_path / "a")
    second = bundles.regressor(tmp_path / "b", with_golden=False)
    agent, mirror = baking(scene, first, second)
    agent.predict(bundles.observations(ROWS, 3), batched=True)
    figures = seen(mirror)
    assert (figures.requests, figures.compared) == (1, ROWS)
    assert figures.action_shift == 0


def test_a_guard_counts_what_the_library_got_no_finite_answer_to(scene, tmp_path):
    shapes_of = {"w0": (4, 8), "b0": 8, "w1": (8, 2), "b1": 2}
    sizes = {"w0": 1, "b0": 0, "w1": 3e38, "b1": 0}
    weights = {n: np.full(shapes_of[n], size, "f4") for n, size in sizes.items()}
    overflowing = bundles.cartpole(
        tmp_path / "b", network=bundles.Network(weights), with_golden=False
    )
    agent, mirror = baking(scene, bundles.cartpole(tmp_path / "a"), overflowing)
    with pytest.raises(NotFinite):
        agent.get_action(np.ones(4, "f4"))
    with pytest.raises(Rejected):
        agent.get_action(np.ones(3, "f4"))
    figures = seen(mirror)
    assert (figures.requests, figures.errors) == (1, 1)


def test_a_guard_does_not_count_what_the_caller_got_wrong(scene, tmp_path):
    second = bundles.pendulum(tmp_path / "b", with_golden=False)
    agent, mirror = baking(scene, bundles.pendulum(tmp_path / "a"), second)
    with pytest.raises(Rejected):
        agent.get_action(np.zeros(3, "f4"), mode="sample")
    assert seen(mirror).requests == 0
