"""Every runtime keeps the contract; and what only one of them can get wrong."""

import os
import pickle
import subprocess
import sys
from functools import partial
from textwrap import dedent

import numpy as np
import onnxruntime
import pytest
from attrs import evolve

from arena_core.adapters.runtimes.onnx import OnnxLoader
from arena_core.adapters.runtimes.onnx_safety import refuse_unsafe
from arena_core.application.ports import Device
from arena_core.domain.checkpoint import Signature, TensorSpec
from arena_core.domain.errors import Rejected, TooLarge, Unavailable

import onnx_models as models
from contract.runtime import RuntimeContract, assert_close, some

load = OnnxLoader(Device.CPU)


class OnnxContract(RuntimeContract):
    CHECKPOINT = models.POLICY, models.policy()

    @pytest.fixture(scope="class")
    @classmethod
    def signature(cls):
        return cls.CHECKPOINT[0]

    @pytest.fixture(scope="class")
    @classmethod
    def load(cls):
        return partial(load, *cls.CHECKPOINT)


class TestOnnx(OnnxContract):
    pass


class TestOnnxThatTakesOneRowAtATime(OnnxContract):
    CHECKPOINT = models.POLICY, models.policy(batch=1)


class TestOnnxOfSeveralInputsAndOutputs(OnnxContract):
    CHECKPOINT = models.MASKED_POLICY, models.masked_policy()


class TestOnnxWithASecondFreeAxis(OnnxContract):
    CHECKPOINT = models.SEQUENCE, models.sequence_model()


def test_the_contract_catches_rows_that_see_each_other():
    gossip = load(models.POLICY, models.gossiping_policy())
    with pytest.raises(AssertionError, match="logits"):
        RuntimeContract().test_rows_do_not_see_each_other(
            runtime=gossip, signature=models.POLICY
        )


# --- the weights and their manifest ----------------------------------------------


def policy_signature(
    obs=("obs", "float32", (None, 4)), logits=("logits", "float32", (None, 2))
):
    return Signature((TensorSpec(*obs),), (TensorSpec(*logits),))


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (policy_signature(obs=("state", "float32", (None, 4))), ["state", "obs"]),
        (policy_signature(obs=("obs", "float64", (None, 4))), ["float64", "float32"]),
        (policy_signature(obs=("obs", "float32", (None, 5))), ["rows, 5", "rows, 4"]),
        (policy_signature(obs=("obs", "float32", (None, 2, 2))), ["rows, 2, 2"]),
        (policy_signature(obs=("obs", "float32", (None, None))), ["rows, any"]),
        (policy_signature(obs=("obs", "float32", (1, 4))), ["batch axis", "null"]),
        (policy_signature(obs=("obs", "float32", ())), ["batch axis", "null"]),
        (policy_signature(logits=("q", "float32", (None, 2))), ["outputs q", "logits"]),
        (policy_signature(logits=("logits", "int64", (None, 2))), ["int64", "float32"]),
        (policy_signature(logits=("logits", "float32", (None, 3))), ["rows, 3"]),
        (Signature((), ()), ["nothing", "obs"]),
    ],
)
def test_a_manifest_that_is_not_true_is_refused_with_the_difference(signature, words):
    with pytest.raises(Rejected) as refusal:
        load(signature, models.policy())
    assert all(word in str(refusal.value) for word in words)
    assert refusal.value.field == "signature"


def test_inputs_are_listed_in_the_order_of_the_weights():
    signature = models.MASKED_POLICY
    swapped = evolve(signature, outputs=signature.outputs[::-1])
    with pytest.raises(Rejected, match=r"outputs next, q, the weights q, next"):
        load(swapped, models.masked_policy())


def test_a_manifest_may_fix_an_axis_that_the_weights_leave_free():
    tokens, scaled = models.SEQUENCE.inputs + models.SEQUENCE.outputs
    signature = Signature(
        (evolve(tokens, shape=(None, 5, 3)),), (evolve(scaled, shape=(None, 5, 3)),)
    )
    runtime = load(signature, models.sequence_model())
    assert runtime.signature == signature
    with pytest.raises(Rejected, match=r"\(rows, 5, 3\)"):
        runtime.run(some(models.SEQUENCE))


