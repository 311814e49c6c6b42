"""Swaps as workers carry them out: what answers, what is recorded, what stays warm."""

from datetime import timedelta
from http import HTTPStatus

import numpy as np
import pytest

from arena_core import best, final, specific
from arena_core.application import agents as use_cases
from arena_core.application import swapping
from arena_core.application.holding import LEAST_WARM_S, LONGEST_PIN_S
from arena_core.application.loading import Runtimes
from arena_core.application.models import SINGLE, Turn
from arena_core.application.swapping import LEASE, MOST_ATTEMPTS
from arena_core.domain import deployment
from arena_core.domain.agent import Cause
from arena_core.domain.deployment import Status
from arena_core.domain.errors import (
    Conflict,
    IllegalTransition,
    Rejected,
    Unavailable,
)
from arena_core.domain.guards import Guard, Limit
from arena_core.domain.swap import Mode, Outcome, Phase, Shadow
from arena_core.entrypoints.http import agents as http
from arena_core.entrypoints.http.endpoints import Call
from unit.scenes import CARTPOLE, key_of
from unit.workers import World

import bundles

TICK = timedelta(microseconds=1)
NETWORKS = {
    1: bundles.CARTPOLE,
    2: bundles.CARTPOLE.swapped(),
    3: bundles.Network.of(4, 2, seed=9),
}
OBSERVED = bundles.observations(64, 4)
GUARD = Guard(600.0, action_shift=0.2)
BAKE = timedelta(seconds=600)


@pytest.fixture
def world():
    return World(agree=True)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(swapping, "PREPARE_S", 0.0)
    monkeypatch.setattr(swapping, "LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(use_cases, "AGREEMENT_S", 0.0)


@pytest.fixture
def ann(world):
    return world.worker()


@pytest.fixture
def bob(world):
    return world.worker()


def trained(worker, folder, *, steps=NETWORKS, kind="classic"):
    """Return an agent of the first of some checkpoints."""
    use = worker.use
    project = use.projects.create("carts", kind=kind)
    made = use.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=CARTPOLE
    )
    for step in steps:
        bundle = bundles.cartpole(folder / f"step{step}", network=NETWORKS[step])
        use.experiments.add_checkpoint(made.id, step=step, path=bundle)
    return use.agents.create("balancer", made.id, checkpoint=specific(1), kind=kind)


@pytest.fixture
def agent(ann, tmp_path):
    """An agent that ann serves, with the first of three checkpoints."""
    made = trained(ann, tmp_path)
    ann.use.agents.connect(made.id)
    ann.pass_()
    assert answers(ann, made) == 1
    return made


def ask(worker, agent, *, latency_s=0.001):
    """Ask what is live, as the data plane does; return what it does."""
    live = worker.registry.live(key_of(agent))
    turns = {SINGLE: Turn({"": OBSERVED}, len(OBSERVED))}
    acted = live.model.act(turns)
    if live.mirror is not None:
        live.mirror.answered(turns, acted, latencies_s=[latency_s])
        live.mirror.drain()
    return acted[SINGLE].actions


def answers(worker, agent):
    """Return the step of the checkpoint whose weights answer; None: nothing does."""
    live = worker.registry.live(key_of(agent))
    if live is None:
        return None
    actions = ask(worker, agent)
    (step,) = (
        step
        for step, network in NETWORKS.items()
        if np.array_equal(network(OBSERVED).argmax(axis=1), actions)
    )
    found = worker.use.agents.get(agent.id)
    assert live.digest == digests(worker, agent)[step]
    if found.deployment.status is Status.DEPLOYED:
        assert found.deployment.digest == found.checkpoint.digest
    return step


def digests(worker, agent):
    """Return the digests of the experiment's checkpoints, by step."""
    found = worker.use.experiments.checkpoints(agent.experiment_id)
    return {c.step: c.digest for c in found}


def swapped(worker, agent, step, **options):
    """Have a checkpoint take the place of what is live, and return the agent."""
    worker.use.agents.redeploy(agent.id, checkpoint=specific(step), **options)
    worker.pass_()
    return worker.use.agents.get(agent.id)


def since_connected(world):
    log = world.log()
    return log[log.index("connected") + 1 :]


def recorded(worker, agent, name):
    """Return the newest event of that name of the agent, or of its deployment."""
    (*_, event) = (
        e for e in worker.use.audit.timeline(agent.id) if e.name.endswith(f".{name}")
    )
    return event


# --- a swap --------------------------------------------------------------------------


