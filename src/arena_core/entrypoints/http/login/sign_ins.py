"""/api/v1/sign-ins: what a user does about clients that act for them."""

import msgspec

from arena_core.application.sign_ins import SignInView
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

PATH = "/api/v1/sign-ins"


class Decision(msgspec.Struct, forbid_unknown_fields=True):
    user_code: str


def listed(call: Call) -> Reply:
    return Reply(Listed.of(call.use.sign_ins.list(paging=call.query.paging())))


def approve(call: Call) -> Reply:
    call.use.sign_ins.approve(call.body.user_code)
    return Reply({})


def deny(call: Call) -> Reply:
    call.use.sign_ins.deny(call.body.user_code)
    return Reply({})


def end(call: Call) -> Reply:
    call.use.sign_ins.end(call.ids["sign_in_id"])
    return Reply({})


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List one's own sign-ins that live",
        ListOf(SignInView),
        query=Listing,
    ),
    Endpoint(
        "POST",
        PATH + "/approve",
        approve,
        Role.VIEWER,
        "Let the client that shows a code act for oneself",
        Nothing,
        body=Decision,
        repeatable=True,
    ),
    Endpoint(
        "POST",
        PATH + "/deny",
        deny,
        Role.VIEWER,
        "Let nobody in who shows a code",
        Nothing,
        body=Decision,
        repeatable=True,
    ),
    Endpoint(
        "DELETE",
        PATH + "/{sign_in_id}",
        end,
        Role.VIEWER,
        "End one of one's own sign-ins; it is dead at once",
        Nothing,
    ),
)
