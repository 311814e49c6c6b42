"""How the texts of our secrets are made: readable, checkable, findable by scanners.

A deployment key is `arena_dep_<uuid>_<key version>_<secret><check>`, an access token
`arena_pat_<uuid>_<secret><check>` or `arena_org_...`: the uuid in 32 hex digits, the
secret in 43 and the check, a CRC-32 of all that stands before it, in 6 base62 digits.
Junk is refused by it without asking the store.
"""

import hashlib
import zlib
from uuid import UUID

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECK = 6
SECRET_BYTES = 32
_SECRET = 43
LONGEST = 200
"""No text of ours has more characters."""


def base62(number: int, width: int) -> str:
    """Return `number` in base 62 with at least `width` digits."""
    digits = ""
    while number:
        number, rest = divmod(number, 62)
        digits = _DIGITS[rest] + digits
    return digits.rjust(width, "0")


def sealed(prefix: str, secret: bytes) -> str:
    """Return `prefix`, 32 bytes of `secret` and the checksum as one text."""
    body = f"{prefix}_{base62(int.from_bytes(secret), _SECRET)}"
    return body + _checksum(body)


def is_intact(text: str) -> bool:
    """Say whether the checksum fits: a mistyped or made-up text fails."""
    return (
        _CHECK < len(text) <= LONGEST
        and text.isascii()
        and text[-_CHECK:] == _checksum(text[:-_CHECK])
    )


def id_in(text: str) -> UUID:
    """Return the id that a text of ours holds; one that nobody has if it holds none."""
    # At most three cuts: what a secret holds is its own business.
    parts = text.split("_", 3)
    try:
        return UUID(hex=parts[2])
    except (IndexError, ValueError):
        return UUID(int=0)


def sha256_of(text: str) -> str:
    """Return what is kept of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode()), _CHECK)
