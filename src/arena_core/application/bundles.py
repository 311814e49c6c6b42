"""Checkpoint bundles: what is in a folder, what identifies it, whether it is whole.

The form of a bundle is described in `docs/bundle.md`.
"""

import stat
import struct
from collections.abc import Iterator, Mapping
from hashlib import sha256
from io import SEEK_END
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from attrs import evolve, frozen

from arena_core.application import golden as traces
from arena_core.application import manifests
from arena_core.application.filenames import MOST_SEGMENTS, check_names, shown
from arena_core.application.policy_manifests import check_no_pickle
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.errors import Corrupt, Rejected, TooLarge
from arena_core.domain.ids import Digest

MANIFEST_FILE = "checkpoint.json"
GOLDEN_FILE = traces.FILE
NOTES = frozenset({".json", ".md", ".txt"})
"""Suffixes of files that a bundle may hold beside those that it needs."""
MOST_FILES = 1_000
MOST_WEIGHTS_BYTES = 2 << 30
"""What an ONNX file can have."""

_MAGIC = b"arena-bundle/1\n"
_LENGTH = struct.Struct(">Q")
_HASH_BYTES = 32
_CHUNK_BYTES = 1 << 20


class Entry(NamedTuple):
    """One file of a bundle."""

    size: int
    """In bytes."""
    sha256: str
    """Of its content, 64 lower-case hex digits."""

    @classmethod
    def of(cls, content: bytes) -> "Entry":
        return cls(len(content), sha256(content).hexdigest())


@frozen
class Listing:
    """The files of a bundle by name."""

    files: Mapping[str, Entry]

    @property
    def digest(self) -> Digest:
        """What identifies the bundle: another one if any name or byte differs."""
        return Digest(sha256(encode_listing(self)).hexdigest())


def encode_listing(listing: Listing) -> bytes:
    """Return the canonical bytes, whose SHA-256 is the digest.

    Each part has a fixed length or comes after its length, so that no two listings
    share their bytes.
    """
    parts = [_MAGIC]
    for name, (size, digest) in sorted(
        (name.encode(), entry) for name, entry in listing.files.items()
    ):
        parts += [_LENGTH.pack(len(name)), name]
        parts += [_LENGTH.pack(size), bytes.fromhex(digest)]
    return b"".join(parts)


def decode_listing(data: bytes) -> Listing:
    """Return the listing that has the canonical bytes `data`, or raise `Corrupt`."""
    try:
        listing = Listing(dict(_entries(data)))
        check_names(listing.files)
        canonical = encode_listing(listing)
    except (ValueError, Rejected) as error:
        raise Corrupt("The listing of a stored checkpoint is damaged.") from error
    if canonical != data:
        raise Corrupt("The listing of a stored checkpoint is damaged.")
    return listing


def _entries(data: bytes) -> Iterator[tuple[str, Entry]]:
    at = len(_MAGIC)

    def take(length: int) -> bytes:
        nonlocal at
        part, at = data[at : at + length], at + length
        if len(part) < length:
            raise ValueError("it ends too early")
        return part

    while at < len(data):
        name = take(int.from_bytes(take(_LENGTH.size))).decode()
        size = int.from_bytes(take(_LENGTH.size))
        yield name, Entry(size, take(_HASH_BYTES).hex())


def files_of(folder: Path) -> dict[str, Path]:
    """Return where each file below `folder` lies, by its name in the bundle.

    Raises `Rejected` for what is neither file nor folder (a link, say), for names
    that no bundle may have, and if there is no file, and `TooLarge` for too many.
    """
    files: dict[str, Path] = {}
    try:
        for name, path in _walk(folder, PurePosixPath()):
            files[name] = path
            if len(files) > MOST_FILES:
                raise TooLarge(f"The bundle has more than {MOST_FILES} files.")
    except OSError as error:
        raise Rejected(
            "The folder of the bundle cannot be read: give an existing folder."
        ) from error
    if not files:
        raise Rejected(f"The bundle is empty: it needs at least {MANIFEST_FILE}.")
    check_names(files)
    return files


