"""Sign-ins: how a client comes to act for a user (RFC 8628), and how that ends.

A client shows a code; its user approves it with a personal token; the client takes up
the approval, once, and is signed in.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

from attrs import evolve, field, frozen

from arena_core.application.callers import acting_user, latest
from arena_core.application.device_codes import Code, DeviceCodes
from arena_core.application.grants import (
    REFRESH,
    Grant,
    acted_for,
    grant,
    refreshed_by,
    seconds,
)
from arena_core.application.handling import Change
from arena_core.application.memberships import enforce
from arena_core.application.polling import Polls
from arena_core.application.ports import Query, Row
from arena_core.application.session import ALL, Core, Page, Paging, Session, page
from arena_core.domain import sign_in
from arena_core.domain.credential import AccessToken
from arena_core.domain.errors import (
    Forbidden,
    IllegalTransition,
    NotFound,
    Unauthenticated,
)
from arena_core.domain.ids import TokenId
from arena_core.domain.sign_in import SignIn, Status
from arena_core.domain.user import User
from arena_core.domain.values import Actor, ActorKind

CLIENT = "arena-cli"
"""The one client that there is: a public one, which keeps no secret."""
INTERVAL_S = 2
"""How long a client waits between two looks at what has become of its code."""


class Refusal(Enum):
    """Why there are no tokens, in the words of RFC 6749 (5.2) and RFC 8628 (3.5)."""

    PENDING = "authorization_pending"
    TOO_SOON = "slow_down"
    EXPIRED = "expired_token"
    DENIED = "access_denied"
    INVALID = "invalid_grant"


@frozen
class Begun:
    """What a client is told that wants to sign in."""

    device_code: str = field(repr=False)
    user_code: str
    expires_in_s: int


@frozen
class SignInView:
    id: UUID
    client: str
    created_at: datetime
    expires_at: datetime


def new_polls() -> Polls:
    """Return what tells who asks too soon: a network may halve the interval."""
    return Polls(timedelta(seconds=INTERVAL_S / 2))


@frozen
class SignIns:
    session: Session
    random_bytes: Callable[[int], bytes] = field(repr=False)
    polls: Polls = field(repr=False)

    # --- of a client, which is nobody yet --------------------------------------------

    def begin(self) -> Begun:
        """Give a client the codes of a new sign-in.  Nothing is kept of them."""
        now = self._core.clock()
        code = self._codes.begin(now, self.random_bytes)
        return Begun(
            self._codes.device_code(code), code.user_code, seconds(now, code.expires_at)
        )

    def redeem(self, device_code: str) -> Grant | Refusal:
        """Give the client of an approved code its tokens, once."""
        code = self._codes.of_device(device_code)
        if code is None:
            return Refusal.INVALID
        row = latest(self._core, code.sign_in_id)
        now = self._core.clock()
        if row is None:
            return self._undecided(code, now)
        state: SignIn = row.state
        if state.status is Status.APPROVED:
            return self._redeemed(row, now)
        denied = state.status is Status.DENIED
        return Refusal.DENIED if denied else Refusal.INVALID

    def refresh(self, refresh_token: str) -> Grant | Refusal:
        """Give the client another access token; its refresh token stays the same.

        Were that replaced, a client that loses the answer would be signed out.
        """
        row = refreshed_by(self._core, refresh_token)
        now = self._core.clock()
        if row is None or not row.state.lives(now) or not self._is_entitled(row):
            return Refusal.INVALID
        return grant(self._core, row.state, now)

    def sign_out(self, refresh_token: str) -> bool:
        """End the sign-in of a refresh token; say whether there has been one.

        Its access tokens are dead when this returns.
        """
        row = refreshed_by(self._core, refresh_token)
        if row is not None:
            self._end(self._of_client(row), row)
        return row is not None

    # --- of users --------------------------------------------------------------------

    def approve(self, user_code: str) -> None:
        """Let the client that shows the code act for the caller.

        Raises `Forbidden` unless they have shown their own personal token: whoever has
        come by some other credential must not make a lasting one of it.
        """
        user, token = self._person()
        request = self._request(user_code)
        command = sign_in.ApproveSignIn(request, user.name, token.id, token.role)
        self._decide(command)

    def deny(self, user_code: str) -> None:
        """Let nobody in who shows the code.  Raises as `approve` does."""
        user, token = self._person()
        request = self._request(user_code)
        command = sign_in.DenySignIn(request, user.name, token.id)
        self._decide(command)

    def list(self, *, paging: Paging = ALL) -> Page[SignInView]:
        """Return the caller's own sign-ins that live, wherever they act."""
        user = acting_user(self.session)
        if user is None:
            return Page([])
        limit = None if paging.limit is None else paging.limit + 1
        query = Query(sign_in.KIND, None, user.id, None, paging.after, limit)
        part = page(self.session.rows.find(query), lambda row: row, paging)
        now = self._moment()
        return Page([_view(r) for r in part if r.state.lives(now)], part.next_after)

    def end(self, sign_in_id: UUID) -> None:
        """End one of the caller's own sign-ins.  It is dead when this returns."""
        user = acting_user(self.session)
        row = latest(self._core, sign_in_id)
        mine = user is not None and row is not None and row.parent == user.id
        if row is None or not mine or row.kind != sign_in.KIND:
            raise NotFound("There is no such sign-in.")
        self._end(self._within(row, self.session.caller.actor), row)

    # --- inside ----------------------------------------------------------------------

    @property
    def _core(self) -> Core:
        return self.session.core

    @property
    def _codes(self) -> DeviceCodes:
        return DeviceCodes(self._core.master)

    def _undecided(self, code: Code, now: datetime) -> Refusal:
        if now >= code.expires_at:
            return Refusal.EXPIRED
        in_time = self.polls.is_in_time(code.sign_in_id, now)
        return Refusal.PENDING if in_time else Refusal.TOO_SOON

    def _redeemed(self, row: Row, now: datetime) -> Grant | Refusal:
        if now >= row.state.expires_at:
            return Refusal.EXPIRED
        if not self._is_entitled(row):
            return Refusal.DENIED
        change = Change(sign_in, row.id, sign_in.RedeemSignIn(now + REFRESH))
        try:
            done = self._of_client(row).execute(change)
        except IllegalTransition:  # somebody else who holds the code was faster
            return Refusal.INVALID
        return grant(self._core, done.states[row.id], now)

    def _is_entitled(self, row: Row) -> bool:
        """Say whether its user may do anything at all, and still wants it."""
        try:
            acted_for(self._core, row)
        except Unauthenticated:
            return False
        return True

    def _person(self) -> tuple[User, AccessToken]:
        """Return the user whose personal token was shown, and that token."""
        user, shown = acting_user(self.session), self.session.caller.actor.token_id
        held = None if user is None else user.token
        row = None if held is None else latest(self._core, held)
        if user is None or row is None or held != shown:
            raise Forbidden(
                "Only a person can decide about a sign-in: show your own personal "
                "token, not that of an organisation or of another sign-in."
            )
        return user, row.state

    def _request(self, user_code: str) -> sign_in.Request:
        return self._codes.of_user(user_code, self._core.clock()).request(CLIENT)

    def _decide(self, command: sign_in.ApproveSignIn | sign_in.DenySignIn) -> None:
        change = Change(sign_in, command.request.sign_in_id, command)
        self.session.execute(change)

    def _end(self, session: Session, row: Row) -> None:
        enforce(session, [Change(sign_in, row.id, sign_in.SignOut())])

    def _of_client(self, row: Row) -> Session:
        """Return the session of the client that is, or will be, signed in."""
        actor = Actor(ActorKind.USER, row.state.user, TokenId(row.id))
        return self._within(row, actor)

    def _within(self, row: Row, actor: Actor) -> Session:
        """Return a session of the organisation in which the sign-in was approved."""
        caller = evolve(self.session.caller, organisation=row.organisation, actor=actor)
        return evolve(self.session, caller=caller)

    def _moment(self) -> datetime:
        """Return when it is, or was at the position that is looked at."""
        core, as_of = self._core, self.session.as_of
        if not as_of:
            return core.clock()
        return core.store.read_all(after=as_of - 1, limit=1)[0].occurred_at


def _view(row: Row) -> SignInView:
    state: SignIn = row.state
    return SignInView(state.id, state.client, row.created_at, state.expires_at)
