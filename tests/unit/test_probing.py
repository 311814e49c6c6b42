"""Health probes: what ceases to answer, or answers otherwise, is loaded anew."""

import threading
import time
from uuid import uuid4

import numpy as np
import pytest
from attrs import define, evolve, field

from arena_core import best
from arena_core.application import supervision
from arena_core.application.handling import Handler
from arena_core.application.loading import Runtimes
from arena_core.application.probing import (
    JITTER,
    LOSSES_WITHIN_S,
    MOST_LOSSES,
    Prober,
    Schedule,
)
from arena_core.domain.deployment import Status
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.domain.ids import WorkerId
from unit.scenes import CARTPOLE
from unit.workers import ONNX, Worker, World

import bundles
import shapes

INTERVAL_S, BOUND_S = 10.0, 30.0
LOST = "The health probe failed: "
RUNS = 2
"""Of the weights, for each question: the row as it is, and as a plain request."""


@define
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@define(eq=False)
class Frail:
    """A real runtime that can be made to fail."""

    _runtime: object
    ail: object = None
    runs: int = 0

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def run(self, inputs):
        self.runs += 1
        answer = self._runtime.run
        return answer(inputs) if self.ail is None else self.ail(answer, inputs)


@define(eq=False)
class Patients(Worker):
    """A worker that probes, and whose models can be made to fail."""

    clock: Clock = field(factory=Clock)
    patience_s: float = 60.0
    loaded: list[Frail] = field(factory=list)
    from_birth: object = None
    """What ails each model from the start."""
    prober: Prober = field(init=False)

    def __attrs_post_init__(self):
        super().__attrs_post_init__()
        self.supervisor._runtimes = Runtimes({".onnx": self.load})
        self.prober = Prober(
            self.core,
            self.registry,
            self.id,
            Schedule(INTERVAL_S, BOUND_S, self.patience_s),
            monotonic=self.clock,
            chance=lambda: 0.5,
        )
        self.supervisor._prober = self.prober

    def load(self, signature, weights):
        self.loaded.append(Frail(ONNX(signature, weights), self.from_birth))
        return self.loaded[-1]

    def probe(self, seconds=INTERVAL_S):
        """Let some time pass, and probe what is due."""
        self.prober.probe()
        self.clock.now += seconds
        self.prober.probe()

    def fall_ill(self, ail):
        self.loaded[-1].ail = ail


def raises(error):
    def ail(*_):
        raise error

    return ail


def not_finite(answer, inputs):
    return {name: np.full_like(a, np.nan) for name, a in answer(inputs).items()}


def otherwise(answer, inputs):
    return {name: a[:, ::-1].copy() for name, a in answer(inputs).items()}


AILMENTS = {
    "defect": (raises(RuntimeError("/secret")), "it failed in a way that has no name."),
    "refuses": (raises(Unavailable("Out of memory.")), "Out of memory."),
    "not finite": (not_finite, "The weights answered with a number that is not"),
    "otherwise": (otherwise, "Parity failed: outputs/logits of case0/step0 at index"),
}


@pytest.fixture
def world():
    return World()


@pytest.fixture
def patients(world):
    """Return what makes a worker of the world, alive unless told otherwise."""

    def patients(*, alive=True, **said):
        worker = Patients(world, WorkerId(uuid4()), **said)
        if alive:
            world.presence.announce(worker.id)
        return worker

    return patients


@pytest.fixture
def ann(patients):
    return patients()


@pytest.fixture
def bob(patients):
    return patients()


@pytest.fixture
def bundle(tmp_path):
    return bundles.cartpole(tmp_path / "bundle")


def deployed(worker, bundle):
    use = worker.use
    project = use.projects.create("carts", kind="classic")
    made = use.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=CARTPOLE
    )
    use.experiments.add_checkpoint(made.id, step=1, path=bundle, fitness=1.0)
    agent = use.agents.create("balancer", made.id, checkpoint=best())
    use.agents.connect(agent.id)
    worker.pass_()
    assert worker.serves(agent)
    return agent


@pytest.fixture
def agent(ann, bundle):
    return deployed(ann, bundle)


def lost(world):
    every = world.store.read_all()
    return [r for r in every if r.name == "deployment.connection_lost"]


# --- what is well ------------------------------------------------------------------


