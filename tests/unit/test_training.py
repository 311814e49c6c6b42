"""Rules 6 to 8: training is asked for, stopped and resumed."""

import threading
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from arena_core import MetricPoint, final, specific
from arena_core.application.experiments import setup
from arena_core.application.handling import Change
from arena_core.domain import experiment
from arena_core.domain import project as project_
from arena_core.domain.errors import (
    Conflict,
    Forbidden,
    IllegalTransition,
    NotFound,
    Overtaken,
    Rejected,
)
from arena_core.domain.experiment import Status
from arena_core.domain.ids import ExperimentId, WorkerId, training_of
from arena_core.domain.stage_run import Cause
from unit.scenes import CARTPOLE, CONTEXT, Scene

PPO = setup(algorithm="PPO", source=CARTPOLE)
ANEW = experiment.Beginning()
WORKER = WorkerId(UUID(int=7))
CLAIM = experiment.ClaimTraining(WORKER, datetime(2100, 1, 1, tzinfo=UTC))


def happens(scene, experiment_id, *commands):
    for command in commands:
        change = Change(experiment, experiment_id, command)
        scene.arena.application.core.handler.handle(CONTEXT, change)


@pytest.fixture
def project(scene):
    return scene.use.projects.create("carts").id


def requested(scene):
    """Return what was asked for, by the last event that asks."""
    events = scene.arena.application.core.store.read_all()
    asked = [e.event for e in events if e.name == "experiment.training_requested"]
    return asked[-1]


def test_rule_06_a_submitted_experiment_is_pending(scene, project):
    made = scene.use.training.submit(project, name=" ppo ", setup=PPO, max_steps=500)
    assert (made.name, made.status) == ("ppo", Status.PENDING)
    assert requested(scene) == experiment.TrainingRequested(
        None, None, 500, ANEW, None, None
    )
    assert scene.use.experiments.list(project_id=project).items == [made]


@pytest.mark.parametrize(
    ("name", "asked"), [("", PPO), ("ppo", setup(algorithm="PPO"))], ids=["name", "on"]
)
def test_rule_06_what_cannot_be_trained_is_not_half_submitted(
    scene, project, name, asked
):
    before = scene.log()
    with pytest.raises(Rejected):
        scene.use.training.submit(project, name=name, setup=asked)
    assert scene.log() == before


def test_rule_06_a_draft_is_trained_when_that_is_requested(scene):
    draft = scene.experiment(scores={})
    assert scene.use.training.train(draft.id).status is Status.PENDING
    assert requested(scene).max_steps is None
    with pytest.raises(IllegalTransition, match="while the experiment is Pending"):
        scene.use.training.train(draft.id, max_steps=1)


def test_rule_07_what_nobody_has_begun_is_stopped_at_once(scene, project):
    made = scene.use.training.submit(project, name="ppo", setup=PPO)
    assert scene.use.training.stop(made.id).status is Status.STOPPED
    assert scene.log()[-2:] == [
        "experiment.stop_requested",
        "experiment.training_stopped",
    ]


def test_rule_07_what_is_running_stops_when_it_has_acknowledged(scene, project):
    made = scene.use.training.submit(project, name="ppo", setup=PPO)
    happens(scene, made.id, CLAIM, experiment.StartTraining(WORKER, 1))
    assert scene.use.training.stop(made.id).status is Status.STOPPING
    before = scene.log()
    assert scene.use.training.stop(made.id).status is Status.STOPPING
    assert scene.log() == before


def test_rule_07_what_does_not_train_cannot_be_stopped(scene):
    draft = scene.experiment(scores={})
    with pytest.raises(IllegalTransition, match=r"^To stop is not possible"):
        scene.use.training.stop(draft.id)


def test_rule_08_resuming_goes_on_from_the_last_checkpoint(scene):
    made = scene.experiment(scores={10: 3.0, 30: 1.0, 20: 2.0})
    scene.use.training.train(made.id)
    scene.use.training.stop(made.id)
    assert scene.use.training.resume(made.id, max_steps=99).status is Status.PENDING
    digest = scene.use.experiments.checkpoints(made.id)[-1].digest
    assert requested(scene) == experiment.TrainingRequested(
        30, digest, 99, ANEW, None, None
    )


def test_rule_08_a_failed_experiment_with_checkpoints_can_be_resumed(scene):
    made = scene.experiment()
    scene.use.training.train(made.id)
    happens(scene, made.id, CLAIM, experiment.FailTraining(WORKER, 1, "no memory"))
    resumed = scene.use.training.resume(made.id)
    assert (resumed.status, resumed.reason) == (Status.PENDING, None)


