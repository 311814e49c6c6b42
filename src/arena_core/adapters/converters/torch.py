"""Programs that `torch.export.save` has written.

The pickle in them is taken out before torch sees them, and nothing is left that torch
would unpickle or evaluate; see `runtimes/torch_export_safety`.  Torch's own loader then
runs them, for the golden trace: the served path, which has another one, is measured
by it.
"""

import importlib
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from arena_core.adapters.archives import Archive
from arena_core.adapters.converters import descriptions, single_models
from arena_core.adapters.converters.descriptions import Framework
from arena_core.adapters.runtimes.torch_export_safety import read, strip
from arena_core.application.conversion import MODEL_FILE, Converted, Options, Report
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected

_WEIGHTS = "policy.pt2"
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
"""How pickles begin, and with them the files of torch before 1.6."""


def convert(folder: Path, options: Options, report: Report) -> Converted:
    """Convert `folder / MODEL_FILE`, which `torch.export.save` has written.

    `folder / SPACES_FILE` says what the program cannot say.  Raises `Rejected`, in one
    sentence, for what cannot be converted.
    """
    report("reading the program")
    data = (folder / MODEL_FILE).read_bytes()
    _check_kind(data)
    plain = strip(data)
    program = read(plain).program
    described = descriptions.read(folder, options)
    report("loading the program into torch")
    model = single_models.Model(
        inputs=program.inputs,
        outputs=None,
        run=_Eager.load(plain, row_by_row=program.rows == (1, 1)).run,
        weights=_WEIGHTS,
        write=lambda _: plain,
        framework=Framework(name="torch", version=program.torch_version),
        source="torch.export",
    )
    return single_models.convert(model, described, folder, report)


def _check_kind(data: bytes) -> None:
    """Refuse the other kinds of file that torch writes, each with its remedy."""
    names = Archive(data).names if data.startswith(_ZIP) else ()
    parts = {part for name in names for part in name.split("/")}
    if parts & {"code", "constants.pkl"}:
        what = "is TorchScript, which torch itself gives up"
    elif "data.pkl" in parts or data.startswith(_PICKLE):
        what = "is a pickle, of a state dict or a whole module, and holds no program"
    elif not names:
        what = "is no program of torch"
    elif "serialized_exported_program.json" in parts:
        what = "was saved by a torch older than 2.11"
    else:
        return
    raise Rejected(
        f"The file {what}: export the module with torch.export.export and save it with "
        "torch.export.save, or export it to ONNX and import that with the format "
        "onnx.",
        field="weights",
    )


@frozen(eq=False)
class _Eager:
    """The program as torch itself loads and runs it."""

    _torch: Any
    _module: Any
    _kept: Sequence[Any]
    """Of each input of the module its parameter or the like; None: it is given."""
    _row_by_row: bool

    @classmethod
    def load(cls, plain: bytes, *, row_by_row: bool) -> "_Eager":
        torch = _import_torch()
        try:
            with warnings.catch_warnings(action="ignore"):
                program = torch.export.load(BytesIO(plain))
        except Exception as error:  # of any kind: torch checks with asserts, too
            raise _failed(torch) from error
        known = {**program.constants, **program.state_dict}
        specs = program.graph_signature.input_specs
        kept = [known.get(spec.target) for spec in specs]
        return cls(torch, program.graph_module, kept, row_by_row)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs for any number of rows."""
        if not self._row_by_row:
            return self._together(inputs)
        rows = range(len(inputs[0]))
        by_row = [self._together([a[row : row + 1] for a in inputs]) for row in rows]
        return [np.concatenate(output) for output in zip(*by_row, strict=True)]

    def _together(self, inputs: Sequence[Array]) -> list[Array]:
        given = iter([self._torch.from_numpy(np.array(array)) for array in inputs])
        arguments = [next(given) if kept is None else kept for kept in self._kept]
        try:
            with self._torch.no_grad(), warnings.catch_warnings(action="ignore"):
                answers = self._module(*arguments)
            return [np.array(answer.detach().numpy()) for answer in answers]
        except Exception as error:  # operators fail in ways of their own
            raise _failed(self._torch) from error


def _import_torch() -> Any:  # noqa: ANN401 -- it may be missing
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: of a library that it needs
        raise Rejected(
            "Programs of torch can be imported only where torch is installed: install "
            "arena-core with its extra torch, or export the model to ONNX."
        ) from error


def _failed(torch: Any) -> Rejected:  # noqa: ANN401
    return Rejected(
        f"The program cannot be run by torch {torch.__version__}: save it with that "
        "version, or export the model to ONNX.",
        field="weights",
    )
