"""What an archive of torch.export must not hold, and the plain form of one."""

import io
import json
import re
import warnings
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.adapters.runtimes.torch_export_safety import read, strip
from arena_core.domain.errors import Rejected, TooLarge

from torch_programs import (
    PROGRAM,
    SAMPLES,
    WEIGHTS,
    Value,
    call,
    changed,
    packed,
    plain,
    program,
    saved,
    unpacked,
)

NAMES = ["gaussian", "lstm", "cnn", "several", "one_row", "classifier", "old"]
SAVED = saved("gaussian")
PLAIN = strip(SAVED)


def with_member(name, content):
    return packed(unpacked(SAVED) | {f"archive/{name}": content})


def with_program(change):
    return changed(SAVED, change)


# --- the plain form --------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_torch_saves_is_served_in_its_plain_form_only(name):
    with pytest.raises(Rejected, match="arena-core checkpoint import --from torch"):
        read(saved(name))
    assert read(plain(name)).program.calls


def noted(content):
    content["graph_module"]["graph"]["nodes"][0]["metadata"]["torch_fn"] = "tanh"


def guarded(content):
    content["guards_code"].append("True")


def elsewhere(content):
    content["graph_module"]["graph"]["tensor_values"]["obs"]["device"]["type"] = "cuda"


@pytest.mark.parametrize(
    "archive",
    [
        packed(unpacked(PLAIN) | {SAMPLES: b"a pickle"}),
        packed(unpacked(PLAIN) | {"archive/.data/serialization_id": b"1"}),
        packed(unpacked(PLAIN) | {"archive/extra/note": b"read me"}),
        packed(unpacked(PLAIN) | {"archive/data/weights/weight_99": b"spare"}),
        changed(PLAIN, noted),
        changed(PLAIN, guarded),
        changed(PLAIN, elsewhere),
    ],
    ids=["a pickle", "an id", "a note", "spare bytes", "notes", "a guard", "a device"],
)
def test_one_thing_that_is_not_plain_is_enough(archive):
    with pytest.raises(Rejected, match="arena-core checkpoint import --from torch"):
        read(archive)
    assert strip(archive) == PLAIN


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_form_is_its_own_and_has_the_same_arrays(name):
    archive = plain(name)
    assert strip(archive) == archive
    before = unpacked(saved(name))
    for place, content in read(archive).places.items():
        kind = "weights" if place.startswith("weight") else "constants"
        assert before[f"archive/data/{kind}/{place}"] == content


@pytest.mark.parametrize("name", NAMES)
def test_torch_loads_the_plain_form_too(name):
    with warnings.catch_warnings(action="ignore"):
        torch.export.load(io.BytesIO(plain(name))).module()


def test_the_plain_form_says_nothing_of_where_it_was_made():
    def trace(content):
        for node in content["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {"stack_trace": 'File "/home/anna/secret.py", line 3'}

    archive = with_program(trace)
    assert b"anna" in archive
    assert strip(archive) == PLAIN


def test_a_program_from_another_device_is_served_on_any():
    text = unpacked(SAVED)
    cpu, cuda = b'{"type": "cpu", "index": null}', b'{"type": "cuda", "index": 1}'
    moved = {name: content.replace(cpu, cuda) for name, content in text.items()}
    assert moved != text
    assert strip(packed(moved)) == PLAIN


# --- what else is refused --------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/model.so",
        "data/constants/custom_obj_0",
        "data/executorch/model.pte",
        "models/other.json",
        "data/sample_inputs/other.pt",
        "xl_model_weights/model_param_config",
        "code/model.py",
        "constants.pkl",
    ],
)
def test_compiled_code_and_files_that_nobody_knows_are_refused(name):
    with pytest.raises(Rejected, match="may be code or a pickle"):
        strip(with_member(name, b"anything"))


