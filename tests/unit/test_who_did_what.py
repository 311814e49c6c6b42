"""Who has triggered, approved, rejected or stopped a run, in what is shown of it."""

from datetime import timedelta

import pytest

from arena_core.application.deeds import What, deeds_after, hand_of
from arena_core.domain.errors import NotFound
from arena_core.domain.experiment import RequestTraining
from arena_core.domain.stage_run import Status
from arena_core.domain.stage_settings import Retries
from arena_core.domain.values import Actor, ActorKind, Caller, Role
from unit.chains import Chain
from unit.scenes import ANN


@pytest.fixture
def chain(scene):
    return Chain.begin(scene)


def as_(chain, name):
    actor = Actor(ActorKind.OPERATOR, name)
    caller = Caller(ANN.organisation, actor, Role.MANAGER)
    return chain.scene.arena.on_behalf_of(caller)


def latest(chain, position=1):
    """Return the latest run, as the pipeline and as the list of runs show it."""
    stage = chain.stage(position)
    listed = chain.use.pipelines.runs(chain.id, stage.id)[0]
    for name in ("triggered_by", "approved_by", "rejected_by", "stopped_by", "status"):
        assert getattr(stage.run, name) == getattr(listed, name), name
    return listed


def said(hand):
    return None if hand is None else (hand.actor, hand.reason)


def asks(chain, **settings):
    """Have somebody trigger a stage that needs approval, up to where it asks."""
    chain.insert(approval=True, **settings)
    use, stage = as_(chain, "tim"), chain.stage(1)
    use.pipelines.trigger(chain.id, stage.id, reason="it is time")
    chain.step(1)
    return stage.id


def test_who_has_triggered_a_run_is_told_with_their_reason(chain):
    asks(chain)
    run = latest(chain)
    assert said(run.triggered_by) == ("operator:tim", "it is time")
    assert run.triggered_by.at >= run.triggered_at
    assert (run.approved_by, run.rejected_by, run.stopped_by) == (None, None, None)


def test_who_has_approved_is_told_and_nobody_has_rejected(chain):
    stage_id = asks(chain)
    as_(chain, "eve").pipelines.approve(chain.id, stage_id, reason="fine")
    assert said(latest(chain).approved_by) == ("operator:eve", "fine")
    assert latest(chain).rejected_by is None
    assert said(latest(chain).triggered_by) == ("operator:tim", "it is time")


def test_who_has_rejected_is_told_with_their_reason_and_has_not_stopped_it(chain):
    stage_id = asks(chain)
    as_(chain, "eve").pipelines.reject(chain.id, stage_id, reason="too old")
    run = latest(chain)
    assert said(run.rejected_by) == ("operator:eve", "too old")
    assert (run.approved_by, run.stopped_by) == (None, None)
    assert run.status is Status.STOPPED


def test_who_has_stopped_what_had_not_begun_has_rejected_nothing(chain):
    stage_id = asks(chain)
    as_(chain, "sam").pipelines.stop(chain.id, stage_id, reason="not now")
    assert said(latest(chain).stopped_by) == ("operator:sam", "not now")
    assert latest(chain).rejected_by is None


def test_who_has_stopped_what_was_running_is_told(chain):
    chain.insert()
    chain.trigger(1)
    chain.start(1)
    as_(chain, "sam").pipelines.stop(chain.id, chain.stage(1).id, reason="enough")
    assert said(latest(chain).stopped_by) == ("operator:sam", "enough")
    chain.halt(1)
    assert chain.stage(1).status is Status.STOPPED
    assert said(latest(chain).stopped_by) == ("operator:sam", "enough")


def test_who_stops_the_training_of_a_stage_has_stopped_its_run(chain):
    chain.insert()
    chain.trigger(1)
    chain.start(1)
    experiment_id = chain.stage(1).experiment_id
    as_(chain, "sam").training.stop(experiment_id, reason="it diverges")
    chain.training(1).acknowledge_stop()
    chain.step(1)
    assert said(latest(chain).stopped_by) == ("operator:sam", "it diverges")
    chain.retry(1)
    chain.start(1)
    chain.end(1)
    later, earlier = chain.use.pipelines.runs(chain.id, chain.stage(1).id)
    assert later.stopped_by is None
    assert said(earlier.stopped_by) == ("operator:sam", "it diverges")


def test_who_stops_what_waits_for_another_attempt_is_known(chain):
    chain.insert(retries=Retries(1, 3600))
    chain.trigger(1)
    chain.start(1)
    chain.fail(1)
    as_(chain, "sam").pipelines.stop(chain.id, chain.stage(1).id, reason="enough")
    run = latest(chain)
    assert run.reason == "It was stopped while it waited for another attempt."
    assert said(run.stopped_by) == ("operator:sam", "enough")


def test_who_stops_another_training_of_its_experiment_has_not_stopped_the_run(chain):
    chain.insert()
    chain.run(1, "a")
    chain.training(1).do(RequestTraining())
    as_(chain, "sam").training.stop(chain.stage(1).experiment_id)
    assert latest(chain).stopped_by is None


def test_nobody_has_stopped_what_took_too_long(chain):
    chain.insert(time_limit_s=1e-6)
    chain.trigger(1)
    chain.start(1)
    chain.step(1)
    assert chain.stage(1).status is Status.STOPPING
    chain.training(1).acknowledge_stop()
    chain.step(1)
    assert latest(chain).status is Status.FAILED
    assert latest(chain).stopped_by is None


def test_an_auto_stage_is_triggered_by_the_runner(chain):
    chain.insert()
    chain.insert(trigger="auto")
    chain.run(1, "a")
    assert latest(chain, 2).triggered_by.actor == "system:runner"


