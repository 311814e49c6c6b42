"""Workers that share a store: one serves, the others follow, nobody is left behind."""

import threading
import time
from datetime import timedelta

import pytest

import arena_core
from arena_core import best
from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.adapters.runtimes.onnx import OnnxLoader
from arena_core.application import supervision
from arena_core.application.loading import Runtimes, load
from arena_core.application.ports import Device
from arena_core.application.supervision import LEASE, MOST_ATTEMPTS
from arena_core.application.views import DECIDERS, Halt
from arena_core.domain.deployment import Status
from arena_core.domain.errors import Unavailable
from arena_core.domain.parity import Verdict
from unit.scenes import CARTPOLE, Scene, key_of
from unit.workers import World

import bundles

TICK = timedelta(microseconds=1)


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
def bundle(tmp_path):
    return bundles.cartpole(tmp_path / "bundle")


def an_agent(worker, bundle):
    use = worker.use
    project = use.projects.create("carts", kind="classic")
    made = use.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=CARTPOLE
    )
    use.experiments.add_checkpoint(made.id, step=1, path=bundle, fitness=1.0)
    return use.agents.create("balancer", made.id, checkpoint=best())


@pytest.fixture
def agent(ann, bundle):
    """An agent that waits for somebody to put it live."""
    made = an_agent(ann, bundle)
    return ann.use.agents.connect(made.id)


def events(worker, agent_id, *names):
    """Return what the log says of the agent's deployment, by the events' names."""
    timeline = worker.use.audit.timeline(agent_id)
    wanted = [f"deployment.{name}" for name in names]
    return [e.data for e in timeline if not names or e.name in wanted]


# --- one of many -------------------------------------------------------------------


def test_what_is_pending_is_put_live_and_the_log_says_how(world, ann, agent):
    ann.pass_()
    assert ann.serves(agent)
    assert ann.deployment(agent.id).status is Status.DEPLOYED
    assert world.log() == [
        "created", "connect_requested", "connect_claimed", "parity_checked",
        "connected",
    ]  # fmt: skip
    (claimed,) = events(ann, agent.id, "connect_claimed")
    assert (claimed.worker, claimed.lease_until) == (ann.id, world.now + LEASE)
    (connected,) = events(ann, agent.id, "connected")
    assert (connected.worker, connected.device) == (ann.id, "cpu")
    assert connected.runtime.startswith("onnxruntime")
    actors = {e.name: e.actor for e in ann.use.audit.timeline(agent.id)}
    assert actors["deployment.connected"] == "system:supervisor"


def test_only_one_of_two_workers_claims(world, ann, bob, agent):
    ann.loader.before = bob.pass_
    ann.pass_()
    assert world.log().count("connect_claimed") == 1
    assert (ann.loader.loads, bob.loader.loads) == (1, 0)
    assert ann.serves(agent)


