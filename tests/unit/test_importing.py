"""Workers that share a store: what is to be imported is converted, once."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from attrs import evolve as but
from attrs import frozen

from arena_core import MetricPoint, best, final
from arena_core.application import supervision
from arena_core.application.conversion import Format, Options
from arena_core.application.handling import Change, Handler
from arena_core.application.importing import LEASE, MOST_ATTEMPTS, TRY_AGAIN
from arena_core.application.imports import ordered
from arena_core.application.views import Halt
from arena_core.domain import checkpoint_import
from arena_core.domain.checkpoint_import import (
    ClaimImport,
    ImportSucceeded,
    Status,
    SucceedImport,
)
from arena_core.domain.errors import Rejected, StorageFull, Unavailable
from arena_core.domain.experiment import RequestTraining
from arena_core.domain.ids import ImportId
from unit.by_hand import Training
from unit.scenes import CARTPOLE, CONTEXT, STRANGER
from unit.workers import World

import bundles

FOREIGN = b"\x80\x04 whatever training has saved"


@pytest.fixture
def world():
    return World()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(supervision, "LOOK_AGAIN_S", 0.01)


@pytest.fixture
def ann(world):
    return world.worker()


@pytest.fixture
def bob(world):
    return world.worker()


@pytest.fixture
def made(ann):
    """The experiment that all is imported into."""
    project = ann.use.projects.create("carts")
    return ann.use.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=CARTPOLE
    )


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "ppo_cartpole.zip"
    path.write_bytes(FOREIGN)
    return path


@pytest.fixture
def ask(ann, made, model):
    """Return what asks for an import into the experiment."""

    def ask(step=10, *, path=model, worker=ann, **said):
        beside = {k: said.pop(k) for k in ("spaces", "statistics") if k in said}
        order = ordered(format=said.pop("format", "sb3"), step=step, **said)
        return worker.use.imports.request(made.id, path, order, **beside)

    return ask


def now(worker, asked):
    return worker.use.imports.get(asked.id)


def steps(worker, made):
    return [c.step for c in worker.use.experiments.checkpoints(made.id)]


def recorded(world, name):
    return [r for r in world.store.read_all() if r.name == name]


class KilledError(BaseException):
    """The end of a process: nothing catches it."""


def crash(_):
    raise KilledError


# --- one of many -------------------------------------------------------------------


def test_what_is_asked_for_becomes_a_checkpoint_and_the_log_says_how(
    world, ann, made, ask
):
    asked = ask()
    assert (asked.status, asked.doing, asked.ended_at) == (Status.PENDING, None, None)
    ann.import_()
    ended = now(ann, asked)
    (checkpoint,) = ann.use.experiments.checkpoints(made.id)
    assert (ended.status, ended.digest) == (Status.SUCCEEDED, checkpoint.digest)
    assert checkpoint.step == 10
    assert ended.ended_at is not None
    assert world.log("import") == ["requested", "claimed", "succeeded"]
    *_, succeeded, written = world.store.read_all()
    assert succeeded.event == ImportSucceeded(ann.id, checkpoint.digest)
    assert written.name == "experiment.checkpoint_written"
    assert succeeded.context == written.context, "in one transaction"


def test_the_log_says_who_wanted_it_and_by_whose_hand_it_was_done(world, ann, ask):
    ask()
    ann.import_()
    (asked,) = recorded(world, "import.requested")
    assert str(asked.context.actor) == "user:ann"
    for name in ("import.claimed", "import.succeeded", "experiment.checkpoint_written"):
        (done,) = recorded(world, name)
        assert str(done.context.actor) == "system:importer"
        assert done.context.causation_id == asked.event_id
        assert done.context.correlation_id == asked.context.correlation_id


def test_the_converter_gets_the_very_files_and_what_was_declared(ann, ask, tmp_path):
    statistics = tmp_path / "vecnormalize.pkl"
    statistics.write_bytes(b"means")
    ask(
        spaces={"action_space": None},
        statistics=statistics,
        format="agilerl",
        algorithm="Rainbow DQN",
        channels_last=True,
    )
    ann.import_()
    files = {
        "model": FOREIGN,
        "spaces.json": b'{"action_space":null}',
        "statistics": b"means",
    }
    assert ann.converter.orders == [
        (Format.AGILERL, files, Options("Rainbow DQN", channels_last=True))
    ]


def test_the_scores_are_metrics_once_it_has_succeeded(world, ann, made, ask):
    ask(score=1.5, fitness=2.5)
    assert ann.use.experiments.metrics(made.id) == []
    ann.import_()
    (checkpoint,) = ann.use.experiments.checkpoints(made.id)
    assert (checkpoint.training_score, checkpoint.evaluation_score) == (1.5, 2.5)
    (written,) = recorded(world, "experiment.checkpoint_written")
    past = ann.application.on_behalf_of(
        ann.use.session.caller, as_of=written.position
    ).experiments.checkpoints(made.id)
    assert past == [checkpoint], "with the checkpoint, not after it"


def test_a_checkpoint_is_never_seen_without_the_scores_that_came_with_it(
    world, ann, bob, made, ask
):
    ask(10, score=1.5, fitness=2.5)
    ask(20, fitness=1.0)
    ann.import_()
    assert world.metrics.since(made.id, 0, limit=9) == [], "the event holds them"
    for position in range(world.store.head() + 1):
        past = bob.application.on_behalf_of(bob.use.session.caller, as_of=position)
        if made.id not in {found.id for found in past.experiments.list()}:
            continue
        seen = {
            c.step: (c.training_score, c.evaluation_score)
            for c in past.experiments.checkpoints(made.id)
        }
        assert seen.items() <= {10: (1.5, 2.5), 20: (None, 1.0)}.items()
    assert len(seen) == 2
    agent = bob.use.agents.create("one", made.id, checkpoint=best())
    assert agent.checkpoint.step == 10


def test_the_scores_of_imports_are_among_the_metrics_where_they_belong(ann, made, ask):
    ask(10, score=1.5, fitness=2.5)
    ann.import_()
    ann.use.experiments.add_metrics(
        made.id,
        [MetricPoint(10, "loss", 0.1), MetricPoint(5, "score", 1.0)],
    )
    points = ann.use.experiments.metrics(made.id)
    assert [(p.step, p.name, p.value) for p in points] == [
        (5, "score", 1.0), (10, "fitness", 2.5), (10, "loss", 0.1), (10, "score", 1.5),
    ]  # fmt: skip
    named = ann.use.experiments.metrics(made.id, names=["score"])
    assert [(p.step, p.value) for p in named] == [(5, 1.0), (10, 1.5)]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_pages_of_metrics_have_the_scores_of_imports_where_they_belong(
    ann, made, ask, limit
):
    ask(10, score=1.5, fitness=2.5)
    ask(20, fitness=3.0)
    ann.import_()
    ann.import_()
    measured = [MetricPoint(s, n, 0.5) for s in (5, 10, 15, 20) for n in ("a", "score")]
    ann.use.experiments.add_metrics(made.id, measured)
    found, after = [], None
    while page := ann.use.measurements.points(made.id, after=after, limit=limit):
        assert len(page) <= limit
        assert after is None or (page[0].step, page[0].name) > after
        found += page
        after = page[-1].step, page[-1].name
    assert found == ann.use.experiments.metrics(made.id)
    assert [(p.step, p.value) for p in found if p.name == "fitness"] == [
        (10, 2.5), (20, 3.0),
    ]  # fmt: skip


def test_the_score_of_an_import_is_the_latest_unless_another_was_measured(
    ann, made, ask
):
    ask(10, score=1.5, fitness=2.5)
    ann.import_()
    ann.use.experiments.add_metrics(
        made.id, [MetricPoint(10, "score", 1.0), MetricPoint(5, "fitness", 9.0)]
    )
    assert [(p.name, p.step, p.value) for p in ann.use.training.latest(made.id)] == [
        ("fitness", 10, 2.5), ("score", 10, 1.0),
    ]  # fmt: skip
    (only,) = ann.use.measurements.latest(made.id, names=["fitness"])
    assert only.value == 2.5
    ann.use.experiments.add_metrics(made.id, [MetricPoint(11, "fitness", 0.5)])
    assert ann.use.training.latest(made.id)[0].value == 0.5


def test_the_scores_of_an_import_go_with_its_checkpoint(ann, made, ask, tmp_path):
    ask(10, fitness=2.5)
    ann.import_()
    assert ann.use.experiments.metrics(made.id)
    ann.use.experiments.delete_checkpoint(made.id, 10)
    assert not ann.use.experiments.metrics(made.id)
    network = bundles.Network.of(4, 2, seed=7)
    other = bundles.cartpole(tmp_path / "other", network=network)
    added = ann.use.experiments.add_checkpoint(made.id, step=10, path=other)
    assert added.evaluation_score is None


def test_what_is_trained_anew_hides_the_scores_of_imports(ann, made, ask):
    ask(10, fitness=2.5)
    ann.import_()
    (imported,) = ann.use.experiments.checkpoints(made.id)
    training = Training(ann.core, made.id)
    training.do(RequestTraining())
    training.begin()
    assert ann.use.experiments.checkpoints(made.id) == [imported]
    assert [p.value for p in ann.use.experiments.metrics(made.id)] == [2.5]
    training.write(10, imported.digest)
    (trained,) = ann.use.experiments.checkpoints(made.id)
    assert trained.evaluation_score is None, "though the weights are the same"
    assert not ann.use.experiments.metrics(made.id)


def test_what_is_resumed_goes_on_from_the_scores_of_an_import(ann, made, ask):
    ask(10, fitness=2.5)
    ask(20, fitness=3.5)
    ann.import_(2)
    training = Training(ann.core, made.id)
    training.do(RequestTraining())
    training.begin()
    training.fail("It crashed.")
    training.do(RequestTraining(10))
    training.begin()
    training.write(30, "a" * 64)
    assert [p.step for p in ann.use.experiments.metrics(made.id)] == [10]
    scores = [c.evaluation_score for c in ann.use.experiments.checkpoints(made.id)]
    assert scores == [2.5, 3.5, None]


def test_scores_of_what_has_not_succeeded_count_for_nothing(ann, made, ask):
    def fail(_):
        raise Rejected("No.")

    ann.converter.during = fail
    ask(10, fitness=2.5)
    ann.import_()
    ask(10, fitness=3.5)
    assert ann.use.experiments.metrics(made.id) == []


def test_of_several_imports_of_one_step_the_last_score_counts(ann, made, ask):
    ask(10, fitness=2.5)
    ask(10, fitness=3.5)
    ask(10, score=1.0)
    ann.import_()
    (checkpoint,) = ann.use.experiments.checkpoints(made.id)
    assert (checkpoint.training_score, checkpoint.evaluation_score) == (1.0, 3.5)


def test_a_score_that_was_measured_since_is_not_overwritten(ann, bob, made, ask):
    ask(fitness=2.5)
    ann.import_()
    ann.use.experiments.add_metrics(made.id, [MetricPoint(10, "fitness", 3.5)])
    bob.import_()
    (checkpoint,) = bob.use.experiments.checkpoints(made.id)
    assert checkpoint.evaluation_score == 3.5


def test_only_one_of_two_workers_converts(world, ann, bob, ask):
    ask()
    ann.converter.during = lambda _: bob.import_()
    ann.import_()
    assert (len(ann.converter.orders), len(bob.converter.orders)) == (1, 0)
    assert world.log("import").count("claimed") == 1


def test_of_workers_that_race_for_it_one_converts(world, ask):
    asked = [ask(step) for step in (1, 2, 3)]
    workers = [world.worker() for _ in range(4)]
    start = threading.Barrier(len(workers))

    def race(worker):
        start.wait(60)
        worker.import_()

    threads = [threading.Thread(target=race, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert world.log("import").count("claimed") == len(asked)
    assert world.log("experiment").count("checkpoint_written") == len(asked)
    assert sum(len(worker.converter.orders) for worker in workers) == len(asked)


def test_what_is_asked_for_twice_is_written_once(world, ann, made, ask):
    first, second = ask(), ask()
    ann.import_()
    assert [now(ann, asked).status for asked in (first, second)] == [
        Status.SUCCEEDED
    ] * 2
    assert world.log("experiment").count("checkpoint_written") == 1
    assert steps(ann, made) == [10]


def test_what_has_ended_is_not_looked_at_again(ann, ask, monkeypatch):
    looked = []
    find = ann.core.views.rows.find

    def finding(query):
        found = find(query)
        if query.organisation is None:  # the importer's, not one of those who ask
            looked.append(found)
        return found

    monkeypatch.setattr(ann.core.views.rows, "find", finding)
    for step in (1, 2):
        ask(step)
        ann.import_(2)
    assert [len(rows) for rows in looked] == [1, 1, 0, 1, 1, 0]
    ann.import_()
    assert looked[-1] == []


def test_an_open_import_is_not_lost_behind_one_that_has_ended(ann, bob, made, ask):
    ask(1)

    def meanwhile(_):
        ask(2)
        bob.import_()

    ann.converter.during = meanwhile
    ann.import_()
    assert steps(ann, made) == [1, 2]


def test_organisations_take_turns_whoever_has_asked_for_more(ann, ask, model):
    theirs = ann.application.on_behalf_of(STRANGER)
    project = theirs.projects.create("rivals")
    rival = theirs.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=CARTPOLE
    )
    mine = [ask(step) for step in (1, 2, 3)]
    begun = []

    def ask_too(_):
        began = [now(ann, it) for it in mine]
        begun.append([it.status is not Status.PENDING for it in began])
        if len(begun) == 1:
            order = ordered(format="sb3", step=1)
            theirs.imports.request(rival.id, model, order)

    ann.converter.during = ask_too
    ann.import_()
    assert begun == [
        [True, False, False],
        [True, False, False],  # theirs
        [True, True, False],
        [True, True, True],
    ]


# --- who is gone -------------------------------------------------------------------


def test_a_claim_whose_worker_is_gone_is_taken_over_at_once(world, ann, bob, ask):
    asked = ask()
    ann.converter.during = crash
    with pytest.raises(KilledError):
        ann.import_()
    bob.import_()
    assert bob.converter.orders == [], "its holder is alive and has a lease"

    world.presence.withdraw(ann.id)
    bob.import_()
    waiting = now(bob, asked)
    assert waiting.status is Status.PENDING
    assert waiting.reason == "The process that converted it has ended."
    bob.import_()

    assert now(bob, asked).status is Status.SUCCEEDED
    claims = recorded(world, "import.claimed")
    assert [c.event.worker for c in claims] == [ann.id, bob.id]
    assert world.now < claims[0].event.lease_until


def test_what_a_zombie_brings_is_refused(world, ann, bob, made, ask):
    asked = ask()

    def taken_over(_):
        world.wait(LEASE)
        bob.import_()

    ann.converter.during = taken_over
    ann.import_()

    assert now(ann, asked).status is Status.SUCCEEDED
    assert steps(ann, made) == [10]
    (succeeded,) = recorded(world, "import.succeeded")
    assert succeeded.event.worker == bob.id
    assert world.log("experiment").count("checkpoint_written") == 1


def test_a_zombie_is_refused_at_the_last_moment_too(world, ann, bob, ask):
    """Its claim may be taken over after it has looked for the last time."""
    ask(score=1.0)

    def taken_over():
        ann.importer._core = ann.core
        world.wait(LEASE)
        bob.converter.write = lambda folder: bundles.cartpole(folder, with_golden=False)
        bob.import_()

    at_the_last_moment(ann, taken_over)
    ann.import_()
    assert world.log("import").count("succeeded") == 1
    assert "failed" not in world.log("import")
    (written,) = recorded(world, "experiment.checkpoint_written")
    (succeeded,) = recorded(world, "import.succeeded")
    assert succeeded.event == ImportSucceeded(bob.id, written.event.digest)


def at_the_last_moment(worker, hook):
    """Let `hook` be called just before a success is recorded."""
    before(worker, SucceedImport, hook)


def before(worker, command, hook):
    """Let `hook` be called just before such a command of the worker is handled."""
    worker.importer._core = but(
        worker.core, handler=_Handling(worker.core.handler, command, hook)
    )


@frozen
class _Handling:
    handler: Handler
    command: type
    hook: Callable

    def handle(self, context, *changes):
        if isinstance(changes[0].command, self.command):
            self.hook()
        return self.handler.handle(context, *changes)


def test_what_fails_for_a_zombie_fails_nothing(world, ann, bob, ask):
    asked = ask()

    def taken_over(_):
        world.wait(LEASE)
        bob.import_()
        raise Rejected("It took too long.")

    ann.converter.during = taken_over
    ann.import_()
    assert now(bob, asked).status is Status.SUCCEEDED
    assert "failed" not in world.log("import")


def test_a_defect_is_met_again_a_few_times_and_then_given_up(world, ann, ask):
    asked = ask()

    def defect(_):
        raise RuntimeError("defect")

    ann.converter.during = defect
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(RuntimeError, match="defect"):
            ann.import_()
        assert now(ann, asked).status is Status.RUNNING
        ann.import_()
    ann.import_(2)
    ended = now(ann, asked)
    assert ended.status is Status.FAILED
    assert ended.reason == (
        "Gave up: 5 attempts to convert it did not end. "
        "The process that converted it has ended."
    )
    assert len(ann.converter.orders) == MOST_ATTEMPTS
    assert world.log("import").count("claimed") == MOST_ATTEMPTS + 1


def test_workers_that_die_of_it_one_after_the_other_end_in_failed(world, ann, ask):
    asked = ask()
    for _ in range(MOST_ATTEMPTS):
        victim = world.worker()
        victim.converter.during = crash
        with pytest.raises(KilledError):
            victim.import_(2)
        world.presence.withdraw(victim.id)
    ann.import_(2)
    assert now(ann, asked).status is Status.FAILED
    assert ann.converter.orders == []


@pytest.mark.parametrize("error", [Unavailable("locked."), StorageFull("full.")])
def test_what_may_succeed_later_is_tried_again_after_a_while(
    world, ann, made, ask, error
):
    asked = ask()

    def fail_once(_):
        ann.converter.during = lambda _: None
        raise error

    ann.converter.during = fail_once
    ann.import_()
    waiting = now(ann, asked)
    assert (waiting.status, waiting.reason) == (Status.PENDING, str(error))
    ann.import_()
    assert now(ann, asked).status is Status.PENDING, "not at once"
    world.wait(TRY_AGAIN)
    ann.import_()
    assert now(ann, asked).status is Status.SUCCEEDED
    assert steps(ann, made) == [10]


def test_what_never_succeeds_is_given_up_with_the_reason(world, ann, ask):
    asked = ask()

    def full(_):
        raise StorageFull("No space is left.")

    ann.converter.during = full
    for _ in range(MOST_ATTEMPTS + 1):
        ann.import_()
        world.wait(MOST_ATTEMPTS * TRY_AGAIN)
    assert now(ann, asked).reason == (
        "Gave up: 5 attempts to convert it did not end. No space is left."
    )


class _Faulty:
    """A store that cannot be written to when something succeeds."""

    def __init__(self, store):
        self.store, self.faults = store, 1

    def __getattr__(self, name):
        return getattr(self.store, name)

    def append(self, writes, **said):
        ends = any(isinstance(e, ImportSucceeded) for w in writes for e in w.events)
        if ends and self.faults:
            self.faults -= 1
            raise Unavailable("The database is locked.")
        return self.store.append(writes, **said)


def test_a_success_that_cannot_be_recorded_is_made_again(world, ann, made, ask):
    asked = ask(fitness=3.0)
    faulty = Handler(_Faulty(world.store), lambda: world.now)
    ann.importer._core = but(ann.core, handler=faulty)
    ann.import_()
    assert now(ann, asked).status is Status.PENDING
    assert steps(ann, made) == []
    world.wait(TRY_AGAIN)
    ann.import_()
    assert now(ann, asked).status is Status.SUCCEEDED
    (checkpoint,) = ann.use.experiments.checkpoints(made.id)
    assert checkpoint.evaluation_score == 3.0
    assert world.log("experiment").count("checkpoint_written") == 1


# --- what cannot be ----------------------------------------------------------------


def fails(worker, asked):
    worker.import_()
    ended = now(worker, asked)
    assert ended.status is Status.FAILED
    assert ended.digest is None
    assert ended.ended_at is not None
    head = worker.core.store.head()
    worker.import_(2)
    assert worker.core.store.head() == head, "it is over"
    return ended.reason


def test_what_cannot_be_converted_fails_with_the_reason(world, ann, made, ask):
    def refuse(_):
        raise Rejected("It is a TorchScript archive: export it to ONNX.")

    ann.converter.during = refuse
    reason = fails(ann, ask(fitness=1.0))
    assert reason == "It is a TorchScript archive: export it to ONNX."
    assert steps(ann, made) == []
    assert ann.use.experiments.metrics(made.id) == []
    assert len(world.blobs._bundles) == 1, "what was handed in, and nothing else"


def test_a_bundle_that_could_not_be_served_fails(ann, ask):
    def broken(folder):
        bundles.cartpole(folder)
        bundles.write_weights(folder, bundles.Network.of(5, 2))

    ann.converter.write = broken
    assert "obs" in fails(ann, ask())


def test_a_bundle_of_another_family_fails(ann, ask):
    ann.converter.write = bundles.regressor
    assert "family supervised, the experiment of rl" in fails(ann, ask())


def test_another_checkpoint_at_the_same_step_is_not_overwritten(
    ann, made, ask, tmp_path
):
    other = bundles.cartpole(tmp_path / "other", with_golden=False)
    ann.use.experiments.add_checkpoint(made.id, step=10, path=other, fitness=1.0)
    before = ann.use.experiments.checkpoints(made.id)
    reason = fails(ann, ask(fitness=9.0))
    assert reason.startswith("Step 10 has another checkpoint already")
    assert ann.use.experiments.checkpoints(made.id) == before


def test_a_checkpoint_that_came_meanwhile_is_not_overwritten(ann, made, ask, tmp_path):
    other = bundles.cartpole(tmp_path / "other", with_golden=False)

    at_the_last_moment(
        ann,
        lambda: ann.use.experiments.add_checkpoint(made.id, step=10, path=other),
    )
    asked = ask(fitness=99.0)
    ann.import_()
    assert "another checkpoint" in now(ann, asked).reason
    (kept,) = ann.use.experiments.checkpoints(made.id)
    assert kept.evaluation_score is None, "the score was of what is not there"


@pytest.mark.parametrize("when", ["before", "during"])
def test_what_is_for_an_experiment_that_is_gone_fails(ann, made, ask, when):
    asked = ask()
    if when == "before":
        ann.use.experiments.delete(made.id)
    else:
        ann.converter.during = lambda _: ann.use.experiments.delete(made.id)
    reason = fails(ann, asked)
    assert reason == "The experiment was deleted before the import was done."
    assert len(ann.converter.orders) == (when == "during")


def test_files_that_are_gone_from_the_disk_fail_it(world, ann, ask):
    asked = ask()
    world.blobs._bundles.clear()
    assert fails(ann, asked) == "There is no such checkpoint."


def test_a_format_that_is_not_read_any_more_fails(world, ann, made, ask):
    good = ask()
    (first,) = recorded(world, "import.requested")
    old = ImportId(uuid4())
    request = checkpoint_import.RequestImport(
        old, made.id, first.event.files, checkpoint_import.Order("theano", 3)
    )
    ann.core.handler.handle(CONTEXT, Change(checkpoint_import, old, request))
    ann.import_()
    assert "theano is not known" in ann.use.imports.get(old).reason
    assert now(ann, good).status is Status.SUCCEEDED


# --- meanwhile ---------------------------------------------------------------------


def test_what_is_cancelled_before_it_began_is_not_converted(world, ann, ask):
    asked = ask()
    cancelled = ann.use.imports.cancel(asked.id, reason="the wrong file")
    assert cancelled.status is Status.CANCELLED
    ann.import_()
    assert ann.converter.orders == []
    (event,) = recorded(world, "import.cancelled")
    assert event.context.reason == "the wrong file"


def test_what_is_cancelled_as_it_begins_is_not_converted(world, ann, ask):
    asked = ask()
    before(ann, ClaimImport, lambda: ann.use.imports.cancel(asked.id))
    ann.import_()
    assert now(ann, asked).status is Status.CANCELLED
    assert ann.converter.orders == []
    assert world.log("import") == ["requested", "cancelled"]


def test_what_is_cancelled_while_it_is_converted_ends_at_the_next_word(ann, made, ask):
    asked = ask()
    ended = []

    def cancelled(report):
        ann.use.imports.cancel(asked.id)
        try:
            report("exporting")
        finally:
            ended.append(True)
        pytest.fail("it should have ended")

    ann.converter.during = cancelled
    ann.import_(2)
    assert ended
    assert now(ann, asked).status is Status.CANCELLED
    assert now(ann, asked).doing is None
    assert steps(ann, made) == []


def test_what_is_cancelled_at_the_last_moment_leaves_no_checkpoint(ann, made, ask):
    asked = ask(fitness=1.0)

    at_the_last_moment(ann, lambda: ann.use.imports.cancel(asked.id))
    ann.import_()
    assert now(ann, asked).status is Status.CANCELLED
    assert steps(ann, made) == []
    assert ann.use.experiments.metrics(made.id) == []


def test_what_it_is_doing_is_told_where_it_is_done_and_nowhere_else(
    world, ann, bob, ask
):
    asked = ask()
    seen = []

    def during(report):
        seen.append(now(ann, asked))
        world.wait(timedelta(seconds=1))
        report("reading the weights")
        seen.append(now(ann, asked))
        seen.append(now(bob, asked))
        head = world.store.head()
        past = ann.application.on_behalf_of(ann.use.session.caller, as_of=head)
        seen.append(past.imports.get(asked.id))

    begun = world.now
    ann.converter.during = during
    ann.import_()
    assert {view.status for view in seen} == {Status.RUNNING}
    first, again, elsewhere, past = (view.doing for view in seen)
    assert (first.what, first.since) == ("reading the weights", begun)
    assert again == first, "it has been doing that for a while"
    assert elsewhere is None
    assert past is None
    assert now(ann, asked).doing is None


def test_nothing_is_converted_while_the_read_model_has_stopped(ann, ask):
    asked = ask()
    ann.core.views.halted = Halt(ann.core.views.catch_up(), "A poison.")
    ann.import_()
    assert ann.converter.orders == []
    ann.core.views.halted = None
    ann.import_()
    assert now(ann, asked).status is Status.SUCCEEDED


# --- threads -----------------------------------------------------------------------


def until(fact, seconds=10.0):
    """Wait for `fact` to become true; say whether it has."""
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.002)
    return fact()


def test_a_stop_ends_the_conversion_and_the_next_start_carries_on(
    world, ann, bob, made, ask
):
    asked = [ask(1), ask(2)]

    def slowly(report):
        while True:
            report("exporting")
            time.sleep(0.002)

    ann.converter.during = slowly
    ann.supervisor.start()
    assert until(lambda: now(ann, asked[0]).doing is not None)
    assert until(lambda: ann.converter.orders)
    ann.supervisor.stop()
    assert len(ann.converter.orders) == 1, "the second is not begun"
    waiting = now(bob, asked[0])
    assert (waiting.status, waiting.reason) == (
        Status.PENDING,
        "The process that converted it was stopped.",
    )
    assert world.log("import").count("claimed") == 1

    bob.supervisor.start()
    try:
        assert until(lambda: now(bob, asked[1]).status is Status.SUCCEEDED)
    finally:
        bob.supervisor.stop()
    assert steps(bob, made) == [1, 2]


def test_a_conversion_that_was_stopped_is_no_attempt(world, made, ask):
    asked = ask()

    def stopped(report):
        worker.importer.stop()
        report("exporting")

    for _ in range(2 * MOST_ATTEMPTS):
        worker = world.worker()
        worker.converter.during = stopped
        worker.import_()
        world.presence.withdraw(worker.id)
    assert world.log("import")[-1] == "released"
    assert world.log("import").count("claimed") == 2 * MOST_ATTEMPTS
    last = world.worker()
    last.import_()
    assert now(last, asked).status is Status.SUCCEEDED
    assert steps(last, made) == [10]


def test_agents_are_put_live_while_something_is_converted(ann, made, ask, tmp_path):
    go_on = threading.Event()
    ask(1)
    ann.converter.during = lambda _: go_on.wait(10)
    ann.supervisor.start()
    try:
        assert until(lambda: ann.converter.orders)
        folder = bundles.cartpole(tmp_path / "bundle")
        ann.use.experiments.add_checkpoint(made.id, step=5, path=folder)
        agent = ann.use.agents.create("balancer", made.id, checkpoint=final())
        ann.use.agents.connect(agent.id)
        assert until(lambda: ann.serves(agent))
    finally:
        go_on.set()
        ann.supervisor.stop()


# --- the record --------------------------------------------------------------------


def test_an_audit_finds_what_was_handed_in_and_damaged_since(world, ann, ask):
    ask()
    assert list(ann.use.audit.verify()) == []
    world.blobs._bundles.clear()
    (fault,) = ann.use.audit.verify()
    (asked,) = recorded(world, "import.requested")
    assert fault.position == asked.position


def test_a_replay_holds_the_imports_of_then(ann, ask):
    asked = ask()
    head = ann.core.store.head()
    ann.import_()
    then, today = ann.use.audit.replay(head), ann.use.audit.replay()
    assert [i.status for i in then.imports] == [Status.PENDING]
    assert today.imports == [now(ann, asked)]
