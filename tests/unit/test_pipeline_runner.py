"""The runner: how a pipeline goes on by itself, and how it comes to an end."""

from uuid import UUID

import pytest
from attrs import evolve

from arena_core.application.ending import Ending
from arena_core.application.handling import Change
from arena_core.application.pipeline_runner import PipelineRunner
from arena_core.application.starting import start
from arena_core.application.streams import Streams
from arena_core.application.trainer import RunState, Sighting
from arena_core.application.training_orders import order_of
from arena_core.domain import experiment, stage
from arena_core.domain.errors import Conflict, NotFound
from arena_core.domain.ids import training_of
from arena_core.domain.stage_settings import Condition, Retries
from arena_core.domain.values import system
from unit.pipelines_at_work import COMMAND, Works
from unit.scenes import CONTEXT

import bundles


@pytest.fixture
def works(tmp_path):
    works = Works(tmp_path)
    yield works
    works.close()


def together(works, *names):
    """Say whether the last events of these names are of one append."""
    return len({works.last(name).context.command_id for name in names}) == 1


# --- experiment stages ---------------------------------------------------------------


def test_a_triggered_stage_asks_for_the_training_of_its_experiment(works):
    first = works.train()
    works.trigger()
    training = works.state(first).training
    assert works.statuses() == ["Running"]
    assert (training.number, training.stage) == (1, works.stage(1).id)
    assert together(works, "stage.started", "experiment.training_requested")


def test_a_stage_leaves_the_seed_to_the_settings_of_its_experiment(works):
    bound = works.train(of=works.experiment(config=COMMAND | {"seed": 7}))
    works.trigger()
    assert order_of(works.state(bound)).seed == 7


def test_rule_09_what_somebody_orders_reaches_the_training_of_each_kind_of_stage(works):
    base = works.train(of=works.experiment("base", algorithm="Supervised"))
    further = works.train(of=works.experiment("further", algorithm="Supervised"))
    latent = works.train(of=works.experiment("latent", algorithm="LatentPPO"))
    for seed, bound in enumerate((base, further, latent), start=5):
        if bound is not base:
            works.stop(works.stage_of(bound))
        works.use.training.train(bound, max_steps=50 + seed, seed=seed)
        works.go_on()
        training = works.state(bound).training
        assert (training.max_steps, training.beginning.seed) == (50 + seed, seed)
        works.succeed(bound)


def test_what_the_runner_does_is_in_its_name_and_says_whose_order_it_carries_out(works):
    works.train()
    works.trigger()
    asked, done = works.last("stage.triggered"), works.last("stage.started")
    assert done.context.actor == system("runner")
    assert done.context.correlation_id == asked.context.correlation_id
    assert done.context.causation_id == asked.event_id
    assert done.context.organisation == asked.context.organisation


def test_what_the_runner_does_for_another_run_carries_out_the_other_order(works):
    first = works.train()
    works.trigger()
    works.succeed(first)
    works.trigger()
    asked, done = works.last("stage.triggered"), works.last("stage.started")
    assert done.context.correlation_id == asked.context.correlation_id
    requested = works.last("experiment.training_requested")
    assert requested.context.correlation_id == asked.context.correlation_id


def test_a_success_triggers_the_next_auto_stage_in_the_same_append(works):
    first, second = works.train(), works.train()
    works.trigger()
    best, _ = works.succeed(first, {10: 2.0, 20: 1.0})
    assert works.statuses() == ["Succeeded", "Running"]
    succeeded = works.last("stage.succeeded").context
    triggered = works.last("stage.triggered").context
    assert succeeded.command_id == triggered.command_id
    assert (
        succeeded.causation_id == works.last("experiment.training_succeeded").event_id
    )
    assert works.run(2).consumed.digest == best
    assert works.state(second).training.beginning.weights == best


