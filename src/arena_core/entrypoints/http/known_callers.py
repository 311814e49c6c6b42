"""Callers who were found good a moment ago, and are so while the log stands still.

Users of the public client call agents with their own tokens.  To look one up at every
step of an episode would take several times as long as the policy.  What is found is
forgotten as soon as this process has followed the log any further; and whoever ends a
token or a right is answered when every process has.
"""

import time
from collections.abc import Callable
from hashlib import sha256

from attrs import frozen

from arena_core.application.views import Views
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import ActorKind, Caller

LONGEST_S = 1.0
"""So long at most somebody is known, for some credentials end by themselves."""
MOST = 4096


@frozen
class _Found:
    caller: Caller
    position: int
    until_s: float


class KnownCallers:
    """Of one event loop.  Nothing of a credential is kept but its SHA-256."""

    def __init__(
        self, views: Views, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._views = views
        self._clock = clock
        self._found: dict[bytes, _Found] = {}

    @property
    def position(self) -> int:
        """How far this process has followed the log: to be read before one looks."""
        return self._views.position

    def add(self, authorization: bytes, caller: Caller, position: int) -> None:
        """Know a user by their header; it was looked up no earlier than at `position`.

        Others are not known: what they are depends on more than that header.
        """
        if caller.actor.kind is not ActorKind.USER:
            return
        if len(self._found) >= MOST:
            self._found.clear()
        until_s = self._clock() + LONGEST_S
        self._found[_digest(authorization)] = _Found(caller, position, until_s)

    def get(self, authorization: bytes, organisation: OrganisationId) -> Caller | None:
        """Return who bears the header, if that is known, and of that organisation."""
        found = self._found.get(_digest(authorization))
        if (
            found is None
            or found.caller.organisation != organisation
            or found.position != self._views.position
            or self._views.halted is not None
            or self._clock() > found.until_s
        ):
            return None
        return found.caller


def _digest(authorization: bytes) -> bytes:
    return sha256(authorization).digest()
