"""Recurrent policies: what callers hand back from a step to the next."""

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application.hidden_states import MAKER
from arena_core.domain.errors import Conflict, Rejected
from unit import recurrent_bundles
from unit.calls import ask, refusal
from unit.models import load
from unit.recurrent_bundles import LAYERS, SIZE, TWO_STATES

import shapes
from shapes import RECURRENT, STEPS, vectors

ROWS = 5
SEEN = [vectors(ROWS, 3, seed=step) for step in range(STEPS)]
ZEROS = np.zeros((ROWS, 1, RECURRENT.width), "f4")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return load(shapes.recurrent_policy(tmp_path_factory.mktemp("policy")))


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_states")
    return load(recurrent_bundles.two_states_policy(folder))


@pytest.fixture(scope="module")
def successor(tmp_path_factory):
    """Return other weights of the same shape, as a later checkpoint has them."""
    folder = tmp_path_factory.mktemp("successor")
    network = evolve(RECURRENT, seed=9)
    return load(shapes.recurrent_policy(folder, network=network))


def truth(steps, begin=ZEROS):
    """Return the actions and the hidden states of an episode."""
    actions, states, hidden = [], [], begin
    for obs in steps:
        logits, hidden = RECURRENT(obs, hidden)
        actions.append(logits.argmax(axis=1).tolist())
        states.append(hidden)
    return actions, states


def played(model, steps, hidden_state=None):
    actions = []
    for obs in steps:
        answer = ask(model, obs=obs, hidden_state=hidden_state)
        actions.append(answer["action"].tolist())
        hidden_state = answer["hidden_state"]
    return actions, hidden_state


def state_of(model, rows=ROWS, steps=2):
    """Return a hidden state as it was answered."""
    return played(model, [obs[:rows] for obs in SEEN[:steps]])[1]


def taken(state, rows):
    return {name: array[rows] for name, array in state.items()}


# --- an episode --------------------------------------------------------------------


def test_an_episode_is_played_by_handing_back_what_was_answered(policy):
    actions, hidden = played(policy, SEEN)
    assert actions == truth(SEEN)[0]
    assert np.allclose(hidden["h"], truth(SEEN)[1][-1], atol=1e-5)


def test_a_state_that_is_not_handed_back_is_missed(policy):
    forgetful = [ask(policy, obs=obs)["action"].tolist() for obs in SEEN]
    assert forgetful != truth(SEEN)[0]


@pytest.mark.parametrize("said", [{}, {"hidden_state": None}])
def test_without_a_state_an_episode_begins_with_zeros(policy, said):
    answer = ask(policy, obs=SEEN[0], **said)
    assert np.allclose(answer["hidden_state"]["h"], truth(SEEN[:1])[1][0], atol=1e-6)


def test_the_state_has_the_batch_first_and_says_who_made_it(policy, two_states):
    state = state_of(policy)
    assert {name: array.shape for name, array in state.items()} == {
        "h": (ROWS, 1, RECURRENT.width),
        MAKER: (ROWS, 32),
    }
    assert state["h"].dtype == np.float32
    digests = {bytes(row).hex() for row in state[MAKER]}
    assert len(digests) == 1
    assert {array.shape for array in state_of(two_states).values()} == {
        (ROWS, LAYERS, SIZE),
        (ROWS, 32),
    }


def test_two_states_are_each_fed_to_the_input_that_is_theirs(two_states):
    h = c = np.zeros((ROWS, LAYERS, SIZE), "f4")
    hidden = None
    for obs in SEEN:
        logits, h, c = TWO_STATES(obs, h, c)
        answer = ask(two_states, obs=obs, hidden_state=hidden)
        hidden = answer["hidden_state"]
        assert answer["action"].tolist() == logits.argmax(axis=1).tolist()
        assert np.allclose(hidden["h"], h, atol=1e-5)
        assert np.allclose(hidden["c"], c, atol=1e-5)


def test_a_masked_recurrent_policy_keeps_to_its_mask_and_its_state(policy):
    hidden, expected = None, ZEROS
    for obs in SEEN:
        logits, expected = RECURRENT(obs, expected)
        mask = logits.argmax(axis=1)[:, None] != np.arange(RECURRENT.actions)
        answer = ask(policy, obs=obs, action_mask=mask, hidden_state=hidden)
        hidden = answer["hidden_state"]
        second = np.where(mask, logits, -np.inf).argmax(axis=1)
        assert answer["action"].tolist() == second.tolist()
        assert np.allclose(hidden["h"], expected, atol=1e-5)


# --- rows --------------------------------------------------------------------------


@given(st.permutations(range(ROWS)))
def test_rows_may_be_permuted_with_their_states(policy, order):
    _, hidden = played(policy, SEEN[:2])
    answer = ask(policy, obs=SEEN[2][order], hidden_state=taken(hidden, order))
    straight = ask(policy, obs=SEEN[2], hidden_state=hidden)
    assert answer["action"].tolist() == straight["action"][order].tolist()


def test_rows_of_different_ages_may_share_a_batch(policy):
    _, states = truth(SEEN)
    olds = [state_of(policy, steps=steps) for steps in (1, 2, 3)]
    mixed = {
        name: np.stack([old[name][row] for row, old in enumerate(olds)])
        for name in olds[0]
    }
    logits, _ = RECURRENT(SEEN[3][:3], np.stack([states[r][r] for r in range(3)]))
    answer = ask(policy, obs=SEEN[3][:3], hidden_state=mixed)
    assert answer["action"].tolist() == logits.argmax(axis=1).tolist()