def test_a_stage_takes_the_final_checkpoint_if_it_says_so(works):
    first, second = works.train(), works.train(checkpoint="final")
    works.trigger()
    _, final = works.succeed(first, {10: 2.0, 20: 1.0})
    assert works.state(second).training.beginning.weights == final


def test_rule_67_ties_of_best_go_to_the_larger_step_when_a_run_ends(works):
    first, second = works.train(), works.train(checkpoint="best")
    works.trigger()
    _, later, _ = works.succeed(first, {10: 2.0, 20: 2.0, 30: 1.0})
    assert works.run(2).consumed.digest == later
    assert works.state(second).training.beginning.weights == later


def test_a_manual_stage_waits_for_its_trigger(works):
    first = works.train()
    works.train("manual")
    works.trigger()
    works.succeed(first)
    assert works.statuses() == ["Succeeded", "NotStarted"]


def test_rule_64_a_runner_starts_nothing_because_of_an_edit_or_a_move(works):
    """It hears of each of them, and the stage before has succeeded."""
    first = works.train()
    for _ in range(2):
        works.train("manual")
    works.trigger()
    works.succeed(first)
    use, line = works.use.pipelines, works.pipeline
    for edit in (
        lambda: use.edit_stage(line, works.stage(2).id, trigger="auto"),
        lambda: use.edit_stage(line, works.stage(3).id, trigger="auto"),
        lambda: use.move_stage(line, works.stage(3).id, 2),
        lambda: use.remove_stage(line, works.stage(2).id),
    ):
        edit()
        works.go_on()
        assert works.statuses()[0] == "Succeeded"
        assert set(works.statuses()[1:]) == {"NotStarted"}


def test_a_failed_training_fails_its_stage_and_nothing_follows(works):
    first = works.train()
    works.train()
    works.trigger()
    works.begin(first)
    works.write(first, 10, 1.0)
    works.fail(first, "It diverged.")
    assert works.statuses() == ["Failed", "NotStarted"]
    assert works.run(1).reason == "It diverged."
    assert works.run(1).produced.step == 10


def test_a_training_that_was_stopped_stops_its_stage(works):
    first = works.train()
    works.trigger()
    works.use.training.stop(first)
    works.go_on()
    assert works.statuses() == ["Stopped"]
    assert works.run(1).reason == "Its training was stopped."


def test_a_stage_that_is_stopped_ends_when_its_training_has(works):
    first = works.train()
    works.trigger()
    works.begin(first)
    works.stop(1)
    assert works.statuses() == ["Stopping"]
    assert works.state(first).status.value == "Stopping"
    works.acknowledge_stop(first)
    assert works.statuses() == ["Stopped"]
    assert works.run(1).reason == "It was stopped."


def test_a_supervised_checkpoint_is_the_decoder_of_a_latent_policy(works):
    base = works.train(of=works.experiment("base", algorithm="Supervised"))
    latent = works.train(of=works.experiment("latent", algorithm="LatentPPO"))
    works.trigger()
    (digest,) = works.succeed(base)
    beginning = works.state(latent).training.beginning
    assert (beginning.weights, beginning.decoder) == (None, digest)


# --- what is made of a checkpoint ----------------------------------------------------


@pytest.mark.parametrize(
    ("auto_add", "scores", "step", "kind"),
    [
        ("best", {10: 2.0, 20: 1.0}, 10, "best"),
        ("best", {10: None, 20: None}, 20, "final"),
        ("final", {10: 2.0, 20: 1.0}, 20, "final"),
    ],
)
def test_a_success_adds_its_checkpoint_to_the_agents(
    works, auto_add, scores, step, kind
):
    first = works.train(auto_add=auto_add)
    works.trigger()
    works.succeed(first, scores)
    (agent,) = works.use.agents.list(kind="advanced")
    assert (agent.name, agent.checkpoint.step) == ("ppo", step)
    assert agent.checkpoint.type.value == kind
    assert agent.deployment is None
    assert works.run(1).agent_id == agent.id
    assert together(works, "stage.succeeded", "agent.checkpoint_frozen")


