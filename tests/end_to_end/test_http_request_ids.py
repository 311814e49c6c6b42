"""By which name a request is known: in its answer, in the log, in the events."""

import logging
import re

import pytest

from end_to_end.http_world import assert_problem, opened

API = "/api/v1"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def world():
    with opened(serve=False) as world:
        yield world


@pytest.fixture(scope="module")
def client(world):
    return world.member()


EVERYWHERE = [
    ("GET", f"{API}/projects", 200),
    ("GET", f"{API}/projects/x", 404),
    ("GET", "/nowhere", 404),
    ("PUT", f"{API}/projects", 405),
    ("GET", "/livez", 200),
    ("POST", f"{API}/projects", 422),
]


@pytest.mark.parametrize(("method", "path", "status"), EVERYWHERE)
def test_every_answer_bears_the_id_of_its_request(client, method, path, status):
    given = client.request(method, path, headers={"X-Request-Id": "mine-1"})
    made = client.request(method, path)
    assert (given.status_code, made.status_code) == (status, status)
    assert given.headers["x-request-id"] == "mine-1"
    assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])
    if status >= 400:
        problem = assert_problem(made)
        assert problem["request_id"] == made.headers["x-request-id"]
        assert problem["instance"] == path


@pytest.mark.parametrize("refused", [{"Origin": "https://evil.example"}, {"Host": "!"}])
def test_what_is_not_even_looked_at_has_an_id_too(client, refused):
    answer = client.post(f"{API}/projects", json={}, headers=refused)
    assert answer.status_code in {400, 403}
    problem = assert_problem(answer)
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["instance"] == f"{API}/projects"


def test_an_id_that_is_none_is_replaced(client):
    answer = client.get("/livez", headers={"X-Request-Id": "a b"})
    assert answer.headers["x-request-id"] != "a b"


def test_an_instance_is_a_path_and_no_more(client):
    answer = client.get(f"{API}/projects/a%20[b]?name=secret#x")
    assert assert_problem(answer, 404)["instance"] == f"{API}/projects/a%20%5Bb%5D"
    long = assert_problem(client.get("/" + "x" * 5000), 404)
    assert len(long["instance"]) == 2000


def test_a_trace_is_found_in_the_events_that_came_of_it(client):
    made = client.post(
        f"{API}/projects", json={"name": "x"}, headers={"traceparent": TRACE}
    ).json()
    client.patch(
        f"{API}/projects/{made['id']}",
        json={"name": "y"},
        headers={"traceparent": TRACE.replace("01", "xx")},
    )
    events = client.get(f"{API}/events", params={"stream": made["id"]}).json()["items"]
    assert [event["traceparent"] for event in events] == [TRACE, None]


def test_what_follows_from_an_order_is_in_its_trace(tmp_path):
    import bundles  # noqa: PLC0415 -- of this one test

    with opened(serve=False) as world:
        client = world.member()
        agent = world.agent(bundles.cartpole(tmp_path / "b"))
        other = bundles.cartpole(tmp_path / "other", masked=True)
        experiments = world.arena.experiments
        experiments.add_checkpoint(agent.experiment_id, step=20, path=other)
        where = f"{API}/agents/{agent.id}"
        client.post(f"{where}/connect", json={})
        world.arena.supervisor.reconcile()
        order = {"checkpoint": {"type": "final"}}
        trace = {"traceparent": TRACE}
        client.post(f"{where}/redeploy", json=order, headers=trace)
        world.arena.supervisor.reconcile()
        events = client.get(f"{API}/events?limit=1000").json()["items"]
        traced = [e["name"] for e in events if e["traceparent"] == TRACE]
        assert traced[0] == "deployment.swap_requested"
        followed = {"deployment.checkpoint_swapped", "agent.checkpoint_replaced"}
        assert followed < set(traced)


# --- the log of the process -----------------------------------------------------------


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="arena_core.access")
    return lambda: [(r.getMessage(), r.fields) for r in caplog.records]


def test_every_request_is_one_line_by_its_route_and_never_its_path(client, lines):
    client.get(f"{API}/projects/3fa85f64-5717-4562-b3fc-2c963f66afa6?as_of=1")
    ((message, fields),) = lines()
    assert message.startswith("GET /api/v1/projects/{project_id} 404 in ")
    duration = fields.pop("duration_ms")
    assert duration > 0
    actor = fields.pop("actor")
    assert actor.startswith("user:")
    assert fields == {
        "method": "GET",
        "route": f"{API}/projects/{{project_id}}",
        "status": 404,
        "organisation": "default",
    }


def test_a_request_of_nobody_or_for_nothing_is_a_line_too(world, lines):
    stranger = world.client()
    stranger.get(f"{API}/projects")
    stranger.get("/secret-path")
    (first, of_first), (second, of_second) = lines()
    assert (of_first["status"], "actor" in of_first) == (401, False)
    assert of_second["route"] is None
    assert "secret-path" not in second
    assert first.startswith("GET /api/v1/projects 401")


def test_where_nobody_wants_the_lines_none_are_made(client, caplog):
    caplog.set_level(logging.WARNING, logger="arena_core.access")
    client.get("/livez")
    assert not caplog.records


# --- what a body says of itself -------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "text/json",
        "application/vnd.arena+json",
        "application/octet-stream",
        "",
    ],
)
def test_a_body_that_may_be_json_is_read(client, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = b'{"name": "x"}'
    answer = client.post(f"{API}/projects", content=body, headers=headers)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/xml",
        "application/jsonp",
        "json",
    ],
)
def test_a_body_that_says_it_is_something_else_is_refused(world, client, content_type):
    head = world.head()
    headers = {"Content-Type": content_type}
    body = b'{"name": "x"}'
    answer = client.post(f"{API}/projects", content=body, headers=headers)
    assert_problem(answer, 415, "/Content-Type")
    assert world.head() == head


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_a_body_that_is_encoded_is_refused(world, client, encoding):
    head = world.head()
    headers = {"Content-Encoding": encoding}
    body = b'{"name": "x"}'
    answer = client.post(f"{API}/projects", content=body, headers=headers)
    assert_problem(answer, 415, "/Content-Encoding")
    assert world.head() == head
    headers = {"Content-Encoding": "Identity"}
    assert client.post(f"{API}/projects", content=body, headers=headers).is_success


def test_no_body_is_of_no_kind(client):
    headers = {"Content-Type": "text/plain"}
    answer = client.post(f"{API}/projects", headers=headers)
    assert_problem(answer, 422, "/name")