def test_what_is_live_goes_on_until_the_new_weights_answer(world, ann, agent):
    seen = []
    ann.loader.before = lambda: seen.append(answers(ann, agent))
    asked = ann.use.agents.redeploy(agent.id, checkpoint=specific(2), reason="better")
    assert asked.deployment.status is Status.DEPLOYED
    assert (asked.deployment.swap.phase, asked.deployment.swap.mode) == (
        Phase.LOADING, Mode.PLAIN,
    )  # fmt: skip
    assert asked.checkpoint.step == 1, "it is what answers"
    ann.pass_()
    assert seen == [1]
    assert answers(ann, agent) == 2
    found = ann.use.agents.get(agent.id)
    assert found.checkpoint.step == 2
    assert [c.step for c in found.earlier_checkpoints] == [1]
    assert found.deployment.swap is None
    assert found.deployment.last_swap.outcome is Outcome.SWAPPED
    assert found.deployment.parity is not None
    assert since_connected(world) == [
        "swap_requested", "swap_claimed", "parity_checked", "checkpoint_swapped",
    ]  # fmt: skip


def test_the_log_says_who_has_swapped_what_and_why(ann, agent):
    swapped(ann, agent, 2, reason="better")
    asked = recorded(ann, agent, "swap_requested")
    assert (asked.actor, asked.reason) == ("user:ann", "better")
    of = digests(ann, agent)
    for name in ("swap_claimed", "checkpoint_swapped", "checkpoint_replaced"):
        event = recorded(ann, agent, name)
        assert event.actor == "system:supervisor"
        assert event.causation_id == asked.event_id
        assert event.correlation_id == asked.correlation_id
        assert event.reason == "better"
    done = recorded(ann, agent, "checkpoint_swapped").data
    assert (done.worker, done.before, done.digest) == (ann.id, of[1], of[2])
    replaced = recorded(ann, agent, "checkpoint_replaced").data
    assert (replaced.cause, replaced.checkpoint.step) == (Cause.REDEPLOY, 2)


def test_the_swap_and_the_new_checkpoint_are_one_append(ann, agent):
    swapped(ann, agent, 2)
    one, other = (
        recorded(ann, agent, name)
        for name in ("checkpoint_swapped", "checkpoint_replaced")
    )
    assert one.command_id == other.command_id


def test_the_past_of_a_swap_is_shown_as_it_was(world, ann, agent):
    before = world.store.head()
    swapped(ann, agent, 2)
    end = world.store.head()
    for position in range(before, end + 1):
        then = ann.application.on_behalf_of(
            ann.use.session.caller, as_of=position
        ).agents.get(agent.id)
        done = position >= recorded(ann, agent, "checkpoint_swapped").position
        assert (then.deployment.digest == digests(ann, agent)[2]) == done
        loading = before < position and not done
        assert (then.deployment.swap is not None) == loading


def test_to_ask_for_what_is_live_records_nothing(world, ann, agent):
    before = world.store.head()
    for options in ({}, {"guard": GUARD}, {"shadow": Shadow(5.0)}):
        ann.use.agents.redeploy(agent.id, checkpoint=specific(1), **options)
    assert world.store.head() == before


def test_one_swap_comes_after_another(world, ann, agent):
    ann.use.agents.redeploy(agent.id, checkpoint=specific(2))
    before = world.store.head()
    ann.use.agents.redeploy(agent.id, checkpoint=specific(2), reason="again")
    assert world.store.head() == before, "it is under way"
    with pytest.raises(IllegalTransition, match="Another swap is under way"):
        ann.use.agents.redeploy(agent.id, checkpoint=specific(3))
    with pytest.raises(Conflict, match="had no checkpoint before"):
        ann.use.agents.rollback(agent.id)
    ann.pass_()
    assert swapped(ann, agent, 3).checkpoint.step == 3
    assert answers(ann, agent) == 3


def test_a_rotated_key_and_a_swap_do_not_disturb_each_other(ann, agent):
    ann.loader.before = lambda: ann.use.agents.rotate_key(agent.id)
    swapped(ann, agent, 2)
    assert answers(ann, agent) == 2
    access = ann.use.agents.access(agent.id)
    assert ann.registry.live(key_of(agent)).key == access.api_key


# --- what cannot go live -------------------------------------------------------------


def test_weights_that_answer_otherwise_than_trained_leave_the_old_ones(
    world, ann, tmp_path, agent
):
    folder = bundles.cartpole(tmp_path / "wrong", network=NETWORKS[3])
    bundles.write_weights(folder, NETWORKS[3].swapped())
    ann.use.experiments.add_checkpoint(agent.experiment_id, step=4, path=folder)
    found = swapped(ann, agent, 4)
    assert answers(ann, agent) == 1
    assert found.checkpoint.step == 1
    assert found.deployment.swap is None
    assert found.deployment.last_swap.outcome is Outcome.FAILED
    assert found.deployment.last_swap.reason
    assert world.log()[-2:] == ["parity_checked", "swap_failed"]
    assert ann.loader.open == 1
    swapped(ann, agent, 2)
    assert answers(ann, agent) == 2


