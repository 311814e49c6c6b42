"""The runner when something is wrong, or when it is not the only one."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from arena_core.application import stage_steps
from arena_core.application.ending import Ending
from arena_core.application.pipeline_runner import (
    GAVE_UP,
    LOOK_AT_ALL,
    PipelineRunner,
    _Waiting,
)
from arena_core.application.setting_aside import MOST_DEFECTS, SetAside
from arena_core.application.stage_steps import Step
from arena_core.application.views import Halt
from arena_core.domain.errors import Conflict, Corrupt, PreconditionFailed, Unavailable
from arena_core.domain.ids import StageId
from arena_core.domain.stage_settings import Retries
from unit.pipelines_at_work import Works


@pytest.fixture
def works(tmp_path):
    works = Works(tmp_path)
    yield works
    works.close()


class Wrong:
    """Has the steps of one stage raise something, a number of times."""

    def __init__(self, monkeypatch, stage_id, error, times=10**9):
        self.stage_id, self.error, self.left = stage_id, error, times
        self.met = 0
        take = Step.take

        def wrong(step):
            if step.stage.id == self.stage_id and self.left > 0:
                self.left -= 1
                self.met += 1
                raise self.error
            return take(step)

        monkeypatch.setattr(Step, "take", wrong)


@pytest.fixture
def two_lines(works):
    """Two pipelines, each with a stage that was triggered and not looked at."""
    first = works.train()
    other = works.use.pipelines.create(works.project, name="other").id
    second = works.experiment("other")
    made = works.use.pipelines.insert_stage(
        other, type="experiment", experiment_id=second
    )
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    works.use.pipelines.trigger(other, made.stages[0].id)
    return works, first, second


def test_a_success_is_recorded_though_the_next_stage_is_retried_just_then(
    works, monkeypatch
):
    first, second = works.train(), works.train()
    works.trigger()
    works.succeed(first)
    works.begin(second)
    works.fail(second)
    works.trigger()
    works.begin(first)
    record, raced = Step._record, []

    def overtaken(step, changes, reaction):
        if step.stage.id == works.stage(1).id and not raced:
            raced.append(works.use.pipelines.retry(works.pipeline, works.stage(2).id))
        record(step, changes, reaction)

    monkeypatch.setattr(Step, "_record", overtaken)
    works.finish(first)
    assert not works.runner.set_aside
    works.go_on()
    assert raced
    assert works.statuses() == ["Succeeded", "Running"]
    assert (works.run(2).number, works.run(2).cause.value) == (2, "retry")


def test_a_stage_that_was_lost_from_sight_is_found_again_after_a_while(works):
    first = works.train()
    works.trigger()
    works.begin(first)
    works.runner._forget(works.stage(1).id)
    works.finish(first)
    works.wait(590)
    assert works.statuses() == ["Running"]
    works.wait(10)
    assert works.statuses() == ["Succeeded"]


def test_a_defect_at_one_stage_keeps_no_other_waiting(two_lines, monkeypatch):
    works, first, second = two_lines
    Wrong(monkeypatch, works.stage(1).id, ZeroDivisionError("a defect"))
    works.go_on()
    assert works.state(first).training is None
    assert works.state(second).training is not None
    assert list(works.runner.set_aside) == [works.stage(1).id]


def test_what_is_set_aside_is_tried_again_after_longer_and_longer(works, monkeypatch):
    works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    wrong = Wrong(monkeypatch, works.stage(1).id, ZeroDivisionError("a defect"), 3)
    works.go_on(5)
    assert wrong.met == 1
    for tries, wait_s in ((1, 1), (2, 2)):
        works.wait(wait_s - 0.1)
        assert wrong.met == tries
        works.wait(0.1)
        assert wrong.met == tries + 1
    works.wait(4)
    assert works.statuses() == ["Running"]
    assert not works.runner.set_aside


def test_who_runs_the_server_is_told_what_a_stage_has_to_wait_for(
    works, monkeypatch, caplog
):
    works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    Wrong(monkeypatch, works.stage(1).id, Unavailable("The disk is full."), 1)
    works.go_on()
    assert f"Stage {works.stage(1).id} has to wait: The disk is full." in caplog.text
    works.wait(1)
    assert works.statuses() == ["Running"]


def test_stages_and_trainings_that_are_set_aside_are_counted(scene):
    assert scene.use.set_aside == 0
    beside = scene.arena.supervisor._beside
    ill = SetAside("It is ill.", 1, datetime.now(UTC))
    beside["runner"]._set_aside[uuid4()] = ill
    beside["trainer"]._set_aside |= {uuid4(): ill, uuid4(): ill}
    assert scene.use.set_aside == 3


def test_a_defect_that_does_not_pass_fails_the_stage(works, monkeypatch):
    first = works.train(retries=Retries(3))
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    Wrong(monkeypatch, works.stage(1).id, ZeroDivisionError("a defect"))
    for _ in range(MOST_DEFECTS):
        works.wait(600)
    assert works.statuses() == ["Failed"]
    assert works.run(1).reason == GAVE_UP
    assert works.state(first).training is None
    assert not works.runner.set_aside


def test_giving_up_ends_what_the_stage_has_begun(works, monkeypatch):
    first = works.train()
    works.trigger()
    works.begin(first)
    Wrong(monkeypatch, works.stage(1).id, Corrupt("It cannot be read."))
    works.use.pipelines.stop(works.pipeline, works.stage(1).id)
    for _ in range(MOST_DEFECTS):
        works.wait(600)
    assert works.statuses() == ["Failed"]
    assert works.run(1).reason == "It cannot be read."
    assert works.state(first).status.value == "Stopping"


def test_a_stage_that_cannot_even_be_ended_stays_set_aside(two_lines, monkeypatch):
    works, first, second = two_lines
    poisoned, of = works.stage(1).id, Step.of

    def wrong(core, stage_id):
        if stage_id == poisoned:
            raise ZeroDivisionError
        return of(core, stage_id)

    monkeypatch.setattr(Step, "of", wrong)
    for _ in range(MOST_DEFECTS + 2):
        works.wait(600)
    assert works.runner.set_aside[poisoned].failures == MOST_DEFECTS + 2
    assert works.state(first).training is None
    assert works.state(second).training is not None


def test_what_is_not_to_be_had_is_waited_for_however_long(works, monkeypatch):
    works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    Wrong(monkeypatch, works.stage(1).id, Unavailable("The disk is full."), 20)
    for _ in range(20):
        works.wait(600)
        (aside,) = works.runner.set_aside.values()
        assert aside.reason == "The disk is full."
    works.wait(600)
    assert works.statuses() == ["Running"]
    assert not works.runner.set_aside


def test_a_defect_after_much_that_passed_does_not_fail_the_stage(works, monkeypatch):
    works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    full = Unavailable("The disk is full.")
    wrong = Wrong(monkeypatch, works.stage(1).id, full, MOST_DEFECTS)
    for _ in range(MOST_DEFECTS):
        works.wait(600)
    wrong.error, wrong.left = ZeroDivisionError("a defect"), MOST_DEFECTS - 1
    for _ in range(MOST_DEFECTS):
        works.wait(600)
    assert works.statuses() == ["Running"]
    assert not works.runner.set_aside


def test_whoever_was_overtaken_looks_again_in_the_next_pass(works, monkeypatch):
    works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    Wrong(monkeypatch, works.stage(1).id, PreconditionFailed("It has changed."), 3)
    works.go_on(3)
    assert works.statuses() == ["Pending"]
    works.go_on()
    assert works.statuses() == ["Running"]
    assert not works.runner.set_aside


def test_what_changes_between_the_look_and_the_append_is_not_acted_upon(
    works, monkeypatch
):
    """The stage is stopped just before its training would have been asked for."""
    first = works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    start, stopped = stage_steps.start, []

    def stop_first(streams, state):
        changes = start(streams, state)
        if not stopped:
            stopped.append(state)
            works.use.pipelines.stop(works.pipeline, state.id)
        return changes

    monkeypatch.setattr(stage_steps, "start", stop_first)
    works.go_on(2)
    assert works.statuses() == ["Stopped"]
    assert works.state(first).training is None


def test_two_runners_do_everything_once(works, monkeypatch):
    """The other one takes every step just before this one would."""
    other, handle = PipelineRunner(works.worker.core), type(works.worker.core.handler)
    original, busy = handle.handle, []

    def overtaken(self, context, *changes, **guards):
        if str(context.actor) == "system:runner" and not busy:
            busy.append(True)
            other.reconcile()
            busy.clear()
        return original(self, context, *changes, **guards)

    monkeypatch.setattr(handle, "handle", overtaken)
    first, second = works.train(auto_add="best"), works.train()
    works.deploy()
    works.trigger()
    works.succeed(first)
    works.succeed(second)
    works.connect()
    assert works.statuses() == ["Succeeded"] * 3
    assert works.log("stage").count("stage.triggered") == 3
    assert works.log("stage").count("stage.started") == 3
    assert works.log("agent") == ["agent.checkpoint_frozen"] * 2
    assert works.log("experiment").count("experiment.training_requested") == 2


def test_a_runner_that_begins_knows_what_the_one_before_it_knew(works):
    first = works.train()
    works.train("manual", retries=Retries(1))
    works.trigger()
    works.runner = PipelineRunner(works.worker.core)
    works.go_on()
    works.succeed(first)
    assert works.statuses()[0] == "Succeeded"


def test_of_stages_that_wait_for_one_experiment_none_is_lost(works):
    """A log of earlier releases may have bound it twice."""
    first = works.train()
    works.trigger()
    works.begin(first)
    other = StageId(uuid4())
    works.runner._wait(other, _Waiting(first, None))
    works.runner._forget(other)
    works.finish(first)
    assert works.statuses() == ["Succeeded"]
    assert not works.runner._waits_for


def test_all_stages_are_looked_at_once_in_a_while(works):
    first = works.train()
    works.trigger()
    works.runner._waits_for.clear()
    works.succeed(first)
    assert works.statuses() == ["Running"]
    works.wait(LOOK_AT_ALL.total_seconds())
    assert works.statuses() == ["Succeeded"]


def test_nothing_is_done_while_the_log_cannot_be_read(works):
    first = works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    works.worker.core.views.halted = Halt(1, "An event is not known.")
    works.go_on()
    works.worker.core.views.halted = None
    assert works.state(first).training is None
    works.go_on()
    assert works.state(first).training is not None


def test_a_runner_that_is_to_stop_takes_no_further_step(works):
    first = works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    works.runner.stop()
    works.go_on()
    assert works.state(first).training is None


def test_a_training_that_writes_checkpoints_costs_the_runner_no_look(
    works, monkeypatch
):
    first = works.train()
    works.trigger()
    works.begin(first)
    works.go_on()
    looks, of = [], Step.of

    def counted(core, stage_id):
        looks.append(stage_id)
        return of(core, stage_id)

    monkeypatch.setattr(Step, "of", counted)
    for step in range(1, 6):
        works.write(first, step)
        works.go_on()
    assert not looks
    works.finish(first)
    assert looks


def test_a_refusal_of_a_success_is_tried_again(works, monkeypatch):
    first = works.train()
    works.trigger()

    def refused(*_):
        raise Conflict("Not now.")

    with monkeypatch.context() as patch:
        patch.setattr(Ending, "succeeded", refused)
        works.succeed(first)
    assert works.statuses() == ["Running"]
    assert [s.reason for s in works.runner.set_aside.values()] == ["Not now."]
    works.wait(1)
    assert works.statuses() == ["Succeeded"]


def test_what_has_ended_meanwhile_is_not_given_up(works, monkeypatch):
    works.train()
    works.use.pipelines.trigger(works.pipeline, works.stage(1).id)
    tries = []

    def wrong(_):
        tries.append(1)
        if len(tries) == MOST_DEFECTS:
            works.use.pipelines.stop(works.pipeline, works.stage(1).id)
        raise ZeroDivisionError

    monkeypatch.setattr(Step, "take", wrong)
    for _ in range(MOST_DEFECTS):
        works.wait(600)
    assert works.statuses() == ["Stopped"]
    assert not works.runner.set_aside


def test_who_stops_a_stage_starts_nothing_behind_it_though_its_work_was_faster(works):
    first = works.train()
    works.deploy()
    last = works.train(trigger="auto")
    works.trigger()
    works.succeed(first)
    works.connect()
    works.succeed(last)
    works.trigger()
    works.succeed(first)
    works.stop(2)
    assert works.statuses() == ["Succeeded", "Stopping", "Succeeded"]
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded", "Succeeded"]
    assert works.run(2).stopped_by is not None
    assert works.run(3).number == 1


def test_what_succeeds_after_its_time_was_over_starts_what_is_behind_it(works):
    first = works.train()
    works.deploy(time_limit_s=60)
    last = works.train(trigger="auto")
    works.trigger()
    works.succeed(first)
    works.connect()
    works.succeed(last)
    works.trigger()
    works.succeed(first)
    works.wait(61)
    assert works.statuses() == ["Succeeded", "Stopping", "Succeeded"]
    works.connect()
    assert works.run(3).number == 2
