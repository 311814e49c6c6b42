"""Converters for tests: what `Options.algorithm` names is what `convert` does."""

import json
import os
import sys
from pathlib import Path

import misbehaving

from arena_core.application import golden
from arena_core.application.conversion import MODEL_FILE, Converted
from arena_core.domain.errors import Rejected

sys.path.append(str(Path(__file__).parents[1]))


def convert(folder, options, report):
    report("reading the model")
    action = globals().get(f"_{options.algorithm}")
    if action is None:
        getattr(misbehaving, options.algorithm)({"chunk": 1 << 20}, report)
    else:
        return action(folder, report)
    return _cartpole(folder, report)


def _cartpole(folder, report):
    """Make a real bundle, whatever the model is."""
    assert (folder / MODEL_FILE).read_bytes() == b"a model"
    report("making the bundle")
    import bundles  # noqa: PLC0415 -- found only once this module is

    made = bundles.cartpole(Path())
    return Converted(
        json.loads((made / "checkpoint.json").read_text()),
        {"policy.onnx": (made / "policy.onnx").read_bytes()},
        golden.read((made / golden.FILE).read_bytes()),
    )


def _taken_name(folder, report):
    whole = _cartpole(folder, report)
    return Converted(whole.checkpoint, {"checkpoint.json": b"{}"}, whole.trace)


def _name_elsewhere(folder, report):
    whole = _cartpole(folder, report)
    return Converted(whole.checkpoint, {"../../policy.onnx": b"x"}, whole.trace)


def _nothing(folder, report):
    """Say that all is done, as only the child itself should."""
    del folder, report
    for number in range(3, 64):
        try:
            os.write(number, b'{"done": true}\n')
        except OSError:
            continue


def _rejected(folder, report):
    del folder, report
    raise Rejected("The model is not to my taste.", field="model")


def _broken(folder, report):
    del report
    raise RuntimeError(f"what only the operator should see, in {folder}")
