"""Swaps as the domain decides them; `test_machines` tries what nobody thought of."""

from datetime import UTC, datetime, timedelta
from functools import reduce
from uuid import UUID

import pytest

from arena_core.domain import deployment
from arena_core.domain.agent import Cause, Frozen
from arena_core.domain.deployment import (
    AssignCheckpoint,
    Bake,
    CheckpointAssigned,
    ConnectClaimed,
    Connected,
    ConnectFailed,
    ConnectionLost,
    ConnectRequested,
    DeploymentCreated,
    DeploymentDeleted,
    Disconnected,
    MemoryScope,
    ParityChecked,
    RecordParity,
    ServerReplaced,
    StartServing,
    StartSwap,
    Status,
    TakeOver,
    react,
)
from arena_core.domain.errors import IllegalTransition, NotFound, Rejected
from arena_core.domain.guards import LONGEST_BAKE_S, Figures, Guard, Limit
from arena_core.domain.ids import AgentId, Digest, WorkerId, deployment_of
from arena_core.domain.parity import Parity, Verdict
from arena_core.domain.swap import (
    BakingStopped,
    CheckpointSwapped,
    Ended,
    Mode,
    Outcome,
    Phase,
    Shadow,
    ShadowCompared,
    ShadowStarted,
    SwapClaimed,
    SwapFailed,
    SwapInterrupted,
    SwapPassed,
    SwapRequested,
    SwapReverted,
)
from arena_core.domain.swap_commands import (
    ClaimSwap,
    ConfirmSwap,
    EndBaking,
    FailSwap,
    LoseSwap,
    RequestSwap,
    RevertSwap,
)
from arena_core.domain.values import CheckpointType, Scores
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
LEASE, BAKE = timedelta(seconds=30), timedelta(seconds=600)
TICK = timedelta(microseconds=1)
spec = Spec(deployment, NOW)
when_the_lease_is_over = Spec(deployment, NOW + LEASE)
when_it_has_baked = Spec(deployment, NOW + BAKE)

AGENT = AgentId(UUID(int=1))
ID = deployment_of(AGENT)
ANN, BOB = WorkerId(UUID(int=2)), WorkerId(UUID(int=3))
A, B, C = (Digest(letter * 64) for letter in "abc")
PASSED, WRONG = Parity(Verdict.PASSED, 128), Parity(Verdict.FAILED, 1)
GUARD, SHADOW = Guard(600.0, error_rate=0.01), Shadow(600.0)
SEEN = Figures(requests=100)


def frozen(digest):
    return Frozen(CheckpointType.FINAL, 5_000, digest, Scores())


DEPLOYED = (
    DeploymentCreated(ID, AGENT, A, MemoryScope.USER),
    ConnectRequested(),
    ConnectClaimed(ANN, NOW + LEASE, 1, 1),
    ParityChecked(ANN, A, PASSED),
    Connected(ANN, A, "onnx", "cpu", 12.5),
)
REQUESTED = SwapRequested(frozen(B), Cause.REDEPLOY, None, None)
CLAIMED = SwapClaimed(BOB, NOW + LEASE, 2, 1)
CHECKED = ParityChecked(BOB, B, PASSED)
SWAPPED = CheckpointSwapped(BOB, A, B, "onnx", "cpu", 11.0, None)
FAILED = SwapFailed(BOB, B, "out of memory")

REQUEST = RequestSwap(frozen(B), Cause.REDEPLOY)
CLAIM = ClaimSwap(BOB, NOW + LEASE)
CHECK = RecordParity(BOB, 2, PASSED)
CONFIRM = ConfirmSwap(BOB, 2, "onnx", "cpu", 11.0)
FAIL = FailSwap(BOB, 2, "out of memory")
LOSE = LoseSwap(BOB, "it has ended")

ASKED = (*DEPLOYED, REQUESTED)
AT_WORK = (*ASKED, CLAIMED)
GUARDED = (
    *DEPLOYED,
    SwapRequested(frozen(B), Cause.REDEPLOY, GUARD, None),
    CLAIMED,
    CHECKED,
    CheckpointSwapped(BOB, A, B, "onnx", "cpu", 11.0, NOW + BAKE),
)
SHADOWED = (
    *DEPLOYED,
    SwapRequested(frozen(B), Cause.REDEPLOY, None, SHADOW),
    CLAIMED,
    CHECKED,
    ShadowStarted(BOB, B, "onnx", "cpu", 11.0, NOW + BAKE),
)


