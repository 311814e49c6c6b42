"""The runs of a stage: what may follow what, and what follows from a state."""

from datetime import UTC, datetime, timedelta
from functools import reduce
from uuid import UUID

import pytest
from attrs import evolve as but

from arena_core.domain import stage
from arena_core.domain.errors import (
    Conflict,
    IllegalTransition,
    NotFound,
    Overtaken,
    Rejected,
)
from arena_core.domain.ids import (
    AgentId,
    Digest,
    ExperimentId,
    PipelineId,
    StageId,
    run_of,
)
from arena_core.domain.stage_commands import (
    ApproveStage,
    CheckCondition,
    FailStage,
    RejectStage,
    RequestApproval,
    RequestStageStop,
    RequireIdle,
    RequireYields,
    StartStage,
    StopStage,
    SucceedStage,
    TimeStageOut,
    TriggerStage,
)
from arena_core.domain.stage_condition import judged
from arena_core.domain.stage_events import (
    ApprovalRequested,
    AttemptFailed,
    CheckpointConsumed,
    StageApproved,
    StageFailed,
    StageStarted,
    StageStopped,
    StageStopRequested,
    StageSucceeded,
    StageTriggered,
)
from arena_core.domain.stage_run import (
    Cause,
    ConditionChecked,
    Consumed,
    Inputs,
    Ordered,
    Outcome,
    Product,
    Reaction,
    Seen,
    Status,
    Verdict,
    Yields,
)
from arena_core.domain.stage_settings import (
    Condition,
    Retries,
    Settings,
    StageType,
    Trigger,
)
from arena_core.domain.values import Scores
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=10)
spec = Spec(stage, NOW)
ID, PIPELINE = StageId(UUID(int=1)), PipelineId(UUID(int=2))
RUN, SECOND = run_of(ID, 1), run_of(ID, 2)
E = ExperimentId(UUID(int=3))
AGENT = AgentId(UUID(int=4))
PRINT, OTHER = Digest("1" * 64), Digest("2" * 64)


def product(letter: str = "a", fitness: float | None = 1.0) -> Product:
    return Product(E, 10, Digest(letter * 64), Scores(None, fitness))


PLAIN = Settings(StageType.DEPLOYMENT)
LEFT = Yields(product(), product("b"))
CONSUMED = CheckpointConsumed(RUN, Consumed(product()))
STARTED = StageStarted(RUN, 1, 1, None, NOW)
SUCCEEDED = StageSucceeded(RUN, LEFT, None, NOW)
FAILED = StageFailed(RUN, "No.", LEFT, NOW)
STOPPED = StageStopped(RUN, "No.", LEFT, NOW)
ASKED = ApprovalRequested(RUN, Seen(product(), None))
STOP_REQUESTED = StageStopRequested(RUN, timed_out=False)
TIMED_OUT = StageStopRequested(RUN, timed_out=True)
SUCCEED = SucceedStage(RUN, LEFT)
FAIL = FailStage(RUN, "No.", LEFT)


def triggered(settings=PLAIN, cause=Cause.MANUAL, number=1):
    run_id = run_of(ID, number)
    return StageTriggered(
        ID, PIPELINE, run_id, number, cause, settings, PRINT, Ordered(), NOW
    )


def trigger(settings=PLAIN, cause=Cause.MANUAL, **inputs):
    return TriggerStage(ID, PIPELINE, cause, settings, Inputs(PRINT, **inputs))


def state(*events):
    return reduce(stage.evolve, events, None)


TRIGGERED = triggered()
PENDING, RUNNING = (TRIGGERED,), (TRIGGERED, STARTED)
STOPPING = (*RUNNING, STOP_REQUESTED)
CONDITION = but(PLAIN, condition=Condition(1.0))
APPROVAL = but(PLAIN, approval=True)
GATED = but(CONDITION, approval=True)
RETRIES = but(PLAIN, retries=Retries(2, first_wait_s=10), time_limit_s=10)


def test_a_trigger_freezes_the_settings_and_what_is_taken():
    ordered = Ordered(5, 100, 7)
    spec.given().when(trigger(consumed=Consumed(product()), ordered=ordered)).then(
        but(TRIGGERED, ordered=ordered), CONSUMED
    )
    spec.given().when(trigger()).then(TRIGGERED)
    spec.given(*RUNNING, SUCCEEDED).when(trigger()).then(triggered(number=2))


@pytest.mark.parametrize("history", [PENDING, RUNNING, STOPPING])
@pytest.mark.parametrize("cause", Cause)
def test_what_is_at_work_is_not_triggered(history, cause):
    spec.given(*history).when(trigger(cause=cause)).then_raises(
        IllegalTransition, "stop it first, or wait"
    )