def test_a_success_without_a_checkpoint_adds_no_agent(works):
    first = works.train(auto_add="best", agent_name="champion")
    works.trigger()
    works.succeed(first, {})
    assert works.statuses() == ["Succeeded"]
    assert not works.use.agents.list(kind="advanced")


def test_a_deployment_stage_makes_an_agent_and_succeeds_when_it_is_live(works):
    first = works.train()
    works.deploy()
    works.trigger()
    (digest,) = works.succeed(first)
    assert works.statuses() == ["Succeeded", "Running"]
    assert together(
        works,
        "stage.started",
        "agent.checkpoint_frozen",
        "deployment.connect_requested",
    )
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    (agent,) = works.use.agents.list(kind="advanced")
    assert (agent.name, agent.deployment.digest) == ("line", digest)
    assert works.worker.serves(agent)
    assert works.last("stage.succeeded").context.causation_id == (
        works.last("deployment.connected").event_id
    )


@pytest.mark.parametrize(("rule", "step"), [("best", 10), ("final", 20)])
def test_what_is_put_live_says_which_checkpoint_it_is(works, rule, step):
    first = works.train()
    works.deploy(checkpoint=rule)
    works.trigger()
    works.succeed(first, {10: 2.0, 20: 1.0})
    (agent,) = works.use.agents.list(kind="advanced")
    assert (agent.checkpoint.type.value, agent.checkpoint.step) == (rule, step)


def test_a_deployment_that_fails_fails_its_stage_with_the_reason(works):
    first = works.train()
    works.deploy(agent_name="doomed")
    works.trigger()
    works.begin(first)
    digest = works.write(first, 10, 1.0)
    del works.world.blobs._bundles[digest]
    works.finish(first)
    works.connect()
    assert works.statuses() == ["Succeeded", "Failed"]
    (agent,) = works.use.agents.list(kind="advanced")
    assert agent.name == "doomed"
    assert works.run(2).reason == agent.deployment.reason


def deployed(works):
    """Run a training and its deployment; return the experiment and the agent."""
    first = works.train()
    works.deploy()
    works.trigger()
    works.succeed(first)
    works.connect()
    (agent,) = works.use.agents.list(kind="advanced")
    return first, agent


def test_another_run_swaps_the_checkpoint_of_the_same_agent(works):
    first, agent = deployed(works)
    works.trigger()
    (digest,) = works.succeed(first)
    assert works.statuses() == ["Succeeded", "Running"]
    assert works.worker.serves(agent)
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    (same,) = works.use.agents.list(kind="advanced")
    assert (same.id, same.deployment.digest) == (agent.id, digest)
    assert works.log("deployment").count("deployment.disconnected") == 0


def test_the_same_checkpoint_again_changes_nothing_of_what_is_live(works):
    first, _ = deployed(works)
    works.trigger()
    works.begin(first)
    works.write(first, 10, 1.0, network=bundles.Network.of(4, 2, seed=0))
    before = works.log("deployment")
    works.finish(first)
    assert works.statuses() == ["Succeeded", "Succeeded"]
    assert works.log("deployment") == before


def test_another_run_connects_an_agent_that_was_disconnected(works):
    first, agent = deployed(works)
    works.use.agents.disconnect(agent.id)
    works.trigger()
    (digest,) = works.succeed(first)
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    (same,) = works.use.agents.list(kind="advanced")
    assert (same.id, same.checkpoint.digest) == (agent.id, digest)
    assert works.worker.serves(agent)


def test_another_run_takes_the_place_of_what_is_being_loaded(works):
    first, agent = deployed(works)
    works.use.agents.disconnect(agent.id)
    works.use.agents.connect(agent.id)
    works.trigger()
    (digest,) = works.succeed(first)
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    assert works.use.agents.get(agent.id).deployment.digest == digest