def test_a_swap_leads_from_one_checkpoint_to_another_without_a_gap():
    spec.given(*DEPLOYED).when(REQUEST).then(REQUESTED)
    spec.given(*ASKED).when(CLAIM).then(CLAIMED)
    spec.given(*AT_WORK).when(CHECK).then(CHECKED)
    spec.given(*AT_WORK, CHECKED).when(CONFIRM).then(SWAPPED)
    for history in (ASKED, AT_WORK, (*AT_WORK, CHECKED)):
        state = spec.given(*history).state
        assert (state.status, state.digest, state.server) == (Status.DEPLOYED, A, ANN)
        assert state.parity == PASSED
    state = spec.given(*AT_WORK, CHECKED, SWAPPED).state
    assert (state.status, state.digest, state.server) == (Status.DEPLOYED, B, BOB)
    assert (state.parity, state.swap) == (PASSED, None)
    assert state.last_swap == Ended(B, Outcome.SWAPPED)


def test_a_swap_is_outstanding_until_somebody_holds_a_lease_on_it():
    assert react(spec.given(*ASKED).state, NOW) == StartSwap(ID, B)
    claimed = spec.given(*AT_WORK).state
    assert react(claimed, NOW + LEASE - TICK) is None
    assert react(claimed, NOW + LEASE) == StartSwap(ID, B)
    assert react(spec.given(*AT_WORK, DeploymentDeleted()).state, NOW + LEASE) is None


def test_both_weights_are_needed_while_a_swap_is_under_way_or_bakes():
    assert spec.given(*DEPLOYED).state.digests == (A,)
    assert spec.given(*ASKED).state.digests == (A, B)
    assert spec.given(*GUARDED).state.digests == (B, A)
    assert spec.given(*SHADOWED).state.digests == (A, B)
    assert spec.given(*AT_WORK, CHECKED, SWAPPED).state.digests == (B,)


@pytest.mark.parametrize("worker", [ANN, BOB])
def test_a_claim_excludes_every_other_until_its_lease_is_over(worker):
    claim = ClaimSwap(worker, NOW + 3 * LEASE)
    refused = spec.given(*AT_WORK).when(claim)
    refused.then_raises(IllegalTransition, "no swap to claim")
    taken_over = SwapClaimed(worker, NOW + 3 * LEASE, 3, 2)
    when_the_lease_is_over.given(*AT_WORK).when(claim).then(taken_over)


@pytest.mark.parametrize("history", [DEPLOYED, GUARDED, SHADOWED])
def test_only_what_is_to_be_loaded_can_be_claimed(history):
    refused = spec.given(*history).when(CLAIM)
    refused.then_raises(IllegalTransition, "no swap to claim")


def test_a_lease_must_end_in_the_future():
    spec.given(*ASKED).when(ClaimSwap(BOB, NOW)).then_raises(Rejected, "future")


TAKEN_OVER = (*AT_WORK, SwapClaimed(ANN, NOW + 2 * LEASE, 3, 2))


@pytest.mark.parametrize("outcome", [CHECK, CONFIRM, FAIL], ids=str)
@pytest.mark.parametrize(
    "history",
    [DEPLOYED, ASKED, TAKEN_OVER, GUARDED, SHADOWED, (*AT_WORK, FAILED)],
    ids=["none", "unclaimed", "taken over", "guarded", "shadowed", "failed"],
)
def test_a_worker_without_the_claim_can_report_nothing(history, outcome):
    refused = when_the_lease_is_over.given(*history).when(outcome)
    refused.then_raises(IllegalTransition, "not, or no longer, yours")


