"""JSON into classes, from several threads.

msgspec learns what a class looks like when it first meets it.  A second thread that
meets the class meanwhile reads what is half learned and crashes the whole process
(seen with 0.22).  So classes are learned here, one at a time, and only then used.
"""

import threading
from typing import Any, TypeVar, cast

import msgspec

T = TypeVar("T")

_decoders: dict[Any, "msgspec.json.Decoder[Any]"] = {}
_learning = threading.Lock()


def decoder(form: type[T]) -> "msgspec.json.Decoder[T]":
    """Return what decodes JSON as a `form`."""
    known = _decoders.get(form)
    if known is None:
        with _learning:
            known = _decoders.setdefault(form, msgspec.json.Decoder(form))
    return cast("msgspec.json.Decoder[T]", known)


def convert(obj: object, form: type[T], *, strict: bool = True) -> T:
    """Return `obj`, decoded JSON, as a `form`.  Raises what msgspec raises."""
    decoder(form)
    return msgspec.convert(obj, form, strict=strict)
