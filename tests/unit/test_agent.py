from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest
from attrs import fields_dict

from arena_core.domain import agent
from arena_core.domain.agent import (
    Agent,
    AgentDeleted,
    AgentDescribed,
    AgentRenamed,
    AgentRestored,
    Cause,
    CheckpointFrozen,
    CheckpointReplaced,
    DeleteAgent,
    DescribeAgent,
    FreezeCheckpoint,
    Frozen,
    Origin,
    RenameAgent,
    ReplaceCheckpoint,
    RestoreAgent,
    RevertCheckpoint,
)
from arena_core.domain.errors import AlreadyExists, Conflict, NotFound, Rejected
from arena_core.domain.ids import AgentId, Digest, ExperimentId, ProjectId
from arena_core.domain.values import CheckpointType, Family, ProjectKind, Scores
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
WINDOW = timedelta(days=30)
spec = Spec(agent, NOW)
at_the_end_of_the_window = Spec(agent, NOW + WINDOW)
after_the_window = Spec(agent, NOW + WINDOW + timedelta(microseconds=1))

ID = AgentId(UUID(int=1))
ORIGIN = Origin(
    ExperimentId(UUID(int=2)), "ppo", ProjectId(UUID(int=3)), "PPO", Family.RL, None
)
FROZEN = Frozen(CheckpointType.BEST, 5_000, Digest("a" * 64), Scores(212.0, 480.0))
FREEZE = FreezeCheckpoint(
    ID, ProjectKind.CLASSIC, "balancer", "it balances", ORIGIN, FROZEN
)
CREATED = CheckpointFrozen(
    ID, ProjectKind.CLASSIC, "balancer", "it balances", ORIGIN, FROZEN
)
RENAMED = AgentRenamed("juggler")
DESCRIBED = AgentDescribed("it juggles")
DELETED = AgentDeleted(NOW + WINDOW)
RESTORED = AgentRestored()


def an_agent(name="balancer", description="it balances"):
    return Agent(
        ID,
        ProjectKind.CLASSIC,
        name,
        description,
        ORIGIN,
        FROZEN,
        checkpoints=(FROZEN,),
    )


def test_an_agent_is_created_as_asked():
    spec.given().when(FREEZE).then(CREATED)
    assert spec.given(CREATED).state == an_agent()


@pytest.mark.parametrize("history", [(CREATED,), (CREATED, DELETED)])
def test_an_agent_is_created_once(history):
    spec.given(*history).when(FREEZE).then_raises(AlreadyExists)


def test_rule_18_the_name_and_the_description_of_an_agent_are_stored_trimmed():
    freeze = FreezeCheckpoint(
        ID, ProjectKind.CLASSIC, " balancer\n", "\tit balances ", ORIGIN, FROZEN
    )
    spec.given().when(freeze).then(CREATED)
    spec.given(CREATED).when(RenameAgent("juggler ")).then(RENAMED)
    spec.given(CREATED).when(DescribeAgent(" it juggles")).then(DESCRIBED)


@pytest.mark.parametrize("blank", ["", "   ", "\t\n", "\u3000"])
def test_rule_18_a_blank_name_is_a_missing_name(blank):
    nameless = FreezeCheckpoint(ID, ProjectKind.CLASSIC, blank, "", ORIGIN, FROZEN)
    spec.given().when(nameless).then_raises(Rejected, "name is missing")
    spec.given(CREATED).when(RenameAgent(blank)).then_raises(Rejected, "is missing")


def test_rule_18_the_description_of_an_agent_is_optional():
    terse = FreezeCheckpoint(ID, ProjectKind.CLASSIC, "balancer", "", ORIGIN, FROZEN)
    spec.given().when(terse).then(
        CheckpointFrozen(ID, ProjectKind.CLASSIC, "balancer", "", ORIGIN, FROZEN)
    )


def test_rule_24_nothing_but_an_order_changes_the_checkpoint_of_an_agent():
    history = (CREATED, RENAMED, DESCRIBED, DELETED, RESTORED)
    assert spec.given(*history).state == an_agent("juggler", "it juggles")
    for kind in (*get_args(agent.Command), *get_args(agent.Event)):
        orders = {
            FreezeCheckpoint, CheckpointFrozen, ReplaceCheckpoint, CheckpointReplaced,
        }  # fmt: skip
        assert ("checkpoint" in fields_dict(kind)) == (kind in orders)


def frozen(letter, step=1):
    return Frozen(CheckpointType.SPECIFIC, step, Digest(letter * 64), Scores())


A, B, C = FROZEN, frozen("b", 2), frozen("c", 3)


def deployed(*checkpoints):
    return tuple(CheckpointReplaced(c, Cause.REDEPLOY) for c in checkpoints)


def rolled_back(checkpoint, cause=Cause.ROLLBACK):
    return CheckpointReplaced(checkpoint, cause)


@pytest.mark.parametrize("cause", Cause)
def test_a_checkpoint_is_replaced_and_the_log_says_why(cause):
    replaced = CheckpointReplaced(B, cause)
    spec.given(CREATED).when(ReplaceCheckpoint(B, cause)).then(replaced)
    state = spec.given(CREATED, replaced).state
    assert (state.checkpoint, state.earlier) == (B, (A,))