def test_weights_that_cannot_be_loaded_leave_the_old_ones(ann, agent):
    def out_of_memory():
        raise Unavailable("There is no memory left.")

    ann.loader.before = out_of_memory
    found = swapped(ann, agent, 2)
    assert answers(ann, agent) == 1
    assert found.deployment.last_swap.reason == "There is no memory left."
    assert found.deployment.status is Status.DEPLOYED


def test_a_loader_that_crashes_every_time_is_given_up(world, ann, agent):
    def defect():
        raise RuntimeError("defect")

    ann.loader.before = defect
    ann.use.agents.redeploy(agent.id, checkpoint=specific(2))
    for _ in range(MOST_ATTEMPTS):
        with pytest.raises(RuntimeError, match="defect"):
            ann.pass_()
        ann.pass_()  # gives its own claim back
    ann.pass_()
    assert world.log().count("swap_interrupted") == MOST_ATTEMPTS
    found = ann.use.agents.get(agent.id)
    assert "Gave up" in found.deployment.last_swap.reason
    assert answers(ann, agent) == 1


def test_a_disconnect_ends_a_swap_that_is_under_way(world, ann, agent):
    ann.loader.before = lambda: ann.use.agents.disconnect(agent.id)
    found = swapped(ann, agent, 2)
    assert found.deployment.status is Status.UNDEPLOYED
    assert (found.checkpoint.step, found.deployment.swap) == (1, None)
    assert answers(ann, agent) is None
    ann.loader.before = lambda: None
    ann.pass_()
    assert ann.loader.open == 0, "nothing is left of it"
    assert "checkpoint_swapped" not in world.log()


def test_deleting_the_agent_ends_a_swap_that_is_under_way(world, ann, agent):
    ann.loader.before = lambda: ann.use.agents.delete(agent.id)
    ann.use.agents.redeploy(agent.id, checkpoint=specific(2))
    ann.pass_(2)
    assert not ann.registry.all_live()
    assert ann.loader.open == 0
    assert "checkpoint_swapped" not in world.log()


# --- where nothing is live -----------------------------------------------------------


def test_what_is_not_live_has_its_new_checkpoint_at_once(world, ann, tmp_path):
    agent = trained(ann, tmp_path)
    found = ann.use.agents.redeploy(agent.id, checkpoint=final(), reason="newest")
    assert (found.checkpoint.step, found.deployment.status) == (3, Status.UNDEPLOYED)
    assert found.deployment.digest == found.checkpoint.digest
    assert world.log()[-1] == "checkpoint_assigned"
    before = world.store.head()
    ann.use.agents.redeploy(agent.id, checkpoint=specific(3))
    assert world.store.head() == before
    ann.use.agents.connect(agent.id)
    ann.pass_()
    assert answers(ann, agent) == 3


def test_an_advanced_agent_needs_no_deployment_to_have_another(ann, tmp_path):
    agent = trained(ann, tmp_path, kind="advanced")
    found = ann.use.agents.redeploy(agent.id, checkpoint=final())
    assert (found.checkpoint.step, found.deployment) == (3, None)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    assert answers(ann, agent) == 3


def test_what_has_failed_may_have_another(ann, agent, world):
    world.blobs._bundles, kept = {}, world.blobs._bundles
    ann.use.agents.disconnect(agent.id)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    world.blobs._bundles = kept
    found = ann.use.agents.redeploy(agent.id, checkpoint=specific(2))
    assert (found.deployment.status, found.checkpoint.step) == (Status.FAILED, 2)


def test_what_is_pending_must_be_waited_for(ann, tmp_path):
    agent = trained(ann, tmp_path)
    ann.use.agents.connect(agent.id)
    with pytest.raises(IllegalTransition, match="is Pending: wait"):
        ann.use.agents.redeploy(agent.id, checkpoint=final())


@pytest.mark.parametrize("options", [{"guard": GUARD}, {"shadow": Shadow(5.0)}])
def test_nothing_can_be_compared_with_what_is_not_live(ann, tmp_path, options):
    agent = trained(ann, tmp_path)
    with pytest.raises(Conflict, match="not Deployed, so there is nothing to compare"):
        ann.use.agents.redeploy(agent.id, checkpoint=final(), **options)


def test_a_checkpoint_is_chosen_as_an_agents_first_one_is(ann, agent):
    with pytest.raises(Rejected, match="no checkpoint at step 7"):
        ann.use.agents.redeploy(agent.id, checkpoint=specific(7))
    with pytest.raises(Rejected, match="none is the best"):
        ann.use.agents.redeploy(agent.id, checkpoint=best())
    with pytest.raises(Rejected, match=r"best\(\), final\(\) or specific\(step\)"):
        ann.use.agents.redeploy(agent.id, checkpoint="final")


# --- back again ----------------------------------------------------------------------


