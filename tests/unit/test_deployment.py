from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve as but

from arena_core.domain import deployment
from arena_core.domain.deployment import (
    ClaimConnect,
    ConfirmConnected,
    Connect,
    ConnectClaimed,
    Connected,
    ConnectFailed,
    ConnectionLost,
    ConnectRequested,
    CreateDeployment,
    DeleteDeployment,
    Deployment,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentKeyRotated,
    DeploymentRestored,
    Disconnect,
    Disconnected,
    FailConnect,
    LoseConnection,
    MemoryScope,
    ParityChecked,
    RecordParity,
    RestoreDeployment,
    RotateKey,
    StartServing,
    Status,
    react,
)
from arena_core.domain.errors import (
    AlreadyExists,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import AgentId, Digest, WorkerId, deployment_of
from arena_core.domain.parity import Difference, Parity, Verdict
from arena_core.domain.values import Claim
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)
BEFORE_IT_ENDS = NOW + LEASE - timedelta(microseconds=1)
spec = Spec(deployment, NOW)
when_the_lease_is_over = Spec(deployment, NOW + LEASE)

AGENT = AgentId(UUID(int=1))
ID = deployment_of(AGENT)
ANN, BOB = WorkerId(UUID(int=2)), WorkerId(UUID(int=3))
WEIGHTS = Digest("a" * 64)
PASSED = Parity(Verdict.PASSED, 128)

CREATED = DeploymentCreated(ID, AGENT, WEIGHTS, MemoryScope.USER)
REQUESTED = ConnectRequested()
CLAIMED = ConnectClaimed(ANN, NOW + LEASE, 1, 1)
CHECKED = ParityChecked(ANN, WEIGHTS, PASSED)
CONNECTED = Connected(ANN, WEIGHTS, "onnx", "cpu", 12.5)
FAILED = ConnectFailed(ANN, "out of memory")
LOST = ConnectionLost(ANN, "it stopped answering")
DISCONNECTED = Disconnected()
DELETED = DeploymentDeleted()
RESTORED = DeploymentRestored()

CLAIM = ClaimConnect(ANN, NOW + LEASE)
CHECK = RecordParity(ANN, 1, PASSED)
CONFIRM = ConfirmConnected(ANN, 1, "onnx", "cpu", 12.5)
FAIL = FailConnect(ANN, 1, "out of memory")
LOSE = LoseConnection(ANN, "it stopped answering")

PENDING = (CREATED, REQUESTED)
AT_WORK = (*PENDING, CLAIMED)
DEPLOYED = (*AT_WORK, CHECKED, CONNECTED)
IN = {
    Status.UNDEPLOYED: (CREATED,),
    Status.PENDING: PENDING,
    Status.DEPLOYED: DEPLOYED,
    Status.FAILED: (*AT_WORK, FAILED),
}
UNDEPLOYED = Deployment(ID, AGENT, WEIGHTS, MemoryScope.USER)


def status_after(*events):
    return spec.given(*events).state.status


def test_a_deployment_is_created_as_asked():
    shared = MemoryScope.ORGANIZATION
    create = CreateDeployment(ID, AGENT, WEIGHTS, shared)
    spec.given().when(create).then(DeploymentCreated(ID, AGENT, WEIGHTS, shared))
    assert spec.given(CREATED).state == UNDEPLOYED


def test_rule_87_conversations_are_the_users_own_unless_asked_otherwise():
    spec.given().when(CreateDeployment(ID, AGENT, WEIGHTS)).then(CREATED)


def test_a_deployment_serves_weights_that_a_digest_names():
    with pytest.raises(Rejected, match="digest"):
        CreateDeployment(ID, AGENT, Digest("latest"))


@pytest.mark.parametrize("history", [(CREATED,), (CREATED, DELETED)])
def test_an_agent_has_one_deployment(history):
    create = CreateDeployment(ID, AGENT, WEIGHTS)
    spec.given(*history).when(create).then_raises(AlreadyExists)


def test_the_id_of_a_deployment_follows_from_its_agent():
    assert deployment_of(AGENT) == ID
    assert deployment_of(AgentId(UUID(int=9))) != ID


def test_rule_16_a_new_deployment_serves_nothing_until_connect():
    assert status_after(CREATED) is Status.UNDEPLOYED
    assert react(spec.given(CREATED).state, NOW) is None


