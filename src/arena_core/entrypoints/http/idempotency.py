"""Idempotency-Key: what is asked for again under the same key is done once.

As draft-ietf-httpapi-idempotency-key-header has it, and for those who leave the quotes
out.  How it is kept, and what a repetition is: `arena_core.application.attempts`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from attrs import field, frozen

from arena_core.domain.errors import Conflict, Rejected, StillRunning

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
LONGEST = 255
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')
_PLAIN = re.compile(r"[\x21\x23-\x7e]+")
_ESCAPED = re.compile(r'\\(["\\])')


def parsed_key(given: Sequence[str]) -> str | None:
    """Return the key that the headers of that name give, without its quotes, if any.

    Raises `Rejected` for what is none.
    """
    if not given:
        return None
    text = given[0].strip(" \t")
    if len(given) == 1 and (quoted := _QUOTED.fullmatch(text)):
        key = _ESCAPED.sub(r"\1", quoted[1])
    elif len(given) == 1 and _PLAIN.fullmatch(text):
        key = text
    else:
        key = ""
    if not 1 <= len(key) <= LONGEST:
        raise Rejected(
            f"The {HEADER} must be one text of 1 to {LONGEST} plain characters, in "
            "quotes: such as a new UUID for each thing that you ask for.",
            field=HEADER,
        )
    return key


def without_secret() -> Conflict:
    """Return what is said where the first answer held a secret: it is not kept."""
    return Conflict(
        f"This has been done under the same {HEADER}, and the secret in its answer was "
        "shown that once. If it was lost, rotate or withdraw what was made, or ask "
        "again under a new key."
    )


@frozen
class Running:
    """What is being done just now in this process, for one event loop."""

    _requests: set[UUID] = field(factory=set, init=False)

    @contextmanager
    def only(self, request_id: UUID) -> Iterator[None]:
        """Be the one who does it.  Raises `StillRunning` if somebody does already."""
        if request_id in self._requests:
            raise StillRunning(
                f"The same request, under the same {HEADER}, is being carried out: "
                "ask again in a moment."
            )
        self._requests.add(request_id)
        try:
            yield
        finally:
            self._requests.discard(request_id)