def test_rule_08_resuming_needs_a_checkpoint(scene):
    made = scene.experiment(scores={})
    scene.use.training.train(made.id)
    scene.use.training.stop(made.id)
    with pytest.raises(Conflict, match="no checkpoint to resume from"):
        scene.use.training.resume(made.id, max_steps=99)


@pytest.mark.parametrize("scores", [{}, {10: 1.0}], ids=["without", "with"])
@pytest.mark.parametrize("asked", [False, True], ids=["Draft", "Pending"])
def test_rule_08_nothing_is_resumed_that_has_not_ended(scene, asked, scores):
    made = scene.experiment(scores=scores)
    if asked:
        scene.use.training.train(made.id)
    with pytest.raises(IllegalTransition, match="resume one that is Succeeded"):
        scene.use.training.resume(made.id)


def test_a_negative_number_of_steps_is_refused(scene):
    made = scene.experiment()
    with pytest.raises(Rejected, match="max_steps must not be negative"):
        scene.use.training.train(made.id, max_steps=-1)


def test_what_was_deleted_is_not_trained(scene):
    made = scene.experiment()
    scene.use.experiments.delete(made.id)
    for ask in (
        scene.use.training.train,
        scene.use.training.stop,
        scene.use.training.resume,
    ):
        with pytest.raises(NotFound):
            ask(made.id)


COMMAND = {"recipe": "command", "config": {"argv": ["train"]}}


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"recipe": "mine"}, "recipe"),
        ({"recipe": "sb3", "algorithm": "GRPO"}, "recipe"),
        ({"recipe": "command", "config": {}}, "config"),
        ({"recipe": "sb3", "config": {"no_such": 1}}, "config.no_such"),
        ({"recipe": "sb3", "config": {"total_steps": -1}}, "config.total_steps"),
        ({"config": {"total_steps": -1}}, "config.total_steps"),
        ({**COMMAND, "source": None}, "source"),
    ],
)
def test_rule_06_what_no_recipe_can_train_is_neither_drafted_nor_edited_to(
    scene, said, field
):
    operator = scene.operator()
    project = operator.projects.create("carts").id
    said = {"source": CARTPOLE} | said
    known = {"algorithm": "PPO", "name": "ppo"}
    draft = operator.experiments.create(project, **known)
    before = scene.log()
    for ask in (
        lambda: operator.experiments.create(project, **known | said),
        lambda: operator.experiments.edit(draft.id, **said),
    ):
        with pytest.raises(Rejected) as caught:
            ask()
        assert caught.value.field == field
    assert scene.log() == before


def drafted_before(scene, project, **said):
    """Return a Draft as the log has it from before Drafts were checked."""
    made = ExperimentId(uuid4())
    asked = setup(**{"algorithm": "PPO", "source": CARTPOLE} | said)
    happens(scene, made, experiment.DraftExperiment(made, project, "old", asked))
    return scene.use.experiments.get(made)


def test_rule_06_what_no_recipe_can_train_is_not_asked_for(scene, project):
    old = drafted_before(scene, project, recipe="mine")
    before = scene.log()
    with pytest.raises(Rejected, match="mine is not known"):
        scene.use.training.train(old.id)
    assert scene.log() == before
    assert scene.use.experiments.edit(old.id, name="renamed").name == "renamed"


def test_who_says_nothing_of_training_imports_what_others_have_trained(scene, project):
    known = {"algorithm": "Rainbow DQN", "family": "rl", "name": "imported"}
    made = scene.use.experiments.create(project, **known, config={"lr": 0.1})
    assert scene.use.experiments.edit(made.id, algorithm="GRPO").recipe is None
    assert scene.use.experiments.get(made.id).config == {"lr": 0.1}


def test_what_has_been_trained_says_so_before_what_is_wrong_with_the_edit(scene):
    made = ended(scene)
    with pytest.raises(IllegalTransition):
        scene.use.experiments.edit(made.id, config={"no_such": 1})


def test_what_is_missing_on_the_machine_is_said_before_a_training_is_queued(scene):
    made = ended(scene)
    draft = scene.use.training.duplicate(made.id)
    project = made.project_id
    core = scene.arena.application.core
    asked = []

    def missing(setup):
        asked.append(setup)
        raise Rejected("There is no dataset.", field="source.name")

    object.__setattr__(core, "check_here", missing)
    before = scene.log()
    training = scene.use.training
    for ask in (
        lambda: training.train(draft.id),
        lambda: training.resume(made.id),
        lambda: training.resume_as(made.id, name="on", checkpoint=final()),
        lambda: training.submit(project, name="new", setup=PPO),
    ):
        with pytest.raises(Rejected, match="There is no dataset"):
            ask()
    assert len(asked) == 4
    assert scene.log() == before
    assert scene.use.experiments.create(
        project, name="x", algorithm="PPO", source=CARTPOLE
    )


