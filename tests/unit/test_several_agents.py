"""Checkpoints of several agents: some share a policy, some die, some are forced."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application import forced_actions
from arena_core.application.hidden_states import MAKER
from arena_core.application.inference import Choice
from arena_core.domain.checkpoint import Discrete, MultiDiscrete
from arena_core.domain.errors import Conflict, Rejected
from unit import recurrent_bundles
from unit.calls import action, ask, refusal
from unit.models import load
from unit.recurrent_bundles import SCOUT, team_seen

import shapes
from shapes import AGENTS, SPEAKER, agent_actions, meeting, vectors

SEEN = meeting(5)
DONE = agent_actions(SEEN)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(shapes.multi_agent_policy(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    return load(recurrent_bundles.team_policy(tmp_path_factory.mktemp("team")))


def same(found, expected):
    assert found.keys() == expected.keys()
    for agent, does in expected.items():
        if does is None:
            assert found[agent] is None
        else:
            assert np.allclose(found[agent], does, rtol=1e-4, atol=1e-5), agent


# --- who acts ----------------------------------------------------------------------


def test_each_agent_acts_by_its_own_policy(model):
    answer = ask(model, obs=SEEN)
    assert answer.keys() == {"action"}
    same(answer["action"], DONE)
    assert answer["action"]["speaker_0"].dtype == np.int64
    assert answer["action"]["listener_0"].dtype == np.float32


def test_agents_that_share_a_policy_act_as_they_would_alone(model):
    together = action(model, obs=SEEN)
    for agent, obs in SEEN.items():
        same(action(model, obs={agent: obs}), {agent: together[agent]})


@given(
    st.lists(st.sampled_from(list(AGENTS)), min_size=1, unique=True),
    st.lists(st.sampled_from(list(AGENTS)), unique=True),
)
def test_any_of_the_agents_in_any_order_are_answered_in_that_order(model, living, dead):
    dead = [agent for agent in dead if agent not in living]
    obs = {agent: SEEN[agent] for agent in living} | dict.fromkeys(dead)
    answered = action(model, obs=obs)
    assert list(answered) == [*living, *dead]
    same(answered, {agent: DONE.get(agent) for agent in living} | dict.fromkeys(dead))


def test_all_agents_may_be_dead(model, team):
    assert ask(model, obs=dict.fromkeys(AGENTS), batch_size=1) == {
        "action": dict.fromkeys(AGENTS)
    }
    assert ask(team, obs={"scout_0": None}) == {
        "action": {"scout_0": None},
        "hidden_state": {},
    }


@pytest.mark.parametrize("what", ["obs", "action_mask", "env_defined_actions"])
def test_an_agent_that_there_is_not_is_refused_by_its_name(model, what):
    said = {"obs": SEEN} | {what: {**SEEN, "listener_2": None}}
    error = refusal(model, **said)
    assert isinstance(error, Rejected)
    assert error.field == f"{what}.listener_2"
    assert "speaker_0, listener_0, listener_1" in str(error)


def test_what_stands_for_a_name_is_not_repeated_as_it_is(model):
    error = refusal(model, obs={"[red]\n": None})
    assert error.field == "obs.?red??"


@pytest.mark.parametrize(
    "obs", [None, {}, [], "text", 7, SEEN["speaker_0"], [SEEN["speaker_0"]]]
)
def test_observations_of_nobody_in_particular_are_refused(model, obs):
    error = refusal(model, obs=obs)
    assert isinstance(error, Rejected)
    assert error.field == "obs"


@pytest.mark.parametrize("what", ["action_mask", "hidden_state", "env_defined_actions"])
@pytest.mark.parametrize("value", [[], "", 0, False, [SEEN["speaker_0"]], "text"])
def test_what_is_said_of_agents_is_said_by_their_names(team, what, value):
    error = refusal(team, obs=team_seen(2, 0), **{what: value})
    assert isinstance(error, Rejected)
    assert error.field == what


@pytest.mark.parametrize("nothing", [None, {}, dict.fromkeys(AGENTS)])
def test_nothing_said_of_an_agent_changes_nothing(model, nothing):
    told = ("action_mask", "hidden_state", "env_defined_actions")
    more = dict.fromkeys(told, nothing)
    same(action(model, obs=SEEN, **more), DONE)


def test_what_is_wrong_with_one_agent_is_refused_with_its_name(model):
    error = refusal(model, obs=SEEN | {"listener_1": SEEN["listener_1"][:, :4]})
    assert isinstance(error, Rejected)
    assert error.field == "obs.listener_1"


def test_all_agents_have_the_same_number_of_rows(model):
    uneven = SEEN | {"listener_1": SEEN["listener_1"][:4]}
    assert refusal(model, obs=uneven).field == "obs"
    error = refusal(model, obs=uneven, batch_size=5)
    assert str(error) == "batch_size is 5, but obs has 4 rows."
    assert refusal(model, obs=SEEN, batch_size=4).field == "batch_size"
    same(action(model, obs=SEEN, batch_size=5), DONE)


# --- masks -------------------------------------------------------------------------


def test_a_mask_is_for_its_agent_only(model):
    logits = SPEAKER({"obs": SEEN["speaker_0"]})["logits"]
    mask = logits.argmax(axis=1)[:, None] != np.arange(3)
    second = np.where(mask, logits, -np.inf).argmax(axis=1)
    said = {"speaker_0": mask, "listener_0": None}
    same(action(model, obs=SEEN, action_mask=said), DONE | {"speaker_0": second})
    error = refusal(model, obs=SEEN, action_mask={"listener_0": mask})
    assert error.field == "action_mask.listener_0"


# --- actions that the environment has chosen ---------------------------------------


def test_a_forced_action_is_answered_in_place_of_the_policys(model):
    forced = {"speaker_0": np.array([2, 1, 0, 1, 2]), "listener_1": None}
    found = action(model, obs=SEEN, env_defined_actions=forced)
    same(found, DONE | {"speaker_0": forced["speaker_0"]})
    assert found["speaker_0"].dtype == np.int64


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_nan_forces_nothing(model, dtype):
    nan = np.nan
    forced = {
        "speaker_0": np.array([nan, 2, nan, nan, 0], dtype),
        "listener_0": np.full((5, 2), nan, dtype),
    }
    spoken = DONE["speaker_0"].copy()
    spoken[[1, 4]] = [2, 0]
    found = action(model, obs=SEEN, env_defined_actions=forced)
    same(found, DONE | {"speaker_0": spoken})
    assert found["listener_0"].dtype == np.float32


def test_a_nan_that_signals_forces_nothing_either(model):
    signalling = np.full(5, 0x7FA00000, np.uint32).view(np.float32)
    forced = {"speaker_0": signalling}
    same(action(model, obs=SEEN, env_defined_actions=forced), DONE)


def test_some_parts_of_an_action_may_be_forced(model):
    forced = np.full((5, 2), np.nan)
    forced[:, 1] = 0.25
    found = action(model, obs=SEEN, env_defined_actions={"listener_0": forced})
    expected = DONE["listener_0"].copy()
    expected[:, 1] = 0.25
    same(found, DONE | {"listener_0": expected})


@pytest.mark.parametrize("space", [MultiDiscrete((2, 3), (5, -1)), Discrete(3, 5)])
def test_what_is_not_forced_need_not_be_a_number_of_the_space(space):
    chosen, forced = np.array([[5, 1], [5, 1]]), np.array([[np.nan, 0], [6, np.nan]])
    if isinstance(space, Discrete):
        chosen, forced = chosen[:, 0], forced[:, 0]
    found = forced_actions.understood(forced, space, 2, field="x").over(chosen)
    expected = np.where(np.isnan(forced), chosen, forced)
    assert found.tolist() == expected.tolist()
    assert found.dtype == np.int64


def test_an_action_at_the_very_bounds_may_be_forced(model):
    corners = np.array([[-1, 1], [1, -1], [-1, -1], [1, 1], [0, 1]])
    found = action(model, obs=SEEN, env_defined_actions={"listener_0": corners})
    assert found["listener_0"].tolist() == corners.tolist()


def test_a_forced_number_may_come_as_a_column_as_environments_give_it(model):
    column = np.array([[2], [1], [0], [1], [2]])
    found = action(model, obs=SEEN, env_defined_actions={"speaker_0": column})
    assert found["speaker_0"].tolist() == [2, 1, 0, 1, 2]


def test_a_forced_action_is_not_masked(model):
    mask = np.array([[1, 1, 0]] * 5)
    forced = np.array([2, np.nan, np.nan, np.nan, 2])
    found = action(
        model,
        obs=SEEN,
        action_mask={"speaker_0": mask},
        env_defined_actions={"speaker_0": forced},
    )
    assert found["speaker_0"][[0, 4]].tolist() == [2, 2]
    assert set(found["speaker_0"][1:4]) <= {0, 1}


@pytest.mark.parametrize(
    ("agent", "forced"),
    [
        ("speaker_0", np.array([0, 1, 2, 3, 0])),
        ("speaker_0", np.array([0, -1, 0, 0, 0])),
        ("speaker_0", np.array([0, 0.5, 0, 0, 0])),
        ("speaker_0", np.array([0, np.inf, 0, 0, 0])),
        ("speaker_0", np.array([True] * 5)),
        ("listener_0", np.full((5, 2), 1.01)),
        ("listener_0", np.array([[np.nan, -1.01]] * 5)),
        ("listener_0", np.full((5, 2), np.inf)),
        ("listener_0", np.full((5, 2), 1e300)),
        ("speaker_0", np.zeros((5, 3))),
        ("speaker_0", np.zeros((5, 0))),
        ("speaker_0", np.zeros((5, 1, 1))),
        ("speaker_0", np.zeros(4)),
        ("speaker_0", np.zeros(())),
        ("listener_0", np.zeros(5)),
        ("listener_0", np.zeros((5, 1))),
        ("listener_0", np.zeros((1, 2))),
        ("speaker_0", "text"),
        ("speaker_0", [np.zeros(5)]),
        ("speaker_0", 1),
    ],
)
def test_an_action_that_cannot_be_taken_is_not_forced(model, agent, forced):
    error = refusal(model, obs=SEEN, env_defined_actions={agent: forced})
    assert isinstance(error, Rejected)
    assert error.field == f"env_defined_actions.{agent}"


def test_what_is_forced_on_the_dead_is_not_looked_at(model):
    obs = SEEN | {"speaker_0": None}
    said = {"speaker_0": np.zeros(99)}
    found = action(model, obs=obs, env_defined_actions=said, action_mask=said)
    same(found, DONE | {"speaker_0": None})


# --- memory ------------------------------------------------------------------------


def play(team, rows, steps, without=()):
    """Yield what is answered in each step; `without`: (agent, step) that are dead."""
    hidden = {}
    for step in range(steps):
        obs = team_seen(rows, step)
        obs |= {agent: None for agent, at in without if at == step}
        answer = ask(team, obs=obs, hidden_state=hidden or None)
        hidden = answer["hidden_state"]
        yield answer


def scouting(rows, steps):
    hidden = np.zeros((rows, 1, SCOUT.width), "f4")
    seen = [team_seen(rows, step)["scout_1"] for step in steps]
    for obs in seen:
        logits, hidden = SCOUT(obs, hidden)
    return logits.argmax(axis=1), hidden


def test_each_agent_has_a_memory_of_its_own(team):
    *_, last = play(team, 3, 4)
    assert last["hidden_state"].keys() == {"scout_0", "scout_1"}
    assert last["hidden_state"]["scout_0"].keys() == {"h", MAKER}
    actions, hidden = scouting(3, range(4))
    assert last["action"]["scout_1"].tolist() == actions.tolist()
    assert np.allclose(last["hidden_state"]["scout_1"]["h"], hidden, atol=1e-5)


def test_agents_that_share_a_recurrent_policy_act_as_they_would_alone(team):
    hidden = None
    for step, together in enumerate(play(team, 3, 4)):
        obs = {"scout_1": team_seen(3, step)["scout_1"]}
        alone = ask(team, obs=obs, hidden_state=hidden)
        hidden = alone["hidden_state"]
        same(alone["action"], {"scout_1": together["action"]["scout_1"]})
        same(hidden["scout_1"], together["hidden_state"]["scout_1"])


def test_who_was_dead_begins_anew_and_the_others_go_on(team):
    answers = list(play(team, 3, 4, without=[("scout_1", 2)]))
    assert answers[2]["action"]["scout_1"] is None
    assert answers[2]["hidden_state"].keys() == {"scout_0"}
    _, hidden = scouting(3, [3])
    assert np.allclose(answers[3]["hidden_state"]["scout_1"]["h"], hidden, atol=1e-6)
    uninterrupted = list(play(team, 3, 4))
    same(
        answers[3]["hidden_state"]["scout_0"],
        uninterrupted[3]["hidden_state"]["scout_0"],
    )


def test_a_memory_of_other_weights_is_a_conflict_and_names_the_agent(team):
    *_, last = play(team, 3, 2)
    foreign = {
        agent: {name: array.copy() for name, array in state.items()}
        for agent, state in last["hidden_state"].items()
    }
    foreign["scout_1"][MAKER][1] ^= 1
    error = refusal(team, obs=team_seen(3, 2), hidden_state=foreign)
    assert type(error) is Conflict
    assert "The hidden_state.scout_1 of row 1 was made by other weights" in str(error)


def test_a_memory_is_of_the_agent_that_it_is_said_of(team):
    *_, last = play(team, 3, 2)
    state = last["hidden_state"]
    swapped = {"scout_0": state["scout_1"], "scout_1": state["scout_0"]}
    obs = team_seen(3, 2) | {"scout_1": team_seen(3, 2)["scout_0"]}
    kept, crossed = (ask(team, obs=obs, hidden_state=h) for h in (state, swapped))
    same(kept["hidden_state"]["scout_0"], crossed["hidden_state"]["scout_1"])


# --- sampling ----------------------------------------------------------------------


def test_agents_are_sampled_the_same_for_the_same_seed(team):
    obs = {"scout_0": vectors(64, 3), "scout_1": vectors(64, 3)}

    def sampled(seed):
        found = ask(team, obs=obs, choice=Choice.of("sample", seed))["action"]
        return found["scout_0"].tolist(), found["scout_1"].tolist()

    assert sampled(1) == sampled(1) != sampled(2)
    first, second = sampled(1)
    assert first != second, "each agent draws for itself"


def test_one_agent_without_a_distribution_is_enough_to_refuse(team):
    error = refusal(team, obs=team_seen(2, 0), choice=Choice.of("sample"))
    assert error.field == "mode"