def test_rule_35_the_statuses_have_the_names_that_clients_know():
    assert [status.value for status in Status] == [
        "Undeployed", "Pending", "Deployed", "Failed",
    ]  # fmt: skip


@pytest.mark.parametrize("status", Status)
def test_rule_36_every_status_is_reached_by_its_history(status):
    assert status_after(*IN[status]) is status


def test_rule_37_connect_leads_over_pending_to_deployed():
    spec.given(CREATED).when(Connect()).then(REQUESTED)
    spec.given(*PENDING).when(CLAIM).then(CLAIMED)
    spec.given(*AT_WORK).when(CHECK).then(CHECKED)
    spec.given(*AT_WORK, CHECKED).when(CONFIRM).then(CONNECTED)
    assert spec.given(*PENDING).state == but(UNDEPLOYED, status=Status.PENDING)
    assert spec.given(*AT_WORK).state == but(
        UNDEPLOYED,
        status=Status.PENDING,
        claim=Claim(ANN, NOW + LEASE, 1),
        claims=1,
        attempt=1,
    )
    assert spec.given(*DEPLOYED).state == but(
        UNDEPLOYED, status=Status.DEPLOYED, server=ANN, parity=PASSED, claims=1
    )


def test_rule_37_connect_leads_over_pending_to_failed():
    spec.given(*AT_WORK).when(FAIL).then(FAILED)
    assert status_after(*AT_WORK, FAILED) is Status.FAILED


def test_rule_37_what_is_lost_is_pending_until_it_is_deployed_again_or_failed():
    spec.given(*DEPLOYED).when(LOSE).then(LOST)
    lost = spec.given(*DEPLOYED, LOST)
    assert lost.state.status is Status.PENDING
    assert lost.state.server is None
    assert react(lost.state, NOW) == StartServing(ID, WEIGHTS)
    claimed_again = ConnectClaimed(ANN, NOW + LEASE, 2, 1)
    lost.when(CLAIM).then(claimed_again)
    again = (*DEPLOYED, LOST, claimed_again, CHECKED)
    confirm = ConfirmConnected(ANN, 2, "onnx", "cpu", 12.5)
    spec.given(*again).when(confirm).then(CONNECTED)
    assert status_after(*again, CONNECTED) is Status.DEPLOYED
    spec.given(*again).when(FailConnect(ANN, 2, "out of memory")).then(FAILED)
    assert status_after(*again, FAILED) is Status.FAILED


@pytest.mark.parametrize("status", [Status.PENDING, Status.DEPLOYED, Status.FAILED])
def test_rule_37_disconnect_leads_from_everywhere_to_undeployed(status):
    spec.given(*IN[status]).when(Disconnect()).then(DISCONNECTED)
    assert status_after(*IN[status], DISCONNECTED) is Status.UNDEPLOYED


def test_rule_37_a_failed_deployment_recovers_by_disconnect_and_connect():
    history = (*IN[Status.FAILED], DISCONNECTED)
    spec.given(*history).when(Connect()).then(REQUESTED)


def test_rule_37_connect_straight_from_failed_is_allowed():
    spec.given(*IN[Status.FAILED]).when(Connect()).then(REQUESTED)
    state = spec.given(*IN[Status.FAILED], REQUESTED).state
    assert state == but(UNDEPLOYED, status=Status.PENDING, claims=1)


@pytest.mark.parametrize("history", [PENDING, AT_WORK, DEPLOYED, (*DEPLOYED, LOST)])
def test_rule_39_connecting_what_is_connected_changes_nothing(history):
    spec.given(*history).when(Connect()).then()


def test_rule_39_disconnecting_what_is_undeployed_changes_nothing():
    spec.given(CREATED).when(Disconnect()).then()
    spec.given(*DEPLOYED, DISCONNECTED).when(Disconnect()).then()


@pytest.mark.parametrize("history", [AT_WORK, DEPLOYED])
def test_rule_40_disconnect_stops_the_endpoint_and_keeps_the_record(history):
    state = spec.given(*history, DISCONNECTED).state
    assert (state.id, state.agent_id, state.digest) == (ID, AGENT, WEIGHTS)
    assert (state.claim, state.server) == (None, None)
    assert react(state, NOW + LEASE) is None


@pytest.mark.parametrize("status", Status)
def test_rule_41_deleting_ends_the_serving(status):
    spec.given(*IN[status]).when(DeleteDeployment()).then(DELETED)
    state = spec.given(*IN[status], DELETED).state
    assert state.deleted
    assert state.status is Status.UNDEPLOYED
    assert react(state, NOW + LEASE) is None


