"""Who may say what of a training: claims, what comes too late, what is replaced."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve as but

from arena_core.domain import experiment
from arena_core.domain.errors import Conflict, IllegalTransition, NotFound, Rejected
from arena_core.domain.experiment import (
    AcknowledgeStop,
    Beginning,
    CheckpointDeleted,
    CheckpointWritten,
    ClaimTraining,
    ExperimentDrafted,
    FailTraining,
    FinishTraining,
    RecordTrainedCheckpoint,
    RequestStop,
    RequestTraining,
    RequireResumable,
    Setup,
    StartTraining,
    Status,
    StopRequested,
    Train,
    TrainingClaimed,
    TrainingFailed,
    TrainingRequested,
    TrainingStarted,
    TrainingStopped,
    TrainingSucceeded,
    react,
)
from arena_core.domain.ids import (
    Digest,
    ExperimentId,
    ProjectId,
    RunId,
    StageId,
    WorkerId,
    training_of,
)
from arena_core.domain.values import Claim, Family, Source, SourceKind
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
spec = Spec(experiment, NOW)
late = Spec(experiment, NOW + HOUR)

ID, STAGE = ExperimentId(UUID(int=1)), StageId(UUID(int=2))
US, THEM = WorkerId(UUID(int=3)), WorkerId(UUID(int=4))
A, B, C = Digest("a" * 64), Digest("b" * 64), Digest("c" * 64)
SETUP = Setup("PPO", Family.RL, Source(SourceKind.GYM, "CartPole-v1"))
DRAFTED = ExperimentDrafted(ID, ProjectId(UUID(int=5)), "first", SETUP)
ANEW = Beginning()
REQUESTED = TrainingRequested(None, None, None, ANEW, None, None)
CLAIMED = TrainingClaimed(US, NOW + HOUR, 1, None)
TAKEN_OVER = TrainingClaimed(THEM, NOW + 2 * HOUR, 2, US)
WAITING = (DRAFTED, REQUESTED)
PENDING = (*WAITING, CLAIMED)
RUNNING = (*PENDING, TrainingStarted())
STOPPING = (*RUNNING, StopRequested())
SUCCEEDED = (*RUNNING, TrainingSucceeded())
FAILED = (*RUNNING, TrainingFailed("out of memory"))
UPLOADED = CheckpointWritten(10, A, 1, NOW, None)


def written(step, digest, training=1):
    return CheckpointWritten(step, digest, 1, NOW, training)


def record(step, digest, worker=US, claim=1):
    return RecordTrainedCheckpoint(worker, claim, step, digest, 1)


def resumed(step, digest, of=None):
    return TrainingRequested(step, digest, None, ANEW, None, of)


# --- claims --------------------------------------------------------------------------


def test_what_was_asked_for_is_outstanding_until_somebody_claims_it():
    train = Train(ID, training_of(ID, 1))
    assert react(spec.given(*WAITING).state, NOW) == train
    assert react(spec.given(*PENDING).state, NOW) is None
    assert react(spec.given(*PENDING).state, NOW + HOUR) == train
    assert react(spec.given(*STOPPING).state, NOW + HOUR) == train
    for history in ((DRAFTED,), SUCCEEDED, FAILED):
        assert react(spec.given(*history).state, NOW + HOUR) is None


def test_a_claim_keeps_others_off_until_its_lease_ends():
    theirs = ClaimTraining(THEM, NOW + 2 * HOUR)
    spec.given(*PENDING).when(theirs).then_raises(IllegalTransition, "another worker")
    late.given(*PENDING).when(theirs).then(TAKEN_OVER)
    spec.given(*WAITING).when(theirs).then(
        TrainingClaimed(THEM, NOW + 2 * HOUR, 1, None)
    )


def test_nobody_waits_for_the_lease_of_the_dead():
    lost = ClaimTraining(THEM, NOW + 2 * HOUR, lost=US)
    spec.given(*PENDING).when(lost).then(TAKEN_OVER)
    other = ClaimTraining(THEM, NOW + 2 * HOUR, lost=WorkerId(UUID(int=9)))
    spec.given(*PENDING).when(other).then_raises(IllegalTransition, "another worker")


def test_who_holds_it_goes_on_holding_it_under_another_number():
    renewed = TrainingClaimed(US, NOW + 2 * HOUR, 2, None)
    spec.given(*RUNNING).when(ClaimTraining(US, NOW + 2 * HOUR)).then(renewed)
    training = spec.given(*RUNNING, renewed).state.training
    assert training.claim == Claim(US, NOW + 2 * HOUR, 2)
    assert training.losses == 0


def test_a_lease_ends_in_the_future():
    given = spec.given(*WAITING)
    given.when(ClaimTraining(US, NOW)).then_raises(Rejected, "in the future")


@pytest.mark.parametrize("history", [(DRAFTED,), SUCCEEDED, FAILED])
def test_what_has_ended_is_claimed_by_nobody(history):
    refused = spec.given(*history).when(ClaimTraining(US, NOW + HOUR))
    refused.then_raises(IllegalTransition, "has ended")


OUTCOMES = [
    (PENDING, StartTraining),
    (RUNNING, FinishTraining),
    (STOPPING, AcknowledgeStop),
]


@pytest.mark.parametrize(("history", "command"), OUTCOMES)
def test_who_has_lost_the_claim_comes_too_late(history, command):
    given = spec.given(*history, TAKEN_OVER)
    for worker, claim in ((US, 1), (US, 2), (THEM, 1)):
        given.when(command(worker, claim)).then_raises(IllegalTransition, "yours")
        failed = FailTraining(worker, claim, "late")
        given.when(failed).then_raises(IllegalTransition, "yours")
        given.when(record(10, A, worker, claim)).then_raises(IllegalTransition, "yours")
    assert given.when(command(THEM, 2))._decide()
    assert given.when(FailTraining(THEM, 2, "in time"))._decide()
    assert given.when(record(10, A, THEM, 2))._decide()


def test_what_nobody_holds_is_started_by_nobody():
    given = spec.given(*WAITING)
    given.when(StartTraining(US, 1)).then_raises(IllegalTransition, "yours")


@pytest.mark.parametrize("end", [TrainingStopped(), TrainingSucceeded()])
def test_the_claims_of_the_next_training_go_on_counting(end):
    history = (*STOPPING, end, REQUESTED)
    again = TrainingClaimed(US, NOW + HOUR, 2, None)
    spec.given(*history).when(ClaimTraining(US, NOW + HOUR)).then(again)
    state = spec.given(*history, again).state
    assert (state.training.number, state.run_id) == (2, training_of(ID, 2))
    # What the same worker has left to say of the first one is not taken for this one.
    stale = spec.given(*history, again).when(StartTraining(US, 1))
    stale.then_raises(IllegalTransition, "yours")


def test_losses_are_counted_until_a_checkpoint_is_written():
    given = spec.given(*RUNNING, TAKEN_OVER)
    assert given.state.training.losses == 1
    again = TrainingClaimed(US, NOW + HOUR, 3, THEM)
    assert spec.given(*RUNNING, TAKEN_OVER, again).state.training.losses == 2
    history = (*RUNNING, TAKEN_OVER, again)
    assert spec.given(*history, UPLOADED).state.training.losses == 2
    assert spec.given(*history, written(10, A)).state.training.losses == 0


# --- stopping ------------------------------------------------------------------------


def test_rule_07_what_was_asked_to_stop_does_not_succeed():
    given = spec.given(*STOPPING)
    refused = given.when(FinishTraining(US, 1))
    refused.then_raises(IllegalTransition, "while the experiment is Stopping")
    given.when(FailTraining(US, 1, "broken")).then(TrainingFailed("broken"))


def test_rule_07_what_somebody_has_taken_on_stops_when_they_say_so():
    spec.given(*PENDING).when(RequestStop()).then(StopRequested())
    stopping = spec.given(*PENDING, StopRequested())
    stopping.when(AcknowledgeStop(US, 1)).then(TrainingStopped())


# --- checkpoints ---------------------------------------------------------------------


def test_the_first_checkpoint_takes_the_place_of_all_that_were_there():
    history = (DRAFTED, UPLOADED, written(20, B), REQUESTED, CLAIMED)
    given = spec.given(*history)
    given.when(record(10, C)).then(
        CheckpointDeleted(10, A), CheckpointDeleted(20, B), written(10, C)
    )


def test_the_checkpoints_after_it_replace_only_their_own_step():
    given = spec.given(*RUNNING, written(10, A), written(20, B))
    given.when(record(30, C)).then(written(30, C))
    given.when(record(20, C)).then(CheckpointDeleted(20, B), written(20, C))


def test_what_goes_on_replaces_only_its_own_step():
    history = (*SUCCEEDED, written(10, A), resumed(10, A), CLAIMED)
    spec.given(*history).when(record(20, B)).then(written(20, B, training=2))
    given = spec.given(*history)
    given.when(record(10, B)).then(CheckpointDeleted(10, A), written(10, B, training=2))


def test_recording_a_checkpoint_again_changes_nothing():
    spec.given(*RUNNING, written(10, A)).when(record(10, A)).then()
    assert spec.given(*RUNNING, written(10, A)).state.training.has_written


@pytest.mark.parametrize("history", [(DRAFTED,), SUCCEEDED, FAILED])
def test_what_does_not_train_writes_no_checkpoints(history):
    refused = spec.given(*history).when(record(10, A))
    refused.then_raises(IllegalTransition, "not possible while")


# --- what is asked for ---------------------------------------------------------------


def test_rule_08_what_goes_on_says_which_training_wrote_the_checkpoint():
    history = (*SUCCEEDED, written(10, A), UPLOADED, CheckpointDeleted(20, B))
    given = spec.given(*SUCCEEDED, written(10, A))
    given.when(RequestTraining(10)).then(resumed(10, A, training_of(ID, 1)))
    uploaded = spec.given(*history, CheckpointDeleted(10, A), UPLOADED)
    uploaded.when(RequestTraining(10)).then(resumed(10, A, None))


def test_rule_08_a_draft_goes_on_from_the_checkpoint_of_another_experiment():
    of = RunId(UUID(int=8))
    request = RequestTraining(10, resume_digest=A, resume_of=of)
    spec.given(DRAFTED).when(request).then(resumed(10, A, of))
    for history in (PENDING, SUCCEEDED, FAILED):
        refused = spec.given(*history).when(request)
        refused.then_raises(IllegalTransition, "resume one that is Draft")


@pytest.mark.parametrize("step", [None, 10])
def test_rule_09_a_stage_has_what_failed_trained_again(step):
    asked = RequestTraining(step, stage=STAGE)
    for history in (SUCCEEDED, FAILED, (*STOPPING, TrainingStopped())):
        [event] = spec.given(*history, UPLOADED).when(asked)._decide()
        assert (event.stage, event.resume_step) == (STAGE, step)
    for history in (PENDING, RUNNING, STOPPING):
        refused = spec.given(*history, UPLOADED).when(asked)
        refused.then_raises(IllegalTransition, "Draft, Succeeded, Stopped, Failed")


def test_what_a_training_begins_with_is_kept_with_the_request():
    beginning = Beginning(A, B, 7)
    request = RequestTraining(beginning=beginning)
    spec.given(DRAFTED).when(request).then(but(REQUESTED, beginning=beginning))
    training = spec.given(DRAFTED, but(REQUESTED, beginning=beginning)).state.training
    assert training.beginning == beginning
    assert training.begins_anew


@pytest.mark.parametrize(
    ("beginning", "wrong"),
    [
        ({"weights": "x"}, "weights"),
        ({"decoder": "x"}, "decoder"),
        ({"seed": -1}, "seed"),
    ],
)
def test_an_impossible_beginning_cannot_even_be_said(beginning, wrong):
    with pytest.raises(Rejected) as caught:
        Beginning(**beginning)
    assert caught.value.field == wrong


def test_rule_08_others_go_on_only_from_what_is_there_and_has_ended():
    need = RequireResumable(10, A)
    for history in (SUCCEEDED, FAILED, (*STOPPING, TrainingStopped())):
        spec.given(*history, UPLOADED).when(need).then()
    for history in ((DRAFTED,), WAITING, RUNNING, STOPPING):
        refused = spec.given(*history, UPLOADED).when(need)
        refused.then_raises(IllegalTransition, "resume one that is Succeeded")
    given = spec.given(*SUCCEEDED, UPLOADED)
    given.when(RequireResumable(10, B)).then_raises(Conflict, "another checkpoint")
    given.when(RequireResumable(20, A)).then_raises(NotFound, "there are: 10")
    none = spec.given(*SUCCEEDED).when(need)
    none.then_raises(Conflict, "no checkpoint to resume from")


def test_what_was_never_trained_has_no_run():
    state = spec.given(DRAFTED).state
    assert (state.run_id, state.training) == (None, None)
    assert state.status is Status.DRAFT
    # History is true, even one that no command of today's would have made.
    assert spec.given(DRAFTED, TrainingSucceeded()).state.training is None
    assert spec.given(DRAFTED, CLAIMED).state.training is None
    assert spec.given(DRAFTED, written(10, A)).state.training is None
