"""Programs of torch.export become bundles that answer as torch itself does."""

import io
import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch

from arena_core.adapters.converters.torch import convert
from arena_core.adapters.runtimes.torch_export import TorchExportLoader
from arena_core.application import manifests
from arena_core.application.conversion import (
    MODEL_FILE,
    SPACES_FILE,
    TRACE_FILE,
    Options,
)
from arena_core.application.ports import Device
from arena_core.domain.checkpoint import Head, HiddenState, Squash
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family

from contract.converter import refused
from real_checkpoints import CHECKPOINTS
from torch_programs import (
    SAMPLES,
    Value,
    call,
    packed,
    plain,
    program,
    saved,
    signature,
    unpacked,
)

ONE_OF_THREE = {"type": "Discrete", "n": 3}
FOLDER = CHECKPOINTS / "torch"
NAMES = [file.stem for file in sorted(FOLDER.glob("*.pt2"))]


@pytest.fixture
def order(tmp_path):
    """Return what lays down a model and what is said of it."""

    def lay(model, said):
        folder = tmp_path / "order"
        folder.mkdir(exist_ok=True)
        content = model if isinstance(model, bytes) else saved(model)
        (folder / MODEL_FILE).write_bytes(content)
        (folder / SPACES_FILE).write_text(json.dumps(said))
        return folder

    return lay


def said_of(name, **changes):
    said = json.loads((FOLDER / f"{name}.spaces.json").read_text()) | changes
    return {key: value for key, value in said.items() if value is not None}


def converted(folder, options=None):
    return convert(folder, options or Options(), lambda _: None)


def manifest(converted):
    return manifests.parse(json.dumps(converted.checkpoint).encode())


def test_the_weights_are_the_plain_form(order):
    weights = converted(order("lstm", said_of("lstm"))).weights
    assert weights == {"policy.pt2": plain("lstm")}
    assert unpacked(weights["policy.pt2"])[SAMPLES] == b""


@pytest.mark.parametrize("name", NAMES)
def test_the_served_path_answers_as_torch_does(name, order):
    """Two readers of one program, ours and torch's, with nothing in common."""
    found = converted(order(name, said_of(name)))
    policy = manifest(found).policy
    load = TorchExportLoader(Device.CPU)
    runtime = load(policy.signature, found.weights[policy.weights])
    for case in found.trace.cases:
        hidden = {
            state.input: np.zeros(spec.shape[1:], "f4")[None].repeat(len(step), 0)
            for step in [next(iter(case.steps[0].recorded.values()))]
            for state in policy.hidden_states
            for spec in policy.signature.inputs
            if spec.name == state.input
        }
        for step in case.steps:
            observed = [
                array
                for spec in policy.signature.inputs
                for what, array in step.recorded.items()
                if what in {f"obs/{spec.name}", "obs", "inputs"}
            ]
            names = [spec.name for spec in policy.signature.inputs]
            outputs = runtime.run(dict(zip(names, observed, strict=False)) | hidden)
            for output, array in outputs.items():
                expected = step.recorded[f"outputs/{output}"]
                np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)
            hidden = {
                state.input: outputs[state.output] for state in policy.hidden_states
            }


# --- what is inferred ------------------------------------------------------------


def test_hidden_states_are_inferred_from_their_shapes(order):
    policy = manifest(converted(order("lstm", said_of("lstm")))).policy
    assert policy.hidden_states == (
        HiddenState("h", "h_next"),
        HiddenState("c", "c_next"),
    )
    assert [spec.name for spec in policy.signature.outputs] == [
        "logits",
        "h_next",
        "c_next",
    ]


def test_hidden_states_can_be_named(order):
    said = said_of(
        "lstm",
        outputs=["scores", "a", "b"],
        hidden_state=[{"input": "h", "output": "a"}, {"input": "c", "output": "b"}],
    )
    policy = manifest(converted(order("lstm", said))).policy
    assert policy.hidden_states == (HiddenState("h", "a"), HiddenState("c", "b"))
    assert policy.signature.outputs[0].name == "scores"


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("gaussian", Head.ACTION),
        ("lstm", Head.LOGITS),
        ("cnn", Head.Q_VALUES),
        ("several", Head.LOGITS),
        ("classifier", Head.OUTPUT),
    ],
)
def test_the_head_is_inferred_from_the_action_space(name, head, order):
    found = manifest(converted(order(name, said_of(name))))
    assert found.policy.head is head
    assert found.family is (Family.SUPERVISED if head is Head.OUTPUT else Family.RL)


def test_what_is_said_of_an_action_is_kept(order):
    policy = manifest(converted(order("gaussian", said_of("gaussian")))).policy
    assert policy.transform.squash is Squash.TANH
    assert policy.transform.rescale_from == (-1, 1)
    assert policy.log_std == "log_std"