def test_a_deleted_agent_is_followed_by_another(works):
    first, agent = deployed(works)
    works.use.agents.delete(agent.id)
    works.trigger()
    works.succeed(first)
    works.connect()
    (other,) = works.use.agents.list(kind="advanced")
    assert other.id != agent.id
    assert works.worker.serves(other)


def test_an_agent_of_another_experiment_is_left_alone(works):
    _, agent = deployed(works)
    other = works.experiment("other")
    works.use.pipelines.edit_stage(
        works.pipeline, works.stage(1).id, experiment_id=other
    )
    works.trigger()
    works.succeed(other)
    works.connect()
    one, two = works.use.agents.list(kind="advanced")
    assert one.id == agent.id
    assert works.worker.serves(one)
    assert works.worker.serves(two)


def test_a_deployment_stage_stops_when_somebody_disconnects_its_agent(works):
    first = works.train()
    works.deploy()
    works.trigger()
    works.succeed(first)
    (agent,) = works.use.agents.list(kind="advanced")
    works.use.agents.disconnect(agent.id)
    works.go_on()
    assert works.statuses() == ["Succeeded", "Stopped"]
    assert works.run(2).reason == "Its agent was disconnected before it was live."


def test_a_deployment_stage_stops_when_somebody_deletes_its_agent(works):
    first = works.train()
    works.deploy()
    works.trigger()
    works.succeed(first)
    (agent,) = works.use.agents.list(kind="advanced")
    works.use.agents.delete(agent.id)
    works.go_on()
    assert works.statuses() == ["Succeeded", "Stopped"]
    assert works.run(2).reason == "Its agent was deleted before it was live."


def test_a_deployment_stage_that_is_stopped_is_not_connected(works):
    first = works.train()
    works.deploy()
    works.trigger()
    works.succeed(first)
    works.stop(2)
    works.connect()
    assert works.statuses() == ["Succeeded", "Stopped"]
    (agent,) = works.use.agents.list(kind="advanced")
    assert agent.deployment.status.value == "Undeployed"


def test_what_answers_goes_on_answering_when_a_swap_is_stopped(works):
    first, agent = deployed(works)
    works.trigger()
    works.succeed(first)
    works.stop(2)
    assert works.worker.serves(agent)
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    assert works.worker.serves(agent)


def test_a_stage_is_stopping_until_its_swap_has_ended_and_a_rollback_takes_it_back(
    works,
):
    first, agent = deployed(works)
    before = works.use.agents.get(agent.id).deployment.digest
    works.trigger()
    works.succeed(first)
    works.stop(2)
    assert works.statuses() == ["Succeeded", "Stopping"]
    loading = works.use.agents.get(agent.id).deployment
    assert (loading.swap.phase.value, loading.digest) == ("loading", before)
    works.connect()
    assert works.use.agents.get(agent.id).deployment.digest != before
    works.use.agents.rollback(agent.id)
    works.connect()
    assert works.use.agents.get(agent.id).deployment.digest == before
    assert works.worker.serves(agent)


def test_a_disconnect_gives_up_the_swap_of_a_stage_that_is_stopping(works):
    first, agent = deployed(works)
    before = works.use.agents.get(agent.id).deployment.digest
    works.trigger()
    works.succeed(first)
    works.stop(2)
    works.use.agents.disconnect(agent.id)
    works.go_on()
    assert works.statuses() == ["Succeeded", "Stopped"]
    assert works.use.agents.get(agent.id).deployment.digest == before


def test_a_swap_that_fails_fails_its_stage_and_the_old_weights_answer(works):
    first, agent = deployed(works)
    works.trigger()
    works.begin(first)
    digest = works.write(first, 10, 1.0)
    del works.world.blobs._bundles[digest]
    works.finish(first)
    works.connect()
    assert works.statuses() == ["Succeeded", "Failed"]
    assert works.worker.serves(agent)
    assert works.use.agents.get(agent.id).deployment.digest != digest