def test_rule_41_a_restored_deployment_is_undeployed():
    given = spec.given(*DEPLOYED, DELETED)
    given.when(RestoreDeployment()).then(RESTORED)
    state = spec.given(*DEPLOYED, DELETED, RESTORED).state
    assert (state.deleted, state.status) == (False, Status.UNDEPLOYED)
    spec.given(*DEPLOYED, DELETED, RESTORED).when(Connect()).then(REQUESTED)


def test_deleting_or_restoring_twice_changes_nothing():
    spec.given(CREATED, DELETED).when(DeleteDeployment()).then()
    spec.given(CREATED).when(RestoreDeployment()).then()


def test_rule_43_a_failed_deployment_says_why_until_the_next_connect():
    assert spec.given(*AT_WORK, FAILED).state.reason == "out of memory"
    for after in (REQUESTED, DISCONNECTED, DELETED):
        assert spec.given(*AT_WORK, FAILED, after).state.reason is None


def test_a_lost_deployment_says_why_until_it_is_back():
    assert spec.given(*DEPLOYED, LOST).state.reason == "it stopped answering"
    assert spec.given(*DEPLOYED, LOST, CLAIMED, CONNECTED).state.reason is None


@pytest.mark.parametrize("status", Status)
def test_rule_49_rotating_the_key_raises_its_version_and_nothing_else(status):
    before = spec.given(*IN[status])
    assert before.state.key_version == 1
    before.when(RotateKey()).then(DeploymentKeyRotated(2))
    after = spec.given(*IN[status], DeploymentKeyRotated(2))
    assert after.state == but(before.state, key_version=2)
    after.when(RotateKey()).then(DeploymentKeyRotated(3))


def test_rule_49_no_key_comes_back_to_life():
    history = (CREATED, DeploymentKeyRotated(2), DELETED, RESTORED, REQUESTED)
    assert spec.given(*history).state.key_version == 2


def test_work_is_outstanding_while_pending_and_nobody_holds_the_lease():
    work = StartServing(ID, WEIGHTS)
    assert react(spec.given(*PENDING).state, NOW) == work
    claimed = spec.given(*AT_WORK).state
    assert react(claimed, BEFORE_IT_ENDS) is None
    assert react(claimed, NOW + LEASE) == work
    for status in set(Status) - {Status.PENDING}:
        assert react(spec.given(*IN[status]).state, NOW + LEASE) is None


@pytest.mark.parametrize("worker", [ANN, BOB])
def test_a_claim_excludes_every_other_until_its_lease_is_over(worker):
    claim = ClaimConnect(worker, NOW + 3 * LEASE)
    in_time = Spec(deployment, BEFORE_IT_ENDS).given(*AT_WORK)
    in_time.when(claim).then_raises(IllegalTransition, "Nothing to claim")
    taken_over = ConnectClaimed(worker, NOW + 3 * LEASE, 2, 2)
    when_the_lease_is_over.given(*AT_WORK).when(claim).then(taken_over)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.PENDING])
def test_only_what_is_pending_can_be_claimed(status):
    refused = spec.given(*IN[status]).when(CLAIM)
    refused.then_raises(IllegalTransition, "Nothing to claim")


TAKEN_OVER = (*AT_WORK, ConnectClaimed(BOB, NOW + 2 * LEASE, 2, 2))


@pytest.mark.parametrize("outcome", [CHECK, CONFIRM, FAIL], ids=str)
@pytest.mark.parametrize(
    "history",
    [
        (CREATED,),
        PENDING,
        TAKEN_OVER,
        DEPLOYED,
        (*AT_WORK, DISCONNECTED, REQUESTED),
        (*AT_WORK, LOST, ConnectClaimed(ANN, NOW + 2 * LEASE, 2, 2), CHECKED),
    ],
    ids=[
        "undeployed",
        "unclaimed",
        "taken over",
        "done",
        "connected anew",
        "claimed anew by itself",
    ],
)
def test_a_worker_without_the_claim_can_report_nothing(history, outcome):
    refused = when_the_lease_is_over.given(*history).when(outcome)
    refused.then_raises(IllegalTransition, "not, or no longer, yours")


