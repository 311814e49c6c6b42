from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve as but

from arena_core.domain import checkpoint_import
from arena_core.domain.checkpoint_import import (
    CancelImport,
    ClaimImport,
    ConvertOrder,
    FailImport,
    Files,
    Import,
    ImportCancelled,
    ImportClaimed,
    ImportFailed,
    ImportInterrupted,
    ImportReleased,
    ImportRequested,
    ImportSucceeded,
    InterruptImport,
    Order,
    ReleaseImport,
    RequestImport,
    Status,
    SucceedImport,
    react,
)
from arena_core.domain.errors import (
    AlreadyExists,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import Digest, ExperimentId, ImportId, WorkerId
from arena_core.domain.values import Scores
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)
TICK = timedelta(microseconds=1)
spec = Spec(checkpoint_import, NOW)
when_the_lease_is_over = Spec(checkpoint_import, NOW + LEASE)

ID, EXPERIMENT = ImportId(UUID(int=1)), ExperimentId(UUID(int=2))
ANN, BOB = WorkerId(UUID(int=3)), WorkerId(UUID(int=4))
BUNDLE = Digest("b" * 64)
FILES = Files(Digest("a" * 64), 1024)
ORDER = Order("sb3", 50_000, scores=Scores(evaluation=480.0))
WHY = "It is no ZIP archive."

REQUESTED = ImportRequested(ID, EXPERIMENT, FILES, ORDER)
CLAIMED = ImportClaimed(ANN, NOW + LEASE, 1)
SUCCEEDED = ImportSucceeded(ANN, BUNDLE)
FAILED = ImportFailed(ANN, WHY)
INTERRUPTED = ImportInterrupted(ANN, "it has ended")
RELEASED = ImportReleased(ANN, "it was stopped")
CANCELLED = ImportCancelled()

REQUEST = RequestImport(ID, EXPERIMENT, FILES, ORDER)
CLAIM = ClaimImport(ANN, NOW + LEASE)
SUCCEED = SucceedImport(ANN, 1, BUNDLE)
FAIL = FailImport(ANN, 1, WHY)
INTERRUPT = InterruptImport(ANN, "it has ended")
RELEASE = ReleaseImport(ANN, "it was stopped")

AT_WORK = (REQUESTED, CLAIMED)
IN = {
    Status.PENDING: (REQUESTED,),
    Status.RUNNING: AT_WORK,
    Status.SUCCEEDED: (*AT_WORK, SUCCEEDED),
    Status.FAILED: (*AT_WORK, FAILED),
    Status.CANCELLED: (REQUESTED, CANCELLED),
}
ENDED = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)


def test_an_import_keeps_what_was_ordered():
    spec.given().when(REQUEST).then(REQUESTED)
    assert spec.given(REQUESTED).state == Import(ID, EXPERIMENT, FILES, ORDER)


def test_an_import_is_ordered_once():
    spec.given(REQUESTED).when(REQUEST).then_raises(AlreadyExists)


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        (FILES, {"digest": "latest"}),
        (FILES, {"size_bytes": -1}),
        (ORDER, {"step": -1}),
        (ORDER, {"format": " "}),
        (ORDER, {"algorithm": ""}),
    ],
)
def test_what_is_ordered_must_make_sense(what, wrong):
    with pytest.raises(Rejected) as refused:
        but(what, **wrong)
    assert [refused.value.field] == list(wrong)


@pytest.mark.parametrize(
    "command", [CLAIM, SUCCEED, FAIL, INTERRUPT, RELEASE, CancelImport()]
)
def test_nothing_becomes_of_what_was_never_ordered(command):
    spec.given().when(command).then_raises(NotFound)


@pytest.mark.parametrize("status", Status)
def test_each_history_leads_to_its_status(status):
    assert spec.given(*IN[status]).state.status is status


# --- claims --------------------------------------------------------------------------


def test_a_worker_claims_what_is_outstanding():
    spec.given(REQUESTED).when(CLAIM).then(CLAIMED)


def test_nobody_claims_what_another_works_on():
    claim = ClaimImport(BOB, NOW + 2 * LEASE)
    spec.given(*AT_WORK).when(claim).then_raises(IllegalTransition)


def test_a_lease_that_is_over_is_taken_over_and_counted():
    claim = ClaimImport(BOB, NOW + 2 * LEASE)
    claimed = ImportClaimed(BOB, NOW + 2 * LEASE, 2)
    when_the_lease_is_over.given(*AT_WORK).when(claim).then(claimed)


def test_a_lease_ends_in_the_future():
    claim = ClaimImport(ANN, NOW)
    spec.given(REQUESTED).when(claim).then_raises(Rejected, "future")


