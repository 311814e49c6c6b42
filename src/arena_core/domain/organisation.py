"""Organisation: who belongs to it and in which role, and who is invited.

An invitation is open until it is accepted, withdrawn, replaced by another for the same
name, or over.  Somebody who is a member is never invited.  There is a manager from the
first one on: the last can be neither removed nor made anything less.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import frozen

from arena_core.domain.credential import Secret
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    NotFound,
    Unauthenticated,
)
from arena_core.domain.ids import InvitationId, OrganisationId, UserId, user_of
from arena_core.domain.values import Role, login_name, shown, trimmed

KIND = "organisation"
OPEN_FOR = timedelta(days=7)
NOT_OPEN = (
    "This invitation is not open, or it is for a user who must accept it with their "
    "own credential: ask a manager for another if it is not."
)
LAST_MANAGER = (
    "This is the organisation's last manager: make somebody else a manager first."
)


@frozen
class CreateOrganisation:
    """Make it; one that is there already stays as it is."""

    id: OrganisationId
    name: str


@frozen
class RenameOrganisation:
    name: str


@frozen
class AddMember:
    """Make somebody a member without an invitation; never lowers a role."""

    user: str
    role: Role


@frozen
class InviteMember:
    """Invite whoever signs in as `user`.  An earlier invitation is void then."""

    invitation_id: InvitationId
    user: str
    role: Role
    secret: Secret


@frozen
class WithdrawInvitation:
    invitation_id: InvitationId


@frozen
class AcceptInvitation:
    invitation_id: InvitationId


@frozen
class ChangeRole:
    user: str
    role: Role


@frozen
class RemoveMember:
    user: str
    successor: str | None
    """Who is to own what they owned; None, or no other manager: the eldest."""


Command: TypeAlias = (
    CreateOrganisation
    | RenameOrganisation
    | AddMember
    | InviteMember
    | WithdrawInvitation
    | AcceptInvitation
    | ChangeRole
    | RemoveMember
)


@frozen
class OrganisationCreated:
    id: OrganisationId
    name: str


@frozen
class OrganisationRenamed:
    name: str


@frozen
class MemberInvited:
    invitation_id: InvitationId
    user: str
    role: Role
    secret: Secret
    expires_at: datetime


@frozen
class InvitationWithdrawn:
    invitation_id: InvitationId


@frozen
class MemberJoined:
    user: str
    role: Role
    invitation_id: InvitationId | None = None
    """None: without one, as who founds the organisation and whom the operator adds."""


@frozen
class MemberRoleChanged:
    user: str
    role: Role


@frozen
class MemberRemoved:
    user: str
    successor: str | None
    """The manager who owns from then on what was theirs; None: there was none."""


Event: TypeAlias = (
    OrganisationCreated
    | OrganisationRenamed
    | MemberInvited
    | InvitationWithdrawn
    | MemberJoined
    | MemberRoleChanged
    | MemberRemoved
)


@frozen
class Member:
    number: int
    """Grows with each who joins or is invited, and is never given again."""
    id: UserId
    name: str
    role: Role


@frozen
class Invitation:
    number: int
    id: InvitationId
    user_id: UserId
    user: str
    role: Role
    secret: Secret
    expires_at: datetime


@frozen
class Organisation:
    id: OrganisationId
    name: str
    members: tuple[Member, ...] = ()
    """In the order of joining."""
    invitations: tuple[Invitation, ...] = ()
    """Not yet accepted or withdrawn; some may be over."""
    numbered: int = 0
    deleted: bool = False
    """Never: there is no order yet that ends an organisation."""

    def member(self, user_id: UserId) -> Member | None:
        """Return the member with this id, if there is one."""
        return next((m for m in self.members if m.id == user_id), None)

    def managers(self) -> Sequence[Member]:
        return [m for m in self.members if m.role is Role.MANAGER]


def decide(
    command: Command, state: Organisation | None, now: datetime
) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    if isinstance(command, CreateOrganisation):
        name = trimmed(command.name)
        return [] if state else [OrganisationCreated(command.id, name)]
    if state is None:
        raise NotFound("There is no such organisation.")
    match command:
        case RenameOrganisation():
            name = trimmed(command.name)
            return [] if name == state.name else [OrganisationRenamed(name)]
        case AddMember():
            return _add(command, state)
        case InviteMember():
            return _invite(command, state, now)
        case WithdrawInvitation():
            if all(i.id != command.invitation_id for i in state.invitations):
                raise NotFound("There is no such invitation.")
            return [InvitationWithdrawn(command.invitation_id)]
        case AcceptInvitation():
            return _accept(command.invitation_id, state, now)
        case ChangeRole():
            return _change_role(command, state)
        case RemoveMember():
            return _remove(command, state)
        case _:
            assert_never(command)


def _add(command: AddMember, state: Organisation) -> Sequence[Event]:
    name = login_name(command.user)
    member = state.member(user_of(name))
    if member is None:
        return [*_void(name, state), MemberJoined(name, command.role)]
    if member.role.covers(command.role):
        return []
    return [MemberRoleChanged(member.name, command.role)]


def _invite(
    command: InviteMember, state: Organisation, now: datetime
) -> Sequence[Event]:
    name = login_name(command.user)
    if state.member(user_of(name)) is not None:
        raise AlreadyExists(f"{shown(name)} is a member already.")
    invited = MemberInvited(
        command.invitation_id, name, command.role, command.secret, now + OPEN_FOR
    )
    return [*_void(name, state), invited]


def _void(name: str, state: Organisation) -> Sequence[Event]:
    """Return the end of the invitation that is open for the name, if one is."""
    user_id = user_of(name)
    open_ = [i for i in state.invitations if i.user_id == user_id]
    return [InvitationWithdrawn(i.id) for i in open_]


def _accept(
    invitation_id: InvitationId, state: Organisation, now: datetime
) -> Sequence[Event]:
    for invitation in state.invitations:
        if invitation.id == invitation_id and now < invitation.expires_at:
            return [MemberJoined(invitation.user, invitation.role, invitation_id)]
    raise Unauthenticated(NOT_OPEN)


def _known(user: str, state: Organisation) -> Member:
    member = state.member(user_of(user))
    if member is None:
        raise NotFound("There is no such member.")
    return member


def _change_role(command: ChangeRole, state: Organisation) -> Sequence[Event]:
    member = _known(command.user, state)
    if member.role is command.role:
        return []
    _require_another_manager(member, state)
    return [MemberRoleChanged(member.name, command.role)]


def _remove(command: RemoveMember, state: Organisation) -> Sequence[Event]:
    member = _known(command.user, state)
    _require_another_manager(member, state)
    heirs = [m for m in state.managers() if m is not member]
    wanted = None if command.successor is None else user_of(command.successor)
    named = [m for m in heirs if m.id == wanted]
    heir = next(iter([*named, *heirs]), None)
    return [MemberRemoved(member.name, None if heir is None else heir.name)]


def _require_another_manager(member: Member, state: Organisation) -> None:
    if member.role is Role.MANAGER and len(state.managers()) == 1:
        raise Conflict(LAST_MANAGER)


def evolve(state: Organisation | None, event: Event) -> Organisation:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, OrganisationCreated):
        return Organisation(event.id, event.name)
    assert state is not None, f"{event!r} before OrganisationCreated"
    match event:
        case OrganisationRenamed():
            return replace(state, name=event.name)
        case MemberInvited():
            return _with_invitation(state, event)
        case InvitationWithdrawn():
            return replace(state, invitations=_without(state, event.invitation_id))
        case MemberJoined():
            return _with_member(state, event)
        case MemberRoleChanged():
            changed = user_of(event.user)
            return replace(
                state,
                members=tuple(
                    replace(m, role=event.role) if m.id == changed else m
                    for m in state.members
                ),
            )
        case MemberRemoved():
            gone = user_of(event.user)
            left = tuple(m for m in state.members if m.id != gone)
            return replace(state, members=left)
        case _:
            assert_never(event)


def _with_invitation(state: Organisation, event: MemberInvited) -> Organisation:
    number = state.numbered + 1
    invitation = Invitation(
        number,
        event.invitation_id,
        user_of(event.user),
        event.user,
        event.role,
        event.secret,
        event.expires_at,
    )
    return replace(state, numbered=number, invitations=(*state.invitations, invitation))


def _with_member(state: Organisation, event: MemberJoined) -> Organisation:
    number = state.numbered + 1
    member = Member(number, user_of(event.user), event.user, event.role)
    return replace(
        state,
        numbered=number,
        members=(*state.members, member),
        invitations=_without(state, event.invitation_id),
    )


def _without(
    state: Organisation, invitation_id: InvitationId | None
) -> tuple[Invitation, ...]:
    return tuple(i for i in state.invitations if i.id != invitation_id)
