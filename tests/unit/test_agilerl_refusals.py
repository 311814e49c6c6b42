"""What the AgileRL converter does not know, it refuses, and it says what."""

import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.adapters.converters.agilerl import convert
from arena_core.adapters.converters.agilerl.conversion import served
from arena_core.adapters.converters.agilerl.observing import leaves
from arena_core.adapters.converters.agilerl.saved import understood
from arena_core.adapters.converters.networks import Network
from arena_core.adapters.converters.pickles import Global, Stub
from arena_core.adapters.converters.torch_files import read_pickle, read_torch
from arena_core.application.conversion import MODEL_FILE, Options
from arena_core.domain.checkpoint import Box, Dict, Discrete, MultiBinary, Tuple
from arena_core.domain.errors import Rejected

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints" / "agilerl"


def file(name):
    return (CHECKPOINTS / f"{name}.pt").read_bytes()


@pytest.fixture
def found():
    """What a checkpoint holds, to be changed."""
    return lambda name: read_torch(file(name))


def policies(checkpoint):
    return served(understood(checkpoint), Options())


def actor(checkpoint, part):
    return checkpoint["network_info"]["modules"][f"actor_{part}"]


def space_of_actions(checkpoint):
    return actor(checkpoint, "init_dict")["action_space"]


def set_in(part, key, value):
    def change(checkpoint):
        target = actor(checkpoint, "init_dict")
        for step in part.split():
            target = target[step]
        target[key] = value

    return change


def with_weight(name, array):
    return lambda c: actor(c, "state_dict").update({name: array})


def without_weight(name):
    return lambda c: actor(c, "state_dict").pop(name)


def custom(checkpoint):
    modules = checkpoint["network_info"]["modules"]
    modules["actor_cls"] = Global("my_networks", "StochasticActor")


LAYER = "encoder.model.shared_encoder_linear_layer_1"
REFUSED = {
    "an unknown algorithm": (lambda c: c.update(algo="SAC"), "SAC is not known"),
    "an unknown network": (
        lambda c: c["network_info"]["network_names"].append("world_model"),
        "nothing is known of its network world_model",
    ),
    "no networks": (lambda c: c.pop("network_info"), "it has no networks"),
    "no actor": (
        lambda c: c["network_info"]["modules"].pop("actor_state_dict"),
        "it has no actor",
    ),
    "an unknown weight": (
        with_weight("encoder.gate.weight", np.ones(3, np.float32)),
        r"nothing is known of its weights encoder\.gate\.weight",
    ),
    "a missing weight": (without_weight(f"{LAYER}.weight"), "it lacks the weights"),
    "a weight of another size": (
        with_weight(f"{LAYER}.weight", np.ones((32, 5), np.float32)),
        "do not fit together",
    ),
    "a weight that is not finite": (
        with_weight(f"{LAYER}.bias", np.full(32, np.nan, np.float32)),
        "not finite",
    ),
    "weights that are none": (
        lambda c: actor(c, "state_dict").update(extra="text"),
        "not plain tensors",
    ),
    "a network of somebody's own": (custom, r"its network is a my_networks\.Stoch"),
    "an encoder of somebody's own": (
        set_in("", "encoder_cls", Global("agilerl.modules.resnet", "EvolvableResNet")),
        "an encoder of its own kind",
    ),
    "an activation at random": (
        set_in("encoder_config", "activation", "GumbelSoftmax"),
        "its activation GumbelSoftmax is not known",
    ),
    "a setting of another type": (
        set_in("encoder_config", "hidden_size", "many"),
        "an unusual setting hidden_size",
    ),
    "a missing setting": (
        lambda c: actor(c, "init_dict").pop("head_config"),
        "lack the setting head_config",
    ),
    "a wrapper of somebody's own": (
        lambda c: c.update(wrapper_cls=Global("my_wrappers", "Clip")),
        r"wrapped in my_wrappers\.Clip",
    ),
    "actions that begin elsewhere": (
        lambda c: space_of_actions(c).state.update(start=1),
        "do not begin at 0",
    ),
    "other actions than those of the network": (
        lambda c: space_of_actions(c).state.update(n=3),
        "does not fit its action space",
    ),
    "spaces that are none": (
        lambda c: c.update(env_observation_space="CartPole"),
        "observation space is a str",
    ),
}


