"""Playing against the real server, with policies of every shape.

Each environment rewards the very action that NumPy makes of the same weights with 1:
an episode whose return is its length proves every array on the way there and back.
"""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from arena_core.application.inference import Mode
from arena_core.entrypoints.http.server import Server, listen
from arena_core.entrypoints.play.contest import Contestant, episodes_of
from arena_core.entrypoints.play.endpoint import Endpoint

import shapes
from end_to_end.http_world import opened

STEPS = 6


class Oracle(gymnasium.Env):
    """Pays 1 for each action that is `right`, for a few steps."""

    def __init__(self, action_space):
        self.action_space = action_space

    def observe(self, number):
        raise NotImplementedError

    def right(self):
        raise NotImplementedError

    def info(self):
        return {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.number = seed
        self.last = seed + STEPS
        self.observation = self.observe(self.number)
        return self.observation, self.info()

    def step(self, action):
        is_right = np.allclose(action, self.right(), atol=1e-5)
        self.number += 1
        self.observation = self.observe(self.number)
        over = self.number == self.last
        return self.observation, float(is_right), over, False, self.info()


class OfADict(Oracle):
    def observe(self, number):
        rows = shapes.dict_observations(number)
        self.arrays = {path: array[-1:] for path, array in rows.items()}
        one = {path: array[0] for path, array in self.arrays.items()}
        inner = (one.pop("inner/0"), one.pop("inner/1"))
        return {**one, "inner": inner}

    def right(self):
        return shapes.DICT(self.arrays)["logits"].argmax() - 1


class OfATuple(Oracle):
    def observe(self, number):
        rows = shapes.tuple_observations(number)
        self.arrays = {path: array[-1:] for path, array in rows.items()}
        return (self.arrays["0"][0], self.arrays["1"][0])

    def right(self):
        return shapes.rescaled(shapes.TUPLE(self.arrays)["mean"])[0]


class OfAnImage(Oracle):
    def observe(self, number):
        return shapes.images(number)[-1]

    def right(self):
        return shapes.IMAGE({"obs": self.observation[None]})["logits"].argmax()


class OfTwoParts(Oracle):
    """Its masks come in parts, as Gymnasium has them."""

    def observe(self, number):
        self.mask = shapes.multi_discrete_mask(number)[-1]
        return shapes.vectors(number, 4)[-1]

    def info(self):
        return {"action_mask": (self.mask[:2], self.mask[2:])}

    def right(self):
        logits = shapes.MULTI_DISCRETE({"obs": self.observation[None]})["logits"]
        return shapes.multi_discrete(logits, self.mask[None])[0]


class OfBits(Oracle):
    def observe(self, number):
        return shapes.vectors(number, 4)[-1]

    def right(self):
        return shapes.MULTI_BINARY({"obs": self.observation[None]})["logits"][0] > 0


class OfMemory(Oracle):
    """Only a policy that remembers the episode, and no other, is right."""

    def reset(self, *, seed=None, options=None):
        self.hidden = np.zeros((1, 1, shapes.RECURRENT.width), "f4")
        return super().reset(seed=seed, options=options)

    def observe(self, number):
        return shapes.vectors(1, shapes.RECURRENT.observed, seed=number)[0]

    def right(self):
        logits, self.hidden = shapes.RECURRENT(self.observation[None], self.hidden)
        return logits.argmax()


class OfATeam:
    """Of three agents one dies after two steps; another is forced in each."""

    possible_agents = tuple(shapes.AGENTS)
    FORCED = np.array([0.25, -0.25], np.float32)

    def reset(self, seed):
        self.number, self.steps, self.agents = seed, 0, list(self.possible_agents)
        return self._observed(), self._infos()

    def step(self, actions):
        right = shapes.agent_actions({a: o[None] for a, o in self.seen.items()})
        right["listener_0"] = self.FORCED[None]
        rewards = {
            agent: float(np.allclose(action, right[agent][0], atol=1e-5))
            for agent, action in actions.items()
        }
        self.steps += 1
        if self.steps == 2:
            self.agents.remove("listener_1")
        if self.steps == STEPS:
            self.agents = []
        over = {agent: agent not in self.agents for agent in actions}
        return self._observed(), rewards, over, over, self._infos()

    def action_space(self, agent):
        return Discrete(3) if agent == "speaker_0" else Box(-1, 1, (2,))

    def _observed(self):
        rows = shapes.meeting(self.number + self.steps)
        self.seen = {agent: rows[agent][-1] for agent in self.agents}
        return self.seen

    def _infos(self):
        return {"listener_0": {"env_defined_actions": self.FORCED}}


@pytest.fixture(scope="module")
def world():
    """Return a world, and the URL at which it is served."""
    with (
        opened() as world,
        Server(world.arena.asgi(), listen("127.0.0.1", 0)).in_background() as url,
    ):
        yield world, url


@pytest.fixture
def played(world, tmp_path):
    """Return what plays a bundle for two episodes, by a seed and the next."""

    def episodes(write, algorithm, env, mode=Mode.GREEDY):
        there, url = world
        live = there.live(write(tmp_path / "bundle"), algorithm=algorithm)
        with Endpoint(url + live.path, live.key) as endpoint:
            contestant = Contestant.of("it", endpoint, env)
            for _ in episodes_of(env, mode, [contestant], range(3, 5)):
                pass
        return contestant.episodes

    return episodes


@pytest.mark.parametrize(
    ("write", "algorithm", "env"),
    [
        (shapes.dict_policy, "DQN", OfADict(Discrete(3, start=-1))),
        (shapes.tuple_policy, "SAC", OfATuple(Box(-2, 2, (2,)))),
        (shapes.image_policy, "PPO", OfAnImage(Discrete(4))),
        (shapes.multi_binary_policy, "A2C", OfBits(MultiBinary(3))),
        (shapes.recurrent_policy, "Recurrent PPO", OfMemory(Discrete(3))),
    ],
)
def test_every_answer_is_what_the_weights_say(played, write, algorithm, env):
    for episode in played(write, algorithm, env):
        assert (episode.total, episode.length) == (STEPS, STEPS)
        assert episode.violations is None


def test_masks_are_obeyed_in_each_part_of_an_action(played):
    space = MultiDiscrete([2, 3], start=[0, 4])
    for episode in played(
        shapes.multi_discrete_policy, "MaskablePPO", OfTwoParts(space)
    ):
        assert (episode.total, episode.violations) == (STEPS, 0)


def test_a_team_acts_with_its_dead_and_its_forced(played):
    for episode in played(shapes.multi_agent_policy, "MADDPG", OfATeam()):
        assert episode.totals == {
            "speaker_0": STEPS,
            "listener_0": STEPS,
            "listener_1": 2,
        }
        assert (episode.total, episode.length) == (2 * STEPS + 2, STEPS)


def test_samples_are_drawn_alike_for_the_same_seed_and_are_not_greedy(played):
    env = OfMemory(Discrete(3))
    once, again = (
        [
            episode.total
            for episode in played(
                shapes.recurrent_policy, "Recurrent PPO", env, Mode.SAMPLE
            )
        ]
        for _ in range(2)
    )
    assert once == again
    assert min(once) < STEPS
