"""Which recipe trains what, which settings it understands, and what is not for all."""

import json

import pytest

from arena_core.application.experiments import dataset, gym, setup
from arena_core.application.recipes import (
    RECIPES,
    checked,
    recipe_of,
    runs_what_it_names,
)
from arena_core.domain.errors import Rejected
from unit.spec import assert_plain

CARTPOLE = gym("CartPole-v1")
IRIS = dataset("iris")
ARGV = {"argv": ["/srv/train.sh"]}


def experiment(algorithm="PPO", source=CARTPOLE, **said):
    return setup(algorithm=algorithm, source=source, **said)


# --- which one -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "source", "recipe"),
    [
        ("PPO", CARTPOLE, "sb3"),
        ("Recurrent PPO", CARTPOLE, "sb3"),
        ("RecurrentPPO", CARTPOLE, "sb3"),
        ("DQN", CARTPOLE, "sb3"),
        ("Supervised", IRIS, "supervised"),
        ("LatentPPO", IRIS, "latent_ppo"),
    ],
)
def test_a_recipe_need_not_be_named(algorithm, source, recipe):
    assert recipe_of(experiment(algorithm, source)).name == recipe


@pytest.mark.parametrize(
    ("algorithm", "source"),
    [
        ("PPO", None),
        ("PPO", IRIS),
        ("Rainbow DQN", CARTPOLE),
        ("GRPO", dataset("gsm8k")),
        ("Supervised", CARTPOLE),
        ("LatentPPO", None),
    ],
)
def test_what_no_recipe_trains_by_itself_is_refused(algorithm, source):
    with pytest.raises(Rejected) as refusal:
        recipe_of(experiment(algorithm, source))
    assert refusal.value.field == "recipe"
    for name in RECIPES:
        assert name in str(refusal.value)
    assert_plain(str(refusal.value))


def test_an_unknown_recipe_is_refused():
    with pytest.raises(Rejected, match=r"x\?y is not known: use one of command") as it:
        recipe_of(experiment(recipe="x[y"))
    assert it.value.field == "recipe"


@pytest.mark.parametrize(
    ("recipe", "algorithm", "source"),
    [
        ("sb3", "Rainbow DQN", CARTPOLE),
        ("sb3", "PPO", IRIS),
        ("agilerl", "GRPO", dataset("gsm8k")),
        ("agilerl", "PPO", None),
        ("supervised", "PPO", CARTPOLE),
        ("supervised", "Supervised", CARTPOLE),
        ("latent_ppo", "PPO", IRIS),
        ("latent_ppo", "LatentPPO", CARTPOLE),
    ],
)
def test_a_recipe_that_does_not_train_it_says_what_it_trains(recipe, algorithm, source):
    with pytest.raises(Rejected) as refusal:
        recipe_of(experiment(algorithm, source, recipe=recipe))
    assert RECIPES[recipe].trains in str(refusal.value)
    assert algorithm in str(refusal.value)
    assert_plain(str(refusal.value))


@pytest.mark.parametrize("source", [None, CARTPOLE, IRIS])
@pytest.mark.parametrize("algorithm", ["PPO", "GRPO", "Supervised", "LatentPPO"])
def test_a_command_trains_anything(algorithm, source):
    assert recipe_of(experiment(algorithm, source, recipe="command")).name == "command"


def test_an_algorithm_of_another_family_is_not_one_of_stable_baselines():
    strange = experiment("PPO", family="supervised", recipe="sb3")
    with pytest.raises(Rejected, match="family supervised"):
        recipe_of(strange)


# --- its settings --------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_seed(name):
    assert "seed" in RECIPES[name].config.__struct_fields__


def test_what_is_not_said_has_its_default():
    settings = checked(experiment(config={"n_envs": 8}))
    assert (settings["n_envs"], settings["total_steps"]) == (8, 50_000)
    assert checked(experiment())["n_envs"] == 1


def test_the_settings_are_plain_json():
    settings = checked(experiment(config={"hyperparameters": {"gamma": 0.9}}))
    assert json.loads(json.dumps(settings)) == settings


