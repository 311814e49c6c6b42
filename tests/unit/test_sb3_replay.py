"""What an algorithm of `sb3` has seen is kept, and it goes on with that."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger

from arena_core.domain.errors import Corrupt
from arena_core.entrypoints.recipes.sb3_replay import REPLAY_FILE, Experience

from sb3_runs import (
    OFF_POLICY,
    QUICK_OFF_POLICY,
    more_environments,
    resumed,
    train,
    with_,
)

pytestmark = pytest.mark.slow

PLENTY = 1 << 30
KEPT = "Going on with a replay buffer of {} steps."
ANEW = "No replay buffer was kept: experience is collected anew."


@pytest.fixture(autouse=True, scope="module")
def environments():
    with more_environments():
        yield


def dqn(env, buffer_size=100, **said):
    policy = "MultiInputPolicy" if env == "Kinds-v0" else "MlpPolicy"
    return DQN(policy, env, buffer_size=buffer_size, seed=1, **said)


def seen(model, steps):
    """Let the model see so many steps, without learning anything of them."""
    model.learning_starts = 10**6
    model.set_logger(Logger(None, []))  # or it makes a folder for one
    model.learn(steps)
    return model


def contents(model):
    buffer = model.replay_buffer
    arrays = {n: v for n, v in vars(buffer).items() if isinstance(v, np.ndarray | dict)}
    return arrays, buffer.pos, buffer.full


@pytest.mark.parametrize("steps", [8, 96, 100, 132, 200])
@pytest.mark.parametrize("env", ["CartPole-v1", "Kinds-v0"])
def test_a_buffer_comes_back_as_it_was(env, steps, tmp_path, capsys):
    model, other = seen(dqn(env), steps), dqn(env)
    Experience(model, PLENTY).save(tmp_path)
    Experience(other, PLENTY).restore(tmp_path)
    np.testing.assert_equal(contents(other), contents(model))
    assert capsys.readouterr().out == f"{KEPT.format(min(steps, 100))}\n"


@pytest.mark.parametrize("steps", [8, 96, 100, 132])
def test_one_that_has_each_observation_once_does_too(steps, tmp_path):
    said = {
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    }
    model = seen(dqn("CartPole-v1", **said), steps)
    other = dqn("CartPole-v1", **said)
    Experience(model, PLENTY).save(tmp_path)
    Experience(other, PLENTY).restore(tmp_path)
    np.testing.assert_equal(contents(other), contents(model))


def test_only_what_is_filled_counts_and_is_written(tmp_path):
    model = seen(dqn("CartPole-v1", buffer_size=100_000), 50)
    Experience(model, 10_000).save(tmp_path)
    assert (tmp_path / REPLAY_FILE).stat().st_size < 20_000


def test_one_that_is_too_large_is_not_kept_as_is_said_once(tmp_path, capsys):
    experience = Experience(seen(dqn("CartPole-v1"), 50), 1000)
    experience.save(tmp_path)
    experience.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert said.count("not kept") == 1
    assert "max_replay_bytes is 1000" in said


@pytest.mark.parametrize(("algorithm", "env", "config"), OFF_POLICY)
def test_what_is_resumed_goes_on_with_what_it_has_seen(
    algorithm, env, config, tmp_path, capsys
):
    given = {"algorithm": algorithm, "env": env, "config": config}
    first = train(tmp_path / "first", steps=128, **given)
    assert capsys.readouterr().out == ""
    second = train(tmp_path / "second", steps=160, more=resumed(first), **given)
    # The library adds a step to the buffer after those who watch have seen it.
    at_once = config["n_envs"]
    assert capsys.readouterr().out == f"{KEPT.format(128 - at_once)}\n"
    with np.load(second.state(160) / REPLAY_FILE) as kept:
        assert kept["next"] * at_once == 160 - at_once


def test_without_a_buffer_experience_is_collected_anew(tmp_path, capsys):
    config = with_(QUICK_OFF_POLICY, max_replay_bytes=0)
    given = {"algorithm": "DQN", "config": config}
    first = train(tmp_path / "first", steps=128, **given)
    assert "not kept" in capsys.readouterr().out
    second = train(tmp_path / "second", steps=160, more=resumed(first), **given)
    assert capsys.readouterr().out.splitlines()[0] == ANEW
    assert second.steps[-1] == 160


def cut(place):
    place.write_bytes(place.read_bytes()[:-200])


def flip(place):
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 255
    place.write_bytes(data)


def shorten(place):
    changed(place, rewards=np.zeros((1, 1), "f4"))


def widen(place):
    changed(place, rewards=np.zeros((100, 1), "f8"))


def go_beyond(place):
    changed(place, next=np.array(100))


def turn_into_one_array(place):
    with place.open("wb") as file:
        np.save(file, np.zeros(3))


def leave_out(place):
    changed(place, rewards=None)


def changed(place, **changes):
    with np.load(place) as kept:
        parts = {**kept, **changes}
    np.savez(place, **{n: part for n, part in parts.items() if part is not None})


@pytest.mark.parametrize(
    "damage",
    [cut, flip, shorten, widen, go_beyond, turn_into_one_array, leave_out],
)
def test_a_damaged_buffer_is_refused(damage, tmp_path):
    Experience(seen(dqn("CartPole-v1"), 132), PLENTY).save(tmp_path)
    damage(tmp_path / REPLAY_FILE)
    with pytest.raises(Corrupt, match=r"replay buffer .* is damaged: train"):
        Experience(dqn("CartPole-v1"), PLENTY).restore(tmp_path)


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


def test_nothing_in_a_buffer_is_unpickled(tmp_path):
    Experience(seen(dqn("CartPole-v1"), 132), PLENTY).save(tmp_path)
    canary = np.array([Canary(tmp_path / "unpickled")], dtype=object)
    changed(tmp_path / REPLAY_FILE, rewards=canary)
    with pytest.raises(Corrupt, match="replay buffer"):
        Experience(dqn("CartPole-v1"), PLENTY).restore(tmp_path)
    assert not (tmp_path / "unpickled").exists()


def test_a_training_with_a_damaged_buffer_fails(tmp_path):
    given = {"algorithm": "DQN", "config": QUICK_OFF_POLICY}
    first = train(tmp_path / "first", steps=128, **given)
    cut(first.state() / REPLAY_FILE)
    with pytest.raises(Corrupt, match="replay buffer"):
        train(tmp_path / "second", steps=160, more=resumed(first), **given)