def test_a_rollback_within_the_warm_time_loads_nothing(world, ann, agent):
    swapped(ann, agent, 2)
    loads = ann.loader.loads
    world.wait(timedelta(seconds=LEAST_WARM_S - 1))
    ann.follow()
    ann.use.agents.rollback(agent.id, reason="worse")
    ann.pass_()
    assert answers(ann, agent) == 1
    assert ann.loader.loads == loads
    replaced = recorded(ann, agent, "checkpoint_replaced")
    assert (replaced.data.cause, replaced.reason) == (Cause.ROLLBACK, "worse")
    assert (
        recorded(ann, agent, "parity_checked").data.digest
        == replaced.data.checkpoint.digest
    )


def test_what_was_replaced_is_closed_when_it_has_been_warm_for_long_enough(
    world, ann, agent
):
    old = ann.registry.live(key_of(agent)).model
    swapped(ann, agent, 2)
    ann.follow()
    assert ann.loader.open == 2
    old.act({SINGLE: Turn({"": OBSERVED}, len(OBSERVED))})
    world.wait(timedelta(seconds=LEAST_WARM_S))
    ann.follow()
    assert ann.loader.open == 1
    ann.use.agents.rollback(agent.id)
    ann.pass_()
    assert answers(ann, agent) == 1, "it is loaded again"


def test_what_came_back_while_it_was_warm_is_not_closed(world, ann, agent):
    swapped(ann, agent, 2)
    swapped(ann, agent, 1)
    world.wait(timedelta(seconds=LEAST_WARM_S))
    ann.follow()
    assert ann.loader.open == 1
    assert answers(ann, agent) == 1


def test_what_an_episode_still_needs_is_not_closed(world, ann, agent):
    old = ann.registry.live(key_of(agent))
    swapped(ann, agent, 2)
    assert ann.registry.pin(old, 2 * LEAST_WARM_S)
    assert ann.registry.pin(old, LEAST_WARM_S), "which takes nothing away"
    world.wait(timedelta(seconds=2 * LEAST_WARM_S) - TICK)
    ann.follow()
    assert ann.loader.open == 2
    world.wait(TICK)
    ann.follow()
    assert ann.loader.open == 1
    assert not ann.registry.pin(old, LEAST_WARM_S)


def test_what_is_needed_without_end_is_closed_after_an_hour(world, ann, agent):
    old = ann.registry.live(key_of(agent))
    swapped(ann, agent, 2)
    ann.registry.pin(old, 10 * LONGEST_PIN_S)
    world.wait(timedelta(seconds=LEAST_WARM_S + LONGEST_PIN_S) - TICK)
    ann.follow()
    assert ann.loader.open == 2
    world.wait(TICK)
    ann.follow()
    assert ann.loader.open == 1


def test_what_an_episode_needs_is_closed_when_the_agent_is_taken_off(ann, agent):
    old = ann.registry.live(key_of(agent))
    ann.registry.pin(old, LEAST_WARM_S)
    ann.use.agents.disconnect(agent.id)
    assert ann.loader.open == 0
    assert not ann.registry.pin(old, LEAST_WARM_S)
    ann.use.agents.connect(agent.id)
    ann.pass_()
    assert not ann.registry.pin(old, LEAST_WARM_S), "the same weights, loaded anew"


def test_any_earlier_checkpoint_can_come_back(ann, agent):
    of = digests(ann, agent)
    for step in (2, 3):
        swapped(ann, agent, step)
    for step in (1, 3, 2, 1):
        ann.use.agents.rollback(agent.id, to=of[step])
        ann.pass_()
        assert answers(ann, agent) == step


def test_one_rollback_after_another_leads_further_back(ann, agent):
    for step in (2, 3):
        swapped(ann, agent, step)
    for step in (2, 1):
        ann.use.agents.rollback(agent.id)
        ann.pass_()
        assert answers(ann, agent) == step
    with pytest.raises(Conflict, match="had no checkpoint before this one"):
        ann.use.agents.rollback(agent.id)
    with pytest.raises(Rejected, match="never had"):
        ann.use.agents.rollback(agent.id, to="f" * 64)


def test_what_is_not_live_is_rolled_back_at_once(ann, tmp_path):
    agent = trained(ann, tmp_path)
    ann.use.agents.redeploy(agent.id, checkpoint=specific(2))
    found = ann.use.agents.rollback(agent.id)
    assert (found.checkpoint.step, found.deployment.digest) == (
        1, digests(ann, agent)[1],
    )  # fmt: skip


# --- several workers -----------------------------------------------------------------


@pytest.fixture
def both(ann, bob, agent):
    """The agent, served by both."""
    bob.pass_()
    assert (answers(ann, agent), answers(bob, agent)) == (1, 1)
    return agent


