"""Use cases of organisations: who belongs to one, and in which role."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from attrs import frozen

from arena_core.application.callers import acting_user, is_operator
from arena_core.application.handling import Change
from arena_core.application.identity import is_held
from arena_core.application.memberships import (
    enforce,
    inside,
    joining,
    moved,
    orders,
    state_of,
    view_of,
    views_of_all,
)
from arena_core.application.resources import MemberView, OrganisationView
from arena_core.application.session import ALL, Page, Paging, Session
from arena_core.domain import credential, organisation
from arena_core.domain import user as users
from arena_core.domain.credential import TokenKind
from arena_core.domain.errors import Forbidden, NotFound
from arena_core.domain.ids import OrganisationId, UserId, organisation_of, user_of
from arena_core.domain.values import Role, one_of


class Numbered(Protocol):
    @property
    def number(self) -> int: ...


N = TypeVar("N", bound=Numbered)
V = TypeVar("V")


def part(items: Sequence[N], view: Callable[[N], V], paging: Paging) -> Page[V]:
    """Return a page of what is numbered in the order of its creation."""
    left = [item for item in items if item.number > paging.after]
    shown = left[: paging.limit]
    more = len(shown) < len(left)
    return Page([view(item) for item in shown], shown[-1].number if more else None)


def _view(member: organisation.Member) -> MemberView:
    return MemberView(member.name, member.role)


@frozen
class Organisations:
    """Rights are those in the caller's current organisation; see `inside`."""

    session: Session

    def create(self, name: str, *, manager: str | None = None) -> OrganisationView:
        """Create an organisation, whose manager is the user who asks.

        An operator says who it is, and makes them a user by that; None: nobody yet.
        """
        where = OrganisationId(str(self.session.core.new_id()))
        there = moved(self.session, where)
        founder = self._founder(manager)
        create = organisation.CreateOrganisation(where, name)
        joined = [] if founder is None else joining(there, founder, Role.MANAGER)
        there.execute(Change(organisation, organisation_of(where), create), *joined)
        return Organisations(there).get(where)

    def get(self, organisation_id: str) -> OrganisationView:
        """Return one of the caller's organisations.  Raises `NotFound`."""
        found = view_of(self.session, OrganisationId(organisation_id))
        if found is None:
            raise NotFound("There is no such organisation.")
        return found

    def list(self) -> Sequence[OrganisationView]:
        """Return the caller's organisations; all, to an operator."""
        return views_of_all(self.session)

    def rename(self, organisation_id: str, name: str) -> OrganisationView:
        there = inside(self.session, organisation_id)
        rename = organisation.RenameOrganisation(name)
        there.execute(*orders(there.caller.organisation, rename))
        return self.get(organisation_id)

    def members(
        self, organisation_id: str, *, paging: Paging = ALL
    ) -> Page[MemberView]:
        """Return the members, in the order of joining."""
        return part(
            state_of(inside(self.session, organisation_id)).members, _view, paging
        )

    def member(self, organisation_id: str, user: str) -> MemberView:
        """Return a member.  Raises `NotFound`."""
        there = inside(self.session, organisation_id)
        found = state_of(there).member(user_of(user))
        if found is None:
            raise NotFound("There is no such member.")
        return _view(found)

    def change_role(
        self, organisation_id: str, user: str, role: Role | str
    ) -> MemberView:
        """Give a member another role.  It is enforced when this returns."""
        there = inside(self.session, organisation_id)
        change = organisation.ChangeRole(user, one_of(Role, role, field="role"))
        enforce(there, orders(there.caller.organisation, change))
        return self.member(organisation_id, user)

    def remove(
        self, organisation_id: str, user: str, *, reason: str | None = None
    ) -> None:
        """Remove a member: a manager anybody, everybody themself.

        What they own passes to the manager who asks, or else to the eldest one.  They
        have no access when this returns.
        """
        there = inside(self.session, organisation_id)
        me, user_id = acting_user(there), user_of(user)
        leaving = me is not None and me.id == user_id
        if there.caller.role is not Role.MANAGER and not leaving:
            raise Forbidden("To remove somebody else needs the role manager.")
        where = there.caller.organisation
        successor = None if me is None else me.name
        changes = [
            *orders(where, organisation.RemoveMember(user, successor)),
            Change(users, user_id, users.LeaveOrganisation(where)),
            *_revocations(there, user_id),
        ]
        enforce(there, changes, reason=reason)

    def _founder(self, manager: str | None) -> str | None:
        if is_operator(self.session.caller):
            return manager
        me = acting_user(self.session)
        if me is None or manager is not None:
            raise Forbidden(
                "Only a registered user creates an organisation, and is its manager."
            )
        return me.name


def _revocations(there: Session, user_id: UserId) -> Sequence[Change]:
    """Return the end of what was issued to the user before there were users."""
    return [
        Change(credential, row.id, credential.RevokeAccessToken())
        for row in there.query(credential.KIND)
        if row.state.kind is TokenKind.USER
        and user_of(row.state.user) == user_id
        and not is_held(there.core, row.state)
    ]