@pytest.mark.parametrize("cause", [Cause.AUTO, Cause.TRAIN, Cause.RESUME])
def test_an_auto_stage_is_triggered_for_any_cause_but_by_hand(cause):
    auto = but(PLAIN, trigger=Trigger.AUTO)
    spec.given().when(trigger(auto, cause)).then(triggered(auto, cause))
    spec.given().when(trigger(auto)).then_raises(IllegalTransition, "An Auto stage")


@pytest.mark.parametrize("end", [FAILED, STOPPED])
def test_only_what_has_failed_or_was_stopped_is_retried(end):
    retry = trigger(cause=Cause.RETRY)
    spec.given(*RUNNING, end).when(retry).then(triggered(cause=Cause.RETRY, number=2))
    spec.given(*RUNNING, SUCCEEDED).when(retry).then_raises(
        IllegalTransition, "Succeeded: only one"
    )
    spec.given().when(retry).then_raises(IllegalTransition, "NotStarted: only one")


def test_a_run_begins_and_ends():
    spec.given(*PENDING).when(StartStage(RUN, training=1)).then(STARTED)
    spec.given(*PENDING).when(StartStage(RUN, agent_id=AGENT)).then(
        StageStarted(RUN, 1, None, AGENT, NOW)
    )
    spec.given(*RUNNING).when(SucceedStage(RUN, LEFT, AGENT)).then(
        but(SUCCEEDED, added=AGENT)
    )
    spec.given(*RUNNING).when(FAIL).then(FAILED)
    spec.given(*RUNNING).when(StopStage(RUN, "No.", LEFT)).then(STOPPED)
    spec.given(*STOPPING).when(SUCCEED).then(SUCCEEDED)


@pytest.mark.parametrize(
    "command",
    [
        StartStage(SECOND),
        CheckCondition(SECOND, None),
        RequestApproval(SECOND, None),
        FailStage(SECOND, "No."),
    ],
)
def test_who_names_another_run_comes_too_late(command):
    spec.given(*PENDING).when(command).then_raises(IllegalTransition, "another run")


@pytest.mark.parametrize(
    "command",
    [TimeStageOut(SECOND), SucceedStage(SECOND), StopStage(SECOND, "No.")],
)
def test_who_ends_another_run_comes_too_late(command):
    spec.given(*RUNNING).when(command).then_raises(IllegalTransition, "another run")


@pytest.mark.parametrize(
    ("history", "command"),
    [
        (PENDING, SUCCEED),
        (PENDING, StopStage(RUN, "No.")),
        (PENDING, TimeStageOut(RUN)),
        (RUNNING, StartStage(RUN)),
        (RUNNING, CheckCondition(RUN, None)),
        (RUNNING, RequestApproval(RUN, None)),
        ((*RUNNING, SUCCEEDED), SUCCEED),
        ((*RUNNING, SUCCEEDED), FAIL),
        ((*RUNNING, SUCCEEDED), RequestStageStop()),
    ],
)
def test_what_comes_out_of_turn_is_refused(history, command):
    spec.given(*history).when(command).then_raises(IllegalTransition)


@pytest.mark.parametrize(
    "command", [RequestStageStop(), ApproveStage(), SUCCEED, FAIL, RejectStage()]
)
def test_a_stage_that_has_never_run_has_nothing_to_end(command):
    spec.given().when(command).then_raises(NotFound, "never run")


def test_guards_change_nothing():
    for history in ((), (*RUNNING, SUCCEEDED)):
        spec.given(*history).when(RequireIdle()).then()
    for history in (PENDING, RUNNING, STOPPING):
        spec.given(*history).when(RequireIdle()).then_raises(
            IllegalTransition, "stop it, or wait"
        )
    spec.given().when(RequireYields(Yields())).then()
    spec.given(*RUNNING, SUCCEEDED).when(RequireYields(LEFT)).then()
    for history, seen in (((), LEFT), ((*RUNNING, SUCCEEDED), Yields())):
        spec.given(*history).when(RequireYields(seen)).then_raises(Overtaken)


# --- a stop -------------------------------------------------------------------------


def test_what_has_not_begun_is_stopped_at_once():
    spec.given(*PENDING).when(RequestStageStop()).then(
        StageStopped(RUN, "It was stopped before it began.", Yields(), NOW)
    )


def test_what_has_begun_is_asked_to_end_once():
    spec.given(*RUNNING).when(RequestStageStop()).then(STOP_REQUESTED)
    spec.given(*STOPPING).when(RequestStageStop()).then()