@pytest.mark.parametrize(
    "change",
    [
        {"archive_format": b"pt3"},
        {"archive_version": b"1"},
        {"byteorder": b"big"},
        {".data/version": b"9\n"},
    ],
)
def test_archives_of_another_kind_are_refused(change):
    ((name, content),) = change.items()
    with pytest.raises(Rejected, match=f"unusual {name}"):
        strip(with_member(name, content))


@pytest.mark.parametrize("missing", [PROGRAM, WEIGHTS, "archive/byteorder"])
def test_archives_that_lack_a_part_are_refused(missing):
    members = unpacked(SAVED)
    del members[missing]
    with pytest.raises(Rejected, match="no archive of one program"):
        strip(packed(members))


@pytest.mark.parametrize(
    "length",
    [
        "9" * 900,
        "Pow(Integer(9), Integer(9))",
        "Pow(Symbol('s0'), Integer(99))",
        "Symbol('s0').func",
        "Symbol('s0') ** 2",
        "lambda: 0",
        "Symbol('s0', positive=print())",
        "",
    ],
)
def test_lengths_of_axes_are_text_that_needs_no_evaluation(length):
    def change(content):
        sizes = content["graph_module"]["graph"]["tensor_values"]["obs"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = length

    with pytest.raises(Rejected, match="what is not served"):
        strip(with_program(change))


def test_a_second_folder_is_refused():
    with pytest.raises(Rejected, match="no archive of one program"):
        strip(packed(unpacked(SAVED) | {f"other/{PROGRAM}": b""}))


def test_another_generation_is_refused():
    def change(content):
        content["schema_version"]["major"] = 9

    with pytest.raises(Rejected, match=r"save them with torch 2\.11 to 2\.13"):
        strip(with_program(change))


@pytest.mark.parametrize(
    "operator",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.empty.memory_format",
        "torch.ops.aten.as_strided.default",
        "torch.ops.aten.rand.default",
        "torch.ops.aten.relu_.default",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.higher_order.while_loop",
        "torch.ops.higher_order.wrap_with_set_grad_enabled",
        "torch.ops.mine.custom.default",
        "torch.os.system",
        "torch.ops.aten.tanh",
        "_operator.methodcaller",
        "_operator.pow",
        "math.factorial",
        "builtins.eval",
        "#triton:kernel",
        "",
    ],
)
def test_operators_that_are_not_listed_are_refused_by_name(operator):
    node = call("aten.tanh.default", "answer", self=Value("obs")) | {"target": operator}
    with pytest.raises(Rejected) as refusal:
        read(program([node]))
    assert re.sub(r"[^\w.]", "?", operator.removeprefix("torch.ops.")) in str(
        refusal.value
    )
    assert "run_decompositions" in str(refusal.value)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("aten.dropout.default", {"p": 0.5, "train": True}),
        ("aten.dropout.default", {"p": 0.5, "train": 1}),
        ("aten.batch_norm.default", {"training": True}),
        ("aten.scaled_dot_product_attention.default", {"dropout_p": 0.1}),
    ],
)
def test_what_draws_at_random_or_learns_is_refused(operator, arguments):
    node = call(operator, "answer", input=Value("obs"), **arguments)
    with pytest.raises(Rejected, match=r"call eval\(\) on the module"):
        read(program([node]))


