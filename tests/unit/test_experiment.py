from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve as but
from attrs import fields_dict

from arena_core.domain import experiment
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    IllegalTransition,
    NotFound,
    Overtaken,
    Rejected,
)
from arena_core.domain.experiment import (
    AcknowledgeStop,
    Beginning,
    BindExperiment,
    CheckpointDeleted,
    CheckpointWritten,
    ConfigureExperiment,
    DeleteCheckpoint,
    DeleteExperiment,
    DraftExperiment,
    Experiment,
    ExperimentBound,
    ExperimentConfigured,
    ExperimentDeleted,
    ExperimentDrafted,
    ExperimentReleased,
    ExperimentRenamed,
    FailTraining,
    FinishTraining,
    RecordCheckpoint,
    ReleaseExperiment,
    RenameExperiment,
    RequestStop,
    RequestTraining,
    RequireUnbound,
    Setup,
    StartTraining,
    Status,
    StopRequested,
    TrainingClaimed,
    TrainingFailed,
    TrainingRequested,
    TrainingStarted,
    TrainingStopped,
    TrainingSucceeded,
    Written,
)
from arena_core.domain.ids import (
    Digest,
    ExperimentId,
    ProjectId,
    StageId,
    WorkerId,
    training_of,
)
from arena_core.domain.values import Family, Source, SourceKind
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
spec = Spec(experiment, NOW)

ID = ExperimentId(UUID(int=1))
PROJECT = ProjectId(UUID(int=2))
A, B = Digest("a" * 64), Digest("b" * 64)
SETUP = Setup("PPO", Family.RL, Source(SourceKind.GYM, "CartPole-v1"))
OTHER_SETUP = but(SETUP, algorithm="DQN")
CONFIGURE = ConfigureExperiment(algorithm="DQN")

STAGE, OTHER_STAGE = StageId(UUID(int=11)), StageId(UUID(int=12))

DRAFTED = ExperimentDrafted(ID, PROJECT, "first", SETUP)
AT_10 = CheckpointWritten(10, A, 4096, NOW, None)
AT_20 = CheckpointWritten(20, B, 4097, NOW, None)
ANEW = Beginning()
REQUESTED = TrainingRequested(None, None, None, ANEW, None, None)
RESUMED = TrainingRequested(10, A, None, ANEW, None, None)
WORKER = WorkerId(UUID(int=3))
CLAIMED = TrainingClaimed(WORKER, NOW + timedelta(hours=1), 1, None)
STARTED = TrainingStarted()
STOP_REQUESTED = StopRequested()
STOPPED = TrainingStopped()
SUCCEEDED = TrainingSucceeded()
FAILED = TrainingFailed("out of memory")
DELETED = ExperimentDeleted()

TRAIN = RequestTraining()
RESUME = RequestTraining(resume_step=10)
START = StartTraining(WORKER, 1)
STOP = RequestStop()
FINISH = FinishTraining(WORKER, 1)
ACKNOWLEDGE = AcknowledgeStop(WORKER, 1)
FAIL = FailTraining(WORKER, 1, "out of memory")
DELETE = DeleteExperiment()
COMMANDS = (TRAIN, RESUME, START, STOP, FINISH, ACKNOWLEDGE, FAIL, DELETE)

