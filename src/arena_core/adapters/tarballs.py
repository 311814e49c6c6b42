"""Uploaded bundles: tar archives, plain or in gzip, unpacked without trust.

Files are written under numbers; their names are given to them when all are known
and found good.
"""

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from arena_core.adapters import disk
from arena_core.adapters.tar_members import BLOCK_BYTES, Stream, members
from arena_core.application.filenames import check_names, shown
from arena_core.domain.errors import Rejected, TooLarge

_OVERHEAD_BYTES = 1 << 20
_STAGING = "~"
"""No file of a bundle can have this name."""

_COMPRESSED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
_GZIP = b"\x1f\x8b"


@frozen
class Limits:
    """How much one archive may hold."""

    members: int = 1_000
    """Files and folders."""
    member_bytes: int = 4 << 30
    total_bytes: int = 4 << 30
    """Of all files, unpacked."""
    ratio: int = 200
    """Of what gzip inflates to what it read, beyond the first MiB."""


def unpack(source: Path, into: Path, limits: Limits) -> None:
    """Unpack the archive `source` into the folder `into`, which is empty or not there.

    A folder that everything lies in is left out, so that `tar` of the bundle's
    folder and `tar` of what is in it come to the same.  Files get the mode 0600.
    Raises `Rejected` or `TooLarge`, which name the member that is wrong, and
    `StorageFull`; nothing is in `into` then.
    """
    with disk.translated("uploads"):
        into.mkdir(mode=0o700, exist_ok=True)
        if any(into.iterdir()):
            raise ValueError("the folder to unpack into is not empty")
        try:
            _unpack(source, into, limits)
        except BaseException:
            _clear(into)
            raise


def _unpack(source: Path, into: Path, limits: Limits) -> None:
    staging = into / _STAGING
    staging.mkdir(mode=0o700)
    with source.open("rb") as raw:
        names = _write_numbered(_inflated(raw, limits), staging, limits)
    names = _without_common_top(names)
    check_names("/".join(name) for name in names)
    for number, name in enumerate(names):
        target = into.joinpath(*name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (staging / str(number)).rename(target)
    staging.rmdir()


def _clear(folder: Path) -> None:
    for child in folder.iterdir():
        if child.is_dir():
            shutil.rmtree(child, ignore_errors=True)
        else:
            child.unlink()


def _write_numbered(
    stream: Stream, staging: Path, limits: Limits
) -> list[tuple[str, ...]]:
    """Write the n-th file as `staging/n`; return the segments of their names."""
    names: list[tuple[str, ...]] = []
    left = limits.total_bytes
    for count, member in enumerate(members(stream), start=1):
        if count > limits.members:
            raise TooLarge(
                f"The archive has more than {limits.members} members: leave some out."
            )
        if member.is_folder:
            continue
        left -= member.size
        if member.size > limits.member_bytes or left < 0:
            raise TooLarge(
                f"The archive's member {shown(member.name)} is over the limit of "
                f"{limits.member_bytes} bytes for a file or {limits.total_bytes} for "
                "all: make it smaller.",
                field=shown(member.name),
            )
        with disk.new_file(staging / str(len(names))) as descriptor:
            for chunk in stream.chunks(member.size):
                disk.write_all(descriptor, chunk)
        stream.take(-member.size % BLOCK_BYTES)
        names.append(member.segments)
    if not names:
        raise Rejected("The archive holds no files: pack the bundle's folder.")
    return names


def _without_common_top(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    common = len({name[0] for name in names}) == 1 and all(len(n) > 1 for n in names)
    return [name[1:] if common else name for name in names]


def _inflated(raw: BinaryIO, limits: Limits) -> Stream:
    head = raw.read(8)
    size = raw.seek(0, os.SEEK_END)
    raw.seek(0)
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise Rejected(
                f"The archive is a {name} file, which is not read here: "
                "send a tar archive, plain or compressed with gzip, or import it if "
                "training code has saved it."
            )
    most_bytes = limits.total_bytes + limits.members * 4 * BLOCK_BYTES + _OVERHEAD_BYTES
    if not head.startswith(_GZIP):
        return Stream(raw, most_bytes)
    most_bytes = min(most_bytes, _OVERHEAD_BYTES + limits.ratio * size)
    return Stream(gzip.GzipFile(fileobj=raw, mode="rb"), most_bytes)
