"""Bodies that came compressed."""

import zlib

from arena_core.domain.errors import Rejected, UnsupportedMediaType
from arena_core.entrypoints.http.bodies import too_large

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib calls the format of each."""
FIELD = "content-encoding"


def inflated(body: bytes, encoding: str | None, *, limit_bytes: int) -> bytes:
    """Return the body as it was before it was encoded.

    Raises `TooLarge` as soon as that has more bytes than the limit, `Rejected` for
    what is damaged, cut off, or has something behind it.
    """
    name = (encoding or "identity").strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in ENCODINGS:
        raise UnsupportedMediaType(
            f"The Content-Encoding must be one of {', '.join(ENCODINGS)}, or left out.",
            field=FIELD,
        )
    stream = zlib.decompressobj(ENCODINGS[name])
    try:
        whole = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise _damaged(name) from error
    if len(whole) > limit_bytes:
        del whole  # or the error would keep it for as long as it lives itself
        raise too_large(limit_bytes)
    if not stream.eof or stream.unused_data:
        raise _damaged(name)
    return whole


def _damaged(name: str) -> Rejected:
    return Rejected(
        f"The body is not one whole {name} stream: compress it once, and send nothing "
        "else.",
        field=FIELD,
    )
