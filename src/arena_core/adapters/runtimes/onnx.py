"""ONNX weights, run by onnxruntime on the CPU or on a CUDA device."""

import contextlib
import ctypes
import functools
import io
import os
import sys
from typing import Any

import numpy as np
from attrs import define, field, frozen

from arena_core.adapters.runtimes.checks import (
    InputCheck,
    accept_rows,
    accept_signature,
    prove,
)
from arena_core.adapters.runtimes.onnx_safety import LARGEST_BYTES, refuse_unsafe
from arena_core.application.ports import Array, Device, Tensors
from arena_core.domain.checkpoint import Signature, TensorSpec
from arena_core.domain.errors import Rejected, Unavailable, Unloaded

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_INVALID = "InvalidArgument"
"""What onnxruntime calls its error for an input."""
WARNING, FATAL = 2, 4
"""Two of onnxruntime's levels of logging."""

_DTYPES = {
    "tensor(bool)": "bool", "tensor(int8)": "int8", "tensor(int16)": "int16",
    "tensor(int32)": "int32", "tensor(int64)": "int64", "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
    "tensor(float16)": "float16", "tensor(float)": "float32",
    "tensor(double)": "float64",
}  # fmt: skip


@functools.cache
def _library() -> Any:  # noqa: ANN401 -- onnxruntime has no types
    """Import onnxruntime, silent.

    It looks at this when it is imported: without, some releases number this machine
    in a file of the user's and report it, and the path of the process, to their maker.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 -- only now

    return onnxruntime


@define(eq=False)
class OnnxRuntime:
    """A session of onnxruntime.  Keeps no memory of one run for the next."""

    name: str
    device: str
    signature: Signature
    _session: Any
    _is_row_by_row: bool
    """The weights take one row at a time."""
    _check: InputCheck = field(init=False)
    _outputs: list[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._check = InputCheck.of(self.signature)
        self._outputs = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Tensors) -> dict[str, Array]:
        session = self._session  # `close` in another thread must not pull it away
        if session is None:
            raise Unloaded("The weights are unloaded: connect the agent again.")
        rows = self._check.rows(inputs)
        try:
            arrays = self._infer(session, inputs, rows)
        except Exception as error:  # onnxruntime's errors have no common class
            if type(error).__name__ == _INVALID:
                raise Rejected(
                    "The weights can't take these inputs: "
                    "check that every value is one that they were trained on."
                ) from error
            raise Unavailable(
                "The weights could not be run: try again, or with fewer rows."
            ) from error
        return accept_rows(dict(zip(self._outputs, arrays, strict=True)), rows)

    def close(self) -> None:
        self._session = None

    def _infer(
        self,
        session: Any,  # noqa: ANN401 -- onnxruntime has no types
        inputs: Tensors,
        rows: int,
    ) -> list[Array]:
        if rows == 1 or not self._is_row_by_row:
            answers: list[Array] = session.run(self._outputs, inputs)
            return answers
        by_row = [
            session.run(
                self._outputs, {name: a[row : row + 1] for name, a in inputs.items()}
            )
            for row in range(rows)
        ]
        return [np.concatenate(output) for output in zip(*by_row, strict=True)]


@frozen
class OnnxLoader:
    """Loads ONNX weights; `threads` is how many one run may use."""

    device: Device = Device.AUTO
    threads: int = 1
    largest_bytes: int = LARGEST_BYTES

    def __call__(self, signature: Signature, weights: bytes) -> OnnxRuntime:
        """Load `weights`, and prove with zeros that outputs follow the batch.

        Raises `Rejected` if they are unsafe, no ONNX, or not of that signature;
        `Unavailable` if CUDA is asked for and does not work.
        """
        refuse_unsafe(weights, largest_bytes=self.largest_bytes)
        session = self._session(weights)
        found = _signature(session)
        accept_signature(found, signature)
        runtime = OnnxRuntime(
            name=f"onnxruntime {_library().__version__}",
            device="cuda:0" if CUDA in session.get_providers() else "cpu",
            signature=signature,
            session=session,
            is_row_by_row=any(spec.shape[0] == 1 for spec in found.inputs),
        )
        prove(runtime)
        return runtime

    def _session(self, weights: bytes) -> Any:  # noqa: ANN401
        if self.device is not Device.CPU and _has_cuda():
            session = _on_cuda(weights, self.threads)
            if session is not None:
                return session
        session = _on_cpu(weights, self.threads)  # bad weights are refused in any case
        if self.device is Device.CUDA:
            raise Unavailable(
                "CUDA does not work here: install onnxruntime-gpu with its extras cuda "
                "and cudnn and a driver, or choose the device cpu."
            )
        return session


def _on_cpu(weights: bytes, threads: int) -> Any:  # noqa: ANN401
    try:
        return _open(weights, threads, [CPU])
    except Exception as error:  # onnxruntime's errors have no common class
        raise Rejected(
            f"The weights can't be loaded, onnxruntime says {type(error).__name__}: "
            "check them where they were exported.",
            field="weights",
        ) from error


def _on_cuda(weights: bytes, threads: int) -> Any | None:  # noqa: ANN401
    """Return a session that runs on CUDA, or None if none can be had.

    Only the session's own list of providers is proof: the package lists CUDA wherever
    it was built for it, and falls back to the CPU without an error.
    """
    # Full float32: with TF32 the answers differ from the CPU's in the third digit.
    cuda = (CUDA, {"device_id": "0", "use_tf32": "0"})
    # Missing libraries are reported by the logger of the process, not the session's.
    _library().set_default_logger_severity(FATAL)
    try:
        session = _open(weights, threads, [cuda, CPU])
    except Exception:  # noqa: BLE001 -- no common class; the CPU says what is wrong
        return None
    finally:
        _library().set_default_logger_severity(WARNING)
    return session if CUDA in session.get_providers() else None


def _open(weights: bytes, threads: int, providers: list[Any]) -> Any:  # noqa: ANN401
    options = _library().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Else bytes that pass for ONNX when checked could be run as its other format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Its own fallback prints to stdout.
    return _library().InferenceSession(
        weights, options, providers=providers, enable_fallback=False
    )


@functools.cache
def _has_cuda() -> bool:
    """Say whether CUDA is worth a try.

    Trying it in vain is slow and noisy, so first the package must be built for it and
    the driver, which no package installs, must load: `dlopen` fails in silence.
    """
    if CUDA not in _library().get_available_providers():
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing
        _library().preload_dlls()
    return True


def _signature(session: Any) -> Signature:  # noqa: ANN401
    return Signature(
        inputs=tuple(map(_spec, session.get_inputs())),
        outputs=tuple(map(_spec, session.get_outputs())),
    )


def _spec(argument: Any) -> TensorSpec:  # noqa: ANN401
    if argument.type not in _DTYPES:
        raise Rejected(
            f"The weights have {argument.name}, which is no array of numbers: "
            "export them with numeric inputs and outputs only.",
            field="weights",
        )
    # A free axis is a symbol such as "batch", or None.
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, _DTYPES[argument.type], shape)
