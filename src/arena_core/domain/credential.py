"""Credential: an access token of a user or of an organisation.

The secret itself is never here: only its SHA-256, which is enough to know it
again, and its last four characters, which are enough for its owner to tell it
from others.  Active -> rotated (same id, new secret) -> revoked, for ever.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import TypeAlias, assert_never

from attrs import evolve as replace
from attrs import field, frozen
from attrs.validators import matches_re

from arena_core.domain.errors import AlreadyExists, NotFound
from arena_core.domain.ids import TokenId
from arena_core.domain.values import Role, sha256, trimmed

KIND = "credential"


class TokenKind(Enum):
    """Whose token it is; the value is the second part of the token's text."""

    USER = "pat"
    ORGANISATION = "org"


@frozen
class Secret:
    """What is kept of a secret."""

    sha256: str = field(repr=False, validator=sha256)
    last_four: str = field(validator=matches_re(r".{4}"))


@frozen
class IssueAccessToken:
    token_id: TokenId
    kind: TokenKind
    name: str
    user: str
    role: Role
    secret: Secret


@frozen
class RotateAccessToken:
    secret: Secret


@frozen
class RevokeAccessToken:
    pass


Command: TypeAlias = IssueAccessToken | RotateAccessToken | RevokeAccessToken


@frozen
class AccessTokenIssued:
    token_id: TokenId
    kind: TokenKind
    name: str
    user: str
    role: Role
    secret: Secret


@frozen
class AccessTokenRotated:
    secret: Secret


@frozen
class AccessTokenRevoked:
    pass


Event: TypeAlias = AccessTokenIssued | AccessTokenRotated | AccessTokenRevoked


@frozen
class AccessToken:
    id: TokenId
    kind: TokenKind
    name: str
    user: str
    role: Role
    secret: Secret
    deleted: bool = False
    """Whether it has been revoked."""


def decide(
    command: Command, state: AccessToken | None, now: datetime
) -> Sequence[Event]:
    """Return the events that `command` causes, or raise why it may not."""
    del now
    match command, state:
        case IssueAccessToken(), None:
            return [
                AccessTokenIssued(
                    command.token_id,
                    command.kind,
                    trimmed(command.name),
                    trimmed(command.user, field="user"),
                    command.role,
                    command.secret,
                )
            ]
        case IssueAccessToken(), AccessToken():
            raise AlreadyExists("This token exists already.")
        case RevokeAccessToken(), AccessToken(deleted=True):
            return []
        case (_, None) | (_, AccessToken(deleted=True)):
            raise NotFound("There is no such token.")
        case RotateAccessToken(), AccessToken():
            same = command.secret == state.secret
            return [] if same else [AccessTokenRotated(command.secret)]
        case RevokeAccessToken(), AccessToken():
            return [AccessTokenRevoked()]
        case _:
            assert_never(command)  # type: ignore[arg-type]  # mypy narrows no tuples


def evolve(state: AccessToken | None, event: Event) -> AccessToken:
    """Return `state` after `event`.  Total: it never refuses, for history is true."""
    if isinstance(event, AccessTokenIssued):
        return AccessToken(
            event.token_id, event.kind, event.name, event.user, event.role, event.secret
        )
    assert state is not None, f"{event!r} before AccessTokenIssued"
    match event:
        case AccessTokenRotated():
            return replace(state, secret=event.secret)
        case AccessTokenRevoked():
            return replace(state, deleted=True)
        case _:
            assert_never(event)