def _walk(folder: Path, above: PurePosixPath) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        below = above / path.name
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield str(below), path
        elif stat.S_ISDIR(mode) and len(below.parts) < MOST_SEGMENTS:
            yield from _walk(path, below)
        else:
            raise Rejected(
                f"The bundle holds {shown(str(below))}, which is no plain file at most "
                f"{MOST_SEGMENTS} levels deep: put the file itself there, not a link.",
                field=shown(str(below)),
            )


def listing(folder: Path) -> Listing:
    """Return the listing of the files below `folder` as they are now.

    Raises what `files_of` raises.
    """
    return Listing({name: _entry(name, p) for name, p in files_of(folder).items()})


def _entry(name: str, path: Path) -> Entry:
    size, digest = 0, sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                size += len(chunk)
                digest.update(chunk)
    except OSError as error:
        raise unreadable(name) from error
    return Entry(size, digest.hexdigest())


def unreadable(name: str) -> Rejected:
    """Return the error for a file of the caller's that cannot be read."""
    return Rejected(
        f"The file {shown(name)} of the bundle cannot be read: check its permissions "
        "and that nothing else is writing it.",
        field=shown(name),
    )


def manifest(data: bytes, *, golden: bool) -> Manifest:
    """Return what `data`, the bytes of a `checkpoint.json`, say.

    `golden`: whether the bundle has a golden trace.  Raises `Rejected`, whose
    `field` is such as `checkpoint.json: signature.inputs 0.dtype`.
    """
    try:
        return evolve(manifests.parse(data), golden=golden)
    except Rejected as error:
        where = (
            MANIFEST_FILE if error.field is None else f"{MANIFEST_FILE}: {error.field}"
        )
        raise type(error)(f"In {MANIFEST_FILE}: {error}", field=where) from error


def check(folder: Path) -> Manifest:
    """Return the manifest of the bundle in `folder`, which can be stored.

    Raises `Rejected` for a file that is missing, wrong or has no place in a bundle.
    """
    files = files_of(folder)
    if MANIFEST_FILE not in files:
        raise Rejected(
            f"The bundle has no {MANIFEST_FILE}: add it.", field=MANIFEST_FILE
        )
    understood = manifest(
        _content(MANIFEST_FILE, files, manifests.MOST_BYTES),
        golden=GOLDEN_FILE in files,
    )
    for name in understood.weights:
        _check_weights(name, files)
    for name in sorted(
        files.keys() - {MANIFEST_FILE, GOLDEN_FILE, *understood.weights}
    ):
        _check_note(name)
    if GOLDEN_FILE in files:
        traces.read(_content(GOLDEN_FILE, files, traces.MOST_BYTES))
    return understood


def weights(folder: Path, name: str) -> bytes:
    """Return the weights in a folder that has been checked, but not if too large."""
    return _content(name, files_of(folder), MOST_WEIGHTS_BYTES)


def _content(name: str, files: Mapping[str, Path], most_bytes: int) -> bytes:
    try:
        with files[name].open("rb") as file:
            size = file.seek(0, SEEK_END)
            if size > most_bytes:
                raise TooLarge(
                    f"The file {name} has more than {most_bytes} bytes: make it "
                    "smaller.",
                    field=name,
                )
            file.seek(0)
            return file.read(size)  # so much is allocated before anything is read
    except OSError as error:
        raise unreadable(name) from error


def _check_weights(name: str, files: Mapping[str, Path]) -> None:
    try:
        missing = name not in files or files[name].stat().st_size == 0
    except OSError as error:
        raise unreadable(name) from error
    if missing:
        raise Rejected(
            f"The bundle has no weights {name}: add the file that weights in "
            f"{MANIFEST_FILE} names, and see that it is not empty.",
            field=f"{MANIFEST_FILE}: weights",
        )


def _check_note(name: str) -> None:
    suffix = PurePosixPath(name).suffix.lower()
    check_no_pickle(name, field=name)
    if suffix not in NOTES:
        raise Rejected(
            f"The bundle holds {shown(name)}, which has no place in it: keep "
            f"only {MANIFEST_FILE}, {GOLDEN_FILE}, the weights (without "
            f"external data) and notes ({', '.join(sorted(NOTES))}).",
            field=shown(name),
        )