@pytest.mark.parametrize("outcome", [CHECK, CONFIRM, FAIL], ids=str)
def test_a_worker_that_is_late_but_not_replaced_may_still_report(outcome):
    events = {CHECK: CHECKED, CONFIRM: CONNECTED, FAIL: FAILED}
    when_the_lease_is_over.given(*AT_WORK, CHECKED).when(outcome).then(events[outcome])


@pytest.mark.parametrize(
    "history",
    [
        AT_WORK,
        (*AT_WORK, ParityChecked(ANN, WEIGHTS, Parity(Verdict.FAILED, 1))),
        (*AT_WORK, CHECKED, LOST, ConnectClaimed(ANN, NOW + LEASE, 1, 2)),
    ],
    ids=["unchecked", "failed", "checked in an earlier claim"],
)
def test_nothing_goes_live_without_its_parity(history):
    refused = spec.given(*history).when(CONFIRM)
    refused.then_raises(IllegalTransition, "parity")


def test_a_lease_must_end_in_the_future():
    past = ClaimConnect(ANN, NOW)
    spec.given(*PENDING).when(past).then_raises(Rejected, "future")


@pytest.mark.parametrize("reason", ["", "  "])
def test_rule_43_a_failure_says_why(reason):
    with pytest.raises(Rejected, match="reason is missing"):
        FailConnect(ANN, 1, reason)
    with pytest.raises(Rejected, match="reason is missing"):
        LoseConnection(ANN, reason)


def test_attempts_count_the_claims_of_one_connect():
    assert spec.given(*TAKEN_OVER).state.attempt == 2
    assert spec.given(*TAKEN_OVER, FAILED, REQUESTED).state.attempt == 0
    given_up = (*AT_WORK, ConnectionLost(ANN, "it was shut down"))
    third = ConnectClaimed(ANN, NOW + LEASE, 2, 2)
    spec.given(*given_up).when(CLAIM).then(third)
    assert spec.given(*DEPLOYED, LOST).state.attempt == 0


def test_a_worker_that_leaves_gives_up_its_claim():
    spec.given(*AT_WORK).when(LOSE).then(LOST)
    state = spec.given(*AT_WORK, LOST).state
    assert (state.status, state.claim) == (Status.PENDING, None)
    assert react(state, NOW) == StartServing(ID, WEIGHTS)


@pytest.mark.parametrize(
    "history",
    [(CREATED,), PENDING, TAKEN_OVER, (*AT_WORK, FAILED), (*DEPLOYED, DISCONNECTED)],
    ids=["undeployed", "unclaimed", "taken over", "failed", "disconnected"],
)
def test_the_loss_of_what_a_worker_does_not_hold_is_no_news(history):
    spec.given(*history).when(LOSE).then()


def test_the_loss_of_another_workers_connection_is_no_news():
    spec.given(*DEPLOYED).when(LoseConnection(BOB, "it was shut down")).then()


def test_a_new_connect_forgets_the_parity_of_the_one_before():
    assert spec.given(*DEPLOYED, DISCONNECTED, REQUESTED).state.parity is None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_difference_holds_finite_numbers_or_says_that_it_has_none(wrong):
    with pytest.raises(Rejected, match="expected must be finite"):
        Difference("two rows", "action", (0, 1), wrong, 1.0)
    with pytest.raises(Rejected, match="served must be finite"):
        Difference("two rows", "action", (0, 1), 1.0, wrong)
    assert Difference("two rows", "action", (0, 1), 1.0, None).served is None


def test_a_measured_time_is_finite():
    with pytest.raises(Rejected, match="load_ms must be finite"):
        ConfirmConnected(ANN, 1, "onnx", "cpu", float("nan"))


LIVING = (
    Connect(), CLAIM, CHECK, CONFIRM, FAIL, LOSE, Disconnect(), RotateKey(),
)  # fmt: skip


@pytest.mark.parametrize("command", LIVING, ids=str)
def test_rule_41_a_deleted_deployment_is_not_found(command):
    refused = spec.given(*AT_WORK, DELETED).when(command)
    refused.then_raises(NotFound, "it was deleted")


@pytest.mark.parametrize("command", [DeleteDeployment(), RestoreDeployment()])
def test_deleting_or_restoring_what_never_was_changes_nothing(command):
    """An advanced agent may be deleted before it was ever connected."""
    spec.given().when(command).then()


@pytest.mark.parametrize("command", LIVING, ids=str)
def test_rule_46_an_agent_without_a_deployment_is_told_so(command):
    refused = spec.given().when(command)
    refused.then_raises(NotFound, "^No deployment found for this agent$")
