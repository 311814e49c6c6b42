"""The training loop over trainings that are functions: each look takes them further."""

import shutil
from datetime import timedelta

import pytest
from attrs import define, field

import arena_core
from arena_core import MetricPoint
from arena_core.adapters.trainers.memory import MemoryTrainer
from arena_core.adapters.trainers.run_news import PART_BYTES
from arena_core.application import conducting, training_loop
from arena_core.application.experiments import dataset
from arena_core.application.handling import Change
from arena_core.application.setting_aside import MOST_DEFECTS
from arena_core.application.training_loop import LEASE, MOST_LOSSES
from arena_core.application.training_orders import bundles_of, order_of
from arena_core.domain import experiment
from arena_core.domain.course import Source
from arena_core.domain.errors import Rejected, StorageFull
from arena_core.domain.experiment import Status
from arena_core.domain.ids import training_of
from unit.scenes import CARTPOLE, CONTEXT, caller
from unit.workers import World

import bundles

SECOND = timedelta(seconds=1)


@define
class Training:
    """An experiment whose training is `script`, and the workers that see to it."""

    folder: object
    world: World = field(factory=World)
    number: int = 0

    def runs(self, script):
        self.world.trainer = MemoryTrainer({"sb3": script})
        return self

    def worker(self):
        return self.world.worker()

    def asked(self, worker, organisation="default", **said):
        """Return an experiment whose training was asked for."""
        self.number += 1
        use = worker.application.on_behalf_of(caller("ann", organisation=organisation))
        project = use.projects.create(f"carts {self.number}").id
        said = {"name": "ppo", "algorithm": "PPO", "source": CARTPOLE} | said
        made = use.experiments.create(project, **said)
        use.training.train(made.id)
        return made

    def bundle(self):
        self.number += 1
        return bundles.cartpole(self.folder / f"bundle {self.number}")

    def log(self):
        return self.world.log("experiment")[1:]

    def effects(self):
        return [effect.what for effect in self.world.trainer.ledger]


@pytest.fixture
def training(tmp_path):
    training = Training(tmp_path)
    yield training
    training.world.trainer.close()


def state_of(worker, made):
    return worker.use.experiments.get(made.id)


def nothing(run):
    run.log(1, score=1.0)
    yield


def at_once(run):
    """Ends at the first look: it yields nothing."""
    run.log(1, score=1.0)
    return
    yield


def never_ends(run):
    while not run.should_stop:
        yield


def until_ended(training, worker, made):
    for _ in range(50):
        worker.train()
        if state_of(worker, made).status not in experiment.AT_WORK:
            return state_of(worker, made)
    raise AssertionError(training.log())


# --- the life of one training --------------------------------------------------------


def test_what_is_asked_for_is_trained_and_all_that_it_says_is_recorded(training):
    def script(run):
        run.log(10, score=1.0, fitness=2.0)
        run.checkpoint(10, training.bundle())
        yield
        run.log(20, fitness=3.0)
        run.checkpoint(20, training.bundle())

    worker = training.runs(script).worker()
    made = training.asked(worker)
    worker.train()
    assert state_of(worker, made).status is Status.RUNNING
    assert worker.trainings.look_again_s() < 0.1
    ended = until_ended(training, worker, made)
    assert ended.status is Status.SUCCEEDED
    written = worker.use.experiments.checkpoints(made.id)
    assert [(c.step, c.evaluation_score) for c in written] == [(10, 2.0), (20, 3.0)]
    assert training.log() == [
        "training_requested",
        "training_claimed",
        "training_started",
        "checkpoint_written",
        "checkpoint_written",
        "training_succeeded",
    ]
    assert training.effects() == ["start", "acknowledge", "acknowledge", "tidy"]
    worker.train()
    assert worker.trainings.look_again_s() == 1.0


