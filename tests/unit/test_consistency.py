"""Manifests whose parts contradict each other are refused by the field."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_core.application.bundles import MANIFEST_FILE, manifest
from arena_core.application.manifests import MOST_AGENTS
from arena_core.domain.checkpoint import (
    ActionTransform,
    Decoder,
    Dict,
    HiddenState,
    Manifest,
    Squash,
)
from arena_core.domain.errors import Rejected, TooLarge

from shapes import RECURRENT, box


def tensor(name, *shape, dtype="float32"):
    return {"name": name, "dtype": dtype, "shape": [None, *shape]}


HEADER = {
    "format_version": 1,
    "algorithm": "PPO",
    "family": "rl",
    "framework": {"name": "numpy", "version": "2"},
}


def policy(inputs, outputs, head, observations, actions, **more):
    return {
        "weights": "policy.onnx",
        "signature": {"inputs": inputs, "outputs": outputs},
        "head": head,
        "observation_space": observations,
        "action_space": actions,
        **more,
    }


DISCRETE = {"type": "Discrete", "n": 3}
PARTS = {"type": "MultiDiscrete", "nvec": [2, 3]}
BITS = {"type": "MultiBinary", "shape": [2, 2]}
PLANE = box(2, low=-1.0, high=1.0)
LOGITS = policy([tensor("obs", 4)], [tensor("logits", 3)], "logits", box(4), DISCRETE)
CONTINUOUS = policy(
    [tensor("obs", 4)],
    [tensor("mean", 2), tensor("log_std", 2)],
    "action",
    box(4),
    PLANE,
    action_transform={"squash": "tanh", "rescale_from": [-1, 1]},
    log_std="log_std",
)
PARTED = policy([tensor("obs", 4)], [tensor("logits", 5)], "logits", box(4), PARTS)
BITTED = policy([tensor("obs", 4)], [tensor("logits", 2, 2)], "logits", box(4), BITS)
DECIDED = policy(
    [tensor("obs", 4)], [tensor("a", dtype="int64")], "action", box(4), DISCRETE
)
TREE = policy(
    [tensor("image", 2, 2, dtype="uint8"), tensor("inner/0"), tensor("inner/1", 2)],
    [tensor("logits", 3)],
    "q_values",
    {
        "type": "Dict",
        "spaces": {
            "image": box(2, 2, low=0, high=255, dtype="uint8"),
            "inner": {
                "type": "Tuple",
                "spaces": [{"type": "Discrete", "n": 5}, box(2)],
            },
        },
    },
    DISCRETE,
    normaliser={"inner/1": {"mean": [0, 0], "variance": [1, 1]}},
)
REMEMBERING = {"weights": "policy.onnx", **RECURRENT.manifest()}
LATENT = {
    "family": "latent",
    **policy([tensor("obs", 4)], [tensor("latent", 2)], "output", box(4), None),
    "decoder": {
        "weights": "decoder.onnx",
        "signature": {"inputs": [tensor("latent", 2)], "outputs": [tensor("out", 6)]},
    },
}
TEAM = {
    "policies": {
        "one": LOGITS | {"weights": "one.onnx"},
        "two": REMEMBERING | {"weights": "two.onnx"},
    },
    "agents": {"a:1": "one", "b": "two", "c": "two"},
}


def parsed(described) -> Manifest:
    return manifest(json.dumps(HEADER | described).encode(), golden=False)


def changed(document, path, value):
    """Return a copy of `document` with `value` at `path`; ... takes it away."""
    copy = json.loads(json.dumps(document))
    *above, last = path
    inner = copy
    for key in above:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return copy


# --- what agrees ---------------------------------------------------------------------


def test_a_policy_of_a_tree_has_an_input_for_each_leaf():
    found = parsed(TREE).policy
    assert isinstance(found.observation_space, Dict)
    assert [spec.name for spec in found.signature.inputs] == [
        "image", "inner/0", "inner/1",
    ]  # fmt: skip
    assert found.normalisers.keys() == {"inner/1"}


def test_how_a_continuous_action_comes_about_is_understood():
    found = parsed(CONTINUOUS).policy
    assert found.transform == ActionTransform(Squash.TANH, (-1.0, 1.0))
    assert found.log_std == "log_std"
    none = parsed(CONTINUOUS | {"action_transform": None, "log_std": None}).policy
    assert (none.transform, none.log_std) == (ActionTransform(), None)


def test_a_recurrent_policy_names_what_it_hands_on():
    found = parsed(REMEMBERING | {"algorithm": "Recurrent PPO"})
    assert found.is_recurrent
    assert found.policy.hidden_states == (HiddenState("h", "h_next"),)


def test_a_latent_policy_has_a_decoder():
    found = parsed(LATENT)
    assert isinstance(found.decoder, Decoder)
    assert found.weights.keys() == {"policy.onnx", "decoder.onnx"}


def test_several_agents_may_share_a_policy_and_policies_a_file():
    found = parsed(TEAM | {"algorithm": "IPPO"})
    assert found.is_multi_agent
    assert found.is_recurrent
    assert list(found.agents) == ["a:1", "b", "c"]
    one_file = changed(TEAM, ["policies", "two"], TEAM["policies"]["one"])
    assert parsed(one_file).weights.keys() == {"one.onnx"}


@pytest.mark.parametrize(
    "described",
    [
        LOGITS | {"head": "q_values"},
        PARTED,
        BITTED,
        DECIDED,
        changed(PARTED, ["signature", "outputs", 0], tensor("a", 2, dtype="int32"))
        | {"head": "action"},
        changed(BITTED, ["signature", "outputs", 0], tensor("a", 2, 2, dtype="bool"))
        | {"head": "action"},
        CONTINUOUS | {"action_transform": {"squash": "tanh"}},
        CONTINUOUS | {"action_transform": {"rescale_from": [0, 1]}, "log_std": None},
        CONTINUOUS | {"action_space": box(2), "action_transform": {}},
        REMEMBERING,
        TREE | {"normaliser": {}},
    ],
)
def test_these_agree(described):
    parsed(described)


@pytest.mark.parametrize(
    ("space", "dtypes"),
    [
        (box(2), ["float16", "float32", "float64"]),
        (box(2, low=0, high=255, dtype="uint8"), ["uint8", "int16", "float16"]),
        (box(2, low=0, high=1, dtype="int64"), ["int64", "float32"]),
        (box(2, low=0, high=1, dtype="bool"), ["bool", "int8", "float32"]),
        ({"type": "Discrete", "n": 200}, ["uint8", "int16", "int64", "float32"]),
        ({"type": "Discrete", "n": 2}, ["bool", "int8", "float16"]),
        ({"type": "MultiDiscrete", "nvec": [2, 100]}, ["int8", "uint8", "float32"]),
        ({"type": "MultiBinary", "shape": [2]}, ["bool", "int8", "uint64", "float16"]),
    ],
)
def test_weights_take_what_holds_every_observation(space, dtypes):
    shape = [] if space["type"] == "Discrete" else [2]
    for dtype in dtypes:
        inputs = [tensor("obs", *shape, dtype=dtype)]
        described = changed(LOGITS, ["signature", "inputs"], inputs)
        parsed(described | {"observation_space": space})


# --- what does not -------------------------------------------------------------------


def refused(described, field):
    with pytest.raises(Rejected) as caught:
        parsed(described)
    assert caught.value.field == f"{MANIFEST_FILE}: {field}", caught.value
    assert not set("[]\n") & set(str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("space", "dtype"),
    [
        (box(2), "int64"),
        (box(2, low=0, high=1), "bool"),
        (box(2, low=0, high=1, dtype="int64"), "int32"),
        (box(2, low=0, high=255, dtype="uint8"), "int8"),
        (box(2, low=0, high=1, dtype="uint8"), "bool"),
        ({"type": "Discrete", "n": 200}, "int8"),
        ({"type": "Discrete", "n": 2, "start": -1}, "uint8"),
        ({"type": "Discrete", "n": 3}, "bool"),
        ({"type": "MultiDiscrete", "nvec": [2, 200]}, "int8"),
        ({"type": "MultiDiscrete", "nvec": [2, 2], "start": [0, -1]}, "uint8"),
    ],
)
def test_weights_that_would_take_another_number_are_refused(space, dtype):
    shape = [] if space["type"] == "Discrete" else [2]
    inputs = [tensor("obs", *shape, dtype=dtype)]
    described = changed(LOGITS, ["signature", "inputs"], inputs)
    said = refused(described | {"observation_space": space}, "signature.inputs 0.dtype")
    assert f"its dtype {dtype} does not go with" in said


INPUTS, OUTPUTS = ["signature", "inputs"], ["signature", "outputs"]
TWICE = [{"input": "h", "output": "h_next"}, {"input": "c", "output": "h_next"}]


@pytest.mark.parametrize(
    ("base", "path", "value", "field"),
    [
        # observations
        (TREE, [*INPUTS, 1, "name"], "level", "signature.inputs 1.name"),
        (TREE, [*INPUTS, 0, "shape"], [None, 2, 3], "signature.inputs 0.shape"),
        (TREE, [*INPUTS, 0, "shape"], [None, 2], "signature.inputs 0.shape"),
        (TREE, [*INPUTS, 1, "shape"], [None, 1], "signature.inputs 1.shape"),
        (TREE, INPUTS, TREE["signature"]["inputs"][:2], "signature.inputs"),
        (LOGITS, INPUTS, [tensor("obs", 4), tensor("b", 4)], "signature.inputs"),
        (LOGITS, ["observation_space"], None, "observation_space"),
        # normalisers
        (TREE, ["normaliser"], {"inner/0": {"mean": [], "variance": []}},
         "normaliser.inner/0"),
        (TREE, ["normaliser"], {"mean": [], "variance": []}, "normaliser.mean"),
        (TREE, ["normaliser", "inner/1", "mean"], [0], "normaliser.inner/1.mean"),
        (TREE, ["normaliser", "inner/1", "variance"], [1, -1],
         "normaliser.inner/1.variance"),
        (TREE, ["normaliser", "x"], {"mean": [], "variance": []}, "normaliser.x"),
        (TREE, ["normaliser"], {"image": {"mean": [0] * 4, "variance": [1] * 4}},
         "normaliser.image"),
        # hidden states
        (REMEMBERING, ["hidden_state"], ..., "signature.inputs"),
        (REMEMBERING, ["hidden_state", 0, "input"], "obs", "hidden_state"),
        (REMEMBERING, ["hidden_state"], TWICE, "hidden_state"),
        (REMEMBERING, ["hidden_state", 0, "output"], "logits", "hidden_state 0"),
        (REMEMBERING, ["hidden_state", 0, "output"], "none", "hidden_state 0"),
        (REMEMBERING, [*OUTPUTS, 1, "dtype"], "float16", "hidden_state 0"),
        (REMEMBERING, [*OUTPUTS, 1, "shape"], [None, 4], "hidden_state 0"),
        (REMEMBERING, ["hidden_state"], None, "hidden_state"),
        (REMEMBERING, ["hidden_state", 0, "size"], 4, "hidden_state 0"),
        # actions
        (LOGITS, ["action_space"], None, "action_space"),
        (LOGITS, ["action_space"], {"type": "Dict", "spaces": {"a": DISCRETE}},
         "action_space"),
        (LOGITS, ["action_space"], {"type": "Tuple", "spaces": [DISCRETE]},
         "action_space"),
        (LOGITS, ["action_space", "n"], 4, "signature.outputs 0.shape"),
        (LOGITS, ["action_space"], PARTS, "signature.outputs 0.shape"),
        (LOGITS, ["action_space"], BITS, "signature.outputs 0.shape"),
        (LOGITS, ["action_space"], box(3), "head"),
        (LOGITS, ["head"], "output", "head"),
        (LOGITS, [*OUTPUTS, 0, "dtype"], "int64", "signature.outputs 0.dtype"),
        (PARTED, ["head"], "q_values", "head"),
        (BITTED, ["head"], "q_values", "head"),
        (CONTINUOUS, ["head"], "logits", "head"),
        (DECIDED, [*OUTPUTS, 0, "dtype"], "float32", "signature.outputs 0.dtype"),
        (DECIDED, [*OUTPUTS, 0, "shape"], [None, 1], "signature.outputs 0.shape"),
        (LOGITS, ["action_transform"], {"squash": "tanh"}, "action_transform"),
        (CONTINUOUS, ["action_transform", "squash"], "relu", "action_transform.squash"),
        (CONTINUOUS, ["action_transform", "scale"], 2, "action_transform"),
        (CONTINUOUS, ["action_transform", "rescale_from"], [1, -1],
         "action_transform.rescale_from"),
        (CONTINUOUS, ["action_transform", "rescale_from"], [1, 1],
         "action_transform.rescale_from"),
        (CONTINUOUS, ["action_transform", "rescale_from"], [1],
         "action_transform.rescale_from"),
        (CONTINUOUS, ["action_space", "low"], None, "action_transform.rescale_from"),
        (CONTINUOUS, ["action_space", "high"], [1, None],
         "action_transform.rescale_from"),
        (CONTINUOUS, ["action_transform", "rescale_from"], [0, 5e-324],
         "action_transform.rescale_from"),
        (CONTINUOUS, ["action_space"],
         box(2, low=-1.7e308, high=1.7e308, dtype="float64"),
         "action_transform.rescale_from"),
        (CONTINUOUS, ["log_std"], "deviation", "log_std"),
        (CONTINUOUS, [*OUTPUTS, 1, "shape"], [None, 1], "log_std"),
        (LOGITS, ["log_std"], "logits", "log_std"),
        # families
        (LATENT, ["decoder"], None, "decoder"),
        (LATENT, ["family"], "supervised", "decoder"),
        (LATENT, ["head"], "action", "head"),
        (LATENT, ["decoder", "signature", "inputs", 0, "dtype"], "float64",
         "decoder.signature.inputs"),
        (LATENT, ["decoder", "signature", "inputs", 0, "shape"], [None, 3],
         "decoder.signature.inputs"),
        (LATENT, ["decoder", "signature", "inputs"], [tensor("a", 2), tensor("b", 2)],
         "decoder.signature.inputs"),
        (LATENT, ["decoder", "weights"], "policy.onnx", "weights"),
        (LATENT, ["decoder", "weights"], "decoder.pt", "decoder.weights"),
        (REMEMBERING, ["family"], "supervised", "family"),
        (TEAM, ["family"], "supervised", "family"),
        (LOGITS, ["algorithm"], "Recurrent PPO", "hidden_state"),
        (LOGITS, ["algorithm"], "MADDPG", "agents"),
        # several agents
        (TEAM, ["agents"], {}, "agents"),
        (TEAM, ["agents", "b"], "three", "agents"),
        (TEAM, ["agents"], {"a": "one"}, "agents"),
        (TEAM, ["agents", "no name"], "one", "agents"),
        (TEAM, ["agents", ""], "one", "agents"),
        (TEAM, ["agents", "a/b"], "one", "agents"),
        (TEAM, ["agents", "x" * 101], "one", "agents"),
        (TEAM, ["policies", "no name"], LOGITS, "policies"),
        (TEAM, ["agents"], {str(n): "one" for n in range(MOST_AGENTS + 1)}, "agents"),
        (TEAM, ["policies", "two", "weights"], "one.onnx", "weights"),
        (TEAM, ["policies", "one", "head"], "action",
         "policies.one.signature.outputs 0.shape"),
        (TEAM, ["policies", "two", "hidden_state", 0, "output"], "logits",
         "policies.two.hidden_state 0"),
        (TEAM, ["policies", "one", "observation_space"], None,
         "policies.one.observation_space"),
        (TEAM, ["decoder"], LATENT["decoder"], ""),
        (TEAM, ["head"], "logits", ""),
    ],
)  # fmt: skip
def test_what_does_not_agree_is_refused_by_its_field(base, path, value, field):
    parsed(base)
    described = changed(HEADER | base, path, value)
    if field:
        refused(described, field)
        return
    with pytest.raises(Rejected) as caught:
        parsed(described)
    assert caught.value.field == MANIFEST_FILE


@pytest.mark.parametrize("key", ["agents", "policies"])
def test_agents_and_policies_go_together(key):
    with pytest.raises(Rejected):
        parsed(changed(TEAM, [key], ...))


def test_two_hidden_states_do_not_come_of_one_output():
    inputs = [*REMEMBERING["signature"]["inputs"], tensor("c", 1, 4)]
    described = changed(REMEMBERING, INPUTS, inputs) | {"hidden_state": TWICE}
    assert "have the same output" in refused(described, "hidden_state")


def test_a_hidden_state_that_would_take_all_memory_is_refused():
    wide = [None, 2**12, 2**12]
    described = changed(REMEMBERING, [*INPUTS, 1, "shape"], wide)
    with pytest.raises(TooLarge, match="more than 4194304 numbers in a row"):
        parsed(changed(described, [*OUTPUTS, 1, "shape"], wide))


def test_the_shape_of_a_hidden_state_is_fixed():
    free = [None, None, 4]
    described = changed(REMEMBERING, [*INPUTS, 1, "shape"], free)
    said = refused(changed(described, [*OUTPUTS, 1, "shape"], free), "hidden_state 0")
    assert "fixed but for the batch" in said


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["h", "one", "inner/1"]), inner, max_size=3)
    ),
    max_leaves=4,
)


def places(tree, path=()):
    parts = tree.items() if isinstance(tree, dict) else ()
    for key, part in enumerate(tree) if isinstance(tree, list) else parts:
        yield (*path, key)
        yield from places(part, (*path, key))


@pytest.mark.parametrize(
    "base", [TREE, CONTINUOUS, REMEMBERING, LATENT, TEAM], ids=range(5)
)
@given(data=st.data())
def test_whatever_stands_in_any_place_is_understood_or_refused(base, data):
    place = data.draw(st.sampled_from(list(places(base))))
    described = changed(base, place, data.draw(values | st.just(...)))
    text = json.dumps(HEADER | described).encode()
    with suppress(Rejected):
        manifest(text, golden=False)
        return
    with pytest.raises(Rejected) as caught:
        manifest(text, golden=False)
    assert (caught.value.field or "").startswith(MANIFEST_FILE)
    assert not set("[]`\n") & set(str(caught.value))
