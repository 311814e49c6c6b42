"""ETags, and what a request may demand by them (RFC 9110, section 13).

The ETag of a resource is `"<kind>-<id>:<versions>-<digest>"`: the versions of the
streams that it is made of, and a digest of the answer's bytes, for there is more in an
answer than streams.  If-Match compares the versions, in the very transaction that
writes; If-None-Match the whole tag.  Other answers have a weak tag of their digest.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from attrs import frozen

from arena_core.application.handling import Expected
from arena_core.application.session import Session
from arena_core.domain.errors import (
    PreconditionFailed,
    PreconditionRequired,
    Rejected,
)

ANY = "*"
_ITEM = re.compile(
    r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:(?:,[ \t]*)+|\Z)',
)
_VERSIONS = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})*)-[0-9a-f]{16}")


def _alone(resource_id: UUID) -> Sequence[UUID]:
    return (resource_id,)


@frozen
class Versioned:
    """A kind of resource that has an ETag; `streams`: what one is made of."""

    kind: str
    streams: Callable[[Any], Sequence[UUID]] = _alone

    def of(self, ids: Mapping[str, Any], resource: object = None) -> "Versions | None":
        """Return what to look at for the one that the path names, or the resource is.

        None if neither is one.
        """
        named = ids.get(f"{self.kind}_id", getattr(resource, "id", None))
        return None if named is None else Versions(self.kind, self.streams(named))


@frozen
class Versions:
    """The streams of one resource."""

    _kind: str
    streams: Sequence[UUID]

    def seen(self, session: Session) -> Sequence[int]:
        """Return the versions that they have, 0 of one that is not there."""
        rows = session.rows
        found = [rows.get(stream) for stream in self.streams]
        return [0 if row is None else row.version for row in found]

    def written(self, session: Session, seen: Sequence[int] = ()) -> Sequence[int]:
        """Return the versions that they have, after the session has changed some.

        Never later ones than what is shown: else a change by somebody else, which
        came in between, would be taken for seen.
        """
        made = session.attempt.versions
        pairs = zip(self.streams, seen or [0] * len(self.streams), strict=True)
        return [max(version, made.get(stream, 0)) for stream, version in pairs]

    def tag(self, versions: Sequence[int], body: bytes) -> str:
        """Return the ETag of `body`, which shows the resource at these versions."""
        numbers = ".".join(map(str, versions))
        return f'"{self._name}:{numbers}-{_digest(body)}"'

    def expected(self, tags: Sequence[str]) -> Expected:
        """Return what must be so for one of the tags to be that of the resource."""
        alternatives = (self._versions(tag) for tag in tags)
        return Expected(
            tuple(self.streams),
            frozenset(v for v in alternatives if len(v) == len(self.streams)),
        )

    @property
    def _name(self) -> str:
        return f"{self._kind}-{self.streams[0].hex[:8]}"

    def _versions(self, tag: str) -> tuple[int, ...]:
        prefix = f"{self._name}:"
        found = _VERSIONS.fullmatch(tag.removeprefix(prefix))
        if found is None or not tag.startswith(prefix):
            return ()
        return tuple(map(int, found[1].split(".")))


def weak_tag(body: bytes) -> str:
    """Return the ETag of an answer that is no one resource."""
    return f'W/"{_digest(body)}"'


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()[:16]


@frozen
class Conditions:
    """What a request says of the state of things in which it is to be answered."""

    if_match: str | None = None
    if_none_match: str | None = None

    def expected(
        self, versions: Versions | None, *, required: bool = False
    ) -> Expected | None:
        """Return what must be so for a change to be made; None: whatever there is.

        `required`: whether it must be said.  Raises `PreconditionRequired` if it is
        not, and `PreconditionFailed` for what can never be so.
        """
        if self.if_none_match is not None:
            raise PreconditionFailed(
                "If-None-Match is for reading: leave it out. The server gives the ids, "
                "so nothing is there before it is made; an Idempotency-Key makes sure "
                "that it is made once."
            )
        if self.if_match is None and required:
            raise PreconditionRequired(
                "This server takes no change without If-Match: send the ETag of what "
                "you have read."
            )
        tags = None if self.if_match is None else parsed_tags(self.if_match)
        if tags is None:
            return None
        if versions is None:
            raise PreconditionFailed("Nothing here has an ETag: leave If-Match out.")
        return versions.expected([tag for is_weak, tag in tags if not is_weak])

    def is_known(self, etag: str) -> bool:
        """Say whether who reads has the answer with this ETag already.

        Raises `PreconditionFailed` if it wants another answer or none.
        """
        is_weak, tag = (parsed_tags(etag) or [])[0]
        wanted = None if self.if_match is None else parsed_tags(self.if_match)
        if wanted is not None and (is_weak or (False, tag) not in wanted):
            raise PreconditionFailed("It has changed: read it without If-Match.")
        if self.if_none_match is None:
            return False
        try:
            known = parsed_tags(self.if_none_match)
        except Rejected:
            return False  # what cannot be read is not known
        return known is None or tag in {each for _, each in known}


def parsed_tags(text: str) -> list[tuple[bool, str]] | None:
    """Return the tags of a header, each with whether it is weak; None for any."""
    text = text.strip(" \t,")
    if text == ANY:
        return None
    tags: list[tuple[bool, str]] = []
    at = 0
    while at < len(text) or not tags:
        item = _ITEM.match(text, at)
        if item is None:
            raise Rejected(
                "If-Match must be an ETag in its quotes, several between commas, or *.",
                field="If-Match",
            )
        tags.append((item[1] is not None, item[2]))
        at = item.end()
    return tags