def test_who_stops_what_was_timed_out_wants_no_other_attempt():
    late = (triggered(RETRIES), STARTED, TIMED_OUT)
    spec.given(*late).when(FAIL).then(
        AttemptFailed(RUN, 1, "No.", LEFT, NOW + timedelta(seconds=10))
    )
    spec.given(*late).when(RequestStageStop()).then(STOP_REQUESTED)
    spec.given(*late, STOP_REQUESTED).when(FAIL).then(FAILED)


# --- what it leaves -----------------------------------------------------------------


def test_a_run_that_never_began_leaves_what_there_was():
    again = triggered(number=2)
    before = (*RUNNING, SUCCEEDED, again)
    spec.given(*before).when(FailStage(SECOND, "No.", Yields())).then(
        StageFailed(SECOND, "No.", LEFT, NOW)
    )
    spec.given(*before).when(RequestStageStop()).then(
        StageStopped(SECOND, "It was stopped before it began.", LEFT, NOW)
    )
    ended = state(*before, StageFailed(SECOND, "No.", LEFT, NOW))
    assert (ended.yields, ended.yielded_by) == (LEFT, RUN)


@pytest.mark.parametrize("end", [SUCCEEDED, FAILED, STOPPED])
def test_a_run_that_has_begun_leaves_what_its_end_says(end):
    ended = state(*RUNNING, end)
    assert (ended.yields, ended.yielded_by) == (LEFT, RUN)
    assert ended.run.ended_at == NOW


def test_an_attempt_that_failed_leaves_something_too():
    failed = AttemptFailed(RUN, 1, "No.", LEFT, LATER)
    waiting = state(triggered(RETRIES), STARTED, failed)
    assert (waiting.yields, waiting.yielded_by) == (LEFT, RUN)
    spec.given(triggered(RETRIES), STARTED, failed).when(RequestStageStop()).then(
        StageStopped(
            RUN, "It was stopped while it waited for another attempt.", LEFT, NOW
        )
    )


def test_the_trainings_of_a_run_are_known_from_the_first_to_the_last():
    failed = AttemptFailed(RUN, 1, "No.", LEFT, NOW)
    again = StageStarted(RUN, 2, 5, None, NOW)
    run = state(triggered(RETRIES), but(STARTED, training=4), failed, again).run
    assert (run.first_training, run.training, run.attempt) == (4, 5, 2)


# --- retries ------------------------------------------------------------------------


def test_another_attempt_knows_nothing_of_how_the_one_before_it_ended():
    over = AttemptFailed(RUN, 1, "It took too long.", LEFT, LATER)
    again = StageStarted(RUN, 2, 2, None, LATER)
    begun = (triggered(RETRIES), STARTED, TIMED_OUT, over, again)
    run = state(*begun).run
    assert (run.timed_out, run.retry_at) == (False, None)
    stopped = Outcome(Verdict.STOPPED)
    assert stage.react(state(*begun), stopped, LATER) is Reaction.STOP
    assert state(*begun, SUCCEEDED).run.reason is None, "it has not failed after all"


def test_an_attempt_is_tried_again_after_a_time_that_doubles():
    history = [triggered(RETRIES)]
    for attempt, wait_s in ((1, 10), (2, 20)):
        history.append(StageStarted(RUN, attempt, attempt, None, NOW))
        failed = AttemptFailed(
            RUN, attempt, "No.", LEFT, NOW + timedelta(seconds=wait_s)
        )
        spec.given(*history).when(FAIL).then(failed)
        history.append(failed)
    history.append(StageStarted(RUN, 3, 3, None, NOW))
    spec.given(*history).when(FAIL).then(FAILED)


def test_what_is_for_good_or_was_stopped_is_not_tried_again():
    begun = (triggered(RETRIES), STARTED)
    spec.given(*begun).when(but(FAIL, for_good=True)).then(FAILED)
    spec.given(*begun, STOP_REQUESTED).when(FAIL).then(FAILED)


