"""Zip archives from strangers, read in memory and under limits."""

import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO

from attrs import frozen

from arena_core.application.filenames import shown
from arena_core.domain.errors import Rejected, TooLarge

_END = b"PK\x05\x06"
_END_BYTES = 22
"""Size of the record that ends an archive, without comment."""
_END_64 = b"PK\x06\x06"
_END_64_BYTES = 56
_LOCATOR = b"PK\x06\x07"
_LOCATOR_BYTES = 20
_ENTRY_BYTES = 512
"""Of the directory, for a member with a long name."""
_ENCRYPTED = 0x1
_FREE_BYTES = 1 << 20
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError,
    RuntimeError, ValueError,
)  # fmt: skip
"""What `zipfile` raises for archives that are damaged or made to harm."""


@frozen
class Limits:
    """How much one archive may hold."""

    members: int = 10_000
    total_bytes: int = 2 << 30
    """Of all members that are read, inflated."""
    ratio: int = 200
    """Of what is inflated to the archive's size, beyond the first MiB."""


LIMITS = Limits()


class Archive:
    """Members by name.  Nothing is inflated before it is asked for."""

    def __init__(self, data: bytes, limits: Limits = LIMITS) -> None:
        """Raise `Rejected` for an archive that is damaged or made to harm."""
        _check_end(data, limits)
        self._left = min(limits.total_bytes, _FREE_BYTES + limits.ratio * len(data))
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
        except _UNREADABLE as error:
            raise _damaged() from error
        self._members = _checked(self._zip.infolist(), limits)

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._members)

    def read(self, name: str) -> bytes:
        """Return the content of a member, whose checksum is right.

        Raises `Rejected` if there is none, and `TooLarge` over the limits.
        """
        if name not in self._members:
            raise Rejected(f"The archive has no {shown(name)}: save it again.")
        try:
            with self._zip.open(self._members[name]) as stream:
                content = stream.read(self._left + 1)
        except _UNREADABLE as error:
            raise _damaged() from error
        self._left -= len(content)
        if self._left < 0:
            raise TooLarge(
                "The archive inflates to more than is read: make it smaller."
            )
        return content


def _damaged() -> Rejected:
    return Rejected("The archive is damaged, or no zip archive: save it again.")


def _check_end(data: bytes, limits: Limits) -> None:
    """Refuse what would make `zipfile` believe in too many members.

    It makes an object for each entry of the directory before it hands out one, so
    the directory's size must be known before.
    """
    end = data[-_END_BYTES:]
    if end[:4] != _END or end[-2:] != b"\0\0":
        raise _damaged()
    size = int.from_bytes(end[12:16], "little")
    at = len(data) - _END_BYTES - _LOCATOR_BYTES
    if data[max(0, at) : at + 4] == _LOCATOR:
        # Only where the record is before its locator do all readers find the same.
        record = data[max(0, at - _END_64_BYTES) : at]
        if record[:4] != _END_64 or data[at + 8 : at + 16] != (
            at - _END_64_BYTES
        ).to_bytes(8, "little"):
            raise _damaged()
        size = max(size, int.from_bytes(record[40:48], "little"))
    if size > limits.members * _ENTRY_BYTES:
        raise TooLarge(f"The archive has more than {limits.members} members.")


def _checked(
    found: Sequence[zipfile.ZipInfo], limits: Limits
) -> dict[str, zipfile.ZipInfo]:
    if len(found) > limits.members:
        raise TooLarge(f"The archive has more than {limits.members} members.")
    members: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    for member in found:
        _check(member)
        if member.filename.lower() in seen:
            raise Rejected(
                f"The archive has {shown(member.filename)} twice, perhaps in another "
                "case: save it again."
            )
        seen.add(member.filename.lower())
        if not member.is_dir():
            members[member.filename] = member
    return members


def _check(member: zipfile.ZipInfo) -> None:
    name = member.filename
    if (
        name != member.orig_filename
        or "\\" in name
        or not name.isprintable()
        or {"", ".", ".."} & set(name.removesuffix("/").split("/"))
    ):
        raise Rejected(
            f"The archive has a member {shown(name)}, which is no name: save it again."
        )
    if member.flag_bits & _ENCRYPTED:
        raise Rejected("The archive is encrypted: save it without a password.")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise Rejected("The archive is compressed in an unusual way: save it again.")
