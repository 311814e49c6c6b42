"""The runtime of torch.export keeps the contract; and what only it can get wrong."""

import subprocess
import sys
from contextlib import suppress
from functools import partial
from io import BytesIO

import numpy as np
import pytest
import torch
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core.adapters.runtimes.torch_export import TorchExportLoader
from arena_core.adapters.runtimes.torch_programs.operators import (
    ARITHMETIC,
    ATEN,
    OPERATORS,
)
from arena_core.application.ports import Device
from arena_core.domain.checkpoint import TensorSpec
from arena_core.domain.errors import Rejected, Unavailable

from contract.runtime import RuntimeContract, assert_close, some
from torch_programs import (
    OBS,
    WEIGHTS,
    Number,
    Value,
    call,
    changed,
    packed,
    plain,
    program,
    signature,
    unpacked,
)

load = TorchExportLoader(Device.CPU)
obs = Value("obs")


class TorchExportContract(RuntimeContract):
    NAME: str
    SIGNATURE = OBS

    @pytest.fixture(scope="class")
    @classmethod
    def signature(cls):
        return cls.SIGNATURE

    @pytest.fixture(scope="class")
    @classmethod
    def load(cls):
        return partial(load, cls.SIGNATURE, plain(cls.NAME))


class TestTorchExport(TorchExportContract):
    NAME = "gaussian"
    SIGNATURE = signature(
        [("obs", "float32", (3,))],
        [("mean", "float32", (2,)), ("log_std", "float32", (2,))],
    )


class TestTorchExportOfARecurrentPolicy(TorchExportContract):
    NAME = "lstm"
    SIGNATURE = signature(
        [("obs", "float32", (4,)), ("h", "float32", (2, 8)), ("c", "float32", (2, 8))],
        [
            ("logits", "float32", (3,)),
            ("next h", "float32", (2, 8)),
            ("next c", "float32", (2, 8)),
        ],
    )


class TestTorchExportOfImages(TorchExportContract):
    NAME = "cnn"
    SIGNATURE = signature([("image", "uint8", (3, 16, 16))], [("q", "float32", (4,))])


class TestTorchExportOfSeveralInputs(TorchExportContract):
    NAME = "several"
    SIGNATURE = signature(
        [
            ("vector", "float32", (4,)),
            ("grid", "uint8", (3, 3)),
            ("task", "int64", ()),
        ],
        [("logits", "float32", (5,))],
    )


class TestTorchExportWithASecondFreeAxis(TorchExportContract):
    NAME = "classifier"
    SIGNATURE = signature(
        [("sequence", "float32", (None, 8))], [("classes", "float32", (3,))]
    )


class TestTorchExportThatTakesOneRowAtATime(TorchExportContract):
    NAME = "one_row"
    SIGNATURE = signature(
        [("obs", "float32", (4,))], [("q", "float32", (5,)), ("best", "int64", ())]
    )


class TestTorchExportThatTakesTwoRowsOrMore(TorchExportContract):
    NAME = "old"
    SIGNATURE = signature([("obs", "float32", (4,))], [("logits", "float32", (3,))])


# --- the program and its signature -----------------------------------------------

TANH = [call("aten.tanh.default", Value("answer"), self=obs)]
ROWS = [
    call("aten.sym_size.int", Number("rows"), self=obs, dim=0),
    call("aten.new_full.default", "answer", self=obs, size=[Number("rows"), 4],
         fill_value=Number("rows")),
]  # fmt: skip
"""Answers how many rows it was run with."""


def test_a_program_by_hand_is_one_for_torch_too():
    archive = program(TANH)
    inputs = some(OBS)
    module = torch.export.load(BytesIO(archive)).module()
    expected = module(torch.from_numpy(inputs["obs"])).numpy()
    np.testing.assert_array_equal(load(OBS, archive).run(inputs)["answer"], expected)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (signature([("obs", "float64", (4,))], [("answer", "float32", (4,))]),
         ["float64", "float32"]),
        (signature([("obs", "float32", (5,))], [("answer", "float32", (4,))]),
         ["rows, 5", "rows, 4"]),
        (signature([("obs", "float32", (4,))], [("answer", "float64", (4,))]),
         ["float64", "float32"]),
        (signature([("obs", "float32", (4,))], [("answer", "float32", (3,))]),
         ["answer", "rows, 4", "rows, 3"]),
        (signature([("obs", "float32", (4,))] * 2, [("answer", "float32", (4,))]),
         ["inputs obs, obs", "obs"]),
        (signature([("obs", "float32", (4,))], [("answer", "float32", (4,))] * 2),
         ["outputs answer, answer"]),
    ],
)  # fmt: skip
def test_a_signature_that_is_not_true_is_refused_with_the_difference(wanted, words):
    with pytest.raises(Rejected) as refusal:
        load(wanted, program(TANH))
    assert all(word in str(refusal.value) for word in words)
    assert refusal.value.field == "signature"


