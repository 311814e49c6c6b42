"""Cursors: where a list goes on, opaque to callers and good for that list only.

A cursor holds a position of the log, and the one that the list is as of, if that is
the past.  Its MAC covers these, and the path, the filters and the organisation: with
others it is none that was ever given out.
"""

import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

import msgspec
from attrs import field, frozen

from arena_core.domain.errors import InvalidCursor

PURPOSE = "cursor"
"""Of the key that they are signed with."""
_MAC_BYTES = 16
_POSITIONS = struct.Struct(">qq")
_PRESENT = -1
_CURSOR = re.compile(r"[A-Za-z0-9_-]{43}")


@frozen
class Cursors:
    """The cursors of one list."""

    _key: bytes = field(repr=False)
    _scope: bytes

    @classmethod
    def of(
        cls, key: bytes, path: str, organisation: str, filters: Mapping[str, object]
    ) -> "Cursors":
        """Return those of the list at `path` with these filters."""
        scope = (path, organisation, filters)
        return cls(key, msgspec.json.encode(scope, order="sorted"))

    def seal(self, after: int, as_of: int | None) -> str:
        """Return the cursor of what comes after a position."""
        pinned = _PRESENT if as_of is None else as_of
        return self._text(_POSITIONS.pack(after, pinned))

    def open(self, cursor: str) -> tuple[int, int | None]:
        """Return after which position to go on, and as of which.

        Raises `InvalidCursor` unless it is one of this very list.
        """
        held = b""
        if _CURSOR.fullmatch(cursor):
            held = urlsafe_b64decode(cursor + "=")[: _POSITIONS.size]
        if not held or not hmac.compare_digest(self._text(held), cursor):
            raise InvalidCursor(
                "The cursor is not of this list: pass on the next_cursor of an earlier "
                "answer, with the same filters, or leave it out to begin anew.",
                field="cursor",
            )
        after, pinned = _POSITIONS.unpack(held)
        return after, None if pinned == _PRESENT else pinned

    def _text(self, positions: bytes) -> str:
        mac = hmac.digest(self._key, positions + self._scope, "sha256")
        sealed = urlsafe_b64encode(positions + mac[:_MAC_BYTES])
        return sealed.decode().rstrip("=")