def test_a_checkpoint_that_is_replaced_meanwhile_fails_its_stage(works):
    first, agent = deployed(works)
    works.trigger()
    works.succeed(first)
    works.worker.pass_()
    works.use.agents.rollback(agent.id)
    works.worker.pass_()
    works.go_on()
    assert works.statuses() == ["Succeeded", "Failed"]
    assert works.run(2).reason == "Its agent was given another checkpoint meanwhile."


# --- conditions and approval ---------------------------------------------------------


def test_a_condition_that_is_not_met_ends_the_run_before_anything_begins(works):
    first = works.train()
    works.deploy(condition=Condition(min_fitness=5.0))
    works.trigger()
    works.succeed(first, {10: 2.0})
    assert works.statuses() == ["Succeeded", "Stopped"]
    assert not works.use.agents.list(kind="advanced")
    assert "below" in works.run(2).finding


def test_what_an_earlier_training_measured_at_its_step_meets_no_condition(works):
    first = works.train()
    works.deploy(condition=Condition(min_fitness=5.0), checkpoint="final")
    works.trigger()
    works.succeed(first, {10: 9.0})
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    works.trigger()
    works.succeed(first, {10: None})
    assert works.statuses() == ["Succeeded", "Stopped"]
    checked = works.last("stage.condition_checked").event
    assert (checked.met, checked.seen.candidate.scores.evaluation) == (False, None)


def test_better_than_live_looks_at_what_its_own_agent_has_live(works):
    first = works.train()
    works.deploy(condition=Condition(better_than_live=True))
    works.trigger()
    (old,) = works.succeed(first, {10: 2.0})
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    works.trigger()
    works.succeed(first, {10: 1.0})
    assert works.statuses() == ["Succeeded", "Stopped"]
    checked = works.last("stage.condition_checked").event
    assert (checked.met, checked.seen.live.digest) == (False, old)
    works.trigger()
    works.succeed(first, {10: 3.0})
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]


def test_a_stage_waits_for_approval_and_goes_on_with_it(works):
    first = works.train()
    works.deploy(approval=True)
    works.trigger()
    (digest,) = works.succeed(first)
    works.connect()
    assert works.statuses() == ["Succeeded", "Pending"]
    assert works.run(2).to_approve.candidate.digest == digest
    assert works.run(2).to_approve.live is None
    works.use.pipelines.approve(works.pipeline, works.stage(2).id, digest=digest)
    works.go_on()
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]
    works.trigger()
    works.succeed(first)
    assert works.run(2).to_approve.live.digest == digest


def test_what_is_not_approved_never_begins(works):
    first = works.train()
    works.deploy(approval=True)
    works.trigger()
    works.succeed(first)
    works.use.pipelines.reject(works.pipeline, works.stage(2).id)
    works.go_on()
    assert works.statuses() == ["Succeeded", "Stopped"]
    assert not works.use.agents.list(kind="advanced")


# --- attempts, time limits -----------------------------------------------------------

TWICE = Retries(2, 10)


def test_a_failed_attempt_is_followed_by_another_after_a_wait_that_doubles(works):
    first = works.train(retries=TWICE)
    works.trigger()
    for attempt, wait_s in ((1, 10), (2, 20)):
        works.begin(first)
        works.fail(first)
        assert (works.statuses(), works.run(1).attempt) == (["Pending"], attempt)
        works.wait(wait_s - 1)
        assert works.statuses() == ["Pending"]
        works.wait(1)
        assert works.statuses() == ["Running"]
    works.begin(first)
    works.fail(first, "It crashed for good.")
    assert works.statuses() == ["Failed"]
    assert (works.run(1).attempt, works.run(1).number) == (3, 1)
    assert works.run(1).reason == "It crashed for good."


