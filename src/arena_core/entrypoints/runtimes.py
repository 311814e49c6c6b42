"""Which technology loads which weights: one line for each."""

from functools import partial

from arena_core.adapters.runtimes.onnx import OnnxLoader
from arena_core.application.loading import Runtimes
from arena_core.application.ports import Device, Runtime
from arena_core.domain.checkpoint import Signature


def runtimes_of(device: Device = Device.AUTO, threads: int = 1) -> Runtimes:
    """Return what loads weights, by the suffix of their file.

    `threads`: of one run of onnxruntime.  Torch has one number for the whole process,
    which may be somebody's training: it is left as it is.
    """
    return Runtimes(
        {
            ".onnx": OnnxLoader(device, threads),
            ".pt2": partial(_load_torch_export, device),
        }
    )


def _load_torch_export(device: Device, signature: Signature, weights: bytes) -> Runtime:
    from arena_core.adapters.runtimes.torch_export import TorchExportLoader  # noqa: PLC0415 -- a server of ONNX weights needs none of it

    return TorchExportLoader(device, threads=None)(signature, weights)