DRAFT = (DRAFTED, AT_10)
PENDING = (*DRAFT, REQUESTED, CLAIMED)
RUNNING = (*PENDING, STARTED)
IN = {
    Status.DRAFT: DRAFT,
    Status.PENDING: PENDING,
    Status.RUNNING: RUNNING,
    Status.STOPPING: (*RUNNING, STOP_REQUESTED),
    Status.STOPPED: (*RUNNING, STOP_REQUESTED, STOPPED),
    Status.SUCCEEDED: (*RUNNING, SUCCEEDED),
    Status.FAILED: (*RUNNING, FAILED),
}
POSSIBLE = {
    Status.DRAFT: {TRAIN: [REQUESTED], DELETE: [DELETED]},
    Status.PENDING: {START: [STARTED], STOP: [STOP_REQUESTED], FAIL: [FAILED]},
    Status.RUNNING: {FINISH: [SUCCEEDED], STOP: [STOP_REQUESTED], FAIL: [FAILED]},
    Status.STOPPING: {ACKNOWLEDGE: [STOPPED], FAIL: [FAILED]},
    Status.STOPPED: {TRAIN: [REQUESTED], RESUME: [RESUMED], DELETE: [DELETED]},
    Status.SUCCEEDED: {TRAIN: [REQUESTED], RESUME: [RESUMED], DELETE: [DELETED]},
    Status.FAILED: {RESUME: [RESUMED], DELETE: [DELETED]},
}


def statuses_that_allow(command):
    return {status for status in Status if command in POSSIBLE[status]}


@pytest.mark.parametrize("status", Status)
def test_rule_05_every_status_is_reached_by_its_history(status):
    state = spec.given(*IN[status]).state
    assert state.status is status
    assert (state.reason == "out of memory") == (status is Status.FAILED)


def test_rule_05_the_statuses_have_the_names_that_clients_know():
    assert [status.value for status in Status] == [
        "Draft", "Pending", "Running", "Stopping", "Stopped", "Succeeded", "Failed",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=str)
@pytest.mark.parametrize("status", Status)
def test_an_experiment_moves_as_its_table_says_and_no_other_way(status, command):
    when = spec.given(*IN[status]).when(command)
    if command in POSSIBLE[status]:
        when.then(*POSSIBLE[status][command])
    elif (status, command) == (Status.STOPPING, STOP):
        when.then()
    else:
        when.then_raises(IllegalTransition, f"while the experiment is {status.value}")


def test_what_is_not_at_work_has_nothing_to_stop():
    for status in (Status.DRAFT, Status.STOPPED, Status.SUCCEEDED, Status.FAILED):
        refused = spec.given(*IN[status]).when(STOP)
        refused.then_raises(IllegalTransition, "there is nothing to stop")


def test_rule_06_training_is_possible_from_draft_succeeded_and_stopped_only():
    possible = {Status.DRAFT, Status.SUCCEEDED, Status.STOPPED}
    assert statuses_that_allow(TRAIN) == possible
    for status in set(Status) - possible:
        refused = spec.given(*IN[status]).when(TRAIN)
        refused.then_raises(IllegalTransition, "Draft, Succeeded, Stopped, or copy it")


def test_rule_06_training_needs_an_environment_or_a_dataset():
    sourceless = ExperimentDrafted(ID, PROJECT, "first", but(SETUP, source=None))
    spec.given(sourceless).when(TRAIN).then_raises(Rejected, "name the source")


def test_rule_06_training_needs_an_algorithm():
    with pytest.raises(Rejected, match="algorithm is missing"):
        Setup(" ", Family.RL)


@pytest.mark.parametrize(
    "mistake", [{"source": "CartPole-v1"}, {"base_model": 5}, {"recipe": ["python"]}]
)
def test_a_set_up_of_wrong_types_cannot_even_be_said(mistake):
    [field] = mistake
    with pytest.raises(Rejected, match=f"The {field} has a wrong type") as caught:
        but(SETUP, **mistake)
    assert caught.value.field == field


def test_a_limit_of_steps_is_kept_with_the_request():
    train = RequestTraining(max_steps=500)
    spec.given(*DRAFT).when(train).then(
        TrainingRequested(None, None, 500, ANEW, None, None)
    )
    resume = RequestTraining(10, 500)
    given = spec.given(*IN[Status.STOPPED])
    given.when(resume).then(TrainingRequested(10, A, 500, ANEW, None, None))
    with pytest.raises(Rejected, match="max_steps"):
        RequestTraining(max_steps=-1)


