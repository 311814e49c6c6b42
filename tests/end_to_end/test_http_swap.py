"""Redeploy and rollback over HTTP: what they answer, and that no request suffers."""

import math
import threading
import time

import numpy as np
import pytest
from attrs import define, field

import arena_core

import bundles
from end_to_end.http_world import array, assert_problem, opened, wire
from end_to_end.processes import (
    Client,
    Place,
    actions,
    an_experiment,
    connect,
    endpoint,
    serving,
    tar_of,
    upload,
)

API = "/api/v1"
NETWORKS = {
    10: bundles.CARTPOLE,
    20: bundles.CARTPOLE.swapped(),
    30: bundles.Network.of(4, 2, seed=9),
}
OBSERVED = bundles.observations(16, 4)
RIGHT = {s: n(OBSERVED).argmax(axis=1).tolist() for s, n in NETWORKS.items()}
SWAP = {"mode", "cause", "digest", "step", "phase", "until", "guard"}
ENDED = {"digest", "outcome", "reason", "limit", "figures"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return [
        bundles.cartpole(tmp_path_factory.mktemp("step") / str(step), network=network)
        for step, network in NETWORKS.items()
    ]


@define
class Served:
    """An agent with three checkpoints, of which the first is live."""

    world: object
    client: object
    agent: dict
    steps: dict[str, int] = field(factory=dict)
    """By digest."""

    def order(self, verb, wait=30, **body):
        path = f"{API}/agents/{self.agent['id']}/{verb}?wait={wait}"
        return self.client.post(path, json=body)

    def swapped(self, step, **more):
        """Redeploy, and return the agent as it is answered when that is done."""
        chosen = {"type": "specific", "step": step}
        answer = self.order("redeploy", checkpoint=chosen, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def shown(self):
        return self.client.get(f"{API}/agents/{self.agent['id']}").json()

    def answering(self):
        """Return the step of the weights that answer, by value."""
        access = self.client.get(f"{API}/agents/{self.agent['id']}/access").json()
        path = access["endpoint"].removeprefix("http://testserver")
        answer = self.world.client(access["api_key"]).post(
            f"{path}/get_action", json={"obs": wire(OBSERVED), "batch_size": 16}
        )
        acted = array(answer.json()["action"]).tolist()
        (step,) = (step for step, right in RIGHT.items() if right == acted)
        assert self.steps[answer.headers["arena-checkpoint"]] == step
        return step


@pytest.fixture
def idle(folders):
    """An agent that was never connected; nothing is carried out by itself."""
    with opened(serve=False) as world:
        experiment = world.experiment(*folders)
        agent = world.arena.agents.create(
            "balancer", experiment.id, checkpoint=arena_core.specific(10)
        )
        client = world.member()
        made = client.get(f"{API}/agents/{agent.id}").json()
        found = world.arena.experiments.checkpoints(experiment.id)
        yield Served(world, client, made, {c.digest: c.step for c in found})


@pytest.fixture
def served(idle):
    idle.world.arena.supervisor.start()
    assert idle.order("connect").status_code == 200
    return idle


def test_a_redeploy_answers_when_the_new_weights_do(served):
    agent = served.swapped(20, reason="better")
    assert served.answering() == 20
    assert agent["checkpoint"]["step"] == 20
    assert [c["step"] for c in agent["earlier_checkpoints"]] == [10]
    deployment = agent["deployment"]
    assert deployment["digest"] == agent["checkpoint"]["digest"]
    assert deployment["swap"] is None
    assert deployment["last_swap"].keys() == ENDED
    assert deployment["last_swap"]["outcome"] == "swapped"
    assert deployment["url"] == served.shown()["deployment"]["url"], "it stays"


def test_who_does_not_wait_is_told_that_it_is_under_way(idle):
    idle.order("connect", wait=0)
    idle.world.arena.supervisor.reconcile()
    chosen = {"type": "final"}
    answer = idle.order("redeploy", wait=0, checkpoint=chosen)
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(idle.agent["id"])
    swap = answer.json()["deployment"]["swap"]
    assert swap.keys() == SWAP
    assert (swap["phase"], swap["mode"], swap["step"]) == ("loading", "plain", 30)
    assert answer.json()["checkpoint"]["step"] == 10
    other = {"type": "specific", "step": 20}
    another = idle.order("redeploy", wait=0, checkpoint=other)
    assert_problem(another, 409)
    idle.world.arena.supervisor.reconcile()
    assert idle.order("redeploy", wait=0, checkpoint=chosen).status_code == 200
    assert idle.answering() == 30


def test_rollbacks_lead_back_step_by_step_or_to_a_digest(served):
    for step in (20, 30):
        served.swapped(step)
    for expected in (20, 10):
        answer = served.order("rollback", reason="worse")
        assert (answer.status_code, served.answering()) == (200, expected)
    assert_problem(served.order("rollback"), 409)
    (digest,) = (d for d, step in served.steps.items() if step == 30)
    assert served.order("rollback", to=digest).json()["checkpoint"]["step"] == 30
    assert served.answering() == 30
    assert_problem(served.order("rollback", to="f" * 64), 422, "/to")


def test_an_agent_that_is_not_live_has_its_new_checkpoint_at_once(idle):
    answer = idle.order("redeploy", checkpoint={"type": "final"})
    assert answer.status_code == 200
    assert answer.json()["checkpoint"]["step"] == 30
    guarded = {"checkpoint": {"type": "best"}, "guard": {"bake_s": 1, "p99_ms": 5}}
    assert_problem(idle.order("redeploy", **guarded), 409)


def test_a_guard_and_a_shadow_are_shown_while_they_bake(served):
    guard = {"bake_s": 600, "error_rate": 0.01, "action_shift": 0.3}
    swap = served.swapped(20, guard=guard)["deployment"]["swap"]
    assert (swap["mode"], swap["phase"]) == ("guarded", "baking")
    assert swap["guard"] == {**guard, "p99_ms": None, "mask_violation_rate": None}
    assert swap["until"] > served.agent["created_at"]
    swap = served.swapped(30, shadow={"bake_s": 600})["deployment"]["swap"]
    assert (swap["mode"], swap["step"]) == ("shadow", 30)
    assert served.answering() == 20
    ended = served.swapped(20)["deployment"]
    assert (ended["swap"], ended["last_swap"]["outcome"]) == (None, "stopped")


def test_a_guarded_swap_to_worse_weights_comes_undone_by_itself(served):
    served.swapped(20, guard={"bake_s": 600, "action_shift": 0.2})
    deadline = time.monotonic() + 60
    while served.answering() == 20:
        assert time.monotonic() < deadline
    agent = served.shown()
    ended = agent["deployment"]["last_swap"]
    assert (ended["outcome"], ended["limit"]) == ("reverted", "action_shift")
    assert ended["figures"]["action_shift"] > 0.2
    assert agent["checkpoint"]["step"] == 10
    events = served.client.get(f"{API}/events?limit=1000").json()["items"]
    names = [event["name"] for event in events]
    assert names[-2:] == ["deployment.swap_reverted", "agent.checkpoint_replaced"]


BAD_GUARDS = [
    ({"error_rate": 0.1}, "/guard"),
    ({"bake_s": 1}, "/guard"),
    ({"bake_s": 0, "error_rate": 0.1}, "/guard/bake_s"),
    ({"bake_s": -1, "error_rate": 0.1}, "/guard/bake_s"),
    ({"bake_s": 1e9, "error_rate": 0.1}, "/guard/bake_s"),
    ({"bake_s": 1, "error_rate": 1.5}, "/guard/error_rate"),
    ({"bake_s": 1, "error_rate": -0.5}, "/guard/error_rate"),
    ({"bake_s": 1, "p99_ms": 0}, "/guard/p99_ms"),
    ({"bake_s": 1, "mask_violation_rate": 2}, "/guard/mask_violation_rate"),
    ({"bake_s": 1, "action_shift": 2}, "/guard/action_shift"),
]


@pytest.mark.parametrize(("guard", "pointer"), BAD_GUARDS, ids=str)
def test_a_bad_guard_is_refused_by_the_name_of_its_field(idle, guard, pointer):
    body = {"checkpoint": {"type": "final"}, "guard": guard}
    problem = assert_problem(idle.order("redeploy", **body), 422)
    if guard.keys() != {"error_rate"}:  # what is missing is told by its place
        assert [e["pointer"] for e in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"shadow": {"bake_s": 0}}, "/shadow/bake_s"),
        (
            {"shadow": {"bake_s": 1}, "guard": {"bake_s": 1, "p99_ms": 1}},
            "/shadow",
        ),
        ({"checkpoint": {"type": "specific"}}, "/checkpoint/step"),
        ({"checkpoint": {"type": "specific", "step": 11}}, "/checkpoint/step"),
    ],
    ids=str,
)
def test_a_bad_order_is_refused_by_the_name_of_its_field(idle, body, pointer):
    order = {"checkpoint": {"type": "final"}, **body}
    assert_problem(idle.order("redeploy", **order), 422, pointer)


