"""A key stands for one thing that was asked for, for a day."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from arena_core.domain.errors import AlreadyCarriedOut, KeyReused
from arena_core.domain.ids import Digest, RequestId
from arena_core.domain.keyed_request import (
    LIFETIME,
    CarryOut,
    RequestCarriedOut,
    decide,
    evolve,
)

ID = RequestId(UUID(int=1))
NOW = datetime(2026, 9, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


def carry_out(digest="a"):
    return CarryOut(ID, "POST", "/api/v1/projects", Digest(digest))


def done(digest="a", at=NOW):
    return RequestCarriedOut(
        ID, "POST", "/api/v1/projects", Digest(digest), at + LIFETIME
    )


def test_what_is_done_first_is_recorded_with_its_end():
    assert decide(carry_out(), None, NOW) == [done()]
    assert timedelta(hours=24) == LIFETIME


@pytest.mark.parametrize("later", [timedelta(0), MOMENT, LIFETIME - MOMENT])
def test_it_is_not_done_again_while_the_key_lasts(later):
    with pytest.raises(AlreadyCarriedOut):
        decide(carry_out(), evolve(None, done()), NOW + later)


@pytest.mark.parametrize("later", [timedelta(0), LIFETIME - MOMENT])
def test_something_else_under_the_same_key_is_refused(later):
    with pytest.raises(KeyReused, match="use a new one") as refused:
        decide(carry_out("b"), evolve(None, done()), NOW + later)
    assert refused.value.field == "Idempotency-Key"


@pytest.mark.parametrize("digest", ["a", "b"])
def test_at_its_end_the_key_can_be_used_anew(digest):
    then = NOW + LIFETIME
    first = evolve(None, done())
    assert decide(carry_out(digest), first, then) == [done(digest, then)]
    second = evolve(first, done(digest, then))
    assert (first.uses, second.uses) == (1, 2)
    assert second.digest == digest
    assert not second.is_known(Digest("c"), then + LIFETIME)
