"""/api/v1/organisations, and their members."""

from http import HTTPStatus

import msgspec

from arena_core.application.resources import MemberView, OrganisationView
from arena_core.domain.ids import OrganisationId, organisation_of
from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import (
    Call,
    Endpoint,
    Listed,
    Listing,
    ListOf,
    Nothing,
    Past,
    Reply,
)
from arena_core.entrypoints.http.fields import Name, Roles
from arena_core.entrypoints.http.preconditions import Versioned

PATH = "/api/v1/organisations"
ONE = PATH + "/{organisation_id}"
MEMBERS = ONE + "/members"
MEMBER = MEMBERS + "/{user}"
VERSIONED = Versioned(
    "organisation", lambda name: (organisation_of(OrganisationId(name)),)
)


class OrganisationCreation(msgspec.Struct, forbid_unknown_fields=True):
    name: Name


class OrganisationEdit(msgspec.Struct, forbid_unknown_fields=True):
    name: Name


class MemberEdit(msgspec.Struct, forbid_unknown_fields=True):
    role: Roles


def listed(call: Call) -> Reply:
    return Reply(Listed(list(call.use.organisations.list()), None))


def create(call: Call) -> Reply:
    made = call.use.organisations.create(call.body.name)
    return Reply(made, HTTPStatus.CREATED, f"{call.base_url}{PATH}/{made.id}")


def show(call: Call) -> Reply:
    return Reply(call.use.organisations.get(call.ids["organisation_id"]))


def edit(call: Call) -> Reply:
    of = call.ids["organisation_id"]
    return Reply(call.use.organisations.rename(of, call.body.name))


def members(call: Call) -> Reply:
    of, paging = call.ids["organisation_id"], call.query.paging()
    return Reply(Listed.of(call.use.organisations.members(of, paging=paging)))


def change_role(call: Call) -> Reply:
    of, user = call.ids["organisation_id"], call.ids["user"]
    return Reply(call.use.organisations.change_role(of, user, call.body.role))


def remove(call: Call) -> Reply:
    call.use.organisations.remove(call.ids["organisation_id"], call.ids["user"])
    return Reply({})


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List the organisations that one belongs to",
        ListOf(OrganisationView),
        query=Past,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        Role.VIEWER,
        "Create an organisation, and be its manager",
        OrganisationView,
        body=OrganisationCreation,
        status=HTTPStatus.CREATED,
        versioned=VERSIONED,
    ),
    Endpoint(
        "GET",
        ONE,
        show,
        Role.VIEWER,
        "Show an organisation that one belongs to",
        OrganisationView,
        query=Past,
        versioned=VERSIONED,
    ),
    Endpoint(
        "PATCH",
        ONE,
        edit,
        Role.MANAGER,
        "Rename the current organisation",
        OrganisationView,
        body=OrganisationEdit,
        versioned=VERSIONED,
    ),
    Endpoint(
        "GET",
        MEMBERS,
        members,
        Role.VIEWER,
        "List the members of the current organisation",
        ListOf(MemberView),
        query=Listing,
    ),
    Endpoint(
        "PATCH",
        MEMBER,
        change_role,
        Role.MANAGER,
        "Give a member another role",
        MemberView,
        body=MemberEdit,
    ),
    Endpoint(
        "DELETE",
        MEMBER,
        remove,
        Role.VIEWER,
        "Remove a member, or leave; what they own passes to a manager",
        Nothing,
    ),
)
