"""Use cases of invitations: how somebody comes into an organisation, if they want to.

Whether a name is known elsewhere makes no difference to what a manager is answered.
"""

import hmac
from collections.abc import Callable, Sequence
from uuid import UUID

from attrs import field, frozen

from arena_core.application.callers import latest
from arena_core.application.handling import Change
from arena_core.application.identity import user_bearing
from arena_core.application.memberships import inside, orders, state_of
from arena_core.application.organisations import Organisations, part
from arena_core.application.resources import InvitationView, OrganisationView
from arena_core.application.secrets import id_in, is_intact, sha256_of
from arena_core.application.session import ALL, Core, Page, Paging, Session
from arena_core.application.tokens import mint
from arena_core.domain import credential, organisation
from arena_core.domain import user as users
from arena_core.domain.credential import TokenKind
from arena_core.domain.errors import AlreadyExists, Flaw, Unauthenticated
from arena_core.domain.ids import (
    InvitationId,
    OrganisationId,
    TokenId,
    UserId,
    organisation_of,
)
from arena_core.domain.organisation import NOT_OPEN, Invitation
from arena_core.domain.user import DescribeUser
from arena_core.domain.values import Actor, ActorKind, Caller, Role, one_of

KIND = "inv"
"""The second part of an invitation's text; the third is the organisation's stream."""


@frozen
class Invited:
    """An invitation with its secret text, which is shown this once."""

    view: InvitationView
    token: str = field(repr=False)


@frozen
class Accepted:
    organisation: OrganisationView
    user: str
    token: str | None = field(repr=False)
    """The new user's personal token, shown this once; None for one who was there."""


def _view(invitation: Invitation) -> InvitationView:
    return InvitationView(
        invitation.id, invitation.user, invitation.role, invitation.expires_at
    )


@frozen
class Invitations:
    session: Session
    random_bytes: Callable[[int], bytes]

    def invite(
        self, organisation_id: str, user: str, *, role: Role | str = Role.MEMBER
    ) -> Invited:
        """Invite whoever signs in as `user`, whether they are a user yet or not.

        An earlier invitation of the same name is void then.
        """
        there = inside(self.session, organisation_id)
        where = there.caller.organisation
        invitation_id = InvitationId(there.core.new_id())
        minted = mint(KIND, organisation_of(where), self.random_bytes)
        invite = organisation.InviteMember(
            invitation_id, user, one_of(Role, role, field="role"), minted.secret
        )
        there.execute(*orders(where, invite))
        open_ = state_of(there).invitations
        made = next(i for i in open_ if i.id == invitation_id)
        return Invited(_view(made), minted.text)

    def list(
        self, organisation_id: str, *, paging: Paging = ALL
    ) -> Page[InvitationView]:
        """Return what was neither accepted nor withdrawn; some of it may be over."""
        there = inside(self.session, organisation_id)
        return part(state_of(there).invitations, _view, paging)

    def withdraw(
        self, organisation_id: str, invitation_id: UUID, *, reason: str | None = None
    ) -> None:
        """Take an invitation back."""
        there = inside(self.session, organisation_id)
        withdraw = organisation.WithdrawInvitation(InvitationId(invitation_id))
        there.execute(*orders(there.caller.organisation, withdraw), reason=reason)

    def accept(
        self,
        token: str,
        *,
        described: DescribeUser | None = None,
        bearing: str | None = None,
    ) -> Accepted:
        """Join the organisation that an invitation is of.

        Whoever is no user yet becomes one, `described` so, and gets a personal token.
        A user must bear a live credential of their own, or managers could join in the
        name of others.  Raises `Unauthenticated`, never saying why.
        """
        core = self.session.core
        where, invitation = _open(core, token)
        row = latest(core, invitation.user_id)
        name = invitation.user if row is None else row.state.name
        actor = Actor(ActorKind.USER, name)
        there = Session(core, Caller(where, actor, invitation.role))
        if row is None:
            text = self._enter(there, invitation, described or DescribeUser())
        else:
            _require_same(core, bearing, invitation.user_id)
            there.execute(*_acceptance(there, invitation))
            text = None
        return Accepted(Organisations(there).get(where), name, text)

    def _enter(
        self, there: Session, invitation: Invitation, described: DescribeUser
    ) -> str:
        """Accept as somebody who is no user yet; return their personal token."""
        user_id, name = invitation.user_id, invitation.user
        token_id = TokenId(there.core.new_id())
        minted = mint(TokenKind.USER.value, token_id, self.random_bytes)
        # The token may do whatever its user may, here and elsewhere.
        issue = credential.IssueAccessToken(
            token_id, TokenKind.USER, "invitation", name, Role.MANAGER, minted.secret
        )
        accept, join = _acceptance(there, invitation)
        of_user = (users.RegisterUser(name), described, users.HoldToken(token_id))
        try:
            there.execute(
                accept,
                *(Change(users, user_id, command) for command in of_user),
                join,
                Change(credential, token_id, issue),
            )
        except AlreadyExists as error:  # they have become one meanwhile
            raise Unauthenticated(NOT_OPEN, flaw=Flaw.MISSING) from error
        return minted.text


def _acceptance(there: Session, invitation: Invitation) -> Sequence[Change]:
    where = there.caller.organisation
    accept = organisation.AcceptInvitation(invitation.id)
    return [
        Change(organisation, organisation_of(where), accept),
        Change(users, invitation.user_id, users.JoinOrganisation(where)),
    ]


def _open(core: Core, token: str) -> tuple[OrganisationId, Invitation]:
    """Return the invitation with this text, and the organisation that it is of."""
    if not (token.startswith(f"arena_{KIND}_") and is_intact(token)):
        raise Unauthenticated(NOT_OPEN, flaw=Flaw.MALFORMED)
    row = latest(core, id_in(token))
    if row is not None and row.kind == organisation.KIND:
        sha256 = sha256_of(token)
        for invitation in row.state.invitations:
            if hmac.compare_digest(invitation.secret.sha256, sha256):
                return row.state.id, invitation
    raise Unauthenticated(NOT_OPEN)


def _require_same(core: Core, bearing: str | None, user_id: UserId) -> None:
    if bearing is not None:
        try:
            if user_bearing(core, bearing) == user_id:
                return
        except Unauthenticated as error:
            raise Unauthenticated(NOT_OPEN, flaw=error.flaw) from None
    raise Unauthenticated(NOT_OPEN, flaw=Flaw.MISSING)