def test_every_worker_has_the_new_weights_before_the_log_says_so(ann, bob, both):
    ann.loader.before = bob.pass_
    swapped(ann, both, 2)
    assert bob.registry.has(both.deployment.id, digests(ann, both)[2])
    assert answers(bob, both) == 1, "it has not followed"
    bob.follow()
    assert (answers(ann, both), answers(bob, both)) == (2, 2)
    assert (ann.loader.loads, bob.loader.loads) == (2, 2)


def test_the_log_says_nothing_of_the_swap_until_all_have_the_new_weights(
    world, ann, bob, both, monkeypatch
):
    ask_the_others = ann.core.agreement.all_prepared

    def meanwhile(*what):
        assert "checkpoint_swapped" not in world.log()
        if not ask_the_others(*what):
            bob.pass_()
            return False
        return True

    monkeypatch.setattr(swapping, "PREPARE_S", 30.0)
    monkeypatch.setattr(ann.core.agreement, "all_prepared", meanwhile)
    swapped(ann, both, 2)
    bob.follow()
    assert (answers(ann, both), answers(bob, both)) == (2, 2)
    assert bob.loader.loads == 2


def test_a_worker_that_has_not_loaded_them_in_time_falls_silent_and_joins(
    ann, bob, both
):
    swapped(ann, both, 2)
    bob.follow()
    assert answers(bob, both) is None, "the old weights must not answer any more"
    bob.pass_()
    assert answers(bob, both) == 2


def test_while_a_worker_waits_for_others_it_loads_what_they_wait_for(
    ann, bob, both, tmp_path, monkeypatch
):
    other = trained(bob, tmp_path / "other")
    bob.use.agents.connect(other.id)
    bob.pass_()
    ann.pass_()
    bob.use.agents.redeploy(other.id, checkpoint=specific(3))
    trained(bob, tmp_path / "never connected")
    wanted = digests(ann, other)[3]
    looked = []

    def not_yet(*_):
        looked.append(ann.registry.has(other.deployment.id, wanted))
        return looked[-1]

    monkeypatch.setattr(swapping, "PREPARE_S", 30.0)
    monkeypatch.setattr(ann.core.agreement, "all_prepared", not_yet)
    ann.supervisor._swapper._await_others(both.deployment.id, digests(ann, both)[2])
    assert looked == [False, True]


def test_only_one_of_two_workers_claims_a_swap(world, ann, bob, both):
    bob.use.agents.redeploy(both.id, checkpoint=specific(2))
    row = ann.core.views.rows.get(both.deployment.id)
    ann.loader.before = lambda: bob.supervisor._swapper.attend(row)
    ann.pass_()
    assert world.log().count("swap_claimed") == 1
    assert recorded(ann, both, "swap_claimed").data.worker == ann.id
    assert answers(ann, both) == 2


def test_a_claim_whose_worker_is_gone_is_taken_over_and_nothing_is_lost(
    world, ann, bob, both
):
    bob.loader.before = crash
    ann.use.agents.redeploy(both.id, checkpoint=specific(2))
    with pytest.raises(Killed):
        bob.pass_()
    ann.pass_()
    assert answers(ann, both) == 1, "its holder is alive and has a lease"
    bob.die()
    ann.pass_(2)
    assert answers(ann, both) == 2
    assert since_connected(world) == [
        "swap_requested", "swap_claimed", "swap_interrupted", "swap_claimed",
        "parity_checked", "checkpoint_swapped",
    ]  # fmt: skip
    assert recorded(ann, both, "swap_claimed").data.attempt == 2


class Killed(BaseException):
    """The end of a process: nothing catches it."""


def crash():
    raise Killed


def test_a_server_that_dies_with_its_swap_comes_back_and_goes_on_with_it(
    world, ann, agent
):
    ann.loader.before = crash
    ann.use.agents.redeploy(agent.id, checkpoint=specific(2))
    with pytest.raises(Killed):
        ann.pass_()
    ann.die()
    late = world.worker()
    late.pass_(2)
    assert answers(late, agent) == 1, "first what was live"
    late.pass_()
    assert answers(late, agent) == 2
    assert since_connected(world) == [
        "swap_requested", "swap_claimed", "connection_lost", "connect_claimed",
        "parity_checked", "connected", "swap_claimed", "parity_checked",
        "checkpoint_swapped",
    ]  # fmt: skip


def test_what_a_zombie_brings_is_refused(world, ann, bob, both):
    def taken_over():
        world.wait(LEASE)
        bob.pass_()

    ann.loader.before = taken_over
    swapped(ann, both, 2)
    assert world.log().count("checkpoint_swapped") == 1
    assert recorded(ann, both, "checkpoint_swapped").data.worker == bob.id
    ann.follow()
    assert (answers(ann, both), answers(bob, both)) == (2, 2)


def test_a_lease_holds_until_it_is_over(world, ann, bob, both):
    def late():
        world.wait(LEASE - TICK)
        bob.pass_()

    ann.loader.before = late
    swapped(ann, both, 2)
    assert recorded(ann, both, "checkpoint_swapped").data.worker == ann.id


