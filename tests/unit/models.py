"""Models as a worker has them when it has loaded a bundle."""

from pathlib import Path

from attrs import evolve

from arena_core.application import bundles, golden, parity
from arena_core.application.loading import Read, assemble
from arena_core.application.models import Model
from arena_core.application.ports import Device
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.ids import Digest
from arena_core.domain.parity import Parity
from arena_core.entrypoints.runtimes import runtimes_of

RUNTIMES = runtimes_of(Device.CPU)


def load(folder: Path) -> Model:
    digest = bundles.listing(folder).digest
    return of(bundles.check(folder), digest, lambda n: (folder / n).read_bytes())


def of(manifest: Manifest, digest: Digest, read: Read) -> Model:
    return assemble(RUNTIMES, manifest, digest, read)


def described(model: Model, **changes: object) -> Model:
    """Return a model of the same weights, of whose policy something else is said."""
    policy = evolve(model.manifest.policy, **changes)
    manifest = evolve(model.manifest, policies={"policy": policy})
    return Model.of(manifest, {policy.weights: model.single.runtime}, Digest("0" * 64))


def check(folder: Path) -> Parity:
    """Replay the bundle's own trace through the bundle's own weights."""
    trace = folder / "golden.npz"
    recorded = golden.read(trace.read_bytes()) if trace.exists() else None
    return parity.check(load(folder), recorded)
