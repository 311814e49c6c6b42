"""Rules 9 and 60 to 85: pipelines, as those who use them know them."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from attrs import fields

from arena_core.application.handling import Change
from arena_core.application.pipeline_views import RunView
from arena_core.application.stage_fields import StageFields
from arena_core.application.triggering import bound_to, triggered
from arena_core.domain import experiment, stage
from arena_core.domain.errors import (
    Ambiguous,
    Conflict,
    Forbidden,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.ids import agent_added_by
from arena_core.domain.lineage import fingerprint
from arena_core.domain.stage_commands import TriggerStage
from arena_core.domain.stage_run import Cause, Consumed, Inputs, Status
from arena_core.domain.stage_settings import (
    AutoAdd,
    Condition,
    HandOver,
    Retries,
    StageType,
    Trigger,
)
from arena_core.domain.training_commands import (
    RequestTraining,
)
from arena_core.domain.values import CheckpointType, Family, ProjectKind
from unit.chains import Chain, digest
from unit.scenes import ANN, STRANGER


@pytest.fixture
def chain(scene):
    return Chain.begin(scene)


def order(chain):
    return [s.id for s in chain.view.stages]


def added(chain):
    """Return the checkpoints of the agents that there are, by their names."""
    return {agent.name: agent.checkpoint for agent in chain.use.agents.list()}


# --- experiments that are bound -----------------------------------------------------


def test_rule_09_training_what_is_bound_to_a_stage_runs_that_stage(chain):
    chain.insert()
    chain.insert(trigger="auto")
    chain.run(1, "a", fitness=None)
    assert chain.stage(2).status is Status.FAILED
    chain.edit(2, checkpoint="final")
    chain.use.training.train(chain.stage(2).experiment_id, max_steps=50, seed=3)
    assert chain.stage(2).run.cause is Cause.TRAIN, "although it is an Auto stage"
    ordered = chain.state(2).run.ordered
    assert (ordered.max_steps, ordered.seed) == (50, 3)


def test_rule_09_resuming_what_is_bound_to_a_stage_runs_that_stage(chain):
    first = chain.insert()
    chain.run(1, "a")
    chain.use.training.resume(first.experiment_id, max_steps=100, reason="More.")
    again = chain.stage(1)
    assert (again.run.cause, again.run.number) == (Cause.RESUME, 2)
    ordered = chain.state(1).run.ordered
    assert (ordered.resume_step, ordered.max_steps) == (10, 100)
    log = chain.use.audit.log(stream=again.id)
    reasons = [e.reason for e in log if e.name == "stage.triggered"]
    assert reasons == [None, "More."]


def test_rule_09_what_a_stage_would_be_refused_its_experiment_is_refused(chain):
    chain.insert()
    second = chain.insert()
    with pytest.raises(Conflict, match="Stage 1 has left no checkpoint"):
        chain.use.training.train(second.experiment_id)


# --- pipelines ----------------------------------------------------------------------


def test_rule_60_pipelines_exist_in_advanced_training_projects_only(scene, chain):
    classic = scene.use.projects.create("classic").id
    for call in (
        lambda: chain.use.pipelines.create(classic, name="no"),
        lambda: chain.use.pipelines.list(project_id=classic),
    ):
        with pytest.raises(Rejected, match="Only Advanced Training projects"):
            call()
    assert [p.id for p in chain.use.pipelines.list(project_id=chain.project)] == [
        chain.id
    ]


def test_rule_60_all_stages_stay_in_the_project_of_the_pipeline(scene, chain):
    other = scene.use.projects.create("other", kind="advanced").id
    with pytest.raises(Rejected, match="another project") as caught:
        chain.insert(chain.experiment(project=other))
    assert caught.value.field == "experiment_id"
    assert not chain.view.stages


def test_rule_61_a_name_is_required_and_a_description_is_not(chain):
    create = chain.use.pipelines.create
    made = create(chain.project, name="  named ", description=" what for ")
    assert (made.name, made.description) == ("named", "what for")
    assert create(chain.project, name="bare").description == ""
    with pytest.raises(Rejected, match="name is missing"):
        create(chain.project, name="  ")


def test_rule_62_stages_are_ordered_and_of_two_types(chain):
    first = chain.insert()
    last = chain.insert(type="deployment")
    between = chain.insert(position=2)
    assert order(chain) == [first.id, between.id, last.id]
    assert [s.position for s in chain.view.stages] == [1, 2, 3]
    assert [s.type.value for s in chain.view.stages] == [
        "experiment",
        "experiment",
        "deployment",
    ]
    with pytest.raises(Rejected, match="experiment, deployment"):
        chain.insert(type="notification")


@pytest.mark.parametrize("position", [0, 3, -1])
def test_rule_62_there_is_no_position_beyond_the_end(chain, position):
    chain.insert()
    with pytest.raises(Rejected, match="between 1 and 2"):
        chain.insert(position=position)
    with pytest.raises(Rejected, match="between 1 and 1"):
        chain.move(1, position)


def test_rule_63_the_first_stage_is_no_deployment_however_it_would_come_there(chain):
    with pytest.raises(Rejected, match="cannot be a Deployment"):
        chain.insert(type="deployment")
    chain.insert()
    chain.insert(type="deployment")
    for attempt in (
        lambda: chain.insert(type="deployment", position=1),
        lambda: chain.move(2, 1),
        lambda: chain.move(1, 2),
        lambda: chain.remove(1),
        lambda: chain.edit(1, type="deployment"),
    ):
        with pytest.raises(Rejected, match="first stage cannot be a Deployment"):
            attempt()
    assert [s.type.value for s in chain.view.stages] == ["experiment", "deployment"]


def test_rule_64_an_auto_stage_starts_when_the_one_before_succeeds(chain):
    chain.insert()
    chain.insert(trigger="auto")
    chain.run(1, "a")
    second = chain.stage(2)
    assert (second.status, second.run.cause) == (Status.PENDING, Cause.AUTO)
    assert second.run.consumed.digest == digest("a")


def test_rule_64_a_manual_stage_runs_only_when_it_is_triggered(chain):
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    assert chain.stage(2).status is Status.NOT_STARTED
    assert chain.trigger(2).run.cause is Cause.MANUAL


def test_rule_64_nothing_is_started_by_an_edit_or_a_move(chain):
    """Success is an event that starts a stage, not a state that would start it."""
    chain.insert()
    chain.insert()
    chain.insert(trigger="auto")
    chain.run(1, "a")
    chain.edit(2, trigger="auto")
    chain.move(3, 2)
    assert {s.status for s in chain.view.stages[1:]} == {Status.NOT_STARTED}


def test_rule_65_new_stages_are_manual_unless_somebody_says_otherwise(chain):
    chain.insert()
    assert chain.insert().trigger is Trigger.MANUAL
    assert chain.insert(trigger=Trigger.AUTO).trigger is Trigger.AUTO


@pytest.mark.parametrize(
    "become_first",
    [
        lambda chain: chain.move(2, 1),
        lambda chain: chain.move(1, 2),
        lambda chain: chain.remove(1),
    ],
)
def test_rule_65_an_auto_stage_that_becomes_the_first_is_manual(chain, become_first):
    chain.insert()
    auto = chain.insert(trigger="auto")
    become_first(chain)
    assert chain.stage(1).id == auto.id
    assert chain.stage(1).trigger is Trigger.MANUAL
    assert "pipeline.stage_edited" in chain.scene.log()[-2:], "it is visible in the log"


def test_rule_65_who_asks_for_an_auto_stage_in_the_first_place_is_told(chain):
    with pytest.raises(Rejected, match="only be triggered by hand") as caught:
        chain.insert(trigger="auto")
    assert caught.value.field == "trigger"
    chain.insert()
    with pytest.raises(Rejected, match="only be triggered by hand"):
        chain.edit(1, trigger="auto")


@pytest.mark.parametrize("end", [Chain.fail, Chain.halt])
def test_rule_66_what_has_failed_or_was_stopped_starts_nothing(chain, end):
    chain.insert()
    chain.insert(trigger="auto")
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    end(chain, 1, {"a": 1.0})
    assert chain.stage(1).status in {Status.FAILED, Status.STOPPED}
    assert chain.stage(2).status is Status.NOT_STARTED


@pytest.mark.parametrize(("rule", "letter"), [("best", "a"), ("final", "b")])
def test_rule_67_a_later_stage_takes_the_best_or_the_final_checkpoint(
    chain, rule, letter
):
    chain.insert()
    chain.insert(checkpoint=rule)
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    chain.write(1, 20, "b")
    chain.end(1, {"a": 2.0, "b": 1.0})
    assert chain.trigger(2).run.consumed.digest == digest(letter)
    with pytest.raises(Rejected, match="use one of best, final"):
        chain.edit(1, checkpoint="specific")


def test_rule_67_ties_of_best_go_to_the_larger_step(chain):
    chain.insert()
    chain.insert()
    chain.trigger(1)
    chain.start(1)
    for step, letter in ((10, "a"), (30, "c"), (20, "b"), (40, "d")):
        chain.write(1, step, letter)
    chain.end(1, {"a": 2.0, "b": 2.0, "c": 2.0, "d": 1.0})
    assert chain.trigger(2).run.consumed.digest == digest("c")


def test_rule_67_what_has_no_score_is_no_best_and_can_be_the_final_one(chain):
    chain.insert()
    chain.insert()
    chain.run(1, "a", fitness=None)
    with pytest.raises(Conflict, match="No checkpoint of stage 1 has an evaluation"):
        chain.trigger(2)
    assert chain.edit(2, checkpoint="final").checkpoint is HandOver.FINAL
    assert chain.trigger(2).run.consumed.digest == digest("a")


def test_rule_68_auto_add_can_be_asked_of_every_experiment_stage_and_of_no_other(chain):
    chain.insert(auto_add="final", agent_name="one")
    chain.insert()
    chain.insert(auto_add="best", agent_name="three")
    with pytest.raises(Rejected, match="leave auto_add out"):
        chain.insert(type="deployment", auto_add="best")
    for position, letter in enumerate("abc", start=1):
        chain.run(position, letter)
    assert {name: its.digest for name, its in added(chain).items()} == {
        "one": digest("a"),
        "three": digest("c"),
    }


@pytest.mark.parametrize("end", [Chain.fail, Chain.halt])
def test_rule_68_what_does_not_succeed_adds_no_agent(chain, end):
    chain.insert(auto_add="final")
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    end(chain, 1, {"a": 1.0})
    assert not added(chain)


@pytest.mark.parametrize(
    ("auto_add", "fitness", "expected"),
    [
        ("best", {"a": 2.0, "b": 1.0}, (CheckpointType.BEST, 10, "a")),
        ("final", {"a": 2.0, "b": 1.0}, (CheckpointType.FINAL, 20, "b")),
        ("best", {}, (CheckpointType.FINAL, 20, "b")),
    ],
)
def test_rule_69_the_best_or_the_final_is_added_and_the_final_where_none_is_scored(
    chain, auto_add, fitness, expected
):
    chain.insert(auto_add=auto_add)
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    chain.write(1, 20, "b")
    chain.end(1, fitness)
    (its,) = added(chain).values()
    kind, step, letter = expected
    assert (its.type, its.step, its.digest) == (kind, step, digest(letter))


def test_rule_69_each_success_adds_an_agent_of_its_own(chain):
    chain.insert(auto_add="best", agent_name="taught")
    chain.run(1, "a")
    (first,) = chain.use.agents.list()
    assert first.id == agent_added_by(chain.state(1).run.id)
    chain.run(1, "b")
    found = {agent.checkpoint.digest for agent in chain.use.agents.list()}
    assert found == {digest("a"), digest("b")}


def test_rule_70_a_latent_stage_takes_a_supervised_checkpoint_as_its_decoder(chain):
    chain.insert(chain.experiment("Supervised"))
    chain.insert(chain.experiment("LatentPPO"))
    chain.insert(chain.experiment("LatentPPO"))
    chain.run(1, "a")
    chain.trigger(2)
    chain.start(2)
    begun = chain.training(2).state.training.beginning
    assert (begun.decoder, begun.weights) == (digest("a"), None)
    chain.write(2, 10, "b")
    chain.end(2, {"b": 1.0})
    chain.trigger(3)
    chain.start(3)
    begun = chain.training(3).state.training.beginning
    assert (begun.decoder, begun.weights) == (None, digest("b")), "it trains further"


def test_rule_70_a_latent_stage_in_the_first_place_needs_a_saved_agent(chain):
    latent = chain.experiment("LatentPPO")
    with pytest.raises(Rejected, match="needs a decoder") as caught:
        chain.insert(latent)
    assert caught.value.field == "start"
    decoder = chain.saved(algorithm="Supervised", family=Family.SUPERVISED)
    assert chain.insert(latent, start=decoder).start == decoder
    chain.insert(chain.experiment("LatentPPO"))
    with pytest.raises(Rejected, match="needs a decoder"):
        chain.edit(1, start=None)
    with pytest.raises(Rejected, match="needs a decoder"):
        chain.remove(1)


def test_rule_71_the_first_stage_begins_from_scratch_or_with_a_saved_agent(chain):
    chain.insert()
    assert chain.stage(1).start is None
    saved = chain.saved("f")
    assert chain.edit(1, start=saved).start == saved
    consumed = chain.trigger(1).run.consumed
    assert consumed.digest == digest("f")
    assert chain.state(1).run.consumed.agent_id == saved


def test_rule_71_a_saved_agent_is_advanced_of_this_project_and_fits(scene, chain):
    other = scene.use.projects.create("other", kind="advanced").id
    for agent_id, what in (
        (chain.saved(kind=ProjectKind.CLASSIC), "Classic RL"),
        (chain.saved(project=other), "another project"),
        (chain.saved(algorithm="DQN"), "cannot begin with an agent of DQN"),
    ):
        with pytest.raises(Rejected, match=what) as caught:
            chain.insert(start=agent_id)
        assert caught.value.field == "start"
    chain.insert()
    with pytest.raises(Rejected, match="Only the first stage"):
        chain.insert(start=chain.saved())
    with pytest.raises(NotFound):
        chain.edit(1, start=uuid4())


def test_rule_71_what_the_first_stage_begins_with_comes_back_with_it(chain):
    saved = chain.saved()
    chain.insert(start=saved)
    chain.insert()
    chain.move(1, 2)
    assert [s.start for s in chain.view.stages] == [None, None]
    chain.move(1, 2)
    assert [s.start for s in chain.view.stages] == [saved, None]


def test_rule_71_an_agent_that_is_gone_is_no_beginning(chain):
    saved = chain.saved()
    chain.insert(start=saved)
    chain.use.agents.delete(saved)
    with pytest.raises(Conflict, match="restore it, or choose another start"):
        chain.trigger(1)
    chain.use.agents.restore(saved)
    assert chain.trigger(1).status is Status.PENDING


def test_rule_72_each_deployment_takes_from_the_nearest_experiment_before_it(chain):
    chain.insert()
    chain.insert(type="deployment")
    chain.insert(type="deployment", checkpoint="final")
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    chain.write(1, 20, "b")
    chain.end(1, {"a": 2.0})
    assert chain.trigger(2).run.consumed.digest == digest("a")
    assert chain.trigger(3).run.consumed.digest == digest("b")


def test_rule_72_it_is_not_the_first_experiment_that_is_deployed(chain):
    chain.insert()
    chain.insert()
    chain.insert(type="deployment")
    chain.run(1, "a")
    chain.trigger(2)
    chain.work(2, "b")
    assert chain.trigger(3).run.consumed.digest == digest("b")


def test_rule_73_a_deployment_stage_makes_its_agent_connects_it_and_succeeds(chain):
    chain.insert()
    chain.insert(type="deployment", agent_name="live")
    chain.run(1, "a")
    chain.trigger(2)
    assert not chain.use.agents.list(), "it was triggered, and has not begun"
    chain.start(2)
    (made,) = chain.use.agents.list()
    assert (made.name, made.checkpoint.digest) == ("live", digest("a"))
    assert made.deployment.status.value == "Pending"
    assert chain.stage(2).status is Status.RUNNING
    chain.end(2)
    assert chain.stage(2).status is Status.SUCCEEDED
    assert chain.use.agents.get(made.id).deployment.status.value == "Deployed"
    assert chain.stage(2).run.agent_id == made.id


def test_rule_73_a_deployment_stage_has_failed_when_its_agent_has(chain):
    chain.insert()
    chain.insert(type="deployment")
    chain.run(1, "a")
    chain.trigger(2)
    chain.start(2)
    chain.fail(2)
    failed = chain.stage(2)
    assert (failed.status, failed.run.reason) == (Status.FAILED, "No.")
    (made,) = chain.use.agents.list()
    assert made.deployment.status.value == "Failed"


def test_rule_73_a_deployment_stage_has_no_experiment_and_names_its_agent(chain):
    chain.insert()
    with pytest.raises(Rejected, match="leave the experiment out"):
        chain.insert(chain.experiment(), type="deployment")
    made = chain.insert(type="deployment", agent_name=" live ")
    assert (made.agent_name, made.experiment_id) == ("live", None)


@pytest.mark.parametrize(
    ("before", "after", "fits"),
    [
        (("PPO", None), ("PPO", None), True),
        (("Rainbow DQN", None), ("RainbowDQN", None), True),
        (("PPO", None), ("DQN", None), False),
        (("GRPO", "llama"), ("DPO", "llama"), True),
        (("GRPO", "llama"), ("GRPO", "llama"), True),
        (("GRPO", "llama"), ("DPO", "qwen"), False),
        (("GRPO", "llama"), ("GRPO", "qwen"), False),
        (("Supervised", None), ("LatentPPO", None), True),
        (("LatentPPO", None), ("LatentPPO", None), True),
        (("Supervised", None), ("PPO", None), False),
        (("SFT", "llama"), ("Supervised", None), False),
    ],
)
def test_rule_74_what_can_follow_what(chain, before, after, fits):
    def made(algorithm, base_model):
        return chain.experiment(algorithm, base_model=base_model)

    start = None
    if before[0] == "LatentPPO":
        start = chain.saved(algorithm="Supervised", family=Family.SUPERVISED)
    chain.insert(made(*before), start=start)
    wanted = made(*after)
    offered = [c.experiment_id for c in chain.use.pipelines.candidates(chain.id)]
    assert (wanted in offered) is fits
    if fits:
        chain.insert(wanted)
        return
    with pytest.raises(Rejected, match="cannot use a checkpoint of"):
        chain.insert(wanted)


def test_rule_74_no_move_and_no_removal_breaks_what_fits(chain):
    chain.insert(chain.experiment("Supervised"))
    chain.insert(chain.experiment("LatentPPO"))
    with pytest.raises(Rejected):
        chain.move(2, 1)
    with pytest.raises(Rejected):
        chain.edit(1, experiment_id=chain.experiment("DQN"))
    assert [s.position for s in chain.view.stages] == [1, 2]


def test_rule_74_no_move_breaks_what_fits_behind_the_first_stage(chain):
    for algorithm in ("Supervised", "Supervised", "LatentPPO"):
        chain.insert(chain.experiment(algorithm))
    before = order(chain)
    for position, to in ((3, 2), (1, 3)):
        with pytest.raises(Rejected, match="Supervised cannot use a checkpoint of"):
            chain.move(position, to)
    assert order(chain) == before


def test_rule_74_a_draft_that_was_configured_otherwise_since_is_looked_at_anew(chain):
    """As it could be while that was not refused: such logs are read for ever."""
    chain.insert()
    second = chain.insert()
    chain.run(1, "a")
    configure = experiment.ConfigureExperiment(algorithm="DQN")
    chain.handle(Change(experiment, second.experiment_id, configure))
    with pytest.raises(Rejected, match="DQN cannot use a checkpoint of PPO"):
        chain.trigger(2)
    chain.use.experiments.edit(second.experiment_id, name="named anew")
    chain.use.experiments.edit(second.experiment_id, algorithm="PPO")
    chain.trigger(2)


def test_rule_75_what_has_run_or_is_used_is_bound_as_a_copy_only(chain):
    first = chain.insert()
    ran = chain.insert(chain.experiment(name="ran"))
    chain.run(1, "a")
    chain.trigger(2)
    chain.work(2, "b")
    chain.remove(2)
    for used in (first.experiment_id, ran.experiment_id):
        with pytest.raises(Conflict, match="say duplicate"):
            chain.insert(used)
    copy = chain.insert(ran.experiment_id, duplicate=True)
    assert copy.experiment_id != ran.experiment_id
    made = chain.use.experiments.get(copy.experiment_id)
    assert (made.name, made.status) == ("ran (copy)", experiment.Status.DRAFT)
    last = list(chain.scene.arena.application.core.store.read_all(limit=10_000))[-3:]
    assert {r.name for r in last} == {
        "experiment.drafted",
        "experiment.bound",
        "pipeline.stage_inserted",
    }
    assert len({r.context.command_id for r in last}) == 1, "it is one append"


def test_rule_75_what_another_pipeline_uses_is_used(chain):
    first = chain.insert()
    other = chain.use.pipelines.create(chain.project, name="other").id
    with pytest.raises(Conflict, match="say duplicate"):
        chain.use.pipelines.insert_stage(other, experiment_id=first.experiment_id)
    offered = chain.use.pipelines.candidates(other)
    assert [c.needs_duplicate for c in offered] == [True]
    chain.remove(1)
    chain.use.pipelines.insert_stage(other, experiment_id=first.experiment_id)


def test_rule_75_a_refused_binding_makes_no_copy(chain):
    chain.insert()
    dqn = chain.experiment("DQN")
    before = len(chain.scene.log())
    with pytest.raises(Rejected):
        chain.insert(dqn, duplicate=True)
    assert len(chain.scene.log()) == before
    with pytest.raises(Rejected, match="name the experiment too"):
        chain.edit(1, duplicate=True)


def test_rule_76_an_auto_stage_is_not_triggered_by_hand(chain):
    chain.insert()
    chain.insert(trigger="auto")
    with pytest.raises(IllegalTransition, match="An Auto stage starts when"):
        chain.trigger(2)


@pytest.mark.parametrize("end", [Chain.fail, Chain.halt])
@pytest.mark.parametrize("trigger", ["manual", "auto"])
def test_rule_76_what_has_failed_or_was_stopped_is_retried_and_nothing_before_it(
    chain, trigger, end
):
    chain.insert()
    chain.insert(trigger=trigger)
    chain.run(1, "a")
    if trigger == "manual":
        chain.trigger(2)
    chain.start(2)
    end(chain, 2)
    again = chain.retry(2)
    assert (again.run.number, again.run.cause) == (2, Cause.RETRY)
    assert again.status is Status.PENDING
    assert chain.stage(1).run.number == 1


def test_rule_76_what_succeeded_or_never_ran_is_not_retried(chain):
    chain.insert()
    with pytest.raises(IllegalTransition, match="NotStarted"):
        chain.retry(1)
    chain.run(1, "a")
    with pytest.raises(IllegalTransition, match="Succeeded"):
        chain.retry(1)


def test_rule_76_a_retry_goes_on_from_what_the_run_has_left(chain):
    chain.insert()
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    chain.write(1, 20, "b")
    chain.fail(1)
    chain.retry(1)
    assert chain.state(1).run.resume_step == 20
    chain.start(1)
    chain.fail(1)
    chain.retry(1)
    assert chain.state(1).run.resume_step == 20, "what it was told to go on from"
    chain.start(1)
    chain.write(1, 30, "c")
    chain.fail(1)
    chain.retry(1)
    assert chain.state(1).run.resume_step == 30


def test_rule_76_a_retry_begins_anew_where_there_is_nothing_to_go_on_from(chain):
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    chain.trigger(2)
    chain.work(2, "b")
    chain.run(1, "c")
    chain.trigger(2)
    chain.start(2)
    chain.fail(2)
    chain.retry(2)
    assert chain.state(2).run.resume_step is None, "what is left was made of another"
    chain.start(2)
    chain.write(2, 10, "d")
    chain.fail(2)
    chain.run(1, "e")
    chain.retry(2)
    assert chain.state(2).run.resume_step is None, "it takes something else now"


def test_rule_76_a_retry_does_not_go_on_from_what_was_deleted_meanwhile(chain):
    chain.insert()
    chain.run(1, "a")
    chain.resume(1, 10)
    chain.start(1)
    chain.fail(1)
    chain.forget(1, 10)
    chain.retry(1)
    assert chain.state(1).run.resume_step is None
    chain.start(1)


@pytest.mark.parametrize("letter", ["a", "c"], ids=["the same input", "another input"])
def test_rule_76_a_retry_does_what_was_ordered_of_the_run_before_it(chain, letter):
    chain.insert()
    second = chain.insert()
    chain.run(1, "a")
    chain.use.training.train(second.experiment_id, max_steps=50, seed=3)
    chain.start(2)
    chain.fail(2)
    chain.run(1, letter)
    chain.retry(2)
    ordered = chain.state(2).run.ordered
    assert (ordered.max_steps, ordered.seed) == (50, 3)


def test_rule_76_a_retry_of_what_never_began_does_not_go_on_from_another_run(chain):
    chain.insert()
    chain.run(1, "a")
    chain.trigger(1)
    chain.use.pipelines.stop(chain.id, chain.stage(1).id)
    chain.retry(1)
    assert chain.state(1).run.resume_step is None


def test_rule_77_a_stage_is_triggered_only_if_its_input_exists(chain):
    chain.insert()
    chain.insert()
    with pytest.raises(Conflict, match="Stage 1 has left no checkpoint to take: run"):
        chain.trigger(2)
    chain.trigger(1)
    with pytest.raises(Conflict, match="Stage 1 is Pending: wait"):
        chain.trigger(2)
    chain.work(1, "a")
    chain.forget(1, 10)
    with pytest.raises(Conflict, match="What stage 1 has left was deleted: run it"):
        chain.trigger(2)
    chain.run(1, "b")
    assert chain.trigger(2).run.consumed.digest == digest("b")


def test_rule_77_another_checkpoint_at_the_same_step_is_not_what_was_left(chain):
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "b")
    with pytest.raises(Conflict, match="Stage 1 is Running: wait"):
        chain.trigger(2)


def test_rule_77_the_same_checkpoint_is_there_at_whatever_step(chain):
    chain.insert()
    chain.insert()
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    chain.write(1, 20, "a")
    chain.end(1, {})
    chain.edit(2, checkpoint="final")
    chain.forget(1, 20)
    assert chain.trigger(2).run.consumed.digest == digest("a")


def test_rule_77_an_auto_stage_without_input_fails_with_the_reason(chain):
    chain.insert()
    chain.insert(trigger="auto")
    chain.run(1, "a", fitness=None)
    second = chain.stage(2)
    assert second.status is Status.FAILED
    assert "has an evaluation score" in second.run.reason


def test_rule_77_an_experiment_that_is_not_there_or_at_work_is_not_trained(chain):
    first = chain.insert()
    chain.trigger(1)
    chain.start(1)
    with pytest.raises(IllegalTransition, match="The stage is Running"):
        chain.trigger(1)
    chain.end(1)
    chain.handle(Change(experiment, first.experiment_id, RequestTraining()))
    with pytest.raises(Conflict, match="Its experiment is Pending: stop it, or wait"):
        chain.trigger(1)
    chain.handle(Change(experiment, first.experiment_id, experiment.RequestStop()))
    chain.lose(1)
    with pytest.raises(NotFound, match="bind another one"):
        chain.trigger(1)
    assert chain.stage(1).experiment_name is None


def test_rule_78_a_stage_is_stale_once_the_one_before_yields_something_else(chain):
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    chain.trigger(2)
    chain.work(2, "b")
    assert not chain.stage(2).stale
    chain.run(1, "c")
    assert chain.stage(2).stale
    chain.trigger(2)
    chain.work(2, "b")
    assert not chain.stage(2).stale


def test_rule_78_no_stage_is_stale_of_a_checkpoint_that_is_still_the_same(chain):
    """What is configured before the training begins is no other checkpoint."""
    chain.insert(chain.experiment("Supervised"))
    second = chain.insert(chain.experiment("Supervised"), approval=True)
    chain.run(1, "a")
    chain.trigger(2)
    chain.use.experiments.edit(second.experiment_id, algorithm="LatentPPO")
    assert chain.stage(2).stale_because == []
    assert not chain.stage(2).stale
    chain.step(2)
    chain.use.pipelines.approve(chain.id, chain.stage(2).id)
    chain.work(2, "b")
    assert not chain.stage(2).stale


@pytest.mark.parametrize("role", ["", "weights", "decoder"])
def test_rule_78_no_stage_is_stale_because_its_run_is_of_an_earlier_release(
    chain, role
):
    """Fingerprints of before also say what is done with the checkpoint."""
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    second, source = chain.bound(2).planned, chain.stage(1).id
    bound = str(second.settings.experiment_id)
    old = fingerprint("experiment", bound, role, digest("a"))
    product = chain.state(1).yields.best
    inputs = Inputs(old, Consumed(product, source))
    trigger = TriggerStage(second.id, chain.id, Cause.MANUAL, second.settings, inputs)
    chain.handle(Change(stage, second.id, trigger))
    assert not chain.stage(2).stale
    chain.run(1, "c")
    assert chain.stage(2).stale


def test_rule_74_a_bound_experiment_is_not_configured_so_that_it_fits_no_more(chain):
    first = chain.insert(chain.experiment("Supervised"))
    second = chain.insert(chain.experiment("Supervised"))
    chain.insert(chain.experiment("LatentPPO"))
    edit = chain.use.experiments.edit
    with pytest.raises(Rejected, match=r"stage 2 of the pipeline chain.*remove the"):
        edit(second.experiment_id, algorithm="DQN")
    with pytest.raises(Rejected, match="cannot use a checkpoint of PPO"):
        edit(first.experiment_id, algorithm="PPO")
    with pytest.raises(Rejected, match="needs a decoder"):
        edit(first.experiment_id, algorithm="LatentPPO")
    assert chain.use.experiments.get(second.experiment_id).algorithm == "Supervised"
    chain.use.experiments.edit(second.experiment_id, algorithm="LatentPPO")


def test_rule_74_what_a_stage_trains_is_known_as_it_was_configured_last(chain):
    first = chain.insert(chain.experiment("PPO"))
    chain.use.experiments.edit(first.experiment_id, algorithm="DQN")
    with pytest.raises(Rejected, match="cannot use a checkpoint of DQN"):
        chain.insert(chain.experiment("PPO"))
    chain.insert(chain.experiment("DQN"))


def test_rule_80_only_what_decides_on_the_order_is_an_edit_of_the_pipeline(chain):
    first = chain.insert(chain.experiment("PPO"))
    before = chain.view.last_modified
    named = {"name": "other", "config": {"argv": ["true", "again"]}}
    chain.use.experiments.edit(first.experiment_id, **named)
    assert chain.view.last_modified == before


def test_rule_79_every_status_is_shown(chain):
    chain.insert()
    seen = [chain.stage(1).status]
    chain.trigger(1)
    seen.append(chain.stage(1).status)
    chain.start(1)
    seen.append(chain.stage(1).status)
    chain.use.pipelines.stop(chain.id, chain.stage(1).id)
    seen.append(chain.stage(1).status)
    chain.halt(1)
    seen.append(chain.stage(1).status)
    chain.run(1, "a")
    seen.append(chain.stage(1).status)
    chain.trigger(1)
    chain.start(1)
    chain.fail(1)
    seen.append(chain.stage(1).status)
    names = "NotStarted Pending Running Stopping Stopped Succeeded Failed"
    assert " ".join(status.value for status in seen) == names
    assert chain.stage(1).experiment_name == "experiment 0"


def test_rule_80_last_modified_is_of_structure_and_settings_only(chain):
    chain.insert()
    settled = chain.view.last_modified
    chain.run(1, "a")
    assert chain.view.last_modified == settled
    chain.edit(1, approval=True)
    edited = chain.view.last_modified
    assert edited > settled
    chain.use.pipelines.edit(chain.id, description="more")
    assert chain.view.last_modified > edited


def test_rule_81_rename_describe_and_delete(chain):
    edit = chain.use.pipelines.edit
    assert edit(chain.id, name="renamed").name == "renamed"
    assert edit(chain.id, description="what for").description == "what for"
    chain.use.pipelines.delete(chain.id)
    assert not chain.use.pipelines.list()
    with pytest.raises(NotFound, match="no such pipeline"):
        chain.use.pipelines.get(chain.id)


def test_rule_82_a_duplicate_has_its_own_drafts_and_has_run_nothing(chain):
    chain.insert(auto_add="best", retries=Retries(2), start=chain.saved())
    chain.insert(trigger="auto", checkpoint="final", condition=Condition(1.0))
    chain.insert(type="deployment", approval=True, time_limit_s=5)
    chain.use.pipelines.edit(chain.id, description="what for")
    chain.run(1, "a")
    copy = chain.use.pipelines.duplicate(chain.id)
    assert (copy.name, copy.description) == ("chain (copy)", "what for")
    for was, made in zip(chain.view.stages, copy.stages, strict=True):
        assert made.id != was.id
        assert made.status is Status.NOT_STARTED
        assert made.run is None
        for name in sorted(StageFields.__annotations__.keys() - {"duplicate"}):
            if name != "experiment_id":
                assert getattr(made, name) == getattr(was, name), name
        if was.experiment_id is not None:
            drafted = chain.use.experiments.get(made.experiment_id)
            assert drafted.name == f"{was.experiment_name} (copy)"
            assert drafted.status is experiment.Status.DRAFT
    named = chain.use.pipelines.duplicate(chain.id, name="mine")
    assert named.name == "mine"
    assert named.stages[0].experiment_id != copy.stages[0].experiment_id


EDITS = {
    "insert": lambda chain: chain.insert(),
    "edit": lambda chain: chain.edit(2, approval=True),
    "move": lambda chain: chain.move(1, 2),
    "remove": lambda chain: chain.remove(2),
    "delete": lambda chain: chain.use.pipelines.delete(chain.id),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_rule_83_nothing_is_edited_while_a_stage_is_at_work(chain, edit):
    chain.insert()
    chain.insert()
    chain.trigger(1)
    for status in (Status.PENDING, Status.RUNNING, Status.STOPPING):
        assert chain.stage(1).status is status
        with pytest.raises(
            IllegalTransition, match=f"{status.value}: stop it, or wait"
        ):
            edit(chain)
        if status is Status.PENDING:
            chain.start(1)
        elif status is Status.RUNNING:
            chain.use.pipelines.stop(chain.id, chain.stage(1).id)
    chain.halt(1)
    edit(chain)


def test_rule_84_what_is_read_again_and_again_is_found_out_once(chain, monkeypatch):
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    chain.trigger(2)
    chain.work(2, "b")
    chain.run(1, "c")
    assert chain.stage(2).stale
    store = chain.scene.arena.application.core.store
    monkeypatch.setattr(type(store), "read", None)
    monkeypatch.setattr(type(store), "read_all", None)
    assert chain.view is chain.view


def test_rule_85_a_pipeline_configures_no_experiment(chain):
    made = chain.experiment(config={"argv": ["true"]})
    before = chain.use.experiments.get(made)
    chain.insert(made, approval=True)
    assert chain.use.experiments.get(made) == before
    with pytest.raises(Rejected, match="A stage has no config"):
        chain.edit(1, config={})


def test_rule_04_what_a_removed_member_owns_passes_on_pipelines_too(user):
    ada, bob = user("ada"), user("bob", "member")
    project = bob.projects.create("advanced", kind="advanced").id
    made = bob.pipelines.create(project, name="chain")
    assert made.owner == "user:bob"
    ada.organisations.remove("default", "bob")
    assert ada.pipelines.get(made.id).owner == "user:ada"


def test_rule_02_nothing_of_another_organisation_is_there(scene, chain):
    chain.insert()
    stranger = scene.arena.on_behalf_of(STRANGER).pipelines
    for call in (
        lambda: stranger.get(chain.id),
        lambda: stranger.delete(chain.id),
        lambda: stranger.trigger(chain.id, chain.stage(1).id),
        lambda: stranger.look_up("chain"),
        lambda: stranger.create(chain.project, name="theirs"),
    ):
        with pytest.raises(NotFound):
            call()
    assert not stranger.list()


# --- what the rules do not say ------------------------------------------------------


def test_fields_of_the_wrong_type_are_refused_by_name(chain):
    chain.insert()
    for wrong in (
        {"condition": 5},
        {"retries": 3},
        {"approval": "yes"},
        {"time_limit_s": "soon"},
        {"agent_name": 7},
    ):
        with pytest.raises(Rejected, match="wrong type") as caught:
            chain.edit(1, **wrong)
        assert caught.value.field == next(iter(wrong))


def test_a_stage_that_becomes_a_deployment_lets_its_experiment_go(chain):
    chain.insert()
    chain.insert(auto_add="best")
    changed = chain.edit(2, type="deployment")
    assert (changed.type, changed.experiment_id) == (StageType.DEPLOYMENT, None)
    assert changed.auto_add is AutoAdd.NO
    bound = chain.experiment()
    assert chain.edit(2, type="experiment", experiment_id=bound).experiment_id == bound


def test_who_makes_a_deployment_of_a_stage_may_say_that_it_has_no_experiment(chain):
    chain.insert()
    chain.insert()
    with pytest.raises(Rejected, match="experiment"):
        chain.edit(2, experiment_id=None)
    changed = chain.edit(2, type="deployment", experiment_id=None)
    assert (changed.type, changed.experiment_id) == (StageType.DEPLOYMENT, None)


def test_binding_what_is_bound_already_changes_nothing(chain):
    first = chain.insert()
    before = len(chain.scene.log())
    chain.edit(1, experiment_id=first.experiment_id)
    assert len(chain.scene.log()) == before


def test_a_name_that_several_pipelines_have_is_told_with_all_of_them(scene, chain):
    assert chain.use.pipelines.look_up(" chain ").id == chain.id
    other = scene.use.projects.create("other", kind="advanced").id
    again = chain.use.pipelines.create(other, name="chain").id
    with pytest.raises(Ambiguous, match="in the project advanced") as caught:
        chain.use.pipelines.look_up("chain")
    assert str(again) in str(caught.value)
    assert chain.use.pipelines.look_up("chain", project="other").id == again
    with pytest.raises(NotFound):
        chain.use.pipelines.look_up("chain", project="nowhere")


def test_approval_is_given_for_what_was_seen(chain):
    chain.insert()
    with pytest.raises(NotFound, match="never run"):
        chain.use.pipelines.approve(chain.id, chain.stage(1).id)
    chain.trigger(1)
    for answer in (chain.use.pipelines.approve, chain.use.pipelines.reject):
        with pytest.raises(IllegalTransition, match="Nobody is asked"):
            answer(chain.id, chain.stage(1).id)


def test_wait_ends_when_nothing_is_at_work_or_the_time_is_over(chain):
    chain.insert()
    assert chain.use.pipelines.wait(chain.id, timeout_s=60) == chain.view
    chain.trigger(1)
    waiting = chain.use.pipelines.wait(chain.id, timeout_s=0)
    assert waiting.stages[0].status is Status.PENDING


def test_wait_sees_what_others_do_meanwhile(chain):
    chain.insert()
    chain.trigger(1)
    waits = chain.use.pipelines
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waits.wait, chain.id, timeout_s=60)
        chain.use.pipelines.stop(chain.id, chain.stage(1).id)
        assert waiting.result().stages[0].status is Status.STOPPED


def test_an_auto_stage_that_somebody_has_retried_is_not_triggered_besides(chain):
    chain.insert()
    chain.insert(trigger="auto")
    chain.run(1, "a")
    assert triggered(chain.use.session, chain.bound(2), Cause.AUTO) == ()


def test_an_experiment_that_is_not_there_is_bound_to_nothing(chain):
    bound = chain.insert().experiment_id
    assert bound_to(chain.use.session, bound).pipeline.id == chain.id
    assert bound_to(chain.use.session, chain.experiment()) is None
    assert bound_to(chain.use.session, uuid4()) is None


def test_a_checkpoint_goes_with_its_experiment(chain):
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    chain.lose(1)
    with pytest.raises(Conflict, match="was deleted: run it again"):
        chain.trigger(2)


def as_shown(run):
    """Return a run that was listed as its stage shows it, without its attempts."""
    return RunView(**{f.name: getattr(run, f.name) for f in fields(RunView)})


def test_every_run_is_shown_the_latest_first(chain):
    chain.insert()
    chain.insert(checkpoint="final")
    chain.run(1, "a")
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 20, "b")
    chain.fail(1)
    stage_id = chain.stage(1).id
    latest, first = chain.use.pipelines.runs(chain.id, stage_id)
    assert as_shown(latest) == chain.stage(1).run
    assert (latest.number, latest.reason, latest.produced.digest) == (
        2,
        "No.",
        digest("b"),
    )
    assert (first.number, first.reason, first.produced.digest) == (1, None, digest("a"))
    assert latest.training_run_id != first.training_run_id


def test_the_past_of_a_pipeline_can_be_read(chain):
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    chain.trigger(2)
    chain.work(2, "b")
    fresh, head = chain.view, chain.scene.arena.application.core.store.head()
    chain.run(1, "c")
    chain.remove(2)
    past = chain.scene.arena.on_behalf_of(ANN, as_of=head).pipelines
    assert past.get(chain.id) == fresh
    assert [s.stale for s in fresh.stages] == [False, False]
    run = past.runs(chain.id, fresh.stages[0].id)[0]
    assert as_shown(run) == fresh.stages[0].run


def test_who_may_not_run_commands_may_neither_bind_nor_trigger_them(scene, chain):
    made = chain.experiment()
    with pytest.raises(Forbidden):
        scene.use.pipelines.insert_stage(chain.id, experiment_id=made)
    chain.insert(made)
    with pytest.raises(Forbidden):
        scene.use.pipelines.trigger(chain.id, chain.stage(1).id)
    with pytest.raises(Forbidden):
        scene.use.pipelines.duplicate(chain.id)


def test_a_failure_that_is_tried_again_keeps_what_it_has_left(chain):
    chain.insert(retries=Retries(1, first_wait_s=60))
    chain.trigger(1)
    chain.start(1)
    chain.write(1, 10, "a")
    chain.fail(1)
    waiting = chain.stage(1)
    assert (waiting.status, waiting.run.reason) == (Status.PENDING, "No.")
    assert waiting.run.retry_at is not None
    chain.use.pipelines.stop(chain.id, waiting.id)
    assert chain.stage(1).run.produced.digest == digest("a")
    assert chain.state(1).yields.final.digest == digest("a")
