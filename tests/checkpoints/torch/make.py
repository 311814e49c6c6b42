"""Exports the programs beside this file, and records what their modules answer.

Run it where the releases in `versions.txt` are installed (no arena-core is needed):

    pip install -r versions.txt
    python make.py                   # or: python make.py lstm several

For each name it writes `<name>.pt2`, as `torch.export.save` does it, `<name>.npz`, a
golden trace of the module before it was exported, and `<name>.spaces.json`, what a
program cannot say of itself.  The weights are random.  `old` is made by the oldest
torch that is supported, and left alone by any other.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from policies import (
    Classifier,
    Convolutional,
    Dueling,
    Gaussian,
    Recurrent,
    Several,
    first,
    record,
)

HERE = Path(__file__).parent
SEED = 5
OLDEST = "2.11.0"
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


def export(name, module, arguments, spaces, draw, *, shapes, **trace):
    """Write all three files; `shapes` says which axes are free."""
    module = module.eval()
    record(module, draw, HERE / f"{name}.npz", **trace)
    program = torch.export.export(module, arguments, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it has the paths of this machine
    torch.export.save(program, HERE / f"{name}.pt2")
    text = json.dumps(spaces, indent=2) + "\n"
    (HERE / f"{name}.spaces.json").write_text(text)


def gaussian():
    """A policy for a Box; its output is bounded by tanh and rescaled."""
    spaces = {
        "observation_space": box(3),
        "action_space": box(2, low=-2.0, high=2.0),
        "algorithm": "PPO",
        "action_transform": {"squash": "tanh", "rescale_from": [-1, 1]},
        "outputs": ["mean", "log_std"],
        "log_std": "log_std",
    }
    export(
        "gaussian",
        Gaussian(),
        (torch.zeros(2, 3),),
        spaces,
        normal(3),
        shapes=({0: BATCH},),
        names=["mean", "log_std"],
        answer=("action", lambda outputs: 2 * torch.tanh(outputs[0])),
    )


def lstm():
    """A recurrent policy."""
    spaces = {
        "observation_space": box(4),
        "action_space": {"type": "Discrete", "n": 3},
        "algorithm": "Recurrent PPO",
    }
    export(
        "lstm",
        Recurrent(),
        (torch.zeros(2, 4), torch.zeros(2, 2, 8), torch.zeros(2, 2, 8)),
        spaces,
        normal(4),
        shapes=({0: BATCH}, {0: BATCH}, {0: BATCH}),
        names=["logits", "h_next", "c_next"],
        hidden=[(2, 8), (2, 8)],
    )


def cnn():
    """Values of an image, with layers that differ in training."""
    spaces = {
        "observation_space": box(3, 16, 16, dtype="uint8", low=0, high=255),
        "action_space": {"type": "Discrete", "n": 4},
        "algorithm": "DQN",
    }
    export(
        "cnn",
        Convolutional(),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8),),
        spaces,
        lambda rows: {"": torch.randint(256, (rows, 3, 16, 16), dtype=torch.uint8)},
        shapes=({0: BATCH},),
        names=["q_values"],
    )


def several():
    """An observation of several arrays, in another order than the space's."""
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

    def draw(rows):
        return {
            "vector": torch.randn(rows, 4),
            "grid": torch.randint(4, (rows, 3, 3), dtype=torch.uint8),
            "task": torch.randint(5, (rows,)),
        }

    def chosen(outputs):
        parts = outputs[0].split([2, 3], dim=1)
        return torch.stack([part.argmax(dim=1) for part in parts], dim=1)

    export(
        "several",
        Several(),
        (draw(2),),
        spaces,
        draw,
        shapes=({name: {0: BATCH} for name in draw(2)},),
        names=["logits"],
        answer=("action", chosen),
    )


def one_row():
    """A program for one row at a time, as it comes without `dynamic_shapes`."""
    spaces = {
        "observation_space": box(4),
        "action_space": {"type": "Discrete", "n": 5, "start": 2},
        "algorithm": "DQN",
    }
    export(
        "one_row",
        Dueling(),
        (torch.zeros(1, 4),),
        spaces,
        normal(4),
        shapes=None,
        names=["q_values", "output_1"],
        answer=("action", lambda outputs: outputs[1] + 2),
    )


def classifier():
    """A supervised model, which takes sequences of any length."""
    spaces = {"observation_space": box(5, 8), "algorithm": "supervised"}
    export(
        "classifier",
        Classifier(),
        (torch.zeros(2, 5, 8),),
        spaces,
        normal(5, 8),
        shapes=({0: BATCH, 1: torch.export.Dim("length")},),
        names=["output"],
        answer=("results", first),
        asked="inputs",
    )


def old():
    """A policy as the oldest torch exports it, with a batch that it found out itself.

    That must be of at least two rows then.
    """
    spaces = {
        "observation_space": box(4),
        "action_space": {"type": "MultiBinary", "shape": [3]},
        "algorithm": "PPO",
    }
    export(
        "old",
        nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)),
        (torch.zeros(2, 4),),
        spaces,
        normal(4),
        shapes=({0: torch.export.Dim.AUTO},),
        names=["logits"],
        answer=("action", lambda outputs: (outputs[0] > 0).to(torch.int8)),
    )


ALL = [gaussian, lstm, cnn, several, one_row, classifier, old]

if __name__ == "__main__":
    is_oldest = torch.__version__.startswith(OLDEST)
    for make in ALL:
        if sys.argv[1:] and make.__name__ not in sys.argv[1:]:
            continue
        if (make is old) == is_oldest:
            torch.manual_seed(SEED)
            make()