def test_what_is_well_is_asked_again_and_again_and_nothing_is_recorded(
    world, ann, agent
):
    before, (runtime,) = world.log(), ann.loaded
    runs = runtime.runs
    for count in range(1, 4):
        ann.probe()
        asked = count + 1  # twice at first: to find the question
        assert runtime.runs == runs + asked * RUNS
    assert ann.serves(agent)
    assert world.log() == before


def test_it_is_asked_once_in_each_interval_and_not_before(ann, agent):
    assert ann.serves(agent)
    (runtime,) = ann.loaded
    runs = []
    ann.prober.probe()
    begun = ann.clock.now
    for tenths in range(1, 310):
        ann.clock.now = begun + tenths / 10
        was = runtime.runs
        ann.prober.probe()
        if runtime.runs > was:
            runs.append(tenths / 10)
    assert runs == [5.0, 15.0, 25.0], "the first time is chance, here a half"


@pytest.mark.parametrize(("chance", "share"), [(0.0, -1), (1.0, 1)])
def test_intervals_are_not_all_alike(ann, agent, chance, share):
    assert ann.serves(agent)
    ann.prober._chance = lambda: chance
    ann.prober.probe()
    ann.clock.now += INTERVAL_S
    ann.prober.probe()
    (watched,) = ann.prober._watched.values()
    pause_s = watched.due_s - ann.clock.now
    assert pause_s == pytest.approx(INTERVAL_S * (1 + share * JITTER))


def test_a_model_that_takes_long_is_asked_less_often(ann, agent):
    assert ann.serves(agent)
    (runtime,) = ann.loaded

    def slowly(answer, inputs):
        ann.clock.now += 2.0
        return answer(inputs)

    runtime.ail = slowly
    ann.prober.probe()
    ann.clock.now += 5.0
    ann.prober.probe()
    (watched,) = ann.prober._watched.values()
    assert watched.due_s - ann.clock.now == pytest.approx(RUNS * 4.0 / 0.01)


# --- what is not -------------------------------------------------------------------


@pytest.mark.parametrize("name", AILMENTS)
def test_what_fails_is_lost_with_the_reason_and_loaded_anew(world, ann, agent, name):
    ail, reason = AILMENTS[name]
    ann.probe()
    ann.fall_ill(ail)
    ann.probe()
    assert not ann.serves(agent)
    assert ann.deployment(agent.id).status is Status.PENDING
    (event,) = lost(world)
    assert event.event.worker == ann.id
    assert event.event.reason.startswith(LOST + reason)
    assert "secret" not in event.event.reason
    assert str(event.context.actor) == "system:prober"
    assert ann.deployment(agent.id).reason == event.event.reason

    ann.pass_()

    assert ann.serves(agent)
    assert ann.deployment(agent.id).status is Status.DEPLOYED
    assert len(ann.loaded) == 2, "what was dropped is not used again"
    ann.probe()
    assert ann.serves(agent)


@pytest.mark.parametrize("name", AILMENTS)
def test_what_fails_when_it_is_first_asked_is_lost_too(world, ann, agent, name):
    ail, reason = AILMENTS[name]
    ann.fall_ill(ail)
    ann.probe()
    assert not ann.serves(agent)
    assert lost(world)[0].event.reason.startswith(LOST + reason)


def test_what_fails_again_when_it_is_loaded_is_failed_with_the_reason(ann, agent):
    ann.from_birth = otherwise
    ann.fall_ill(otherwise)
    ann.probe()
    ann.pass_()
    found = ann.deployment(agent.id)
    assert found.status is Status.FAILED
    assert found.reason.startswith("Parity failed")


def test_what_does_not_come_back_is_lost_after_the_bound(world, patients, bundle):
    ann = patients(patience_s=0.01)
    agent = deployed(ann, bundle)
    go_on = threading.Event()

    def hang(answer, inputs):
        assert go_on.wait(60)
        return answer(inputs)

    ann.fall_ill(hang)
    try:
        ann.probe()
        begun = ann.clock.now
        ann.clock.now = begun + BOUND_S - 0.001
        ann.prober.probe()
        assert ann.serves(agent)
        assert not lost(world)
        hanging = [t for t in threading.enumerate() if t.name == "arena-probe"]
        assert [t.daemon for t in hanging] == [True], "or no process could end"
        ann.clock.now = begun + BOUND_S
        ann.prober.probe()
        assert not ann.serves(agent)
        (event,) = lost(world)
        assert event.event.reason == LOST + "it did not answer within 30 seconds."
        ann.pass_()
        assert ann.serves(agent)
    finally:
        go_on.set()