def test_a_worker_whose_weights_answer_otherwise_serves_on_until_the_swap(
    ann, bob, both
):
    other = bundles.Network.of(4, 2, seed=77).onnx(answer="logits")
    load = bob.supervisor._runtimes.loaders[".onnx"]
    bob.supervisor._runtimes = Runtimes(
        {".onnx": lambda signature, _: load(signature, other)}
    )
    ann.loader.before = bob.pass_
    swapped(ann, both, 2)
    assert answers(bob, both) == 1
    bob.pass_()
    assert answers(bob, both) is None
    assert answers(ann, both) == 2


def test_a_worker_that_cannot_load_tries_again_later(world, ann, bob, both):
    def defect():
        raise RuntimeError("defect")

    bob.loader.before = defect
    ann.loader.before = lambda: bob.pass_(2)
    ann.use.agents.redeploy(both.id, checkpoint=specific(2), shadow=Shadow(600.0))
    ann.pass_()
    assert bob.loader.loads == 2, "it is not tried again at once"
    bob.loader.before = lambda: None
    world.wait(swapping.TRY_AGAIN)
    bob.pass_()
    assert bob.registry.live(key_of(both)).mirror is not None


def test_a_model_that_comes_when_nobody_wants_it_any_more_is_closed(ann, agent):
    model = ann.registry.live(key_of(agent)).model
    ann.use.agents.disconnect(agent.id)
    ann.registry.hold(agent.deployment.id, agent.checkpoint.digest, model)
    assert not ann.registry.has(agent.deployment.id, agent.checkpoint.digest)
    assert ann.loader.open == 0


def test_a_key_is_not_said_to_be_dead_while_a_process_has_not_followed(ann, bob, both):
    old = ann.registry.live(key_of(both)).key
    with pytest.raises(Unavailable, match="not every process of the server"):
        ann.use.agents.rotate_key(both.id)
    assert bob.registry.live(key_of(both)).key == old
    bob.follow()
    new = ann.use.agents.access(both.id).api_key
    assert bob.registry.live(key_of(both)).key == new != old


def test_who_waits_for_a_swap_waits_for_what_all_have_followed_of_it(
    ann, bob, both, monkeypatch
):
    """It may be recorded in the very moment in which somebody looks."""
    ann.use.agents.redeploy(both.id, checkpoint=specific(2))
    followed = []
    agreement = ann.core.agreement

    def swap_first(look=ann.core.views.catch_up):
        if not followed and answers(bob, both) == 1:
            monkeypatch.setattr(ann.core.views, "catch_up", look)
            bob.pass_()
        return look()

    monkeypatch.setattr(ann.core.views, "catch_up", swap_first)
    monkeypatch.setattr(
        agreement, "all_followed", lambda position, _: followed.append(position) is None
    )
    monkeypatch.setattr(swapping, "PREPARE_S", 0.0)
    found = ann.use.agents.settled(both.id)
    assert found.checkpoint.step == 2
    assert followed == [recorded(ann, both, "checkpoint_swapped").position]


def test_a_swap_that_not_every_worker_has_followed_is_still_under_way(ann, bob, both):
    """One of them may answer with the old weights."""
    ann.use.agents.redeploy(both.id, checkpoint=specific(2))
    bob.follow()
    ann.pass_()
    assert answers(ann, both) == 2
    assert answers(bob, both) == 1
    assert ann.use.agents.settled(both.id) is None
    bob.follow()
    assert ann.use.agents.settled(both.id).checkpoint.step == 2


@pytest.mark.parametrize("wait_s", [0.0, 1.0])
def test_what_is_not_settled_is_never_answered_as_done(ann, bob, both, wait_s):
    """However it looks to the worker that answers."""
    ann.use.agents.redeploy(both.id, checkpoint=specific(2))
    ann.pass_()
    body = http.Redeployment(http.Choice("specific", 2))
    call = Call(ann.use, {"agent_id": both.id}, http.Wait(wait=wait_s), body)
    reply = http.redeploy(call)
    assert reply.resource.deployment.swap is None
    assert reply.status is HTTPStatus.ACCEPTED
    bob.follow()
    settled = reply.until() if wait_s else http.redeploy(call)
    assert settled.status is HTTPStatus.OK


# --- guarded -------------------------------------------------------------------------


def baking(worker, agent, step=2):
    found = swapped(worker, agent, step, guard=GUARD)
    assert found.deployment.swap.phase is Phase.BAKING
    return found


def test_a_guarded_checkpoint_answers_while_it_bakes(world, ann, agent):
    found = baking(ann, agent)
    assert answers(ann, agent) == 2
    assert found.checkpoint.step == 2
    assert found.deployment.swap.mode is Mode.GUARDED
    assert found.deployment.swap.until == world.now + BAKE
    assert found.deployment.swap.guard == GUARD


