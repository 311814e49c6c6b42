"""Training begins with the weights of a bundle, or says why it cannot."""

import json
import shutil

import gymnasium
import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from arena_core.application.recipe_settings import Sb3
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.recipes import sb3_environments, sb3_models
from arena_core.entrypoints.recipes.sb3_weights import load_weights

from sb3_runs import (
    EVERY,
    QUICK,
    QUICK_OFF_POLICY,
    more_environments,
    train,
    with_,
)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def environments():
    with more_environments():
        yield


def starting(bundle):
    return {"ARENA_START_CHECKPOINT": str(bundle)}


def frozen(config):
    """Return the configuration of a training that changes nothing."""
    return with_(config, hyperparameters={"learning_rate": 0.0})


def weights(bundle):
    network = onnx.load(bundle / "policy.onnx")
    return [numpy_helper.to_array(it) for it in network.graph.initializer]


@pytest.mark.parametrize(("algorithm", "env", "config"), EVERY)
def test_training_begins_with_the_weights_of_a_bundle(algorithm, env, config, tmp_path):
    given = {"algorithm": algorithm, "env": env}
    before = train(tmp_path / "before", steps=128, config=config, seed=1, **given)
    after = train(
        tmp_path / "after",
        steps=32,
        config=frozen(config),
        more=starting(before.checkpoint()),
        seed=2,
        **given,
    )
    for one, other in zip(
        weights(before.checkpoint()), weights(after.checkpoint()), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("algorithm", "env", "online", "target"),
    [
        ("DQN", "CartPole-v1", "q_net", "q_net_target"),
        ("TD3", "Pendulum-v1", "actor", "actor_target"),
    ],
)
def test_the_networks_that_follow_begin_as_copies(
    algorithm, env, online, target, tmp_path
):
    given = {"algorithm": algorithm, "env": env, "config": QUICK_OFF_POLICY}
    before = train(tmp_path / "before", steps=64, seed=1, **given)
    made = sb3_environments.plain(lambda: gymnasium.make(env), count=1, seed=0)
    settings = msgspec.convert(QUICK_OFF_POLICY, Sb3)
    model = sb3_models.make(algorithm, made, settings, seed=2)
    load_weights(model, before.checkpoint())
    copied = getattr(model.policy, target).state_dict()
    for name, weights in getattr(model.policy, online).state_dict().items():
        assert weights.equal(copied[name])


def test_the_running_means_are_those_of_the_bundle(tmp_path):
    config = with_(QUICK, normalise=True)
    given = {"env": "Pendulum-v1", "config": config}
    before = train(tmp_path / "before", steps=256, seed=1, **given)
    made = sb3_environments.plain(
        lambda: gymnasium.make("Pendulum-v1"), count=2, seed=0
    )
    scaled = sb3_environments.normalised(made, training=True)
    model = sb3_models.make("PPO", scaled, msgspec.convert(config, Sb3), seed=2)
    load_weights(model, before.checkpoint())
    manifest = json.loads((before.checkpoint() / "checkpoint.json").read_text())
    np.testing.assert_allclose(scaled.obs_rms.mean, manifest["normaliser"]["mean"])
    np.testing.assert_allclose(scaled.obs_rms.var, manifest["normaliser"]["variance"])


def test_a_training_from_scratch_has_other_weights(tmp_path):
    before = train(tmp_path / "before", steps=64, seed=1)
    after = train(tmp_path / "after", steps=64, config=frozen(QUICK), seed=2)
    pairs = zip(weights(before.checkpoint()), weights(after.checkpoint()), strict=True)
    assert any(not np.array_equal(one, other) for one, other in pairs)


def refused(tmp_path, begin, **given):
    with pytest.raises(Rejected) as refusal:
        train(tmp_path / "after", steps=64, more=starting(begin), **given)
    return refusal.value


OTHER_NETWORK = with_(QUICK, hyperparameters={"policy_kwargs": {"net_arch": [8, 8, 8]}})
WIDER = with_(QUICK, hyperparameters={"policy_kwargs": {"net_arch": [9, 8]}})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"config": OTHER_NETWORK}, "other layers"),
        ({"config": WIDER}, "other sizes"),
        ({"config": with_(QUICK, normalise=True)}, "normalise"),
        ({"env": "Pendulum-v1"}, "observations, actions or outputs"),
        ({"algorithm": "DQN", "config": QUICK_OFF_POLICY}, "outputs"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused(given, problem, tmp_path):
    before = train(tmp_path / "before", steps=64)
    refusal = refused(tmp_path, before.checkpoint(), **given)
    assert problem in str(refusal)
    assert refusal.field == "start"


def test_a_bundle_that_answers_otherwise_than_it_says_is_refused(tmp_path):
    before = train(tmp_path / "before", steps=256)
    first = before.checkpoint(before.steps[0])
    changed = tmp_path / "changed"
    shutil.copytree(before.checkpoint(), changed)
    (changed / "golden.npz").write_bytes((first / "golden.npz").read_bytes())
    assert "other answers" in str(refused(tmp_path, changed))
