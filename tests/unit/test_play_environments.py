"""What can be typed as --env, and how what it names is played."""

import sys
from textwrap import dedent

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from arena_core.domain.errors import Rejected
from arena_core.entrypoints.play.environments import loop_of, make
from arena_core.entrypoints.play.episodes import alone, in_turns, together

GAMES = """
    import gymnasium
    from gymnasium.envs.classic_control import CartPoleEnv

    class Cart_Pole(CartPoleEnv):
        pass

    def with_gravity(gravity=9.8):
        env = Cart_Pole()
        env.gravity = gravity
        return env

    class Team:
        possible_agents = ["a", "b"]

    class Turns(Team):
        def agent_iter(self): ...

    LIMIT = 7

    gymnasium.register("Registered-v3", Cart_Pole, max_episode_steps=LIMIT)
"""


@pytest.fixture(autouse=True)
def _games(tmp_path, monkeypatch):
    (tmp_path / "our_games").mkdir()
    (tmp_path / "our_games" / "all_of_them.py").write_text(dedent(GAMES))
    (tmp_path / "our_games" / "__init__.py").write_text("from . import all_of_them")
    (tmp_path / "wants_more.py").write_text("import pygame_of_nobody.inner")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    gymnasium.registry.pop("Registered-v3", None)
    for name in [name for name in sys.modules if name.startswith("our_games")]:
        del sys.modules[name]


def refusal(name, arguments=None):
    with pytest.raises(Rejected) as refused:
        make(name, arguments or {})
    assert refused.value.field == "env"
    said = str(refused.value)
    assert said.endswith((".", "?"))
    assert "\n" not in said
    return said


def test_an_id_of_gymnasium_s_is_made_with_its_arguments():
    with make("CartPole-v1", {"max_episode_steps": 3}) as env:
        assert isinstance(env.unwrapped, CartPoleEnv)
        assert env.spec.max_episode_steps == 3


def test_an_id_may_say_which_package_registers_it():
    with make("our_games:Registered-v3", {}) as env:
        assert env.spec.id == "Registered-v3"
        assert env.spec.max_episode_steps == 7


@pytest.mark.parametrize(
    "name",
    ["our_games.all_of_them:with_gravity", "our-games.all-of-them:with-gravity"],
)
def test_a_function_is_called_and_a_hyphen_may_stand_for_its_underscore(name):
    assert make(name, {"gravity": 1.5}).gravity == 1.5


def test_a_class_is_as_good_as_a_function():
    made = make("our_games.all_of_them:Cart_Pole", {})
    assert type(made).__name__ == "Cart_Pole"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPol-v1", "CartPole"),
        ("CartPole-v99", "CartPole"),
        ("our_games.all_of_them:LIMIT", "LIMIT"),
        ("our_games.all_of_them:nothing", "nothing"),
        ("our_games.none_of_them:env", "There is no module our_games.none_of_them"),
        ("no_such_package.games:env", "the package no_such_package"),
        ("wants_more:env", "the package pygame_of_nobody"),
        ("", "cannot be made"),
        (":", "cannot be made"),
        (":env", "cannot be made"),
        ("a b:c", "not installed"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(name, said):
    assert said in refusal(name)


@pytest.mark.parametrize("name", ["CartPole-v1", "our_games.all_of_them:with_gravity"])
def test_arguments_that_it_does_not_take_are_refused(name):
    assert "colour" in refusal(name, {"colour": 3})


def test_a_missing_package_is_named_with_what_installs_it():
    assert "pip install no_such_package" in refusal("no_such_package:env")


def game(name):
    return make(f"our_games.all_of_them:{name}", {})


def test_the_interface_of_the_environment_says_how_it_is_played():
    assert loop_of(game("Cart_Pole"), multi_agent=False) is alone
    assert loop_of(game("Team"), multi_agent=True) is together
    assert loop_of(game("Turns"), multi_agent=True) is in_turns


@pytest.mark.parametrize(
    ("name", "multi_agent", "said"),
    [
        ("Cart_Pole", True, "acts for a team"),
        ("Team", False, "acts by itself"),
        ("Turns", False, "acts by itself"),
    ],
)
def test_an_agent_plays_only_what_it_is_for(name, multi_agent, said):
    with pytest.raises(Rejected, match=said):
        loop_of(game(name), multi_agent=multi_agent)


def test_what_is_no_environment_is_refused():
    with pytest.raises(Rejected, match="A dict is no environment"):
        loop_of({}, multi_agent=False)
