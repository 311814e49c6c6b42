from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from arena_core.domain import sign_in
from arena_core.domain.errors import IllegalTransition, NotFound, Rejected
from arena_core.domain.ids import SignInId, TokenId, sign_in_of
from arena_core.domain.sign_in import (
    ApproveSignIn,
    DenySignIn,
    RedeemSignIn,
    Request,
    SignedOut,
    SignIn,
    SignInApproved,
    SignInDenied,
    SignInRedeemed,
    SignOut,
    Status,
)
from arena_core.domain.values import Role
from unit.life import MINUTE, TimedLife
from unit.spec import Spec

BEGUN = datetime(2026, 9, 1, tzinfo=UTC)
UNTIL = BEGUN + 10 * MINUTE
MOMENT = timedelta(microseconds=1)
LATER = BEGUN + timedelta(days=30)
spec, last_moment, too_late = (
    Spec(sign_in, now) for now in (BEGUN, UNTIL - MOMENT, UNTIL)
)

ID, TOKEN = SignInId(UUID(int=1)), TokenId(UUID(int=2))
REQUEST = Request(ID, "arena-cli", UNTIL)
APPROVE = ApproveSignIn(REQUEST, "ann", TOKEN, Role.MEMBER)
DENY = DenySignIn(REQUEST, "ann", TOKEN)
REDEEM = RedeemSignIn(LATER)
APPROVED = SignInApproved(ID, "arena-cli", "ann", TOKEN, Role.MEMBER, UNTIL)
DENIED = SignInDenied(ID, "arena-cli", "ann", TOKEN, UNTIL)
REDEEMED = SignInRedeemed(LATER)
OUT = SignedOut()
LIVE = (APPROVED, REDEEMED)


def test_an_approval_says_who_for_which_client_and_by_which_token():
    spec.given().when(APPROVE).then(APPROVED)
    assert spec.given(APPROVED).state == SignIn(
        ID, "arena-cli", "ann", TOKEN, Status.APPROVED, UNTIL, Role.MEMBER
    )


@pytest.mark.parametrize(("command", "event"), [(APPROVE, APPROVED), (DENY, DENIED)])
def test_a_code_is_decided_about_until_the_moment_it_expires(command, event):
    last_moment.given().when(command).then(event)
    too_late.given().when(command).then_raises(Rejected, "expired")


def test_an_approval_is_taken_up_until_the_code_expires():
    last_moment.given(APPROVED).when(REDEEM).then(REDEEMED)
    too_late.given(APPROVED).when(REDEEM).then_raises(IllegalTransition, "expired")


@pytest.mark.parametrize("history", [LIVE, (*LIVE, OUT), (APPROVED, OUT), (DENIED,)])
def test_an_approval_is_taken_up_once_and_a_denial_never(history):
    spec.given(*history).when(REDEEM).then_raises(IllegalTransition)


@pytest.mark.parametrize("history", [(APPROVED,), LIVE])
def test_to_approve_again_changes_nothing(history):
    spec.given(*history).when(APPROVE).then()


def test_to_approve_again_is_no_news_even_when_the_code_has_expired():
    too_late.given(APPROVED).when(APPROVE).then()


@pytest.mark.parametrize("history", [(DENIED,), (APPROVED, OUT), (*LIVE, OUT)])
def test_what_was_denied_or_is_over_is_not_approved_any_more(history):
    spec.given(*history).when(APPROVE).then_raises(IllegalTransition, "begin again")


def test_an_approval_is_denied_as_long_as_nobody_has_taken_it_up():
    spec.given(APPROVED).when(DENY).then(DENIED)
    spec.given(DENIED).when(DENY).then()
    too_late.given(APPROVED).when(DENY).then_raises(Rejected, "expired")
    spec.given(*LIVE).when(DENY).then_raises(IllegalTransition, "end that sign-in")


@pytest.mark.parametrize("history", [(APPROVED,), (DENIED,), LIVE, (APPROVED, OUT)])
@pytest.mark.parametrize(
    "command",
    [
        ApproveSignIn(REQUEST, "bob", TOKEN, Role.MEMBER),
        DenySignIn(REQUEST, "bob", TOKEN),
    ],
)
def test_what_one_user_has_decided_about_no_other_decides_about(history, command):
    spec.given(*history).when(command).then_raises(IllegalTransition, "omebody else")


@pytest.mark.parametrize("history", [(APPROVED,), LIVE])
def test_signing_out_ends_it_for_ever(history):
    spec.given(*history).when(SignOut()).then(OUT)
    spec.given(*history, OUT).when(SignOut()).then()
    assert spec.given(*history, OUT).state.deleted


def test_there_is_nothing_to_sign_out_of_what_was_denied():
    spec.given(DENIED).when(SignOut()).then()


@pytest.mark.parametrize("command", [REDEEM, SignOut()])
def test_what_nobody_has_decided_about_is_not_there(command):
    spec.given().when(command).then_raises(NotFound)


def test_only_what_was_taken_up_lives_and_only_until_it_expires():
    assert spec.given(*LIVE).state.lives(LATER - MOMENT)
    assert not spec.given(*LIVE).state.lives(LATER)
    for history in ((APPROVED,), (DENIED,), (*LIVE, OUT)):
        assert not spec.given(*history).state.lives(BEGUN)


def test_two_minutes_or_two_codes_are_two_sign_ins():
    assert sign_in_of("BCDF", 1) == sign_in_of("BCDF", 1)
    assert len({sign_in_of(c, m) for c in ("BCDF", "BCDG") for m in (1, 11)}) == 4
    # Where the minute ends and the code begins is part of it.
    assert sign_in_of("1:B", 1) != sign_in_of("B", 11)


class SignInLife(TimedLife):
    module = sign_in
    ends = (SignOut,)

    @initialize(user=st.sampled_from(["one", "two"]))
    def begin(self, user):
        self.obey(ApproveSignIn(Request(ID, "one", UNTIL), user, TOKEN, Role.MEMBER))
        assert self.state is not None

    @invariant()
    def it_is_taken_up_once_and_in_time(self):
        redeemed = [at for at, e in self.history if isinstance(e, SignInRedeemed)]
        assert len(redeemed) <= 1
        assert all(at < UNTIL for at in redeemed)

    @invariant()
    def nobody_but_who_has_decided_first_has_decided(self):
        decided = [
            e for e in self.events if isinstance(e, SignInApproved | SignInDenied)
        ]
        assert len({event.user for event in decided}) <= 1

    @invariant()
    def what_was_denied_never_lives(self):
        if any(isinstance(event, SignInDenied) for event in self.events):
            assert not self.state.lives(self.now)


TestSignInLife = SignInLife.TestCase
