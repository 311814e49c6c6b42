"""From a checkpoint's digest to a model that answers, with its parity established."""

import time

from attrs import frozen

from arena_core.application import golden, parity
from arena_core.application.bundles import GOLDEN_FILE, MANIFEST_FILE, manifest
from arena_core.application.inference import Model
from arena_core.application.ports import BlobStore, RuntimeLoader
from arena_core.domain.deployment import Parity
from arena_core.domain.ids import Digest


@frozen
class Loaded:
    """A model, what its golden trace has shown, and how long both took."""

    model: Model
    parity: Parity
    load_ms: float


def load(
    blobs: BlobStore, loader: RuntimeLoader, digest: Digest, held: Model | None
) -> Loaded:
    """Load a checkpoint, unless `held` is it already, and check its parity.

    Raises `NotFound`, `Corrupt` or `Rejected`; nothing but `held` stays loaded then.
    """
    begun = time.perf_counter()
    has_golden = GOLDEN_FILE in blobs.sizes(digest)
    model = held or _model(blobs, loader, digest, golden=has_golden)
    try:
        trace = golden.read(blobs.read(digest, GOLDEN_FILE)) if has_golden else None
        verdict = parity.check(model, trace)
    except BaseException:
        if held is None:
            model.close()
        raise
    return Loaded(model, verdict, (time.perf_counter() - begun) * 1000)


def _model(
    blobs: BlobStore, loader: RuntimeLoader, digest: Digest, *, golden: bool
) -> Model:
    described = manifest(blobs.read(digest, MANIFEST_FILE), golden=golden)
    weights = blobs.read(digest, described.weights)
    return Model.of(described, loader(described, weights))
