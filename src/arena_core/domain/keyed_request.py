"""Keyed request: what a caller asked for under an idempotency key has been done.

It is recorded in the very append that does it, so that neither is there without the
other.  Its stream is derived from who asked for what under which key: whoever asks
again meets the first.  The key lasts a day, and may then be used anew.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from attrs import frozen

from arena_core.domain.errors import AlreadyCarriedOut, KeyReused
from arena_core.domain.ids import Digest, RequestId

KIND = "request"
LIFETIME = timedelta(hours=24)


@frozen
class CarryOut:
    """Record that it is done; `digest` is that of all that was asked for."""

    request_id: RequestId
    method: str
    path: str
    digest: Digest


@frozen
class RequestCarriedOut:
    request_id: RequestId
    method: str
    path: str
    digest: Digest
    expires_at: datetime


Command: TypeAlias = CarryOut
Event: TypeAlias = RequestCarriedOut


@frozen
class KeyedRequest:
    id: RequestId
    digest: Digest
    expires_at: datetime
    uses: int
    """How often the key has been used for something new."""
    deleted: bool = False

    def is_known(self, digest: Digest, now: datetime) -> bool:
        """Say whether this has been asked for before.  Raises `KeyReused`."""
        if now >= self.expires_at:
            return False
        if digest != self.digest:
            raise KeyReused(
                "The Idempotency-Key has been used for another request: use a new one "
                "for each thing that you ask for.",
                field="Idempotency-Key",
            )
        return True


def decide(
    command: Command, state: KeyedRequest | None, now: datetime
) -> Sequence[Event]:
    """Return what is recorded.  Raises `AlreadyCarriedOut` or `KeyReused`."""
    if state is not None and state.is_known(command.digest, now):
        raise AlreadyCarriedOut("This has been done under the same Idempotency-Key.")
    return [
        RequestCarriedOut(
            command.request_id,
            command.method,
            command.path,
            command.digest,
            now + LIFETIME,
        )
    ]


def evolve(state: KeyedRequest | None, event: Event) -> KeyedRequest:
    uses = 0 if state is None else state.uses
    return KeyedRequest(event.request_id, event.digest, event.expires_at, uses + 1)