def test_one_that_hangs_keeps_the_others_from_nothing(patients, bundle):
    ann = patients(patience_s=0.01)
    first = deployed(ann, bundle)
    go_on = threading.Event()
    ann.fall_ill(lambda answer, inputs: go_on.wait(60) and answer(inputs))
    try:
        ann.probe()
        ann.prober._schedule = Schedule(INTERVAL_S, BOUND_S, patience_s=60.0)
        second = deployed(ann, bundle)
        runs = ann.loaded[-1].runs
        ann.probe()
        assert ann.loaded[-1].runs > runs
        assert (ann.serves(first), ann.serves(second)) == (True, True)
    finally:
        go_on.set()


def test_who_has_only_joined_drops_it_and_joins_again_without_an_event(
    world, ann, bob, agent
):
    bob.pass_()
    before = world.log()
    bob.probe()
    bob.fall_ill(otherwise)
    bob.probe()
    assert (ann.serves(agent), bob.serves(agent)) == (True, False)
    world.wait(supervision.JOIN_AGAIN)
    bob.pass_()
    assert bob.serves(agent)
    assert len(bob.loaded) == 2
    assert world.log() == before


def test_who_serves_it_hands_it_over_to_one_that_has_joined(world, patients, bundle):
    world.agree = True
    ann, bob = patients(), patients()
    agent = deployed(ann, bundle)
    bob.pass_()
    ann.fall_ill(otherwise)
    ann.probe()
    assert (ann.serves(agent), bob.serves(agent)) == (False, True)
    (replaced,) = [r for r in world.store.read_all() if "server_replaced" in r.name]
    assert (replaced.event.lost, replaced.event.worker) == (ann.id, bob.id)
    assert replaced.event.reason.startswith(LOST + "Parity failed")
    assert not lost(world)
    assert ann.deployment(agent.id).status is Status.DEPLOYED
    ann.pass_()
    assert (ann.serves(agent), bob.serves(agent)) == (True, True)
    bob.fall_ill(otherwise)
    bob.probe()
    assert (ann.serves(agent), bob.serves(agent)) == (True, False)
    assert not lost(world)


# --- what is lost again and again ----------------------------------------------------


def fail_and_recover(worker):
    worker.fall_ill(otherwise)
    worker.probe()
    worker.pass_()


def test_what_is_lost_again_and_again_is_failed_with_the_reason(world, ann, agent):
    for _ in range(MOST_LOSSES - 1):
        fail_and_recover(ann)
        assert ann.serves(agent)
    fail_and_recover(ann)
    found = ann.deployment(agent.id)
    assert (ann.serves(agent), found.status) == (False, Status.FAILED)
    assert found.reason.startswith("Gave up: it was lost 3 times within 10 minutes. ")
    assert LOST + "Parity failed" in found.reason
    assert world.log()[-3:] == ["connection_lost", "connect_claimed", "connect_failed"]
    assert len({r.context.command_id for r in world.store.read_all()[-3:]}) == 1
    ann.pass_(3)
    assert len(ann.loaded) == MOST_LOSSES


def test_connecting_again_after_that_starts_counting_anew(ann, agent):
    for _ in range(MOST_LOSSES):
        fail_and_recover(ann)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    for _ in range(MOST_LOSSES - 1):
        fail_and_recover(ann)
        assert ann.serves(agent)


def test_what_is_lost_now_and_then_is_loaded_anew_each_time(ann, agent):
    for _ in range(3 * MOST_LOSSES):
        fail_and_recover(ann)
        assert ann.serves(agent)
        ann.clock.now += LOSSES_WITHIN_S / (MOST_LOSSES - 1)


def test_who_has_joined_and_dropped_it_too_often_rests_for_a_time(
    world, ann, bob, agent
):
    bob.pass_()
    for _ in range(MOST_LOSSES):
        assert bob.serves(agent)
        bob.fall_ill(otherwise)
        bob.probe()
        world.wait(supervision.JOIN_AGAIN)
        bob.pass_()
    assert not bob.serves(agent)
    assert ann.serves(agent)
    bob.clock.now += LOSSES_WITHIN_S
    bob.pass_()
    assert bob.serves(agent)


