"""ONNX models become bundles that answer as the standard's reference does."""

import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from arena_core.adapters.converters.onnx import convert
from arena_core.adapters.runtimes.onnx import OnnxLoader
from arena_core.application import manifests
from arena_core.application.conversion import MODEL_FILE, SPACES_FILE, Options
from arena_core.application.ports import Device
from arena_core.domain.checkpoint import Head, HiddenState

import onnx_models as models
from contract.converter import refused
from real_checkpoints import CHECKPOINTS

FOLDER = CHECKPOINTS / "onnx"
NAMES = [file.stem for file in sorted(FOLDER.glob("*.onnx"))]
SAID = {
    "observation_space": {
        "type": "Box", "shape": [4], "dtype": "float32", "low": None, "high": None,
    },
    "action_space": {"type": "Discrete", "n": 2},
    "algorithm": "PPO",
}  # fmt: skip


@pytest.fixture
def order(tmp_path):
    """Return what lays down a model and what is said of it."""

    def lay(model, said):
        folder = tmp_path / "order"
        folder.mkdir(exist_ok=True)
        content = (FOLDER / f"{model}.onnx").read_bytes() if model in NAMES else model
        (folder / MODEL_FILE).write_bytes(content)
        (folder / SPACES_FILE).write_text(json.dumps(said))
        return folder

    return lay


def said_of(name):
    return json.loads((FOLDER / f"{name}.spaces.json").read_text())


def converted(folder):
    return convert(folder, Options(), lambda _: None)


def policy_of(converted):
    return manifests.parse(json.dumps(converted.checkpoint).encode()).policy


def test_what_the_page_shows_is_enough(order):
    page = (CHECKPOINTS.parents[1] / "docs" / "import.md").read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert json.loads(shown) == SAID
    assert policy_of(converted(order(models.policy(), SAID))).head is Head.LOGITS


@pytest.mark.parametrize("name", NAMES)
def test_the_runtime_answers_as_the_reference_does(name, order):
    found = converted(order(name, said_of(name)))
    policy = policy_of(found)
    runtime = OnnxLoader(Device.CPU)(policy.signature, found.weights["policy.onnx"])
    hidden_names = {state.input for state in policy.hidden_states}
    for case in found.trace.cases:
        recorded = case.steps[0].recorded
        rows = case.steps[0].rows
        inputs = {
            spec.name: np.zeros((rows, *spec.shape[1:]), spec.dtype)
            if spec.name in hidden_names
            else recorded.get(f"obs/{spec.name}", recorded.get("obs"))
            for spec in policy.signature.inputs
        }
        for output, array in runtime.run(inputs).items():
            expected = recorded[f"outputs/{output}"]
            np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)


def test_a_model_that_is_named_as_it_should_be_is_kept_as_it_is(order):
    content = (FOLDER / "lstm.onnx").read_bytes()
    weights = converted(order("lstm", said_of("lstm"))).weights["policy.onnx"]
    assert onnx.load_from_string(weights) == onnx.load_from_string(content)


def test_hidden_states_and_the_head_are_inferred(order):
    policy = policy_of(converted(order("lstm", said_of("lstm"))))
    assert policy.head is Head.LOGITS
    assert policy.hidden_states == (
        HiddenState("h", "h_next"),
        HiddenState("c", "c_next"),
    )


def test_inputs_are_called_like_the_parts_that_they_have_the_shapes_of(order):
    found = converted(order("several", said_of("several")))
    weights = onnx.load_from_string(found.weights["policy.onnx"])
    assert [value.name for value in weights.graph.input] == ["vector", "grid", "task"]
    assert list(found.checkpoint["observation_space"]["spaces"]) == [
        "vector",
        "grid",
        "task",
    ]


def test_parts_of_one_shape_cannot_be_told_apart_but_by_name(order):
    box = SAID["observation_space"]
    said = SAID | {
        "observation_space": {"type": "Dict", "spaces": {"left": box, "right": box}}
    }

    def model(*names):
        return models.model(
            [helper.make_node("Sub", names, ["y"])],
            [models.value(name, TensorProto.FLOAT, ["batch", 4]) for name in names],
            [models.value("y", TensorProto.FLOAT, ["batch", 4])],
        ).SerializeToString()

    said["action_space"] = {"type": "Discrete", "n": 4}
    refusal = refused(convert, order(model("x", "y0"), said))
    assert "x, y0 cannot be told apart" in str(refusal)
    assert refusal.field == "observation_space"
    found = converted(order(model("right", "left"), said))
    assert list(found.checkpoint["observation_space"]["spaces"]) == ["right", "left"]