def test_a_normaliser_is_kept_and_applied_in_the_trace(order):
    numbers = {"mean": [100.0] * 4, "variance": [25.0] * 4}
    folder = order("old", said_of("old", normaliser=numbers))
    found = converted(folder)
    assert manifest(found).policy.normalisers[""].mean == (100.0,) * 4
    observed = found.trace.cases[1].steps[0].recorded["obs"]
    assert (observed > 50).all()


def test_parts_of_a_dict_come_in_the_order_of_the_program(order):
    found = converted(order("several", said_of("several")))
    assert list(found.checkpoint["observation_space"]["spaces"]) == [
        "vector",
        "grid",
        "task",
    ]
    assert [spec.name for spec in manifest(found).policy.signature.inputs] == [
        "vector",
        "grid",
        "task",
    ]


def test_the_algorithm_can_be_said_in_the_options(order):
    folder = order("lstm", said_of("lstm", algorithm=None))
    found = converted(folder, Options(algorithm="Recurrent PPO"))
    assert found.checkpoint["algorithm"] == "Recurrent PPO"


def test_where_it_comes_from_is_told(order):
    said = said_of(
        "old", provenance={"step": 500}, framework={"name": "x", "version": "1"}
    )
    found = converted(order("old", said)).checkpoint
    assert found["provenance"] == {
        "step": 500,
        "converted_from": "torch.export",
        "golden": "computed from the weights",
    }
    assert found["framework"] == {"name": "x", "version": "1"}
    plainly = converted(order("old", said_of("old"))).checkpoint
    assert plainly["framework"]["name"] == "torch"
    assert plainly["framework"]["version"].startswith("2.11")


