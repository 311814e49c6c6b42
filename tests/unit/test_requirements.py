"""What is missing on this machine is said to whoever asks for the training."""

import os
import sys
import tomllib
from pathlib import Path

import pytest

from arena_core.application.experiments import dataset, gym, setup
from arena_core.application.recipes import RECIPES
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.recipes import known_environments, requirements
from arena_core.entrypoints.recipes.known_environments import (
    AGAIN_S,
    KnownEnvironments,
)
from arena_core.entrypoints.recipes.requirements import MODULES, Here
from arena_core.entrypoints.settings import Settings

ROOT = Path(__file__).parents[2]
CARTPOLE = gym("CartPole-v1")
KNOWN = frozenset({"CartPole-v0", "CartPole-v1", "Acrobot-v1"})
BROUGHT_BY = {
    "pyarrow": "pyarrow", "sb3_contrib": "sb3-contrib",
    "sklearn": "scikit-learn", "stable_baselines3": "stable-baselines3",
    "torch": "torch",
}  # fmt: skip
"""Which distribution has a module."""


def here(*, missing=(), **settings):
    given = {"store": "memory:"} | settings
    return Here(
        Settings(**given),
        KnownEnvironments(lambda: KNOWN),
        lambda module: module not in missing,
    )


def refusal(here, said):
    with pytest.raises(Rejected) as caught:
        here.check(said)
    return caught.value


# --- packages ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("sb3", {"algorithm": "PPO", "source": CARTPOLE}),
        ("supervised", {"algorithm": "Supervised", "source": dataset("iris")}),
        ("latent_ppo", {"algorithm": "LatentPPO", "source": dataset("iris")}),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_what_brings_it(recipe, said):
    asked = setup(recipe=recipe, **said)
    here().check(asked)
    for module in MODULES[recipe]:
        error = refusal(here(missing=[module]), asked)
        assert f"{module} is not installed here" in str(error)
        assert f"pip install 'arena-core[{RECIPES[recipe].extra}]'" in str(error)
        assert error.field == "recipe"


def test_the_extra_that_is_named_brings_what_is_missing():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]

    def brought(extra):
        for line in extras[extra]:
            if line.startswith("arena-core["):
                for inner in line.split("[")[1].rstrip("]").split(","):
                    yield from brought(inner)
            else:
                yield line.split(">")[0].split("[")[0]

    assert MODULES.keys() == RECIPES.keys() - {"agilerl", "command"}
    for recipe, modules in MODULES.items():
        found = set(brought(RECIPES[recipe].extra))
        assert {BROUGHT_BY[module] for module in modules} <= found


def test_what_another_interpreter_has_is_not_looked_for_in_this_one(tmp_path):
    asked = setup(algorithm="PPO", source=CARTPOLE, recipe="agilerl")
    here(missing=["agilerl"]).check(asked)
    here(missing=["agilerl"], agilerl_python=sys.executable).check(asked)
    error = refusal(here(agilerl_python=str(tmp_path / "python")), asked)
    assert "ARENA_AGILERL_PYTHON" in str(error)
    assert str(tmp_path) not in str(error)


def test_packages_are_looked_for_and_not_imported():
    whole = Here(Settings(store="memory:"), KnownEnvironments(lambda: KNOWN))
    before = set(sys.modules)
    whole.check(setup(algorithm="PPO", source=CARTPOLE))
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not new & set(BROUGHT_BY)


# --- datasets ------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["supervised", "latent_ppo"])
def test_a_dataset_that_is_not_there_is_said_before_it_is_trained_on(tmp_path, recipe):
    algorithm = {"supervised": "Supervised", "latent_ppo": "LatentPPO"}[recipe]

    def asked(name):
        return setup(algorithm=algorithm, source=dataset(name), recipe=recipe)

    place = here(datasets=tmp_path)
    place.check(asked("wine"))
    (tmp_path / "own.csv").write_text("a,b\n1,2\n")
    place.check(asked("own.csv"))
    (tmp_path / "own.txt").write_text("a,b\n1,2\n")
    for name, problem in [
        ("gone.csv", "There is no dataset gone.csv"),
        ("../own.csv", "no plain name"),
        ("own.txt", "of no kind that is read"),
    ]:
        error = refusal(place, asked(name))
        assert problem in str(error)
        assert error.field == "source.name"


