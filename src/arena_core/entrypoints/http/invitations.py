"""/api/v1/organisations/{organisation_id}/invitations, and how one is accepted."""

from datetime import datetime
from http import HTTPStatus
from uuid import UUID

import msgspec
from attrs import field, frozen

from arena_core.application.invitations import Accepted
from arena_core.application.resources import InvitationView
from arena_core.domain.user import DescribeUser
from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import (
    PUBLIC,
    Call,
    Endpoint,
    Listed,
    Listing,
    ListOf,
    Nothing,
    Reply,
    bearer,
)
from arena_core.entrypoints.http.fields import Name, Roles
from arena_core.entrypoints.http.organisations import ONE

PATH = ONE + "/invitations"


class InvitationCreation(msgspec.Struct, forbid_unknown_fields=True):
    user: Name
    """The name that whoever is invited signs in with."""
    role: Roles = "member"


class Acceptance(msgspec.Struct, forbid_unknown_fields=True):
    """`token`: the invitation's text; the rest is of whoever is no user yet."""

    token: str
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None


@frozen
class InvitationWithSecret:
    """An invitation with its text, in the one answer that shows it."""

    id: UUID
    user: str
    role: str
    expires_at: datetime
    token: str = field(repr=False)


def listed(call: Call) -> Reply:
    of, paging = call.ids["organisation_id"], call.query.paging()
    return Reply(Listed.of(call.use.invitations.list(of, paging=paging)))


def invite(call: Call) -> Reply:
    of, body = call.ids["organisation_id"], call.body
    invited = call.use.invitations.invite(of, body.user, role=body.role)
    view = invited.view
    shown = InvitationWithSecret(
        view.id, view.user, view.role.value, view.expires_at, invited.token
    )
    return Reply(shown, HTTPStatus.CREATED, secret=True)


def withdraw(call: Call) -> Reply:
    call.use.invitations.withdraw(
        call.ids["organisation_id"], call.ids["invitation_id"]
    )
    return Reply({})


def accept(call: Call) -> Reply:
    body: Acceptance = call.body
    accepted = call.use.invitations.accept(
        body.token,
        described=DescribeUser(body.first_name, body.last_name, body.email),
        bearing=None if call.bearing is None else bearer(call.bearing),
    )
    return Reply(accepted, secret=True)


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.MANAGER,
        "List the invitations that nobody has accepted yet",
        ListOf(InvitationView),
        query=Listing,
    ),
    Endpoint(
        "POST",
        PATH,
        invite,
        Role.MANAGER,
        "Invite somebody; the invitation's text is shown this once",
        InvitationWithSecret,
        body=InvitationCreation,
        status=HTTPStatus.CREATED,
    ),
    Endpoint(
        "DELETE",
        PATH + "/{invitation_id}",
        withdraw,
        Role.MANAGER,
        "Withdraw an invitation",
        Nothing,
    ),
    Endpoint(
        "POST",
        "/api/v1/invitations/accept",
        accept,
        PUBLIC,
        "Accept an invitation; who is a user already bears their own credential",
        Accepted,
        body=Acceptance,
    ),
)
