"""Checkpoints of Stable-Baselines3 answer here as they did there.

What SB3 answered was recorded by `checkpoints/sb3/make.py`.
"""

import pickle
from functools import partial

import numpy as np
import pytest
from attrs import evolve

from arena_core.adapters.converters.sb3 import convert
from arena_core.application import golden
from arena_core.application.conversion import MODEL_FILE, Options
from arena_core.domain.checkpoint import (
    ActionTransform,
    Box,
    Dict,
    Discrete,
    Head,
    HiddenState,
    MultiBinary,
    MultiDiscrete,
    Squash,
    TensorSpec,
)
from arena_core.domain.errors import Rejected

from sb3_files import (
    CHECKPOINTS,
    NAMES,
    Served,
    check_answers,
    convert_in,
    convert_named,
    edited,
    recorded,
    saved,
)

IMAGES = ("ppo_dict", "ppo_image")
RECURRENT = ("recurrent_ppo", "recurrent_ppo_shared")


@pytest.fixture
def converted(tmp_path):
    return partial(convert_named, tmp_path)


# --- as it was there -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_answers_as_sb3_did(name, converted):
    manifest, parts = converted(name)
    check_answers(Served(manifest, parts), recorded(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_computed_trace_is_what_the_weights_answer(name, converted):
    manifest, parts = converted(name)
    assert parts.checkpoint["provenance"]["golden"] == "computed from the weights"
    check_answers(Served(manifest, parts), golden.read(golden.write(parts.trace)))
    rows = [len(case.steps[0].recorded["action"]) for case in parts.trace.cases]
    assert rows == [1, 7]


@pytest.mark.parametrize("name", RECURRENT)
def test_the_computed_trace_of_a_recurrent_policy_is_an_episode(name, converted):
    _, parts = converted(name)
    steps = parts.trace.cases[1].steps
    assert len(steps) == 4
    states = [step.recorded["outputs/h_next"] for step in steps]
    assert not np.allclose(states[0], states[1])


def test_the_same_checkpoint_gives_the_same_bundle(converted):
    (_, first), (_, second) = converted("ppo_cartpole"), converted("ppo_cartpole")
    assert first.weights == second.weights
    assert golden.write(first.trace) == golden.write(second.trace)
    assert first.checkpoint == second.checkpoint


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_in_the_trace_of_a_policy_that_was_trained_with_them(name, converted):
    _, parts = converted(name)
    masks = [case.steps[0].recorded.get("action_mask") for case in parts.trace.cases]
    if name.startswith("maskable"):
        assert not all(mask.all() for mask in masks)
    else:
        assert masks == [None, None]


def test_a_trace_that_was_recorded_in_training_is_kept(converted):
    given_trace = (CHECKPOINTS / "ppo_cartpole.npz").read_bytes()
    _, parts = converted("ppo_cartpole", trace=given_trace)
    assert golden.write(parts.trace) == golden.write(golden.read(given_trace))
    assert parts.checkpoint["provenance"]["golden"] == "recorded in training"


def test_a_trace_that_cannot_be_read_is_refused(converted):
    with pytest.raises(Rejected, match=r"golden\.npz"):
        converted("ppo_cartpole", trace=b"PK")


# --- what the manifest says ------------------------------------------------------

ALGORITHMS = {
    "a2c_multibinary": "A2C",
    "a2c_multidiscrete": "A2C",
    "ddpg_pendulum": "DDPG",
    "dqn_cartpole": "DQN",
    "maskable_ppo": "MaskablePPO",
    "maskable_ppo_multidiscrete": "MaskablePPO",
    "ppo_cartpole": "PPO",
    "ppo_dict": "PPO",
    "ppo_image": "PPO",
    "ppo_pendulum_normalized": "PPO",
    "ppo_pendulum_sde": "PPO",
    "recurrent_ppo": "Recurrent PPO",
    "recurrent_ppo_shared": "Recurrent PPO",
    "sac_pendulum": "SAC",
    "sac_pendulum_sde": "SAC",
    "td3_pendulum": "TD3",
    "tqc": "TQC",
    "trpo": "TRPO",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_algorithm_is_found_out(name, converted):
    assert converted(name)[0].algorithm == ALGORITHMS[name]


def test_the_algorithm_can_be_said(converted):
    assert converted("ppo_cartpole", algorithm="A2C")[0].algorithm == "A2C"


SQUASHED = ActionTransform(Squash.TANH, (-1.0, 1.0))
AS_IT_IS = ActionTransform()
HEADS = {
    "a2c_multibinary": (Head.LOGITS, AS_IT_IS, None),
    "dqn_cartpole": (Head.Q_VALUES, AS_IT_IS, None),
    "ppo_pendulum_normalized": (Head.ACTION, AS_IT_IS, "log_std"),
    "ppo_pendulum_sde": (Head.ACTION, SQUASHED, None),
    "sac_pendulum": (Head.ACTION, SQUASHED, "log_std"),
    "sac_pendulum_sde": (Head.ACTION, SQUASHED, None),
    "td3_pendulum": (Head.ACTION, ActionTransform(None, (-1.0, 1.0)), None),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_says_how_an_action_comes_of_the_first_output(name, converted):
    policy = converted(name)[0].policy
    assert (policy.head, policy.transform, policy.log_std) == HEADS[name]


def test_the_deviation_of_a_gaussian_that_is_independent_of_the_state(converted):
    manifest, parts = converted("trpo")
    for case in parts.trace.cases:
        for _, outputs, _ in Served(manifest, parts).answers(case):
            # The checkpoint was trained from -1 on, for a few steps.
            np.testing.assert_allclose(outputs["log_std"], -1.0, atol=0.2)
            assert outputs["log_std"].shape == outputs["mean"].shape


SPACES = {
    "a2c_multibinary": (Discrete(6), MultiBinary((4,))),
    "a2c_multidiscrete": (
        MultiDiscrete((3, 5), (0, 0)),
        MultiDiscrete((3, 2, 4), (0, 0, 0)),
    ),
    "maskable_ppo": (
        Box((2, 3), "float64", (-2.0,) * 6, (2.0,) * 6),
        Discrete(5),
    ),
    "tqc": (
        Box((3,), "float32", (None,) * 3, (None,) * 3),
        Box((2, 2), "float64", (-1.0, 0.0, 2.0, -3.0), (1.0, 5.0, 2.5, -1.0)),
    ),
    "trpo": (
        Box((4,), "int32", (0,) * 4, (9,) * 4),
        Box(
            (2, 2),
            "float32",
            (float(np.float32(-0.1)),) * 4,
            (float(np.float32(0.1)),) * 4,
        ),
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_spaces_are_those_of_training(name, converted):
    policy = converted(name)[0].policy
    assert (policy.observation_space, policy.action_space) == SPACES[name]


def test_the_parts_of_a_dict_are_inputs_in_its_order(converted):
    policy = converted("ppo_dict")[0].policy
    assert isinstance(policy.observation_space, Dict)
    assert list(policy.observation_space.spaces) == ["a key", "image", "vector"]
    assert policy.signature.inputs == (
        TensorSpec("a_key", "int64", (None,)),
        TensorSpec("image", "uint8", (None, 1, 36, 36)),
        TensorSpec("vector", "float32", (None, 3)),
    )


def test_hidden_states_have_the_batch_first(converted):
    policy = converted("recurrent_ppo_shared")[0].policy
    assert policy.hidden_states == (
        HiddenState("h", "h_next"),
        HiddenState("c", "c_next"),
    )
    assert policy.signature.inputs[1:] == (
        TensorSpec("h", "float32", (None, 2, 8)),
        TensorSpec("c", "float32", (None, 2, 8)),
    )


def test_where_it_comes_from_is_said(converted):
    _, parts = converted("ppo_cartpole")
    assert parts.checkpoint["framework"] == {
        "name": "stable-baselines3",
        "version": "2.9.2",
    }
    provenance = parts.checkpoint["provenance"]
    assert provenance["step"] > 10_000
    assert provenance["versions"]["pytorch"].startswith("2.13.0")


def test_a_release_that_is_none_is_not_repeated(tmp_path):
    system = b"- Python: 3.11.7\n- Numpy: [link](http://a)\n- Gymnasium: 1.4.0 \n- X"
    model = edited("ppo_cartpole", "system_info.txt", lambda _: system)
    _, parts = convert_in(tmp_path, model)
    assert parts.checkpoint["provenance"]["versions"] == {
        "gymnasium": "1.4.0",
        "python": "3.11.7",
        "stable-baselines3": "2.9.2",
    }


def test_it_says_what_it_is_doing(tmp_path):
    (tmp_path / MODEL_FILE).write_bytes(saved("ppo_cartpole"))
    said = []
    convert(tmp_path, Options(), said.append)
    assert len(said) == 3
    assert all(said)


# --- normalisers -----------------------------------------------------------------


def test_running_statistics_become_a_normaliser(converted):
    normaliser = converted("ppo_pendulum_normalized")[0].policy.normalisers[""]
    assert normaliser.clip == 5.0
    assert normaliser.epsilon == 1e-8
    # The cosine and the sine of an angle, and how fast it turns.
    assert len(normaliser.mean) == len(normaliser.variance) == 3
    assert all(0.01 < variance < 30 for variance in normaliser.variance)


def test_only_the_keys_that_were_normalised_are(converted):
    assert list(converted("ppo_dict")[0].policy.normalisers) == ["vector"]


def test_a_policy_that_was_trained_on_normalised_observations_needs_statistics(
    converted,
):
    with pytest.raises(Rejected, match="trained with VecNormalize") as caught:
        converted("ppo_pendulum_normalized", statistics=None)
    assert caught.value.field == "statistics"


def test_statistics_of_another_policy_are_refused(converted):
    other = (CHECKPOINTS / "ppo_pendulum_normalized.pkl").read_bytes()
    with pytest.raises(Rejected, match="does not fit the observation_space"):
        converted("ppo_cartpole", statistics=other)


def test_statistics_that_are_none_are_refused(converted):
    for file in (pickle.dumps({"mean": 0}), b"", b"mean, variance", b"\x80\x04"):
        with pytest.raises(Rejected, match="save it with VecNormalize") as caught:
            converted("ppo_cartpole", statistics=file)
        assert "statistics file" in str(caught.value)
        assert caught.value.field == "statistics"


# --- images ----------------------------------------------------------------------


def turned(name):
    """Return the trace with the channels of its images last."""
    trace = recorded(name)
    return evolve(
        trace,
        cases=tuple(
            evolve(
                case,
                steps=tuple(
                    evolve(
                        step,
                        recorded={
                            what: np.moveaxis(array, 1, 3) if array.ndim == 4 else array
                            for what, array in step.recorded.items()
                        },
                    )
                    for step in case.steps
                ),
            )
            for case in trace.cases
        ),
    )


@pytest.mark.parametrize("name", IMAGES)
def test_callers_may_send_the_channels_last(name, converted):
    manifest, parts = converted(name, channels_last=True)
    space = manifest.policy.observation_space
    image = space.spaces["image"] if isinstance(space, Dict) else space
    assert image.shape == (36, 36, 1)
    check_answers(Served(manifest, parts), turned(name))
    check_answers(Served(manifest, parts), parts.trace)


def test_channels_last_without_an_image_is_refused(converted):
    with pytest.raises(Rejected, match="No part of an observation is an image"):
        converted("ppo_cartpole", channels_last=True)