# --- environments --------------------------------------------------------------------


def on(name):
    return setup(algorithm="PPO", source=gym(name), recipe="sb3")


@pytest.mark.parametrize("name", ["CartPole-v1", "CartPole", "my_envs:Maze-v0"])
def test_an_environment_that_may_be_there_is_let_be(name):
    here().check(on(name))


def test_an_unknown_environment_is_refused_with_the_nearest_that_is_known():
    error = refusal(here(), on("CartPoel-v1"))
    assert "no environment CartPoel-v1" in str(error)
    assert "Did you mean CartPole-v1?" in str(error)
    assert error.field == "source.name"
    assert "Did you mean" not in str(refusal(here(), on("Quite-else-v0")))


def test_a_manifest_of_agilerl_may_name_what_gymnasium_does_not_know():
    here().check(setup(algorithm="PPO", source=gym("mine"), recipe="agilerl"))


def test_what_is_unknown_is_asked_for_again_but_not_each_time():
    now, told, asked = [0.0], [KNOWN], []

    def ask():
        asked.append(now[0])
        return told[0]

    known = KnownEnvironments(ask, lambda: now[0])
    known.check("CartPole-v1")
    known.check("Acrobot-v1")
    for _ in range(3):
        with pytest.raises(Rejected):
            known.check("New-v0")
    assert asked == [0.0]
    now[0], told[0] = AGAIN_S, KNOWN | {"New-v0"}
    known.check("New-v0")
    assert asked == [0.0, AGAIN_S]


def test_where_gymnasium_says_nothing_every_environment_is_let_be():
    KnownEnvironments(frozenset).check("Nobody-knows-v0")


def test_what_was_known_stays_known_though_gymnasium_says_nothing():
    now, told = [0.0], [KNOWN]
    known = KnownEnvironments(lambda: told[0], lambda: now[0])
    known.check("CartPole-v1")
    now[0], told[0] = AGAIN_S, frozenset()
    for _ in range(2):
        with pytest.raises(Rejected, match="Did you mean CartPole-v1"):
            known.check("CartPoel-v1")
    known.check("CartPole-v1")


def test_gymnasium_is_asked_in_a_process_of_its_own(monkeypatch):
    told = known_environments.ask()
    assert "CartPole-v1" in told
    monkeypatch.setattr(known_environments, "_ARGV", (sys.executable, "-c", "1/0"))
    assert known_environments.ask() == frozenset()
    monkeypatch.setattr(known_environments, "_ARGV", ("/nowhere/python",))
    assert known_environments.ask() == frozenset()
    slow = (sys.executable, "-uc", "import time; print('X-v0'); time.sleep(30)")
    monkeypatch.setattr(known_environments, "_ARGV", slow)
    monkeypatch.setattr(known_environments, "PATIENCE_S", 0.2)
    assert known_environments.ask() == frozenset()


# --- programs ------------------------------------------------------------------------


def command(*argv, **env):
    config = {"argv": list(argv), "env": env}
    return setup(algorithm="PPO", source=CARTPOLE, recipe="command", config=config)


def test_a_program_that_is_not_there_is_said_before_it_is_started(tmp_path):
    script = tmp_path / "train"
    script.write_text("#!/bin/sh\n")
    error = refusal(here(), command(str(script)))
    assert "no program" in str(error)
    assert error.field == "config.argv 0"
    script.chmod(0o700)
    here().check(command(str(script)))
    refusal(here(), command("train"))
    here().check(command("train", PATH=str(tmp_path)))


def test_a_program_is_looked_for_where_the_training_will_look(monkeypatch, tmp_path):
    here().check(command("sh"))
    monkeypatch.setenv("PATH", str(tmp_path))
    refusal(here(), command("sh"))
    monkeypatch.delenv("PATH")
    assert "/bin" in os.defpath
    here().check(command("sh"))


def test_what_is_looked_for_is_what_the_recipes_are():
    assert requirements.COMMAND in RECIPES
    assert requirements.AGILERL in RECIPES
