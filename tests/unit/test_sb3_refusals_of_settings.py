"""What the recipe `sb3` cannot train is refused, and the setting is named."""

import pytest

from arena_core.domain.errors import Rejected
from unit.spec import assert_plain

from sb3_runs import QUICK, QUICK_OFF_POLICY, more_environments, train, with_

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def environments():
    with more_environments():
        yield


def hyper(**values):
    return with_(QUICK, hyperparameters=values)


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"env": "Nowhere-v0"}, "source", "Nowhere-v0"),
        ({"env": "no_such_module_at_all:Env-v0"}, "source", "is not there"),
        ({"config": with_(QUICK, env_kwargs={"gravity": 1})}, "config.env_kwargs", ""),
        (
            {"env": "FrozenLake-v1", "config": QUICK | {"env_kwargs": {"map_name": 9}}},
            "config.env_kwargs",
            "9",
        ),
        ({"env": "Counting-v0"}, "source", "another number than 0"),
        ({"env": "CountingRows-v0"}, "source", "another number than 0"),
        ({"env": "Nested-v0"}, "source", "parts that have parts"),
        ({"env": "Tuple-v0"}, "source", "no names"),
        ({"algorithm": "TRPO"}, "algorithm", "TRPO"),
        ({"config": hyper(nsteps=3)}, "config.hyperparameters.nsteps", "n_steps"),
        ({"config": hyper(env="x")}, "config.hyperparameters.env", "n_steps"),
        (
            {"config": hyper(policy_kwargs={"optimizer_class": "x"})},
            "config.hyperparameters.policy_kwargs.optimizer_class",
            "net_arch",
        ),
        (
            {"config": hyper(policy_kwargs=[1])},
            "config.hyperparameters.policy_kwargs",
            "object",
        ),
        ({"config": hyper(n_steps="many")}, "config.hyperparameters", "PPO"),
        (
            {"algorithm": "DQN", "env": "Pendulum-v1", "config": QUICK_OFF_POLICY},
            "config.hyperparameters",
            "another environment",
        ),
        (
            {
                "algorithm": "DQN",
                "config": with_(
                    QUICK_OFF_POLICY,
                    n_envs=2,
                    hyperparameters={"train_freq": [1, "episode"]},
                ),
            },
            "config.hyperparameters.train_freq",
            "in one environment only",
        ),
        ({"config": QUICK | {"n_envs": 0}}, "config.n_envs", ""),
    ],
)
def test_the_refusal_names_the_setting(given, field, said, tmp_path):
    with pytest.raises(Rejected) as refusal:
        train(tmp_path / "run", steps=64, **given)
    assert refusal.value.field == field
    assert said in str(refusal.value)
    assert_plain(str(refusal.value))
    assert not (tmp_path / "run" / "checkpoints").exists()