# --- what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("old", {"observation_space": None}, "observation_space"),
        ("old", {"action_space": None}, "action_space"),
        ("old", {"algorithm": None}, "algorithm"),
        ("old", {"algorithm": "Sorcery"}, "family"),
        ("old", {"family": "llm"}, "family"),
        ("old", {"family": "magic"}, "family"),
        ("old", {"algorithm": "Recurrent PPO"}, "hidden_state"),
        ("old", {"action_space": {"type": "MultiBinary", "shape": [4]}}, "head"),
        ("old", {"head": "output"}, "head"),
        ("old", {"outputs": ["a", "b"]}, "outputs"),
        ("old", {"surprise": 1}, "spaces.json"),
        ("old", {"observation_space": ONE_OF_THREE}, "observation_space"),
        ("old", {"normaliser": {"mean": [0], "variance": [1]}}, "normaliser.mean"),
        ("old", {"action_transform": {"squash": "tanh"}}, "action_transform"),
        ("gaussian", {"log_std": "nothing"}, "log_std"),
        ("gaussian", {"outputs": None}, "outputs"),
        ("lstm", {"observation_space": {"type": "Tuple", "spaces": [
            ONE_OF_THREE] * 4}}, "observation_space"),
        ("lstm", {"hidden_state": [{"input": "h", "output": "h"}],
                  "outputs": ["a", "b", "c"]}, "hidden_state"),
        ("lstm", {"hidden_state": [{"input": "h"}]}, "spaces.json.hidden_state 0"),
        ("several", {"observation_space": {"type": "Tuple", "spaces": [
            ONE_OF_THREE] * 3}}, "observation_space"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named_with_what_to_write(
    name, changes, field, order
):
    refusal = refused(convert, order(name, said_of(name, **changes)))
    assert refusal.field == field


def test_a_model_alone_is_refused_with_the_file_to_write(order):
    folder = order("old", {})
    (folder / SPACES_FILE).unlink()
    refusal = refused(convert, folder)
    assert "spaces.json is missing" in str(refusal)
    assert refusal.field == "spaces.json"
    for said in ("--spaces FILE", "observation_space", "action_space", "algorithm"):
        assert said in str(refusal)


def test_axes_cannot_be_moved_in_a_finished_program(order):
    folder = order("cnn", said_of("cnn"))
    with pytest.raises(Rejected, match="transpose inside of it"):
        convert(folder, Options(channels_last=True), print)


def interface(obs, *answers):
    return signature([obs], [(f"a{i}", *it) for i, it in enumerate(answers)])


def test_a_hidden_state_that_several_outputs_could_be_must_be_named(order):
    shapes = signature(
        [("obs", "float32", (4,)), ("h", "float32", (4,))],
        [("a", "float32", (4,)), ("b", "float32", (4,)), ("c", "float32", (4,))],
    )
    nodes = [
        call("aten.mul.Scalar", name, self=Value("h"), other=factor)
        for name, factor in [("a", 1.0), ("b", 2.0), ("c", 3.0)]
    ]
    archive = program(nodes, answers=["a", "b", "c"], interface=shapes)
    said = said_of("lstm", action_space={"type": "Discrete", "n": 4})
    assert refused(convert, order(archive, said)).field == "hidden_state"


def test_a_state_that_is_not_batch_first_is_refused(order):
    class Usual(torch.nn.Module):
        def forward(self, obs, h):
            return obs + h[0], h

    batch = torch.export.Dim("batch")
    exported = torch.export.export(
        Usual(),
        (torch.zeros(2, 4), torch.zeros(1, 2, 4)),
        dynamic_shapes=({0: batch}, {1: batch}),
    )
    stream = io.BytesIO()
    torch.export.save(exported, stream)
    said = said_of("lstm", action_space={"type": "Discrete", "n": 4})
    refusal = refused(convert, order(stream.getvalue(), said))
    assert "export the model with a fixed size for all but the batch" in str(refusal)


@pytest.mark.parametrize("nodes", [
    [call("aten.sum.dim_IntList", "answer", self=Value("obs"), dim=[0])],
    [call("aten.reshape.default", "answer", self=Value("obs"), shape=[1, 4])],
    [call("aten.mm.default", "answer", self=Value("obs"), mat2=Value("obs"))],
])  # fmt: skip
def test_a_program_that_does_not_answer_row_by_row_is_refused(nodes, order):
    refused(convert, order(program(nodes), said_of("old")))


@pytest.mark.parametrize("file", ["script.pt", "module.pt", "tensors.pt", "legacy.pt"])
def test_other_files_of_torch_are_refused_with_what_to_do(file, order):
    content = (CHECKPOINTS / "torch_files" / file).read_bytes()
    folder = order(content, {})
    (folder / SPACES_FILE).unlink()
    refusal = refused(convert, folder)
    assert "torch.export.save" in str(refusal)
    assert "with the format onnx" in str(refusal)
    what = "is TorchScript" if file == "script.pt" else "is a pickle"
    assert what in str(refusal)


JUNK = {
    "nothing": b"",
    "text": b"import torch\n",
    "another model": (CHECKPOINTS / "onnx" / "lstm.onnx").read_bytes(),
}


@pytest.mark.parametrize("content", JUNK.values(), ids=JUNK)
def test_what_is_no_model_is_refused_before_anything_is_asked_of_it(content, order):
    folder = order(content, {})
    (folder / SPACES_FILE).unlink()
    refusal = refused(convert, folder)
    assert "is no program of torch" in str(refusal)
    assert refusal.field == "weights"


def test_torchscript_is_refused_by_the_parts_of_its_archive(order):
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl"):
            archive.writestr(f"policy/{name}", b"")
    folder = order(script.getvalue(), {})
    (folder / SPACES_FILE).unlink()
    assert "is TorchScript" in str(refused(convert, folder))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not JSON"),
        ("spaces", "is not JSON"),
        ("[" * 100 + "]" * 100, "is nested too deeply"),
        ("[]", "Expected object, got array"),
        ('{"surprise": 1}', "unknown field surprise"),
    ],
)
def test_a_broken_description_is_called_by_its_name(text, why, order):
    folder = order("old", {})
    (folder / SPACES_FILE).write_text(text)
    refusal = refused(convert, folder)
    assert str(refusal).startswith("The spaces.json is ")
    assert why in str(refusal)
    assert refusal.field == "spaces.json"


def test_a_program_of_an_old_torch_is_refused(order):
    old = packed({"serialized_exported_program.json": b"{}", "version": b"8.8"})
    assert "older than" in str(refused(convert, order(old, said_of("old"))))


def test_no_pickle_is_opened(order, tmp_path):
    class Canary:
        def __reduce__(self):
            return (tmp_path / "sung").mkdir, ()

    stream = io.BytesIO()
    torch.save((Canary(), {}), stream)
    archive = packed(unpacked(saved("old")) | {SAMPLES: stream.getvalue()})
    assert converted(order(archive, said_of("old"))).weights["policy.pt2"] == plain(
        "old"
    )
    assert not (tmp_path / "sung").exists()


def test_without_torch_it_is_refused_with_what_to_install(order, monkeypatch):
    folder = order("old", said_of("old"))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "install arena-core with its extra torch" in str(refused(convert, folder))


def test_a_trace_that_was_recorded_is_taken(order):
    folder = order("old", said_of("old"))
    shutil.copy(FOLDER / "old.npz", folder / TRACE_FILE)
    found = converted(folder)
    assert found.checkpoint["provenance"]["golden"] == "recorded in training"
    with zipfile.ZipFile(FOLDER / "old.npz") as archive:
        assert len(archive.namelist()) == sum(
            len(step.recorded) for case in found.trace.cases for step in case.steps
        )