@pytest.mark.parametrize(
    "nodes",
    [
        [call("aten.tanh.default", "answer", self=Value("later"))],
        [call("aten.tanh.default", "other", self=Value("obs"))],
        [call("aten.tanh.default", "obs", self=Value("obs"))],
        [call("aten.tanh.default", "answer", self=Value("obs"))] * 2,
        [call("aten.chunk.default", [["answer", "answer"]], self=Value("obs"))],
        [call("aten.cat.default", "answer", tensors=[Value("obs"), Value("answer")])],
    ],
)
def test_values_out_of_order_are_refused(nodes):
    with pytest.raises(Rejected, match="a value that no call has made, or make one"):
        read(program(nodes))


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ([5], [1], 0),
        ([4], [1], 1),
        ([2, 2], [3, 2], 0),
        ([2**40], [0], 0),
        ([2**63, 2**63], [0, 0], 0),
        ([2], [2**63], 0),
        ([-1], [1], 0),
        ([4], [-1], 3),
        ([4], [1], -1),
        ([4], [1, 1], 0),
    ],
)
def test_arrays_beyond_their_file_are_refused(shape, strides, offset):
    nodes = [call("aten.mul.Tensor", "answer", self=Value("obs"), other=Value("w"))]
    archive = program(nodes, arrays={"w": np.ones(4, np.float32)})

    def change(config):
        meta = config["config"]["w"]["tensor_meta"]
        meta["sizes"] = [{"as_int": n} for n in shape]
        meta["strides"] = [{"as_int": n} for n in strides]
        meta["storage_offset"] = {"as_int": offset}

    assert read(archive).places
    with pytest.raises(Rejected, match="save them again"):
        read(changed(archive, change, WEIGHTS))


def test_an_array_that_nobody_uses_must_lie_in_its_file_too():
    archive = program(
        [call("aten.tanh.default", "answer", self=Value("obs"))],
        arrays={"w": np.ones(4, np.float32)},
    )

    def change(config):
        config["config"]["unused"] = config["config"]["w"] | {"path_name": "weight_7"}

    with pytest.raises(Rejected, match="does not lie in its file, weight_7"):
        read(changed(archive, change, WEIGHTS))


def test_bytes_are_not_read_as_two_dtypes():
    archive = program(
        [call("aten.tanh.default", "answer", self=Value("obs"))],
        arrays={"w": np.ones(4, np.float32)},
    )

    def change(config):
        other = json.loads(json.dumps(config["config"]["w"]))
        other["tensor_meta"]["dtype"] = 4
        config["config"]["other"] = other

    with pytest.raises(Rejected, match="does not lie in its file"):
        read(changed(archive, change, WEIGHTS))


def test_a_program_that_changes_itself_is_refused():
    def change(content):
        content["graph_module"]["signature"]["output_specs"][0] = {
            "buffer_mutation": {"arg": {"name": "a"}, "buffer_name": "b"}
        }

    with pytest.raises(Rejected, match="change while they run"):
        strip(with_program(change))


@pytest.mark.parametrize(
    "spec",
    [
        {"constant_input": {"name": "flag", "value": {"as_bool": True}}},
        {
            "custom_obj": {
                "arg": {"name": "o", "class_fqn": "c"},
                "custom_obj_name": "o",
            }
        },
        {"user_input": {"arg": {"as_sym_int": {"as_name": "n"}}}},
        {"user_input": {"arg": {"as_none": True}}},
    ],
)
def test_inputs_that_are_no_arrays_are_refused(spec):
    def change(content):
        content["graph_module"]["signature"]["input_specs"].append(spec)

    with pytest.raises(Rejected, match="that is no array"):
        strip(with_program(change))


def test_archives_over_the_limit_are_refused():
    with pytest.raises(TooLarge):
        strip(SAVED, largest_bytes=1000)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"[" * 10_000, b"\xff"])
def test_programs_that_are_no_json_are_refused(text):
    with pytest.raises(Rejected):
        strip(packed(unpacked(SAVED) | {PROGRAM: text}))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_archives_are_refused_or_as_good_as_whole(data):
    archive = bytearray(data.draw(st.sampled_from([SAVED, PLAIN])))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(
            st.integers(0, 255)
        )
    with suppress(Rejected):
        strip(bytes(archive))
    with suppress(Rejected):
        assert read(bytes(archive)).program == read(PLAIN).program


def test_a_deflated_archive_is_as_good_as_a_stored_one():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in unpacked(SAVED).items():
            archive.writestr(name, content)
    assert strip(stream.getvalue()) == PLAIN


def test_the_plain_form_has_an_empty_file_for_the_pickle():
    assert unpacked(PLAIN)[SAMPLES] == b""