@pytest.mark.parametrize("reset_all", [True, False])
def test_a_row_is_reset_by_zeros_while_others_go_on(policy, reset_all):
    _, states = truth(SEEN[:2])
    state = {name: array.copy() for name, array in state_of(policy).items()}
    state["h"][1] = 0
    if reset_all:
        state[MAKER][1] = 0
    begun = states[-1].copy()
    begun[1] = 0
    _, expected = RECURRENT(SEEN[2], begun)
    answer = ask(policy, obs=SEEN[2], hidden_state=state)
    assert np.allclose(answer["hidden_state"]["h"], expected, atol=1e-5)
    assert (answer["hidden_state"][MAKER] == answer["hidden_state"][MAKER][0]).all()


def test_one_row_alone_is_answered_as_it_is_in_a_batch(policy):
    state = state_of(policy)
    whole = ask(policy, obs=SEEN[2], hidden_state=state)
    for row in range(ROWS):
        only = slice(row, row + 1)
        answer = ask(policy, obs=SEEN[2][only], hidden_state=taken(state, only))
        assert answer["action"].tolist() == whole["action"][only].tolist()
        for name, array in answer["hidden_state"].items():
            assert np.allclose(array, whole["hidden_state"][name][only], atol=1e-6)


@pytest.mark.parametrize("how", ["wider", "fortran", "negative strides"])
def test_a_state_may_come_in_another_layout(policy, how):
    state = state_of(policy)
    other = {
        "wider": state["h"].astype("f8"),
        "fortran": np.asfortranarray(state["h"]),
        "negative strides": state["h"][:, :, ::-1].copy()[:, :, ::-1],
    }[how]
    answer = ask(policy, obs=SEEN[2], hidden_state={**state, "h": other})
    same = ask(policy, obs=SEEN[2], hidden_state=state)
    assert answer["action"].tolist() == same["action"].tolist()


# --- what is refused ---------------------------------------------------------------


def test_the_state_of_other_weights_is_a_conflict(policy, successor):
    error = refusal(successor, obs=SEEN[2], hidden_state=state_of(policy))
    assert type(error) is Conflict
    assert str(error) == (
        "The hidden_state of row 0 was made by other weights than those that answer "
        "now: begin the episode anew, with null."
    )


@pytest.mark.parametrize("others_are", ["own", "reset"])
def test_the_first_row_of_other_weights_is_named(policy, successor, others_are):
    state = {name: array.copy() for name, array in state_of(successor).items()}
    foreign = state_of(policy)
    for name, array in state.items():
        if others_are == "reset":
            array[:] = 0
        array[[3, 4]] = foreign[name][[3, 4]]
    error = refusal(successor, obs=SEEN[2], hidden_state=state)
    assert type(error) is Conflict
    assert "of row 3 was made by other weights" in str(error)


def test_a_state_without_its_maker_is_a_conflict_unless_it_is_zero(policy):
    state = state_of(policy) | {MAKER: np.zeros((ROWS, 32), np.uint8)}
    assert type(refusal(policy, obs=SEEN[2], hidden_state=state)) is Conflict
    zeros = {name: np.zeros_like(array) for name, array in state.items()}
    begun = ask(policy, obs=SEEN[2], hidden_state=zeros)
    anew = ask(policy, obs=SEEN[2])
    assert begun["action"].tolist() == anew["action"].tolist()


def _without(state, name):
    return {key: array for key, array in state.items() if key != name}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state["h"],
        lambda state: [state["h"]],
        lambda state: _without(state, "h"),
        lambda state: _without(state, MAKER),
        lambda state: state | {"c": state["h"]},
        lambda state: state | {"h": None},
        lambda state: state | {"h": [state["h"]]},
        lambda state: state | {MAKER: None},
        lambda state: state | {"h": state["h"][:-1]},
        lambda state: state | {"h": state["h"][:, 0]},
        lambda state: state | {"h": state["h"][:, :, :-1]},
        lambda state: state | {"h": np.swapaxes(state["h"], 0, 1)},
        lambda state: state | {"h": state["h"].astype("i8")},
        lambda state: state | {"h": state["h"] > 0},
        lambda state: state | {"h": np.full_like(state["h"], np.nan)},
        lambda state: state | {"h": np.full_like(state["h"], -np.inf)},
        lambda state: state | {"h": np.full(state["h"].shape, 1e300)},
        lambda state: state | {MAKER: state[MAKER][:-1]},
        lambda state: state | {MAKER: state[MAKER][:, :-1]},
        lambda state: state | {MAKER: state[MAKER] > 0},
        lambda state: taken(state, slice(0, 2)),
    ],
)
def test_a_state_that_was_never_answered_is_refused(policy, spoil):
    spoiled = spoil(state_of(policy))
    error = refusal(policy, obs=SEEN[2], hidden_state=spoiled)
    assert isinstance(error, Rejected)
    assert error.field == "hidden_state"


def test_a_policy_without_memory_does_not_look_at_a_state(tmp_path):
    model = load(shapes.scaled_policy(tmp_path))
    obs = vectors(2, 3)
    assert ask(model, obs=obs, hidden_state={"x": [1]}).keys() == {"action"}
