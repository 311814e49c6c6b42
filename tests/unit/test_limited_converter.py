"""Conversions run where they can harm nothing, and nothing in a checkpoint is run."""

import base64
import io
import json
import logging
import os
import pickle
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from arena_core.adapters.confined.confinement import Limits
from arena_core.adapters.converters.process import (
    MODULES,
    UNREAD,
    LimitedConverter,
    _check,
)
from arena_core.application import bundles, golden, orders
from arena_core.application.conversion import (
    MODEL_FILE,
    SPACES_FILE,
    STATISTICS_FILE,
    Format,
    Options,
)
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.entrypoints.wiring import load_bundle
from unit.canaries import Canary, Telltale

from bundles import cartpole

TESTS = Path(__file__).parents[1]
TASKS = TESTS / "confined_tasks"
CONVERTER = LimitedConverter(
    Limits(wall_s=30),
    dict.fromkeys(Format, "conversions"),
    importable=(TASKS, TESTS),
)


@pytest.fixture
def order(tmp_path):
    folder = tmp_path / "order"
    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(b"a model")
    return folder


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / "bundle"


def nothing(words):
    del words


def convert(order, bundle, does, *, converter=CONVERTER, report=nothing):
    converter(Format.SB3, order, bundle, Options(does), report)


def rejected(order, bundle, does, *, converter=CONVERTER):
    """Convert, which is refused and leaves nothing; return the refusal."""
    with pytest.raises(Rejected) as caught:
        convert(order, bundle, does, converter=converter)
    assert list(bundle.parent.iterdir()) == []
    return caught.value


# --- what comes of it ------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "name"), [(it, name) for it in UNREAD for name in UNREAD[it]]
)
def test_a_file_that_nobody_would_read_is_refused(of, name, order, bundle):
    (order / name).write_bytes(b"{}")
    with pytest.raises(Rejected, match=r"import it without|write its means") as caught:
        CONVERTER(of, order, bundle, Options("good"), nothing)
    assert caught.value.field == name
    assert list(bundle.parent.iterdir()) == []


def test_the_bundle_is_there_when_it_is_whole(order, bundle, tmp_path):
    told = []
    convert(order, bundle, "cartpole", report=told.append)
    assert bundles.check(bundle).golden
    assert bundles.listing(bundle).files.keys() == {
        "checkpoint.json", "policy.onnx", "golden.npz",
    }  # fmt: skip
    same = bundles.manifest((bundle / "checkpoint.json").read_bytes(), golden=True)
    assert same == bundles.check(cartpole(tmp_path / "same"))
    assert list(bundle.parent.iterdir()) == [bundle]
    assert told[0] == "starting"


def test_an_existing_bundle_is_not_touched(order, bundle):
    bundle.mkdir()
    with pytest.raises(ValueError, match="already"):
        convert(order, bundle, "cartpole")
    assert list(bundle.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_as_one(order, tmp_path):
    with pytest.raises(Unavailable):
        convert(order, tmp_path / "missing" / "bundle", "cartpole")


def test_what_the_converter_rejects_is_rejected(order, bundle):
    refusal = rejected(order, bundle, "rejected")
    assert str(refusal) == "The model is not to my taste."
    assert refusal.field == "model"


def test_a_broken_converter_tells_the_user_what_to_do_and_the_operator_why(
    order, bundle, caplog
):
    with caplog.at_level(logging.WARNING):
        refusal = rejected(order, bundle, "broken")
    assert str(refusal).startswith("The sb3 file could not be converted: ")
    assert "ONNX" in str(refusal)
    assert "operator" not in str(refusal)
    assert str(order) not in str(refusal)
    assert "what only the operator should see" in caplog.text


@pytest.mark.parametrize("does", ["taken_name", "name_elsewhere"])
def test_weights_can_take_no_other_name_than_one_of_their_own(does, order, bundle):
    rejected(order, bundle, does)


@pytest.mark.parametrize("number", [KeyboardInterrupt, ValueError, ConnectionError])
def test_what_the_report_raises_ends_it(number, order, bundle):
    def report(words):
        if words.startswith("sleeping"):
            raise number

    with pytest.raises(number):
        convert(order, bundle, "sleep", report=report)
    assert list(bundle.parent.iterdir()) == []


# --- code that should not be there -----------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "limits", "reason"),
    [
        ("sleep", {"wall_s": 1}, "it took more than 1 seconds."),
        ("compute", {"cpu_s": 1}, "it needed more than 1 seconds of processor time."),
        ("eat_memory", {"memory_bytes": 1 << 29}, "it needed more than 512 MiB of"),
        ("fill_a_file", {"file_bytes": 1 << 22}, "it wrote a file of more than 4 MiB."),
        ("fill_the_folder", {"folder_bytes": 1 << 22}, "it wrote more than 1000 files"),
    ],
)
def test_going_over_a_limit_is_told_as_one(does, limits, reason, order, bundle):
    converter = evolve(CONVERTER, limits=evolve(CONVERTER.limits, **limits))
    refusal = rejected(order, bundle, does, converter=converter)
    assert str(refusal).startswith(f"The conversion was ended: {reason}")