@pytest.mark.parametrize(
    "history",
    [
        AT_WORK,
        (*AT_WORK, ParityChecked(BOB, B, WRONG)),
        (*AT_WORK, CHECKED, SwapClaimed(BOB, NOW + 2 * LEASE, 2, 2)),
    ],
    ids=["unchecked", "failed", "checked in an earlier claim"],
)
def test_nothing_is_swapped_in_without_its_parity(history):
    spec.given(*history).when(CONFIRM).then_raises(IllegalTransition, "parity")


def test_what_was_never_traced_may_be_swapped_in():
    untraced = ParityChecked(BOB, B, Parity(Verdict.UNCHECKED))
    spec.given(*AT_WORK, untraced).when(CONFIRM).then(SWAPPED)


def test_a_swap_that_fails_leaves_what_was_live():
    spec.given(*AT_WORK).when(FAIL).then(FAILED)
    state = spec.given(*AT_WORK, FAILED).state
    assert (state.status, state.digest, state.swap) == (Status.DEPLOYED, A, None)
    assert state.last_swap == Ended(B, Outcome.FAILED, "out of memory")
    spec.given(*AT_WORK, FAILED).when(REQUEST).then(REQUESTED)


def test_a_swap_whose_worker_is_lost_may_be_claimed_by_another():
    lost = SwapInterrupted(BOB, "it has ended")
    spec.given(*AT_WORK).when(LOSE).then(lost)
    spec.given(*AT_WORK).when(LoseSwap(ANN, "it has ended")).then()
    spec.given(*ASKED).when(LOSE).then()
    spec.given(*DEPLOYED).when(LOSE).then()
    again = SwapClaimed(BOB, NOW + LEASE, 3, 2)
    spec.given(*AT_WORK, lost).when(CLAIM).then(again)


def test_a_swap_outlives_the_loss_of_what_is_live():
    lost = ConnectionLost(ANN, "it has ended")
    state = spec.given(*AT_WORK, lost).state
    assert (state.status, state.swap.claim) == (Status.PENDING, None)
    assert react(state, NOW) == StartServing(ID, A)
    refused = spec.given(*AT_WORK, CHECKED, lost).when(CONFIRM)
    refused.then_raises(IllegalTransition, "only what is Deployed can be swapped")
    back = (
        ConnectClaimed(BOB, NOW + LEASE, 3, 1),
        ParityChecked(BOB, A, PASSED),
        Connected(BOB, A, "onnx", "cpu", 12.5),
    )
    state = spec.given(*AT_WORK, lost, *back).state
    assert react(state, NOW) == StartSwap(ID, B)


@pytest.mark.parametrize(
    "end", [Disconnected(), DeploymentDeleted(), ConnectFailed(ANN, "out of memory")]
)
@pytest.mark.parametrize("history", [AT_WORK, GUARDED, SHADOWED])
def test_what_takes_the_deployment_off_ends_its_swap(history, end):
    assert spec.given(*history, end).state.swap is None


# --- orders --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        RequestSwap(frozen(A), Cause.REDEPLOY),
        RequestSwap(frozen(A), Cause.ROLLBACK),
        RequestSwap(frozen(A), Cause.REDEPLOY, GUARD),
        RequestSwap(frozen(A), Cause.REDEPLOY, shadow=SHADOW),
    ],
)
def test_to_ask_for_what_is_live_changes_nothing(asked):
    spec.given(*DEPLOYED).when(asked).then()


def test_to_ask_for_what_bakes_changes_nothing():
    spec.given(*GUARDED).when(REQUEST).then()
    again = RequestSwap(frozen(B), Cause.REDEPLOY, shadow=SHADOW)
    spec.given(*SHADOWED).when(again).then()


def test_to_ask_for_what_is_live_ends_a_shadow():
    back = RequestSwap(frozen(A), Cause.REDEPLOY)
    spec.given(*SHADOWED).when(back).then(BakingStopped(B))


@pytest.mark.parametrize(
    "other",
    [
        RequestSwap(frozen(C), Cause.REDEPLOY),
        RequestSwap(frozen(A), Cause.ROLLBACK),
        RequestSwap(frozen(B), Cause.REDEPLOY, GUARD),
    ],
)
def test_one_swap_waits_for_another(other):
    refused = spec.given(*AT_WORK).when(other)
    refused.then_raises(IllegalTransition, "Another swap is under way")