def test_who_may_not_have_it_trained_is_not_told_what_is_on_the_machine(scene):
    operator = scene.operator()
    project = operator.projects.create("carts").id
    known = {"name": "ppo", "algorithm": "PPO", "source": CARTPOLE}
    draft = operator.experiments.create(project, **known, **COMMAND)
    looked = []
    object.__setattr__(scene.arena.application.core, "check_here", looked.append)
    with pytest.raises(Forbidden):
        scene.use.training.train(draft.id)
    assert not looked
    operator.training.train(draft.id)
    assert looked


def test_a_program_is_run_for_the_operator_and_for_nobody_else(scene):
    operator = scene.operator()
    draft = operator.experiments.create(
        operator.projects.create("carts").id,
        **{"name": "ppo", "algorithm": "PPO", "source": CARTPOLE} | COMMAND,
    )
    for ask in (
        lambda: scene.use.training.train(draft.id),
        lambda: scene.use.experiments.edit(draft.id, config={"argv": ["rm"]}),
        lambda: scene.experiment(scores={}, **COMMAND),
    ):
        with pytest.raises(Forbidden, match="ARENA_ALLOW_COMMANDS to 1"):
            ask()
    assert scene.use.experiments.edit(draft.id, name="mine").name == "mine"
    assert scene.use.experiments.edit(draft.id, recipe="sb3", config={"seed": 1})
    assert operator.training.train(draft.id).status is Status.PENDING


def test_a_program_is_run_for_everybody_where_the_operator_says_so(tmp_path):
    scene = Scene.open(tmp_path, allow_commands=True)
    with scene.arena:
        draft = scene.experiment(scores={}, **COMMAND)
        assert scene.use.training.train(draft.id).status is Status.PENDING


def ended(scene, **said):
    """Return an experiment that was trained and has left a checkpoint at step 20."""
    made = scene.experiment(**said)
    scene.use.training.train(made.id, seed=5)
    digest = scene.use.experiments.checkpoints(made.id)[0].digest
    happens(
        scene,
        made.id,
        CLAIM,
        experiment.StartTraining(WORKER, 1),
        experiment.RecordTrainedCheckpoint(WORKER, 1, 20, digest, 1),
        experiment.FinishTraining(WORKER, 1),
    )
    return scene.use.experiments.get(made.id)


def test_rule_08_a_new_experiment_goes_on_from_a_chosen_checkpoint(scene):
    made = ended(scene)
    resumed = scene.use.training.resume_as(
        made.id, name="further", checkpoint=final(), max_steps=99, reason="better"
    )
    assert (resumed.name, resumed.status) == ("further", Status.PENDING)
    assert resumed.config == made.config
    digest = scene.use.experiments.checkpoints(made.id)[0].digest
    assert requested(scene) == experiment.TrainingRequested(
        20, digest, 99, experiment.Beginning(seed=5), None, training_of(made.id, 1)
    )
    assert scene.use.experiments.get(made.id) == made
    asked = scene.arena.application.core.store.read(resumed.id)[-1]
    assert asked.context.reason == "better"


def test_rule_08_a_new_experiment_goes_on_from_an_uploaded_checkpoint(scene):
    made = ended(scene)
    folder = scene.bundle()
    scene.use.experiments.add_checkpoint(made.id, step=50, path=folder)
    scene.use.training.resume_as(made.id, name="further", checkpoint=specific(50))
    assert requested(scene).resume_of is None


@pytest.mark.parametrize("asked", [False, True], ids=["Draft", "Pending"])
def test_rule_08_nothing_goes_on_from_what_has_not_ended(scene, asked):
    made = scene.experiment()
    if asked:
        scene.use.training.train(made.id)
    before = scene.log()
    with pytest.raises(IllegalTransition, match="resume one that is Succeeded"):
        scene.use.training.resume_as(made.id, name="further", checkpoint=final())
    assert scene.log() == before


def test_a_copy_is_a_draft_with_the_same_set_up_and_nothing_that_was_trained(scene):
    made = ended(scene, config={"seed": 3})
    copy = scene.use.training.duplicate(made.id)
    assert (copy.name, copy.status, copy.training) == ("ppo (copy)", Status.DRAFT, None)
    assert (copy.config, copy.source) == (made.config, made.source)
    assert scene.use.experiments.checkpoints(copy.id) == []
    assert scene.use.training.duplicate(made.id, name="other").name == "other"