def test_another_attempt_goes_on_from_the_last_checkpoint_of_the_one_before(works):
    first = works.train(retries=TWICE)
    works.trigger()
    works.begin(first)
    works.write(first, 10)
    works.write(first, 20)
    works.fail(first)
    works.wait(10)
    assert works.state(first).training.resume_step == 20
    works.begin(first)
    works.fail(first)
    works.wait(20)
    assert works.state(first).training.resume_step == 20


def test_another_attempt_begins_anew_where_nothing_was_written(works):
    first = works.train(retries=TWICE)
    works.trigger()
    works.succeed(first, {5: 1.0})
    works.trigger()
    works.begin(first)
    works.fail(first)
    works.wait(10)
    assert works.statuses() == ["Running"]
    assert works.state(first).training.resume_step is None


def test_a_retry_by_hand_goes_on_from_the_last_checkpoint(works):
    first, _ = works.train(), works.train()
    works.trigger()
    works.begin(first)
    works.write(first, 10)
    works.fail(first)
    works.retry(1)
    assert works.statuses() == ["Running", "NotStarted"]
    assert works.state(first).training.resume_step == 10
    assert works.run(1).number == 2


def test_a_stage_that_takes_too_long_is_stopped_and_has_failed(works):
    first = works.train(time_limit_s=60)
    works.trigger()
    works.begin(first)
    works.wait(59)
    assert works.statuses() == ["Running"]
    works.wait(1)
    assert works.statuses() == ["Stopping"]
    assert works.state(first).status.value == "Stopping"
    works.acknowledge_stop(first)
    assert works.statuses() == ["Failed"]
    assert works.run(1).reason == "It took longer than its time limit of 60 s."


def test_what_took_too_long_is_tried_again_if_its_settings_say_so(works):
    first = works.train(time_limit_s=60, retries=TWICE)
    works.trigger()
    works.begin(first)
    works.wait(60)
    works.acknowledge_stop(first)
    assert works.statuses() == ["Pending"]
    works.wait(10)
    assert (works.statuses(), works.state(first).training.number) == (["Running"], 2)
    works.wait(61)
    assert works.statuses() == ["Running"], "the second waits for its turn"
    works.begin(first)
    works.wait(59)
    assert works.statuses() == ["Running"]
    works.wait(1)
    assert works.statuses() == ["Stopping"]


def test_what_waits_for_its_turn_to_train_is_not_timed_out(works):
    first = works.train(time_limit_s=60)
    works.trigger()
    works.wait(1000)
    assert (works.statuses(), works.run(1).attempt) == (["Running"], 1)
    works.begin(first)
    works.go_on()
    works.wait(59)
    assert works.statuses() == ["Running"]
    works.wait(1)
    assert works.statuses() == ["Stopping"]


def test_another_runner_knows_since_when_the_training_is_at_work(works):
    first = works.train(time_limit_s=60)
    works.trigger()
    works.wait(1000)
    works.begin(first)
    works.wait(30)
    works.runner = PipelineRunner(works.worker.core)
    works.wait(29)
    assert works.statuses() == ["Running"]
    works.wait(1)
    assert works.statuses() == ["Stopping"]


def test_what_has_ended_unseen_is_not_timed_out(works):
    """The server was away meanwhile, and those who serve it have just begun again."""
    first = works.train(time_limit_s=60)
    works.trigger()
    works.begin(first)
    works.world.trainer.stop(training_of(first, 1))  # never started: it has ended
    works.runner = PipelineRunner(works.worker.core)
    works.wait(1000)
    assert works.statuses() == ["Running"]
    works.finish(first)
    assert works.statuses() == ["Succeeded"]


def test_what_was_lost_unseen_is_not_timed_out(works, monkeypatch):
    """It is the trainer that says so, and then the training has failed."""
    first = works.train(time_limit_s=60)
    works.trigger()
    works.begin(first)
    lost = Sighting(RunState.LOST, reason="It was killed.")
    monkeypatch.setattr(works.world.trainer, "look", lambda _: lost)
    works.wait(1000)
    assert works.statuses() == ["Running"]
    works.fail(first, "It was killed.")
    assert works.run(1).reason == "It was killed."


