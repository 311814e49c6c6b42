"""What a player sends over real sockets, and what it makes of the answers."""

import socket
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from arena_core.application.inference import Mode
from arena_core.domain.errors import (
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from arena_core.entrypoints.play.contest import Contestant, episodes_of
from arena_core.entrypoints.play.endpoint import Endpoint
from arena_core.entrypoints.play.environments import make

from end_to_end.answering import TEAM, answering, packed, unpacked

OBSERVED = np.array([1.0, 2.0], np.float32)


def ask(answer, observation=OBSERVED, **options):
    """Return what was sent for one observation, and the answer as it was taken."""
    with (
        answering(lambda _: answer) as server,
        Endpoint(server.url, "a-key") as endpoint,
    ):
        answered = endpoint.get_action(observation, **options)
        return server.calls[-1], answered


ACT = {"action": packed(1)}


class TestOneCall:
    def test_sends_an_observation_as_a_batch_of_one_with_the_key(self):
        call, _ = ask(ACT)
        assert call.path == "/inference/1/get_action"
        assert call.authorization == "Bearer a-key"
        assert call.body.keys() == {"obs", "batch_size"}
        assert call.body["batch_size"] == 1
        assert unpacked(call.body["obs"]).tolist() == [[1.0, 2.0]]
        assert unpacked(call.body["obs"]).dtype == np.float32

    def test_sends_a_number_as_a_batch_of_one_number(self):
        call, _ = ask(ACT, np.int64(7))
        assert unpacked(call.body["obs"]).tolist() == [7]

    def test_sends_a_tree_as_a_tree(self):
        tree = {"image": np.zeros((2, 3), np.uint8), "both": (np.int64(3), OBSERVED)}
        call, _ = ask(ACT, tree)
        assert unpacked(call.body["obs"]["image"]).shape == (1, 2, 3)
        number, vector = call.body["obs"]["both"]
        assert unpacked(number).tolist() == [3]
        assert unpacked(vector).tolist() == [[1.0, 2.0]]

    def test_sends_a_mask_a_forced_action_and_a_seed_only_if_there_are_any(self):
        call, _ = ask(
            ACT,
            {"a": OBSERVED, "b": None},
            mask={"a": np.array([1, 0]), "b": None},
            forced={"a": np.int64(1), "b": None},
            seed=9,
        )
        assert call.path.endswith("/get_action?mode=sample&seed=9")
        assert call.body["obs"]["b"] is None
        assert unpacked(call.body["action_mask"]["a"]).tolist() == [[1, 0]]
        assert call.body["action_mask"]["b"] is None
        assert unpacked(call.body["env_defined_actions"]["a"]).tolist() == [1]
        assert call.body["env_defined_actions"]["b"] is None

    def test_takes_an_action_out_of_its_batch(self):
        assert ask(ACT)[1].action == 1
        assert isinstance(ask(ACT)[1].action, np.int64)
        _, answered = ask({"action": packed([0.5, 1.5])})
        assert answered.action.tolist() == [0.5, 1.5]
        answered.action[0] = 0  # environments may write to it
        _, answered = ask({"action": {"a": packed(1), "b": None}})
        assert answered.action == {"a": 1, "b": None}
        _, answered = ask({"action": [packed(1), packed([2, 3])]})
        assert answered.action[0] == 1
        assert answered.action[1].tolist() == [2, 3]

    def test_hands_a_hidden_state_back_as_it_was(self):
        state = {"h": packed([[0.5]]), "of": "these weights", "deep": [1, None]}
        _, answered = ask({**ACT, "hidden_state": state})
        call, _ = ask(ACT, hidden_state=answered.hidden_state)
        assert call.body["hidden_state"] == state

    @pytest.mark.parametrize(
        "action", [packed(1, 2), packed(), 3, [4], {"a": True}, "junk"]
    )
    def test_takes_nothing_for_an_action_but_one_row_of_an_array(self, action):
        with pytest.raises((Unavailable, Rejected)):
            ask({"action": action})

    def test_refuses_to_send_what_is_no_array_of_numbers(self):
        with pytest.raises(Rejected, match="a str: only numbers travel"):
            ask(ACT, "a text")


class TestAnEndpoint:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, Rejected),
            (401, Unauthenticated),
            (403, Forbidden),
            (404, NotFound),
            (409, Conflict),
            (413, TooLarge),
            (500, Unavailable),
            (503, Unavailable),
        ],
    )
    def test_raises_what_the_server_says(self, status, kind):
        with pytest.raises(kind) as refused:
            ask((status, {"detail": "It is so."}))
        assert type(refused.value) is kind
        assert str(refused.value) == "It is so."

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"detail": [1]}'])
    def test_says_so_if_an_error_comes_without_a_sentence(self, body):
        with pytest.raises(Unavailable, match="status 502 and without a sentence"):
            ask((502, body))

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
    def test_says_so_if_something_else_answers(self, body):
        with pytest.raises(Unavailable, match="not what an agent answers"):
            ask((200, body))

    def test_asks_again_if_the_line_went_dead_meanwhile(self):
        with (
            answering(lambda _: ACT) as server,
            Endpoint(server.url, "key") as endpoint,
        ):
            endpoint.get_action(OBSERVED)
            endpoint._connection.sock.shutdown(socket.SHUT_RDWR)
            assert endpoint.get_action(OBSERVED).action == 1

    def test_does_not_ask_for_ever(self):
        with (
            answering(lambda _: (None, None)) as server,
            Endpoint(server.url, "key") as endpoint,
            pytest.raises(Unavailable, match="does not answer"),
        ):
            endpoint.get_action(OBSERVED)
        assert len(server.asked) == 2

    def test_says_so_if_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with (
            Endpoint(f"http://127.0.0.1:{port}/x", "key") as endpoint,
            pytest.raises(Unavailable, match=r"does not answer \(Connection refused\)"),
        ):
            endpoint.status()

    @pytest.mark.parametrize(
        "url", ["", "localhost:1", "ftp://host/x", "http://", "http://host:port/"]
    )
    def test_has_a_url_of_http(self, url):
        with pytest.raises(Rejected, match="must begin with http"):
            Endpoint(url, "key")

    def test_may_be_reached_by_https(self):
        endpoint = Endpoint("https://host/x/", "key")
        assert type(endpoint._connection).__name__ == "HTTPSConnection"
        assert endpoint._connection.port == 443