def test_the_longest_wait_is_a_day():
    retries = Retries(20, first_wait_s=3600)
    waits = [retries.wait_s(n) for n in (1, 2, 3, 4, 5, 6, 20)]
    assert waits == [3600, 7200, 14400, 28800, 57600, 86400, 86400]
    assert retries.wait_s(21) is None
    assert Retries().wait_s(1) is None


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Retries(21), "retries.most"),
        (lambda: Retries(-1), "retries.most"),
        (lambda: Retries(1, first_wait_s=-1), "retries.first_wait_s"),
        (lambda: Retries(1, first_wait_s=float("nan")), "retries.first_wait_s"),
        (lambda: but(PLAIN, time_limit_s=0), "time_limit_s"),
        (lambda: but(PLAIN, time_limit_s=float("inf")), "time_limit_s"),
        (lambda: but(PLAIN, agent_name=" "), "agent_name"),
        (lambda: Condition(float("nan")), "min_fitness"),
        (Condition, "condition"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(make, field):
    with pytest.raises(Rejected) as caught:
        make()
    assert caught.value.field == field


# --- what follows -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "outcome", "reaction"),
    [
        (PENDING, None, Reaction.START),
        ((triggered(CONDITION), CONSUMED), None, Reaction.CHECK_CONDITION),
        ((triggered(APPROVAL), CONSUMED), None, Reaction.REQUEST_APPROVAL),
        ((triggered(APPROVAL), CONSUMED, ASKED), None, None),
        (
            (triggered(APPROVAL), ASKED, StageApproved(RUN, None)),
            None,
            Reaction.START,
        ),
        (RUNNING, None, None),
        (RUNNING, Outcome(Verdict.ONGOING), None),
        (RUNNING, Outcome(Verdict.SUCCEEDED), Reaction.SUCCEED),
        (RUNNING, Outcome(Verdict.FAILED), Reaction.FAIL),
        (RUNNING, Outcome(Verdict.STOPPED), Reaction.STOP),
        (STOPPING, Outcome(Verdict.STOPPED), Reaction.STOP),
        ((*RUNNING, TIMED_OUT), Outcome(Verdict.STOPPED), Reaction.FAIL),
        (STOPPING, Outcome(Verdict.ONGOING), None),
        ((*RUNNING, SUCCEEDED), Outcome(Verdict.SUCCEEDED), None),
        ((*RUNNING, FAILED), None, None),
    ],
)
def test_what_follows_is_told_by_the_state(events, outcome, reaction):
    assert stage.react(state(*events), outcome, NOW) is reaction


def test_time_brings_another_attempt_and_the_end_of_one():
    waiting = state(
        triggered(RETRIES), STARTED, AttemptFailed(RUN, 1, "No.", LEFT, LATER)
    )
    assert stage.due_at(waiting, None) == LATER
    assert stage.react(waiting, None, NOW) is None
    assert stage.react(waiting, None, LATER) is Reaction.START
    running = state(triggered(RETRIES), STARTED)
    ongoing = Outcome(Verdict.ONGOING, began_at=NOW)
    assert stage.due_at(running, ongoing) == LATER
    assert stage.react(running, ongoing, NOW) is None
    assert stage.react(running, ongoing, LATER) is Reaction.TIME_OUT
    stopping = state(triggered(RETRIES), STARTED, STOP_REQUESTED)
    assert stage.due_at(stopping, ongoing) is None
    assert stage.due_at(state(*RUNNING), ongoing) is None
    spec.given(triggered(RETRIES), STARTED).when(TimeStageOut(RUN)).then(TIMED_OUT)


def test_what_waits_for_its_turn_uses_up_nothing_of_its_time():
    running, waiting = state(triggered(RETRIES), STARTED), Outcome(Verdict.ONGOING)
    assert stage.due_at(running, waiting) is None
    assert stage.react(running, waiting, LATER) is None
    begun = Outcome(Verdict.ONGOING, began_at=LATER)
    assert stage.due_at(running, begun) == LATER + (LATER - NOW)
    assert stage.react(running, begun, LATER) is None


# --- conditions and approvals -------------------------------------------------------


def test_a_condition_is_checked_once_and_recorded_with_what_it_saw():
    begun = (triggered(CONDITION), CONSUMED)
    seen = Seen(product(), product("c"))
    met = ConditionChecked(RUN, True, seen, "The fitness is 1.")
    spec.given(*begun).when(CheckCondition(RUN, product("c"))).then(met)
    spec.given(*begun, met).when(CheckCondition(RUN, None)).then()
    spec.given(*PENDING).when(CheckCondition(RUN, None)).then()


def test_a_condition_that_is_not_met_ends_the_run():
    begun = (triggered(but(PLAIN, condition=Condition(2.0))), CONSUMED)
    finding = "The fitness 1 is below the least that is asked, 2."
    spec.given(*begun).when(CheckCondition(RUN, None)).then(
        ConditionChecked(RUN, False, Seen(product(), None), finding),
        StageStopped(RUN, finding, Yields(), NOW),
    )


BETTER = Condition(better_than_live=True)


def test_a_condition_does_not_take_the_training_score_for_the_fitness():
    trained = but(product(), scores=Scores(training=9.0))
    found, finding = judged(Condition(1.0), trained, None)
    assert (found, finding) == (
        False,
        "The checkpoint has no evaluation score to be judged by.",
    )


