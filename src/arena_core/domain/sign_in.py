"""Sign-in: a client that acts for a user, because the user has said so.

A client begins it by showing a code, of which nothing is kept.  The user who approves
the code begins the stream: approved -> live -> over, or denied.  The client takes up
an approval once, and in time; from then on it holds a refresh token, of which nothing
is kept either.  That the access of the user ends is another matter, see `sign_ins`.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import frozen

from arena_core.domain.errors import IllegalTransition, NotFound, Rejected
from arena_core.domain.ids import SignInId, TokenId
from arena_core.domain.values import Role

KIND = "sign_in"


class Status(Enum):
    APPROVED = "approved"
    """The client has not taken it up yet."""
    DENIED = "denied"
    LIVE = "live"
    OVER = "over"


@frozen
class Request:
    """What the code stands for that a user decides about."""

    sign_in_id: SignInId
    client: str
    expires_at: datetime
    """Until when the code is good."""


@frozen
class ApproveSignIn:
    request: Request
    user: str
    token_id: TokenId
    """The personal token that the user has shown."""
    role: Role
    """What may be done at most; it is the token's."""


@frozen
class DenySignIn:
    request: Request
    user: str
    token_id: TokenId


@frozen
class RedeemSignIn:
    """Take up the approval.  `expires_at`: when the sign-in ends by itself."""

    expires_at: datetime


@frozen
class SignOut:
    pass


Command: TypeAlias = ApproveSignIn | DenySignIn | RedeemSignIn | SignOut


@frozen
class SignInApproved:
    sign_in_id: SignInId
    client: str
    user: str
    token_id: TokenId
    role: Role
    redeemable_until: datetime


@frozen
class SignInDenied:
    sign_in_id: SignInId
    client: str
    user: str
    token_id: TokenId
    redeemable_until: datetime
    """Until when it could have been approved."""


@frozen
class SignInRedeemed:
    expires_at: datetime


@frozen
class SignedOut:
    pass


Event: TypeAlias = SignInApproved | SignInDenied | SignInRedeemed | SignedOut


@frozen
class SignIn:
    id: SignInId
    client: str
    user: str
    """Who has decided."""
    token_id: TokenId
    status: Status
    expires_at: datetime
    """Until when it can be taken up; once it is, until when it lives."""
    role: Role = Role.VIEWER
    """What may be done at most."""

    @property
    def deleted(self) -> bool:
        return self.status in {Status.DENIED, Status.OVER}

    def lives(self, now: datetime) -> bool:
        """Say whether the client may act at all, whatever its user may."""
        return self.status is Status.LIVE and now < self.expires_at


def decide(command: Command, state: SignIn | None, now: datetime) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    match command:
        case ApproveSignIn():
            return _approve(command, state, now)
        case DenySignIn():
            return _deny(command, state, now)
        case _ if state is None:
            raise NotFound("There is no such sign-in.")
        case RedeemSignIn():
            return _redeem(command, state, now)
        case SignOut():
            return [] if state.deleted else [SignedOut()]
        case _:
            assert_never(command)


def _approve(
    command: ApproveSignIn, state: SignIn | None, now: datetime
) -> Sequence[Event]:
    request = command.request
    if state is None:
        _require_unexpired(request, now)
        return [
            SignInApproved(
                request.sign_in_id,
                request.client,
                command.user,
                command.token_id,
                command.role,
                request.expires_at,
            )
        ]
    _require_decider(state, command.user)
    if state.deleted:
        raise IllegalTransition(
            "This code was denied or signed out: begin again in the client."
        )
    return []


def _deny(command: DenySignIn, state: SignIn | None, now: datetime) -> Sequence[Event]:
    request = command.request
    if state is not None:
        _require_decider(state, command.user)
        if state.status is Status.DENIED:
            return []
        if state.status is not Status.APPROVED:
            raise IllegalTransition(
                "The client has signed in with this code already: end that sign-in."
            )
    _require_unexpired(request, now)
    return [
        SignInDenied(
            request.sign_in_id,
            request.client,
            command.user,
            command.token_id,
            request.expires_at,
        )
    ]


def _redeem(command: RedeemSignIn, state: SignIn, now: datetime) -> Sequence[Event]:
    """Not a command to repeat: of two who hold the same code, one gets in."""
    if state.status is not Status.APPROVED:
        raise IllegalTransition(f"The sign-in is {state.status.value}.")
    if now >= state.expires_at:
        raise IllegalTransition("The approval has expired.")
    return [SignInRedeemed(command.expires_at)]


def _require_unexpired(request: Request, now: datetime) -> None:
    if now >= request.expires_at:
        raise Rejected(
            "This code has expired: begin again in the client.", field="user_code"
        )


def _require_decider(state: SignIn, user: str) -> None:
    if state.user != user:
        raise IllegalTransition(
            "Somebody else has decided about this code: begin again in the client."
        )


def evolve(state: SignIn | None, event: Event) -> SignIn:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    match event:
        case SignInApproved():
            return SignIn(
                event.sign_in_id,
                event.client,
                event.user,
                event.token_id,
                Status.APPROVED,
                event.redeemable_until,
                event.role,
            )
        case SignInDenied():
            return SignIn(
                event.sign_in_id,
                event.client,
                event.user,
                event.token_id,
                Status.DENIED,
                event.redeemable_until,
            )
        case _:
            assert state is not None, f"{event!r} before SignInApproved"
    match event:
        case SignInRedeemed():
            return replace(state, status=Status.LIVE, expires_at=event.expires_at)
        case SignedOut():
            return replace(state, status=Status.OVER)
        case _:
            assert_never(event)