def test_rule_07_a_stop_is_possible_while_pending_or_running_or_stopping():
    assert statuses_that_allow(STOP) == {Status.PENDING, Status.RUNNING}
    spec.given(*IN[Status.STOPPING]).when(STOP).then()


def test_rule_07_a_stop_ends_in_stopped_or_failed():
    assert POSSIBLE[Status.STOPPING] == {ACKNOWLEDGE: [STOPPED], FAIL: [FAILED]}


def test_rule_07_a_stop_of_what_nobody_has_begun_ends_at_once():
    waiting = (*DRAFT, REQUESTED)
    spec.given(*waiting).when(STOP).then(STOP_REQUESTED, STOPPED)
    stopped = spec.given(*waiting, STOP_REQUESTED, STOPPED).state
    assert stopped.status is Status.STOPPED


def test_rule_08_resuming_is_possible_once_training_has_ended():
    possible = {Status.SUCCEEDED, Status.STOPPED, Status.FAILED}
    assert statuses_that_allow(RESUME) == possible
    for status in set(Status) - possible:
        refused = spec.given(*IN[status]).when(RESUME)
        refused.then_raises(IllegalTransition, "resume one that is")


def test_rule_08_resuming_needs_a_checkpoint_that_is_there():
    unknown = RequestTraining(resume_step=30)
    given = spec.given(*IN[Status.STOPPED], AT_20)
    given.when(unknown).then_raises(NotFound, "step 30; there are: 10, 20")
    given = spec.given(DRAFTED, REQUESTED, STARTED, FAILED)
    given.when(RESUME).then_raises(Conflict, "no checkpoint to resume from")


def test_training_again_forgets_why_it_failed():
    state = spec.given(*IN[Status.FAILED], RESUMED).state
    assert state.status is Status.PENDING
    assert state.reason is None


def test_an_experiment_is_drafted_as_asked():
    draft = DraftExperiment(ID, PROJECT, " first ", SETUP)
    spec.given().when(draft).then(DRAFTED)
    assert spec.given(DRAFTED).state == Experiment(ID, PROJECT, "first", SETUP)


def test_an_experiment_without_a_name_is_refused():
    nameless = DraftExperiment(ID, PROJECT, " ", SETUP)
    spec.given().when(nameless).then_raises(Rejected, "name is missing")
    spec.given(DRAFTED).when(RenameExperiment(" ")).then_raises(Rejected, "is missing")


@pytest.mark.parametrize("history", [(DRAFTED,), (DRAFTED, DELETED)])
def test_an_experiment_is_drafted_once(history):
    draft = DraftExperiment(ID, PROJECT, "first", SETUP)
    spec.given(*history).when(draft).then_raises(AlreadyExists)


@pytest.mark.parametrize("status", Status)
def test_an_experiment_can_be_renamed_in_every_status(status):
    renamed = ExperimentRenamed("second")
    spec.given(*IN[status]).when(RenameExperiment(" second ")).then(renamed)
    spec.given(*IN[status], renamed).when(RenameExperiment("second")).then()
    state = spec.given(*IN[status]).state
    assert spec.given(*IN[status], renamed).state == but(state, name="second")


def test_its_trainings_are_known_by_their_ids_the_newest_first():
    assert spec.given(DRAFTED).state.run_ids == []
    again = (STARTED, SUCCEEDED, REQUESTED)
    state = spec.given(*PENDING, *again).state
    assert state.run_ids == [training_of(ID, 2), training_of(ID, 1)]
    assert state.run_id == state.run_ids[0]