def test_of_workers_that_race_for_it_one_claims(world, bundle):
    workers = [world.worker() for _ in range(4)]
    agents = [an_agent(workers[0], bundle) for _ in range(3)]
    for agent in agents:
        workers[0].use.agents.connect(agent.id)
    start = threading.Barrier(len(workers))

    def race(worker):
        start.wait(60)
        worker.pass_()

    threads = [threading.Thread(target=race, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert world.log().count("connect_claimed") == len(agents)
    assert world.log().count("connected") == len(agents)


def test_a_second_worker_joins_what_is_live_without_any_event(world, ann, bob, agent):
    ann.pass_()
    before = world.log()
    bob.pass_(2)
    assert ann.serves(agent)
    assert bob.serves(agent)
    assert world.log() == before
    assert (bob.loader.loads, bob.loader.open) == (1, 1)
    (of_ann, of_bob) = (w.registry.live(key_of(agent)) for w in (ann, bob))
    assert of_ann.key == of_bob.key
    assert str(bob.id).encode() in of_bob.status


def test_a_worker_follows_what_another_has_taken_off(ann, bob, agent):
    ann.pass_()
    bob.pass_()
    ann.use.agents.disconnect(agent.id)
    assert bob.serves(agent), "nobody has told it yet"
    bob.pass_()
    assert not bob.serves(agent)
    assert bob.loader.open == 0


def test_a_worker_follows_a_key_that_another_has_rotated(ann, bob, agent):
    ann.pass_()
    bob.pass_()
    ann.use.agents.rotate_key(agent.id)
    bob.pass_()
    assert (
        bob.registry.live(key_of(agent)).key == ann.use.agents.access(agent.id).api_key
    )


def test_a_worker_that_finds_other_answers_does_not_join(ann, bob, agent, monkeypatch):
    """Its hardware or its runtime may differ from that of the first."""
    ann.pass_()
    other = bundles.CARTPOLE.perturbed(0.5).onnx(answer="logits")
    load = bob.supervisor._runtimes.loaders[".onnx"]
    otherwise = Runtimes({".onnx": lambda signature, _: load(signature, other)})
    monkeypatch.setattr(bob.supervisor, "_runtimes", otherwise)
    bob.pass_()
    assert not bob.serves(agent)
    assert bob.loader.open == 0
    assert ann.deployment(agent.id).status is Status.DEPLOYED


@pytest.mark.parametrize("error", [Unavailable("no memory"), RuntimeError("defect")])
def test_a_worker_that_cannot_join_goes_on_with_the_others_and_tries_later(
    world, ann, bob, bundle, error
):
    agents = [ann.use.agents.connect(an_agent(ann, bundle).id) for _ in range(2)]
    ann.pass_()

    def fail_once():
        bob.loader.before = lambda: None
        raise error

    bob.loader.before = fail_once
    bob.pass_()
    assert [bob.serves(agent) for agent in agents] == [False, True]
    assert ann.deployment(agents[0].id).status is Status.DEPLOYED
    bob.pass_()
    assert bob.loader.loads == 2, "it is not tried again at once"
    world.wait(supervision.JOIN_AGAIN)
    bob.pass_()
    assert [bob.serves(agent) for agent in agents] == [True, True]


def test_a_key_rotated_elsewhere_is_dead_here_while_a_model_is_being_loaded(
    world, ann, agent, bundle
):
    """Following the log does not wait for the loading of another agent."""
    ann.pass_()
    old = ann.registry.live(key_of(agent)).key
    loading, go_on = threading.Event(), threading.Event()

    def slowly():
        loading.set()
        assert go_on.wait(10)

    ann.loader.before = slowly
    elsewhere = world.worker(alive=False)
    elsewhere.use.agents.connect(an_agent(elsewhere, bundle).id)
    ann.supervisor.start()
    try:
        assert loading.wait(10)
        elsewhere.use.agents.rotate_key(agent.id)
        assert until(lambda: ann.registry.live(key_of(agent)).key != old)
        elsewhere.use.agents.disconnect(agent.id)
        assert until(lambda: not ann.serves(agent))
    finally:
        go_on.set()
        ann.supervisor.stop()


def test_a_worker_that_ends_follows_the_log_until_all_else_has_ended(bundle):
    """Whoever waits for it must not wait for the model that it is loading."""
    world = World(agree=True)
    ann, ending = world.worker(), world.worker(alive=False)
    agent = an_agent(ann, bundle)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    loading, go_on = threading.Event(), threading.Event()

    def slowly():
        loading.set()
        assert go_on.wait(60)

    ending.loader.before = slowly
    ending.supervisor.start()
    assert loading.wait(10)
    stopping = threading.Thread(target=ending.supervisor.stop)
    stopping.start()
    try:
        assert ending.supervisor._stopping.wait(10)
        for _ in range(3):
            ann.use.agents.rotate_key(agent.id)
    finally:
        go_on.set()
        stopping.join()
    assert not world.presence.is_alive(ending.id)


def until(fact, seconds=10.0):
    """Wait for `fact` to become true; say whether it has."""
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.002)
    return fact()


def test_a_worker_that_has_joined_takes_over_without_a_gap(world, ann, bob, agent):
    ann.pass_()
    bob.pass_()
    before = bob.registry.live(key_of(agent)).model
    ann.die()
    bob.pass_(2)
    assert bob.registry.live(key_of(agent)).model is before
    assert (bob.loader.loads, bob.loader.open) == (1, 1), "nothing is loaded again"
    assert world.log()[-2:] == ["connected", "server_replaced"]
    (replaced,) = events(bob, agent.id, "server_replaced")
    assert (replaced.worker, replaced.lost) == (bob.id, ann.id)
    assert ann.deployment(agent.id).status is Status.DEPLOYED


def test_what_is_served_is_true_although_the_read_model_has_stopped(world, ann, agent):
    ann.pass_()
    ann.die()
    late = world.worker()
    late.core.views.catch_up()
    late.core.views.halted = Halt(late.core.views.catch_up(), "A poison.")
    late.pass_(2)
    assert late.serves(agent)
    assert late.core.views.rows.get(agent.deployment.id).state.server == ann.id


# --- who is gone -------------------------------------------------------------------


def test_a_claim_whose_worker_is_gone_is_taken_over_at_once(world, ann, bob, agent):
    ann.loader.before = crash
    with pytest.raises(Killed):
        ann.pass_()
    bob.pass_()
    assert not bob.serves(agent), "its holder is alive and has a lease"

    ann.die()
    bob.pass_(2)

    assert bob.serves(agent)
    assert ann.loader.open == 1, "it died while it loaded"
    claims = events(bob, agent.id, "connect_claimed")
    assert [(c.worker, c.attempt) for c in claims] == [(ann.id, 1), (bob.id, 2)]
    (lost,) = events(bob, agent.id, "connection_lost")
    assert (lost.worker, lost.reason) == (
        ann.id,
        "The process that served it has ended.",
    )
    assert world.now < claims[0].lease_until


class Killed(BaseException):
    """The end of a process: nothing catches it."""


def crash():
    raise Killed


def test_a_lease_that_ran_out_is_taken_over_though_its_holder_is_alive(
    world, ann, bob, agent
):
    def late():
        world.wait(LEASE - TICK)
        bob.pass_()
        assert not bob.serves(agent)
        world.wait(TICK)
        bob.pass_()
        assert bob.serves(agent)

    ann.loader.before = late
    ann.pass_()

    assert world.log().count("connected") == 1
    (connected,) = events(bob, agent.id, "connected")
    assert connected.worker == bob.id


def test_what_a_zombie_brings_is_refused_and_its_model_closed(world, ann, bob, agent):
    def taken_over():
        world.wait(LEASE)
        bob.pass_()

    ann.loader.before = taken_over
    ann.pass_()

    assert (ann.loader.loads, ann.loader.open) == (1, 0)
    assert not ann.serves(agent)
    assert not [e for e in events(bob, agent.id) if getattr(e, "worker", 0) == ann.id][
        1:
    ], "beyond its claim nothing of it is in the log"
    ann.loader.before = lambda: None
    ann.pass_()
    assert ann.serves(agent), "but it may join like any other"


def test_what_failed_for_a_zombie_fails_nothing(world, ann, bob, agent):
    def taken_over():
        world.wait(LEASE)
        bob.pass_()
        raise Unavailable("out of memory")

    ann.loader.before = taken_over
    ann.pass_()
    assert bob.serves(agent)
    assert "connect_failed" not in world.log()


def test_after_a_restart_what_was_live_is_lost_and_then_live_again(
    world, ann, bob, agent
):
    ann.pass_()
    ann.die()
    bob.pass_(2)
    assert bob.serves(agent)
    assert world.log()[-4:] == [
        "connection_lost", "connect_claimed", "parity_checked", "connected",
    ]  # fmt: skip
    (lost,) = events(bob, agent.id, "connection_lost")
    assert lost.worker == ann.id


def test_the_end_of_a_worker_that_had_only_joined_is_no_news(world, ann, bob, agent):
    ann.pass_()
    bob.pass_()
    before = world.log()
    bob.die()
    ann.pass_()
    assert world.log() == before
    assert ann.serves(agent)


def test_a_worker_whose_model_was_dropped_loads_it_again(world, ann, agent):
    ann.pass_()
    ann.registry.release(ann.deployment(agent.id).id)
    assert not ann.serves(agent)
    ann.pass_(2)
    assert ann.serves(agent)
    assert world.log().count("connection_lost") == 1
    assert ann.loader.open == 1


# --- what cannot be ----------------------------------------------------------------


def test_weights_that_cannot_be_loaded_here_fail_with_the_reason(ann, agent):
    small = OnnxLoader(Device.CPU, largest_bytes=10)
    ann.supervisor._runtimes = Runtimes({".onnx": small})
    ann.pass_()
    found = ann.deployment(agent.id)
    assert found.status is Status.FAILED
    (failed,) = events(ann, agent.id, "connect_failed")
    assert failed.reason == found.reason
    assert "at most 10 are accepted" in failed.reason
    ann.pass_()
    assert len(events(ann, agent.id, "connect_claimed")) == 1


def test_a_bundle_that_is_gone_fails_with_the_reason(world, ann, agent):
    world.blobs._bundles.clear()
    ann.pass_()
    found = ann.deployment(agent.id)
    assert (found.status, found.reason) == (
        Status.FAILED,
        "There is no such checkpoint.",
    )


def test_a_trace_that_does_not_fit_fails_and_the_model_is_closed(ann, tmp_path):
    folder = bundles.cartpole(tmp_path / "misfit")
    bundles.write_golden(folder, {"inputs": bundles.observations(1, 4)} | results())
    agent = an_agent(ann, folder)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    assert "case0/step0 must hold obs and action" in ann.deployment(agent.id).reason
    assert (ann.loader.loads, ann.loader.open) == (1, 0)


def results():
    return {"results": bundles.observations(1, 2)}


def test_a_failed_parity_is_recorded_before_the_failure_and_the_model_closed(
    world, ann, tmp_path
):
    folder = bundles.cartpole(tmp_path / "swapped")
    bundles.write_weights(folder, bundles.CARTPOLE.swapped())
    agent = an_agent(ann, folder)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    assert world.log()[-2:] == ["parity_checked", "connect_failed"]
    assert ann.deployment(agent.id).parity.verdict is Verdict.FAILED
    assert (ann.loader.loads, ann.loader.open) == (1, 0)
    assert not ann.serves(agent)


def test_a_loader_that_crashes_every_time_is_given_up(ann, agent):
    def defect():
        raise RuntimeError("defect")

    ann.loader.before = defect
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(RuntimeError, match="defect"):
            ann.pass_()
        ann.pass_()
    ann.pass_(3)
    found = ann.deployment(agent.id)
    assert found.status is Status.FAILED
    assert found.reason == "Gave up: 5 attempts to load it did not end."
    assert ann.loader.loads == MOST_ATTEMPTS
    attempts = [e.attempt for e in events(ann, agent.id, "connect_claimed")]
    assert attempts == [1, 2, 3, 4, 5, 6]


def test_workers_that_die_of_it_one_after_the_other_end_in_failed(world, ann, agent):
    for _ in range(MOST_ATTEMPTS):
        victim = world.worker()
        victim.loader.before = crash
        with pytest.raises(Killed):
            victim.pass_(2)
        victim.die()
    ann.pass_(2)
    assert ann.deployment(agent.id).status is Status.FAILED
    assert ann.loader.loads == 0


def test_connecting_again_after_it_was_given_up_starts_counting_anew(ann, agent):
    test_a_loader_that_crashes_every_time_is_given_up(ann, agent)
    ann.loader.before = lambda: None
    ann.use.agents.connect(agent.id)
    ann.pass_()
    assert ann.serves(agent)


# --- meanwhile ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["disconnect", "delete"])
def test_what_is_taken_off_while_it_is_loaded_stays_off(world, ann, agent, command):
    ann.loader.before = lambda: getattr(ann.use.agents, command)(agent.id)
    ann.pass_()
    assert not ann.serves(agent)
    assert (ann.loader.loads, ann.loader.open) == (1, 0)
    assert "connected" not in world.log()
    assert "parity_checked" not in world.log()
    ann.pass_(2)
    assert (ann.serves(agent), ann.loader.loads) == (False, 1)


def test_a_disconnect_during_loading_wins_from_another_thread(ann, agent):
    loading, go_on = threading.Event(), threading.Event()

    def block():
        loading.set()
        assert go_on.wait(60)

    ann.loader.before = block
    passing = threading.Thread(target=ann.pass_)
    passing.start()
    assert loading.wait(60)
    off = ann.use.agents.disconnect(agent.id)
    assert off.deployment.status is Status.UNDEPLOYED
    go_on.set()
    passing.join(60)
    assert not ann.serves(agent)
    assert ann.deployment(agent.id).status is Status.UNDEPLOYED
    assert (ann.loader.loads, ann.loader.open) == (1, 0)


def test_what_is_connected_anew_while_it_is_loaded_is_loaded_anew(world, ann, agent):
    def again():
        ann.loader.before = lambda: None
        ann.use.agents.disconnect(agent.id)
        ann.use.agents.connect(agent.id)

    ann.loader.before = again
    ann.pass_()
    assert not ann.serves(agent)
    ann.pass_()
    assert ann.serves(agent)
    assert (ann.loader.loads, ann.loader.open) == (2, 1)
    assert world.log().count("connected") == 1


def test_what_is_taken_off_while_another_joins_is_not_joined(ann, bob, agent):
    ann.pass_()
    bob.loader.before = lambda: bob.use.agents.disconnect(agent.id)
    bob.pass_()
    assert not bob.serves(agent)
    assert (bob.loader.loads, bob.loader.open) == (1, 0)


@pytest.mark.parametrize("command", ["disconnect", "delete"])
def test_when_it_returns_nothing_answers_and_the_model_is_closed(ann, agent, command):
    ann.pass_()
    getattr(ann.use.agents, command)(agent.id)
    assert not ann.serves(agent)
    assert (ann.loader.loads, ann.loader.open) == (1, 0)


def test_when_rotate_returns_only_the_new_key_is_known_and_nothing_is_loaded(
    ann, agent
):
    ann.pass_()
    before = ann.registry.live(key_of(agent)).key
    ann.use.agents.rotate_key(agent.id)
    after = ann.registry.live(key_of(agent)).key
    assert after != before
    assert after == ann.use.agents.access(agent.id).api_key
    assert ann.loader.loads == 1


# --- the registry ------------------------------------------------------------------


def test_the_registry_ignores_rows_that_are_older_than_what_it_knows(ann, agent):
    ann.pass_()
    deployed = ann.core.views.rows.get(agent.deployment.id)
    ann.use.agents.disconnect(agent.id)
    ann.registry.follow(deployed)
    ann.registry.follow(None)
    assert not ann.serves(agent)


def test_an_older_row_brings_no_old_key_back(ann, agent):
    ann.pass_()
    deployed = ann.core.views.rows.get(agent.deployment.id)
    ann.use.agents.rotate_key(agent.id)
    key = ann.registry.live(key_of(agent)).key
    ann.registry.follow(deployed)
    assert ann.registry.live(key_of(agent)).key == key


def test_the_registry_serves_nothing_that_is_deleted_or_of_other_weights(ann, agent):
    ann.pass_()
    assert not ann.registry.has(agent.deployment.id, "f" * 64)
    ann.use.agents.delete(agent.id)
    assert not ann.registry.all_live()
    assert not ann.registry.has(agent.deployment.id, agent.checkpoint.digest)


def test_holding_another_model_closes_the_one_before(ann, agent):
    ann.pass_()
    deployment, digest = agent.deployment.id, agent.checkpoint.digest
    again = load(ann.core.blobs, ann.loader.runtimes, digest, None).model
    ann.registry.hold(deployment, digest, again)
    assert (ann.loader.loads, ann.loader.open) == (2, 1)
    ann.registry.hold(deployment, digest, again)
    assert ann.loader.open == 1, "it is the same model"
    ann.registry.close()
    ann.registry.close()
    assert (ann.loader.open, ann.serves(agent)) == (0, False)


def test_waiting_for_what_is_live_ends_when_it_is(ann, agent):
    key = key_of(agent)
    assert not ann.registry.wait_for(key, 0.001)
    passing = threading.Thread(target=ann.pass_)
    passing.start()
    assert ann.registry.wait_for(key, 60)
    passing.join(60)


# --- life --------------------------------------------------------------------------


def test_a_supervisor_that_is_stopped_says_so_and_frees_everything(world, bundle):
    worker, other = world.worker(alive=False), world.worker()
    agent = an_agent(worker, bundle)
    worker.supervisor.start()
    worker.supervisor.start()
    assert world.presence.is_alive(worker.id)
    worker.use.agents.connect(agent.id)
    assert worker.registry.wait_for(key_of(agent), 60)

    worker.supervisor.stop("Maintenance.")
    worker.supervisor.stop("Once more.")

    assert not world.presence.is_alive(worker.id)
    assert (worker.serves(agent), worker.loader.open) == (False, 0)
    (lost,) = events(worker, agent.id, "connection_lost")
    assert (lost.worker, lost.reason) == (worker.id, "Maintenance.")
    found = worker.deployment(agent.id)
    assert (found.status, found.reason) == (Status.PENDING, "Maintenance.")
    other.pass_()
    assert other.serves(agent)


def test_stopping_leaves_alone_what_others_serve(world, ann, bundle):
    agent = an_agent(ann, bundle)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    joining = world.worker(alive=False)
    joining.supervisor.start()
    assert joining.registry.wait_for(key_of(agent), 60)
    joining.supervisor.stop()
    assert "connection_lost" not in world.log()
    assert ann.serves(agent)
    assert joining.loader.open == 0


def test_a_supervisor_that_was_never_started_stops_in_silence(world, ann, agent):
    assert ann.use.agents.connect(agent.id) == agent
    ann.pass_()
    before = world.log()
    ann.supervisor.stop()
    assert world.log() == before


def test_a_pass_ends_early_when_it_is_to_stop(ann, bundle):
    agents = [ann.use.agents.connect(an_agent(ann, bundle).id) for _ in range(2)]
    ann.loader.before = ann.supervisor.stop
    ann.pass_()
    assert [ann.serves(agent) for agent in agents] == [True, False]
    assert ann.loader.loads == 1


@pytest.mark.parametrize("error", [Unavailable("locked"), RuntimeError("defect")])
def test_a_supervisor_survives_what_goes_wrong_in_a_pass(
    world, bundle, monkeypatch, error
):
    worker = world.worker(alive=False)
    agent = an_agent(worker, bundle)
    reconcile, failures = worker.supervisor.reconcile, iter([error, error])

    def sometimes():
        for failure in failures:
            raise failure
        reconcile()

    monkeypatch.setattr(worker.supervisor, "reconcile", sometimes)
    worker.supervisor.start()
    worker.use.agents.connect(agent.id)
    assert worker.registry.wait_for(key_of(agent), 60)
    worker.supervisor.stop()


def test_a_process_with_views_of_its_own_serves_the_same(world, ann, agent):
    ann.pass_()
    world.rows = MemoryRowStore()
    late = world.worker()
    late.pass_()
    assert late.serves(agent)


def test_two_arenas_on_one_file_serve_the_same_agent(tmp_path):
    first = Scene.open(tmp_path, store=str(tmp_path / "arena.db"))
    made = first.agent()
    with (
        first.arena,
        arena_core.open(tmp_path / "arena.db") as second,
        arena_core.open(tmp_path / "arena.db") as third,
    ):
        assert second.agents.connect(made.id).deployment.connected
        for arena in (second, third):
            action = arena.inference(made.id).get_action([0.0, 0.0, 0.0, 0.0])
            assert action in (0, 1)
        assert first.log().count("deployment.connect_claimed") == 1
        first.use.agents.disconnect(made.id)
        head = first.arena.application.core.store.head()
        for arena in (second, third):
            arena.application.core.views.catch_up()
            arena.supervisor.reconcile()
            with pytest.raises(Unavailable):
                arena.inference(made.id, timeout_s=0)
        assert first.arena.application.core.store.head() == head


# --- at once -----------------------------------------------------------------------


def test_what_others_may_wait_for_is_followed_at_once_and_a_stop_waits_for_nothing(
    bundle, monkeypatch
):
    monkeypatch.setattr(supervision, "LOOK_AGAIN_S", 60.0)
    world = World(agree=True)
    ann = world.worker()
    agent = an_agent(ann, bundle)
    begun = time.monotonic()
    ann.supervisor.start()
    try:
        for order in (ann.use.agents.connect, ann.use.agents.disconnect):
            order(agent.id)
            head = world.store.head()
            while world.presence.notes()[ann.id].position < head:
                time.sleep(0.01)
                assert time.monotonic() < begun + 30.0
    finally:
        ann.supervisor.stop()
    assert time.monotonic() < begun + 30.0


def test_only_training_is_not_followed():
    passed_over = {"import", "experiment", "pipeline", "stage"}
    assert frozenset(DECIDERS) - passed_over == supervision.FOLLOWED
