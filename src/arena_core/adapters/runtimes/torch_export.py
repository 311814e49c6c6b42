"""Programs of torch.export, run call by call, on the CPU or on a CUDA device.

Torch does the arithmetic; its loader, which unpickles, is not used.  Nothing of torch
is imported before weights are loaded.
"""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from attrs import define, evolve, field, frozen

from arena_core.adapters.runtimes.checks import (
    InputCheck,
    accept_rows,
    accept_signature,
    prove,
)
from arena_core.adapters.runtimes.torch_export_safety import (
    LARGEST_BYTES,
    Checked,
    read,
)
from arena_core.adapters.runtimes.torch_programs.execution import (
    FAILURES,
    LoadedProgram,
)
from arena_core.adapters.runtimes.torch_programs.programs import Program, Rows
from arena_core.application.ports import Array, Device, Tensors
from arena_core.domain.checkpoint import Signature, TensorSpec
from arena_core.domain.errors import Rejected, Unavailable, Unloaded

CPU, CUDA = "cpu", "cuda:0"


@define(eq=False)
class TorchExportRuntime:
    """A program whose arrays are on the device.  Keeps nothing of one run."""

    name: str
    device: str
    signature: Signature
    _rows: Rows
    _program: "LoadedProgram | None"
    _check: InputCheck = field(init=False)
    _outputs: list[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._check = InputCheck.of(self.signature)
        self._outputs = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Tensors) -> dict[str, Array]:
        program = self._program  # `close` in another thread must not pull it away
        if program is None:
            raise Unloaded("The weights are unloaded: connect the agent again.")
        rows = self._check.rows(inputs)
        ordered = [inputs[spec.name] for spec in self.signature.inputs]
        try:
            pieces = [
                self._piece(program, [array[piece] for array in ordered])
                for piece in self._pieces(rows)
            ]
        except IndexError as error:
            raise Rejected(
                "The weights can't take these inputs: "
                "check that every value is one that they were trained on."
            ) from error
        except FAILURES as error:
            raise Unavailable(
                "The weights could not be run: try again, or with fewer rows."
            ) from error
        return {
            name: parts[0] if len(parts) == 1 else np.concatenate(parts)
            for name, parts in zip(
                self._outputs, zip(*pieces, strict=True), strict=True
            )
        }

    def close(self) -> None:
        self._program = None

    def _pieces(self, rows: int) -> Iterator[slice]:
        """Yield which rows to run at once: no more than the program was made for."""
        most = self._rows[1] or rows
        return (slice(begin, begin + most) for begin in range(0, rows, most))

    def _piece(self, program: "LoadedProgram", arrays: list[Array]) -> list[Array]:
        """Return the answers to a few rows, and to copies where those are too few."""
        rows, least = len(arrays[0]), self._rows[0]
        if rows < least:
            arrays = [np.resize(array, (least, *array.shape[1:])) for array in arrays]
        outputs = dict(zip(self._outputs, program.run(arrays), strict=True))
        accept_rows(outputs, max(rows, least))
        return [output[:rows] for output in outputs.values()]


@frozen
class TorchExportLoader:
    """Loads the plain form of torch.export programs.

    `threads` is how many torch may use, in the whole process; None leaves that alone.
    """

    device: Device = Device.AUTO
    threads: int | None = 1
    largest_bytes: int = LARGEST_BYTES

    def __call__(self, signature: Signature, weights: bytes) -> TorchExportRuntime:
        """Load `weights`, and prove with zeros that outputs follow the batch.

        The names in the signature are given to the inputs and outputs in order.
        Raises `Rejected` if the weights are unsafe, no program, or not of that
        signature; `Unavailable` if torch is not installed, or if CUDA is asked for
        and does not work.
        """
        checked = read(weights, largest_bytes=self.largest_bytes)
        program = checked.program
        accept_signature(_named(program, signature), signature)
        torch = _import_torch()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        device = self._device(torch)
        runtime = TorchExportRuntime(
            name=f"torch {torch.__version__}",
            device=device,
            signature=signature,
            rows=program.rows,
            program=_loaded(checked, torch, device),
        )
        prove(runtime)
        return runtime

    def _device(self, torch: Any) -> str:  # noqa: ANN401 -- torch may be missing
        if self.device is not Device.CPU and _has_cuda(torch):
            # With TF32 the answers differ from the CPU's in the third digit.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
            return CUDA
        if self.device is Device.CUDA:
            raise Unavailable(
                "CUDA does not work here: install torch as it is built for CUDA, and a "
                "driver, or choose the device cpu."
            )
        return CPU


def _import_torch() -> Any:  # noqa: ANN401 -- torch may be missing
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: of a library that it needs
        raise Unavailable(
            "The weights are a program of torch, which is not installed here: install "
            "arena-core with its extra torch, or export the weights to ONNX."
        ) from error


def _loaded(checked: Checked, torch: Any, device: str) -> LoadedProgram:  # noqa: ANN401
    try:
        return LoadedProgram.of(checked.program, checked.places, torch, device)
    except FAILURES as error:
        raise Rejected(
            f"The weights can't be loaded by torch {torch.__version__}: save them with "
            "that version, or export them to ONNX.",
            field="weights",
        ) from error


def _has_cuda(torch: Any) -> bool:  # noqa: ANN401
    """Say whether CUDA really computes: a driver alone is no proof."""
    if not torch.cuda.is_available():
        return False
    try:
        return bool((torch.ones(2, device=CUDA) + 1).sum().item() == 4)  # noqa: PLR2004
    except RuntimeError:
        return False


def _named(program: Program, wanted: Signature) -> Signature:
    """Return what the program takes and returns, by the names that are wanted."""
    return Signature(
        _renamed(program.inputs, wanted.inputs),
        _renamed(program.outputs, wanted.outputs),
    )


def _renamed(
    found: tuple[TensorSpec, ...], wanted: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    if len(found) != len(wanted):
        return found  # which is then refused, with both lists
    pairs = zip(found, wanted, strict=True)
    return tuple(evolve(one, name=other.name) for one, other in pairs)
