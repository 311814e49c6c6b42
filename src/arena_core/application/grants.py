"""What a client holds that is signed in, and whom it acts for.

The access token is signed and lives for minutes, the refresh token is derived and
lives as long as the sign-in; neither is kept.  And neither is enough by itself: at
each use the log says whether the sign-in lives, whether the token that approved it is
as it was then, and what its user may do now.
"""

import hmac
from datetime import datetime, timedelta

from attrs import field, frozen

from arena_core.application.callers import REFUSAL, caller_of_user, latest
from arena_core.application.ports import Row
from arena_core.application.secrets import id_in, is_intact, sealed
from arena_core.application.session import Core
from arena_core.application.signing import Claims
from arena_core.domain import sign_in
from arena_core.domain.errors import Flaw, Unauthenticated
from arena_core.domain.ids import SignInId, TokenId
from arena_core.domain.sign_in import SignIn, Status
from arena_core.domain.values import Caller

ACCESS = timedelta(minutes=15)
"""How long an access token lives: clients that sign out are dead long before."""
REFRESH = timedelta(days=30)
"""How long a sign-in lives, however often it is refreshed."""
PREFIX = "arena_ref"


@frozen
class Grant:
    """The tokens of a client that is signed in, and how long they live."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_s: int
    refresh_expires_in_s: int


def grant(core: Core, state: SignIn, now: datetime) -> Grant:
    """Return the tokens of a live sign-in: a new one, and always the same other one."""
    expires_at = min(now + ACCESS, state.expires_at)
    claims = Claims(state.id, state.user, now, expires_at)
    return Grant(
        core.signer.sign(claims),
        refresh_token(core, state.id),
        seconds(now, expires_at),
        seconds(now, state.expires_at),
    )


def refresh_token(core: Core, sign_in_id: SignInId) -> str:
    mac = hmac.digest(core.master.key("refresh-token"), sign_in_id.bytes, "sha256")
    return sealed(f"{PREFIX}_{sign_in_id.hex}", mac)


def refreshed_by(core: Core, token: str) -> Row | None:
    """Return the sign-in, live or over, of a refresh token; None: it is not ours."""
    if not is_intact(token):
        return None
    sign_in_id = SignInId(id_in(token))
    genuine = hmac.compare_digest(token, refresh_token(core, sign_in_id))
    return _row(core, sign_in_id) if genuine else None


def caller_of(core: Core, access_token: str) -> Caller:
    """Return whom the client acts for that bears it.  Raises `Unauthenticated`."""
    claims = core.signer.verify(access_token, core.clock())
    key = (sign_in.KIND, claims.sign_in_id)
    return core.views.known(key, lambda: _signed_in(core, claims.sign_in_id))


def _signed_in(core: Core, sign_in_id: SignInId) -> Caller:
    row = _row(core, sign_in_id)
    if row is None or row.state.status is not Status.LIVE:
        raise Unauthenticated(REFUSAL, flaw=Flaw.REVOKED)
    return acted_for(core, row)


def acted_for(core: Core, row: Row) -> Caller:
    """Return what the user of a sign-in may do now, if it is still theirs.

    A sign-in ends with the token that approved it: whoever revokes or rotates that,
    because others may have it, shuts them out of whatever they approved with it.
    Raises `Unauthenticated`.
    """
    state: SignIn = row.state
    token = latest(core, state.token_id)
    if token is None or token.position > row.created_position:
        raise Unauthenticated(REFUSAL, flaw=Flaw.REVOKED)
    as_bearer = TokenId(state.id)
    return caller_of_user(core, state.user, token_id=as_bearer, most=state.role)


def _row(core: Core, sign_in_id: SignInId) -> Row | None:
    row = latest(core, sign_in_id)
    return None if row is None or row.kind != sign_in.KIND else row


def seconds(now: datetime, until: datetime) -> int:
    return int((until - now).total_seconds())
