"""What is read of the public client's manifests, and what is only kept."""

import json

import pytest

from arena_core.application.arena_manifests import RECIPE, job
from arena_core.domain.errors import Rejected
from arena_core.domain.values import LONGEST_NAME, Family, SourceKind
from unit.spec import assert_plain

CARTPOLE = {"name": "CartPole-v1", "num_envs": 8}


def manifest(algorithm="PPO", environment=None, **sections):
    named = {"name": algorithm} if isinstance(algorithm, str) else algorithm
    where = CARTPOLE if environment is None else environment
    return {"algorithm": named, "environment": where, **sections}


def test_the_algorithm_and_the_environment_become_the_setup():
    asked = job(manifest(training={"max_steps": 1000}), {})
    assert (asked.setup.algorithm, asked.setup.family) == ("PPO", Family.RL)
    assert asked.setup.source.kind is SourceKind.GYM
    assert asked.setup.source.name == "CartPole-v1"
    assert (asked.setup.recipe, asked.max_steps) == (RECIPE, 1000)
    assert asked.name == "PPO-CartPole-v1"


def test_the_whole_manifest_is_kept_with_what_was_said_beside_it():
    whole = manifest(apiVersion="agilerl.com/v1", mutation={"sd": 0.1}, network=None)
    asked = job(whole, {"resource_id": "arena-medium", "num_nodes": None})
    kept = json.loads(asked.setup.config)
    assert kept == {"manifest": whole, "resource_id": "arena-medium"}


@pytest.mark.parametrize(
    ("name", "recurrent", "algorithm"),
    [
        ("PPO", True, "Recurrent PPO"),
        ("PPO", False, "PPO"),
        ("PPO", None, "PPO"),
        ("Recurrent PPO", True, "Recurrent PPO"),
        ("RecurrentPPO", None, "RecurrentPPO"),
        ("DQN", True, "DQN"),
    ],
)
def test_a_recurrent_ppo_is_told_by_its_name(name, recurrent, algorithm):
    asked = job(manifest({"name": name, "recurrent": recurrent}), {})
    assert asked.setup.algorithm == algorithm


@pytest.mark.parametrize(
    "environment",
    [
        {"name": "gsm8k"},
        {"env_type": "dataset", "dataset": "gsm8k"},
        {"name": None, "dataset_path": "gsm8k"},
        {"name": "", "hf_dataset_id": " gsm8k"},
        {"env_type": "rollout", "entrypoint": "gsm8k"},
    ],
)
def test_a_language_model_trains_on_a_dataset(environment):
    base = {"name": "GRPO", "pretrained_model_name_or_path": "some/model"}
    asked = job(manifest(base, environment), {})
    assert (asked.setup.family, asked.setup.base_model) == (Family.LLM, "some/model")
    assert asked.setup.source.kind is SourceKind.DATASET
    assert asked.setup.source.name == "gsm8k"


def test_the_name_made_of_long_names_is_no_longer_than_names_are():
    asked = job(manifest(environment={"name": "x" * LONGEST_NAME}), {})
    assert len(asked.name) == LONGEST_NAME


@pytest.mark.parametrize(
    ("whole", "field"),
    [
        ({}, "manifest"),
        ({"algorithm": {"name": "PPO"}}, "manifest"),
        (manifest({}), "manifest.algorithm"),
        (manifest({"name": 7}), "manifest.algorithm.name"),
        (manifest(" "), "manifest.algorithm.name"),
        (manifest("PPO2"), "manifest.algorithm.name"),
        (manifest("Recurrent"), "manifest.algorithm.name"),
        (manifest({"name": "PPO", "recurrent": "yes"}), "manifest.algorithm.recurrent"),
        (manifest(environment=[]), "manifest.environment"),
        (manifest(environment={}), "manifest.environment.name"),
        (manifest(environment={"name": " "}), "manifest.environment.name"),
        (manifest(environment={"name": "a\nb"}), "manifest.environment.name"),
        (manifest(environment={"name": "x" * 999}), "manifest.environment.name"),
        (manifest(training={"max_steps": -1}), "manifest.training.max_steps"),
        (manifest(training={"max_steps": 2**63}), "manifest.training.max_steps"),
        (manifest(training={"max_steps": 0.5}), "manifest.training.max_steps"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_name(whole, field):
    with pytest.raises(Rejected) as caught:
        job(whole, {})
    assert caught.value.field == field
    assert_plain(caught.value)


def test_an_unknown_algorithm_is_told_with_the_other_way_in():
    with pytest.raises(Rejected, match=r"PPO2 is not known here: .* by the API"):
        job(manifest("PPO2"), {})
