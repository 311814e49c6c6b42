"""Episodes whose memory the server keeps: whose they are, and how long they last."""

import numpy as np
import pytest
from attrs import define, evolve, field

from arena_core.application.episodes import MARGIN_S, Episodes, Whose
from arena_core.domain.errors import Overloaded, Rejected
from arena_core.domain.ids import DeploymentId
from unit.scenes import Scene, key_of

IDLE_S = 60.0
OBS = np.zeros((2, 3), "f4")


@define
class Pins:
    """Who keeps models loaded, and what it was asked for."""

    asked: list = field(factory=list)
    is_loaded: bool = True
    gone: object = None
    """A model that is not loaded, whatever others are."""

    def __call__(self, live, for_s):
        self.asked.append((live, for_s))
        return self.is_loaded and live.model is not self.gone


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    scene = Scene.open(tmp_path_factory.mktemp("scene"))
    with scene.arena:
        yield scene.registry.live(key_of(scene.live(scene.agent())))


@pytest.fixture
def pins():
    return Pins()


@pytest.fixture
def episodes(pins):
    return Episodes(pins, idle_s=IDLE_S)


@pytest.fixture
def whose(live):
    return Whose(live.deployment_id, "user:ann", 7)


def state(value, rows=2):
    return np.full((rows, 1, 4), value, "f4")


def answer(value, rows=2):
    return {"action": np.zeros(rows), "hidden_state/h": state(value, rows)}


def begun(episodes, whose, live, now=0.0, value=1.0):
    episode = episodes.begin(whose, live, now)
    episodes.answered(whose, episode, answer(value), now)
    return episode


def unknown(episodes, whose, now=0.0):
    with pytest.raises(Rejected, match="is under way here") as caught:
        episodes.going_on(whose, now)
    assert caught.value.field == "sequence_id"
    return str(caught.value)


# --- steps ---------------------------------------------------------------------------


def test_the_first_step_has_no_memory(episodes, whose, live):
    episode = episodes.begin(whose, live, 0.0)
    assert episode.asked({"obs": OBS}) == {"obs": OBS}


def test_each_step_goes_on_with_what_the_last_one_left(episodes, whose, live):
    begun(episodes, whose, live)
    for value in (2.0, 3.0):
        episode = episodes.going_on(whose, 1.0)
        asked = episode.asked({"obs": OBS})
        assert asked["hidden_state/h"].tolist() == state(value - 1).tolist()
        rest = episodes.answered(whose, episode, answer(value), 1.0)
        assert rest.keys() == {"action"}


def test_asking_changes_nothing(episodes, whose, live):
    episode = begun(episodes, whose, live)
    inputs = {"obs": OBS}
    first = episode.asked(inputs)
    assert inputs.keys() == {"obs"}
    assert episode.asked(inputs).keys() == first.keys()
    assert episode.asked(inputs)["hidden_state/h"] is first["hidden_state/h"]


def test_an_agent_that_is_left_out_goes_on_later_where_it_was(episodes, whose, live):
    episode = episodes.begin(whose, live, 0.0)
    of_both = {f"agents/{a}/{k}": v for a in "ab" for k, v in answer(1.0).items()}
    rest = episodes.answered(whose, episode, of_both, 0.0)
    assert rest.keys() == {"agents/a/action", "agents/b/action"}
    of_one = {f"agents/a/{k}": v for k, v in answer(2.0).items()}
    assert episode.asked({"agents/a/obs": OBS}).keys() == {
        "agents/a/obs",
        "agents/a/hidden_state/h",
    }
    episodes.answered(whose, episode, of_one, 0.0)
    asked = episode.asked({"agents/a/obs": OBS, "agents/b/obs": OBS})
    assert asked["agents/a/hidden_state/h"][0, 0, 0] == 2
    assert asked["agents/b/hidden_state/h"][0, 0, 0] == 1


def test_an_agent_that_is_called_like_a_memory_is_an_agent(episodes, whose, live):
    episode = episodes.begin(whose, live, 0.0)
    at = "agents/hidden_state"
    episodes.answered(
        whose, episode, {f"{at}/{k}": v for k, v in answer(1.0).items()}, 0.0
    )
    assert episode.asked({f"{at}/obs": OBS}).keys() == {
        f"{at}/obs",
        f"{at}/hidden_state/h",
    }


def test_an_episode_has_as_many_rows_as_it_began_with(episodes, whose, live):
    episode = begun(episodes, whose, live)
    for array in (OBS[:1], np.zeros((3, 3)), np.float32(1)):
        with pytest.raises(Rejected, match="began with 2 rows") as caught:
            episode.asked({"obs": array})
        assert caught.value.field == "obs"


def test_a_memory_of_the_callers_own_is_refused(episodes, whose, live):
    episode = episodes.begin(whose, live, 0.0)
    with pytest.raises(Rejected, match="leave it out"):
        episode.asked({"obs": OBS, "hidden_state/h": state(9.0)})


