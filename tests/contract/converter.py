"""The contract of the Convert port: one class of tests for every foreign format."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arena_core.adapters.converters.child import write
from arena_core.application import bundles, golden
from arena_core.application.conversion import (
    MODEL_FILE,
    TRACE_FILE,
    Convert,
    Options,
)
from arena_core.domain.errors import Rejected
from arena_core.domain.parity import Verdict
from unit.models import check

LEAST_STEPS = 3
"""Of an episode, where there is a hidden state to be carried."""


def converted(convert: Convert, order: Path, bundle: Path, said=print) -> Path:
    """Convert `order` in this process; return the folder with the bundle."""
    bundle.mkdir()
    write(bundle, convert(order, Options(), said))
    return bundle


def trace_of(bundle: Path) -> golden.GoldenTrace:
    return golden.read((bundle / golden.FILE).read_bytes())


class ConverterContract:
    @pytest.fixture(scope="class")
    @classmethod
    def convert(cls) -> Convert:
        raise NotImplementedError("the subclass says what converts")

    @pytest.fixture
    def order(self, tmp_path) -> Path:
        raise NotImplementedError("the subclass lays down a folder with a real model")

    @pytest.fixture
    def bundle(self, convert, order, tmp_path) -> Path:
        return converted(convert, order, tmp_path / "bundle")

    def test_the_bundle_is_one_that_could_be_uploaded(self, bundle):
        assert bundles.check(bundle).golden

    def test_the_bundle_is_answered_as_its_trace_says(self, bundle):
        found = check(bundle)
        assert found.difference is None
        assert found.verdict is Verdict.PASSED

    def test_the_trace_has_two_sizes_of_the_batch_and_episodes_if_they_matter(
        self, bundle
    ):
        cases = trace_of(bundle).cases
        assert {1, 7} <= {case.steps[0].rows for case in cases}
        if bundles.check(bundle).is_recurrent:
            assert min(len(case.steps) for case in cases) >= LEAST_STEPS

    def test_the_same_file_gives_the_same_bundle(self, convert, order, bundle):
        again = converted(convert, order, bundle.with_name("again"))
        assert bundles.listing(again).digest == bundles.listing(bundle).digest

    def test_it_tells_what_it_is_doing(self, convert, order, tmp_path):
        told: list[str] = []
        converted(convert, order, tmp_path / "told", told.append)
        assert len(told) > 1
        assert all(re.fullmatch(r"[a-z][\w ,-]{3,60}", words) for words in told)

    def test_a_trace_that_training_has_recorded_is_taken_as_it_is(
        self, convert, order, bundle
    ):
        (order / TRACE_FILE).write_bytes((bundle / golden.FILE).read_bytes())
        recorded = convert(order, Options(), print)
        assert recorded.checkpoint["provenance"]["golden"] == "recorded in training"
        assert golden.write(recorded.trace) == (bundle / golden.FILE).read_bytes()

    def test_a_trace_that_is_none_is_refused(self, convert, order):
        (order / TRACE_FILE).write_bytes(b"no trace")
        assert refused(convert, order).field == golden.FILE

    def test_nothing_is_no_model(self, convert, order):
        (order / MODEL_FILE).write_bytes(b"")
        refused(convert, order)

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(data=st.data())
    def test_a_model_that_is_damaged_is_refused_or_still_faithful(
        self, convert, order, data
    ):
        whole = (order / MODEL_FILE).read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        kept = data.draw(st.sampled_from(["cut", "changed"]))
        damaged = bytearray(whole[:at] if kept == "cut" else whole)
        if kept == "changed":
            damaged[at] ^= data.draw(st.integers(1, 255))
        (order / MODEL_FILE).write_bytes(damaged)
        try:
            convert(order, Options(), lambda _: None)
        except Rejected as refusal:
            _assert_plain(refusal)
        finally:
            (order / MODEL_FILE).write_bytes(whole)


def refused(convert: Convert, order: Path) -> Rejected:
    """Convert `order`, which must be refused, in one plain sentence."""
    with pytest.raises(Rejected) as caught:
        convert(order, Options(), lambda _: None)
    _assert_plain(caught.value)
    return caught.value


def _assert_plain(refusal: Rejected) -> None:
    assert re.fullmatch(r"[^\[\]\n]+\.", str(refusal))
    assert "/tmp" not in str(refusal)  # noqa: S108 -- where the orders lie


def lay(order: Path, files: dict[str, Path]) -> Path:
    """Lay copies of `files` into the folder of an order, under these names."""
    order.mkdir(exist_ok=True)
    for name, file in files.items():
        shutil.copy(file, order / name)
    return order
