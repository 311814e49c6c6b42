"""Who is asking: access tokens, issued once, known again by their SHA-256."""

import hashlib
import hmac
from collections.abc import Callable
from uuid import UUID

from attrs import field, frozen

from arena_core.application.handling import Change
from arena_core.application.ports import Row
from arena_core.application.resources import TokenView, token_view
from arena_core.application.secrets import SECRET_BYTES, is_intact, sealed
from arena_core.application.session import ALL, Core, Page, Paging, Session, page
from arena_core.domain import credential
from arena_core.domain.errors import Corrupt, Flaw, Unauthenticated
from arena_core.domain.ids import DEFAULT_ORGANISATION, OrganisationId, TokenId
from arena_core.domain.values import Actor, ActorKind, Caller, Role, one_of, trimmed

REFUSAL = "The credential is missing, unknown, rotated or revoked: use a live token."


@frozen
class Issued:
    """A token with its secret text, which is shown this once and kept nowhere."""

    view: TokenView
    token: str = field(repr=False)


@frozen
class Tokens:
    session: Session
    random_bytes: Callable[[int], bytes]

    def issue(
        self,
        *,
        name: str,
        user: str,
        role: Role | str = Role.MEMBER,
        kind: credential.TokenKind | str = credential.TokenKind.USER,
    ) -> Issued:
        """Issue an access token of the organisation."""
        token_id = TokenId(self.session.core.new_id())
        token_kind = one_of(credential.TokenKind, kind, field="kind")
        text, secret = self._mint(token_kind, token_id)
        command = credential.IssueAccessToken(
            token_id,
            token_kind,
            name,
            user,
            one_of(Role, role, field="role"),
            secret,
        )
        self.session.execute(Change(credential, token_id, command))
        return Issued(self.get(token_id), text)

    def get(self, token_id: UUID) -> TokenView:
        """Return the token without its secret.  Raises `NotFound`."""
        return token_view(self.session.find(credential.KIND, token_id))

    def list(self, *, paging: Paging = ALL) -> Page[TokenView]:
        """Return the organisation's live tokens, without their secrets."""
        rows = self.session.query(credential.KIND, paging=paging)
        return page(rows, token_view, paging)

    def rotate(self, token_id: UUID, *, reason: str | None = None) -> Issued:
        """Give the token a new secret.  The old one is dead when this returns."""
        row = self.session.find(credential.KIND, token_id)
        text, secret = self._mint(row.state.kind, TokenId(token_id))
        self._execute(token_id, credential.RotateAccessToken(secret), reason)
        return Issued(self.get(token_id), text)

    def revoke(self, token_id: UUID, *, reason: str | None = None) -> None:
        """End the token for ever.  It is dead when this returns."""
        self.session.find(credential.KIND, token_id, deleted=True)
        self._execute(token_id, credential.RevokeAccessToken(), reason)

    def _execute(self, token_id: UUID, command: object, reason: str | None) -> None:
        self.session.execute(Change(credential, token_id, command), reason=reason)

    def _mint(
        self, kind: credential.TokenKind, token_id: TokenId
    ) -> tuple[str, credential.Secret]:
        text = sealed(
            f"arena_{kind.value}_{token_id.hex}", self.random_bytes(SECRET_BYTES)
        )
        return text, credential.Secret(_sha256(text), text[-4:])


def authenticate(core: Core, token: str, *, external_user: str | None = None) -> Caller:
    """Return who bears `token`.  Raises `Unauthenticated`, never saying why.

    An organisation's token speaks for the `external_user` that comes with it.
    """
    if not is_intact(token):
        raise Unauthenticated(REFUSAL, flaw=Flaw.MALFORMED)
    state, organisation = _look_up(core, token)
    # The same work is done for an id that nobody has.
    expected = state.secret.sha256 if state else _sha256("")
    genuine = hmac.compare_digest(expected, _sha256(token))
    if not genuine or state is None or state.deleted:
        raise Unauthenticated(REFUSAL, flaw=_flaw(state))
    user = state.user
    if state.kind is credential.TokenKind.ORGANISATION and external_user:
        user = trimmed(external_user, field="X-External-User-Id")
    return Caller(organisation, Actor(ActorKind.USER, user, state.id), state.role)


def _flaw(state: credential.AccessToken | None) -> Flaw:
    if state is None:
        return Flaw.UNKNOWN
    return Flaw.REVOKED if state.deleted else Flaw.ROTATED


def _look_up(
    core: Core, token: str
) -> tuple[credential.AccessToken | None, OrganisationId]:
    row = _latest(core, _token_id(token))
    if row is None or row.kind != credential.KIND:
        return None, DEFAULT_ORGANISATION
    return row.state, row.organisation


def _latest(core: Core, token_id: UUID) -> Row | None:
    """Return the token's row; from the log itself if the read model has stopped."""
    core.views.catch_up()
    if core.views.halted is None:
        return core.views.rows.get(token_id)
    try:
        return core.views.present(token_id)
    except Corrupt:
        return None


def _token_id(token: str) -> UUID:
    # At most three cuts: what a secret holds is its own business.
    parts = token.split("_", 3)
    try:
        return UUID(hex=parts[2])
    except (IndexError, ValueError):
        return UUID(int=0)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