def test_what_has_not_begun_is_bound_to_one_stage_until_that_gives_it_back():
    bound = ExperimentBound(STAGE)
    spec.given(DRAFTED).when(BindExperiment(STAGE)).then(bound)
    spec.given(DRAFTED, bound).when(BindExperiment(STAGE)).then()
    other = spec.given(DRAFTED, bound).when(BindExperiment(OTHER_STAGE))
    other.then_raises(Conflict, "is bound to a stage: say duplicate")
    released = ExperimentReleased(STAGE)
    spec.given(DRAFTED, bound).when(ReleaseExperiment(STAGE)).then(released)
    again = spec.given(DRAFTED, bound, released).when(BindExperiment(OTHER_STAGE))
    again.then(ExperimentBound(OTHER_STAGE))


@pytest.mark.parametrize("status", Status)
def test_what_has_begun_is_not_bound_but_stays_with_the_stage_that_has_it(status):
    refused = spec.given(*IN[status]).when(BindExperiment(STAGE))
    refused.then_raises(Conflict, "has run already")
    trained = [event for event in IN[status] if event not in (DRAFTED, AT_10)]
    bound = (DRAFTED, ExperimentBound(STAGE), *trained)
    spec.given(*bound).when(BindExperiment(STAGE)).then()


@pytest.mark.parametrize(
    "history", [(DRAFTED,), (DRAFTED, ExperimentBound(STAGE)), (DRAFTED, DELETED)]
)
def test_what_a_stage_does_not_have_it_does_not_give_back(history):
    spec.given(*history).when(ReleaseExperiment(OTHER_STAGE)).then()


def test_what_is_bound_is_neither_deleted_nor_thought_to_be_unbound():
    bound = spec.given(DRAFTED, ExperimentBound(STAGE))
    bound.when(DELETE).then_raises(Conflict, "bind another one")
    bound.when(RequireUnbound()).then_raises(Overtaken, "bound to a stage meanwhile")
    given = spec.given(DRAFTED, ExperimentBound(STAGE), ExperimentReleased(STAGE))
    given.when(RequireUnbound()).then()
    given.when(DELETE).then(DELETED)


def test_rule_10_a_draft_can_be_configured():
    configured = ExperimentConfigured(OTHER_SETUP)
    spec.given(DRAFTED).when(CONFIGURE).then(configured)
    state = spec.given(DRAFTED, configured).state
    assert state == Experiment(ID, PROJECT, "first", OTHER_SETUP)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.DRAFT])
def test_rule_10_only_a_draft_can_be_configured(status):
    history = [event for event in IN[status] if event != AT_10]
    refused = spec.given(*history).when(CONFIGURE)
    refused.then_raises(IllegalTransition, "duplicate the experiment")


def test_rule_10_a_draft_with_a_checkpoint_keeps_the_setup_that_made_it():
    refused = spec.given(DRAFTED, AT_10).when(CONFIGURE)
    refused.then_raises(IllegalTransition, "without checkpoints")
    deleted = CheckpointDeleted(10, A)
    configured = ExperimentConfigured(OTHER_SETUP)
    given = spec.given(DRAFTED, AT_10, deleted)
    given.when(CONFIGURE).then(configured)


def test_what_is_configured_is_changed_and_the_rest_stays():
    both = but(SETUP, recipe="train.py", base_model="zero")
    given = spec.given(DRAFTED, ExperimentConfigured(both))
    changed = but(both, recipe="other.py")
    given.when(ConfigureExperiment(recipe="other.py")).then(
        ExperimentConfigured(changed)
    )


def test_the_family_follows_another_algorithm_unless_it_is_named():
    grpo = spec.given(DRAFTED).when(ConfigureExperiment(algorithm="GRPO"))
    llm = but(SETUP, algorithm="GRPO", family=Family.LLM)
    grpo.then(ExperimentConfigured(llm))
    mine = ConfigureExperiment(algorithm="Mine", family=Family.LATENT)
    latent = but(SETUP, algorithm="Mine", family=Family.LATENT)
    spec.given(DRAFTED).when(mine).then(ExperimentConfigured(latent))


@pytest.mark.parametrize("status", Status)
def test_configuring_what_is_so_already_changes_nothing(status):
    spec.given(*IN[status]).when(ConfigureExperiment()).then()