def test_it_is_done_in_the_name_of_whoever_asked_by_the_hand_of_a_policy(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    until_ended(training, worker, made)
    recorded = worker.core.store.read(made.id)
    asked = next(r for r in recorded if r.name.endswith("requested"))
    later = [r for r in recorded if r.version > asked.version]
    assert {str(r.context.actor) for r in later} == {"system:trainer"}
    assert {r.context.causation_id for r in later} == {asked.event_id}
    assert {r.context.correlation_id for r in later} == {asked.context.correlation_id}


def test_what_ends_at_once_has_been_running_for_a_moment(training):
    worker = training.runs(at_once).worker()
    made = training.asked(worker)
    assert until_ended(training, worker, made).status is Status.SUCCEEDED
    assert training.log()[-2:] == ["training_started", "training_succeeded"]


@pytest.mark.parametrize("script", [nothing, at_once], ids=["runs", "has ended"])
def test_who_dies_between_a_start_and_its_record_leaves_nothing_undone(
    training, script
):
    worker = training.runs(script).worker()
    made = training.asked(worker)
    with_trainer(worker, Forgetful(training.world.trainer))
    worker.train()
    assert state_of(worker, made).status is Status.PENDING
    if script is at_once:
        training.world.trainer.look(training_of(made.id, 1))
    worker.die()
    with_trainer(worker, training.world.trainer)
    ended = until_ended(training, training.worker(), made)
    assert ended.status is Status.SUCCEEDED
    assert training.effects().count("start") == 1
    assert training.log().count("training_started") == 1


@pytest.mark.parametrize("line", ["", '{"step": 1}'])
def test_lines_that_say_nothing_keep_nothing_back_that_comes_after_them(training, line):
    def script(run):
        lines = PART_BYTES // (len(line) + 1) + 1
        (run.folder / "metrics.jsonl").write_text(f"{line}\n" * lines)
        run.log(10, fitness=7.0)
        run.checkpoint(10, training.bundle())
        return
        yield

    worker = training.runs(script).worker()
    made = training.asked(worker)
    assert until_ended(training, worker, made).status is Status.SUCCEEDED
    written = worker.use.experiments.checkpoints(made.id)
    assert [(c.step, c.evaluation_score) for c in written] == [(10, 7.0)]


def test_a_failure_says_why_and_what_was_printed_last_without_paths(training):
    def script(run):
        run.print('File "/home/ann/secret/train.py", line 3, in <module>')
        run.print("")
        run.print("ModuleNotFoundError: No module named 'x' [hint]")
        raise SystemExit(3)
        yield

    worker = training.runs(script).worker()
    ended = until_ended(training, worker, training.asked(worker))
    assert ended.status is Status.FAILED
    assert "No module named 'x' [hint]" in ended.reason
    assert 'It printed last: File ".../train.py", line 3' in ended.reason
    assert "/home" not in ended.reason


def broken_line(run):
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write("{\n")


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (broken_line, "Line 2 of"),
        (lambda run: run.checkpoint(5, lambda at: (at / "x").touch()), "at step 5 is"),
    ],
    ids=["metrics", "checkpoint"],
)
def test_what_says_nonsense_is_made_to_end_and_has_failed(training, say, reason):
    def script(run):
        run.log(1, score=1.0)
        run.checkpoint(1, training.bundle())
        yield
        say(run)
        yield from never_ends(run)

    worker = training.runs(script).worker()
    made = training.asked(worker)
    ended = until_ended(training, worker, made)
    assert ended.status is Status.FAILED
    assert reason in ended.reason
    assert training.effects().count("stop") == 1
    # What was fine is kept.
    assert [c.step for c in worker.use.experiments.checkpoints(made.id)] == [1]


def test_what_is_gone_without_a_trace_has_failed(training):
    worker = training.runs(never_ends).worker()
    made = training.asked(worker)
    worker.train()
    training.world.trainer.lose(training_of(made.id, 1))
    ended = until_ended(training, worker, made)
    assert ended.status is Status.FAILED
    assert "without a trace" in ended.reason


def test_what_ran_and_of_which_nothing_is_left_is_not_started_again(training):
    worker = training.runs(never_ends).worker()
    made = training.asked(worker)
    worker.train()
    training.runs(never_ends)  # a trainer that knows nothing of it
    heir = training.worker()
    worker.die()
    ended = until_ended(training, heir, made)
    assert ended.status is Status.FAILED
    assert "Nothing is left of the training" in ended.reason
    assert "start" not in training.effects()


