"""Who is asking: known by the SHA-256 of a token, or by a signed access token.

Nothing is remembered beyond the head of the log: what it says of tokens, roles and
members is enforced from that position on, by every process.
"""

import hmac

from arena_core.application import grants
from arena_core.application.callers import REFUSAL, caller_of_user, latest, role_in
from arena_core.application.secrets import id_in, is_intact, sha256_of
from arena_core.application.session import Core
from arena_core.domain import credential
from arena_core.domain.credential import AccessToken, TokenKind
from arena_core.domain.errors import Flaw, Unauthenticated
from arena_core.domain.ids import OrganisationId, UserId, user_of
from arena_core.domain.values import Actor, ActorKind, Caller, Role, trimmed

EXTERNAL_USER = "X-External-User-Id"
SIGNED = "eyJ"
"""How the text of an access token begins: it is a JWT."""


def authenticate(core: Core, token: str, *, external_user: str | None = None) -> Caller:
    """Return who bears `token`.  Raises `Unauthenticated`, never saying why.

    An organisation's key speaks for the `external_user` that comes with it.
    """
    if token.startswith(SIGNED):
        return grants.caller_of(core, token)
    if not is_intact(token):
        raise Unauthenticated(REFUSAL, flaw=Flaw.MALFORMED)
    sha256 = sha256_of(token)
    return core.views.known(
        (sha256, external_user), lambda: _bearer(core, token, external_user)
    )


def _bearer(core: Core, token: str, external_user: str | None) -> Caller:
    state, organisation = token_bearing(core, token)
    if state.kind is TokenKind.ORGANISATION:
        name = trimmed(external_user, field=EXTERNAL_USER) if external_user else ""
        actor = Actor(ActorKind.EXTERNAL, name or state.user, state.id)
        return Caller(organisation, actor, state.role)
    if is_held(core, state):
        return caller_of_user(core, state.user, token_id=state.id, most=state.role)
    return _as_it_was_issued(core, state, organisation)


def token_bearing(core: Core, token: str) -> tuple[AccessToken, OrganisationId]:
    """Return the live token of this text, and the organisation that it was issued in.

    Raises `Unauthenticated`.
    """
    state, organisation = _look_up(core, token)
    # The same work is done for an id that nobody has.
    expected = state.secret.sha256 if state else sha256_of("")
    genuine = hmac.compare_digest(expected, sha256_of(token))
    if not genuine or state is None or state.deleted:
        raise Unauthenticated(REFUSAL, flaw=_flaw(state))
    return state, organisation


def user_bearing(core: Core, token: str) -> UserId | None:
    """Return the registered user who bears `token`, even if of no organisation.

    Raises `Unauthenticated` if nobody does.
    """
    if token.startswith(SIGNED):
        return user_of(authenticate(core, token).actor.name)
    if not is_intact(token):
        raise Unauthenticated(REFUSAL, flaw=Flaw.MALFORMED)
    state, _ = token_bearing(core, token)
    return user_of(state.user) if is_held(core, state) else None


def is_held(core: Core, state: AccessToken) -> bool:
    """Say whether it is the live personal token of a user who is registered."""
    row = latest(core, user_of(state.user))
    return row is not None and row.state.token == state.id


def _as_it_was_issued(
    core: Core, state: AccessToken, organisation: OrganisationId
) -> Caller:
    """Return the bearer of a token from before there were users.

    It stays in its organisation, and does no more there than a member of that name.
    """
    member = role_in(core, organisation, user_of(state.user)) or Role.MANAGER
    actor = Actor(ActorKind.USER, state.user, state.id)
    return Caller(organisation, actor, state.role.at_most(member))


def _flaw(state: AccessToken | None) -> Flaw:
    if state is None:
        return Flaw.UNKNOWN
    return Flaw.REVOKED if state.deleted else Flaw.ROTATED


def _look_up(core: Core, token: str) -> tuple[AccessToken | None, OrganisationId]:
    row = latest(core, id_in(token))
    if row is None or row.kind != credential.KIND:
        return None, OrganisationId("")
    return row.state, row.organisation
