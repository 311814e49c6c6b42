"""Access tokens as JSON Web Tokens (RFC 7519), by PyJWT.

Clients read `exp` to renew them in time, and nothing else.  What is accepted is what
`sign` writes: one algorithm, one issuer, one audience, and all of the claims.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from attrs import field, frozen

from arena_core.application.signing import Claims
from arena_core.domain.errors import Flaw, Unauthenticated
from arena_core.domain.ids import SignInId

ALGORITHM = "HS256"
ISSUER = "arena-core"
AUDIENCE = "arena-core-api"
CLAIMS = {"iss", "aud", "sub", "sid", "iat", "exp"}
"""All that a token says: one that says more is not ours."""
LONGEST = 4096
"""No token of ours has more characters."""
REFUSAL = "The access token is not valid, or has expired: sign in again."


@frozen
class JsonWebTokens:
    _key: bytes = field(repr=False)

    def sign(self, claims: Claims) -> str:
        # Takes 40 ms, and few processes ever sign anything in.
        import jwt  # noqa: PLC0415

        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": claims.user,
            "sid": str(claims.sign_in_id),
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
        }
        return jwt.encode(payload, self._key, ALGORITHM)

    def verify(self, token: str, now: datetime) -> Claims:
        if len(token) > LONGEST:
            raise Unauthenticated(REFUSAL, flaw=Flaw.MALFORMED)
        claims = _claims(self._payload(token))
        if not claims.issued_at <= now < claims.expires_at:
            raise Unauthenticated(REFUSAL, flaw=Flaw.REVOKED)
        return claims

    def _payload(self, token: str) -> dict[str, Any]:
        import jwt  # noqa: PLC0415

        try:
            return jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                # By the clock that we are given, not by the machine's.
                options={
                    "strict_aud": True,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Unauthenticated(REFUSAL, flaw=Flaw.MALFORMED) from error


def _claims(payload: dict[str, Any]) -> Claims:
    """Return what a payload says.  Raises `Unauthenticated` if we never say that."""
    if payload.keys() != CLAIMS:
        raise Unauthenticated(REFUSAL, flaw=Flaw.MALFORMED)
    try:
        return Claims(
            SignInId(UUID(payload["sid"])),
            payload["sub"],
            datetime.fromtimestamp(payload["iat"], UTC),
            datetime.fromtimestamp(payload["exp"], UTC),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise Unauthenticated(REFUSAL, flaw=Flaw.MALFORMED) from error