def test_a_deployment_that_takes_too_long_is_taken_back(works):
    first = works.train()
    works.deploy(time_limit_s=60)
    works.trigger()
    works.succeed(first)
    works.wait(60)
    assert works.statuses() == ["Succeeded", "Failed"]
    assert works.run(2).reason == "It took longer than its time limit of 60 s."
    (agent,) = works.use.agents.list(kind="advanced")
    assert agent.deployment.status.value == "Undeployed"


def test_it_is_looked_at_again_when_something_is_due(works):
    assert works.runner.look_again_s() == 1.0
    first = works.train(time_limit_s=60)
    works.trigger()
    works.begin(first)
    works.go_on()
    assert works.runner.look_again_s() == 1.0
    works.wait(59.75)
    assert works.runner.look_again_s() == pytest.approx(0.25)


# --- what can never work -------------------------------------------------------------


def test_a_next_stage_without_anything_to_take_fails_and_says_why(works):
    first = works.train()
    works.train()
    works.trigger()
    works.succeed(first, {10: None})
    assert works.statuses() == ["Succeeded", "Failed"]
    assert "evaluation score" in works.run(2).reason
    assert together(works, "stage.succeeded", "stage.failed")


def test_a_next_stage_that_has_run_before_fails_in_a_run_of_its_own(works):
    first, second = works.train(), works.train()
    works.trigger()
    works.succeed(first)
    works.succeed(second)
    works.trigger()
    works.succeed(first, {30: None})
    assert works.statuses() == ["Succeeded", "Failed"]
    assert (works.run(2).number, works.run(2).cause.value) == (2, "auto")


def test_a_next_stage_whose_experiment_is_gone_fails_and_says_why(works):
    """As it could be while that was not guarded: such logs are read for ever."""
    first, second = works.train(), works.train()
    works.trigger()
    works.delete(second)
    works.succeed(first)
    assert works.statuses() == ["Succeeded", "Failed"]
    assert "was deleted" in works.run(2).reason


def test_a_success_before_a_stage_that_is_at_work_is_recorded_alone(works):
    first, second = works.train(), works.train()
    works.trigger()
    works.succeed(first)
    works.begin(second)
    works.fail(second)
    works.trigger()
    works.begin(first)
    works.retry(2)
    assert works.statuses() == ["Running", "Running"]
    works.write(first, 10, 5.0)
    works.finish(first)
    assert works.statuses() == ["Succeeded", "Running"]
    assert works.run(2).number == 2
    assert works.stage(2).stale


def test_the_next_stage_never_takes_what_is_deleted_while_a_stage_ends(
    works, monkeypatch
):
    """The experiment behind it is another than that of the stage which ends."""
    first = works.train()
    works.deploy()
    works.train()
    works.trigger()
    works.succeed(first, {10: 2.0, 20: 1.0})
    decide, left = Ending.succeeded, [10]

    def meanwhile(ending, now):
        changes = decide(ending, now)
        while left:
            works.use.experiments.delete_checkpoint(first, left.pop())
        return changes

    monkeypatch.setattr(Ending, "succeeded", meanwhile)
    works.connect()
    assert not left
    assert works.statuses() == ["Succeeded", "Succeeded", "Failed"]
    assert works.run(3).consumed is None
    assert "was deleted: run it again" in works.run(3).reason


def test_an_experiment_that_cannot_be_trained_fails_its_stage_at_once(works):
    first = works.train(approval=True, retries=TWICE)
    works.trigger()
    # As it may stand in a log, and cannot be said any more.
    gone = experiment.ConfigureExperiment(recipe="gone")
    change = Change(experiment, first, gone)
    works.use.session.core.handler.handle(CONTEXT, change)
    works.use.pipelines.approve(works.pipeline, works.stage(1).id)
    works.go_on()
    assert works.statuses() == ["Failed"]
    assert "recipe gone is not known" in works.run(1).reason