def test_what_was_done_to_a_run_is_nothing_of_the_next(chain):
    stage_id = asks(chain)
    as_(chain, "eve").pipelines.reject(chain.id, stage_id)
    as_(chain, "sam").pipelines.retry(chain.id, stage_id, reason="once more")
    run = latest(chain)
    assert said(run.triggered_by) == ("operator:sam", "once more")
    assert run.rejected_by is None
    _, before = chain.use.pipelines.runs(chain.id, stage_id)
    assert said(before.rejected_by) == ("operator:eve", None)


def test_the_past_knows_who_had_done_what_by_then(chain):
    stage_id = asks(chain)
    position = chain.core.store.head()
    as_(chain, "eve").pipelines.reject(chain.id, stage_id)
    for then in (
        chain.scene.arena.at(position).pipelines.get(chain.id).stages[0].run,
        chain.scene.arena.at(position).pipelines.runs(chain.id, stage_id)[0],
    ):
        assert (then.rejected_by, then.status) == (None, Status.PENDING)
        assert then.triggered_by.actor == "operator:tim"


def test_a_read_model_that_is_made_anew_knows_it_too(chain):
    stage_id = asks(chain)
    as_(chain, "eve").pipelines.reject(chain.id, stage_id, reason="too old")
    chain.core.views.rebuild()
    assert said(latest(chain).rejected_by) == ("operator:eve", "too old")


# --- attempts ------------------------------------------------------------------------


def test_each_attempt_of_a_run_is_listed_with_its_end_and_its_training(chain):
    chain.insert(retries=Retries(1, 0))
    chain.trigger(1)
    chain.start(1)
    chain.fail(1)
    chain.start(1)
    run = latest(chain)
    first, second = run.attempts
    assert (first.number, first.status, first.reason) == (1, Status.FAILED, "No.")
    assert first.started_at <= first.ended_at <= second.started_at
    assert (second.number, second.status, second.ended_at) == (2, Status.RUNNING, None)
    assert (first.training, second.training) == (1, 2)
    assert second.training_run_id == run.training_run_id != first.training_run_id
    chain.end(1)
    assert [it.status for it in latest(chain).attempts] == [
        Status.FAILED,
        Status.SUCCEEDED,
    ]
    assert latest(chain).attempts[1].ended_at == latest(chain).ended_at


def test_what_is_stopped_before_another_attempt_leaves_the_last_one_as_it_was(chain):
    chain.insert(retries=Retries(1, 3600))
    chain.trigger(1)
    chain.start(1)
    chain.fail(1)
    chain.use.pipelines.stop(chain.id, chain.stage(1).id)
    (attempt,) = latest(chain).attempts
    assert (attempt.status, attempt.reason) == (Status.FAILED, "No.")
    assert latest(chain).status is Status.STOPPED


def test_an_attempt_to_put_an_agent_live_tells_which_and_has_no_training(chain):
    chain.insert()
    chain.insert(type="deployment", trigger="auto")
    chain.run(1, "a")
    chain.start(2)
    chain.end(2)
    run = latest(chain, 2)
    (attempt,) = run.attempts
    assert attempt.agent_id == run.agent_id is not None
    assert (attempt.training, attempt.training_run_id) == (None, None)
    assert attempt.status is run.status is Status.SUCCEEDED


def test_a_run_that_never_came_to_the_work_has_no_attempt(chain):
    stage_id = asks(chain)
    chain.use.pipelines.reject(chain.id, stage_id)
    assert latest(chain).attempts == []


# --- trainings -----------------------------------------------------------------------


def test_a_training_tells_who_asked_for_it_when_it_ran_and_who_stopped_it(chain):
    bound, use = chain.experiment(), as_(chain, "tim")
    asked = use.training.train(bound, reason="a try").training
    assert said(asked.requested_by) == ("operator:tim", "a try")
    assert (asked.started_at, asked.ended_at, asked.stopped_by) == (None, None, None)
    use.training.stop(bound)
    stopped = use.experiments.get(bound).training
    assert said(stopped.stopped_by) == ("operator:tim", None)
    assert stopped.ended_at - asked.requested_by.at < timedelta(minutes=1)
    again = as_(chain, "eve").training.train(bound).training
    assert said(again.requested_by) == ("operator:eve", None)
    assert (again.ended_at, again.stopped_by) == (None, None)


def test_what_has_ended_tells_when_it_had_started(chain):
    chain.insert()
    chain.trigger(1)
    chain.start(1)
    chain.end(1)
    training = chain.use.experiments.get(chain.stage(1).experiment_id).training
    assert training.requested_by.at <= training.started_at <= training.ended_at


@pytest.mark.parametrize("number", [0, 3])
def test_the_log_of_a_training_that_never_was_is_refused(chain, number):
    bound = chain.experiment()
    chain.use.training.train(bound)
    chain.use.training.stop(bound)
    chain.use.training.train(bound)
    with pytest.raises(NotFound, match="there were 2 of it"):
        chain.use.training.log(bound, training=number)


def test_an_earlier_log_that_is_not_kept_is_said_to_be_gone(chain):
    bound = chain.experiment()
    chain.use.training.train(bound)
    chain.use.training.stop(bound)
    chain.use.training.train(bound)
    with pytest.raises(NotFound, match="Nothing that training 1 has printed is kept"):
        chain.use.training.log(bound, training=1)
    assert chain.use.training.log(bound, training=2) == []


def test_what_has_no_deed_has_no_hand(chain):
    asks(chain)
    (recorded,) = chain.core.store.read(chain.id)[:1]
    by = chain.stage(1).run.triggered_by
    assert deeds_after((), recorded.event, by, recorded.position) == ()
    assert hand_of((), What.ASKED) is None
