"""What a caller has to do with organisations: with which, as what, and where now."""

from collections.abc import Sequence

from attrs import evolve

from arena_core.application.agreement import AGREEMENT_S
from arena_core.application.callers import acting_user, is_operator, role_in
from arena_core.application.handling import Change
from arena_core.application.ports import Query, Row
from arena_core.application.resources import OrganisationView
from arena_core.application.session import Session
from arena_core.domain import organisation
from arena_core.domain import user as users
from arena_core.domain.errors import Conflict, NotFound, Unavailable
from arena_core.domain.ids import OrganisationId, organisation_of, user_of
from arena_core.domain.organisation import Organisation
from arena_core.domain.user import User
from arena_core.domain.values import Role


def row_of(session: Session, where: OrganisationId) -> Row | None:
    """Return what the log says of an organisation; None if it says nothing, yet."""
    return session.rows.get(organisation_of(where))


def state_of(session: Session) -> Organisation:
    """Return the session's own organisation."""
    where = session.caller.organisation
    row = row_of(session, where)
    return Organisation(where, where) if row is None else row.state


def role_there(session: Session, where: OrganisationId) -> Role | None:
    """Return the caller's role in an organisation; None: it is as if it were not.

    As it is now, whatever is looked at: the past is for who belongs to it today.
    """
    me = acting_user(session)
    if me is not None:
        return role_in(session.core, where, me.id)
    if where == session.caller.organisation:
        return session.caller.role
    there = is_operator(session.caller) and row_of(session, where) is not None
    return Role.MANAGER if there else None


def view_of(session: Session, where: OrganisationId) -> OrganisationView | None:
    """Return an organisation; None if it is not there for this caller, or not yet."""
    role = role_there(session, where)
    if role is None:
        return None
    row = row_of(session, where)
    if row is None:
        implied = where == session.caller.organisation
        return OrganisationView(where, where, role, None) if implied else None
    me = acting_user(session)
    member = None if me is None else row.state.member(me.id)
    role = role if member is None else member.role
    return OrganisationView(where, row.state.name, role, row.created_at)


def profile(session: Session) -> User | None:
    """Return the user who asks, as of the session; None if it was none."""
    me = acting_user(session)
    row = None if me is None else session.rows.get(me.id)
    return None if row is None else row.state


def views_of_all(session: Session) -> list[OrganisationView]:
    """Return the caller's organisations; all, to an operator."""
    found = (view_of(session, where) for where in _known_to(session))
    return [view for view in found if view is not None]


def _known_to(session: Session) -> Sequence[OrganisationId]:
    me = profile(session)
    if me is not None:
        return me.organisations
    known = []
    if is_operator(session.caller):
        rows = session.rows.find(Query(organisation.KIND, None))
        known = [row.state.id for row in rows]
    here = session.caller.organisation
    return known if here in known else [here, *known]


def inside(session: Session, organisation_id: str) -> Session:
    """Return the caller's session in an organisation, which must be the current one.

    Rights are those of the current one; only an operator's are the same everywhere.
    """
    where = OrganisationId(organisation_id)
    if where == session.caller.organisation:
        return session
    if role_there(session, where) is None:
        raise NotFound("There is no such organisation.")
    if not is_operator(session.caller):
        raise Conflict(
            "This is not your current organisation: make it that first, as your own "
            "current_organisation."
        )
    return moved(session, where)


def moved(session: Session, where: OrganisationId) -> Session:
    """Return the same caller's session in another organisation."""
    return evolve(session, caller=evolve(session.caller, organisation=where))


def joining(session: Session, name: str, role: Role) -> Sequence[Change]:
    """Return what makes somebody a user, and a member of the session's organisation.

    They are not asked: it is for themselves, and for operators.
    """
    where, user_id = session.caller.organisation, user_of(name)
    registered = session.rows.get(user_id) is not None
    register = [] if registered else [Change(users, user_id, users.RegisterUser(name))]
    return [
        *register,
        *orders(where, organisation.AddMember(name, role)),
        Change(users, user_id, users.JoinOrganisation(where)),
    ]


def orders(where: OrganisationId, *commands: object) -> Sequence[Change]:
    """Return commands for an organisation, which comes to be with the first of them."""
    stream = organisation_of(where)
    create = organisation.CreateOrganisation(where, where)
    return [Change(organisation, stream, command) for command in (create, *commands)]


def enforce(
    session: Session, changes: Sequence[Change], *, reason: str | None = None
) -> None:
    """Carry out what ends or changes rights; all processes know when this returns."""
    done = session.execute(*changes, reason=reason)
    if not session.core.agreement.all_followed(done.position, AGREEMENT_S):
        raise Unavailable(
            "It is done, but not every process of the server has followed: what was "
            "begun there may go on until that does."
        )
