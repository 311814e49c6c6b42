"""Checkpoints of real libraries answer as those libraries said they do."""

from importlib import import_module

import pytest

from arena_core.adapters.converters.process import MODULES
from arena_core.application.conversion import TRACE_FILE, Format
from arena_core.domain.parity import Verdict
from unit.models import check

from contract.converter import converted, lay
from real_checkpoints import ALL, Checkpoint


def parity(checkpoint: Checkpoint, tmp_path, order):
    convert = import_module(MODULES[checkpoint.source]).convert
    folder = lay(tmp_path / "order", order)
    return check(converted(convert, folder, tmp_path / "bundle"))


@pytest.mark.parametrize("checkpoint", ALL, ids=str)
def test_it_answers_as_its_own_library_did(checkpoint, tmp_path):
    found = parity(checkpoint, tmp_path, checkpoint.order)
    assert found.difference is None
    assert found.verdict is Verdict.PASSED


@pytest.mark.parametrize("checkpoint", ALL, ids=str)
def test_it_answers_as_its_weights_say_when_nothing_was_recorded(checkpoint, tmp_path):
    order = {n: file for n, file in checkpoint.order.items() if n != TRACE_FILE}
    found = parity(checkpoint, tmp_path, order)
    assert found.difference is None
    assert found.verdict is Verdict.PASSED


def test_there_are_real_checkpoints_of_every_format():
    assert {checkpoint.source for checkpoint in ALL} == set(Format)