@pytest.mark.parametrize(
    ("history", "digest"), [(GUARDED, A), (GUARDED, C), (SHADOWED, B), (SHADOWED, C)]
)
def test_an_order_ends_what_bakes(history, digest):
    stopped = BakingStopped(B)
    asked = SwapRequested(frozen(digest), Cause.ROLLBACK, None, None)
    order = RequestSwap(frozen(digest), Cause.ROLLBACK)
    spec.given(*history).when(order).then(stopped, asked)
    state = spec.given(*history, stopped).state
    assert (state.swap, state.last_swap) == (None, Ended(B, Outcome.STOPPED))


def test_a_guard_and_a_shadow_exclude_each_other():
    with pytest.raises(Rejected, match="one of guard and shadow"):
        RequestSwap(frozen(B), Cause.REDEPLOY, GUARD, SHADOW)


@pytest.mark.parametrize("bake_s", [0, -1, LONGEST_BAKE_S + 1, float("nan")])
def test_a_shadow_bakes_for_a_time_that_is_bounded(bake_s):
    with pytest.raises(Rejected, match="greater than 0 and at most"):
        Shadow(bake_s)


@pytest.mark.parametrize("asked", [REQUEST, CLAIM, CONFIRM, FAIL], ids=str)
def test_what_is_not_deployed_is_not_swapped(asked):
    refused = spec.given(*DEPLOYED, Disconnected()).when(asked)
    refused.then_raises(IllegalTransition, "The agent is Undeployed: only what is")


def test_a_deployment_that_never_was_has_nothing_to_swap():
    spec.given().when(REQUEST).then_raises(NotFound)
    spec.given(*DEPLOYED, DeploymentDeleted()).when(REQUEST).then_raises(NotFound)


# --- baking --------------------------------------------------------------------------


def test_a_guard_lets_the_new_weights_answer_and_bake():
    state = spec.given(*GUARDED).state
    assert (state.digest, state.server, state.parity) == (B, BOB, PASSED)
    assert (state.swap.mode, state.swap.phase) == (Mode.GUARDED, Phase.BAKING)
    assert state.last_swap is None, "it has not ended"
    for now in (NOW, NOW + 2 * BAKE):
        assert react(state, now) == Bake(ID, B, NOW + BAKE)
    asked = spec.given(*GUARDED[:-3]).state.swap
    assert (asked.mode, asked.phase) == (Mode.GUARDED, Phase.LOADING)
    spec.given(*GUARDED[:-1]).when(CONFIRM).then(GUARDED[-1])


def test_a_shadow_lets_the_old_weights_answer():
    spec.given(*SHADOWED[:-1]).when(CONFIRM).then(SHADOWED[-1])
    state = spec.given(*SHADOWED).state
    assert (state.digest, state.server, state.swap.mode) == (A, ANN, Mode.SHADOW)
    assert react(state, NOW) == Bake(ID, B, NOW + BAKE)


REVERT = RevertSwap(ANN, B, Limit.ERROR_RATE, SEEN)


def test_a_limit_that_is_crossed_brings_the_old_weights_back_at_once():
    reverted = SwapReverted(ANN, B, A, Limit.ERROR_RATE, SEEN)
    spec.given(*GUARDED).when(REVERT).then(reverted)
    state = spec.given(*GUARDED, reverted).state
    assert (state.status, state.digest, state.server) == (Status.DEPLOYED, A, ANN)
    assert (state.swap, state.parity) == (None, PASSED)
    ended = Ended(B, Outcome.REVERTED, limit=Limit.ERROR_RATE, figures=SEEN)
    assert state.last_swap == ended
    second = spec.given(*GUARDED, reverted).when(REVERT)
    second.then_raises(IllegalTransition, "No guarded swap")


@pytest.mark.parametrize("history", [DEPLOYED, ASKED, SHADOWED])
def test_only_a_guarded_swap_is_reverted(history):
    refused = spec.given(*history).when(REVERT)
    refused.then_raises(IllegalTransition, "No guarded swap to it is baking")


