"""Checkpoints that Stable-Baselines3 has saved, and others made of them.

`checkpoints/sb3/make.py` made the first, and recorded what SB3 answered.
"""

import base64
import json
import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import onnxruntime

from arena_core.adapters.converters.computed_traces import greedy
from arena_core.adapters.converters.sb3 import convert
from arena_core.adapters.runtimes.onnx_safety import refuse_unsafe
from arena_core.application import golden, manifests
from arena_core.application.conversion import (
    MODEL_FILE,
    STATISTICS_FILE,
    TRACE_FILE,
    Options,
)

CHECKPOINTS = Path(__file__).parent / "checkpoints" / "sb3"
NAMES = sorted(path.stem for path in CHECKPOINTS.glob("*.zip"))


def saved(name):
    return (CHECKPOINTS / f"{name}.zip").read_bytes()


def recorded(name):
    return golden.read((CHECKPOINTS / f"{name}.npz").read_bytes())


def statistics_of(name):
    """Return what was saved of the normalisation of observations, if anything."""
    path = CHECKPOINTS / f"{name}.pkl"
    return path.read_bytes() if path.exists() else None


def convert_in(folder, model, statistics=None, trace=None, **options):
    """Return the manifest and the parts of the bundle of what is given, in bytes."""
    files = {MODEL_FILE: model, STATISTICS_FILE: statistics, TRACE_FILE: trace}
    for name, content in files.items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
    parts = convert(folder, Options(**options), lambda _: None)
    return manifests.parse(json.dumps(parts.checkpoint).encode()), parts


def convert_named(folder, name, **given):
    """Return likewise of a checkpoint, with its statistics unless others are given."""
    given.setdefault("statistics", statistics_of(name))
    return convert_in(folder, saved(name), **given)


class Served:
    """The ONNX of a bundle, run as `docs/bundle.md` says that it is."""

    def __init__(self, manifest, parts):
        self.policy = manifest.policy
        weights = parts.weights[self.policy.weights]
        refuse_unsafe(weights)
        self.session = onnxruntime.InferenceSession(
            weights, providers=["CPUExecutionProvider"]
        )

    def answers(self, case):
        """Yield for each step what was recorded, the outputs and the action."""
        hidden = {}
        for step in case.steps:
            observed = self.inputs(step.recorded)
            for state in self.policy.hidden_states:
                rows = len(step.recorded["action"])
                hidden.setdefault(state.input, self.zeros(state.input, rows))
            names = [spec.name for spec in self.policy.signature.outputs]
            values = self.session.run(names, {**observed, **hidden})
            outputs = dict(zip(names, values, strict=True))
            mask = step.recorded.get("action_mask")
            yield step.recorded, outputs, greedy(self.policy, outputs, mask)
            for state in self.policy.hidden_states:
                hidden[state.input] = outputs[state.output]

    def zeros(self, name, rows):
        (spec,) = [s for s in self.policy.signature.inputs if s.name == name]
        return np.zeros((rows, *spec.shape[1:]), spec.dtype)

    def inputs(self, step):
        observed = {}
        for spec in self.policy.signature.inputs:
            path = spec.name if "obs" not in step else ""
            array = step.get(f"obs/{path}" if path else "obs")
            if spec.name in {s.input for s in self.policy.hidden_states}:
                continue
            if path in self.policy.normalisers:
                array = normalised(array, self.policy.normalisers[path])
            observed[spec.name] = array.astype(spec.dtype)
        return observed


def normalised(x, n):
    y = (x - np.array(n.mean)) / np.sqrt(np.array(n.variance) + n.epsilon)
    return np.clip(y, -n.clip, n.clip)


def check_answers(served, trace):
    compared = 0
    for case in trace.cases:
        for step, outputs, action in served.answers(case):
            for what, expected in step.items():
                kind, _, name = what.partition("/")
                if kind == "outputs":
                    np.testing.assert_allclose(
                        outputs[name], expected, rtol=1e-4, atol=1e-4
                    )
                    compared += 1
            assert action.shape == step["action"].shape
            if action.dtype.kind == "f":
                np.testing.assert_allclose(action, step["action"], 1e-4, 1e-4)
            else:
                np.testing.assert_array_equal(action, step["action"])
    assert compared


# --- other checkpoints -----------------------------------------------------------


def edited(name, member, edit):
    """Return the archive with the bytes of one member edited."""
    out = BytesIO()
    with (
        zipfile.ZipFile(CHECKPOINTS / f"{name}.zip") as source,
        zipfile.ZipFile(out, "w") as target,
    ):
        for info in source.infolist():
            content = source.read(info)
            if info.filename == member:
                content = edit(content)
            target.writestr(info.filename, content)
    return out.getvalue()


def with_attributes(name, **attributes):
    """Return the archive with other attributes; bytes stand for a pickle."""

    def edit(data):
        found = json.loads(data)
        for key, value in attributes.items():
            if isinstance(value, bytes):
                value = {":serialized:": base64.b64encode(value).decode()}  # noqa: PLW2901
            found[key] = value
        return json.dumps(found).encode()

    return edited(name, "data", edit)


def with_renamed_weights(name, old, new):
    """Return the archive with a part of the weights' names changed."""
    assert len(old) == len(new)

    def edit(policy):
        out = BytesIO()
        with (
            zipfile.ZipFile(BytesIO(policy)) as source,
            zipfile.ZipFile(out, "w") as target,
        ):
            for info in source.infolist():
                content = source.read(info)
                if info.filename.endswith("data.pkl"):
                    assert old in content
                    content = content.replace(old, new)
                target.writestr(info.filename, content)
        return out.getvalue()

    return edited(name, "policy.pth", edit)


def named(module, name):
    """Return a pickle of a class, which need not exist."""
    return f"c{module}\n{name}\n.".encode()


class _Thing:
    def __init__(self, **state):
        self.__dict__.update(state)


def pickled(module, name, **state):
    """Return a pickle of an object of a class that need not exist."""
    plain = pickle.dumps(_Thing(**state), protocol=2)
    ours = f"c{_Thing.__module__}\n{_Thing.__name__}\n"
    return plain.replace(ours.encode(), f"c{module}\n{name}\n".encode())


def space(name, module="gymnasium.spaces.x", **state):
    """Return a pickle of a space of Gymnasium."""
    return pickled(module, name, **state)