def test_much_news_is_heard_in_several_passes(training, monkeypatch):
    monkeypatch.setattr(conducting, "MOST_PARTS", 1)

    def script(run):
        yield
        run.log(1, score=1.0)
        run.checkpoint(1, training.bundle())

    worker = training.runs(script).worker()
    made = training.asked(worker)
    assert until_ended(training, worker, made).status is Status.SUCCEEDED
    assert len(worker.use.experiments.checkpoints(made.id)) == 1


# --- stopping ------------------------------------------------------------------------


def test_rule_07_what_is_asked_to_stop_is_told_once_and_is_stopped(training):
    def script(run):
        while not run.should_stop:
            yield
        yield
        run.log(7, score=1.0)
        run.checkpoint(7, training.bundle())

    worker = training.runs(script).worker()
    made = training.asked(worker)
    worker.train()
    worker.use.training.stop(made.id)
    assert until_ended(training, worker, made).status is Status.STOPPED
    assert training.effects().count("stop") == 1
    assert [c.step for c in worker.use.experiments.checkpoints(made.id)] == [7]


def test_what_takes_its_time_to_end_is_not_told_again(training):
    def script(run):
        for _ in range(5):
            yield run

    @define
    class Counting(Full):
        stops: int = 0

        def stop(self, run_id):
            self.stops += 1
            self._trainer.stop(run_id)

    worker = training.runs(script).worker()
    made = training.asked(worker)
    worker.train()
    counting = Counting(training.world.trainer)
    with_trainer(worker, counting)
    worker.use.training.stop(made.id)
    until_ended(training, worker, made)
    assert counting.stops == 1


