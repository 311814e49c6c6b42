"""Pipelines and stages under any commands at any times, beside a plain model."""

from collections.abc import Sequence
from functools import cache
from typing import ClassVar, get_args

import pytest
from attrs import evolve as but
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from arena_core.adapters.codec import decode, encode
from arena_core.domain import pipeline, stage
from arena_core.domain.ids import AgentId, ExperimentId, PipelineId, ProjectId, StageId
from arena_core.domain.pipeline import (
    CreateDuplicate,
    CreatePipeline,
    DeletePipeline,
    DescribePipeline,
    EditStage,
    InsertStage,
    MoveStage,
    RemoveStage,
    RenamePipeline,
    RequirePipeline,
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
from arena_core.domain.stage_run import (
    AT_WORK,
    Cause,
    Consumed,
    Inputs,
    Outcome,
    Product,
    Reaction,
    Status,
    Verdict,
    Yields,
)
from arena_core.domain.stage_settings import (
    Condition,
    Link,
    Retries,
    SavedAgent,
    Settings,
    StageType,
    Trains,
    Trigger,
    link,
)
from arena_core.domain.values import Family, Scores
from unit.life import DIGESTS, IDS, Life, TimedLife

TRAINS = (
    Trains("PPO", Family.RL),
    Trains("Supervised", Family.SUPERVISED),
    Trains("LatentPPO", Family.LATENT),
)
BOUND = [
    Settings(
        StageType.EXPERIMENT,
        trigger,
        experiment_id=ExperimentId(each),
        trains=trains,
        start=start,
    )
    for each, trigger, trains, start in (
        (IDS[0], Trigger.MANUAL, TRAINS[0], None),
        (IDS[0], Trigger.AUTO, TRAINS[1], None),
        (IDS[1], Trigger.AUTO, TRAINS[1], None),
        (IDS[1], Trigger.AUTO, TRAINS[2], None),
        (IDS[1], Trigger.MANUAL, TRAINS[2], SavedAgent(AgentId(IDS[0]), TRAINS[1])),
    )
]
OTHERS = [
    Settings(StageType.EXPERIMENT),
    *(Settings(StageType.DEPLOYMENT, trigger) for trigger in Trigger),
]
STAGES = [StageId(i) for i in IDS]


class LifeOfAPipeline(Life):
    module: ClassVar = pipeline
    ends: ClassVar = (DeletePipeline,)
    each_time: ClassVar = (CreatePipeline, CreateDuplicate)

    def __init__(self):
        super().__init__()
        self.model = []

    @staticmethod
    @cache
    def commands() -> Sequence[object]:
        edits = [
            make(stage_id, said)
            for stage_id in STAGES
            for said in (*BOUND, *OTHERS)
            for make in (EditStage, lambda i, s: InsertStage(i, s, 1), InsertStage)
        ]
        moves = [MoveStage(stage_id, to) for stage_id in STAGES for to in (0, 1, 2, 3)]
        return [
            *edits,
            *moves,
            *(RemoveStage(stage_id) for stage_id in STAGES),
            *(RenamePipeline(name) for name in ("one", " two ", " ")),
            DescribePipeline("one"),
            RequirePipeline(),
            DeletePipeline(),
        ]

    def begin(self, command=None):
        del command
        self.obey(CreatePipeline(PipelineId(IDS[0]), ProjectId(IDS[1]), "one"))

    def happen(self, event):
        super().happen(event)
        name, version, body = encode(event)
        assert decode(name, version, body) == event
        match event:
            case pipeline.StageInserted():
                self.model.insert(event.position - 1, event.stage_id)
            case pipeline.StageMoved():
                self.model.remove(event.stage_id)
                self.model.insert(event.position - 1, event.stage_id)
            case pipeline.StageRemoved():
                self.model.remove(event.stage_id)
            case _:
                pass

    @invariant()
    def the_order_is_that_of_a_plain_list(self):
        if self.state is not None:
            assert [planned.id for planned in self.state.stages] == self.model

    @invariant()
    def the_stages_can_be_run_in_their_order(self):
        before = None
        stages = () if self.state is None else self.state.stages
        for number, planned in enumerate(stages):
            said = planned.settings
            if number == 0:
                assert said.type is StageType.EXPERIMENT
                assert said.trigger is Trigger.MANUAL
            if said.type is StageType.DEPLOYMENT:
                assert said.experiment_id is None
                continue
            assert said.experiment_id is not None
            if before is not None:
                assert link(before, said.trains) is not None
            elif said.trains.needs_a_decoder:
                assert link(said.start.trains, said.trains) is not None
            before = said.trains
        bound = [p.settings.experiment_id for p in stages if p.settings.experiment_id]
        assert len(bound) == len(set(bound))


PRODUCTS = [
    Product(ExperimentId(IDS[0]), 10, digest, Scores(None, fitness))
    for digest, fitness in zip(DIGESTS, (1.0, 2.0), strict=True)
]
GATED = Settings(
    StageType.DEPLOYMENT,
    condition=Condition(1.5),
    approval=True,
    retries=Retries(1, 60),
    time_limit_s=60,
)
RUNS = [stage.run_of(STAGES[0], number) for number in (1, 2)]


class LifeOfAStage(TimedLife):
    module: ClassVar = stage
    each_time: ClassVar = (TriggerStage, SucceedStage, FailStage, RequireYields)

    @classmethod
    @cache
    def commands(cls) -> Sequence[object]:
        of_runs = [
            make(run_id)
            for run_id in RUNS
            for make in (
                lambda r: CheckCondition(r, None),
                lambda r: CheckCondition(r, PRODUCTS[1]),
                lambda r: RequestApproval(r, None),
                lambda r: StartStage(r, training=1),
                TimeStageOut,
                lambda r: SucceedStage(r, Yields(*PRODUCTS)),
                lambda r: FailStage(r, "No."),
                lambda r: FailStage(r, "No.", for_good=True),
                lambda r: StopStage(r, "No.", Yields(None, PRODUCTS[0])),
            )
        ]
        return [
            *cls.triggers(),
            *of_runs,
            ApproveStage(),
            ApproveStage(DIGESTS[0]),
            RejectStage(),
            RequestStageStop(),
            RequireIdle(),
            RequireYields(Yields()),
        ]

    @staticmethod
    def triggers():
        return [
            TriggerStage(
                STAGES[0],
                PipelineId(IDS[0]),
                cause,
                but(said, trigger=trigger),
                Inputs(DIGESTS[0], consumed and Consumed(consumed)),
            )
            for cause in Cause
            for trigger in Trigger
            for said, consumed in (
                (Settings(StageType.DEPLOYMENT), None),
                (GATED, PRODUCTS[0]),
                (GATED, PRODUCTS[1]),
            )
        ]

    def begin(self, command=None):
        del command
        self.obey(self.triggers()[0])

    def happen(self, event):
        before = self.state
        super().happen(event)
        name, version, body = encode(event)
        assert decode(name, version, body) == event
        if type(event).__name__ == "StageStarted":
            assert stage.react(before, None, self.now) is Reaction.START
            assert before.run.settings.condition is None or before.run.condition.met
            assert before.run.approved or not before.run.settings.approval

    @invariant()
    def something_follows_from_whatever_is_at_work(self):
        """No run is left over: a reaction, a time, a person, or its work goes on."""
        if self.state is None or self.state.status not in AT_WORK:
            return
        run, status = self.state.run, self.state.status
        if status is Status.PENDING:
            later = stage.due_at(self.state, None)
            follows = stage.react(self.state, None, self.now)
            assert follows or later or run.awaits_approval
            return
        for verdict in (Verdict.SUCCEEDED, Verdict.FAILED, Verdict.STOPPED):
            assert stage.react(self.state, Outcome(verdict), self.now)

    @invariant()
    def what_has_ended_says_so(self):
        if self.state is not None:
            has_ended = self.state.status not in AT_WORK
            assert has_ended is (self.state.run.ended_at is not None)
            assert self.state.run.attempt <= self.state.run.settings.retries.most + 1


class WhatFollows(LifeOfAStage):
    """A stage to which only what follows, and what people say, is done."""

    @rule(verdict=st.sampled_from(Verdict))
    def follow(self, verdict):
        if self.state is None:
            return
        run = self.state.run
        begun = self.state.status in {Status.RUNNING, Status.STOPPING}
        outcome = Outcome(verdict, began_at=run.started_at) if begun else None
        reaction = stage.react(self.state, outcome, self.now)
        commands = {
            Reaction.CHECK_CONDITION: CheckCondition(run.id, None),
            Reaction.REQUEST_APPROVAL: RequestApproval(run.id, None),
            Reaction.START: StartStage(run.id, training=1),
            Reaction.TIME_OUT: TimeStageOut(run.id),
            Reaction.SUCCEED: SucceedStage(run.id),
            Reaction.FAIL: FailStage(run.id, "No."),
            Reaction.STOP: StopStage(run.id, "No."),
        }
        if reaction is None:
            return
        assert stage.decide(commands[reaction], self.state, self.now), "never refused"
        self.obey(commands[reaction])
        assert stage.react(self.state, None, self.now) is not reaction or (
            reaction is Reaction.START
        )


FEW = settings(stateful_step_count=25)
TestPipeline = pytest.mark.slow(LifeOfAPipeline.TestCase)
TestPipeline.settings = FEW
TestStage = pytest.mark.slow(LifeOfAStage.TestCase)
TestStage.settings = FEW
TestWhatFollows = pytest.mark.slow(WhatFollows.TestCase)
TestWhatFollows.settings = FEW


def test_every_command_is_tried():
    for life in (LifeOfAPipeline(), LifeOfAStage()):
        tried = {type(command) for command in life.commands()}
        creations = {CreatePipeline, CreateDuplicate}
        assert tried == set(get_args(life.module.Command)) - creations


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (TRAINS[0], TRAINS[0], Link.WEIGHTS),
        (TRAINS[1], TRAINS[2], Link.DECODER),
        (TRAINS[2], TRAINS[1], None),
        (Trains("SFT", Family.LLM, "a"), Trains("DPO", Family.LLM, "a"), Link.WEIGHTS),
        (Trains("SFT", Family.LLM, "a"), Trains("DPO", Family.LLM, "b"), None),
        (Trains("SFT", Family.LLM, "a"), Trains("SFT", Family.LLM, "b"), None),
        (Trains("SFT", Family.LLM, None), TRAINS[1], None),
    ],
)
def test_what_one_training_does_with_a_checkpoint_of_another(one, other, found):
    assert link(one, other) is found
