"""Cursors: where a list goes on, opaque to callers and good for that list only.

A cursor holds the place after which to go on, such as a position of the log, and the
position that the list is as of, if that is the past.  Its MAC covers these, and the
path, the filters and the organisation: with others it is none that was ever given out.
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
_AS_OF = struct.Struct(">q")
_PRESENT = -1
_CURSOR = re.compile(r"[A-Za-z0-9_-]{32,2000}")


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

    def seal(self, after: str, as_of: int | None) -> str:
        """Return the cursor of what comes after a place."""
        pinned = _PRESENT if as_of is None else as_of
        return self._text(_AS_OF.pack(pinned) + after.encode())

    def open(self, cursor: str) -> tuple[str, int | None]:
        """Return after which place to go on, and as of which position.

        Raises `InvalidCursor` unless it is one of this very list.
        """
        held = b""
        if _CURSOR.fullmatch(cursor) and len(cursor) % 4 != 1:
            padded = cursor + "=" * (-len(cursor) % 4)
            held = urlsafe_b64decode(padded)[:-_MAC_BYTES]
        if not held or not hmac.compare_digest(self._text(held), cursor):
            raise InvalidCursor(
                "The cursor is not of this list: pass on the next_cursor of an earlier "
                "answer, with the same filters, or leave it out to begin anew.",
                field="cursor",
            )
        (pinned,) = _AS_OF.unpack(held[: _AS_OF.size])
        after = held[_AS_OF.size :].decode()
        return after, None if pinned == _PRESENT else pinned

    def _text(self, held: bytes) -> str:
        # The length says where the one ends and the other begins.
        covered = len(held).to_bytes(4, "big") + held + self._scope
        mac = hmac.digest(self._key, covered, "sha256")
        sealed = urlsafe_b64encode(held + mac[:_MAC_BYTES])
        return sealed.decode().rstrip("=")