def test_how_far_a_training_got_is_told(scene):
    told = ended(scene).training
    assert (told.number, told.step, told.seed) == (1, 20, 5)
    assert (told.steps_per_s, told.left_s, told.stage_id) == (None, None, None)
    assert told.requested_by.at <= told.started_at <= told.ended_at
    assert scene.experiment().training is None


def test_the_last_value_of_each_metric_is_told(scene):
    made = scene.experiment(scores={})
    points = [MetricPoint(1, "loss", 3.0), MetricPoint(2, "loss", 2.0)]
    scene.use.experiments.add_metrics(made.id, [*points, MetricPoint(1, "a", 9.0)])
    assert scene.use.training.latest(made.id) == [
        MetricPoint(1, "a", 9.0),
        MetricPoint(2, "loss", 2.0),
    ]


def test_what_was_never_trained_has_printed_nothing(scene):
    made = scene.experiment(scores={})
    assert list(scene.use.training.log(made.id)) == []
    for lines in (0, 10_001):
        with pytest.raises(Rejected, match="between 1 and 10000 lines"):
            scene.use.training.log(made.id, lines=lines)


def test_whoever_waits_is_told_when_it_has_ended_or_the_time_is_over(scene):
    made = scene.experiment(scores={})
    assert scene.use.training.wait(made.id, timeout_s=0).status is Status.DRAFT
    scene.use.training.train(made.id)
    assert scene.use.training.wait(made.id, timeout_s=0.01).status is Status.PENDING
    stop = threading.Timer(0.05, scene.use.training.stop, (made.id,))
    stop.start()
    assert scene.use.training.wait(made.id, timeout_s=60).status is Status.STOPPED
    stop.join()


# --- what belongs to a pipeline ------------------------------------------------------


@pytest.fixture
def bound(scene):
    """Return an experiment that is bound to the first stage of a pipeline."""
    project = scene.advanced().id
    made = scene.experiment(scores={}, project=project)
    line = scene.use.pipelines.create(project, name="line")
    scene.use.pipelines.insert_stage(line.id, type="experiment", experiment_id=made.id)
    return made


def stage_of(scene):
    [line] = scene.use.pipelines.list()
    return line.stages[0]


def test_rule_09_training_what_is_bound_to_a_stage_triggers_the_stage(scene, bound):
    told = scene.use.training.train(bound.id, max_steps=7, seed=3, reason="again")
    assert told.status is Status.DRAFT
    run = stage_of(scene).run
    assert (stage_of(scene).status.value, run.cause) == ("Pending", Cause.TRAIN)
    assert "experiment.training_requested" not in scene.log()
    assert scene.use.training.settled(bound.id) is None
    [triggered] = [
        r
        for r in scene.arena.application.core.store.read_all()
        if r.name == "stage.triggered"
    ]
    assert triggered.context.reason == "again"
    assert (triggered.event.ordered.max_steps, triggered.event.ordered.seed) == (7, 3)


def test_rule_09_resuming_what_is_bound_to_a_stage_triggers_the_stage(scene, bound):
    with pytest.raises(IllegalTransition, match="Succeeded, Stopped, Failed"):
        scene.use.training.resume(bound.id)
    happens(
        scene,
        bound.id,
        experiment.RequestTraining(),
        experiment.RequestStop(),
        experiment.RecordCheckpoint(30, "a" * 64, 1),
    )
    scene.use.training.resume(bound.id, max_steps=99)
    assert stage_of(scene).run.cause is Cause.RESUME


def test_what_is_bound_to_a_stage_is_deleted_with_its_project_only(scene, bound):
    with pytest.raises(Conflict, match="stage of the pipeline line"):
        scene.use.experiments.delete(bound.id)
    scene.use.projects.delete(bound.project_id)
    with pytest.raises(NotFound):
        scene.use.experiments.get(bound.id)
    assert scene.use.pipelines.list().items == []


def test_a_project_is_not_deleted_while_a_stage_is_at_work(scene, bound):
    scene.use.training.train(bound.id)
    before = scene.log()
    with pytest.raises(Conflict):
        scene.use.projects.delete(bound.project_id)
    assert scene.log() == before


def test_what_was_decided_on_something_else_is_decided_anew(scene):
    asked = []

    def changes():
        asked.append(1)
        if len(asked) < 3:
            raise Overtaken("Somebody was faster.")
        return [Change(project_, made.id, project_.RenameProject("renamed"))]

    made = scene.use.projects.create("carts")
    scene.use.session.execute_anew(changes)
    assert scene.use.projects.get(made.id).name == "renamed"

    def never():
        raise Overtaken("Somebody is always faster.")

    with pytest.raises(Overtaken):
        scene.use.session.execute_anew(never)
