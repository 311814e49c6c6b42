"""From a checkpoint's digest to a model that answers, with its parity established."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import PurePosixPath

from attrs import frozen

from arena_core.application import golden, parity
from arena_core.application.bundles import GOLDEN_FILE, MANIFEST_FILE, manifest
from arena_core.application.filenames import shown
from arena_core.application.models import Model
from arena_core.application.pace import Measure, measure
from arena_core.application.ports import BlobStore, Runtime, RuntimeLoader
from arena_core.domain.checkpoint import Manifest, Signature
from arena_core.domain.errors import Rejected
from arena_core.domain.ids import Digest
from arena_core.domain.parity import Parity

Read = Callable[[str], bytes]
"""Returns the content of one of a bundle's files."""


@frozen
class Runtimes:
    """What loads weights, by the suffix of their file."""

    loaders: Mapping[str, RuntimeLoader]

    def load(self, name: str, signature: Signature, weights: bytes) -> Runtime:
        """Load one file of weights.  Raises `Rejected` for a suffix not known."""
        loader = self.loaders.get(PurePosixPath(name).suffix)
        if loader is None:
            raise Rejected(
                f"The weights {shown(name)} are of a kind that cannot be loaded: use a "
                f"file whose name ends in {' or '.join(self.loaders)}.",
                field="weights",
            )
        return loader(signature, weights)


@frozen
class Loaded:
    """A model, what its golden trace has shown, and how long both took."""

    model: Model
    parity: Parity
    load_ms: float


def load(
    blobs: BlobStore, runtimes: Runtimes, digest: Digest, held: Model | None
) -> Loaded:
    """Load a checkpoint, unless `held` is it already, and check its parity.

    Raises `NotFound`, `Corrupt` or `Rejected`; nothing but `held` stays loaded then.
    """
    begun = time.perf_counter()
    has_golden = GOLDEN_FILE in blobs.sizes(digest)
    model = held or _model(blobs, runtimes, digest, golden=has_golden)
    try:
        trace = golden.read(blobs.read(digest, GOLDEN_FILE)) if has_golden else None
        verdict = parity.check(model, trace)
    except BaseException:
        if held is None:
            model.close()
        raise
    return Loaded(model, verdict, (time.perf_counter() - begun) * 1000)


def assemble(
    runtimes: Runtimes,
    described: Manifest,
    digest: Digest,
    read: Read,
    measure: Measure = measure,
) -> Model:
    """Load every file of weights that `described` names.

    Raises `Rejected`; nothing stays loaded then.
    """
    with ExitStack() as loaded:
        parts: dict[str, Runtime] = {}
        for name, signature in described.weights.items():
            parts[name] = runtimes.load(name, signature, read(name))
            loaded.callback(parts[name].close)
        model = Model.of(described, parts, digest, measure)
        loaded.pop_all()
    return model


def _model(
    blobs: BlobStore, runtimes: Runtimes, digest: Digest, *, golden: bool
) -> Model:
    described = manifest(blobs.read(digest, MANIFEST_FILE), golden=golden)
    return assemble(runtimes, described, digest, lambda name: blobs.read(digest, name))
