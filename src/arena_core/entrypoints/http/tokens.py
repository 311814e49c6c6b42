"""/api/v1/tokens."""

from datetime import datetime
from http import HTTPStatus
from typing import Literal
from uuid import UUID

import msgspec
from attrs import field, frozen

from arena_core.application.resources import TokenView
from arena_core.application.tokens import Issued
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
from arena_core.entrypoints.http.fields import Name, Roles

PATH = "/api/v1/tokens"


class TokenCreation(msgspec.Struct, forbid_unknown_fields=True):
    """`role`: what it may do at most.

    Left out, it is all that who issues it to themself may do, and `member` of a key of
    the organisation.
    """

    name: Name
    user: Name | None = None
    """Of a personal token: oneself, which may be left out."""
    role: Roles | None = None
    kind: Literal["pat", "org"] = "pat"


@frozen
class TokenWithSecret:
    """A token with its text, in the one answer that shows it."""

    id: UUID
    kind: str
    name: Name
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


# Whose token it is decides who may do what with it: see `application.tokens`.
ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List one's own live token, or all, to managers",
        ListOf(TokenView),
        query=Listing,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        Role.VIEWER,
        "Issue a token; its text is shown this once",
        TokenWithSecret,
        body=TokenCreation,
        status=HTTPStatus.CREATED,
    ),
    Endpoint(
        "POST",
        PATH + "/{token_id}/rotate",
        rotate,
        Role.VIEWER,
        "Give a token a new secret; the old one is dead at once",
        TokenWithSecret,
    ),
    Endpoint(
        "DELETE",
        PATH + "/{token_id}",
        revoke,
        Role.VIEWER,
        "Revoke a token for ever",
        Nothing,
    ),
)