def test_a_limit_that_is_crossed_brings_the_old_weights_back(world, ann, agent):
    baking(ann, agent)
    loads = ann.loader.loads
    for _ in range(20):
        ask(ann, agent)
    ann.follow()
    assert answers(ann, agent) == 1, "at once, and with the weights that it held"
    assert ann.loader.loads == loads
    found = ann.use.agents.get(agent.id)
    assert (found.checkpoint.step, found.deployment.swap) == (1, None)
    ended = found.deployment.last_swap
    assert (ended.outcome, ended.limit) == (Outcome.REVERTED, Limit.ACTION_SHIFT)
    assert ended.figures.action_shift > GUARD.action_shift
    assert found.deployment.parity is not None
    reverted = recorded(ann, agent, "swap_reverted")
    assert reverted.data.figures == ended.figures
    replaced = recorded(ann, agent, "checkpoint_replaced")
    assert replaced.data.cause is Cause.AUTOMATIC_ROLLBACK
    assert replaced.command_id == reverted.command_id
    assert world.log()[-1] == "swap_reverted"


def test_a_checkpoint_that_keeps_its_limits_has_passed_when_the_time_is_over(
    world, ann, agent
):
    guard = Guard(600.0, error_rate=0.01)
    swapped(ann, agent, 2, guard=guard)
    for _ in range(20):
        ask(ann, agent)
    world.wait(BAKE - TICK)
    ann.follow()
    assert ann.use.agents.get(agent.id).deployment.swap is not None
    world.wait(TICK)
    ann.follow()
    found = ann.use.agents.get(agent.id)
    assert found.deployment.swap is None
    assert found.deployment.last_swap.outcome is Outcome.PASSED
    assert found.deployment.last_swap.figures.requests == 20
    assert answers(ann, agent) == 2
    assert ann.registry.live(key_of(agent)).mirror is None


def test_errors_alone_cross_a_limit(ann, agent):
    swapped(ann, agent, 2, guard=Guard(600.0, error_rate=0.01))
    ann.registry.live(key_of(agent)).mirror.failed(50)
    ann.follow()
    assert answers(ann, agent) == 1
    assert recorded(ann, agent, "swap_reverted").data.limit is Limit.ERROR_RATE


def test_a_rotated_key_does_not_begin_the_counting_anew(ann, agent):
    baking(ann, agent)
    mirror = ann.registry.live(key_of(agent)).mirror
    ann.use.agents.rotate_key(agent.id)
    assert ann.registry.live(key_of(agent)).mirror is mirror


@pytest.mark.parametrize("step", [1, 3])
def test_an_order_ends_the_baking(world, ann, agent, step):
    baking(ann, agent)
    if step == 1:
        ann.use.agents.rollback(agent.id)
    else:
        ann.use.agents.redeploy(agent.id, checkpoint=specific(step))
    assert since_connected(world)[-2:] == ["baking_stopped", "swap_requested"]
    found = ann.use.agents.get(agent.id)
    assert found.deployment.last_swap.outcome is Outcome.STOPPED
    ann.pass_()
    assert answers(ann, agent) == step


def test_the_worker_that_sees_it_first_brings_the_old_weights_back_for_all(
    world, ann, bob, both
):
    ann.loader.before = bob.pass_
    baking(ann, both)
    bob.follow()
    for _ in range(20):
        ask(bob, both)
    bob.follow()
    assert answers(bob, both) == 1
    assert recorded(bob, both, "swap_reverted").data.worker == bob.id
    ann.follow()
    assert answers(ann, both) == 1
    ann.pass_(2)
    bob.pass_(2)
    assert world.log()[-1] == "swap_reverted", "and nothing is lost by that"
    assert (ann.loader.loads, bob.loader.loads) == (2, 2)


def test_only_the_server_says_that_the_time_is_over(world, ann, bob, both):
    ann.loader.before = bob.pass_
    baking(ann, both)
    world.wait(BAKE)
    bob.follow()
    assert bob.use.agents.get(both.id).deployment.swap is not None
    ann.follow()
    assert bob.use.agents.get(both.id).deployment.swap is None


def test_baking_goes_on_after_a_restart(world, ann, agent):
    until = baking(ann, agent).deployment.swap.until
    ask(ann, agent)
    ann.die()
    world.wait(BAKE / 2)
    late = world.worker()
    late.pass_(3)
    assert answers(late, agent) == 2
    assert late.use.agents.get(agent.id).deployment.swap.until == until
    for _ in range(20):
        ask(late, agent)
    late.follow()
    assert answers(late, agent) == 1


def test_baking_ends_after_a_restart_though_nobody_has_asked(world, ann, agent):
    baking(ann, agent)
    ann.die()
    world.wait(BAKE)
    late = world.worker()
    late.pass_(3)
    late.follow()
    found = late.use.agents.get(agent.id)
    assert found.deployment.last_swap.outcome is Outcome.PASSED
    assert found.deployment.last_swap.figures.requests == 0
    assert answers(late, agent) == 2