@pytest.mark.parametrize("does", ["crash", "leave"])
def test_a_crash_is_a_file_that_could_not_be_converted(does, order, bundle):
    assert "could not be converted" in str(rejected(order, bundle, does))


def test_saying_that_all_is_done_makes_no_bundle(order, bundle):
    assert "empty" in str(rejected(order, bundle, "nothing"))


def test_only_plain_files_of_one_name_make_a_bundle(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("of the server")
    for make in ("symlink_to", "hardlink_to"):
        folder = tmp_path / make
        folder.mkdir()
        getattr(folder / "policy.onnx", make)(secret)
        with pytest.raises(Rejected, match="link"):
            _check(folder)
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "policy.onnx")
    (tmp_path / "whole").symlink_to(tmp_path)
    for name in ("pipes", "whole"):
        with pytest.raises(Rejected):
            _check(tmp_path / name)


# --- canaries --------------------------------------------------------------------


def test_the_registry_knows_every_format():
    assert set(MODULES) == set(Format)


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(payload: object) -> bytes:
    stream = io.BytesIO()
    array = np.empty(1, dtype=object)
    array[0] = payload
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def wrapped(kind: str, telltale: Telltale, canary: Canary) -> bytes:
    """Return a file of a kind that holds, or is, a pickle with a canary."""
    bare, old = telltale.pickled(canary), telltale.pickled(canary, 2)
    torch = zipped({"archive/data.pkl": old, "archive/byteorder": b"little"})
    match kind:
        case "pkl":
            return bare
        case "legacy.pt":
            magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
            return magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + old
        case "pt":
            return torch
        case "sb3.zip":
            part = {":type:": "x", ":serialized:": base64.b64encode(bare).decode()}
            data = dict.fromkeys(SERIALIZED, part) | {"num_timesteps": 1}
            return zipped({
                "data": json.dumps(data).encode(), "policy.pth": torch,
                "_stable_baselines3_version": b"2.9.2",
            })  # fmt: skip
        case "npz":
            return zipped({"case0/step0/obs.npy": npy(telltale.payload(canary))})
        case "npy":
            return npy(telltale.payload(canary))
        case "safetensors":
            return (2).to_bytes(8, "little") + b"{}" + bare
        case "nested.zip":
            return zipped({"inner.zip": torch, "data.pkl": zipped({"data.pkl": bare})})
        case "pt2":
            return zipped({
                "archive/archive_format": b"pt2", "archive/data/constants/0": old,
                "archive/data/sample_inputs/model.pt": torch,
                "archive/models/model.json": b"{}",
            })  # fmt: skip
        case "dill":
            return zipped({
                "archive/data.pkl": DILL_PREFIX + old[2:], "archive/version": b"3",
            })  # fmt: skip
    raise ValueError(kind)


SERIALIZED = ("policy_class", "observation_space", "action_space", "policy_kwargs")
DILL_PREFIX = b"\x80\x02cdill._dill\n_load_type\nX\x03\x00\x00\x00int\x85R0"
KINDS = (
    "pkl", "legacy.pt", "pt", "sb3.zip", "npz", "npy", "safetensors", "nested.zip",
    "pt2", "dill",
)  # fmt: skip