def test_an_output_that_the_weights_do_not_describe_is_measured():
    signature = policy_signature(logits=("logits", "float32", (None, 3)))
    measured = policy_signature(logits=("logits", "float32", (None, 4)))
    assert load(measured, models.undescribed_policy()).signature == measured
    with pytest.raises(Rejected, match=r"logits has the shape \(rows, 4\)"):
        load(signature, models.undescribed_policy())


@pytest.mark.parametrize("batch", [2, 3])
def test_a_batch_axis_fixed_to_several_rows_is_refused(batch):
    with pytest.raises(
        Rejected, match=f"obs to {batch}: export them with a free batch"
    ):
        load(models.POLICY, models.policy(batch=batch))


@pytest.mark.parametrize(
    ("keepdims", "got"), [(1, "1 rows for 2"), (0, "no rows for 1")]
)
def test_outputs_that_do_not_follow_the_batch_are_refused_at_load(keepdims, got):
    signature = policy_signature(logits=("logits", "float32", (None, 4)))
    with pytest.raises(Rejected, match=f"logits has {got} rows"):
        load(signature, models.collapsing_policy(keepdims=keepdims))


def test_weights_that_fail_on_two_rows_are_refused_at_load():
    with pytest.raises(Rejected, match="batch of 2 rows of zeros"):
        load(models.POLICY, models.reshaping_policy())


def test_weights_without_inputs_are_refused():
    signature = Signature((), ())
    with pytest.raises(Rejected, match="have no input"):
        load(signature, models.constant_policy())


def test_text_is_no_input():
    with pytest.raises(Rejected, match="no array of numbers"):
        load(models.POLICY, models.text_policy())


def test_values_that_the_weights_cannot_take_are_refused():
    runtime = load(models.PICK, models.pick_policy())
    with pytest.raises(Rejected, match="can't take") as refusal:
        runtime.run({"obs": np.array([0, 7])})
    assert "onnx" not in str(refusal.value)


# --- where it runs ---------------------------------------------------------------


def test_cuda_that_is_asked_for_and_not_there_is_unavailable_with_the_remedy():
    try:
        runtime = OnnxLoader(Device.CUDA)(models.POLICY, models.policy())
    except Unavailable as error:
        assert "install onnxruntime-gpu" in str(error)  # noqa: PT017
    else:
        assert runtime.device == "cuda:0"


def test_cuda_and_the_cpu_agree():
    auto = OnnxLoader(Device.AUTO)(models.POLICY, models.policy())
    if auto.device == "cpu":
        pytest.skip("CUDA does not work here")
    inputs = some(models.POLICY)
    assert_close(auto.run(inputs), load(models.POLICY, models.policy()).run(inputs))


@pytest.mark.parametrize("driver", ["the machine's", "any"])
def test_loading_prints_nothing(driver):
    """Also where there is a driver, but none of the libraries that CUDA needs."""
    program = f"""
        import ctypes, numpy, onnx_models
        from arena_core.adapters.runtimes import onnx
        from arena_core.application.ports import Device
        from arena_core.domain.errors import Rejected, Unavailable

        if {driver == "any"}:
            load = ctypes.CDLL
            ctypes.CDLL = lambda name: "libcuda" in name or load(name)
        runtime = onnx.OnnxLoader()(onnx_models.PICK, onnx_models.pick_policy())
        assert runtime.device in ("cpu", "cuda:0")
        try:
            runtime.run({{"obs": numpy.array([7])}})
        except Rejected:
            pass
        cuda = onnx.OnnxLoader(Device.CUDA)
        try:
            runtime = cuda(onnx_models.POLICY, onnx_models.policy())
        except Unavailable:
            pass
        else:
            assert runtime.device == "cuda:0"
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(program)],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_more_threads_give_the_same_answers():
    inputs = some(models.POLICY, rows=9)
    two = OnnxLoader(Device.CPU, threads=2)(models.POLICY, models.policy())
    assert_close(two.run(inputs), load(models.POLICY, models.policy()).run(inputs))


# --- what must not be loaded -----------------------------------------------------

READERS = [
    models.secret_weights,
    models.secret_sparse_weights,
    models.secret_constant,
    models.secret_branch,
    models.secret_function,
]


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """Return whether the file that the models name, beside us, has been read."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "canary.bin"
    models.CANARY.tofile(path)
    os.utime(path, (0, path.stat().st_mtime))
    return lambda: path.stat().st_atime != 0