def test_who_slips_in_the_name_of_a_setting_is_told_those_there_are():
    with pytest.raises(
        Rejected, match=r"no setting n_env\. Did you mean n_envs\? The recipe sb3 has"
    ) as told:
        checked(experiment(config={"n_env": 8}))
    assert all(
        name in str(told.value) for name in RECIPES["sb3"].config.__struct_fields__
    )


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"config": {"n_env": 8}}, "config.n_env"),
        ({"config": {"n_envs": 0}}, "config.n_envs"),
        ({"config": {"total_steps": 0}}, "config.total_steps"),
        ({"config": {"total_steps": "many"}}, "config.total_steps"),
        ({"config": {"policy": "rnn"}}, "config.policy"),
        ({"config": {"seed": -1}}, "config.seed"),
        ({"config": {"device": "tpu"}}, "config.device"),
        ({"config": {}, "recipe": "command"}, "config"),
        ({"config": {"argv": []}, "recipe": "command"}, "config.argv"),
        ({"config": {"argv": [""]}, "recipe": "command"}, "config.argv 0"),
        ({"config": {"argv": ["./me"]}, "recipe": "command"}, "config.argv 0"),
        ({"config": ARGV | {"env": {"A=B": "x"}}, "recipe": "command"}, "config"),
        ({"config": ARGV | {"env": {"A": "\0"}}, "recipe": "command"}, "config"),
        ({"config": {"argv": ["x\0"]}, "recipe": "command"}, "config"),
        ({"config": {}, "recipe": "agilerl"}, "config"),
        ({"config": {"manifest": "x"}, "recipe": "agilerl"}, "config.manifest"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(said, field):
    with pytest.raises(Rejected) as refusal:
        checked(experiment(**said))
    assert refusal.value.field.startswith(field)
    assert_plain(str(refusal.value))


# --- what runs what it names ---------------------------------------------------------


def manifest(**environment):
    return {"manifest": {"algorithm": {"name": "PPO"}, "environment": environment}}


def other_algorithm(name):
    """Return a manifest that is not of the experiment's algorithm, on a module."""
    return {"manifest": {"algorithm": {"name": name}, "environment": {"name": "os"}}}


HARMLESS = [
    experiment(),
    experiment(config={"env_kwargs": {"g": 9.8, "mode": "easy"}}),
    experiment(config={"hyperparameters": {"policy_kwargs": {"net_arch": [8]}}}),
    experiment(recipe="agilerl", config=manifest(name="CartPole-v1", num_envs=4)),
    experiment(recipe="agilerl", config=manifest(name="CartPole-v1", entrypoint=None)),
    experiment("Supervised", IRIS, config={"target": "a/b"}),
    experiment(
        recipe="agilerl",
        config={"manifest": {"apiVersion": "agilerl.com/v1", "kind": "X"}},
    ),
    experiment(recipe="nowhere"),
]
NAMES_CODE = [
    experiment(recipe="command", config=ARGV),
    experiment(source=gym("my_module:Env-v0")),
    experiment(config={"env_kwargs": {"xml": "/etc/passwd"}}),
    experiment(config={"env_kwargs": {"xml": ["..\\x"]}}),
    experiment(config={"env_kwargs": {"deep": {"id": "os:system"}}}),
    experiment(config={"hyperparameters": {"x": "~root"}}),
    experiment(recipe="agilerl", config=manifest(name="X", entrypoint="m.f")),
    experiment(recipe="agilerl", config=manifest(name="X", env_wrappers=["a.b"])),
    experiment(recipe="agilerl", config=manifest(name="X", path="here")),
    experiment(recipe="agilerl", config=manifest(name="m:X")),
    experiment(recipe="agilerl", config={"manifest": {"apiVersion": "a.com/v1"}}),
    experiment(recipe="agilerl", config=manifest(name="X", Entrypoint="m.f")),
    experiment(recipe="agilerl", config=other_algorithm("MADDPG")),
    experiment(recipe="agilerl", config=other_algorithm("grpo")),
    experiment("IPPO", gym("os"), recipe="agilerl", config=manifest(name="os")),
]


@pytest.mark.parametrize("harmless", HARMLESS)
def test_plain_settings_run_nothing_that_they_name(harmless):
    assert not runs_what_it_names(harmless)


@pytest.mark.parametrize("named", NAMES_CODE)
def test_modules_paths_and_programs_are_for_whoever_is_trusted(named):
    assert runs_what_it_names(named)


def test_a_value_that_is_none_of_those_there_are_is_told_with_them_alone():
    said = setup(
        algorithm="PPO",
        source=gym("CartPole-v1"),
        recipe="sb3",
        config={"device": "tpu"},
    )
    with pytest.raises(Rejected) as refusal:
        checked(said)
    assert str(refusal.value) == (
        "The config.device is wrong: Invalid enum value 'tpu'. "
        "Use one of auto, cpu, cuda."
    )
    assert refusal.value.field == "config.device"