def lay(order: Path, of: Format, content: bytes) -> None:
    """Let every file that is read hold it, but for what must be JSON."""
    spaces = json.dumps({
        "observation_space": {
            "type": "Box", "shape": [4], "dtype": "float32", "low": None, "high": None,
        },
        "action_space": {"type": "Discrete", "n": 2},
        "algorithm": "PPO",
    }).encode()  # fmt: skip
    for name in orders.FILES:
        if name not in UNREAD.get(of, {}):
            (order / name).write_bytes(spaces if name == SPACES_FILE else content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", Format, ids=lambda of: of.value)
def test_no_converter_runs_anything_even_where_it_could(of, kind, order, tmp_path):
    # In this process, where nothing would hold it back.
    module = import_module(MODULES[of])
    with Telltale(tmp_path) as telltale:
        for canary in Canary:
            lay(order, of, wrapped(kind, telltale, canary))
            with pytest.raises(Rejected):
                module.convert(order, Options(), nothing)
            assert not telltale.has_sung


def test_the_statistics_beside_a_real_model_run_nothing(order, tmp_path):
    model = TESTS / "checkpoints" / "sb3" / "ppo_pendulum_normalized.zip"
    (order / MODEL_FILE).write_bytes(model.read_bytes())
    module = import_module(MODULES[Format.SB3])
    with Telltale(tmp_path) as telltale:
        for canary in Canary:
            (order / STATISTICS_FILE).write_bytes(telltale.pickled(canary))
            with pytest.raises(Rejected):
                module.convert(order, Options(), nothing)
        assert not telltale.has_sung


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", Format, ids=lambda of: of.value)
def test_nothing_sings_in_the_process_of_its_own_either(
    of, kind, order, bundle, tmp_path
):
    with Telltale(tmp_path) as telltale:
        lay(order, of, wrapped(kind, telltale, Canary.CONNECT))
        with pytest.raises(Rejected):
            LimitedConverter()(of, order, bundle, Options(), nothing)
        assert not telltale.has_sung
    assert list(bundle.parent.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "golden.npz", "checkpoint.json", "policy.pt", "policy.pth",
        "policy.pkl", "policy.joblib", "policy.npy", "policy.mar", "policy.zip",
        "policy.safetensors",
    ],
)  # fmt: skip
def test_no_bundle_runs_anything_when_it_is_checked(name, kind, tmp_path):
    folder = cartpole(tmp_path / "bundle")
    with Telltale(tmp_path) as telltale:
        for canary in Canary:
            (folder / name).write_bytes(wrapped(kind, telltale, canary))
            with pytest.raises(Rejected):
                bundles.check(folder)
            assert not telltale.has_sung


@pytest.mark.parametrize("kind", KINDS)
def test_no_weights_run_anything_when_they_are_loaded(kind, tmp_path):
    folder = cartpole(tmp_path / "bundle")
    with Telltale(tmp_path) as telltale:
        for canary in Canary:
            (folder / "policy.onnx").write_bytes(wrapped(kind, telltale, canary))
            bundles.check(folder)  # which does not open them
            with pytest.raises(Rejected):
                load_bundle(folder)
        assert not telltale.has_sung


@pytest.mark.parametrize("kind", KINDS)
def test_no_trace_runs_anything_when_it_is_read(kind, tmp_path):
    with Telltale(tmp_path) as telltale:
        for canary in Canary:
            with pytest.raises(Rejected):
                golden.read(wrapped(kind, telltale, canary))
        assert not telltale.has_sung


@pytest.mark.parametrize("kind", ["pkl", "npy"])
def test_the_same_bytes_sing_where_somebody_trusts_them(kind, tmp_path):
    with Telltale(tmp_path) as telltale:
        data = wrapped(kind, telltale, Canary.TOUCH)
        np.load(io.BytesIO(data), allow_pickle=True)
        assert telltale.has_sung
