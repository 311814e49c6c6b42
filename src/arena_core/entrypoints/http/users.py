"""/api/v1/users/me: who asks."""

import msgspec

from arena_core.application.resources import UserView
from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import Call, Endpoint, Past, Reply

PATH = "/api/v1/users/me"


class UserEdit(msgspec.Struct, forbid_unknown_fields=True):
    """null, or left out: unchanged."""

    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    current_organisation: str | None = None
    """In which one's credentials act from now on."""


def show(call: Call) -> Reply:
    return Reply(call.use.users.me())


def edit(call: Call) -> Reply:
    body: UserEdit = call.body
    edited = call.use.users.edit(
        first_name=body.first_name,
        last_name=body.last_name,
        email=body.email,
        current_organisation=body.current_organisation,
    )
    return Reply(edited)


ENDPOINTS = (
    Endpoint("GET", PATH, show, Role.VIEWER, "Say who one is", UserView, query=Past),
    Endpoint(
        "PATCH",
        PATH,
        edit,
        Role.VIEWER,
        "Describe oneself, or choose one's current organisation",
        UserView,
        body=UserEdit,
    ),
)