# --- episodes ----------------------------------------------------------------------


class Corridor(gymnasium.Env):
    """Three steps; of the first two actions the mask allows one, which alternates."""

    observation_space = Box(0, 3, (1,))
    action_space = Discrete(2)

    def __init__(self, mask: str = "none"):
        self.mask = mask

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.steps = 0
        return self._observed()

    def step(self, action):
        self.steps += 1
        observed, info = self._observed()
        return observed, float(action) + 1, self.steps == 3, False, info

    def action_masks(self):
        if self.mask != "method":
            raise AssertionError("it is not to be asked")
        return self._mask()

    def has_wrapper_attr(self, name):
        return name == "action_masks" and self.mask == "method"

    def _mask(self):
        return np.arange(2) == self.steps % 2

    def _observed(self):
        seen = np.array([self.steps], np.float32)
        return seen, {"action_mask": self._mask()} if self.mask == "info" else {}


class Team:
    """Two agents at once; `b` dies after a step, `a` after three."""

    possible_agents = ("a", "b")
    forcing = False

    def reset(self, seed):
        self.seed, self.steps, self.agents = seed, 0, ["a", "b"]
        return self._observed()

    def step(self, actions):
        assert actions.keys() == set(self.agents)
        rewards = {agent: float(action) for agent, action in actions.items()}
        self.steps += 1
        self.agents = [] if self.steps == 3 else ["a"]
        dead = {agent: agent not in self.agents for agent in actions}
        observations, infos = self._observed()
        return observations, rewards, dead, dead, infos

    def action_space(self, agent):
        return Discrete(2 if agent == "a" else 9)

    def _observed(self):
        view = {
            "observation": np.array([self.steps], np.float32),
            "action_mask": np.array([1, 0], np.int8),
        }
        seen = {"a": view, "b": np.array([7.0])}
        infos = {"a": {"env_defined_actions": np.int64(1)}} if self.forcing else {}
        return {agent: seen[agent] for agent in self.agents}, infos


