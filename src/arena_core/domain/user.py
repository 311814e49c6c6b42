"""User: a person of this installation, known by the name that they sign in with.

A user belongs to any number of organisations and acts in one of them at a time, the
current one.  What they may do there is the organisation's business, see
`organisation`.  A user has one live personal token at most: it is held here, so that
two that are issued at the same time meet in one stream.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import frozen

from arena_core.domain.errors import AlreadyExists, Conflict, NotFound
from arena_core.domain.ids import OrganisationId, TokenId, UserId, user_of
from arena_core.domain.values import login_name, optional_text

KIND = "user"


@frozen
class RegisterUser:
    """Make the user known.  There is one for each name, whatever its case."""

    name: str


@frozen
class DescribeUser:
    """None leaves as it is."""

    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None


@frozen
class JoinOrganisation:
    organisation: OrganisationId


@frozen
class LeaveOrganisation:
    organisation: OrganisationId


@frozen
class ChooseOrganisation:
    """Act in this organisation from now on."""

    organisation: OrganisationId


@frozen
class HoldToken:
    token_id: TokenId


@frozen
class ReleaseToken:
    token_id: TokenId


Command: TypeAlias = (
    RegisterUser
    | DescribeUser
    | JoinOrganisation
    | LeaveOrganisation
    | ChooseOrganisation
    | HoldToken
    | ReleaseToken
)


@frozen
class UserRegistered:
    name: str


@frozen
class UserDescribed:
    first_name: str
    last_name: str
    email: str


@frozen
class OrganisationJoined:
    """The first one is the current one from then on."""

    organisation: OrganisationId


@frozen
class OrganisationLeft:
    organisation: OrganisationId
    current: OrganisationId | None
    """In which the user acts from then on; None: in none."""


@frozen
class OrganisationChosen:
    organisation: OrganisationId


@frozen
class PersonalTokenHeld:
    token_id: TokenId


@frozen
class PersonalTokenReleased:
    token_id: TokenId


Event: TypeAlias = (
    UserRegistered
    | UserDescribed
    | OrganisationJoined
    | OrganisationLeft
    | OrganisationChosen
    | PersonalTokenHeld
    | PersonalTokenReleased
)


@frozen
class User:
    id: UserId
    name: str
    """As it was written when the user was registered."""
    email: str
    first_name: str = ""
    last_name: str = ""
    organisations: tuple[OrganisationId, ...] = ()
    """In the order of joining."""
    current: OrganisationId | None = None
    token: TokenId | None = None
    """The one live personal token."""
    deleted: bool = False
    """Never: whoever has done something stays known."""


def decide(command: Command, state: User | None, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    del now
    if isinstance(command, RegisterUser):
        if state is not None:
            raise AlreadyExists("This user is registered already.")
        return [UserRegistered(login_name(command.name))]
    if state is None:
        raise NotFound("There is no such user.")
    match command:
        case DescribeUser():
            return _describe(command, state)
        case JoinOrganisation():
            joined = command.organisation in state.organisations
            return [] if joined else [OrganisationJoined(command.organisation)]
        case LeaveOrganisation():
            return _leave(command.organisation, state)
        case ChooseOrganisation():
            return _choose(command.organisation, state)
        case HoldToken():
            return _hold(command.token_id, state)
        case ReleaseToken():
            held = command.token_id == state.token
            return [PersonalTokenReleased(command.token_id)] if held else []
        case _:
            assert_never(command)


def _describe(command: DescribeUser, state: User) -> Sequence[Event]:
    described = UserDescribed(
        optional_text(command.first_name, state.first_name, field="first_name"),
        optional_text(command.last_name, state.last_name, field="last_name"),
        optional_text(command.email, state.email, field="email"),
    )
    return [] if evolve(state, described) == state else [described]


def _leave(organisation: OrganisationId, state: User) -> Sequence[Event]:
    if organisation not in state.organisations:
        return []
    left = [other for other in state.organisations if other != organisation]
    current = state.current
    if current == organisation:
        current = left[0] if left else None
    return [OrganisationLeft(organisation, current)]


def _choose(organisation: OrganisationId, state: User) -> Sequence[Event]:
    if organisation not in state.organisations:
        raise NotFound("There is no such organisation.")
    chosen = organisation == state.current
    return [] if chosen else [OrganisationChosen(organisation)]


def _hold(token_id: TokenId, state: User) -> Sequence[Event]:
    if state.token == token_id:
        return []
    if state.token is not None:
        raise Conflict(
            "The user has a personal token already, and can have one only: rotate it "
            "or revoke it."
        )
    return [PersonalTokenHeld(token_id)]


def evolve(state: User | None, event: Event) -> User:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, UserRegistered):
        email = event.name if "@" in event.name else ""
        return User(user_of(event.name), event.name, email)
    assert state is not None, f"{event!r} before UserRegistered"
    match event:
        case UserDescribed():
            return replace(
                state,
                first_name=event.first_name,
                last_name=event.last_name,
                email=event.email,
            )
        case OrganisationJoined():
            return replace(
                state,
                organisations=(*state.organisations, event.organisation),
                current=state.current or event.organisation,
            )
        case OrganisationLeft():
            return replace(
                state,
                organisations=tuple(
                    o for o in state.organisations if o != event.organisation
                ),
                current=event.current,
            )
        case OrganisationChosen():
            return replace(state, current=event.organisation)
        case PersonalTokenHeld():
            return replace(state, token=event.token_id)
        case PersonalTokenReleased():
            return replace(state, token=None)
        case _:
            assert_never(event)