@pytest.mark.parametrize("status", Status)
def test_a_checkpoint_is_recorded_in_every_status_with_the_time(status):
    spec.given(*IN[status]).when(RecordCheckpoint(20, B, 4097)).then(AT_20)
    trainings = 0 if status is Status.DRAFT else 1
    assert spec.given(*IN[status], AT_20).state.checkpoints == (
        Written(10, A, 4096, NOW),
        Written(20, B, 4097, NOW, belongs_to=trainings),
    )


def test_rule_12_a_checkpoint_holds_no_scores():
    about = {"training", "belongs_to"}
    kept = {"step", "digest", "size_bytes", "written_at", *about}
    assert set(fields_dict(Written)) == kept


def test_recording_a_checkpoint_twice_changes_nothing():
    spec.given(*DRAFT).when(RecordCheckpoint(10, A, 4096)).then()


def test_a_step_has_one_checkpoint():
    other = RecordCheckpoint(10, B, 4096)
    spec.given(*DRAFT).when(other).then_raises(Conflict, "Step 10 .* delete it first")


def test_one_checkpoint_may_stand_at_two_steps():
    again = CheckpointWritten(20, A, 4096, NOW, None)
    spec.given(*DRAFT).when(RecordCheckpoint(20, A, 4096)).then(again)
    state = spec.given(*DRAFT, again, CheckpointDeleted(10, A)).state
    assert state.checkpoints == (Written(20, A, 4096, NOW),)


@pytest.mark.parametrize(
    ("step", "digest", "size", "wrong"),
    [(-1, A, 1, "step"), (1, "no digest", 1, "digest"), (1, A, -1, "size_bytes")],
)
def test_an_impossible_checkpoint_cannot_even_be_said(step, digest, size, wrong):
    with pytest.raises(Rejected) as caught:
        RecordCheckpoint(step, digest, size)
    assert caught.value.field == wrong


def test_rule_15_a_checkpoint_can_be_deleted_by_its_step():
    gone = CheckpointDeleted(10, A)
    spec.given(*DRAFT, AT_20).when(DeleteCheckpoint(10)).then(gone)
    state = spec.given(*DRAFT, AT_20, gone).state
    assert state.checkpoints == (Written(20, B, 4097, NOW),)
    given = spec.given(*DRAFT, AT_20, gone)
    given.when(DeleteCheckpoint(10)).then_raises(NotFound, "there are: 20")


def test_a_step_is_free_again_once_its_checkpoint_is_deleted():
    given = spec.given(*DRAFT, CheckpointDeleted(10, A))
    given.when(RecordCheckpoint(10, B, 1)).then(CheckpointWritten(10, B, 1, NOW, None))


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.STOPPING])
def test_an_experiment_at_work_must_be_stopped_before_it_is_deleted(status):
    refused = spec.given(*IN[status]).when(DELETE)
    refused.then_raises(IllegalTransition, "stop it first")


def test_deleting_twice_changes_nothing():
    assert spec.given(DRAFTED, DELETED).state.deleted
    spec.given(DRAFTED, DELETED).when(DELETE).then()


LIFELESS = (
    RenameExperiment("x"), ConfigureExperiment(), RecordCheckpoint(10, A, 1),
    DeleteCheckpoint(10), TRAIN, RESUME, START, STOP, FINISH, ACKNOWLEDGE, FAIL,
)  # fmt: skip


@pytest.mark.parametrize("command", LIFELESS, ids=str)
@pytest.mark.parametrize("history", [(), (*DRAFT, DELETED)], ids=["never", "deleted"])
def test_an_experiment_that_does_not_live_is_not_found(history, command):
    spec.given(*history).when(command).then_raises(NotFound, "no such experiment")


def test_an_experiment_that_never_was_cannot_be_deleted():
    spec.given().when(DELETE).then_raises(NotFound)