class Turns(Team):
    """The same two agents, `a`, `b`, `a`, and then both are dead."""

    def reset(self, seed):
        self.seed = seed
        self.turns, self.agents = ["a", "b", "a"], ["a", "b"]

    def agent_iter(self):
        while self.turns:
            self.turn = self.turns[0]
            yield self.turn
        self.dead = True
        yield "a"
        yield "b"

    def last(self):
        over = not self.turns
        return np.array([len(self.turns)]), 1.5 if over else 0.0, over, False, {}

    def step(self, action):
        assert (action is None) == (not self.turns)
        self.turns = self.turns[1:]


def played(env, answer, *, agent=None, seeds=(5,), mode=Mode.GREEDY):
    """Return the episodes, and what was asked."""
    with (
        answering(answer, agent or {}) as server,
        Endpoint(server.url, "key") as endpoint,
    ):
        contestant = Contestant.of("it", endpoint, env)
        for _ in episodes_of(env, mode, [contestant], seeds):
            pass
        return contestant.episodes, server


def single(*actions):
    """Return what answers with these actions, over and over."""
    answers = iter(actions * 100)
    return lambda _: {"action": packed(next(answers))}


def team(a, b):
    """Return what answers for whoever is alive."""

    def answer(body):
        alive = [agent for agent, seen in body["obs"].items() if seen is not None]
        acts = {"a": packed(a), "b": packed(b)}
        return {"action": {agent: acts[agent] for agent in alive}}

    return answer


class TestAnEpisode:
    def test_ends_when_the_environment_says_so(self):
        (episode,), server = played(Corridor(), single(1))
        assert (episode.total, episode.length) == (6.0, 3)
        assert len(episode.latencies_ms) == len(server.asked) == 3
        seen = [unpacked(body["obs"]).item() for body in server.asked]
        assert seen == [0, 1, 2]
        assert all("action_mask" not in body for body in server.asked)
        assert episode.violations is None

    @pytest.mark.parametrize("mask", ["info", "method"])
    def test_has_the_masks_of_the_environment_and_counts_what_they_forbid(self, mask):
        (episode,), server = played(Corridor(mask), single(0))
        masks = [unpacked(body["action_mask"]).tolist() for body in server.asked]
        assert masks == [[[True, False]], [[False, True]], [[True, False]]]
        assert episode.violations == 1
        (legal,), _ = played(Corridor(mask), single(0, 1, 0))
        assert legal.violations == 0

    def test_begins_without_a_hidden_state_and_then_hands_it_on(self):
        def counting(body):
            steps = body.get("hidden_state", {}).get("steps", 0)
            return {"action": packed(0), "hidden_state": {"steps": steps + 1}}

        agent = {"recurrent": True}
        _, server = played(Corridor(), counting, agent=agent, seeds=(1, 2))
        states = [body.get("hidden_state") for body in server.asked]
        assert states == [None, {"steps": 1}, {"steps": 2}] * 2

    def test_of_samples_draws_anew_each_time_and_alike_each_time(self):
        _, server = played(Corridor(), single(1), seeds=(1, 2, 1), mode=Mode.SAMPLE)
        asked = [call.path.partition("?")[2] for call in server.calls[1:]]
        assert all(query.startswith("mode=sample&seed=") for query in asked)
        assert asked[:3] == asked[6:]
        assert len(set(asked)) == 6

    def test_stops_at_an_action_of_another_environment(self):
        with pytest.raises(Unavailable, match="trained for another environment"):
            played(Corridor(), single(2))


