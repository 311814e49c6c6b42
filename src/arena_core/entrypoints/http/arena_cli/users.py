"""/api/users."""

from attrs import frozen

from arena_core.application.resources import UserView
from arena_core.domain.ids import user_of
from arena_core.domain.values import Role
from arena_core.entrypoints.http.endpoints import Call, Endpoint, Past, Reply

PATH = "/api/users"


@frozen(slots=False)
class CurrentUser:
    """Texts that nobody has given are empty: clients print null as it stands.

    Of whom nothing else is known, the first name is what they sign in with.
    """

    id: str
    first_name: str
    last_name: str
    email: str
    organization_id: str
    organization_name: str


def current(call: Call) -> Reply:
    me: UserView = call.use.users.me()
    email = me.email or (me.name if "@" in me.name else "")
    is_known = me.first_name or me.last_name or email
    names = {each.id: each.name for each in me.organisations}
    return Reply(
        CurrentUser(
            id=str(user_of(me.name)),
            first_name=me.first_name if is_known else me.name,
            last_name=me.last_name,
            email=email,
            organization_id=me.current_organisation,
            organization_name=names.get(
                me.current_organisation, me.current_organisation
            ),
        )
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH + "/current",
        current,
        Role.VIEWER,
        "Show who asks",
        CurrentUser,
        query=Past,
    ),
)