@pytest.mark.parametrize(("change", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_known_is_refused(change, why, found):
    checkpoint = found("ppo_cartpole")
    assert policies(checkpoint)
    checkpoint = found("ppo_cartpole")
    change(checkpoint)
    with pytest.raises(Rejected, match=why):
        policies(checkpoint)


def test_a_refusal_says_what_to_do_instead(found):
    checkpoint = found("ppo_cartpole") | {"algo": "CQN"}
    with pytest.raises(Rejected, match="export its policy to ONNX"):
        policies(checkpoint)


def test_weights_of_critics_and_targets_are_not_asked_for(found):
    checkpoint = found("td3_pendulum")
    modules = checkpoint["network_info"]["modules"]
    for name in list(modules):
        if name.startswith(("critic", "actor_target")):
            modules[name] = None
    assert policies(checkpoint)


def test_observations_that_begin_elsewhere_are_refused(found):
    checkpoint = found("dqn_cell")
    for space in (
        checkpoint["env_observation_space"],
        actor(checkpoint, "init_dict")["observation_space"],
    ):
        space.state["start"] = 1
    with pytest.raises(Rejected, match="observations do not begin at 0"):
        policies(checkpoint)


def test_an_agent_without_an_actor_is_refused(found):
    checkpoint = found("ippo_tag")
    checkpoint["agent_ids"].append("referee_0")
    with pytest.raises(Rejected, match="not those of its agents"):
        policies(checkpoint)


def test_statistics_of_some_other_kind_are_refused(found):
    checkpoint = found("ddpg_pendulum_normalized")
    checkpoint["wrapper_attrs"]["obs_rms"] = Stub("my_wrappers", "Statistics")
    with pytest.raises(Rejected, match="not those of RSNorm"):
        policies(checkpoint)


def test_statistics_of_some_agents_are_refused(found):
    checkpoint = found("matd3_spread")
    checkpoint |= {"wrapper_cls": Global("agilerl.wrappers.agent", "RSNorm")}
    checkpoint |= {"wrapper_attrs": {"obs_rms": {"referee": STATISTICS}}}
    with pytest.raises(Rejected, match="observations of some agents only"):
        policies(checkpoint)


def test_a_random_output_of_a_continuous_actor_is_refused(found):
    checkpoint = found("ddpg_pendulum")
    set_in("head_config", "output_activation", "GumbelSoftmax")(checkpoint)
    with pytest.raises(Rejected, match="activation of its output is GumbelSoftmax"):
        policies(checkpoint)


def test_actions_that_are_squashed_between_no_bounds_are_refused(found):
    checkpoint = found("ppo_pendulum_squashed")
    space_of_actions(checkpoint).state["low"] = np.full(1, -np.inf, np.float32)
    with pytest.raises(Rejected, match="between bounds that are infinite"):
        policies(checkpoint)


def test_actions_that_are_no_vectors_are_refused(found):
    checkpoint = found("ddpg_pendulum")
    for bound in ("low", "high"):
        space_of_actions(checkpoint).state[bound] = np.zeros((1, 1), np.float32)
    with pytest.raises(Rejected, match="its actions are no vectors"):
        policies(checkpoint)


def test_actions_that_are_whole_numbers_in_a_box_are_refused(found):
    checkpoint = found("ddpg_pendulum")
    whole = spaces.Box(-2, 2, (1,), np.int64)
    set_in("", "action_space", read_pickle(pickle.dumps(whole)))(checkpoint)
    with pytest.raises(Rejected, match="its actions are of int64, but AgileRL"):
        policies(checkpoint)


def test_a_recurrent_network_for_several_parts_is_refused(found):
    checkpoint = found("ppo_dict")
    actor(checkpoint, "init_dict")["recurrent"] = True
    with pytest.raises(Rejected, match="recurrent and its observations are of several"):
        policies(checkpoint)


def test_a_file_of_another_library_is_refused(tmp_path):
    other = CHECKPOINTS.parent / "torch_files" / "tensors.pt"
    (tmp_path / MODEL_FILE).write_bytes(other.read_bytes())
    with pytest.raises(Rejected, match="no checkpoint of AgileRL"):
        convert(tmp_path, Options(), lambda _: None)


def test_a_file_that_torch_has_not_written_is_refused(tmp_path):
    (tmp_path / MODEL_FILE).write_bytes(b"PK and no more")
    with pytest.raises(Rejected):
        convert(tmp_path, Options(), lambda _: None)


# --- observations ----------------------------------------------------------------


def box(*shape, low=0.0, high=255.0, dtype="float32"):
    size = int(np.prod(shape))
    return Box(shape, dtype, (low,) * size, (high,) * size)


VECTOR, IMAGE = box(3), box(2, 4, 5)
STATISTICS = Stub(
    "agilerl.wrappers.utils",
    "RunningMeanStd",
    state={"mean": np.zeros(3), "var": np.ones(3), "epsilon": 1e-4},
)
ODD = {
    "parts of parts": (Dict({"a": Dict({"b": VECTOR})}), "Dicts or Tuples of such"),
    "eleven places": (Tuple((VECTOR,) * 11), "more than ten parts"),
    "no parts": (Dict({}), "no parts"),
    "parts called alike": (Dict({"a b": VECTOR, "a_b": VECTOR}), "called alike"),
}


@pytest.mark.parametrize(("space", "why"), ODD.values(), ids=ODD)
def test_observations_that_agilerl_cannot_act_on_are_refused(space, why):
    with pytest.raises(Rejected, match=why):
        leaves(space, space, None, channels_last=False)


@pytest.mark.parametrize(
    ("served_space", "seen_space"),
    [
        (VECTOR, box(4)),
        (IMAGE, box(5, 2, 3)),
        (Discrete(3), Discrete(4)),
        (VECTOR, Discrete(3)),
        (Dict({"a": VECTOR}), Dict({"b": VECTOR})),
    ],
)
def test_networks_for_other_observations_are_refused(served_space, seen_space):
    with pytest.raises(Rejected, match="made for other observations"):
        leaves(served_space, seen_space, None, channels_last=False)


@pytest.mark.parametrize("space", [IMAGE, Discrete(3), box(3, dtype="int32")])
def test_only_vectors_of_floats_are_normalised(space):
    with pytest.raises(Rejected, match="no vectors of floats"):
        leaves(space, space, STATISTICS, channels_last=False)


def test_each_part_is_normalised_by_its_own_statistics():
    space = Tuple((VECTOR, VECTOR))
    found = leaves(space, space, (STATISTICS, STATISTICS), channels_last=False)
    assert [leaf.normaliser.variance for leaf in found] == [(1.0, 1.0, 1.0)] * 2
    with pytest.raises(Rejected, match="some parts of the observations only"):
        leaves(space, space, (STATISTICS,), channels_last=False)


def seen(space, array, *, normalises_images=True):
    """Return what a network sees of `array`."""
    (leaf,) = leaves(space, space, None, channels_last=False)
    sent = leaf.input
    value = leaf.seen_by_network(sent, normalises_images=normalises_images)
    return Network((sent,), {"seen": value}).run({"obs": array})["seen"]


def test_pixels_are_from_0_to_1():
    pixels = np.arange(40, dtype=np.float32).reshape(1, 2, 4, 5)
    space = box(2, 4, 5, low=10.0, high=30.0)
    np.testing.assert_allclose(seen(space, pixels), (pixels - 10) / 20, rtol=1e-6)
    same = (
        seen(space, pixels, normalises_images=False),
        seen(box(2, 4, 5, low=None), pixels),
        seen(box(2, 4, 5, low=0.0, high=1.0), pixels),
    )
    assert all((array == pixels).all() for array in same)


def test_a_pixel_that_can_have_but_one_value_is_refused():
    with pytest.raises(Rejected, match="but one value"):
        seen(box(2, 4, 5, low=0.0, high=0.0), np.zeros((1, 2, 4, 5), np.float32))


def test_zeros_and_ones_stay_what_they_are():
    bits = np.array([[0, 1, 1]], np.int8)
    floats = seen(MultiBinary((3,)), bits)
    assert floats.dtype == np.float32
    assert (floats == bits).all()


def test_too_many_choices_are_refused():
    with pytest.raises(Rejected, match="too many values"):
        seen(Discrete(2**31), np.zeros(1, np.int64))


# --- anything else ---------------------------------------------------------------

JUNK = (
    None, True, -1, 0, 2**70, 1.5, "", "many", b"", (), [], [0], {}, {1: 2}, set(),
    np.zeros(()), np.zeros((0, 3)), np.zeros(2, np.int64), np.float32(1),
    Global("a", "b"), Stub("a", "b"), Stub("gymnasium.spaces", "Box", state={}),
)  # fmt: skip


def places(tree, path=()):
    """Return where something is in a tree of dicts, lists and stubs."""
    parts = tree.state if isinstance(tree, Stub) else tree
    if isinstance(parts, list):
        parts = dict(enumerate(parts))
    if not isinstance(parts, dict):
        return [path]
    below = (places(part, (*path, key)) for key, part in parts.items())
    return [path, *(place for found in below for place in found)]


def changed(tree, path, junk):
    parts = tree.state if isinstance(tree, Stub) else tree
    for key in path[:-1]:
        parts = parts[key].state if isinstance(parts[key], Stub) else parts[key]
    parts[path[-1]] = junk


READ = (
    "action_space", "agent_ids", "agilerl_version", "algo", "env_observation_space",
    "env_observation_spaces", "network_info", "normalize_images", "recurrent",
    "wrapper_attrs", "wrapper_cls",
)  # fmt: skip
FUZZED = (
    "ddpg_pendulum_normalized", "ippo_tag", "ppo_dict", "rainbow_cartpole",
    "recurrent_ppo_image",
)  # fmt: skip
WHERE = {
    name: [
        place
        for place in places(read_torch(file(name)))
        if place[:1] and place[0] in READ and "optimizers" not in place
        if "critic" not in str(place) and "target" not in str(place)
    ]
    for name in FUZZED
}


@settings(deadline=None)
@given(name=st.sampled_from(FUZZED), junk=st.sampled_from(JUNK), data=st.data())
def test_a_checkpoint_with_junk_in_it_is_converted_or_refused(name, junk, data):
    checkpoint = read_torch(file(name))
    changed(checkpoint, data.draw(st.sampled_from(WHERE[name])), junk)
    with suppress(Rejected):
        for part in policies(checkpoint).values():
            part.network.to_onnx()
