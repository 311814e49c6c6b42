"""The members of a tar archive, read strictly.

`tarfile` is not used: it takes a broken header for the end of the archive, and reads
an extended header of any size into memory.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from attrs import frozen

from arena_core.application.filenames import shown
from arena_core.domain.errors import Rejected, TooLarge

BLOCK_BYTES = 512
_CHUNK_BYTES = 1 << 18
_MOST_EXTENSION_BYTES = 1 << 16
_MOST_EXTENSIONS = 4
_MOST_BYTES_OF_EXTENSIONS = 1 << 22
"""Of the whole archive; the others are of one extension, and of one member."""

_FOREIGN = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"K": "a link",
    b"S": "a sparse file",
}
_OCTAL = re.compile(rb"[0-7]+")
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ")


class Stream:
    """The bytes of the archive, in order, and no more of them than allowed."""

    def __init__(self, source: BinaryIO | gzip.GzipFile, most_bytes: int) -> None:
        self._source = source
        self._left = most_bytes

    def read(self, length: int) -> bytes:
        """Return up to `length` bytes, none at the end."""
        try:
            data = self._source.read(length)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise Rejected(
                "The archive is damaged or cut off: pack and send it again."
            ) from error
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(
                "The archive unpacks to far more than its files may have: "
                "leave some out, or send it without compression."
            )
        return data

    def take(self, length: int) -> bytes:
        """Return exactly `length` bytes."""
        return b"".join(self.chunks(length))

    def chunks(self, length: int) -> Iterator[bytes]:
        """Yield exactly `length` bytes."""
        while length:
            chunk = self.read(min(length, _CHUNK_BYTES))
            if not chunk:
                raise Rejected("The archive is cut off: pack and send it again.")
            length -= len(chunk)
            yield chunk


@frozen
class Member:
    name: str
    size: int
    is_folder: bool
    segments: tuple[str, ...]


@frozen
class _Header:
    """One block: of a file or folder, or of an extension to the next one."""

    name: bytes
    size: int
    kind: bytes


def members(stream: Stream) -> Iterator[Member]:
    """Yield each member; what it holds must be taken from `stream` before the next."""
    extensions: dict[str, bytes] = {}
    count = total = 0
    while (block := stream.take(BLOCK_BYTES)).strip(b"\0"):
        header = _header(block)
        if header.kind in b"Lxg":
            count += 1
            total += header.size
            _accept_extension(header, count, total)
            extensions |= _extension(stream, header)
            continue
        yield _member(header, extensions)
        extensions, count = {}, 0
    while rest := stream.read(_CHUNK_BYTES):
        if rest.strip(b"\0"):
            raise Rejected("The archive has something behind its end: pack it again.")


def _header(block: bytes) -> _Header:
    checksum = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if checksum != _number(block[148:156]):
        raise Rejected(
            "The archive is no tar archive, or damaged: pack the bundle's folder with "
            "tar, plain or compressed with gzip."
        )
    name, prefix = _text(block[:100]), _text(block[345:500])
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return _Header(name, _number(block[124:136]), block[156:157])


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Return an octal number, or one in base 256 as large files need."""
    if field[0] == 0x80:  # noqa: PLR2004 -- the mark of base 256
        return int.from_bytes(field[1:])
    digits = _text(field).strip(b" ")
    if not _OCTAL.fullmatch(digits):
        raise Rejected(
            "The archive has a header without a valid number: pack it again."
        )
    return int(digits, 8)


def _accept_extension(header: _Header, count: int, total: int) -> None:
    """`count`: extensions of this member; `total`: bytes of all in the archive."""
    if (
        header.size > _MOST_EXTENSION_BYTES
        or count > _MOST_EXTENSIONS
        or total > _MOST_BYTES_OF_EXTENSIONS
    ):
        raise TooLarge(
            "The archive has extended headers of unusual size or number: pack it "
            "with tar in its format ustar."
        )


def _extension(stream: Stream, header: _Header) -> dict[str, bytes]:
    """Take an extension from `stream`; return what it says of the next member."""
    data = stream.take(header.size)
    stream.take(-header.size % BLOCK_BYTES)
    if header.kind == b"L":
        return {"path": _text(data)}
    records = _pax_records(data)
    if header.kind == b"g":
        # For all members: a comment, a time; a name or a size would be a trick.
        records = {key: b"" for key in records if key.startswith("GNU.sparse")}
    return records


def _pax_records(data: bytes) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    begin = 0
    while begin < len(data):
        key, value, begin = _pax_record(data, begin)
        records[key.decode(errors="replace")] = value
    return records


def _pax_record(data: bytes, begin: int) -> tuple[bytes, bytes, int]:
    """Return the key and the value of a record, and where the next one begins."""
    if match := _PAX_RECORD.match(data, begin):
        end = begin + int(match[1])
        key, equals, value = data[match.end() : end - 1].partition(b"=")
        if equals and data[end - 1 : end] == b"\n":
            return key, value, end
    raise Rejected("The archive has a damaged extended header: pack it again.")


def _member(header: _Header, extensions: dict[str, bytes]) -> Member:
    try:
        name = extensions.get("path", header.name).decode()
        size = int(extensions.get("size", header.size))
    except ValueError as error:
        raise Rejected(
            "The archive has a member whose name is not UTF-8, or whose size is no "
            "number: pack it again."
        ) from error
    kind = header.kind
    if any(key.startswith("GNU.sparse") for key in extensions):
        kind = b"S"
    is_folder = kind == b"5" or (kind in b"0\0" and name.endswith("/"))
    if kind not in {b"0", b"\0", b"5"} or size < 0 or (is_folder and size):
        _refuse(name, f"is {_FOREIGN.get(kind, 'of an unknown kind')}")
    return Member(name, size, is_folder, _segments(name, is_folder=is_folder))


def _segments(name: str, *, is_folder: bool) -> tuple[str, ...]:
    inner = name.removesuffix("/") if is_folder else name
    if is_folder and inner == ".":
        return ()
    segments = tuple(inner.removeprefix("./").split("/"))
    if any(segment in {"", ".", ".."} for segment in segments):
        _refuse(name, "has a name that leads elsewhere")
    return segments


def _refuse(name: str, problem: str) -> NoReturn:
    raise Rejected(
        f"The archive's member {shown(name)} {problem}: "
        "pack plain files and folders alone, by their names in the bundle.",
        field=shown(name),
    )
