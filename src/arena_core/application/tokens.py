"""Use cases of access tokens: issued, shown once, rotated, revoked."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import UUID

from attrs import field, frozen

from arena_core.application.callers import acting_user, is_operator
from arena_core.application.handling import Change
from arena_core.application.identity import is_held
from arena_core.application.memberships import enforce, joining, state_of
from arena_core.application.ports import Row
from arena_core.application.resources import TokenView, token_view
from arena_core.application.secrets import SECRET_BYTES, sealed, sha256_of
from arena_core.application.session import ALL, Page, Paging, Session, page
from arena_core.domain import credential
from arena_core.domain import user as users
from arena_core.domain.credential import AccessToken, Secret, TokenKind
from arena_core.domain.errors import Forbidden, NotFound, Rejected, Unavailable
from arena_core.domain.ids import TokenId, user_of
from arena_core.domain.values import Role, one_of


@frozen
class Issued:
    """A token with its secret text, which is shown this once and kept nowhere."""

    view: TokenView
    token: str = field(repr=False)


@frozen
class Minted:
    """A new secret: its text, and what is kept of it."""

    text: str = field(repr=False)
    secret: Secret


def mint(kind: str, of: UUID, random_bytes: Callable[[int], bytes]) -> Minted:
    """Return a new secret, whose text says what it is for."""
    text = sealed(f"arena_{kind}_{of.hex}", random_bytes(SECRET_BYTES))
    return Minted(text, Secret(sha256_of(text), text[-4:]))


@frozen
class Tokens:
    """A personal token is its user's own; an organisation's keys are its managers'."""

    session: Session
    random_bytes: Callable[[int], bytes]

    def issue(
        self,
        *,
        name: str,
        user: str | None = None,
        role: Role | str | None = None,
        kind: TokenKind | str = TokenKind.USER,
    ) -> Issued:
        """Issue a token: to oneself, or a key of the organisation.

        An operator issues personal tokens to anybody, who is registered and made a
        member by that.  `role`: what the token may do at most; None: what its user
        may do in the organisation, `member` of whoever is new there and of a key.
        """
        token_kind = one_of(TokenKind, kind, field="kind")
        most = None if role is None else one_of(Role, role, field="role")
        token_id = TokenId(self.session.core.new_id())
        minted = mint(token_kind.value, token_id, self.random_bytes)
        if token_kind is TokenKind.ORGANISATION:
            changes = self._for_organisation()
            user = name if user is None else user
        elif is_operator(self.session.caller):
            user = _named(user)
            most = most or self._role_of(user)
            changes = self._for_anybody(user, most, token_id)
        else:
            most = most or self.session.caller.role
            user, changes = self._for_oneself(user, most, token_id)
        command = credential.IssueAccessToken(
            token_id, token_kind, name, user, most or Role.MEMBER, minted.secret
        )
        self.session.execute(*changes, Change(credential, token_id, command))
        row = self.session.find(credential.KIND, token_id, deleted=True)
        return Issued(token_view(row), minted.text)

    def get(self, token_id: UUID) -> TokenView:
        """Return the token without its secret.  Raises `NotFound`."""
        return token_view(self._find(token_id))

    def list(self, *, paging: Paging = ALL) -> Page[TokenView]:
        """Return one's own live token; all of the organisation, to its managers."""
        everything = Paging(paging.after)
        rows = self.session.query(credential.KIND, paging=everything)
        seen = [row for row in rows if self._sees(row)]
        own = self._own_from_elsewhere()
        if own is not None and own.created_position > paging.after:
            seen = sorted([*seen, own], key=lambda row: row.created_position)
        return page(seen, token_view, paging)

    def rotate(self, token_id: UUID, *, reason: str | None = None) -> Issued:
        """Give the token a new secret.  The old one is dead when this returns."""
        state: AccessToken = self._find(token_id).state
        self._require_right_to_rotate(state)
        minted = mint(state.kind.value, token_id, self.random_bytes)
        command = credential.RotateAccessToken(minted.secret)
        change = Change(credential, token_id, command)
        # That some process hangs must not keep the new secret from its owner.
        with suppress(Unavailable):
            enforce(self.session, [change], reason=reason)
        return Issued(self.get(token_id), minted.text)

    def revoke(self, token_id: UUID, *, reason: str | None = None) -> None:
        """End the token for ever.  It is dead when this returns."""
        state: AccessToken = self._find(token_id, deleted=True).state
        self._require_right_to_revoke(state)
        changes = [Change(credential, token_id, credential.RevokeAccessToken())]
        if is_held(self.session.core, state):
            release = users.ReleaseToken(state.id)
            changes.append(Change(users, user_of(state.user), release))
        enforce(self.session, changes, reason=reason)

    # --- issuing -------------------------------------------------------------------

    def _for_organisation(self) -> Sequence[Change]:
        self._require_manager()
        return []

    def _for_oneself(
        self, name: str | None, most: Role, token_id: TokenId
    ) -> tuple[str, Sequence[Change]]:
        found = acting_user(self.session)
        if name is not None and (found is None or user_of(name) != found.id):
            raise Forbidden(
                "A personal token is issued by its own user only: invite whom you want "
                "to have one to the organisation."
            )
        if found is None:
            raise Forbidden(
                "Only a user has a personal token, and this credential is none of a "
                "registered user: have a manager invite you."
            )
        if not self.session.caller.role.covers(most):
            raise Forbidden(
                f"A token cannot be given the role {most.value} by one that has the "
                f"role {self.session.caller.role.value}."
            )
        return found.name, [Change(users, found.id, users.HoldToken(token_id))]

    def _role_of(self, name: str) -> Role:
        member = state_of(self.session).member(user_of(name))
        return Role.MEMBER if member is None else member.role

    def _for_anybody(
        self, name: str, role: Role, token_id: TokenId
    ) -> Sequence[Change]:
        where = self.session.caller.organisation
        joined = joining(self.session, name, role)
        commands = [users.ChooseOrganisation(where), users.HoldToken(token_id)]
        return [*joined, *(Change(users, user_of(name), c) for c in commands)]

    # --- who sees and changes what ---------------------------------------------------

    def _find(self, token_id: UUID, *, deleted: bool = False) -> Row:
        row = self.session.rows.get(token_id)
        if (
            row is None
            or row.kind != credential.KIND
            or (row.deleted and not deleted)
            or not self._sees(row)
        ):
            raise NotFound("There is no such token.")
        return row

    def _sees(self, row: Row) -> bool:
        caller, state = self.session.caller, row.state
        if self._is_own(state):
            return True
        if row.organisation != caller.organisation or caller.role is not Role.MANAGER:
            return False
        return self._is_of_organisation(state) or is_operator(caller)

    def _is_own(self, state: AccessToken) -> bool:
        if state.id == self.session.caller.actor.token_id:
            return True
        found = acting_user(self.session)
        if found is None or state.kind is not TokenKind.USER:
            return False
        return state.id == found.token or (
            state.deleted and user_of(state.user) == found.id
        )

    def _is_of_organisation(self, state: AccessToken) -> bool:
        """Say whether managers of where it was issued have to do with it.

        Not with what a user who has left goes on using elsewhere.
        """
        return (
            state.kind is TokenKind.ORGANISATION
            or not is_held(self.session.core, state)
            or state_of(self.session).member(user_of(state.user)) is not None
        )

    def _own_from_elsewhere(self) -> Row | None:
        found = acting_user(self.session)
        if found is None or found.token is None:
            return None
        row = self.session.rows.get(found.token)
        here = self.session.caller.organisation
        return None if row is None or row.organisation == here else row

    def _require_right_to_rotate(self, state: AccessToken) -> None:
        if state.kind is TokenKind.ORGANISATION:
            self._require_manager()
        elif not (self._bears(state) or is_operator(self.session.caller)):
            raise Forbidden(
                "A personal token is rotated by who bears it only: ask with the token "
                "itself, or revoke it instead."
            )

    def _bears(self, state: AccessToken) -> bool:
        """Say whether it is one's own, and not only what one has signed in with.

        Or whoever gets hold of a sign-in, which ends, had a token, which does not.
        """
        token_id = self.session.caller.actor.token_id
        return self._is_own(state) and token_id in (None, state.id)

    def _require_right_to_revoke(self, state: AccessToken) -> None:
        if state.kind is TokenKind.ORGANISATION:
            self._require_manager()

    def _require_manager(self) -> None:
        if self.session.caller.role is not Role.MANAGER:
            raise Forbidden(
                "The keys of an organisation are for its managers: this needs the role "
                "manager."
            )


def _named(name: str | None) -> str:
    if name is None:
        raise Rejected("Say for which user the token is.", field="user")
    return name