def test_a_draft_that_was_configured_otherwise_cannot_use_what_was_taken(works):
    """As it could be while that was not refused: such logs are read for ever."""
    first, second = works.train(), works.train(approval=True)
    works.trigger()
    works.succeed(first)
    configure = experiment.ConfigureExperiment(algorithm="DQN")
    change = Change(experiment, second, configure)
    works.use.session.core.handler.handle(CONTEXT, change)
    works.use.pipelines.approve(works.pipeline, works.stage(2).id)
    works.go_on()
    assert works.statuses() == ["Succeeded", "Failed"]
    assert "DQN cannot use" in works.run(2).reason


def test_an_experiment_that_was_deleted_meanwhile_fails_its_stage(works):
    first = works.train(retries=TWICE)
    works.trigger()
    works.begin(first)
    works.fail(first)
    works.delete(first)
    works.wait(10)
    assert works.statuses() == ["Failed"]
    assert "was deleted" in works.run(1).reason


def test_a_training_that_somebody_asked_for_instead_fails_the_stage(works):
    first = works.train()
    works.trigger()
    works.begin(first)
    works.runner.stop()
    works.finish(first)
    works.ask_for_training(first)
    works.runner = PipelineRunner(works.worker.core)
    works.go_on()
    assert works.statuses() == ["Failed"]
    assert works.run(1).reason == "Its experiment was trained anew meanwhile."


def test_the_first_stage_begins_with_a_saved_agent(works):
    base = works.train(auto_add="best")
    works.trigger()
    (digest,) = works.succeed(base)
    (agent,) = works.use.agents.list(kind="advanced")
    works.pipeline = works.use.pipelines.create(works.project, name="second").id
    further = works.train(start=agent.id)
    works.trigger()
    assert works.statuses() == ["Running"]
    assert works.state(further).training.beginning.weights == digest


def test_what_is_live_is_what_its_latest_agent_answers_with(works):
    """An agent of an experiment that was bound before answers still."""
    first, second = works.train(), works.experiment()
    works.deploy()
    for bound, fitness in ((first, 9.0), (second, 1.0)):
        works.use.pipelines.edit_stage(
            works.pipeline, works.stage(1).id, experiment_id=bound
        )
        works.trigger()
        works.succeed(bound, {10: fitness})
        works.connect()
    works.use.pipelines.edit_stage(
        works.pipeline, works.stage(2).id, condition=Condition(better_than_live=True)
    )
    works.trigger()
    works.succeed(second, {10: 2.0})
    found = works.run(2).finding
    assert found == "The fitness 2 is above that of what is live, 1."


def test_nothing_is_live_where_the_agent_is_disconnected(works):
    first = works.train()
    works.deploy(condition=Condition(better_than_live=True))
    works.trigger()
    works.succeed(first, {10: 2.0})
    works.connect()
    (agent,) = works.use.agents.list(kind="advanced")
    works.use.agents.disconnect(agent.id)
    works.trigger()
    works.succeed(first, {10: 1.0})
    works.connect()
    assert works.statuses() == ["Succeeded", "Succeeded"]


def test_a_deployment_without_a_checkpoint_is_refused(works):
    first = works.train()
    works.deploy()
    works.trigger()
    works.succeed(first)
    streams = Streams(works.world.store)
    state = streams.known(stage, works.stage(2).id)
    empty = evolve(state, run=evolve(state.run, consumed=None))
    with pytest.raises(Conflict, match="no checkpoint to deploy"):
        start(streams, empty)


def test_what_is_referred_to_and_was_never_there_is_not_found(works):
    streams = Streams(works.world.store)
    with pytest.raises(NotFound, match="experiment that it refers to"):
        streams.known(experiment, UUID(int=7))
