"""Which tensors a model takes and gives: what its metadata says of it."""

import numpy as np
import pytest

from arena_core.application import open_inference, raw_arrays, tensors
from arena_core.application.inference import GREEDY, VERBS
from arena_core.application.model_tensors import FREE, ModelTensors
from arena_core.application.open_inference import Wanted
from arena_core.domain.errors import Rejected
from unit import recurrent_bundles
from unit.models import load

import shapes
from every_shape import EVERY_SHAPE

SHAPES = {name: shape.write for name, shape in EVERY_SHAPE.items()} | {
    "team": recurrent_bundles.team_policy,
    "two states": recurrent_bundles.two_states_policy,
}
ANY = Wanted(None, binary=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        name: load(write(tmp_path_factory.mktemp("bundle")))
        for name, write in SHAPES.items()
    }


@pytest.fixture(scope="module")
def described(models):
    return {name: ModelTensors.of(model) for name, model in models.items()}


def told(parts):
    return {name: (part.datatype, part.shape) for name, part in parts.items()}


def zeros(parts, rows):
    """Return arrays just as they are described."""
    return {
        name: np.zeros([rows, *part.shape[1:]], tensors.DATATYPES[part.datatype])
        for name, part in parts.items()
        if FREE not in part.shape[1:]
    }


def test_a_policy_of_one_array(described):
    policy = described["image"]
    assert told(policy.inputs) == {
        "obs": ("UINT8", (FREE, 6, 6, 3)),
        "action_mask": ("BOOL", (FREE, 4)),
    }
    assert told(policy.outputs) == {"action": ("INT64", (FREE,))}
    assert not policy.inputs["obs"].is_optional
    assert policy.inputs["action_mask"].is_optional


def test_a_policy_of_many_arrays_of_every_dtype(described):
    assert told(described["dict"].inputs) == {
        "obs/image": ("UINT8", (FREE, 4, 3, 2)),
        "obs/inner/0": ("INT8", (FREE, 3)),
        "obs/inner/1": ("INT64", (FREE, 2)),
        "obs/level": ("INT64", (FREE,)),
        "obs/position": ("FP32", (FREE, 2)),
        "action_mask": ("BOOL", (FREE, 3)),
    }


def test_what_has_no_scores_has_no_mask(described):
    assert list(described["box"].inputs) == ["obs"]


def test_a_recurrent_policy_takes_and_gives_what_it_remembers(described):
    state = {
        "hidden_state/h": ("FP32", (FREE, 1, shapes.RECURRENT.width)),
        "hidden_state/_checkpoint": ("UINT8", (FREE, 32)),
    }
    policy = described["recurrent"]
    assert told(policy.inputs) | state == told(policy.inputs)
    assert told(policy.outputs) == {"action": ("INT64", (FREE,)), **state}
    assert all(policy.inputs[name].is_optional for name in state)


def test_of_several_agents_each_has_its_own(described):
    agents = described["agents"]
    assert told(agents.inputs)["agents/listener_1/env_defined_action"] == (
        "FP64",
        (FREE, 2),
    )
    assert list(agents.outputs) == [f"agents/{name}/action" for name in shapes.AGENTS]


def test_a_prediction_has_results(described):
    assert told(described["supervised"].inputs) == {"inputs": ("FP32", (FREE, 3))}
    assert told(described["supervised"].outputs) == {"results": ("FP32", (FREE, 2))}
    assert told(described["latent"].outputs) == {"results": ("FP32", (FREE, 6))}


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_described_is_taken_and_given(models, described, name):
    """Zeros of each datatype and shape are answered as the outputs are described."""
    model, said = models[name], described[name]
    arrays = zeros(said.inputs, 2)
    arrays |= {n: a + 1 for n, a in arrays.items() if n.endswith("action_mask")}
    names = tuple(arrays)
    body = raw_arrays.answer(arrays).body
    verb = VERBS["get_action" if model.acts else "predict"]
    call = verb.read(model, body, GREEDY, names)
    (answer,) = verb.answer(model, [call], lambda *_: None)
    found = raw_arrays.arrays_in(answer)
    assert list(found) == list(said.outputs)
    for output, array in found.items():
        part = said.outputs[output]
        assert tensors.datatype(array.dtype) == part.datatype
        assert (FREE, *array.shape[1:]) == part.shape


def refused(described, names, wanted=ANY):
    with pytest.raises(Rejected) as caught:
        described.check(names, wanted)
    return str(caught.value)


def test_an_input_that_there_is_not_is_refused(described):
    detail = refused(described["image"], ["obs", "image"])
    assert detail == "There is no input image: there are obs, action_mask."


def test_an_input_that_must_be_there_is_missed_by_name(described):
    assert refused(described["image"], []) == "The input obs is missing."
    assert "obs/position is missing" in refused(
        described["dict"], set(described["dict"].inputs) - {"obs/position"}
    )


def test_of_several_agents_only_those_that_are_asked_must_be_there_whole(described):
    agents = described["agents"]
    agents.check(["agents/listener_1/obs"], ANY)
    detail = refused(agents, ["agents/speaker_0/action_mask"])
    assert detail == "The input agents/speaker_0/obs is missing."
    assert "missing" in refused(agents, [])


def test_an_output_that_there_is_not_is_refused(described):
    wanted = open_inference.Wanted({"logits": True}, binary=False)
    detail = refused(described["image"], ["obs"], wanted)
    assert detail == "There is no output logits to these inputs: there are action."


def test_the_action_of_an_agent_that_is_not_asked_cannot_be_wanted(described):
    wanted = open_inference.Wanted({"agents/speaker_0/action": True}, binary=False)
    described["agents"].check(["agents/speaker_0/obs"], wanted)
    assert "no output" in refused(
        described["agents"], ["agents/listener_0/obs"], wanted
    )
