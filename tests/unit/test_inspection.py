"""Weights are loaded in a confined process before a server keeps them."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from attrs import evolve
from onnx import TensorProto, helper, numpy_helper

from arena_core.adapters.runtimes.onnx import OnnxLoader, OnnxRuntime
from arena_core.application import bundles
from arena_core.application.loading import Runtimes
from arena_core.application.ports import Device
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.entrypoints import inspection
from arena_core.entrypoints.inspection import InspectionApart

import bundles as written
import shapes
from onnx_models import model, value


def look_at(folder, look=None):
    (look or InspectionApart())(folder, bundles.check(folder))


def computing(shape: list[int], times: int) -> bytes:
    """Return a small file that asks for a product of huge constants when loaded."""
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["c0"])]
    nodes += [
        helper.make_node("MatMul", [f"c{n}", f"c{n}"], [f"c{n + 1}"])
        for n in range(times)
    ]
    nodes += [
        helper.make_node("ReduceSum", [f"c{times}"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["obs", "w"], ["seen"]),
        helper.make_node("Add", ["seen", "sum"], ["logits"]),
    ]
    return model(
        nodes,
        [value("obs", TensorProto.FLOAT, ["batch", 4])],
        [value("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.array(shape), "shape"),
            numpy_helper.from_array(np.ones((4, 2), np.float32), "w"),
        ],
    ).SerializeToString()


@pytest.mark.parametrize("write", [written.cartpole, shapes.multi_agent_policy])
def test_a_bundle_that_can_be_served_passes(tmp_path, write):
    look_at(write(tmp_path / "bundle"))


def test_a_bundle_that_cannot_be_loaded_is_refused_as_it_would_be_here(tmp_path):
    folder = written.cartpole(tmp_path / "bundle")
    (folder / "policy.onnx").write_bytes(b"no model")
    with pytest.raises(Rejected, match="no ONNX model") as caught:
        look_at(folder)
    assert caught.value.field == "weights"


def test_weights_that_are_only_looked_at_are_not_measured(tmp_path, monkeypatch):
    folder, ran = written.cartpole(tmp_path / "bundle"), []
    run = OnnxRuntime.run

    def watched(runtime, inputs):
        ran.extend(len(rows) for rows in inputs.values())
        return run(runtime, inputs)

    monkeypatch.setattr(OnnxRuntime, "run", watched)
    loaders = Runtimes({".onnx": OnnxLoader(Device.CPU)})
    inspection.inspect(loaders, folder, bundles.check(folder))
    assert max(ran) <= 2, "a loader tries two rows; a measurement tries many"


def test_weights_that_compute_for_ever_while_they_are_loaded_are_given_up(tmp_path):
    look = InspectionApart(limits=evolve(inspection.LIMITS, wall_s=3))
    folder = written.cartpole(tmp_path / "bundle")
    (folder / "policy.onnx").write_bytes(computing([6000, 6000], 12))
    begun = time.monotonic()
    with pytest.raises(Rejected, match="took more than 3 seconds"):
        look_at(folder, look)
    assert time.monotonic() - begun < 60, "far less than the weights ask for"


def test_weights_that_ask_for_more_memory_than_there_is_are_refused(tmp_path):
    folder = written.cartpole(tmp_path / "bundle")
    (folder / "policy.onnx").write_bytes(computing([200_000, 200_000], 1))
    with pytest.raises(Rejected):
        look_at(folder)


def test_only_a_few_are_looked_at_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(inspection, "PATIENCE_S", 0.1)
    look, heavy = InspectionApart(), written.cartpole(tmp_path / "heavy")
    (heavy / "policy.onnx").write_bytes(computing([3000, 3000], 8))
    with ThreadPoolExecutor(inspection.MOST_AT_ONCE + 1) as threads:
        looks = [
            threads.submit(look_at, heavy, look)
            for _ in range(inspection.MOST_AT_ONCE + 1)
        ]
        ends = [it.exception() for it in looks]
    assert [type(it) for it in ends if it is not None] == [Unavailable]
    look_at(written.cartpole(tmp_path / "light"), look)


def test_nothing_is_left_where_it_was_looked_at(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    look_at(written.cartpole(tmp_path / "bundle"), InspectionApart(scratch))
    assert list(scratch.iterdir()) == []