def test_rule_07_what_ended_by_itself_before_it_was_told_is_stopped(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    worker.train()
    worker.use.training.stop(made.id)
    training.world.trainer.look(training_of(made.id, 1))
    assert until_ended(training, worker, made).status is Status.STOPPED


def test_rule_07_what_fails_while_it_is_to_stop_has_failed(training):
    def script(run):
        yield run
        raise SystemExit(3)

    worker = training.runs(script).worker()
    made = training.asked(worker)
    worker.train()
    worker.use.training.stop(made.id)
    training.world.trainer.look(training_of(made.id, 1))
    assert until_ended(training, worker, made).status is Status.FAILED


def test_rule_07_what_is_gone_while_it_is_to_stop_is_stopped(training):
    worker = training.runs(never_ends).worker()
    made = training.asked(worker)
    worker.train()
    training.world.trainer.lose(training_of(made.id, 1))
    worker.use.training.stop(made.id)
    assert until_ended(training, worker, made).status is Status.STOPPED


def test_what_is_made_to_end_by_somebody_else_has_failed(training):
    worker = training.runs(never_ends).worker()
    made = training.asked(worker)
    worker.train()
    training.world.trainer.stop(training_of(made.id, 1))
    ended = until_ended(training, worker, made)
    assert ended.status is Status.FAILED
    assert "nobody had asked for that" in ended.reason


def test_rule_07_what_could_not_be_started_yet_is_never_started_after_a_stop(training):
    worker = training.runs(never_ends).worker()
    made = training.asked(worker)
    full = Full(training.world.trainer)
    with_trainer(worker, full)
    worker.train()
    worker.use.training.stop(made.id)
    training.world.wait(SECOND)
    assert until_ended(training, worker, made).status is Status.STOPPED
    assert training.effects() == ["tidy"]


# --- what goes wrong ------------------------------------------------------------------


@define
class Full:
    """A trainer that has no space to start anything, for a number of times."""

    _trainer: MemoryTrainer
    times: int = 99
    error: Exception = field(factory=lambda: StorageFull("No space is left."))

    def __getattr__(self, name):
        return getattr(self._trainer, name)

    def start(self, order, lay_out):
        if self.times:
            self.times -= 1
            raise self.error
        self._trainer.start(order, lay_out)


@define
class Forgetful(Full):
    """A trainer that starts what it is told to, and then says that it could not."""

    def start(self, order, lay_out):
        self._trainer.start(order, lay_out)
        raise StorageFull("As if the process had died.")


def with_trainer(worker, trainer):
    """Let the worker use another trainer from now on."""
    object.__setattr__(worker.core, "trainer", trainer)


def test_what_cannot_be_started_now_is_tried_again_after_growing_pauses(
    training, caplog
):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    with_trainer(worker, Full(training.world.trainer, times=2))
    worker.train()
    [aside] = worker.trainings.set_aside.values()
    assert (aside.reason, aside.failures) == ("No space is left.", 1)
    assert f"The training of {made.id} has to wait: No space is left." in caplog.text
    worker.train()
    training.world.wait(SECOND)
    worker.train()
    [aside] = worker.trainings.set_aside.values()
    assert (aside.failures, aside.not_before) == (2, training.world.now + 2 * SECOND)
    training.world.wait(2 * SECOND)
    assert until_ended(training, worker, made).status is Status.SUCCEEDED
    assert worker.trainings.set_aside == {}


def test_what_is_stopped_before_it_has_begun_can_be_begun_by_nobody_any_more(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    with_trainer(worker, Full(training.world.trainer))
    worker.train()
    late = order_of(worker.use.session.find(experiment.KIND, made.id).state)
    worker.use.training.stop(made.id)
    training.world.wait(SECOND)
    assert until_ended(training, worker, made).status is Status.STOPPED
    training.world.trainer.start(late, lambda _: None)
    assert "start" not in training.effects(), "whoever was slow comes too late"


def test_a_defect_in_one_training_does_not_stop_the_others(training, caplog):
    worker = training.runs(nothing).worker()
    broken, fine = training.asked(worker), training.asked(worker)
    with_trainer(worker, Full(training.world.trainer, 1, RuntimeError("a defect")))
    assert until_ended(training, worker, fine).status is Status.SUCCEEDED
    assert state_of(worker, broken).status is Status.PENDING
    assert "met a defect" in caplog.text
    training.world.wait(SECOND)
    assert until_ended(training, worker, broken).status is Status.SUCCEEDED


def ill(training, worker, times=99):
    """Let every start meet a defect."""
    trainer = Full(training.world.trainer, times, RuntimeError("a defect"))
    with_trainer(worker, trainer)
    return trainer


def try_often(training, worker, passes=20):
    for _ in range(passes):
        worker.train()
        training.world.wait(60 * SECOND)


def test_what_meets_a_defect_again_and_again_is_tried_no_more_but_shown(
    training, caplog
):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    trainer = ill(training, worker)
    try_often(training, worker)
    assert 99 - trainer.times == MOST_DEFECTS
    assert state_of(worker, made).status is Status.PENDING
    [(which, aside)] = worker.trainings.set_aside.items()
    assert (which, aside.is_hopeless) == (made.id, True)
    assert aside.reason == "The server met a defect: its own log says which."
    assert f"The training of {made.id} is tried no more" in caplog.text
    assert worker.trainings.look_again_s() == 1.0, "it is not listened to"


def test_what_is_tried_no_more_is_tried_again_once_something_else_is_asked_of_it(
    training,
):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    trainer = ill(training, worker)
    try_often(training, worker)
    trainer.times = 0
    try_often(training, worker)
    assert state_of(worker, made).status is Status.PENDING
    worker.use.training.stop(made.id)
    assert until_ended(training, worker, made).status is Status.STOPPED
    assert worker.trainings.set_aside == {}


def test_what_is_tried_no_more_takes_no_place_of_others(training):
    worker = training.runs(nothing).worker()
    worker.trainings._most = 1
    made = training.asked(worker)
    ill(training, worker, times=MOST_DEFECTS)
    try_often(training, worker)
    fine = training.asked(worker)
    assert until_ended(training, worker, fine).status is Status.SUCCEEDED
    assert state_of(worker, made).status is Status.PENDING


def test_what_was_tried_no_more_takes_a_place_again_once_another_has_it(training):
    worker = training.runs(never_ends).worker()
    worker.trainings._most = 1
    made = training.asked(worker)
    ill(training, worker, times=MOST_DEFECTS)
    try_often(training, worker)
    training.world.wait(LEASE)
    heir = training.worker()
    heir.train()
    assert state_of(heir, made).status is Status.RUNNING
    waiting = training.asked(worker)
    worker.train()
    assert state_of(worker, waiting).status is Status.PENDING


def test_what_one_process_tries_no_more_the_next_one_tries(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    ill(training, worker)
    try_often(training, worker)
    worker.die()
    heir = training.worker()
    assert until_ended(training, heir, made).status is Status.SUCCEEDED


def test_what_may_pass_by_itself_is_tried_however_often(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    with_trainer(worker, Full(training.world.trainer, 3 * MOST_DEFECTS))
    try_often(training, worker, 3 * MOST_DEFECTS)
    assert until_ended(training, worker, made).status is Status.SUCCEEDED


def test_a_defect_after_much_that_passed_is_not_the_last_one(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    trainer = Full(training.world.trainer, MOST_DEFECTS)
    with_trainer(worker, trainer)
    try_often(training, worker, MOST_DEFECTS)
    trainer.times, trainer.error = 1, RuntimeError("a defect")
    try_often(training, worker, 2)
    assert until_ended(training, worker, made).status is Status.SUCCEEDED


def test_what_cannot_even_be_claimed_takes_no_place_of_others(training, monkeypatch):
    worker = training.runs(nothing).worker()
    broken, fine = [training.asked(worker).id for _ in range(2)], training.asked(worker)
    claim = worker.trainings._claim

    def claims(row):
        if row.id in broken:
            raise ZeroDivisionError
        return claim(row)

    monkeypatch.setattr(worker.trainings, "_claim", claims)
    assert until_ended(training, worker, fine).status is Status.SUCCEEDED
    assert list(worker.trainings.set_aside) == broken


def request(worker, made, **said):
    """Ask for training as no use case would."""
    change = Change(experiment, made.id, experiment.RequestTraining(**said))
    worker.core.handler.handle(CONTEXT, change)


def test_what_a_later_release_cannot_train_has_failed(training):
    worker = training.runs(nothing).worker()
    made = drafted(worker)
    # As it may stand in a log, and cannot be said any more.
    gone = experiment.ConfigureExperiment(recipe="gone")
    worker.core.handler.handle(CONTEXT, Change(experiment, made.id, gone))
    request(worker, made)
    ended = until_ended(training, worker, made)
    assert ended.status is Status.FAILED
    assert "recipe gone is not known" in ended.reason


def test_what_needs_a_bundle_that_is_gone_has_failed(training):
    worker = training.runs(nothing).worker()
    made = drafted(worker)
    request(worker, made, beginning=experiment.Beginning(weights="a" * 64))
    assert until_ended(training, worker, made).status is Status.FAILED


def test_a_program_that_somebody_has_asked_for_over_http_is_not_run(training):
    worker = training.runs(nothing).worker()
    operator = worker.application.on_behalf_of(LIBRARIAN)
    project = operator.projects.create("carts").id
    said = {"recipe": "command", "config": {"argv": ["rm"]}}
    made = operator.experiments.create(
        project, name="ppo", algorithm="PPO", source=CARTPOLE, **said
    )
    request(worker, made)
    ended = until_ended(training, worker, made)
    assert "ARENA_ALLOW_COMMANDS" in ended.reason
    assert "start" not in training.effects()


LIBRARIAN = arena_core.Caller(
    CONTEXT.organisation,
    arena_core.Actor(arena_core.ActorKind.OPERATOR, "root"),
    arena_core.Role.MANAGER,
)


def drafted(worker, **said):
    project = worker.use.projects.create("carts").id
    said = {"name": "ppo", "algorithm": "PPO", "source": CARTPOLE} | said
    return worker.use.experiments.create(project, **said)


# --- several workers -----------------------------------------------------------------


def test_the_trainings_of_the_dead_are_taken_on_as_they_are(training):
    def script(run):
        run.log(1, score=1.0)
        run.checkpoint(1, training.bundle())
        yield
        run.log(2, score=2.0)
        run.checkpoint(2, training.bundle())
        yield

    dead, heir = training.runs(script).worker(), training.worker()
    made = training.asked(dead)
    dead.train()
    heir.train()
    assert training.log().count("training_claimed") == 1
    dead.die()
    assert until_ended(training, heir, made).status is Status.SUCCEEDED
    assert training.effects().count("start") == 1
    assert "start again" not in training.effects()
    lost = [
        r.event.lost
        for r in heir.core.store.read(made.id)
        if r.name.endswith("claimed")
    ]
    assert lost == [None, dead.id]
    assert [c.step for c in heir.use.experiments.checkpoints(made.id)] == [1, 2]


def test_who_hangs_for_longer_than_its_lease_comes_too_late(training):
    hung, heir = training.runs(never_ends).worker(), training.worker()
    made = training.asked(hung)
    hung.train()
    training.world.wait(LEASE)
    heir.train()
    heir.core.views.catch_up()
    row = heir.core.views.rows.get(made.id)
    assert row.state.training.claim.worker == heir.id
    # The pass that it had begun goes on: nothing of it is believed.
    conducted = hung.trainings._conducted[made.id]
    before = training.log()
    hung.trainings._attend(conducted.row)
    hung.train()
    assert training.log() == before
    assert hung.trainings.look_again_s() == 1.0


def test_what_who_hangs_has_heard_is_of_its_own_training_whoever_trains_by_then(
    training,
):
    def script(run):
        run.log(1, fitness=1.0)
        yield
        run.checkpoint(1, training.bundle())

    hung, heir = training.runs(script).worker(), training.worker()
    made = training.asked(hung)
    hung.train()
    conducted = hung.trainings._conducted[made.id]
    training.world.wait(LEASE)
    until_ended(training, heir, made)
    heir.use.training.train(made.id)
    until_ended(training, heir, made)
    conducted._measured([MetricPoint(1, "fitness", 9.0)])
    found = heir.core.metrics.since(made.id, 0, limit=9)
    told = [(each.origin.training, each.point.value) for each in found]
    assert list(dict.fromkeys(told)) == [(1, 1.0), (2, 1.0), (1, 9.0)]
    assert {each.origin.source for each in found} == {Source.TRAINING}
    assert [p.value for p in heir.use.experiments.metrics(made.id)] == [1.0]
    (checkpoint,) = heir.use.experiments.checkpoints(made.id)
    assert checkpoint.evaluation_score == 1.0


def test_a_worker_forgets_what_another_has_taken_over(training):
    hung, heir = training.runs(never_ends).worker(), training.worker()
    training.asked(hung)
    hung.train()
    training.world.wait(LEASE)
    heir.train()
    hung.train()
    assert hung.trainings.look_again_s() == 1.0
    assert heir.trainings.look_again_s() < 0.1


def test_a_lease_is_renewed_in_time_and_what_was_decided_is_remembered(training):
    def script(run):
        (run.folder / "metrics.jsonl").write_text("{\n")
        while True:
            yield

    worker = training.runs(script).worker()
    made = training.asked(worker)
    worker.train(2)
    claims = training.log().count("training_claimed")
    training.world.wait(LEASE / 2)
    worker.train()
    assert training.log().count("training_claimed") == claims + 1
    assert "Line 1 of" in until_ended(training, worker, made).reason


def test_only_so_many_are_trained_at_the_same_time_over_all_workers(training):
    one, other = training.runs(never_ends).worker(), training.worker()
    for _ in range(3):
        training.asked(one)
    one.train()
    other.train()
    assert training.effects() == ["start", "start"]
    assert training.log().count("training_claimed") == 2


def test_organisations_take_turns(training):
    worker = training.runs(never_ends).worker()
    for _ in range(3):
        training.asked(worker)
    rival = training.asked(worker, organisation="rivals")
    worker.train()
    started = {effect.run_id for effect in training.world.trainer.ledger}
    assert training_of(rival.id, 1) in started
    assert len(started) == 2


def test_of_organisations_that_have_as_many_the_one_that_came_first_is_next(training):
    worker = training.runs(never_ends).worker()
    worker.trainings._most = 3
    asked = [
        training.asked(worker, organisation=organisation)
        for organisation in ("default", "rivals", "rivals", "default")
    ]
    worker.train()
    started = {effect.run_id for effect in training.world.trainer.ledger}
    assert started == {training_of(each.id, 1) for each in asked[:3]}


def test_what_ends_all_who_see_to_it_is_given_up(training, monkeypatch):
    monkeypatch.setattr(training_loop, "MOST_LOSSES", 2)
    worker = training.runs(never_ends).worker()
    made = training.asked(worker)
    for _ in range(3):
        worker.train()
        worker.die()
        worker = training.worker()
    ended = until_ended(training, worker, made)
    assert ended.status is Status.FAILED
    assert "Gave up: 3 processes" in ended.reason
    assert MOST_LOSSES == 100


def test_who_is_told_to_stop_begins_nothing_more(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    worker.trainings.stop()
    worker.trainings.stop()
    worker.train()
    assert state_of(worker, made).status is Status.PENDING
    assert training.effects() == []


def test_nothing_is_done_while_the_log_cannot_be_read(training):
    worker = training.runs(nothing).worker()
    training.asked(worker)
    worker.train()
    training.asked(worker)
    before = training.log()
    worker.core.views.halted = object()
    worker.train(3)
    assert training.log() == before
    assert training.effects() == ["start"]


# --- what is left --------------------------------------------------------------------


def test_what_is_left_of_deleted_experiments_is_removed(training):
    worker = training.runs(nothing).worker()
    made = training.asked(worker)
    until_ended(training, worker, made)
    worker.use.training.train(made.id)
    until_ended(training, worker, made)
    worker.use.experiments.delete(made.id)
    worker.train()
    gone = [e.run_id for e in training.world.trainer.ledger if e.what == "discard"]
    assert set(gone) == {training_of(made.id, 1), training_of(made.id, 2)}
    drafted_only = drafted(worker)
    worker.use.experiments.delete(drafted_only.id)
    worker.train()
    assert training.effects().count("discard") == 2


def test_who_begins_tidies_up_what_others_have_left(training):
    worker = training.runs(nothing).worker()
    until_ended(training, worker, training.asked(worker))
    drafted(worker)
    before = training.effects().count("tidy")
    training.worker().train()
    assert training.effects().count("tidy") == before + 1


def test_who_resumes_is_given_what_was_kept_beside_the_checkpoint(training):
    found = []

    def script(run):
        state = None if run.resume is None else run.resume.state
        found.append(state and (state / "said").read_text())
        run.checkpoint(
            run.first_step + 10,
            training.bundle(),
            state=lambda place: (place / "said").write_text(f"{run.first_step}"),
        )
        yield

    worker = training.runs(script).worker()
    made = training.asked(worker)
    until_ended(training, worker, made)
    for _ in range(2):
        worker.use.training.resume(made.id)
        until_ended(training, worker, made)
    assert found == [None, "0", "10"]


def test_of_an_experiment_the_state_beside_its_last_checkpoint_stays(training):
    def script(run):
        step = run.first_step + 10
        run.checkpoint(step, training.bundle(), state=training.bundle())
        # As if it died between a state and its checkpoint.
        shutil.copytree(
            run.folder / f"states/{step}", run.folder / f"states/{step + 1}"
        )
        yield

    def states():
        runs = [
            training.world.trainer.home / str(training_of(made.id, number))
            for number in (1, 2, 3)
        ]
        return [[p.name for p in run.glob("run/states/*")] for run in runs]

    worker = training.runs(script).worker()
    made = training.asked(worker)
    until_ended(training, worker, made)
    worker.use.training.resume(made.id)
    until_ended(training, worker, made)
    assert states() == [[], ["20"], []]
    worker.use.training.resume(made.id)
    worker.train()
    worker.die()
    tidied = training.world.trainer
    until_ended(training, training.worker(), made)
    assert states() == [[], [], ["30"]]
    (tidied.home / str(training_of(made.id, 1)) / "run" / "states").mkdir(parents=True)
    training.worker().train()
    assert not (tidied.home / str(training_of(made.id, 1)) / "run").exists()


def test_what_cannot_be_tidied_up_is_told_and_left(training, caplog):
    worker = training.runs(nothing).worker()
    until_ended(training, worker, training.asked(worker))
    other = training.worker()

    @define
    class Stuck(Full):
        def tidy(self, run_ids, resumable):  # noqa: ARG002 -- as the port has it
            raise StorageFull("No space is left.")

    stuck = Stuck(training.world.trainer)
    other.trainings._trainer = stuck
    other.train()
    assert "stays: No space is left." in caplog.text


# --- orders --------------------------------------------------------------------------


def test_an_order_says_all_that_a_training_needs(training):
    worker = training.worker()
    made = drafted(worker, config={"seed": 9})
    request(worker, made, max_steps=50)
    worker.core.views.catch_up()
    state = worker.core.views.rows.get(made.id).state
    order = order_of(state)
    assert (order.recipe, order.seed, order.max_steps) == ("sb3", 9, 50)
    assert order.run_id == training_of(made.id, 1)
    assert bundles_of(state) == {}


def test_a_seed_that_was_asked_for_outweighs_that_of_the_settings(training):
    worker = training.worker()
    made = drafted(worker, config={"seed": 9})
    request(worker, made, beginning=experiment.Beginning("a" * 64, "b" * 64, 4))
    worker.core.views.catch_up()
    state = worker.core.views.rows.get(made.id).state
    assert order_of(state).seed == 4
    assert bundles_of(state) == {"start": "a" * 64, "decoder": "b" * 64}


STEPS = {"config": {"total_steps": 500}}
EPOCHS = {
    "algorithm": "Supervised",
    "source": dataset("iris"),
    "config": {"epochs": 500},
}


@pytest.mark.parametrize(
    ("setup", "asked", "resumed", "last"),
    [
        (STEPS, None, None, 500),
        (EPOCHS, None, None, 500),
        (STEPS, 50, None, 50),
        (STEPS, None, 499, 500),
        (STEPS, None, 500, None),
    ],
)
def test_the_last_step_is_that_of_the_settings_unless_another_was_asked_for(
    training, setup, asked, resumed, last
):
    worker = training.worker()
    made = drafted(worker, **setup)
    digest = None if resumed is None else "a" * 64
    request(worker, made, max_steps=asked, resume_step=resumed, resume_digest=digest)
    worker.core.views.catch_up()
    assert order_of(worker.core.views.rows.get(made.id).state).max_steps == last


def test_there_is_no_order_of_what_nobody_asked_for(training):
    worker = training.worker()
    made = drafted(worker)
    state = worker.core.views.rows.get(made.id).state
    with pytest.raises(Rejected, match="ask for one"):
        order_of(state)
    assert bundles_of(state) == {}


def test_a_training_that_goes_on_is_given_the_bundle_that_it_goes_on_from(training):
    seen = []

    def script(run):
        seen.append(
            run.resume
            and (
                run.resume.step,
                sorted(path.name for path in run.resume.bundle.iterdir()),
            )
        )
        run.log(run.first_step + 1, score=1.0)
        run.checkpoint(run.first_step + 1, training.bundle())
        yield

    worker = training.runs(script).worker()
    made = training.asked(worker)
    until_ended(training, worker, made)
    worker.use.training.resume(made.id)
    until_ended(training, worker, made)
    written = worker.use.experiments.checkpoints(made.id)
    names = sorted(worker.core.blobs.sizes(written[0].digest))
    assert seen == [None, (1, names)]
    assert [c.step for c in written] == [1, 2]


def test_points_are_recorded_before_the_checkpoint_that_they_are_about(training):
    """Whoever dies in between leaves points without a checkpoint, not the reverse."""

    def script(run):
        run.log(1, fitness=1.0)
        run.checkpoint(1, training.bundle())
        yield

    worker = training.runs(script).worker()
    made = training.asked(worker)
    seen = []

    @define
    class Watched:
        handler: object

        def handle(self, context, *changes, **said):
            names = [type(change.command).__name__ for change in changes]
            if "RecordTrainedCheckpoint" in names:
                seen.extend(worker.core.metrics.since(made.id, 0, limit=9))
                assert "acknowledge" not in training.effects()
            return self.handler.handle(context, *changes, **said)

    object.__setattr__(worker.core, "handler", Watched(worker.core.handler))
    until_ended(training, worker, made)
    assert [each.point for each in seen] == [MetricPoint(1, "fitness", 1.0)]
