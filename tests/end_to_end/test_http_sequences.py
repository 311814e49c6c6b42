"""Episodes whose memory the server keeps: what they answer, over swaps as well."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
from attrs import frozen
from hypothesis import given, settings

import arena_core
from unit import recurrent_bundles

import shapes
from end_to_end.http_world import Endpoint, opened
from end_to_end.open_inference_calls import answered, assert_refused, infer, request
from end_to_end.processes import eventually
from end_to_end.shapes_over_http import agents_of_every_shape
from every_shape import EVERY_SHAPE
from shapes import RECURRENT, Recurrent

ROWS, STEPS = 2, 8
OTHER, WIDER = Recurrent(seed=5), Recurrent(width=6, seed=6)
NETWORKS = {10: RECURRENT, 20: OTHER, 30: WIDER}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with agents_of_every_shape(tmp_path_factory) as agents:
        yield agents


@pytest.fixture(scope="module")
def recurrent(live):
    return live("recurrent")


def observed(step, rows=ROWS):
    return shapes.vectors(rows, 3, seed=step)


def place(sequence, *, start=False, end=False):
    return {
        "sequence_id": sequence,
        "sequence_start": start,
        "sequence_end": end,
    }


def step(endpoint, sequence, arrays, *, start=False, end=False, **more):
    """Return the answer to one step."""
    inputs = arrays if isinstance(arrays, dict) else {"obs": arrays}
    parameters = place(sequence, start=start, end=end)
    return infer(endpoint, inputs, parameters=parameters, **more)


def action(answer):
    arrays = answered(answer)
    assert arrays.keys() == {"action"}
    return arrays["action"].tolist()


def acted(endpoint, sequence, number, **more):
    return action(step(endpoint, sequence, observed(number), **more))


def offline(network, steps=STEPS, rows=ROWS):
    """Return what NumPy says of a whole episode."""
    hidden, actions = np.zeros((rows, 1, network.width), "f4"), []
    for number in range(steps):
        logits, hidden = network(observed(number, rows), hidden)
        actions.append(logits.argmax(axis=1).tolist())
    return actions


TRACE = offline(RECURRENT)


def test_the_traces_of_these_networks_tell_them_apart():
    assert len({str(offline(network)) for network in NETWORKS.values()}) == 3
    afresh = [offline(RECURRENT, 1)[0]] * STEPS
    assert afresh != TRACE


# --- one episode ---------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [7, 2**64 - 1, "an episode \u00e4"])
def test_an_episode_is_that_of_a_caller_who_carries_its_memory(recurrent, sequence):
    carried = {}
    for number in range(STEPS):
        kept = ["action", "hidden_state/h", "hidden_state/_checkpoint"]
        told = answered(
            step(
                recurrent,
                sequence,
                observed(number),
                start=number == 0,
                end=number == STEPS - 1,
                outputs=[{"name": name} for name in kept],
            )
        )
        truth = answered(infer(recurrent, {"obs": observed(number)} | carried))
        assert told.keys() == truth.keys() == set(kept)
        for name, array in truth.items():
            assert array.tobytes() == told[name].tobytes()
        carried = {k: v for k, v in truth.items() if k != "action"}


@pytest.mark.parametrize("form", ["flat", "nested", "binary"])
def test_an_episode_goes_as_in_training(recurrent, form):
    acts = [
        acted(recurrent, 8, n, start=n == 0, end=n == STEPS - 1, form=form)
        for n in range(STEPS)
    ]
    assert acts == TRACE


def test_an_episode_of_one_step_leaves_nothing(recurrent):
    assert acted(recurrent, 9, 0, start=True, end=True) == TRACE[0]
    assert_refused(step(recurrent, 9, observed(1)))


def test_episodes_side_by_side_do_not_see_each_other(recurrent):
    ids = [1, "1", 2]
    for number in range(STEPS):
        for sequence in ids:
            assert acted(recurrent, sequence, number, start=not number) == TRACE[number]


def test_to_begin_again_is_to_begin_anew(recurrent):
    for number in range(3):
        assert acted(recurrent, 10, number, start=not number) == TRACE[number]
    assert acted(recurrent, 10, 0, start=True) == TRACE[0]
    assert acted(recurrent, 10, 1) == TRACE[1]


def test_a_sampled_episode_draws_as_the_data_plane_does(recurrent):
    parameters = {"mode": "sample", "seed": 3}
    for number in (0, 1):
        where = place(11, start=number == 0)
        told = infer(
            recurrent, {"obs": observed(number)}, parameters=where | parameters
        )
        assert answered(told).keys() == {"action"}
    first = infer(recurrent, {"obs": observed(0)}, parameters=parameters)
    again = infer(
        recurrent,
        {"obs": observed(0)},
        parameters=place(11, start=True) | parameters,
    )
    assert action(again) == answered(first)["action"].tolist()


def test_two_hidden_states_and_several_agents_are_kept(tmp_path):
    with opened() as world:
        folder = recurrent_bundles.team_policy(tmp_path / "team")
        team = world.live(folder, algorithm="IPPO")
        carried = {}
        for number in range(4):
            arrays = {
                f"agents/{agent}/obs": obs
                for agent, obs in recurrent_bundles.team_seen(2, number).items()
            }
            if number == 2:  # of whom one has no turn
                del arrays["agents/scout_1/obs"]
            mine = {k: v for k, v in carried.items() if k.rpartition("/hidden")[0]}
            asked = {a.split("/")[1] for a in arrays}
            mine = {k: v for k, v in mine.items() if k.split("/")[1] in asked}
            truth = answered(infer(team, arrays | mine))
            told = answered(step(team, "t", arrays, start=not number))
            assert told.keys() == {f"agents/{agent}/action" for agent in asked}
            for name, array in told.items():
                assert array.tobytes() == truth[name].tobytes()
            carried |= {k: v for k, v in truth.items() if "hidden_state" in k}


def test_who_keeps_nothing_takes_no_notice_of_a_sequence(live):
    endpoint, obs = live("image"), EVERY_SHAPE["image"].observe(2)
    plain = answered(infer(endpoint, {"obs": obs}))
    for more in ({}, {"start": True}, {"end": True}):
        told = answered(step(endpoint, 7, obs, **more))
        assert told["action"].tolist() == plain["action"].tolist()


# --- what is refused -----------------------------------------------------------------


def test_an_episode_that_nobody_has_begun_is_refused_and_told_why(recurrent):
    said = assert_refused(step(recurrent, 404, observed(0)))
    assert "sequence 404" in said
    assert "sequence_start" in said
    assert "keep to one connection" in said


def test_nobody_else_can_go_on_with_an_episode(recurrent):
    world = recurrent.world
    ann, bob = (world.token("member") for _ in range(2))
    assert acted(recurrent, 12, 0, start=True) == TRACE[0]
    assert acted(recurrent, 12, 0, start=True, token=ann) == TRACE[0]
    assert_refused(step(recurrent, 12, observed(1), token=bob))
    assert acted(recurrent, 12, 1) == TRACE[1]
    assert acted(recurrent, 12, 1, token=ann) == TRACE[1]
    assert acted(recurrent, 12, 2) == TRACE[2]


def test_a_step_that_is_refused_leaves_the_episode_where_it_was(recurrent):
    assert acted(recurrent, 13, 0, start=True) == TRACE[0]
    hidden = {"hidden_state/h": np.zeros((ROWS, 1, 4), "f4")}
    for arrays in (
        {"obs": observed(1)[:1]},
        {"obs": observed(1, 3)},
        {"obs": observed(1) * np.float32(np.nan)},
        {"obs": observed(1)[:, :2]},
        {"x": observed(1)},
        {"obs": observed(1), "action_mask": np.zeros((ROWS, 3), bool)},
        {"obs": observed(1)} | hidden,
    ):
        assert_refused(step(recurrent, 13, arrays, form="binary", end=True))
    assert_refused(step(recurrent, 13, observed(1), outputs=[{"name": "x"}]))
    model = f"{recurrent.agent_id}/versions/1"
    assert_refused(step(recurrent, 13, observed(1), model=model), 404)
    assert acted(recurrent, 13, 1) == TRACE[1]


def test_an_episode_whose_first_step_is_refused_has_not_begun(recurrent):
    for arrays in (observed(0)[:, :2], observed(0) * np.float32(np.nan)):
        assert_refused(step(recurrent, 14, arrays, start=True, form="binary"))
        assert_refused(step(recurrent, 14, observed(0)))


# --- at the same time ----------------------------------------------------------------


def test_steps_that_come_together_are_taken_one_after_the_other(recurrent):
    """The same observation each time: whoever comes first, the states are the same."""
    truth, hidden = [], np.zeros((ROWS, 1, RECURRENT.width), "f4")
    many, obs = 24, observed(0)
    for _ in range(many):
        hidden = RECURRENT(obs, hidden)[1]
        truth.append(hidden)
    wanted = [{"name": "hidden_state/h"}]
    bodies = [
        request({"obs": obs}, parameters=place(15, start=first), outputs=wanted)[0]
        for first in (True, False)
    ]
    path = f"/v2/models/{recurrent.deployment_id}/infer"
    with recurrent.world.client(recurrent.key) as client, ThreadPoolExecutor(8) as pool:
        first = client.post(path, content=bodies[0])
        rest = pool.map(lambda _: client.post(path, content=bodies[1]), range(many - 1))
        told = [answered(answer)["hidden_state/h"] for answer in (first, *rest)]
    assert len({array.tobytes() for array in told}) == many
    order = sorted(
        told, key=lambda a: min(range(many), key=lambda n: abs(truth[n] - a).sum())
    )
    np.testing.assert_allclose(order, truth, atol=1e-5)


# --- how long ------------------------------------------------------------------------


@frozen(eq=False)
class Trained:
    """A live agent with three checkpoints, of weights that differ."""

    endpoint: Endpoint

    @property
    def agents(self):
        return self.endpoint.world.arena.agents

    def swap(self, step_number):
        choice = arena_core.specific(step_number)
        swapped = self.agents.redeploy(self.endpoint.agent_id, checkpoint=choice)
        assert swapped.checkpoint.step == step_number, swapped.deployment


def trained(world, folder):
    folders = []
    for number, network in NETWORKS.items():
        cases = [list(shapes.episode(network, rows)) for rows in shapes.BATCHES]
        described = network.manifest()
        name = "Recurrent PPO"
        folders.append(
            shapes._write(folder / str(number), name, described, network, cases=cases)
        )
    made = world.experiment(*folders, algorithm="Recurrent PPO")
    choice = arena_core.specific(10)
    agent = world.arena.agents.create("an agent", made.id, checkpoint=choice)
    found = world.arena.agents.connect(agent.id)
    key = world.arena.agents.access(agent.id).api_key
    path = f"/inference/{found.deployment.id}"
    return Trained(Endpoint(world, agent.id, found.deployment.id, path, key))


@pytest.fixture
def swapping(tmp_path):
    with opened() as world:
        yield trained(world, tmp_path)


@pytest.mark.parametrize("newer", [20, 30], ids=["equal sizes", "other sizes"])
def test_an_episode_goes_on_with_the_weights_that_it_began_with(swapping, newer):
    endpoint = swapping.endpoint
    old = (
        answered(infer(endpoint, {"obs": observed(0)}))
        and infer(endpoint, {"obs": observed(0)}).json()["model_version"]
    )
    acts = [acted(endpoint, 1, n, start=not n) for n in range(3)]
    swapping.swap(newer)
    fresh = [acted(endpoint, 2, n, start=not n) for n in range(3)]
    for number in range(3, STEPS):
        answer = step(endpoint, 1, observed(number), end=number == STEPS - 1)
        acts.append(action(answer))
        assert answer.json()["model_version"] == old
        assert answer.headers["arena-checkpoint"].startswith(old)
        fresh.append(acted(endpoint, 2, number))
    assert acts == TRACE
    assert fresh == offline(NETWORKS[newer])
    assert acted(endpoint, 1, 0, start=True) == fresh[0]


@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_over_any_swaps_each_episode_is_an_offline_run_of_its_weights(
    tmp_path_factory, data
):
    with opened() as world:
        agent = trained(world, tmp_path_factory.mktemp("swaps"))
        serving, begun = 10, {}
        for _ in range(data.draw(st.integers(1, 12), "events")):
            what = data.draw(st.sampled_from(["swap", "start", "step", "step"]))
            sequence = data.draw(st.integers(1, 3))
            if what == "swap":
                serving = data.draw(st.sampled_from(sorted(NETWORKS)))
                agent.swap(serving)
            elif what == "start":
                begun[sequence] = (offline(NETWORKS[serving], 16), 0)
                act = acted(agent.endpoint, sequence, 0, start=True)
                assert act == begun[sequence][0][0]
            elif sequence in begun:
                trace, number = begun[sequence]
                begun[sequence] = (trace, number + 1)
                act = acted(agent.endpoint, sequence, number + 1)
                assert act == trace[number + 1]


def test_a_version_that_is_named_must_be_that_of_the_episode(swapping):
    endpoint = swapping.endpoint
    old = infer(endpoint, {"obs": observed(0)}).json()["model_version"]
    acted(endpoint, 1, 0, start=True)
    swapping.swap(20)
    new = infer(endpoint, {"obs": observed(0)}).json()["model_version"]
    of = {v: f"{endpoint.agent_id}/versions/{v}" for v in (old, new)}
    assert_refused(step(endpoint, 1, observed(1), model=of[new]), 404)
    assert acted(endpoint, 1, 1, model=of[old]) == TRACE[1]
    assert_refused(step(endpoint, 3, observed(0), start=True, model=of[old]), 404)


def test_a_memory_of_other_weights_is_refused_without_a_sequence(swapping):
    endpoint = swapping.endpoint
    told = answered(infer(endpoint, {"obs": observed(0)}))
    state = {k: v for k, v in told.items() if k != "action"}
    swapping.swap(20)
    answer = infer(endpoint, {"obs": observed(1)} | state)
    assert "other weights" in assert_refused(answer, 409)


def test_to_disconnect_ends_all_episodes(swapping):
    endpoint = swapping.endpoint
    acted(endpoint, 1, 0, start=True)
    swapping.agents.disconnect(endpoint.agent_id)
    assert_refused(step(endpoint, 1, observed(1)), 404)
    swapping.agents.connect(endpoint.agent_id)
    assert "sequence_start" in assert_refused(step(endpoint, 1, observed(1)))
    assert acted(endpoint, 1, 0, start=True) == TRACE[0]


def test_episodes_that_a_disconnect_has_ended_take_no_place(swapping):
    endpoint = swapping.endpoint
    endpoint.world.app.open_inference._inference._episodes._most = 1
    acted(endpoint, 1, 0, start=True)
    swapping.agents.disconnect(endpoint.agent_id)
    swapping.agents.connect(endpoint.agent_id)
    assert acted(endpoint, 2, 0, start=True) == TRACE[0]
    assert "sequences" in assert_refused(
        step(endpoint, 3, observed(0), start=True), 503
    )


def test_a_rotated_key_goes_on_with_the_episodes_of_the_old_one(swapping):
    endpoint = swapping.endpoint
    acted(endpoint, 1, 0, start=True)
    swapping.agents.rotate_key(endpoint.agent_id)
    assert_refused(step(endpoint, 1, observed(1)), 401)
    key = swapping.agents.access(endpoint.agent_id).api_key
    assert acted(endpoint, 1, 1, token=key) == TRACE[1]


def test_what_nobody_goes_on_with_is_forgotten(tmp_path):
    with opened(episode_idle_s=0.05) as world:
        endpoint = trained(world, tmp_path).endpoint
        path = f"/v2/models/{endpoint.deployment_id}/infer"
        kept = world.app.open_inference._inference._episodes
        with world.client(endpoint.key) as client:
            for sequence in (1, 2):
                where = place(sequence, start=True)
                body, _ = request({"obs": observed(0)}, parameters=where)
                answered(client.post(path, content=body))
            eventually(lambda: not len(kept), what="they are forgotten")
        assert "0.05 seconds" in assert_refused(step(endpoint, 1, observed(1)))


def test_a_model_is_forgotten_with_its_episodes(swapping):
    endpoint = swapping.endpoint
    registry = endpoint.world.arena.application.registry
    model = weakref.ref(registry.live(str(endpoint.deployment_id)).model)
    acted(endpoint, 1, 0, start=True)
    swapping.swap(20)
    assert acted(endpoint, 1, 1, end=True) == TRACE[1]
    swapping.agents.delete(endpoint.agent_id)

    def is_gone():
        gc.collect()
        return model() is None

    # A thread that has run it is kept for a while, and what it has run with it.
    eventually(is_gone, what="it is forgotten")