def test_inputs_and_outputs_are_called_as_the_signature_says():
    wanted = signature([("a/b", "float32", (4,))], [("z", "float32", (4,))])
    runtime = load(wanted, program(TANH))
    assert list(runtime.run({"a/b": np.ones((2, 4), np.float32)})) == ["z"]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([call("aten.sum.dim_IntList", "answer", self=obs, dim=[0], keepdim=True)],
         "answer has 1 rows for 2"),
        ([call("aten.reshape.default", "answer", self=obs, shape=[1, 4])],
         "batch of 2 rows of zeros"),
        ([call("aten.to.dtype", "answer", self=obs, dtype={"as_scalar_type": 8})],
         "answer has the dtype float64"),
        ([call("aten.sym_size.int", Number("answer"), self=obs, dim=1)],
         "batch of 1 rows of zeros"),
        ([call("aten.tanh.default", "answer", input=obs)], "batch of 1 rows of zeros"),
        ([call("aten.chunk.default", ["a", "answer"], self=obs, chunks=4, dim=1)],
         "batch of 1 rows of zeros"),
        ([call("_operator.mul", Number("n"), a=2**62, b=4), *TANH],
         "batch of 1 rows of zeros"),
        ([call("_operator.mul", Number("n"), a=[0] * 9, b=10**12), *TANH],
         "batch of 1 rows of zeros"),
        ([call("_operator.floordiv", Number("n"), a=1, b=0), *TANH],
         "batch of 1 rows of zeros"),
    ],
)  # fmt: skip
def test_a_program_that_does_not_answer_row_by_row_is_refused_at_load(nodes, words):
    with pytest.raises(Rejected, match=words):
        load(OBS, program(nodes))


def test_an_operator_that_this_torch_lacks_is_refused_at_load(monkeypatch):
    monkeypatch.setattr(
        "arena_core.adapters.runtimes.torch_programs.operators.OPERATORS",
        OPERATORS | {f"{ATEN}not_yet.default"},
    )
    with pytest.raises(Rejected, match="can't be loaded by torch"):
        load(OBS, program([call("aten.not_yet.default", "answer", self=obs)]))


def test_values_that_the_weights_cannot_take_are_refused():
    wanted = signature([("obs", "int64", ())], [("answer", "float32", (2,))])
    pick = [call("aten.embedding.default", "answer", weight=Value("w"), indices=obs)]
    table = {"w": np.eye(2, dtype=np.float32)}
    runtime = load(wanted, program(pick, arrays=table, interface=wanted))
    with pytest.raises(Rejected, match="can't take") as refusal:
        runtime.run({"obs": np.array([0, 7])})
    assert "torch" not in str(refusal.value)


def test_lengths_of_axes_are_computed():
    size = call("aten.sym_size.int", Number("four"), self=obs, dim=1)
    half = call("_operator.floordiv", Number("two"), a=Number("four"), b=2)
    shape = [-1, Number("two"), 2]
    view = call("aten.view.default", "v", self=obs, size=shape)
    flat = call("aten.flatten.using_ints", "answer", self=Value("v"), start_dim=1)
    inputs = some(OBS)
    runtime = load(OBS, program([size, half, view, flat]))
    np.testing.assert_array_equal(runtime.run(inputs)["answer"], inputs["obs"])


@pytest.mark.parametrize(
    ("limits", "rows", "ran"),
    [
        ((0, None), 7, [7] * 7),
        ((0, 3), 7, [3, 3, 3, 3, 3, 3, 1]),
        ((2, None), 1, [2]),
        ((2, None), 7, [7] * 7),
        ((2, 3), 7, [3, 3, 3, 3, 3, 3, 2]),
        ((4, 4), 6, [4] * 6),
    ],
)
def test_no_other_number_of_rows_is_run_than_it_was_exported_for(limits, rows, ran):
    runtime = load(OBS, program(ROWS, rows=limits))
    answer = runtime.run(some(OBS, rows=rows))["answer"]
    np.testing.assert_array_equal(answer[:, 0], ran)


def test_limits_that_no_number_of_rows_keeps_are_refused():
    with pytest.raises(Rejected, match="no common number of rows"):
        load(OBS, program(TANH, rows=(5, 3)))


@pytest.mark.parametrize("rows", [2, 3])
def test_a_batch_axis_fixed_to_several_rows_is_refused(rows):
    fixed = evolve(OBS, inputs=(TensorSpec("obs", "float32", (rows, 4)),))
    with pytest.raises(Rejected, match=f"obs to {rows}: export them with a free batch"):
        load(OBS, program(TANH, interface=fixed))


def test_weights_may_share_memory_and_lie_in_any_order():
    table = np.arange(16, dtype=np.float32).reshape(4, 4)
    nodes = [
        call("aten.linear.default", "y", input=obs, weight=Value("w")),
        call("aten.linear.default", "answer", input=Value("y"), weight=Value("v")),
    ]

    def transpose(config):
        config["config"]["v"]["path_name"] = "weight_0"
        config["config"]["v"]["tensor_meta"]["strides"] = [{"as_int": 1}, {"as_int": 4}]

    archive = program(nodes, arrays={"w": table, "v": table})
    members = unpacked(changed(archive, transpose, WEIGHTS))
    del members["archive/data/weights/weight_1"]
    inputs = some(OBS)
    answer = load(OBS, packed(members)).run(inputs)["answer"]
    np.testing.assert_allclose(answer, inputs["obs"] @ table.T @ table, rtol=1e-4)


