"""/api/v1/tokens."""

from datetime import datetime
from http import HTTPStatus
from typing import Literal
from uuid import UUID

import msgspec
from attrs import field, frozen

from arena_core.application.identity import Issued
from arena_core.application.resources import TokenView
from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import (
    Call,
    Endpoint,
    Listed,
    Listing,
    ListOf,
    Nothing,
    Reply,
)

PATH = "/api/v1/tokens"


class TokenCreation(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    user: str
    role: Literal["viewer", "member", "manager"] = "member"
    kind: Literal["pat", "org"] = "pat"


@frozen
class TokenWithSecret:
    """A token with its text, in the one answer that shows it."""

    id: UUID
    kind: str
    name: str
    user: str
    role: str
    last_four: str
    created_at: datetime
    token: str = field(repr=False)


def _with_secret(issued: Issued) -> TokenWithSecret:
    view = issued.view
    return TokenWithSecret(
        view.id,
        view.kind.value,
        view.name,
        view.user,
        view.role.value,
        view.last_four,
        view.created_at,
        issued.token,
    )


def listed(call: Call) -> Reply:
    return Reply(Listed.of(call.use.tokens.list(paging=call.query.paging())))


def create(call: Call) -> Reply:
    body: TokenCreation = call.body
    issued = call.use.tokens.issue(
        name=body.name, user=body.user, role=body.role, kind=body.kind
    )
    where = f"{call.base_url}{PATH}/{issued.view.id}"
    return Reply(_with_secret(issued), HTTPStatus.CREATED, where, secret=True)


def rotate(call: Call) -> Reply:
    return Reply(
        _with_secret(call.use.tokens.rotate(call.ids["token_id"])), secret=True
    )


def revoke(call: Call) -> Reply:
    call.use.tokens.revoke(call.ids["token_id"])
    return Reply({})


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.MANAGER,
        "List the live tokens",
        ListOf(TokenView),
        query=Listing,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        Role.MANAGER,
        "Issue a token; its text is shown this once",
        TokenWithSecret,
        body=TokenCreation,
        status=HTTPStatus.CREATED,
    ),
    Endpoint(
        "POST",
        PATH + "/{token_id}/rotate",
        rotate,
        Role.MANAGER,
        "Give a token a new secret; the old one is dead at once",
        TokenWithSecret,
    ),
    Endpoint(
        "DELETE",
        PATH + "/{token_id}",
        revoke,
        Role.MANAGER,
        "Revoke a token for ever",
        Nothing,
    ),
)