def test_numbers_that_are_not_finite_are_no_limits(idle):
    path = f"{API}/agents/{idle.agent['id']}/redeploy"
    for number in ("NaN", "Infinity", "1e999"):
        raw = (
            '{"checkpoint": {"type": "final"}, "guard": {"bake_s": 1, '
            f'"p99_ms": {number}}}}}'
        )
        answer = idle.client.post(path, content=raw)
        assert 400 <= answer.status_code < 500, answer.text
    assert idle.shown() == idle.agent


# --- a real server under load --------------------------------------------------------


ORDERS = [
    ("redeploy", 20),
    ("redeploy", 30),
    ("rollback", 20),
    ("rollback", 10),
    ("redeploy", 30),
    ("redeploy", 10),
    ("rollback", 30),
    ("rollback", 20),
    ("redeploy", 10),
    ("redeploy", 20),
    ("rollback", 10),
    ("redeploy", 30),
    ("rollback", 20),
]


@define
class Caller:
    """Asks without a pause, and keeps what is wrong with any answer."""

    client: Client
    target: object
    steps: dict[str, int]
    newest: list[int]
    """What is acknowledged: the step, put before anybody may rely on it."""
    wrong: list[object] = field(factory=list)
    asked: int = 0

    def ask_until(self, over: threading.Event) -> None:
        while not over.is_set():
            acknowledged = len(self.newest)
            allowed = self.newest[-1]
            answer = self.target.ask(self.client, OBSERVED)
            self.asked += 1
            if answer.status != 200:
                self.wrong.append((answer.status, answer.raw))
                continue
            step = self.steps[answer.headers["Arena-Checkpoint"]]
            if actions(answer) != RIGHT[step]:
                self.wrong.append(f"the header says {step}, the answer does not")
            unchanged = len(self.newest) == acknowledged
            if unchanged and step not in (allowed, self.coming):
                self.wrong.append(f"{step} answered after {allowed} was acknowledged")

    coming: int = 10
    """What is asked for and may answer before that is acknowledged."""


