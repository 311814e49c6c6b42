"""Every converter keeps the contract, with a real file of its library."""

from importlib import import_module

import pytest

from arena_core.adapters.converters.process import MODULES
from arena_core.application.conversion import MODEL_FILE, SPACES_FILE, Format

from contract.converter import ConverterContract, lay
from real_checkpoints import CHECKPOINTS


class FormatContract(ConverterContract):
    FORMAT: Format
    FILES: dict[str, str]
    """What is laid down, by the name that it has in the order."""

    @pytest.fixture(scope="class")
    @classmethod
    def convert(cls):
        return import_module(MODULES[cls.FORMAT]).convert

    @pytest.fixture
    def order(self, tmp_path):
        folder = CHECKPOINTS / self.FORMAT.value
        return lay(
            tmp_path / "order",
            {name: folder / file for name, file in self.FILES.items()},
        )


class TestStableBaselines3(FormatContract):
    FORMAT = Format.SB3
    FILES = {MODEL_FILE: "ppo_cartpole.zip"}  # noqa: RUF012 -- a constant


class TestStableBaselines3Recurrent(FormatContract):
    FORMAT = Format.SB3
    FILES = {MODEL_FILE: "recurrent_ppo.zip"}  # noqa: RUF012 -- a constant


class TestAgileRL(FormatContract):
    FORMAT = Format.AGILERL
    FILES = {MODEL_FILE: "ppo_cartpole.pt"}  # noqa: RUF012 -- a constant


class TestAgileRLOfSeveralAgents(FormatContract):
    FORMAT = Format.AGILERL
    FILES = {MODEL_FILE: "maddpg_speaker_listener.pt"}  # noqa: RUF012 -- a constant


class TestTorch(FormatContract):
    FORMAT = Format.TORCH
    FILES = {MODEL_FILE: "lstm.pt2", SPACES_FILE: "lstm.spaces.json"}  # noqa: RUF012 -- a constant


class TestOnnx(FormatContract):
    FORMAT = Format.ONNX
    FILES = {MODEL_FILE: "lstm.onnx", SPACES_FILE: "lstm.spaces.json"}  # noqa: RUF012 -- a constant


def test_every_format_has_a_contract():
    classes = FormatContract.__subclasses__()
    assert {it.FORMAT for it in classes} == set(Format)
