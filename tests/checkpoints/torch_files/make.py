"""Writes files of every kind that torch has for its own: `python make.py`.

    tensors.pt   torch.save of tensors of many dtypes, views and parameters
    dilled.pt    the same with dill for the pickle, as AgileRL saves
    module.pt    torch.save of a whole module
    unusual.pt   torch.save of tensors that are quantised, sparse, complex, of 8 bits
    legacy.pt    torch.save as it was before 1.6
    script.pt    torch.jit.save
    program.pt2  torch.export.save

Made with the versions in `versions.txt`; Python 3.11.
"""

import collections
import re
import warnings
import zipfile
from pathlib import Path

import dill
import numpy as np
import torch

HERE = Path(__file__).parent
PATH = re.compile(rb"/[\w./-]+/([\w-]+\.py)")
NUMBERS = torch.arange(24.0).reshape(2, 3, 4)


class Policy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layer(observations)


def tensors() -> dict[str, object]:
    wide = {
        name: NUMBERS.to(getattr(torch, name))
        for name in (
            "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16",
            "int8", "uint8", "bool", "uint16", "uint32", "uint64",
        )
    }  # fmt: skip
    return {
        "dtypes": wide,
        "transposed": NUMBERS.transpose(0, 2),
        "sliced": NUMBERS[1:, ::2],
        "expanded": torch.ones(1).expand(5),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(NUMBERS[0]),
        "numpy": {"scalar": np.float64(3.0), "array": np.arange(6).reshape(2, 3)},
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "plain": [1, -5, 2**40, 1.5, None, True, "text", b"bytes", {1, 2}],
        "ordered": collections.OrderedDict(a=1),
        "window": collections.deque([1.0, 2.0], maxlen=5),
        "size": NUMBERS.size(),
        "dtype": torch.float32,
        "device": torch.device("cpu"),
    }


def unusual() -> dict[str, object]:
    return {
        "quantised": torch.quantize_per_tensor(NUMBERS, 0.1, 0, torch.qint8),
        "sparse": NUMBERS.to_sparse(),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "float8": NUMBERS.to(torch.float8_e4m3fn),
        "text": np.array(["a", "b"]),
        "objects": np.array([None, {}], dtype=object),
    }


def forget_where(file: Path) -> None:
    """Take out of an archive where on a disk its code lay."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            if not name.endswith(".debug_pkl"):
                archive.writestr(name, PATH.sub(rb"\1", content))


def main() -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    policy = Policy().eval()
    torch.save(tensors(), HERE / "tensors.pt")
    torch.save(tensors(), HERE / "dilled.pt", pickle_module=dill)
    torch.save(policy, HERE / "module.pt")
    torch.save(unusual(), HERE / "unusual.pt")
    torch.save(
        policy.state_dict(),
        HERE / "legacy.pt",
        _use_new_zipfile_serialization=False,
    )
    torch.jit.save(torch.jit.script(policy), HERE / "script.pt")
    torch.export.save(
        torch.export.export(policy, (torch.zeros(2, 3),)), HERE / "program.pt2"
    )
    (HERE / "versions.txt").write_text(
        f"dill=={dill.__version__}\nnumpy=={np.__version__}\n"
        f"torch=={torch.__version__.partition('+')[0]}\n"
    )
    forget_where(HERE / "script.pt")
    forget_where(HERE / "program.pt2")


if __name__ == "__main__":
    main()