@pytest.mark.parametrize("status", ENDED)
def test_nobody_claims_what_has_ended(status):
    given = when_the_lease_is_over.given(*IN[status])
    given.when(ClaimImport(BOB, NOW + 2 * LEASE)).then_raises(IllegalTransition)


def test_claims_are_counted_on_after_an_interruption():
    given = spec.given(*AT_WORK, INTERRUPTED)
    given.when(CLAIM).then(ImportClaimed(ANN, NOW + LEASE, 2))


# --- outcomes ------------------------------------------------------------------------


def test_what_came_of_it_is_the_digest_of_the_bundle():
    spec.given(*AT_WORK).when(SUCCEED).then(SUCCEEDED)
    state = spec.given(*AT_WORK, SUCCEEDED).state
    assert (state.digest, state.reason, state.claim) == (BUNDLE, None, None)


def test_a_failure_says_why():
    spec.given(*AT_WORK).when(FAIL).then(FAILED)
    assert spec.given(*AT_WORK, FAILED).state.reason == WHY
    with pytest.raises(Rejected, match="reason"):
        FailImport(ANN, 1, " ")


HEIR = ImportClaimed(BOB, NOW + 2 * LEASE, 2)
OWN_HEIR = ImportClaimed(ANN, NOW + 2 * LEASE, 2)


@pytest.mark.parametrize("outcome", [SUCCEED, FAIL])
@pytest.mark.parametrize(
    "since",
    [
        (HEIR,),
        (OWN_HEIR,),
        (INTERRUPTED,),
        (RELEASED,),
        (SUCCEEDED,),
        (FAILED,),
        (CANCELLED,),
    ],
)
def test_the_outcome_of_a_claim_that_is_over_is_refused(outcome, since):
    spec.given(*AT_WORK, *since).when(outcome).then_raises(IllegalTransition)


def test_what_a_worker_was_doing_can_be_lost():
    spec.given(*AT_WORK).when(INTERRUPT).then(INTERRUPTED)
    state = spec.given(*AT_WORK, INTERRUPTED).state
    assert (state.status, state.reason) == (Status.PENDING, "it has ended")
    assert spec.given(*AT_WORK, INTERRUPTED, HEIR).state.reason is None


@pytest.mark.parametrize("command", [INTERRUPT, RELEASE])
@pytest.mark.parametrize("since", [(HEIR,), (SUCCEEDED,), (CANCELLED,)])
def test_the_loss_of_a_worker_that_holds_nothing_is_no_news(since, command):
    spec.given(*AT_WORK, *since).when(command).then()


def test_what_a_worker_gives_back_is_pending_again():
    spec.given(*AT_WORK).when(RELEASE).then(RELEASED)
    state = spec.given(*AT_WORK, RELEASED).state
    assert (state.status, state.reason) == (Status.PENDING, "it was stopped")
    assert state.claim is None
    with pytest.raises(Rejected, match="reason"):
        ReleaseImport(ANN, " ")


@pytest.mark.parametrize(
    ("since", "claims", "attempts"),
    [
        ((), 1, 1),
        ((INTERRUPTED,), 1, 1),
        ((RELEASED,), 1, 0),
        ((RELEASED, HEIR), 2, 1),
        ((INTERRUPTED, HEIR), 2, 2),
        ((HEIR,), 2, 2),
    ],
)
def test_every_claim_is_an_attempt_unless_it_was_given_back(since, claims, attempts):
    state = spec.given(*AT_WORK, *since).state
    assert (state.claims, state.attempts) == (claims, attempts)


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
def test_what_has_not_ended_can_be_cancelled(status):
    spec.given(*IN[status]).when(CancelImport()).then(CANCELLED)


def test_cancelling_twice_changes_nothing():
    spec.given(REQUESTED, CANCELLED).when(CancelImport()).then()


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
def test_what_has_ended_cannot_be_cancelled(status):
    given = spec.given(*IN[status])
    given.when(CancelImport()).then_raises(IllegalTransition, status.value)


# --- what is outstanding -------------------------------------------------------------


WORK = ConvertOrder(ID, FILES, ORDER)


@pytest.mark.parametrize(
    ("history", "now", "work"),
    [
        ((REQUESTED,), NOW, WORK),
        (AT_WORK, NOW + LEASE - TICK, None),
        (AT_WORK, NOW + LEASE, WORK),
        ((*AT_WORK, INTERRUPTED), NOW, WORK),
        ((*AT_WORK, RELEASED), NOW, WORK),
        *((IN[status], NOW + LEASE, None) for status in ENDED),
    ],
)
def test_work_is_outstanding_unless_it_has_ended_or_somebody_does_it(
    history, now, work
):
    assert react(spec.given(*history).state, now) == work
