"""Checkpoint bundles in a folder, by digest.

`<first two digits>/<digest>/` holds `listing`, the canonical bytes whose SHA-256 is
the digest, and `files/`, the bundle itself.  A bundle is written below `incoming/`
and renamed to its place when every byte of it is on the disk, so that whatever lies
there is whole; nothing there is ever written again.
"""

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from arena_core.adapters import disk
from arena_core.application.bundles import (
    Entry,
    Listing,
    decode_listing,
    encode_listing,
    files_of,
    unreadable,
)
from arena_core.domain.errors import Corrupt, NotFound, Unavailable
from arena_core.domain.ids import Digest

LEFTOVER_AGE_S = 3600.0
"""How long a bundle may not grow before it is taken for left over by a crash."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST_LISTING_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_NOT_AS_STORED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)


class FileBlobStore:
    """Bundles below one folder.  Safe to use from several threads and processes."""

    def __init__(self, root: Path) -> None:
        """`root` is made if it is missing; leftovers of crashes are removed."""
        self._root = root.resolve()
        self.incoming = self._root / "incoming"
        """For what is not whole yet; leftovers here are swept at the next start."""
        with disk.translated("checkpoints"):
            self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self.incoming.iterdir():
                _sweep(leftover)

    def put(self, folder: Path) -> Digest:
        """See `BlobStore`.  Raises `Corrupt` if it is there already, but damaged."""
        files = files_of(folder)
        staging = self.incoming / token_hex(16)
        with disk.translated("checkpoints"):
            try:
                digest = _stage(files, staging)
                self._publish(staging, digest)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        return digest

    def read(self, digest: Digest, name: str) -> bytes:
        with self._opened(digest) as bundle:
            entry = _listing(bundle, digest).files.get(name)
            if entry is None:
                raise NotFound("The checkpoint has no such file.")
            content = _content(bundle, f"files/{name}", entry.size)
        if Entry.of(content) != entry:
            raise _damaged()
        return content

    def sizes(self, digest: Digest) -> Mapping[str, int]:
        with self._opened(digest) as bundle:
            files = _listing(bundle, digest).files
            for name, entry in files.items():
                with _file(bundle, f"files/{name}") as descriptor:
                    if os.fstat(descriptor).st_size != entry.size:
                        raise _damaged()
        return {name: entry.size for name, entry in files.items()}

    def _place(self, digest: Digest) -> Path:
        return self._root / digest[:2] / digest

    def _publish(self, staging: Path, digest: Digest) -> None:
        """Rename `staging` to its place, unless the bundle is there already."""
        place = self._place(digest)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        disk.sync_folder(self._root)
        with disk.locked(place.parent):
            if os.path.lexists(place):
                for name in self.sizes(digest):
                    self.read(digest, name)
                # Whoever renamed it may have died before this.
                disk.sync_folder(place.parent)
                return
            _sync(staging)
            staging.rename(place)
            try:
                disk.sync_folder(place.parent)
            except OSError:
                place.rename(staging)
                raise

    @contextmanager
    def _opened(self, digest: Digest) -> Iterator[int]:
        """Give a descriptor of the bundle's folder; translate errors meanwhile."""
        if not _DIGEST.fullmatch(digest):
            raise NotFound("There is no such checkpoint.")
        place = self._place(digest)
        try:
            with disk.opened(place, disk.FOLDER) as bundle:
                yield bundle
        except OSError as error:
            if not os.path.lexists(place):
                raise NotFound("There is no such checkpoint.") from error
            if error.errno in _NOT_AS_STORED:
                raise _damaged() from error
            raise Unavailable(
                "The stored checkpoint cannot be read now: try again."
            ) from error


# --- writing ---------------------------------------------------------------------


def _stage(files: Mapping[str, Path], staging: Path) -> Digest:
    """Copy `files` and their listing into `staging`."""
    target = staging / "files"
    staging.mkdir(mode=0o700)
    target.mkdir(mode=0o700)
    entries: dict[str, Entry] = {}
    for name, source in files.items():
        copy = target / name
        copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries[name] = _copy(name, source, copy)
    listing = Listing(entries)
    with disk.new_file(staging / "listing") as descriptor:
        disk.write_all(descriptor, encode_listing(listing))
    return listing.digest


def _sync(staging: Path) -> None:
    """Make all of it survive a power cut.

    Not before it is known to be needed: the bundle may be there already.
    """
    for folder, _, names in os.walk(staging, onerror=_refuse):
        for name in names:
            with disk.opened(Path(folder, name), disk.FILE) as descriptor:
                os.fsync(descriptor)
        disk.sync_folder(Path(folder))


def _refuse(error: OSError) -> None:
    raise error


def _copy(name: str, source: Path, target: Path) -> Entry:
    """Copy one file; the entry is that of the bytes that were written."""
    size, digest = 0, sha256()
    with disk.new_file(target) as descriptor:
        for chunk in _chunks(name, source):
            disk.write_all(descriptor, chunk)
            digest.update(chunk)
            size += len(chunk)
    return Entry(size, digest.hexdigest())


def _chunks(name: str, source: Path) -> Iterator[bytes]:
    """Yield the content of the caller's file.  Raises `Rejected` if it changes."""
    try:
        with disk.opened(source, disk.FILE) as descriptor:
            status = os.fstat(descriptor)
            left = status.st_size if stat.S_ISREG(status.st_mode) else -1
            while left >= 0 and (chunk := os.read(descriptor, _CHUNK_BYTES)):
                left -= len(chunk)
                yield chunk
    except OSError as error:
        raise unreadable(name) from error
    if left != 0:
        raise unreadable(name)


def _sweep(leftover: Path) -> None:
    """Remove what a crash has left, if it is old enough to be nobody's."""
    oldest = time.time() - LEFTOVER_AGE_S
    # Gone meanwhile: it was published, or another process sweeps too.  Or a crash has
    # left what can't be removed, such as folders too deep: no reason not to start.
    with suppress(OSError, RecursionError):
        if any(p.lstat().st_mtime > oldest for p in (leftover, *leftover.rglob("*"))):
            return
        # Renamed first, so that a writer who is only slow can't publish half of it.
        doomed = leftover.rename(leftover.with_name(token_hex(16)))
        shutil.rmtree(doomed, ignore_errors=True)


# --- reading ---------------------------------------------------------------------


def _damaged() -> Corrupt:
    return Corrupt(
        "The stored checkpoint is not what was stored: restore it from a back-up."
    )


def _listing(bundle: int, digest: Digest) -> Listing:
    content = _content(bundle, "listing", _LARGEST_LISTING_BYTES)
    if sha256(content).hexdigest() != digest:
        raise _damaged()
    return decode_listing(content)


def _content(bundle: int, name: str, most_bytes: int) -> bytes:
    with _file(bundle, name) as descriptor:
        if os.fstat(descriptor).st_size > most_bytes:
            raise _damaged()
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes + 1)


@contextmanager
def _file(bundle: int, name: str) -> Iterator[int]:
    """Give a descriptor of a plain file below `bundle` that no link leads to."""
    *folders, last = name.split("/")
    with ExitStack() as stack:
        folder = bundle
        for segment in folders:
            folder = stack.enter_context(
                disk.opened(segment, disk.FOLDER, below=folder)
            )
        descriptor = stack.enter_context(disk.opened(last, disk.FILE, below=folder))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _damaged()
        yield descriptor
