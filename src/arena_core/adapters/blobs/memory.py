"""Checkpoint bundles in a dict."""

from collections.abc import Mapping
from pathlib import Path

from arena_core.application.bundles import Entry, Listing, files_of, unreadable
from arena_core.domain.errors import NotFound
from arena_core.domain.ids import Digest


class MemoryBlobStore:
    """Bundles for as long as the process lives."""

    def __init__(self) -> None:
        self._bundles: dict[Digest, Mapping[str, bytes]] = {}

    def put(self, folder: Path) -> Digest:
        contents = {name: _content(name, p) for name, p in files_of(folder).items()}
        listing = Listing({name: Entry.of(data) for name, data in contents.items()})
        digest = listing.digest
        self._bundles[digest] = contents
        return digest

    def read(self, digest: Digest, name: str) -> bytes:
        contents = self._find(digest)
        if name not in contents:
            raise NotFound("The checkpoint has no such file.")
        return contents[name]

    def sizes(self, digest: Digest) -> Mapping[str, int]:
        return {name: len(data) for name, data in self._find(digest).items()}

    def _find(self, digest: Digest) -> Mapping[str, bytes]:
        try:
            return self._bundles[digest]
        except KeyError as error:
            raise NotFound("There is no such checkpoint.") from error


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(name) from error