# --- meanwhile ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["disconnect", "delete"])
def test_what_is_taken_off_while_it_is_asked_has_not_failed(world, ann, agent, command):
    def taken_off(*_):
        getattr(ann.use.agents, command)(agent.id)
        raise Unavailable("The weights are unloaded.")

    ann.fall_ill(taken_off)
    ann.probe()
    assert not lost(world)
    assert not ann.prober.rests(agent.deployment.id)


def test_what_was_replaced_while_it_was_asked_is_not_blamed_on_its_successor(
    world, ann, agent
):
    def replaced(*_):
        ann.use.agents.disconnect(agent.id)
        ann.use.agents.connect(agent.id)
        ann.pass_()
        raise Unavailable("The weights are unloaded.")

    ann.fall_ill(replaced)
    ann.probe()
    assert not lost(world)
    assert ann.serves(agent)


def test_what_was_taken_off_is_forgotten_and_begins_anew(ann, agent):
    ann.probe()
    ann.use.agents.disconnect(agent.id)
    ann.prober.probe()
    assert not ann.prober._watched
    ann.use.agents.connect(agent.id)
    ann.pass_()
    (runtime,) = ann.loaded[1:]
    runs = runtime.runs
    ann.probe()
    assert runtime.runs == runs + 2 * RUNS


def test_a_model_that_has_taken_the_place_of_another_is_watched_anew(ann, agent):
    ann.probe()
    (before,) = ann.prober._watched.values()
    ann.use.agents.disconnect(agent.id)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    ann.prober.probe()
    (after,) = ann.prober._watched.values()
    assert after is not before
    assert after.model is not before.model


def meanwhile(worker, act):
    """Let `act` happen when the loss is about to be recorded."""

    def clock():
        act()
        return worker.world.now

    core = worker.core
    handler = Handler(core.store, clock)
    worker.prober._core = evolve(core, handler=handler)


def test_the_loader_does_not_anticipate_what_the_prober_is_about_to_record(
    world, ann, agent
):
    meanwhile(ann, ann.pass_)
    ann.fall_ill(otherwise)
    ann.probe()
    (event,) = lost(world)
    assert event.event.reason.startswith(LOST)
    ann.pass_()
    assert ann.serves(agent)
    assert world.log().count("connect_claimed") == 2


@pytest.mark.parametrize("losses", [1, MOST_LOSSES])
@pytest.mark.parametrize("command", ["disconnect", "delete"])
def test_what_is_taken_off_before_the_loss_is_recorded_stays_off(
    world, ann, agent, command, losses
):
    for _ in range(losses - 1):
        fail_and_recover(ann)
    meanwhile(ann, lambda: getattr(ann.use.agents, command)(agent.id))
    ann.fall_ill(otherwise)
    ann.probe()
    assert len(lost(world)) == losses - 1
    assert not ann.prober.is_losing(agent.deployment.id)
    ann.pass_()
    assert not ann.serves(agent)


def test_a_loss_that_could_not_be_recorded_is_found_by_the_loader(world, ann, agent):
    def locked():
        raise Unavailable("The store is locked.")

    meanwhile(ann, locked)
    ann.fall_ill(otherwise)
    with pytest.raises(Unavailable):
        ann.probe()
    assert not ann.serves(agent)
    ann.pass_(2)
    assert ann.serves(agent)
    assert len(lost(world)) == 1


# --- what is asked -------------------------------------------------------------------


def test_without_a_trace_zeros_must_be_answered_with_finite_numbers(
    world, ann, tmp_path
):
    agent = deployed(ann, bundles.cartpole(tmp_path, with_golden=False))
    ann.probe()
    assert ann.serves(agent)
    ann.fall_ill(otherwise)
    ann.probe()
    assert ann.serves(agent), "what it should be is not known"
    ann.fall_ill(not_finite)
    ann.probe()
    assert not ann.serves(agent)
    assert lost(world)[0].event.reason == LOST + (
        "The weights answered zeros with a number that is not finite."
    )


def test_weights_whose_answer_to_zeros_is_not_finite_are_only_to_answer(
    world, ann, tmp_path
):
    agent = deployed(ann, bundles.cartpole(tmp_path, with_golden=False))
    ann.fall_ill(not_finite)
    ann.probe()
    ann.probe()
    assert ann.serves(agent)
    ann.fall_ill(raises(Unavailable("Out of memory.")))
    ann.probe()
    assert not ann.serves(agent)
    assert lost(world)[0].event.reason == LOST + "Out of memory."


