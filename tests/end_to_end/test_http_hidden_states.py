"""Recurrent policies over HTTP: callers carry the hidden state from step to step."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import shapes
from end_to_end.http_world import assert_detail, wire
from end_to_end.shapes_over_http import agents_of_every_shape, answered, received
from every_shape import assert_same, mapped, sent
from shapes import RECURRENT, STEPS

FOREIGN = shapes.Recurrent(seed=5)
WIDTH = RECURRENT.width


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with agents_of_every_shape(tmp_path_factory) as live:
        yield live


@pytest.fixture(scope="module")
def recurrent(agent):
    return agent("recurrent")


@pytest.fixture(scope="module")
def foreign(agent, tmp_path_factory):
    """The same policy with other weights, which its trace does not fit."""
    folder = tmp_path_factory.mktemp("foreign")
    shapes.recurrent_policy(folder, network=FOREIGN)
    (folder / "golden.npz").unlink()
    return agent("image").world.live(folder, algorithm="Recurrent PPO")


def step(live, obs, hidden=None, **more):
    """Return the actions and the hidden state that answer to observations."""
    state = None if hidden is None else sent(hidden)
    body = answered(live, obs, hidden_state=state, **more)
    return received(body["action"]), received(body["hidden_state"])


def zeros(rows):
    return np.zeros((rows, 1, WIDTH), "f4")


def refused(live, obs, hidden, status=400):
    body = {"obs": sent(obs), "hidden_state": hidden}
    return assert_detail(live.post("get_action", json=body), status)


# --- an episode ----------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_an_episode_goes_as_in_training(recurrent, rows, masked):
    hidden = None
    for recorded in shapes.episode(RECURRENT, rows, masked=masked):
        more = {"action_mask": sent(recorded.get("action_mask"))}
        action, hidden = step(recurrent, recorded["obs"], hidden, **more)
        assert_same(action, recorded["action"])
        assert_same(hidden["h"], recorded["outputs/h_next"])


def test_what_is_handed_back_matters(recurrent):
    obs = shapes.vectors(64, 3)
    _, hidden = step(recurrent, obs)
    anew, _ = step(recurrent, obs)
    on, _ = step(recurrent, obs, hidden)
    assert anew.tolist() != on.tolist()


def test_the_hidden_state_has_the_batch_first_and_no_other_array_than_it_needs(
    recurrent,
):
    _, hidden = step(recurrent, shapes.vectors(7, 3))
    assert mapped(lambda a: (a.shape, str(a.dtype)), hidden) == {
        "h": ((7, 1, WIDTH), "float32"),
        "_checkpoint": ((7, 32), "uint8"),
    }


def test_an_episode_begins_with_null_with_nothing_or_with_zeros(recurrent):
    obs = shapes.vectors(7, 3)
    first = answered(recurrent, obs)
    _, hidden = step(recurrent, obs)
    blank = mapped(np.zeros_like, hidden)
    for more in ({"hidden_state": None}, {"hidden_state": sent(blank)}):
        assert answered(recurrent, obs, **more) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype("f8") if a.dtype.kind == "f" else a,
        lambda a: a.astype(a.dtype.newbyteorder(">")),
        np.asfortranarray,
    ],
    ids=["float64", "big-endian", "Fortran"],
)
def test_what_a_hidden_state_is_made_of_is_all_the_same(recurrent, change):
    obs = shapes.vectors(7, 3)
    _, hidden = step(recurrent, obs)
    told = answered(recurrent, obs, hidden_state=sent(hidden))
    assert told == answered(recurrent, obs, hidden_state=sent(mapped(change, hidden)))


# --- many environments ---------------------------------------------------------------


def test_rows_of_several_environments_can_be_mixed_and_permuted(recurrent):
    random = np.random.default_rng(1)
    episodes = [list(shapes.episode(RECURRENT, rows)) for rows in (1, 2, 7)]
    gone = (1, 2, 3)  # how many steps each is into its episode
    states = []
    for episode, steps in zip(episodes, gone, strict=True):
        hidden = None
        for recorded in episode[:steps]:
            _, hidden = step(recurrent, recorded["obs"], hidden)
        states.append(hidden)
    mixed = {k: np.concatenate([s[k] for s in states]) for k in states[0]}
    now = [episode[steps] for episode, steps in zip(episodes, gone, strict=True)]
    obs, expected = (
        np.concatenate([recorded[what] for recorded in now])
        for what in ("obs", "action")
    )
    order = random.permutation(len(obs))
    action, _ = step(recurrent, obs[order], {k: a[order] for k, a in mixed.items()})
    assert_same(action, expected[order])


@given(data=st.data())
def test_environments_that_step_and_end_at_random_remember_their_own(recurrent, data):
    """The oracle keeps a hidden state by itself, for each environment."""
    count = data.draw(st.integers(1, 5), "environments")
    _, blank = step(recurrent, shapes.vectors(count, 3))
    kept = mapped(np.zeros_like, blank)
    oracle = zeros(count)
    some = st.lists(st.integers(0, count - 1), min_size=1, unique=True)
    for number in range(data.draw(st.integers(1, 4), "steps")):
        for ended in data.draw(st.sets(st.integers(0, count - 1)), "ended"):
            oracle[ended] = 0
            for array in kept.values():
                array[ended] = 0
        stepping = data.draw(some, "stepping, in this order")
        obs = shapes.vectors(count, 3, seed=number)[stepping]
        logits, oracle[stepping] = RECURRENT(obs, oracle[stepping])
        action, after = step(recurrent, obs, {k: a[stepping] for k, a in kept.items()})
        for key, array in kept.items():
            array[stepping] = after[key]
        assert_same(action, logits.argmax(axis=1))


# --- other weights -------------------------------------------------------------------


def test_weights_refuse_what_others_have_made(recurrent, foreign):
    obs = shapes.vectors(7, 3)
    _, hidden = step(foreign, obs)
    detail = refused(recurrent, obs, sent(hidden), 409)
    assert "row 0" in detail
    assert "null" in detail


def test_the_row_that_others_have_made_is_named(recurrent, foreign):
    obs = shapes.vectors(7, 3)
    _, own = step(recurrent, obs)
    _, other = step(foreign, obs)
    for name, array in own.items():
        array[1] = 0  # begins anew, which is no fault
        array[4] = other[name][4]
    assert "row 4" in refused(recurrent, obs, sent(own), 409)


# --- malformed -----------------------------------------------------------------------

H = np.ones((2, 1, WIDTH), "f4")
MALFORMED = {
    "text": wire(H),
    "a list": [wire(H)],
    "an empty list": [],
    "an empty object": {},
    "an empty text": "",
    "a number": 0,
    "false": False,
    "without its maker": {"h": ...},
    "its maker alone": {"_checkpoint": ...},
    "a key too many": {"h": ..., "_checkpoint": ..., "c": wire(H)},
    **{
        f"{what} in it": {"h": value, "_checkpoint": ...}
        for what, value in {
            "null": None,
            "a list": [],
            "an object": {"h": wire(H)},
            "too few rows": wire(H[:1]),
            "too many rows": wire(np.ones((3, 1, WIDTH))),
            "layers first": wire(H.transpose(1, 0, 2)),
            "no layers": wire(H[:, 0]),
            "another width": wire(np.ones((2, 1, WIDTH + 1))),
            "NaN": wire(H * np.nan),
            "infinity": wire(H * np.inf),
            "too large a number": wire(H * np.float64(1e300)),
        }.items()
    },
    **{
        f"a maker {what}": {"h": ..., "_checkpoint": value}
        for what, value in {
            "of one row": wire(np.zeros((1, 32), "u1")),
            "of other bytes": wire(np.zeros((2, 31), "u1")),
            "without rows": wire(np.zeros(32, "u1")),
            "of null": None,
            "of text": "digest",
        }.items()
    },
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_hidden_state_that_was_never_answered_is_refused(recurrent, what):
    obs = shapes.vectors(2, 3)
    own = answered(recurrent, obs)["hidden_state"]
    malformed = MALFORMED[what]
    if isinstance(malformed, dict):
        malformed = {k: own[k] if v is ... else v for k, v in malformed.items()}
    assert "hidden_state" in refused(recurrent, obs, malformed)


def test_an_episode_survives_a_bad_request(recurrent):
    recorded = list(shapes.episode(RECURRENT, 2))
    assert len(recorded) == STEPS
    _, hidden = step(recurrent, recorded[0]["obs"])
    refused(recurrent, recorded[1]["obs"][:1], sent(hidden))
    action, _ = step(recurrent, recorded[1]["obs"], hidden)
    assert_same(action, recorded[1]["action"])


def test_a_policy_without_memory_answers_without(agent):
    obs = shapes.vectors(2, 4)
    for hidden in (None, {}, "x", {"h": wire(H)}):
        body = answered(agent("multi binary"), obs, hidden_state=hidden)
        assert body.keys() == {"action"}
