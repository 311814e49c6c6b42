"""The structure of a pipeline: what each command does to it."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from attrs import evolve as but

from arena_core.domain import pipeline
from arena_core.domain.errors import (
    AlreadyExists,
    Conflict,
    NotFound,
    Overtaken,
    Rejected,
)
from arena_core.domain.ids import AgentId, ExperimentId, PipelineId, ProjectId, StageId
from arena_core.domain.pipeline import (
    MOST_STAGES,
    CreateDuplicate,
    CreatePipeline,
    DeletePipeline,
    DescribePipeline,
    EditStage,
    InsertStage,
    MoveStage,
    PipelineCreated,
    PipelineDeleted,
    PipelineDescribed,
    PipelineDuplicated,
    PipelineRenamed,
    RemoveStage,
    RenamePipeline,
    RequirePipeline,
    StageEdited,
    StageInserted,
    StageMoved,
    StageRemoved,
)
from arena_core.domain.stage_order import Planned
from arena_core.domain.stage_settings import (
    AutoAdd,
    Condition,
    SavedAgent,
    Settings,
    StageType,
    Trains,
    Trigger,
)
from arena_core.domain.values import Family
from unit.spec import Spec

NOW = datetime(2026, 9, 1, tzinfo=UTC)
spec = Spec(pipeline, NOW)
ID, OTHER = PipelineId(UUID(int=1)), PipelineId(UUID(int=2))
PROJECT = ProjectId(UUID(int=3))
A, B, C = (StageId(UUID(int=number)) for number in (11, 12, 13))
PPO = Trains("PPO", Family.RL)
SUPERVISED = Trains("Supervised", Family.SUPERVISED)
LATENT = Trains("LatentPPO", Family.LATENT)
DEPLOYMENT = Settings(StageType.DEPLOYMENT)


def training(number: int, trains: Trains = PPO, **said) -> Settings:
    bound = ExperimentId(UUID(int=100 + number))
    return Settings(StageType.EXPERIMENT, experiment_id=bound, trains=trains, **said)


CREATED = PipelineCreated(ID, PROJECT, "chain", "")
ONE = StageInserted(A, 1, training(1))
TWO = StageInserted(B, 2, training(2))
LIVE = StageInserted(C, 3, DEPLOYMENT)
CHAIN = (CREATED, ONE, TWO, LIVE)
INSERT = InsertStage(A, training(1))


def test_a_pipeline_begins_empty_under_a_trimmed_name():
    spec.given().when(CreatePipeline(ID, PROJECT, " chain ", " why ")).then(
        PipelineCreated(ID, PROJECT, "chain", "why")
    )
    spec.given(CREATED).when(CreatePipeline(ID, PROJECT, "chain")).then_raises(
        AlreadyExists
    )
    spec.given().when(CreatePipeline(ID, PROJECT, " ")).then_raises(Rejected, "name")


@pytest.mark.parametrize("history", [(), (CREATED, PipelineDeleted())])
@pytest.mark.parametrize(
    "command",
    [
        RenamePipeline("x"),
        DescribePipeline("x"),
        INSERT,
        MoveStage(A, 1),
        EditStage(A, training(1)),
        RemoveStage(A),
        RequirePipeline(),
    ],
)
def test_what_is_not_there_can_do_nothing(history, command):
    spec.given(*history).when(command).then_raises(NotFound, "no such pipeline")


def test_a_deleted_pipeline_is_deleted_once():
    spec.given(CREATED).when(DeletePipeline()).then(PipelineDeleted())
    spec.given(CREATED, PipelineDeleted()).when(DeletePipeline()).then()
    spec.given().when(DeletePipeline()).then_raises(NotFound)


def test_renaming_and_describing_as_it_is_changes_nothing():
    spec.given(CREATED).when(RenamePipeline(" other ")).then(PipelineRenamed("other"))
    spec.given(CREATED).when(RenamePipeline("chain")).then()
    spec.given(CREATED).when(DescribePipeline(" x ")).then(PipelineDescribed("x"))
    spec.given(CREATED).when(DescribePipeline("")).then()


def test_a_stage_is_inserted_at_its_position_or_at_the_end():
    spec.given(CREATED).when(INSERT).then(ONE)
    spec.given(CREATED, ONE).when(InsertStage(B, training(2))).then(TWO)
    spec.given(CREATED, ONE).when(InsertStage(B, training(2), 1)).then(
        StageInserted(B, 1, training(2))
    )
    spec.given(CREATED, ONE).when(INSERT).then_raises(AlreadyExists)


def test_a_pipeline_has_a_limited_number_of_stages():
    history = [
        StageInserted(StageId(UUID(int=n)), n, training(n))
        for n in range(1, MOST_STAGES + 1)
    ]
    one_more = InsertStage(StageId(UUID(int=999)), training(999))
    spec.given(CREATED, *history).when(one_more).then_raises(Conflict, "100 stages")
    spec.given(CREATED, *history[:-1]).when(one_more).then(
        StageInserted(one_more.stage_id, MOST_STAGES, one_more.settings)
    )


def test_moving_a_stage_to_where_it_is_changes_nothing():
    spec.given(*CHAIN).when(MoveStage(B, 2)).then()
    spec.given(*CHAIN).when(MoveStage(B, 1)).then(StageMoved(B, 1))
    spec.given(*CHAIN).when(MoveStage(StageId(UUID(int=99)), 1)).then_raises(NotFound)


def test_a_stage_that_is_edited_as_it_is_does_not_change():
    spec.given(*CHAIN).when(EditStage(A, training(1))).then()
    approved = but(training(1), approval=True)
    spec.given(*CHAIN).when(EditStage(A, approved)).then(StageEdited(A, approved))


def test_a_stage_that_is_removed_is_gone():
    spec.given(*CHAIN).when(RemoveStage(B)).then(StageRemoved(B))
    spec.given(*CHAIN, StageRemoved(B)).when(RemoveStage(B)).then_raises(NotFound)


def test_an_auto_stage_that_becomes_the_first_is_made_manual_by_the_same_command():
    auto = but(training(2), trigger=Trigger.AUTO)
    history = (CREATED, ONE, StageInserted(B, 2, auto))
    spec.given(*history).when(RemoveStage(A)).then(
        StageRemoved(A), StageEdited(B, training(2))
    )
    spec.given(*history).when(MoveStage(A, 2)).then(
        StageMoved(A, 2), StageEdited(B, training(2))
    )


def test_a_kept_start_does_no_harm_to_an_edit_of_a_later_stage():
    start = SavedAgent(AgentId(UUID(int=5)), PPO)
    first = training(1, start=start)
    history = (CREATED, StageInserted(A, 1, first), TWO, StageMoved(A, 2))
    edited = but(first, approval=True)
    spec.given(*history).when(EditStage(A, edited)).then(StageEdited(A, edited))
    other = but(first, start=SavedAgent(AgentId(UUID(int=6)), PPO))
    spec.given(*history).when(EditStage(A, other)).then_raises(Rejected, "Only the")


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        (Settings(StageType.EXPERIMENT), Rejected, "trains nothing"),
        (training(1), Conflict, "bound to another stage"),
        (training(9, LATENT), Rejected, "cannot use a checkpoint"),
        (but(DEPLOYMENT, auto_add=AutoAdd.BEST), Rejected, "leave auto_add out"),
        (but(DEPLOYMENT, trains=PPO), Rejected, "trains nothing: leave"),
        (
            training(9, condition=Condition(better_than_live=True)),
            Rejected,
            "puts nothing live",
        ),
    ],
)
def test_settings_with_which_it_could_not_be_run_are_refused(settings, error, match):
    insert = InsertStage(B, settings)
    spec.given(CREATED, ONE).when(insert).then_raises(error, match)
    duplicate = CreateDuplicate(
        OTHER, ID, PROJECT, "copy", "", (Planned(A, training(1)), Planned(B, settings))
    )
    spec.given().when(duplicate).then_raises(error, match)


JUDGED = Condition(min_fitness=1.0)
SAVED = SavedAgent(AgentId(UUID(int=6)), PPO)


def test_a_stage_that_begins_from_scratch_has_nothing_to_judge():
    first = training(1, condition=JUDGED)
    later = StageInserted(B, 2, training(2, condition=JUDGED))
    for history, command in [
        ((CREATED,), InsertStage(A, first)),
        ((CREATED, ONE), EditStage(A, first)),
        ((CREATED, ONE), InsertStage(B, training(2, condition=JUDGED), 1)),
        ((CREATED, ONE, later), MoveStage(B, 1)),
        ((CREATED, ONE, later), RemoveStage(A)),
    ]:
        spec.given(*history).when(command).then_raises(Rejected, "begins from scratch")
    copy = CreateDuplicate(OTHER, ID, PROJECT, "copy", "", (Planned(A, first),))
    spec.given().when(copy).then_raises(Rejected, "name a saved agent as its start")


@pytest.mark.parametrize(
    ("history", "insert"),
    [
        ((CREATED,), InsertStage(A, training(1, condition=JUDGED, start=SAVED), 1)),
        ((CREATED, ONE), InsertStage(B, training(2, condition=JUDGED), 2)),
    ],
    ids=["that of an agent", "that of the stage before"],
)
def test_a_checkpoint_that_a_stage_begins_with_is_judged(history, insert):
    inserted = StageInserted(insert.stage_id, insert.position, insert.settings)
    spec.given(*history).when(insert).then(inserted)


def test_a_first_stage_that_judges_nothing_as_old_logs_have_it_can_be_mended():
    old = StageInserted(A, 1, training(1, condition=JUDGED))
    mended = training(1)
    spec.given(CREATED, old).when(EditStage(A, mended)).then(StageEdited(A, mended))
    spec.given(CREATED, old).when(RenamePipeline("new")).then(PipelineRenamed("new"))
    spec.given(CREATED, old).when(InsertStage(B, training(2))).then_raises(
        Rejected, "Stage 1 begins from scratch"
    )


def test_a_deployment_may_be_better_than_what_it_has_live():
    asked = but(DEPLOYMENT, condition=Condition(better_than_live=True))
    spec.given(CREATED, ONE).when(InsertStage(B, asked)).then(
        StageInserted(B, 2, asked)
    )


def test_a_duplicate_begins_with_all_its_stages():
    stages = (Planned(A, training(1)), Planned(C, DEPLOYMENT))
    spec.given().when(
        CreateDuplicate(OTHER, ID, PROJECT, " copy ", " why ", stages)
    ).then(PipelineDuplicated(OTHER, ID, PROJECT, "copy", "why", stages))
    again = CreateDuplicate(OTHER, ID, PROJECT, "copy", "", ())
    spec.given(CREATED).when(again).then_raises(AlreadyExists)


def test_what_was_decided_on_other_stages_is_decided_anew():
    seen = (Planned(A, training(1)),)
    spec.given(CREATED, ONE).when(RequirePipeline(seen)).then()
    spec.given(CREATED, ONE).when(RequirePipeline()).then()
    spec.given(CREATED, ONE, TWO).when(RequirePipeline(seen)).then_raises(Overtaken)


def test_a_stage_knows_what_is_before_and_behind_it():
    state = None
    for event in (*CHAIN, StageInserted(StageId(UUID(int=14)), 4, DEPLOYMENT)):
        state = pipeline.evolve(state, event)
    assert state.source(A) is None
    assert state.source(B).id == A
    assert state.source(C).id == B
    assert state.source(StageId(UUID(int=14))).id == B, "a Deployment leaves nothing"
    assert state.next(A).id == B
    assert state.next(StageId(UUID(int=14))) is None
    with pytest.raises(NotFound, match="no such stage"):
        state.stage(StageId(UUID(int=99)))
