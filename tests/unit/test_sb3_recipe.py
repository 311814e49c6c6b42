"""The recipe `sb3` trains for real, and says itself what its policies answer."""

import json
import tempfile
from functools import partial

import gymnasium
import msgspec
import numpy as np
import pytest
from stable_baselines3 import PPO

from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.application.recipe_settings import Sb3
from arena_core.domain.parity import Verdict
from arena_core.entrypoints.recipes import sb3_bundles, sb3_environments
from arena_core.entrypoints.recipes.sb3_training import Task
from arena_core.training import Run

from sb3_runs import (
    EVERY,
    OFF_POLICY,
    QUICK,
    RECURRENT,
    more_environments,
    ordered,
    parity_of,
    resumed,
    train,
    with_,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def environments():
    with more_environments():
        yield


def digest(bundle):
    return MemoryBlobStore().put(bundle)


def provenance(bundle):
    return json.loads((bundle / "checkpoint.json").read_text())["provenance"]


def test_an_evaluation_ends_where_no_episode_does(tmp_path, monkeypatch):
    monkeypatch.setattr(sb3_environments, "MOST_STEPS", 20)
    trained = train(tmp_path / "run", steps=64, env="Endless-v0")
    assert set(trained.metrics("fitness")) == {64}


# --- what it leaves ------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "env", "config"), EVERY)
def test_what_was_trained_is_served_as_stable_baselines_answers(
    algorithm, env, config, tmp_path
):
    trained = train(
        tmp_path / "run", steps=128, algorithm=algorithm, env=env, config=config
    )
    bundle = trained.checkpoint()
    assert parity_of(bundle).verdict is Verdict.PASSED
    assert provenance(bundle)["golden"] == "recorded in training"


def test_another_policy_than_the_one_that_was_recorded_is_found_out(tmp_path):
    trained = train(tmp_path / "run", steps=256)
    first, last = trained.checkpoint(trained.steps[0]), trained.checkpoint()
    (last / "golden.npz").write_bytes((first / "golden.npz").read_bytes())
    assert parity_of(last).verdict is Verdict.FAILED


def test_a_recurrent_policy_is_recorded_over_several_steps(tmp_path):
    algorithm, env, config = RECURRENT
    trained = train(
        tmp_path / "run", steps=64, algorithm=algorithm, env=env, config=config
    )
    recorded = np.load(trained.checkpoint() / "golden.npz")
    states = [recorded[f"case1/step{n}/outputs/h_next"] for n in range(4)]
    assert not np.allclose(states[0], states[1])


def test_nothing_is_left_outside_of_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    train(tmp_path / "run", steps=64)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_checkpoints_lie_at_multiples_and_at_the_end(tmp_path):
    config = with_(QUICK, checkpoint_every=100, evaluate_every=50)
    trained = train(tmp_path / "run", steps=256, config=config)
    assert trained.steps == [100, 200, 256]
    assert trained.total == 256
    assert set(trained.metrics("fitness")) == {50, 100, 150, 200, 250, 256}


def test_each_checkpoint_has_both_scores(tmp_path):
    between_updates = with_(QUICK, checkpoint_every=100, evaluate_every=10**6)
    trained = train(tmp_path / "run", steps=256, config=between_updates)
    assert trained.steps == [100, 200, 256]
    for name in ("score", "fitness"):
        assert set(trained.steps) <= set(trained.metrics(name))


def test_losses_are_metrics_by_their_own_names(tmp_path):
    trained = train(tmp_path / "run", steps=128)
    assert {"value_loss", "approx_kl"} <= {
        name
        for line in (trained.folder / "metrics.jsonl").read_text().splitlines()
        for name in json.loads(line)
    }


# --- again ---------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "env", "config"), [EVERY[1], OFF_POLICY[1]])
def test_the_same_seed_gives_the_same_bundle(algorithm, env, config, tmp_path):
    given = {"algorithm": algorithm, "env": env, "config": config, "steps": 128}
    one = train(tmp_path / "one", seed=5, **given)
    same = train(tmp_path / "same", seed=5, **given)
    other = train(tmp_path / "other", seed=6, **given)
    assert digest(one.checkpoint()) == digest(same.checkpoint())
    assert digest(one.checkpoint()) != digest(other.checkpoint())


@pytest.mark.parametrize(("algorithm", "env", "config"), EVERY)
def test_training_goes_on_where_its_state_was_kept(algorithm, env, config, tmp_path):
    given = {"algorithm": algorithm, "env": env, "config": config}
    first = train(tmp_path / "first", steps=128, **given)
    second = train(tmp_path / "second", steps=200, more=resumed(first), **given)
    assert second.steps[0] > first.steps[-1]
    assert second.steps[-1] >= 200
    assert parity_of(second.checkpoint()).verdict is Verdict.PASSED


def test_checkpoints_of_what_goes_on_lie_at_the_same_multiples(tmp_path):
    first = train(tmp_path / "first", steps=128)
    second = train(tmp_path / "second", steps=224, more=resumed(first))
    assert (first.steps, second.steps) == ([64, 128], [192, 256])
    # What is collected for an update is complete: two environments, 32 steps each.
    assert min(second.metrics("value_loss")) > 128


def test_what_goes_on_does_not_meet_the_same_episodes_again(tmp_path):
    def begins_with(folder, more):
        environ = ordered(folder) | more
        settings = msgspec.convert(QUICK, Sb3)
        task = Task(
            Run(environ), "PPO", settings, partial(gymnasium.make, "CartPole-v1")
        )
        return task.env().reset()

    resumed_at = {"ARENA_RESUME_CHECKPOINT": str(tmp_path), "ARENA_RESUME_STEP": "64"}
    anew, again = begins_with(tmp_path / "a", {}), begins_with(tmp_path / "b", {})
    resumed = begins_with(tmp_path / "c", resumed_at)
    np.testing.assert_array_equal(anew, again)
    assert not np.array_equal(anew, resumed)


def test_the_running_means_go_on(tmp_path):
    given = {"env": "Pendulum-v1", "config": with_(QUICK, normalise=True)}
    first = train(tmp_path / "first", steps=128, **given)
    second = train(tmp_path / "second", steps=192, more=resumed(first), **given)
    env = sb3_environments.plain(lambda: gymnasium.make("Pendulum-v1"), count=2, seed=0)
    model = sb3_bundles.restored(PPO, second.state(), env, "cpu")
    assert model.get_vec_normalize_env().obs_rms.count >= 192


def test_what_has_made_all_its_steps_makes_as_many_again(tmp_path):
    config = with_(QUICK, total_steps=64)
    first = train(tmp_path / "first", steps=64, config=config)
    second = train(tmp_path / "second", steps=64, config=config, more=resumed(first))
    assert second.steps[-1] == 128


def test_without_its_state_the_weights_of_the_checkpoint_go_on(tmp_path):
    first = train(tmp_path / "first", steps=128)
    more = resumed(first)
    del more["ARENA_RESUME_STATE"]
    config = with_(QUICK, hyperparameters={"learning_rate": 0.0})
    second = train(tmp_path / "second", steps=192, config=config, more=more)
    assert second.steps[0] > 128
    weights = [
        (bundle / "policy.onnx").read_bytes()
        for bundle in (first.checkpoint(), second.checkpoint())
    ]
    assert weights[0] == weights[1]
