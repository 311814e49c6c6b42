"""What the bundle of a checkpoint says of itself, for whoever uses it.

Whoever made the bundle has written it.  It is passed on, and nothing here hangs on it.
"""

from typing import Any

import msgspec
from attrs import frozen

from arena_core.application import bundles, decoding
from arena_core.application.ports import BlobStore
from arena_core.domain.ids import Digest
from arena_core.domain.values import Family


@frozen
class Framework:
    """What it was trained with."""

    name: str
    version: str


@frozen
class TrainedOn:
    """The dataset that it was trained on."""

    name: str | None
    sha256: str | None
    rows: int | None


@frozen
class Contents:
    """None where the bundle does not say."""

    digest: Digest
    algorithm: str
    family: Family
    framework: Framework
    classes: list[str] | None
    """What the numbers of an answer are about, in their order."""
    columns: list[str] | None
    """What the numbers of a row of inputs are called, in their order."""
    dataset: TrainedOn | None
    provenance: dict[str, Any]
    """All that it says of where it comes from."""


class _Stored(msgspec.Struct, frozen=True):
    """The part of `checkpoint.json` that is read here; see `manifests`."""

    algorithm: str
    family: Family
    framework: Framework
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)


def contents(blobs: BlobStore, digest: Digest) -> Contents:
    """Return what is in a stored bundle.  Raises `NotFound` or `Corrupt`."""
    stored = decoding.decoder(_Stored).decode(blobs.read(digest, bundles.MANIFEST_FILE))
    said = stored.provenance.get("dataset")
    dataset = said if isinstance(said, dict) else None
    return Contents(
        digest,
        stored.algorithm,
        stored.family,
        stored.framework,
        None if dataset is None else _names(dataset.get("classes")),
        None if dataset is None else _names(dataset.get("columns")),
        None if dataset is None else _trained_on(dataset),
        stored.provenance,
    )


def _names(said: object) -> list[str] | None:
    """Return the names, unless there are none or they are something else."""
    if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
        return None
    return said or None


def _trained_on(said: dict[str, Any]) -> TrainedOn:
    name, sha256, rows = said.get("name"), said.get("sha256"), said.get("rows")
    return TrainedOn(
        name if isinstance(name, str) else None,
        sha256 if isinstance(sha256, str) else None,
        rows if type(rows) is int else None,
    )