# --- whose ---------------------------------------------------------------------------


def test_nobody_else_can_go_on_with_an_episode(episodes, whose, live):
    begun(episodes, whose, live)
    for other in (
        evolve(whose, principal=""),
        evolve(whose, principal="user:eve"),
        evolve(whose, sequence_id="7"),
        evolve(whose, deployment_id=DeploymentId(live.agent_id)),
    ):
        unknown(episodes, other)
    assert episodes.going_on(whose, 0.0).rows == 2


def test_an_episode_that_is_begun_again_has_forgotten_all(episodes, whose, live):
    begun(episodes, whose, live)
    again = episodes.begin(whose, live, 0.0)
    assert again.asked({"obs": OBS[:1]}).keys() == {"obs"}
    assert len(episodes) == 1


# --- how long ------------------------------------------------------------------------


def test_an_episode_that_has_ended_is_unknown(episodes, whose, live):
    begun(episodes, whose, live)
    episodes.end(whose)
    episodes.end(whose)
    detail = unknown(episodes, whose)
    assert "begin it with sequence_start" in detail
    assert "after 60 seconds" in detail
    assert len(episodes) == 0


def test_what_nobody_goes_on_with_is_forgotten(episodes, whose, live):
    begun(episodes, whose, live, now=0.0)
    other = evolve(whose, sequence_id=8)
    begun(episodes, other, live, now=50.0)
    assert episodes.going_on(whose, IDLE_S).rows == 2
    episodes.sweep(115.0)
    assert len(episodes) == 1
    unknown(episodes, whose, 2 * IDLE_S + 0.1)
    assert len(episodes) == 0


def test_a_step_that_takes_longer_than_a_pause_may_is_none(episodes, whose, live):
    episode = episodes.begin(whose, live, 0.0)
    episodes.sweep(100.0)
    episodes.answered(whose, episode, answer(1.0), 100.0)
    assert episodes.going_on(whose, 101.0) is episode


def test_its_weights_are_kept_as_long_as_it_may_pause(episodes, pins, whose, live):
    episode = begun(episodes, whose, live)
    newer = evolve(live, version=live.version + 1)
    episodes.going_on(whose, 1.0)
    assert pins.asked == [(live, IDLE_S + MARGIN_S)] * 2
    assert newer != episode.live is live


def test_an_episode_whose_weights_are_gone_is_over(episodes, pins, whose, live):
    begun(episodes, whose, live)
    pins.is_loaded = False
    unknown(episodes, whose)
    assert len(episodes) == 0
    with pytest.raises(Rejected):
        episodes.begin(whose, live, 0.0)
    pins.is_loaded = True
    unknown(episodes, whose)


# --- how many ------------------------------------------------------------------------


def test_a_deployment_has_so_many_episodes_at_most(pins, whose, live):
    episodes = Episodes(pins, idle_s=IDLE_S, most=2)
    first, second, third = (evolve(whose, sequence_id=n) for n in range(1, 4))
    begun(episodes, first, live)
    begun(episodes, second, live)
    with pytest.raises(Overloaded, match="2 sequences") as caught:
        episodes.begin(third, live, 1.0)
    assert caught.value.retry_after_s == IDLE_S
    elsewhere = evolve(third, deployment_id=DeploymentId(live.agent_id))
    begun(episodes, elsewhere, live)
    begun(episodes, second, live)  # in the place of itself
    episodes.end(first)
    begun(episodes, third, live)


def test_those_that_nobody_goes_on_with_make_room(pins, whose, live):
    episodes = Episodes(pins, idle_s=IDLE_S, most=1)
    begun(episodes, whose, live)
    begun(episodes, evolve(whose, sequence_id=8), live, now=IDLE_S + 1)
    assert len(episodes) == 1


def test_those_whose_weights_are_gone_make_room(pins, whose, live):
    size = state(1.0).nbytes
    again = evolve(live, model=object())
    for limit in ({"most": 1}, {"most_bytes": size}):
        pins.gone = None
        episodes = Episodes(pins, idle_s=IDLE_S, **limit)
        begun(episodes, whose, live)
        pins.gone = live.model
        begun(episodes, evolve(whose, sequence_id=8), again)
        assert len(episodes) == 1
        with pytest.raises(Overloaded):
            begun(episodes, evolve(whose, sequence_id=9), again)


def test_all_episodes_together_remember_so_much_at_most(pins, whose, live):
    size = state(1.0).nbytes
    episodes = Episodes(pins, idle_s=IDLE_S, most_bytes=2 * size)
    others = [evolve(whose, sequence_id=n) for n in (1, 2)]
    for other in others:
        begun(episodes, other, live)
    with pytest.raises(Overloaded, match="this one is over"):
        begun(episodes, whose, live)
    unknown(episodes, whose)
    for other in others:  # the others go on
        episode = episodes.going_on(other, 0.0)
        episodes.answered(other, episode, answer(2.0), 0.0)
    episodes.end(others[0])
    begun(episodes, whose, live)