def test_weights_that_cannot_be_asked_zeros_are_left_alone(ann, tmp_path):
    ann.from_birth = raises(Rejected("More rows."))
    agent = deployed(ann, bundles.cartpole(tmp_path, with_golden=False))
    (runtime,) = ann.loaded
    runs = runtime.runs
    ann.probe()
    assert ann.serves(agent)
    assert runtime.runs == runs


def of_seven_rows(folder):
    """Write a bundle whose golden trace is a single step of seven rows."""
    bundles.cartpole(folder)
    obs = bundles.observations(7, 4)
    logits = bundles.CARTPOLE(obs)
    recorded = {"obs": obs, "outputs/logits": logits, "action": logits.argmax(axis=1)}
    bundles.write_golden(folder, recorded)
    return folder


def test_one_row_is_asked_however_many_were_recorded(ann, tmp_path):
    agent = deployed(ann, of_seven_rows(tmp_path))
    asked = []

    def counted(answer, inputs):
        asked.append(len(inputs["obs"]))
        return answer(inputs)

    ann.fall_ill(counted)
    ann.probe()
    ann.probe()
    assert ann.serves(agent)
    assert set(asked) == {1}


def one_row_is(ail):
    def only(answer, inputs):
        is_one = all(len(array) == 1 for array in inputs.values())
        return ail(answer, inputs) if is_one else answer(inputs)

    return only


@pytest.mark.parametrize("ail", [otherwise, raises(Rejected("More rows."))])
def test_where_one_row_is_not_answered_as_among_others_the_whole_step_is_asked(
    world, ann, tmp_path, ail
):
    ann.from_birth = one_row_is(ail)
    agent = deployed(ann, of_seven_rows(tmp_path))
    ann.probe()
    ann.probe()
    assert ann.serves(agent)
    ann.fall_ill(otherwise)
    ann.probe()
    assert not ann.serves(agent)
    assert "Parity failed" in lost(world)[0].event.reason


def test_a_trace_that_is_gone_says_nothing_of_a_model_that_is_loaded(world, ann, agent):
    world.blobs._bundles.clear()
    ann.probe()
    ann.probe()
    assert ann.serves(agent)
    ann.fall_ill(not_finite)
    ann.probe()
    assert not ann.serves(agent)


def an_agent_of(worker, folder):
    use, algorithm = worker.use, bundles.manifest(folder)["algorithm"]
    project = use.projects.create("all", kind="advanced")
    made = use.experiments.create(
        project.id, name="one", algorithm=algorithm, source=CARTPOLE
    )
    use.experiments.add_checkpoint(made.id, step=1, path=folder, fitness=1.0)
    agent = use.agents.create("one", made.id, checkpoint=best())
    use.agents.connect(agent.id)
    worker.pass_()
    worker.probe()
    worker.probe()
    assert worker.serves(agent)
    return agent


@pytest.mark.parametrize(
    "write", [bundles.pendulum, bundles.regressor, shapes.latent_policy]
)
def test_all_kinds_of_answers_are_compared(ann, tmp_path, write):
    agent = an_agent_of(ann, write(tmp_path))
    ann.fall_ill(lambda answer, given: {n: -a for n, a in answer(given).items()})
    ann.probe()
    assert not ann.serves(agent)


@pytest.mark.parametrize("which", [0, 1])
def test_a_decoder_is_asked_zeros_as_well(ann, tmp_path, which):
    folder = shapes.latent_policy(tmp_path)
    (folder / "golden.npz").unlink()
    agent = an_agent_of(ann, folder)
    ann.loaded[which].ail = not_finite
    ann.probe()
    assert not ann.serves(agent)


# --- life --------------------------------------------------------------------------


def test_a_supervisor_that_runs_finds_what_has_failed_and_mends_it(
    world, patients, bundle, monkeypatch
):
    monkeypatch.setattr(supervision, "LOOK_AGAIN_S", 0.01)
    worker = patients(alive=False)
    worker.prober._monotonic = time.monotonic
    worker.prober._schedule = Schedule(0.01)
    agent = deployed(worker, bundle)
    worker.supervisor.start()
    try:
        worker.fall_ill(otherwise)
        deadline = time.monotonic() + 60
        while len(worker.loaded) < 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        assert worker.registry.wait_for(str(agent.deployment.id), 60)
    finally:
        worker.supervisor.stop()
    assert lost(world)[0].event.reason.startswith(LOST)
