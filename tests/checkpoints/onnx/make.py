"""Exports the models beside this file, and records what their modules answer.

Run it where the releases in `versions.txt` are installed (no arena-core is needed):

    pip install -r versions.txt
    python make.py                   # or: python make.py lstm

For each name it writes `<name>.onnx`, as one of the two exporters of `torch.onnx` does
it, `<name>.npz`, a golden trace of the PyTorch module, and `<name>.spaces.json`, what
a model cannot say of itself.  The weights are random.
"""

import json
import sys
from pathlib import Path

import onnx
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "torch"))

from policies import (  # noqa: E402 -- it lies beside the programs of torch
    Convolutional,
    Dueling,
    Gaussian,
    Recurrent,
    Several,
    record,
)

SEED = 7
BATCH = torch.export.Dim("batch")


def box(*shape, dtype="float32", low=None, high=None):
    return {
        "type": "Box",
        "shape": list(shape),
        "dtype": dtype,
        "low": low,
        "high": high,
    }


def normal(*shape):
    return lambda rows: {"": torch.randn(rows, *shape)}


def write(name, module, spaces, draw, **trace):
    record(module, draw, HERE / f"{name}.npz", **trace)
    text = json.dumps(spaces, indent=2) + "\n"
    (HERE / f"{name}.spaces.json").write_text(text)


def by_dynamo(name, module, arguments, **more):
    file = HERE / f"{name}.onnx"
    torch.onnx.export(module, arguments, file, dynamo=True, external_data=False, **more)
    model = onnx.load(file)
    for node in model.graph.node:
        del node.metadata_props[:]  # they have the paths of this machine
    onnx.save(model, file)


def by_tracing(name, module, arguments, **more):
    file = HERE / f"{name}.onnx"
    torch.onnx.export(module, arguments, file, dynamo=False, **more)


def free(*names):
    """Return that the first axis of each is free."""
    return {name: {0: "batch"} for name in names}


def gaussian():
    """A policy for a Box, by the exporter that traces; its names are its own."""
    module = Gaussian().eval()
    names = ["mean", "log_std"]
    by_tracing(
        "gaussian",
        module,
        (torch.zeros(2, 3),),
        input_names=["obs"],
        output_names=names,
        dynamic_axes=free("obs", *names),
    )
    spaces = {
        "observation_space": box(3),
        "action_space": box(2, low=-1.0, high=1.0),
        "algorithm": "A2C",
        "log_std": "log_std",
    }
    answer = ("action", lambda outputs: outputs[0].clip(-1, 1))
    write("gaussian", module, spaces, normal(3), names=names, answer=answer)


def lstm():
    """A recurrent policy, by the exporter that is built on torch.export."""
    module = Recurrent().eval()
    arguments = torch.zeros(2, 4), torch.zeros(2, 2, 8), torch.zeros(2, 2, 8)
    names = ["logits", "h_next", "c_next"]
    by_dynamo(
        "lstm",
        module,
        arguments,
        input_names=["obs", "h", "c"],
        output_names=names,
        dynamic_shapes=({0: BATCH},) * 3,
    )
    spaces = {
        "observation_space": box(4),
        "action_space": {"type": "Discrete", "n": 3},
        "algorithm": "Recurrent PPO",
    }
    hidden = [(2, 8), (2, 8)]
    write("lstm", module, spaces, normal(4), names=names, hidden=hidden)


def cnn():
    """Values of an image, by the exporter that is built on torch.export."""
    module = Convolutional().eval()
    arguments = (torch.zeros(2, 3, 16, 16, dtype=torch.uint8),)
    by_dynamo(
        "cnn",
        module,
        arguments,
        input_names=["image"],
        output_names=["q"],
        dynamic_shapes=({0: BATCH},),
    )
    spaces = {
        "observation_space": box(3, 16, 16, dtype="uint8", low=0, high=255),
        "action_space": {"type": "Discrete", "n": 4},
        "algorithm": "DQN",
    }

    def draw(rows):
        return {"": torch.randint(256, (rows, 3, 16, 16), dtype=torch.uint8)}

    write("cnn", module, spaces, draw, names=["q"])


def several():
    """An observation of several arrays, none of which is named like its part."""

    def draw(rows):
        return {
            "vector": torch.randn(rows, 4),
            "grid": torch.randint(4, (rows, 3, 3), dtype=torch.uint8),
            "task": torch.randint(5, (rows,)),
        }

    class Flat(Several):
        def forward(self, vector, grid, task):
            return super().forward({"vector": vector, "grid": grid, "task": task})

    module = Flat().eval()
    by_tracing(
        "several",
        module,
        tuple(draw(2).values()),
        input_names=["x", "y", "z"],
        output_names=["logits"],
        dynamic_axes=free("x", "y", "z", "logits"),
    )
    spaces = {
        "observation_space": {
            "type": "Dict",
            "spaces": {
                "grid": box(3, 3, dtype="uint8", low=0, high=3),
                "task": {"type": "Discrete", "n": 5},
                "vector": box(4),
            },
        },
        "action_space": {"type": "MultiDiscrete", "nvec": [2, 3]},
        "algorithm": "PPO",
    }

    def chosen(outputs):
        parts = outputs[0].split([2, 3], dim=1)
        return torch.stack([part.argmax(dim=1) for part in parts], dim=1)

    whole = Several().eval()
    whole.load_state_dict(module.state_dict())
    answer = ("action", chosen)
    write("several", whole, spaces, draw, names=["logits"], answer=answer)


def one_row():
    """A model for one row at a time, as it comes without dynamic axes."""
    module = Dueling().eval()
    names = ["q", "best"]
    by_tracing(
        "one_row",
        module,
        (torch.zeros(1, 4),),
        input_names=["obs"],
        output_names=names,
    )
    spaces = {
        "observation_space": box(4),
        "action_space": {"type": "Discrete", "n": 5, "start": 2},
        "algorithm": "DQN",
    }
    answer = ("action", lambda outputs: outputs[1] + 2)
    write("one_row", module, spaces, normal(4), names=names, answer=answer)


if __name__ == "__main__":
    for make in (gaussian, lstm, cnn, several, one_row):
        if make.__name__ in sys.argv[1:] or not sys.argv[1:]:
            torch.manual_seed(SEED)
            make()
