"""Checkpoints of AgileRL answer here as they did there.

What AgileRL answered was recorded by `checkpoints/agilerl/make.py`.
"""

import json
from functools import cache
from pathlib import Path

import gymnasium
import numpy as np
import onnxruntime
import pytest

from arena_core.adapters.converters.agilerl import convert
from arena_core.application import golden, manifests, spaces
from arena_core.application.conversion import (
    MODEL_FILE,
    TRACE_FILE,
    Options,
)
from arena_core.application.heads import head_of
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
    Tuple,
)
from arena_core.domain.errors import Rejected

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints" / "agilerl"
NAMES = sorted(path.stem for path in CHECKPOINTS.glob("*.pt"))
COMPUTED = "computed from the weights"
RECORDED = "recorded in training"


def file(name):
    return (CHECKPOINTS / f"{name}.pt").read_bytes()


def recorded(name):
    return golden.read((CHECKPOINTS / f"{name}.npz").read_bytes())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Convert a checkpoint, once; return what it says, and the parts of the bundle."""

    @cache
    def converted(name, **options):
        folder = tmp_path_factory.mktemp(name)
        (folder / MODEL_FILE).write_bytes(file(name))
        parts = convert(folder, Options(**options), lambda _: None)
        return manifests.parse(json.dumps(parts.checkpoint).encode()), parts

    return converted


def session(weights):
    return onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])


class Player:
    """The ONNX of one policy, run as `docs/bundle.md` says that it is."""

    def __init__(self, policy, weights):
        self.policy = policy
        self.session = session(weights)
        self.head = head_of(policy)
        self.hidden = {}

    def __call__(self, step):
        """Return the outputs, and the greedy action."""
        inputs = {**self.observed(step), **self.remembered(len(step["action"]))}
        names = [spec.name for spec in self.policy.signature.outputs]
        outputs = dict(zip(names, self.session.run(names, inputs), strict=True))
        self.hidden = {s.input: outputs[s.output] for s in self.policy.hidden_states}
        mask = step.get("action_mask")
        legal = None if mask is None else self.head.legal(mask, field="action_mask")
        return outputs, self.head.choose(outputs, legal, None)

    def observed(self, step):
        paths = spaces.leaves(self.policy.observation_space)
        arrays = {}
        for path, spec in zip(paths, self.policy.signature.inputs, strict=False):
            array = step[f"obs/{path}".rstrip("/")]
            if path in self.policy.normalisers:
                array = normalised(array, self.policy.normalisers[path])
            arrays[spec.name] = array.astype(spec.dtype)
        return arrays

    def remembered(self, rows):
        specs = {spec.name: spec for spec in self.policy.signature.inputs}
        zeros = {
            state.input: np.zeros((rows, *specs[state.input].shape[1:]), np.float32)
            for state in self.policy.hidden_states
        }
        return zeros | self.hidden


def normalised(array, by):
    return (array - np.array(by.mean)) / np.sqrt(np.array(by.variance) + by.epsilon)


def check_answers(manifest, parts, trace):
    """Assert that the weights answer what the trace says; return how many arrays."""
    compared = 0
    for case in trace.cases:
        players = {
            agent: Player(
                policy := manifest.policies[name], parts.weights[policy.weights]
            )
            for agent, name in (manifest.agents or {"": "policy"}).items()
        }
        for step in case.steps:
            assert step.by_agent().keys() == players.keys()
            for agent, own in step.by_agent().items():
                outputs, action = players[agent](own)
                compared += check_step(own, outputs, action)
    return compared


def check_step(own, outputs, action):
    said = {w.partition("/")[2]: a for w, a in own.items() if w.startswith("outputs/")}
    for name, array in said.items():
        assert outputs[name].shape == array.shape
        np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5)
    assert action.shape == own["action"].shape
    if action.dtype.kind == "f":
        np.testing.assert_allclose(action, own["action"], rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(action, own["action"])
    return len(said)


# --- as it was there -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_answers_as_agilerl_did(name, bundle):
    assert check_answers(*bundle(name), recorded(name)) > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_computed_trace_is_what_the_weights_answer(name, bundle):
    manifest, parts = bundle(name)
    assert parts.checkpoint["provenance"]["golden"] == COMPUTED
    trace = golden.read(golden.write(parts.trace))
    assert check_answers(manifest, parts, trace) > 0
    assert {1, 7} <= {case.steps[0].rows for case in trace.cases}
    if manifest.is_recurrent:
        assert {len(case.steps) for case in trace.cases} == {4}


def test_a_converted_policy_earns_what_it_earned_in_agilerl(bundle):
    manifest, parts = bundle("ppo_cartpole")
    player = Player(manifest.policy, parts.weights["policy.onnx"])
    there = json.loads((CHECKPOINTS / "ppo_cartpole_returns.json").read_text())
    returns = [play(player, seed) for seed in there["seeds"]]
    assert np.mean(there["returns"]) > 300
    assert np.mean(returns) == pytest.approx(np.mean(there["returns"]), rel=0.05)


def play(player, seed):
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        _, action = player({"obs": observation[None], "action": [0]})
        observation, reward, terminated, truncated, _ = env.step(int(action[0]))
        total, over = total + float(reward), terminated or truncated
    return total


def test_a_trace_that_was_recorded_in_training_is_kept(tmp_path):
    trace = (CHECKPOINTS / "ppo_cartpole.npz").read_bytes()
    (tmp_path / MODEL_FILE).write_bytes(file("ppo_cartpole"))
    (tmp_path / TRACE_FILE).write_bytes(trace)
    parts = convert(tmp_path, Options(), lambda _: None)
    assert golden.write(parts.trace) == golden.write(golden.read(trace))
    assert parts.checkpoint["provenance"]["golden"] == RECORDED


# --- what the manifest says ------------------------------------------------------

ALGORITHMS = {
    "dqn_cartpole": "DQN",
    "ippo_tag": "IPPO",
    "ppo_cartpole": "PPO",
    "rainbow_cartpole": "Rainbow DQN",
    "recurrent_ppo_cartpole": "Recurrent PPO",
    "td3_pendulum": "TD3",
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_algorithm_is_found_out(name, bundle):
    assert bundle(name)[0].algorithm == ALGORITHMS[name]


def test_the_algorithm_can_be_said(bundle):
    assert bundle("ppo_cartpole", algorithm="A2C")[0].algorithm == "A2C"


def test_where_it_comes_from_is_said(bundle):
    checkpoint = bundle("dqn_cartpole")[1].checkpoint
    assert checkpoint["framework"] == {"name": "agilerl", "version": "2.58.0"}
    assert checkpoint["provenance"] == {
        "converted_from": "agilerl", "step": 4_000, "golden": COMPUTED,
    }  # fmt: skip


def from_(low, squash=None):
    return ActionTransform(squash, (low, 1.0))


HEADS = {
    "ddpg_pendulum": (Head.ACTION, from_(-1.0, Squash.TANH), None),
    "dqn_cartpole": (Head.Q_VALUES, ActionTransform(), None),
    "ppo_cartpole": (Head.LOGITS, ActionTransform(), None),
    "ppo_pendulum": (Head.ACTION, ActionTransform(), "log_std"),
    "ppo_pendulum_squashed": (Head.ACTION, from_(-1.0, Squash.TANH), "log_std"),
    "rainbow_cartpole": (Head.Q_VALUES, ActionTransform(), None),
    # Its last activation is a Sigmoid, which is part of the weights.
    "td3_pendulum": (Head.ACTION, from_(0.0), None),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_says_how_an_action_comes_of_the_first_output(name, bundle):
    policy = bundle(name)[0].policy
    assert (policy.head, policy.transform, policy.log_std) == HEADS[name]


def test_hidden_states_have_the_batch_first(bundle):
    policy = bundle("recurrent_ppo_cartpole")[0].policy
    assert policy.hidden_states == (
        HiddenState("h", "h_next"),
        HiddenState("c", "c_next"),
    )
    assert policy.signature.inputs[1:] == (
        TensorSpec("h", "float32", (None, 2, 16)),
        TensorSpec("c", "float32", (None, 2, 16)),
    )


def test_agents_of_one_group_share_a_policy(bundle):
    manifest, parts = bundle("ippo_tag")
    assert manifest.agents == {
        "adversary_0": "adversary", "adversary_1": "adversary",
        "adversary_2": "adversary", "agent_0": "agent",
    }  # fmt: skip
    assert len(parts.weights) == len(manifest.policies) == 2
    assert manifest.policies["adversary"].observation_space.shape == (16,)
    assert manifest.policies["agent"].observation_space.shape == (14,)


def test_agents_without_a_group_have_policies_of_their_own(bundle):
    manifest, _ = bundle("maddpg_speaker_listener")
    assert manifest.agents == {"listener_0": "listener_0", "speaker_0": "speaker_0"}
    heads = {name: policy.head for name, policy in manifest.policies.items()}
    assert heads == {"listener_0": Head.LOGITS, "speaker_0": Head.LOGITS}


def test_several_agents_may_have_continuous_actions(bundle):
    manifest, _ = bundle("matd3_spread")
    (policy,) = manifest.policies.values()
    assert set(policy.action_space.low) == {0}
    assert policy.transform == from_(-1.0, Squash.TANH)


SPACES = {
    "dqn_cell": (Discrete(6), Discrete(3)),
    "ppo_cells": (MultiDiscrete((4, 3), (0, 0)), Discrete(3)),
    "ppo_image": (
        Box((12, 10, 3), "uint8", (0.0,) * 360, (255.0,) * 360),
        MultiDiscrete((3, 2), (0, 0)),
    ),
}


@pytest.mark.parametrize("name", SPACES)
def test_the_spaces_are_those_of_the_environment(name, bundle):
    policy = bundle(name)[0].policy
    assert (policy.observation_space, policy.action_space) == SPACES[name]


def test_the_parts_of_a_dict_are_inputs_in_its_order(bundle):
    policy = bundle("ppo_dict")[0].policy
    assert isinstance(policy.observation_space, Dict)
    assert policy.action_space == MultiBinary((3,))
    assert policy.signature.inputs == (
        TensorSpec("position", "float32", (None, 3)),
        TensorSpec("image", "uint8", (None, 12, 12, 1)),
        TensorSpec("cell", "int64", (None,)),
        TensorSpec("depth", "float32", (None, 1, 9, 9)),
        TensorSpec("flags", "int64", (None, 2)),
    )


def test_the_parts_of_a_tuple_are_inputs_by_their_places(bundle):
    policy = bundle("dqn_tuple")[0].policy
    assert isinstance(policy.observation_space, Tuple)
    assert [spec.name for spec in policy.signature.inputs] == ["0", "1", "2"]


# --- observations ----------------------------------------------------------------


def test_running_statistics_become_a_normaliser(bundle):
    normaliser = bundle("ddpg_pendulum_normalized")[0].policy.normalisers[""]
    assert normaliser.epsilon == 1e-4
    assert normaliser.clip is None
    # The cosine and the sine of an angle, and how fast it turns.
    assert all(0.01 < variance < 30 for variance in normaliser.variance)
    assert not bundle("ddpg_pendulum")[0].policy.normalisers


def test_callers_may_send_the_channels_last(bundle):
    first, last = bundle("dqn_image"), bundle("dqn_image", channels_last=True)
    assert first[0].policy.observation_space.shape == (2, 11, 13)
    assert last[0].policy.observation_space.shape == (11, 13, 2)
    images = np.random.default_rng(0).integers(256, size=(3, 2, 11, 13), dtype=np.uint8)
    answers = [
        session(parts.weights["policy.onnx"]).run(None, {"obs": array})[0]
        for (_, parts), array in (
            (first, images), (last, np.moveaxis(images, 1, 3)),
        )
    ]  # fmt: skip
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)


def test_channels_that_are_last_already_stay_there(bundle):
    (plain, _), (asked, _) = (
        bundle("ppo_image", **options) for options in ({}, {"channels_last": True})
    )
    assert plain == asked


def test_channels_cannot_be_last_where_there_are_none(bundle):
    with pytest.raises(Rejected, match="no part of its observations has channels"):
        bundle("ppo_cartpole", channels_last=True)