def refused(weights: bytes) -> str:
    for check in (refuse_unsafe, lambda it: load(models.READER, it)):
        with pytest.raises(Rejected) as refusal:
            check(weights)
        assert refusal.value.field == "weights"
    return str(refusal.value)


@pytest.mark.parametrize("reader", READERS)
def test_onnxruntime_alone_would_read_files_of_this_machine(reader, canary):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(0)
    session = onnxruntime.InferenceSession(
        reader().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run(None, {"obs": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(answer, [models.CANARY])
    assert canary()


@pytest.mark.parametrize(
    "reader",
    [
        *READERS,
        models.secret_training,
        models.located_but_inside,
        models.outside_but_nowhere,
    ],
)
def test_data_outside_of_the_file_is_refused_unread(reader, canary):
    reason = refused(reader().SerializeToString())
    assert "outside of their file" in reason or "functions" in reason
    assert not canary()


@pytest.mark.parametrize(
    "domain", ["com.microsoft", "ai.onnx.contrib", "mine", "AI.ONNX"]
)
def test_operators_beyond_the_standard_are_refused(domain):
    assert "standard" in refused(models.custom_operator(domain).SerializeToString())


def test_functions_are_refused_because_they_inline_to_any_size():
    assert "inline" in refused(models.own_function().SerializeToString())


@pytest.mark.parametrize(
    "looping",
    [
        models.endless_loop,
        models.loop_by_input,
        models.loop_in_a_branch,
        models.endless_scan,
        models.mapped_sequence,
    ],
)
def test_loops_are_refused_because_they_may_never_end(looping):
    assert "loop" in refused(looping().SerializeToString())


def test_onnxruntime_alone_would_run_the_loops():
    weights = models.endless_loop(rounds=1000).SerializeToString()
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    obs = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(session.run(None, {"obs": obs})[0], obs)


def test_a_choice_between_two_graphs_is_no_loop():
    runtime = load(models.READER, models.branching_policy())
    for obs in (np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32)):
        np.testing.assert_array_equal(runtime.run({"obs": obs})["logits"], np.abs(obs))


def test_parts_that_this_release_cannot_read_are_refused():
    unknown_field_2000 = b"\x82\x7d\x01x"
    assert "older" in refused(models.policy() + unknown_field_2000)


@pytest.mark.parametrize(
    "junk",
    [b"", b"\0" * 64, b"not a model", b"\x18\0\0\0ORTM" + b"\0" * 64, b"\x08\x0a",
     pickle.dumps({"weights": np.arange(4)})],
    ids=["empty", "zeros", "text", "other format", "no graph", "pickle"],
)  # fmt: skip
def test_what_is_no_onnx_is_refused(junk):
    assert "no ONNX model" in refused(junk)


def test_weights_that_also_pass_for_another_format_are_run_as_what_was_checked():
    producer_name = b"\x12\x06\0\0ORTM"  # puts the other format's mark where it belongs
    inputs = some(models.POLICY)
    marked = load(models.POLICY, producer_name + models.policy())
    assert_close(marked.run(inputs), load(models.POLICY, models.policy()).run(inputs))


def test_a_model_cut_off_anywhere_is_refused():
    whole = models.policy()
    load(models.POLICY, whole)
    for size in range(len(whole)):
        with pytest.raises(Rejected):
            load(models.POLICY, whole[:size])


def test_a_model_over_the_limit_is_refused_unparsed():
    limited = OnnxLoader(Device.CPU, largest_bytes=len(models.policy()) - 1)
    with pytest.raises(TooLarge, match=f"at most {limited.largest_bytes}"):
        limited(models.POLICY, models.policy())