def test_answers_that_are_inputs_or_weights_can_be_written_to():
    both = evolve(OBS, outputs=(*OBS.outputs, TensorSpec("w", "float32", (None, 4))))
    rows = call("aten.sym_size.int", Number("rows"), self=obs, dim=0)
    wide = call(
        "aten.expand.default", "wide", self=Value("w"), size=[Number("rows"), 4]
    )
    weights = {"w": np.ones(4, np.float32)}
    archive = program(
        [rows, wide], answers=["obs", "wide"], arrays=weights, interface=both
    )
    runtime, inputs = load(both, archive), some(both)
    for answer in runtime.run(inputs).values():
        answer.fill(9)
    assert (runtime.run(inputs)["w"] == 1).all()
    assert (inputs["obs"] != 9).all()


# --- every operator --------------------------------------------------------------

_TRAINING_ONLY = {"train", "training", "dropout_p", "dropout"}


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_that_is_served_changes_nothing_and_draws_nothing(name):
    packet, _, overload = name.removeprefix(ATEN).partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload)
    arguments = {argument.name: argument for argument in operator._schema.arguments}
    assert not operator._schema.is_mutable or packet == "detach_"
    assert "empty" not in packet
    assert "strided" not in packet
    assert not any("Generator" in str(a.type) for a in arguments.values())
    assert not any("file" in name for name in arguments)
    if torch.Tag.nondeterministic_seeded in operator.tags:
        assert arguments.keys() & _TRAINING_ONLY


def test_no_arithmetic_makes_anything_but_a_length():
    for compute in ARITHMETIC.values():
        with pytest.raises(TypeError):
            compute("a", 2**40)


# --- where it runs ---------------------------------------------------------------


def test_cuda_that_is_asked_for_and_not_there_is_unavailable_with_the_remedy():
    load_there = partial(TorchExportLoader(Device.CUDA), OBS, program(TANH))
    if torch.cuda.is_available():
        assert load_there().device == "cuda:0"
        return
    with pytest.raises(Unavailable, match="install torch as it is built for CUDA"):
        load_there()


@pytest.mark.parametrize(
    "contract", [TestTorchExport, TestTorchExportOfARecurrentPolicy,
                 TestTorchExportOfImages, TestTorchExportOfSeveralInputs]
)  # fmt: skip
def test_cuda_and_the_cpu_agree(contract):
    weights = plain(contract.NAME)
    auto = TorchExportLoader(Device.AUTO)(contract.SIGNATURE, weights)
    if auto.device == "cpu":
        pytest.skip("CUDA does not work here")
    inputs = some(contract.SIGNATURE)
    assert_close(auto.run(inputs), load(contract.SIGNATURE, weights).run(inputs))


def test_without_torch_it_is_unavailable_and_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Unavailable, match="install arena-core with its extra torch"):
        load(OBS, program(TANH))


def test_torch_is_not_imported_before_weights_are_loaded():
    program = """
        import sys
        from arena_core.adapters.runtimes.torch_export import TorchExportLoader
        TorchExportLoader()
        assert "torch" not in sys.modules
    """
    lines = "\n".join(line.strip() for line in program.splitlines())
    subprocess.run([sys.executable, "-c", lines], check=True)


@pytest.mark.parametrize(("threads", "then"), [(1, 1), (None, 2)])
def test_torch_is_given_as_many_threads_as_are_said(threads, then):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        TorchExportLoader(Device.CPU, threads)(OBS, program(TANH))
        assert torch.get_num_threads() == then
    finally:
        torch.set_num_threads(before)


# --- whatever it says ------------------------------------------------------------


def places(content: object, path: tuple = ()):
    """Yield the path of each value in a JSON document."""
    yield path
    if isinstance(content, dict | list):
        keys = content if isinstance(content, dict) else range(len(content))
        for key in keys:
            yield from places(content[key], (*path, key))


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_program_with_anything_in_it_is_refused_or_served(data):
    def change(content):
        *above, last = data.draw(st.sampled_from([p for p in places(content) if p]))
        for key in above:
            content = content[key]
        content[last] = data.draw(
            st.sampled_from(
                [None, -1, 0, 1, 3, 2**63, True, 0.5, "obs", "x", [], {}, [1], {"a": 1}]
            )
        )

    name = data.draw(st.sampled_from(["old", "gaussian"]))
    wanted = {"old": TestTorchExportThatTakesTwoRowsOrMore, "gaussian": TestTorchExport}
    archive = changed(plain(name), change)
    with suppress(Rejected, Unavailable):
        runtime = load(wanted[name].SIGNATURE, archive)
        assert runtime.run(some(wanted[name].SIGNATURE))
