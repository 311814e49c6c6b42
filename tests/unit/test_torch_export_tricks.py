"""Nothing in an archive of torch.export is unpickled, imported or evaluated.

Each trick is a real one: `test_torch_itself_is_taken_in` shows it at work.
"""

import io
import json
import logging
import os
import pickle
import re
import warnings
from contextlib import suppress

import pytest
import torch

from arena_core.adapters.runtimes.torch_export_safety import read, strip
from arena_core.domain.errors import Rejected

from torch_programs import (
    CONSTANTS,
    PROGRAM,
    WEIGHTS,
    changed,
    packed,
    saved,
    unpacked,
)

NAMES = ["gaussian", "lstm", "cnn", "several", "one_row", "classifier", "old"]
SAVED = saved("gaussian")
PLAIN = strip(SAVED)


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def pickled(thing) -> bytes:
    stream = io.BytesIO()
    torch.save(thing, stream)
    return stream.getvalue()


def evaluated(path) -> str:
    return f"__import__('os').mkdir('{path}')"


# --- tricks ----------------------------------------------------------------------


def with_member(name, content):
    return packed(unpacked(SAVED) | {f"archive/{name}": content})


def with_program(change):
    return changed(SAVED, change)


def sample_inputs(path):
    return with_member("data/sample_inputs/model.pt", pickled((Canary(path), {})))


def pickled_parameter(path):
    def change(config):
        config["config"]["log_std"]["use_pickle"] = True

    archive = changed(SAVED, change, WEIGHTS)
    parameter = pickled(Canary(path))
    return packed(unpacked(archive) | {"archive/data/weights/weight_0": parameter})


def old_parameters(path):
    return with_member("data/weights/model.pt", pickled({"a": Canary(path)}))


def old_constants(path):
    return with_member("data/constants/model.pt", pickled({"a": Canary(path)}))


def opaque_constant(path):
    def change(config):
        config["config"]["x"] = {
            "path_name": "opaque_obj_0",
            "is_param": False,
            "use_pickle": True,
            "tensor_meta": None,
        }

    archive = changed(SAVED, change, CONSTANTS)
    thing = pickle.dumps(Canary(path))
    return packed(unpacked(archive) | {"archive/data/constants/opaque_obj_0": thing})


def length_of_an_axis(path):
    def change(content):
        sizes = content["graph_module"]["graph"]["tensor_values"]["obs"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = evaluated(path)

    return with_program(change)


def guard(path):
    return with_program(lambda content: content["guards_code"].append(evaluated(path)))


def name_of_an_input(path):
    members = unpacked(SAVED)
    name = f"obs=[{evaluated(path)}]"
    text = members[PROGRAM].decode().replace('"obs"', json.dumps(name))
    return packed(members | {PROGRAM: text.encode()})


def module_for_a_key(path):
    """A tree that is made of an enumeration, whose module is imported."""
    (path.parent / "canary_of_trees.py").write_text(f"{evaluated(path)}\n")

    def change(content):
        key = {"__enum__": True, "fqn": "canary_of_trees:A", "name": "B"}
        signature = content["graph_module"]["module_call_graph"][0]["signature"]
        spec = json.loads(signature["in_spec"])
        spec[1]["children_spec"][1]["context"] = json.dumps(key)
        signature["in_spec"] = json.dumps(spec)

    return with_program(change)


def module_for_a_default(path):
    (path.parent / "canary_of_dicts.py").write_text(f"{evaluated(path)}\n")

    def change(content):
        context = {
            "default_factory_module": "canary_of_dicts",
            "default_factory_name": "__doc__",
            "dict_context": [],
        }
        tree = {"type": "collections.defaultdict", "context": context}
        signature = content["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = json.dumps([1, tree | {"children_spec": []}])

    return with_program(change)


DROPPED = [sample_inputs, guard]
REFUSED = [
    pickled_parameter, old_parameters, old_constants, opaque_constant,
    length_of_an_axis, name_of_an_input, module_for_a_key, module_for_a_default,
]  # fmt: skip
TRICKS = [*DROPPED, *REFUSED]


@pytest.fixture
def canary(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "canary"


def load_with_torch(archive: bytes):
    logging.getLogger("torch.export").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore"):
        torch.export.load(io.BytesIO(archive)).module()(torch.zeros(2, 3))


@pytest.mark.parametrize("trick", TRICKS)
def test_torch_itself_is_taken_in(trick, canary):
    if trick is opaque_constant and torch.__version__ < "2.13":
        pytest.skip("this torch has no opaque constants yet")
    with suppress(Exception):
        load_with_torch(trick(canary))
    assert canary.exists()


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_runs_when_it_is_read(trick, canary):
    with pytest.raises(Rejected):
        read(trick(canary))
    assert not canary.exists()


@pytest.mark.parametrize("trick", DROPPED)
def test_what_could_run_is_taken_out(trick, canary):
    archive = strip(trick(canary))
    assert archive == PLAIN
    load_with_torch(archive)
    assert not canary.exists()


@pytest.mark.parametrize("trick", REFUSED)
def test_what_cannot_be_taken_out_is_refused(trick, canary):
    with pytest.raises(Rejected) as refusal:
        strip(trick(canary))
    assert not canary.exists()
    assert re.fullmatch(r"[^\[\]\n]+\.", str(refusal.value))