def test_figures_of_an_earlier_swap_revert_nothing():
    late = RevertSwap(ANN, C, Limit.ERROR_RATE, SEEN)
    spec.given(*GUARDED).when(late).then_raises(IllegalTransition, "to it")


@pytest.mark.parametrize(
    ("history", "server", "ended", "outcome"),
    [
        (GUARDED, BOB, SwapPassed(BOB, B, SEEN), Outcome.PASSED),
        (SHADOWED, ANN, ShadowCompared(ANN, B, SEEN), Outcome.COMPARED),
    ],
    ids=["guarded", "shadowed"],
)
def test_the_server_says_what_was_seen_when_the_time_is_over(
    history, server, ended, outcome
):
    end = EndBaking(server, SEEN)
    when_it_has_baked.given(*history).when(end).then(ended)
    early = Spec(deployment, NOW + BAKE - TICK).given(*history).when(end)
    early.then_raises(IllegalTransition, "not over")
    other = EndBaking(ANN if server == BOB else BOB, SEEN)
    refused = when_it_has_baked.given(*history).when(other)
    refused.then_raises(IllegalTransition, "Nothing that this worker serves")
    state = spec.given(*history, ended).state
    assert (state.swap, state.last_swap) == (None, Ended(B, outcome, figures=SEEN))


@pytest.mark.parametrize("history", [DEPLOYED, ASKED])
def test_what_does_not_bake_does_not_end(history):
    refused = when_it_has_baked.given(*history).when(EndBaking(ANN, SEEN))
    refused.then_raises(IllegalTransition, "Nothing that this worker serves")


# --- where nothing is live -----------------------------------------------------------


@pytest.mark.parametrize(
    "history",
    [DEPLOYED[:1], (*DEPLOYED[:3], ConnectFailed(ANN, "broken"))],
    ids=["undeployed", "failed"],
)
def test_what_is_not_live_is_given_other_weights_at_once(history):
    before = spec.given(*history)
    before.when(AssignCheckpoint(B)).then(CheckpointAssigned(B))
    state = spec.given(*history, CheckpointAssigned(B)).state
    assert (state.digest, state.parity) == (B, None)
    assert state.status is before.state.status
    before.when(AssignCheckpoint(A)).then()


def test_what_is_pending_or_live_is_not():
    pending = spec.given(*DEPLOYED[:2]).when(AssignCheckpoint(B))
    pending.then_raises(IllegalTransition, "is Pending: wait")
    live = spec.given(*DEPLOYED).when(AssignCheckpoint(B))
    live.then_raises(IllegalTransition, "put live meanwhile")
    spec.given().when(AssignCheckpoint(B)).then()


# --- another server ------------------------------------------------------------------


def test_another_worker_serves_on_where_one_is_lost():
    take = TakeOver(BOB, ANN, "it has ended")
    replaced = ServerReplaced(BOB, ANN, "it has ended")
    spec.given(*DEPLOYED).when(take).then(replaced)
    state = spec.given(*DEPLOYED, replaced).state
    assert (state.status, state.server, state.reason) == (Status.DEPLOYED, BOB, None)
    spec.given(*DEPLOYED, replaced).when(take).then()
    spec.given(*DEPLOYED).when(TakeOver(ANN, ANN, "it has ended")).then()
    spec.given(*DEPLOYED, Disconnected()).when(take).then()


@pytest.mark.parametrize(
    "event",
    [
        CLAIMED,
        SWAPPED,
        CHECKED,
        ShadowStarted(BOB, B, "onnx", "cpu", 11.0, NOW + BAKE),
        SwapInterrupted(BOB, "it ended"),
    ],
)
def test_history_that_knows_of_no_swap_is_followed_all_the_same(event):
    """Nothing decides so; what evolves must not refuse what has happened."""
    state = reduce(deployment.evolve, (*DEPLOYED, event), None)
    assert state.swap is None
    assert state.status is Status.DEPLOYED


def test_the_parity_of_other_weights_is_not_that_of_the_swap():
    other = ParityChecked(BOB, C, WRONG)
    before = reduce(deployment.evolve, AT_WORK, None)
    assert deployment.evolve(before, other).swap == before.swap
