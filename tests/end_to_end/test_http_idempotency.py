"""Idempotency-Key: what is asked for again under the same key is done once."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from attrs import evolve, frozen
from starlette.testclient import TestClient

import arena_core
from arena_core.entrypoints.http.app import CONTROL_PLANE, build_app

import bundles
from end_to_end.http_world import assert_problem, bearing, opened, packed

API = "/api/v1"
PROJECTS = f"{API}/projects"


def keyed(key, **headers):
    return {"Idempotency-Key": key, **headers}


@pytest.fixture
def world():
    with opened(serve=False) as world:
        yield world


@pytest.fixture
def client(world):
    return world.member()


def same(first, again):
    """Assert that it is the same answer, and said to be."""
    assert again.headers.pop("idempotent-replayed") == "true"
    assert "idempotent-replayed" not in first.headers
    assert (again.status_code, again.content) == (first.status_code, first.content)
    for name in ("location", "etag", "content-type"):
        assert again.headers.get(name) == first.headers.get(name)


# --- every order ----------------------------------------------------------------------


@frozen
class Orders:
    """A request to each address that takes a key, by the template of its path."""

    client: TestClient
    experiment: str
    agent: str
    token: str
    expect: dict[str, Any]
    draft: str
    pipeline: str
    stages: list[str]

    def __getitem__(self, path: str) -> tuple[str, Any]:
        stage = self.stages[1 if path.endswith("/move") else 0]
        ids = {
            "agent_id": self.agent,
            "token_id": self.token,
            "organisation_id": "default",
            "experiment_id": self.draft,
            "pipeline_id": self.pipeline,
            "stage_id": stage,
        }
        return path.format(**ids), self.expect[path]


FINAL = {"type": "final"}
TRAINED = f"{API}/experiments/{{experiment_id}}"
PIPELINE = f"{API}/pipelines/{{pipeline_id}}"
STAGE = f"{PIPELINE}/stages/{{stage_id}}"
ORDERS_OF_TRAINING = ("train", "stop", "resume", "duplicate")
ORDERS_OF_STAGES = ("trigger", "retry", "stop", "approve", "reject")
BEFORE = {
    f"{TRAINED}/stop": ("train",),
    f"{TRAINED}/resume": ("train", "stop"),
    f"{STAGE}/retry": ("trigger", "stop"),
    f"{STAGE}/stop": ("trigger",),
    f"{STAGE}/approve": ("trigger",),
    f"{STAGE}/reject": ("trigger",),
}
"""What has to be asked for first."""
TAKERS = [endpoint.path for endpoint in CONTROL_PLANE if endpoint.takes_key]


@pytest.fixture
def orders(world, client, tmp_path):
    agent = world.agent(bundles.cartpole(tmp_path / "one"))
    other = bundles.cartpole(tmp_path / "other", masked=True)
    world.arena.experiments.add_checkpoint(agent.experiment_id, step=20, path=other)
    of = str(agent.experiment_id)
    one = f"{API}/agents/{{agent_id}}"
    bodies = {
        PROJECTS: {"name": "carts"},
        f"{API}/experiments": {
            "project_id": str(agent.project_id),
            "name": "ppo",
            "algorithm": "PPO",
        },
        f"{API}/agents": {"name": "a", "experiment_id": of, "checkpoint": FINAL},
        f"{one}/connect": {"reason": "why"},
        f"{one}/redeploy": {"checkpoint": FINAL},
        f"{one}/rollback": {},
        f"{one}/disconnect": {},
        f"{one}/rotate-key": {},
        f"{one}/restore": {},
        f"{API}/tokens": {"name": "x", "kind": "org"},
        f"{API}/tokens/{{token_id}}/rotate": {},
        f"{API}/organisations": {"name": "rivals"},
        f"{API}/organisations/{{organisation_id}}/invitations": {"user": "bob"},
    }
    key = world.issued(kind="org")
    draft = trainable(world, agent.project_id, tmp_path)
    line = in_line(world)
    bodies |= {
        **{key_0: {} for key_0 in (f"{TRAINED}/{what}" for what in ORDERS_OF_TRAINING)},
        f"{API}/pipelines": {"project_id": str(line.project_id), "name": "x"},
        f"{PIPELINE}/duplicate": {},
        f"{PIPELINE}/stages": {"type": "deployment"},
        f"{STAGE}/move": {"position": 3},
        **{key_0: {} for key_0 in (f"{STAGE}/{what}" for what in ORDERS_OF_STAGES)},
    }
    return Orders(
        client,
        of,
        str(agent.id),
        str(key.view.id),
        bodies,
        draft,
        str(line.id),
        [str(stage.id) for stage in line.stages],
    )


def trainable(world, project_id, folder):
    """Return the id of a Draft that can be trained, and that has a checkpoint."""
    experiments = world.arena.experiments
    source = arena_core.gym("CartPole-v1")
    made = experiments.create(project_id, name="x", algorithm="PPO", source=source)
    bundle = bundles.cartpole(folder / "third")
    experiments.add_checkpoint(made.id, step=5, path=bundle)
    return str(made.id)


def in_line(world):
    """Return a pipeline of three stages, the first of which needs approval."""
    pipelines = world.arena.pipelines
    line = world.pipeline()
    pipelines.edit_stage(line.id, line.stages[0].id, approval=True)
    for _ in range(2):
        line = pipelines.insert_stage(line.id, type="deployment")
    return line


def ready(world, orders, path):
    """Bring the agent to where the order has something to do."""
    one = f"{API}/agents/{orders.agent}"
    if path.endswith("rollback"):
        orders.client.post(f"{one}/redeploy", json={"checkpoint": FINAL})
    if path.endswith("disconnect"):
        orders.client.post(f"{one}/connect", json={})
    if path.endswith("restore"):
        orders.client.request("DELETE", one, json={})
    for what in BEFORE.get(path, ()):
        where, _ = orders[f"{path.rpartition('/')[0]}/{what}"]
        assert orders.client.post(where, json={}).is_success
    if path.endswith(("approve", "reject")):
        world.arena.supervisor._beside["runner"].reconcile()
    return world.head()


@pytest.mark.parametrize("path", TAKERS)
def test_every_order_is_carried_out_once(world, orders, path):
    before = ready(world, orders, path)
    where, body = orders[path]
    first = orders.client.post(where, json=body, headers=keyed("k"))
    assert first.is_success, first.text
    after = world.head()
    names = [r.name for r in world.arena.application.core.store.read_all(after=before)]
    assert names[0] == "request.carried_out"
    assert len(names) >= 2
    # Whatever happens meanwhile.
    orders.client.patch(f"{API}/agents/{orders.agent}", json={"name": "later"})
    head = world.head()
    again = orders.client.post(where, json=body, headers=keyed("k"))
    assert world.head() == head > after
    if first.headers.get("cache-control") == "no-store":
        assert "rotate or withdraw" in assert_problem(again, 409)["detail"]
    else:
        same(first, again)


def test_only_what_is_repeatable_by_itself_takes_no_key():
    others = {
        e.path
        for e in CONTROL_PLANE
        if e.method == "POST" and e.path.startswith(API) and not e.takes_key
    }
    assert others == {
        f"{API}/experiments/{{experiment_id}}/metrics",
        f"{API}/experiments/{{experiment_id}}/checkpoints",
        f"{API}/invitations/accept",
        f"{API}/sign-ins/approve",
        f"{API}/sign-ins/deny",
    }


def test_an_upload_is_known_by_its_content_and_needs_no_key(world, client, tmp_path):
    experiment = world.experiment()
    where = f"{API}/experiments/{experiment.id}/checkpoints?step=10"
    body = packed(bundles.cartpole(tmp_path / "bundle"))
    first = client.post(where, content=body, headers=keyed("k"))
    head = world.head()
    again = client.post(where, content=body, headers=keyed("k"))
    assert (again.status_code, again.content) == (201, first.content)
    assert world.head() == head


# --- what a key is for ----------------------------------------------------------------


def test_with_and_without_quotes_it_is_the_same_key(world, client):
    first = client.post(PROJECTS, json={"name": "x"}, headers=keyed('"a-1"'))
    same(first, client.post(PROJECTS, json={"name": "x"}, headers=keyed("a-1")))
    assert len(client.get(PROJECTS).json()["items"]) == 1
    assert world.arena.application.core.store.read_all()


def test_something_else_under_the_same_key_is_refused(world, client):
    client.post(PROJECTS, json={"name": "x"}, headers=keyed("k"))
    head = world.head()
    other = client.post(PROJECTS, json={"name": "y"}, headers=keyed("k"))
    problem = assert_problem(other, 422, "/Idempotency-Key")
    assert problem["code"] == "KEY_REUSED"
    assert world.head() == head


def test_another_query_is_another_request(world, client, tmp_path):
    agent = world.agent(bundles.cartpole(tmp_path / "b"))
    where = f"{API}/agents/{agent.id}/connect"
    client.post(where, json={}, headers=keyed("k"))
    other = client.post(f"{where}?wait=0.1", json={}, headers=keyed("k"))
    assert_problem(other, 422, "/Idempotency-Key")


def test_spelling_does_not_make_another_request(client):
    first = client.post(
        PROJECTS, content=b'{"name": "x", "kind": "classic"}', headers=keyed("k")
    )
    again = client.post(PROJECTS, content=b'{"name":"x"}', headers=keyed("k"))
    same(first, again)


def test_users_do_not_share_their_keys(world):
    ann, bob = world.member(), world.member()
    stranger = world.client(world.token(organisation="rivals"))
    made = {
        c.post(PROJECTS, json={"name": "x"}, headers=keyed("k")).json()["id"]
        for c in (ann, bob, stranger)
    }
    assert len(made) == 3


def test_one_user_of_a_key_of_the_organisation_is_not_another(world):
    client = world.client(world.issued(kind="org").token)
    made = [
        client.post(
            PROJECTS,
            json={"name": "x"},
            headers=keyed("k", **{"X-External-User-Id": user}),
        ).json()["id"]
        for user in ("1", "2", "1")
    ]
    assert made[0] == made[2] != made[1]


def test_who_may_not_do_it_any_more_is_not_answered_again(world, client):
    """Authorisation comes first, whatever was done under the key."""
    issued = world.issued()
    person = world.client(issued.token)
    person.post(PROJECTS, json={"name": "x"}, headers=keyed("k"))
    client.delete(f"{API}/tokens/{issued.view.id}")
    again = person.post(PROJECTS, json={"name": "x"}, headers=keyed("k"))
    assert_problem(again, 401)


def test_what_has_failed_may_be_tried_again(world, client, tmp_path):
    experiment = world.experiment()
    body = {"name": "a", "experiment_id": str(experiment.id), "checkpoint": FINAL}
    refused = client.post(f"{API}/agents", json=body, headers=keyed("k"))
    assert_problem(refused, 422)
    world.arena.experiments.add_checkpoint(
        experiment.id, step=10, path=bundles.cartpole(tmp_path / "b")
    )
    made = client.post(f"{API}/agents", json=body, headers=keyed("k"))
    assert made.status_code == 201
    assert "idempotent-replayed" not in made.headers


def test_a_stale_order_that_was_carried_out_is_answered_again(world, client, tmp_path):
    agent = world.agent(bundles.cartpole(tmp_path / "b"))
    where = f"{API}/agents/{agent.id}"
    tag = client.get(where).headers["etag"]
    headers = keyed("k", **{"If-Match": tag})
    first = client.post(f"{where}/rotate-key", json={}, headers=headers)
    assert first.status_code == 200
    same(first, client.post(f"{where}/rotate-key", json={}, headers=headers))
    fresh = client.post(
        f"{where}/rotate-key", json={}, headers=keyed("l", **{"If-Match": tag})
    )
    assert_problem(fresh, 412)


@pytest.mark.parametrize("value", ['""', "a b", "é".encode(), "x" * 256])
def test_what_is_no_key_is_refused_by_name(world, client, value):
    head = world.head()
    answer = client.post(PROJECTS, json={"name": "x"}, headers=keyed(value))
    assert_problem(answer, 422, "/Idempotency-Key")
    assert world.head() == head


# --- several at a time ----------------------------------------------------------------


def test_who_asks_again_too_soon_is_told_so(tmp_path):
    """The first waits for its agent to be put live, by nobody."""
    with opened(serve=False) as world, TestClient(world.app) as client:
        client.headers |= bearing(world.token())
        agent = world.agent(bundles.cartpole(tmp_path / "b"))
        where = f"{API}/agents/{agent.id}/connect?wait=60"

        def order() -> Any:
            return client.post(where, json={}, headers=keyed("k"))

        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(order)
            while world.arena.agents.get(agent.id).deployment.status.value != "Pending":
                assert not first.done()
            again = order()
            problem = assert_problem(again, 409)
            assert problem["code"] == "STILL_RUNNING"
            assert again.headers["retry-after"] == "1"
            world.arena.supervisor.reconcile()
            deployed = first.result()
        assert deployed.json()["deployment"]["status"] == "Deployed"
        same(deployed, order())


def test_the_one_who_waits_again_sees_what_has_come_since(tmp_path):
    """It was Pending when the first attempt was answered; now it is live."""
    with opened(serve=False) as world:
        client = world.member()
        agent = world.agent(bundles.cartpole(tmp_path / "b"))
        where = f"{API}/agents/{agent.id}/connect"

        def order() -> Any:
            return client.post(f"{where}?wait=0.05", json={}, headers=keyed("k"))

        assert order().status_code == 202
        assert order().status_code == 202
        world.arena.supervisor.reconcile()
        again = order()
        assert (again.status_code, again.headers["idempotent-replayed"]) == (
            200,
            "true",
        )
        assert again.json()["deployment"]["status"] == "Deployed"


@frozen
class Meeting:
    """Has both requests past their look-up before either is carried out."""

    arrived: list[Event]

    def at(self, number: int) -> Callable[[], None]:
        def wait() -> None:
            self.arrived[number].set()
            assert self.arrived[1 - number].wait(30)

        return wait


@pytest.mark.parametrize("names", [("x", "x"), ("x", "y")], ids=["same", "other"])
def test_of_two_processes_one_does_it_and_the_other_answers_for_it(names, tmp_path):
    """Two apps over one store, which do not know of each other's running requests."""
    store = tmp_path / "arena.db"
    with opened(store, serve=False) as one, opened(store, serve=False) as two:
        token = one.token()
        meeting = Meeting([Event(), Event()])
        clients = []
        for number, world in enumerate((one, two)):
            handler = world.arena.application.core.handler
            clients.append(_late(world, handler, meeting.at(number), token))

        def create(number: int) -> Any:
            body = {"name": names[number]}
            return clients[number].post(PROJECTS, json=body, headers=keyed("k"))

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(create, range(2)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [201, 201 if len(set(names)) == 1 else 422]
        if statuses == [201, 201]:
            first, again = sorted(
                answers, key=lambda a: "idempotent-replayed" in a.headers
            )
            same(first, again)
        assert len(one.member().get(PROJECTS).json()["items"]) == 1


def _late(world, handler, meet, token):
    """Return a client of an app whose handler meets another before it begins."""
    met = []

    class Late(type(handler)):
        def handle(self, context, *changes, **more):
            if not met:
                met.append(True)
                meet()
            return super().handle(context, *changes, **more)

    application = world.arena.application
    late = Late(handler.store, handler.clock, handler.pause)
    core = evolve(application.core, handler=late)
    world.arena.application = evolve(application, core=core)
    return TestClient(build_app(world.arena), headers=bearing(token))


def test_the_key_itself_is_kept_nowhere(client):
    key = "a-key-that-nobody-else-has"
    client.post(PROJECTS, json={"name": "x"}, headers=keyed(key))
    events = client.get(f"{API}/events").json()["items"]
    assert key not in json.dumps(events)
    (done,) = [e for e in events if e["name"] == "request.carried_out"]
    assert done["data"].keys() == {
        "request_id",
        "method",
        "path",
        "digest",
        "expires_at",
    }