def test_a_name_that_the_model_has_for_something_else_is_refused(order):
    box = SAID["observation_space"]
    said = SAID | {
        "observation_space": {"type": "Dict", "spaces": {"hidden": box}},
        "action_space": {"type": "Discrete", "n": 4},
    }
    model = models.model(
        [
            helper.make_node("Tanh", ["obs"], ["hidden"]),
            helper.make_node("Tanh", ["hidden"], ["y"]),
        ],
        [models.value("obs", TensorProto.FLOAT, ["batch", 4])],
        [models.value("y", TensorProto.FLOAT, ["batch", 4])],
    ).SerializeToString()
    assert "hidden" in str(refused(convert, order(model, said)))


def test_a_model_of_one_row_is_recorded_row_by_row(order):
    flat = numpy_helper.from_array(np.array([1, 4]), "flat")
    model = models.model(
        [helper.make_node("Reshape", ["obs", "flat"], ["logits"])],
        [models.value("obs", TensorProto.FLOAT, [1, 2, 2])],
        [models.value("logits", TensorProto.FLOAT, [1, 4])],
        [flat],
    ).SerializeToString()
    said = SAID | {
        "observation_space": SAID["observation_space"] | {"shape": [2, 2]},
        "action_space": {"type": "Discrete", "n": 4},
    }
    found = converted(order(model, said))
    assert {case.steps[0].rows for case in found.trace.cases} == {1, 7}


@pytest.mark.parametrize("batch", [2, 3])
def test_a_batch_of_several_rows_is_refused_with_what_to_do(batch, order):
    refusal = refused(convert, order(models.policy(batch=batch), SAID))
    assert "dynamic first axis" in str(refusal)


@pytest.mark.parametrize(
    "model",
    [
        models.secret_weights(),
        models.custom_operator("com.microsoft"),
        models.endless_loop(),
        models.own_function(),
    ],
    ids=["external data", "custom operator", "loop", "function"],
)
def test_unsafe_models_are_refused_before_anything_runs(model, order):
    refused(convert, order(model.SerializeToString(), SAID))


@pytest.mark.parametrize(
    "model",
    [
        models.text_policy(),
        models.constant_policy(),
        models.reshaping_policy(),
        models.collapsing_policy(),
        b"no model",
    ],
    ids=["text", "no input", "one batch only", "one row for all", "no model"],
)
def test_models_that_do_not_answer_row_by_row_are_refused(model, order):
    refused(convert, order(model, SAID))


JUNK = {
    "nothing": b"",
    "text": b"no model",
    "cut off": models.policy()[:-1],
    # Fields 2 and 3 of a model: who has made it, and with which version.
    "a producer that is no text": models.policy() + b"\x12\x02\xf0t",
    "a version that is no text": models.policy() + b"\x1a\x02\xf0t",
    "TorchScript": (CHECKPOINTS / "torch_files" / "script.pt").read_bytes(),
    "a state dict": (CHECKPOINTS / "torch_files" / "tensors.pt").read_bytes(),
}


@pytest.mark.parametrize("content", JUNK.values(), ids=JUNK)
def test_what_is_no_model_is_refused_before_anything_is_asked_of_it(content, order):
    folder = order(content, {})
    (folder / SPACES_FILE).unlink()
    refusal = refused(convert, folder)
    assert "is no ONNX model" in str(refusal)
    assert "with the format onnx" in str(refusal)
    assert refusal.field == "weights"


def test_a_model_alone_is_refused_with_the_file_to_write(order):
    folder = order(models.policy(), {})
    (folder / SPACES_FILE).unlink()
    assert refused(convert, folder).field == "spaces.json"


def test_a_model_that_names_its_outputs_keeps_their_names(order):
    said = SAID | {"outputs": ["mine"]}
    assert refused(convert, order(models.policy(), said)).field == "outputs"
    outputs = policy_of(converted(order(models.policy(), SAID))).signature.outputs
    assert [spec.name for spec in outputs] == ["logits"]


def test_where_it_comes_from_is_told(order):
    found = converted(order("lstm", said_of("lstm"))).checkpoint
    assert found["framework"]["name"] == "pytorch"
    assert found["provenance"]["converted_from"] == "onnx"