@pytest.mark.parametrize(
    ("condition", "candidate", "live", "met"),
    [
        (Condition(1.0), None, None, True),
        (Condition(1.0), product(fitness=None), None, False),
        (Condition(1.0), product(fitness=1.0), None, True),
        (Condition(1.0), product(fitness=0.9), None, False),
        (BETTER, product(), None, True),
        (BETTER, product(fitness=1.0), product("b", 1.0), False),
        (BETTER, product(fitness=1.1), product("b", 1.0), True),
        (BETTER, product(), product("b", None), True),
        (BETTER, product("b", 2.0), product("b", 1.0), False),
        (BETTER, product("b", 2.0), product("b", None), False),
        (Condition(2.0, better_than_live=True), product(fitness=1.5), None, False),
        (Condition(-1.0), product(fitness=-1.0), product("b", 5.0), True),
    ],
)
def test_a_condition_judges_the_fitness(condition, candidate, live, met):
    found, finding = judged(condition, candidate, live)
    assert found is met
    assert finding.endswith(".")


def test_nothing_begins_before_its_condition_is_met_and_it_is_approved():
    begun, start = (triggered(GATED), CONSUMED), StartStage(RUN)
    met = ConditionChecked(RUN, True, Seen(product(), None), "It is.")
    approved = StageApproved(RUN, product().digest)
    for history in (begun, (*begun, met), (*begun, met, ASKED)):
        spec.given(*history).when(start).then_raises(IllegalTransition, "cannot begin")
    spec.given(*begun, met, ASKED, approved).when(start).then(
        StageStarted(RUN, 1, None, None, NOW)
    )
    waits = (triggered(RETRIES), STARTED, AttemptFailed(RUN, 1, "No.", LEFT, LATER))
    spec.given(*waits).when(start).then_raises(IllegalTransition, "cannot begin yet")


def test_what_failed_before_it_began_is_not_begun_without_its_gates():
    failed = AttemptFailed(RUN, 0, "No.", Yields(), LATER)
    begun = (triggered(but(GATED, retries=Retries(1))), CONSUMED, failed)
    waiting = state(*begun)
    assert stage.react(waiting, None, NOW) is None
    assert stage.react(waiting, None, LATER) is Reaction.CHECK_CONDITION
    met = ConditionChecked(RUN, True, Seen(product(), None), "It is.")
    assert stage.react(state(*begun, met), None, LATER) is Reaction.REQUEST_APPROVAL
    asked = state(*begun, met, ASKED)
    assert stage.react(asked, None, LATER) is None
    assert stage.due_at(asked, None) is None, "time alone brings nothing"


def test_approval_is_asked_for_once_with_what_there_is_to_see():
    begun = (triggered(APPROVAL), CONSUMED)
    spec.given(*begun).when(RequestApproval(RUN, product("c"))).then(
        ApprovalRequested(RUN, Seen(product(), product("c")))
    )
    spec.given(*begun, ASKED).when(RequestApproval(RUN, None)).then()


def test_approval_is_for_what_was_seen_and_given_once():
    asked = (triggered(APPROVAL), CONSUMED, ASKED)
    approved = StageApproved(RUN, product().digest)
    for digest in (None, product().digest):
        spec.given(*asked).when(ApproveStage(digest)).then(approved)
        spec.given(*asked, approved).when(ApproveStage(digest)).then()
    for history in (asked, (*asked, approved)):
        spec.given(*history).when(ApproveStage(OTHER)).then_raises(
            Conflict, "another checkpoint"
        )
    scratch = (triggered(APPROVAL), but(ASKED, seen=Seen(None, None)))
    spec.given(*scratch).when(ApproveStage()).then(StageApproved(RUN, None))


def test_a_rejection_ends_the_run():
    asked = (triggered(APPROVAL), CONSUMED, ASKED)
    spec.given(*asked).when(RejectStage()).then(
        StageStopped(RUN, "It was not approved.", Yields(), NOW)
    )


@pytest.mark.parametrize("history", [PENDING, RUNNING, (*RUNNING, SUCCEEDED)])
@pytest.mark.parametrize("command", [ApproveStage(), RejectStage()])
def test_nobody_approves_of_what_was_not_asked(history, command):
    spec.given(*history).when(command).then_raises(IllegalTransition, "Nobody is asked")


def test_who_is_asked_is_not_asked_any_more_when_it_has_ended():
    asked = (triggered(APPROVAL), CONSUMED, ASKED, STOPPED)
    for command in (ApproveStage(), RejectStage()):
        spec.given(*asked).when(command).then_raises(IllegalTransition)
    assert state(*asked).status is Status.STOPPED
