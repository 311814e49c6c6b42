from datetime import UTC, datetime
from uuid import UUID

import pytest

from arena_core.domain import credential
from arena_core.domain.credential import (
    AccessToken,
    AccessTokenIssued,
    AccessTokenRevoked,
    AccessTokenRotated,
    IssueAccessToken,
    RevokeAccessToken,
    RotateAccessToken,
    Secret,
    TokenKind,
)
from arena_core.domain.errors import AlreadyExists, NotFound, Rejected
from arena_core.domain.ids import TokenId
from arena_core.domain.values import Role
from unit.spec import Spec

spec = Spec(credential, datetime(2026, 9, 1, tzinfo=UTC))

ID = TokenId(UUID(int=1))
OLD, NEW = Secret("a" * 64, "1234"), Secret("b" * 64, "5678")
ISSUE = IssueAccessToken(ID, TokenKind.USER, "laptop", "ada", Role.MEMBER, OLD)
ISSUED = AccessTokenIssued(ID, TokenKind.USER, "laptop", "ada", Role.MEMBER, OLD)
ROTATED = AccessTokenRotated(NEW)
REVOKED = AccessTokenRevoked()


def test_a_token_is_issued_as_asked():
    spec.given().when(ISSUE).then(ISSUED)
    assert spec.given(ISSUED).state == AccessToken(
        ID, TokenKind.USER, "laptop", "ada", Role.MEMBER, OLD
    )


def test_the_name_and_the_user_of_a_token_are_stored_trimmed():
    issue = IssueAccessToken(ID, TokenKind.USER, " laptop", "ada\n", Role.MEMBER, OLD)
    spec.given().when(issue).then(ISSUED)


@pytest.mark.parametrize(
    ("name", "user", "missing"), [(" ", "ada", "name"), ("laptop", " ", "user")]
)
def test_a_token_needs_a_name_and_a_user(name, user, missing):
    issue = IssueAccessToken(ID, TokenKind.USER, name, user, Role.MEMBER, OLD)
    spec.given().when(issue).then_raises(Rejected, f"{missing} is missing")


@pytest.mark.parametrize("history", [(ISSUED,), (ISSUED, REVOKED)])
def test_a_token_is_issued_once(history):
    spec.given(*history).when(ISSUE).then_raises(AlreadyExists)


def test_rule_86_rotating_a_token_forgets_the_old_secret_and_keeps_the_rest():
    spec.given(ISSUED).when(RotateAccessToken(NEW)).then(ROTATED)
    assert spec.given(ISSUED, ROTATED).state == AccessToken(
        ID, TokenKind.USER, "laptop", "ada", Role.MEMBER, NEW
    )


def test_rotating_to_the_present_secret_changes_nothing():
    spec.given(ISSUED, ROTATED).when(RotateAccessToken(NEW)).then()


def test_rule_86_a_revoked_token_is_dead_for_ever():
    spec.given(ISSUED).when(RevokeAccessToken()).then(REVOKED)
    assert not spec.given(ISSUED).state.deleted
    assert spec.given(ISSUED, REVOKED).state.deleted
    spec.given(ISSUED, REVOKED).when(RotateAccessToken(NEW)).then_raises(NotFound)


def test_revoking_twice_changes_nothing():
    spec.given(ISSUED, REVOKED).when(RevokeAccessToken()).then()


@pytest.mark.parametrize("command", [RotateAccessToken(NEW), RevokeAccessToken()])
def test_a_token_that_never_was_is_not_found(command):
    spec.given().when(command).then_raises(NotFound, "no such token")


def test_no_text_of_a_token_shows_the_hash_of_its_secret():
    for thing in (ISSUE, ISSUED, ROTATED, spec.given(ISSUED).state):
        assert OLD.sha256 not in repr(thing)
        assert NEW.sha256 not in repr(thing)