def test_to_deploy_again_what_an_agent_has_changes_nothing():
    same = Frozen(CheckpointType.FINAL, 9, A.digest, Scores())
    spec.given(CREATED).when(ReplaceCheckpoint(same, Cause.REDEPLOY)).then()


@pytest.mark.parametrize(
    ("history", "before"),
    [
        (deployed(B), A),
        (deployed(B, C), B),
        ((*deployed(B, C), rolled_back(B)), A),
        ((*deployed(B, C), rolled_back(B, Cause.AUTOMATIC_ROLLBACK)), A),
        ((*deployed(B), rolled_back(A), *deployed(C)), B),
        (deployed(B, C, B), C),
        ((*deployed(B, C), rolled_back(A), *deployed(B)), C),
    ],
    ids=str,
)
def test_one_rollback_after_another_leads_further_back(history, before):
    assert spec.given(CREATED, *history).state.checkpoint_before() == before


@pytest.mark.parametrize("history", [(), (*deployed(B), rolled_back(A))])
def test_before_the_first_checkpoint_there_is_none(history):
    state = spec.given(CREATED, *history).state
    with pytest.raises(Conflict, match="had no checkpoint before this one"):
        state.checkpoint_before()


def test_every_checkpoint_that_an_agent_has_had_can_come_back_by_its_digest():
    state = spec.given(CREATED, *deployed(B, C, B)).state
    assert [state.had(c.digest) for c in (A, B, C)] == [A, B, C]
    assert state.earlier == (A, C)
    with pytest.raises(Rejected, match="never had a checkpoint with that digest"):
        state.had("f" * 64)


def test_a_guard_brings_back_what_the_agent_has_had_and_nothing_else():
    given = spec.given(CREATED, *deployed(B))
    back = rolled_back(A, Cause.AUTOMATIC_ROLLBACK)
    given.when(RevertCheckpoint(A.digest)).then(back)
    spec.given(CREATED, *deployed(B), back).when(RevertCheckpoint(A.digest)).then()
    given.when(RevertCheckpoint(C.digest)).then_raises(Rejected, "never had")


@pytest.mark.parametrize(
    "name", ["latest", "", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"]
)
def test_what_an_agent_freezes_is_named_by_a_digest(name):
    with pytest.raises(Rejected, match="digest is no SHA-256"):
        Frozen(CheckpointType.FINAL, 5_000, Digest(name), Scores())


def test_renaming_changes_the_name_alone():
    assert spec.given(CREATED, RENAMED).state == an_agent(name="juggler")


def test_describing_changes_the_description_alone():
    assert spec.given(CREATED, DESCRIBED).state == an_agent(description="it juggles")


def test_saying_again_what_is_so_changes_nothing():
    spec.given(CREATED).when(RenameAgent("balancer")).then()
    spec.given(CREATED).when(DescribeAgent("it balances")).then()
    spec.given(CREATED).when(RestoreAgent()).then()


def test_rule_41_deleting_an_agent_keeps_it_for_the_restore_window():
    spec.given(CREATED).when(DeleteAgent(WINDOW)).then(DELETED)
    assert not spec.given(CREATED).state.deleted
    deleted = spec.given(CREATED, DELETED).state
    assert deleted.deleted
    assert deleted.restorable_until == NOW + WINDOW


def test_rule_41_deleting_again_does_not_prolong_the_window():
    given = at_the_end_of_the_window.given(CREATED, DELETED)
    given.when(DeleteAgent(WINDOW)).then()
    after_the_window.given(CREATED, DELETED).when(DeleteAgent(WINDOW)).then()


def test_rule_41_a_deleted_agent_can_be_restored_until_the_window_closes():
    spec.given(CREATED, DELETED).when(RestoreAgent()).then(RESTORED)
    given = at_the_end_of_the_window.given(CREATED, DELETED)
    given.when(RestoreAgent()).then(RESTORED)
    late = after_the_window.given(CREATED, DELETED)
    late.when(RestoreAgent()).then_raises(NotFound, "is over")


def test_rule_41_a_restored_agent_is_what_it_was():
    assert spec.given(CREATED, DELETED, RESTORED).state == an_agent()


def test_a_restored_agent_can_be_deleted_again():
    given = after_the_window.given(CREATED, DELETED, RESTORED)
    given.when(DeleteAgent(WINDOW)).then(AgentDeleted(after_the_window.now + WINDOW))


@pytest.mark.parametrize(
    "command",
    [
        RenameAgent("x"),
        DescribeAgent("x"),
        ReplaceCheckpoint(B, Cause.REDEPLOY),
        RevertCheckpoint(A.digest),
    ],
)
def test_rule_41_a_deleted_agent_is_not_found(command):
    spec.given(CREATED, DELETED).when(command).then_raises(NotFound, "was deleted")


@pytest.mark.parametrize(
    "command",
    [RenameAgent("x"), DescribeAgent("x"), DeleteAgent(WINDOW), RestoreAgent()],
)
def test_an_agent_that_never_was_is_not_found(command):
    spec.given().when(command).then_raises(NotFound, "no such agent")