@pytest.mark.slow
def test_under_load_no_request_fails_and_none_is_answered_by_old_weights(
    tmp_path, folders
):
    with serving(Place(tmp_path)) as process:
        client = process.client()
        experiment = an_experiment(client)
        for step, folder in zip(NETWORKS, folders, strict=True):
            upload(client, experiment, step, tar_of(folder)).expect(201)
        first = {"type": "specific", "step": 10}
        agent = client.post(
            f"{API}/agents",
            {"name": "a", "experiment_id": experiment, "checkpoint": first},
        )["id"]
        connect(client, agent)
        listed = client.get(f"{API}/experiments/{experiment}/checkpoints")["items"]
        steps = {c["digest"]: c["step"] for c in listed}
        newest, over = [10], threading.Event()
        target = endpoint(client, agent)
        callers = [Caller(process.client(), target, steps, newest) for _ in range(4)]
        threads = [threading.Thread(target=c.ask_until, args=[over]) for c in callers]
        for thread in threads:
            thread.start()
        try:
            for verb, expected in ORDERS:
                change(client, agent, verb, expected, newest, callers)
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
        assert [caller.wrong for caller in callers] == [[]] * len(callers)
        assert min(caller.asked for caller in callers) > len(ORDERS)
        replaced = [
            e
            for e in client.events()
            if e["name"] in {"agent.checkpoint_replaced", "deployment.swap_failed"}
        ]
        assert [e["data"]["checkpoint"]["step"] for e in replaced] == newest[1:]


def change(client, agent, verb, expected, newest, callers):  # noqa: PLR0917
    """Swap or roll back; let the callers know what may and what must answer."""
    where = f"{API}/agents/{agent}"
    url = client.get(where)["deployment"]["url"]
    for caller in callers:
        caller.coming = expected
    body = {"reason": "a test"}
    if verb == "redeploy":
        body["checkpoint"] = {"type": "specific", "step": expected}
    done = client.post(f"{where}/{verb}?wait=30", body)
    assert (done["deployment"]["url"], done["deployment"]["swap"]) == (url, None)
    assert done["checkpoint"]["step"] == expected
    newest.append(expected)


def test_the_networks_can_be_told_apart_by_their_answers():
    assert len({tuple(right) for right in RIGHT.values()}) == len(RIGHT)
    assert math.prod(np.shape(OBSERVED)) == 64