class TestAnEpisodeOfATeam:
    def test_asks_for_all_at_once_and_for_the_dead_with_nothing(self):
        (episode,), server = played(Team(), team(0, 5), agent=TEAM)
        assert [body["obs"]["b"] is None for body in server.asked] == [0, 1, 1]
        assert unpacked(server.asked[0]["obs"]["b"]).tolist() == [[7.0]]
        assert (episode.total, episode.totals) == (5.0, {"a": 0.0, "b": 5.0})
        assert (episode.length, len(episode.latencies_ms)) == (3, 3)

    def test_takes_the_masks_from_beside_the_observations(self):
        (episode,), server = played(Team(), team(1, 5), agent=TEAM)
        seen = [unpacked(body["obs"]["a"]).item() for body in server.asked]
        assert seen == [0, 1, 2]
        assert unpacked(server.asked[0]["action_mask"]["a"]).tolist() == [[1, 0]]
        assert all(body["action_mask"]["b"] is None for body in server.asked)
        assert episode.violations == 3

    def test_passes_on_what_the_environment_has_the_agents_do(self):
        env = Team()
        _, server = played(env, team(0, 5), agent=TEAM)
        assert all("env_defined_actions" not in body for body in server.asked)
        env.forcing = True
        _, server = played(env, team(0, 5), agent=TEAM)
        forced = server.asked[0]["env_defined_actions"]
        assert unpacked(forced["a"]).tolist() == [1]
        assert forced["b"] is None

    def test_in_turns_asks_for_whoever_is_to_act(self):
        (episode,), server = played(Turns(), team(0, 5), agent=TEAM)
        alive = [
            [agent for agent, seen in body["obs"].items() if seen is not None]
            for body in server.asked
        ]
        assert alive == [["a"], ["b"], ["a"]]
        assert (episode.total, episode.totals) == (3.0, {"a": 1.5, "b": 1.5})
        assert episode.length == 3

    def test_in_turns_no_agent_forgets_what_it_was_not_asked_about(self):
        def counting(body):
            (asked,) = [a for a, seen in body["obs"].items() if seen is not None]
            before = (body.get("hidden_state") or {}).get(asked) or 0
            answer = {"action": {asked: packed(0)}}
            return {**answer, "hidden_state": {"a": None, "b": None, asked: before + 1}}

        _, server = played(Turns(), counting, agent=TEAM)
        states = [body.get("hidden_state") for body in server.asked]
        assert states == [None, {"b": None}, {"a": 1}]

    @pytest.mark.parametrize("action", [None, packed(0), {}, {"a": packed(0)}])
    def test_stops_if_somebody_who_lives_gets_no_action(self, action):
        with pytest.raises(Unavailable, match=r"no action for [ab]"):
            played(Team(), lambda _: {"action": action}, agent=TEAM)


class TestAContest:
    def test_is_played_in_turns_on_the_same_seeds(self):
        with (
            answering(single(0)) as one,
            answering(single(1)) as two,
            Endpoint(one.url, "key") as first,
            Endpoint(two.url, "key") as second,
        ):
            env = Corridor()
            both = [
                Contestant.of("one", first, env),
                Contestant.of("two", second, env),
            ]
            order = [
                who.name for who in episodes_of(env, Mode.GREEDY, both, range(3, 6))
            ]
        assert all(before != after for before, after in pairwise(order))
        for contestant, total in zip(both, [3.0, 6.0], strict=True):
            assert [episode.seed for episode in contestant.episodes] == [3, 4, 5]
            assert [episode.total for episode in contestant.episodes] == [total] * 3

    @pytest.mark.parametrize("kind", ["llm", "supervised"])
    def test_is_for_agents_that_act(self, kind):
        with pytest.raises(Rejected, match="does not act"):
            played(Corridor(), single(0), agent={kind: True})

    def test_is_for_agents_that_the_environment_is_for(self):
        with pytest.raises(Rejected, match="acts for a team"):
            played(Corridor(), single(0), agent=TEAM)


@pytest.mark.slow
class TestPettingZoo:
    @pytest.mark.parametrize(
        ("name", "calls"),
        [("simple_spread_v3:parallel_env", 5), ("simple-spread-v3:env", 15)],
    )
    def test_is_played_at_once_and_in_turns(self, name, calls):
        pytest.importorskip("mpe2", reason="an environment of PettingZoo's")
        env = make(f"mpe2.{name}", {"max_cycles": 5})

        def answer(body):
            alive = [agent for agent, seen in body["obs"].items() if seen is not None]
            assert {len(unpacked(body["obs"][agent])[0]) for agent in alive} == {18}
            return {
                "action": {agent: packed(int(agent != "agent_0")) for agent in alive}
            }

        (one, again), server = played(env, answer, agent=TEAM, seeds=(1, 1))
        env.close()
        assert len(server.asked) == 2 * calls
        assert set(server.asked[0]["obs"]) == {"agent_0", "agent_1", "agent_2"}
        assert one.totals == again.totals
        assert one.total == sum(one.totals.values()) < 0
        assert one.length == len(one.latencies_ms) == calls
