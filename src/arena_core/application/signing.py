"""What an access token says, and the port of what signs it."""

from datetime import datetime
from typing import Protocol

from attrs import frozen

from arena_core.domain.ids import SignInId


@frozen
class Claims:
    """Times are whole seconds: that is all that a token can say of them."""

    sign_in_id: SignInId
    user: str
    issued_at: datetime
    expires_at: datetime


class TokenSigner(Protocol):
    """Signs claims, and knows its own signature.  Safe to use from several threads."""

    def sign(self, claims: Claims) -> str:
        """Return the claims as a text that nobody else can make."""
        ...

    def verify(self, token: str, now: datetime) -> Claims:
        """Return what was signed.

        Raises `Unauthenticated` for what was not signed here, or not for this use, or
        has expired, and for whatever is no token at all.
        """
        ...
