"""Models as a worker has them when it has loaded a bundle."""

from pathlib import Path

from arena_core.adapters.runtimes.onnx import OnnxLoader
from arena_core.application import bundles, golden, parity
from arena_core.application.inference import Model
from arena_core.application.ports import Device
from arena_core.domain.deployment import Parity

ONNX = OnnxLoader(Device.CPU)


def load(folder: Path) -> Model:
    manifest = bundles.check(folder)
    return Model.of(manifest, ONNX(manifest, (folder / manifest.weights).read_bytes()))


def check(folder: Path) -> Parity:
    """Replay the bundle's own trace through the bundle's own weights."""
    trace = folder / "golden.npz"
    recorded = golden.read(trace.read_bytes()) if trace.exists() else None
    return parity.check(load(folder), recorded)