def test_a_worker_that_has_lost_the_old_weights_does_not_judge(ann, agent):
    baking(ann, agent)
    ann.registry.discard(agent.deployment.id, digests(ann, agent)[1])
    ann.follow()
    assert ann.registry.live(key_of(agent)).mirror is None
    ann.follow()
    assert answers(ann, agent) == 2
    ann.pass_()
    assert ann.registry.live(key_of(agent)).mirror is not None, "it has loaded them"


# --- shadows -------------------------------------------------------------------------


def test_a_shadow_is_compared_and_replaces_nothing(world, ann, agent):
    found = swapped(ann, agent, 2, shadow=Shadow(600.0))
    assert (found.deployment.swap.mode, found.deployment.swap.phase) == (
        Mode.SHADOW, Phase.BAKING,
    )  # fmt: skip
    assert found.checkpoint.step == 1
    for _ in range(20):
        assert answers(ann, agent) == 1
    ann.follow()
    assert ann.use.agents.get(agent.id).deployment.swap is not None
    world.wait(BAKE)
    ann.follow()
    found = ann.use.agents.get(agent.id)
    ended = found.deployment.last_swap
    assert (ended.outcome, ended.digest) == (
        Outcome.COMPARED, digests(ann, agent)[2],
    )  # fmt: skip
    assert ended.figures.action_shift > 0.2
    assert answers(ann, agent) == 1
    assert since_connected(world) == [
        "swap_requested", "swap_claimed", "parity_checked", "shadow_started",
        "shadow_compared",
    ]  # fmt: skip


def test_to_ask_for_what_is_live_ends_a_shadow(world, ann, agent):
    swapped(ann, agent, 2, shadow=Shadow(600.0))
    found = ann.use.agents.redeploy(agent.id, checkpoint=specific(1))
    assert found.deployment.swap is None
    assert world.log()[-1] == "baking_stopped"
    assert ann.registry.live(key_of(agent)).mirror is None


def test_a_shadow_that_went_well_goes_live_without_loading(ann, agent):
    swapped(ann, agent, 2, shadow=Shadow(600.0))
    loads = ann.loader.loads
    swapped(ann, agent, 2)
    assert answers(ann, agent) == 2
    assert ann.loader.loads == loads


# --- the end of a worker -------------------------------------------------------------


def test_a_worker_that_stops_hands_over_what_another_has_loaded(world, ann, bob, both):
    ann.supervisor._threads = [_Ended()]
    ann.supervisor.stop()
    replaced = recorded(bob, both, "server_replaced").data
    assert (replaced.worker, replaced.lost) == (bob.id, ann.id)
    bob.pass_()
    assert answers(bob, both) == 1
    assert "connection_lost" not in world.log()


def test_a_worker_that_has_just_begun_silences_nobody(world, ann, bob, both):
    """It may be the first to see that another has died."""
    ann.die()
    new = world.worker()
    new.pass_(2)
    bob.follow()
    replaced = recorded(bob, both, "server_replaced").data
    assert (replaced.worker, replaced.lost) == (bob.id, ann.id)
    assert answers(bob, both) == answers(new, both) == 1
    assert "connection_lost" not in world.log()


def test_a_claim_of_a_dead_worker_has_no_heir(world, ann, bob, both):
    """Though another still holds the weights that it was to put live."""
    record = bob.supervisor._recording.record
    row = bob.core.views.rows.get(both.deployment.id)
    record(row, deployment.LoseConnection(ann.id, "Unwell."))
    record(row, deployment.ClaimConnect(bob.id, world.now + LEASE))
    assert ann.registry.has(both.deployment.id, both.checkpoint.digest)
    bob.die()
    new = world.worker()
    new.pass_(2)
    assert answers(new, both) == 1


class _Ended:
    """A thread that has come to its end."""

    def join(self):
        pass


def test_workers_that_nobody_sees_do_not_take_over_from_each_other_for_ever(
    world, ann, bob, both
):
    """As when somebody empties the folder of their locks."""
    for worker in (ann, bob):
        world.presence.withdraw(worker.id)
    for _ in range(5):
        ann.pass_()
        bob.pass_()
    assert since_connected(world).count("server_replaced") == 1
    assert answers(ann, both) == answers(bob, both) == 1


def test_a_model_that_comes_before_any_news_of_its_deployment_is_kept(ann, bob, both):
    model = ann.registry.live(key_of(both)).model
    late = bob.world.worker()
    late.registry.hold(both.deployment.id, both.checkpoint.digest, model)
    assert late.registry.has(both.deployment.id, both.checkpoint.digest)
    assert answers(late, both) is None
    late.follow()
    assert answers(late, both) == 1
