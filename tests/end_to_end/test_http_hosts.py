"""No page of others calls this server, by whatever name it has found it."""

import re

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import bundles
from end_to_end.connections import Side, looping
from end_to_end.http_world import asked, opened, wire

BAD = ["x?", "x#", "x/skip", "x/y?z", "me@testserver", "test server", "", " ", "[x"]
FOREIGN = "rebound.example"
PAGE = "https://page.example"
DATA_PLANE = [("GET", "status"), ("POST", "get_action"), ("POST", "nothing")]


@pytest.fixture(scope="module", name="world")
def _world():
    with opened(allowed_hosts="testserver, 127.0.0.1", allowed_origins=PAGE) as world:
        yield world


@pytest.fixture(scope="module", name="live")
def _live(world, tmp_path_factory):
    return world.live(bundles.cartpole(tmp_path_factory.mktemp("pole")))


def every_route(world, live):
    """Yield every method and an address of every route that the app itself has."""
    for route in world.app.routes:
        assert isinstance(route, Route), "tell here how it is reached"
        for method in sorted(route.methods):
            yield method, re.sub(r"\{[^}]*\}", str(live.agent_id), route.path)
    for method, verb in DATA_PLANE:
        yield method, f"{live.path}/{verb}"
    yield "POST", "/nowhere"


def refused_by(world, live, headers, status):
    """Assert that every route refuses a request with these headers, and only that."""
    token = world.token()
    bearing = [("authorization", f"Bearer {token}"), *headers]
    before = world.head()
    for method, path in every_route(world, live):
        answer = asked(world.app, method, path, headers=bearing)
        assert answer.status == status, (method, path, answer)
        assert b"testserver" not in answer.body
        assert "location" not in answer.headers
    assert world.head() == before


@pytest.mark.parametrize("host", BAD)
def test_no_route_answers_to_what_is_no_host(world, live, host):
    refused_by(world, live, [("host", host)], 400)


def test_no_route_answers_to_two_hosts(world, live):
    hosts = [("host", "testserver"), ("host", "testserver")]
    refused_by(world, live, hosts, 400)


def test_no_route_answers_by_a_name_that_is_not_ours(world, live):
    refused_by(world, live, [("host", FOREIGN)], 421)
    page = [("host", FOREIGN), ("origin", f"http://{FOREIGN}")]
    refused_by(world, live, page, 421)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_page_of_others_gets_no_answer_of_the_api_and_changes_nothing(
    world, live, origin
):
    token = world.token()
    headers = [("authorization", f"Bearer {token}"), ("origin", origin)]
    before = world.head()
    for method, path in every_route(world, live):
        answer = asked(world.app, method, path, headers=headers)
        if method in {"GET", "HEAD"} and not path.startswith("/api/"):
            assert answer.status < 403, (method, path)
        else:
            assert answer.status == 403, (method, path)
        assert not [h for h in answer.headers if h.startswith("access-control-")]
    assert world.head() == before


@pytest.mark.parametrize("origin", ["http://testserver", PAGE])
def test_our_own_page_and_one_that_is_named_may_call(world, origin):
    client = world.member()
    client.headers["Origin"] = origin
    made = client.post("/api/v1/projects", json={"name": "p", "kind": "classic"})
    assert made.status_code == 201
    assert client.get("/api/v1/projects").status_code == 200


def test_a_preflight_of_a_browser_is_refused_without_a_word_about_origins(world):
    asks = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "PUT"),
    ]
    answer = asked(world.app, "OPTIONS", "/api/v1/projects", headers=asks)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_each_family_of_addresses_says_it_in_its_own_form(world):
    said = [("host", FOREIGN)]
    cli = asked(world.app, "GET", "/api/cli/v1/agents", headers=said)
    assert cli.headers["content-type"] == "application/json"
    assert b'"detail"' in cli.body
    ours = asked(world.app, "GET", "/api/v1/agents", headers=said)
    assert ours.headers["content-type"] == "application/problem+json"
    open_inference = asked(world.app, "GET", "/v2", headers=said)
    assert b'"error":"' in open_inference.body
    for answer in (cli, ours, open_inference):
        assert FOREIGN.encode() not in answer.body


def test_a_cookie_authenticates_nothing_and_none_is_ever_set(world, live):
    token = world.token()
    names = ("token", "session", "access_token", "authorization", "Authorization")
    cookies = "; ".join(f"{name}={token}" for name in names)
    for method, path in every_route(world, live):
        answer = asked(world.app, method, path, headers=[("cookie", cookies)])
        bare = asked(world.app, method, path)
        assert answer.status == bare.status, (method, path)
        assert "set-cookie" not in answer.headers
        assert "set-cookie" not in bare.headers


def test_the_quicker_protocol_asks_the_same_of_a_request(world, live):
    body = b'{"obs":"%b"}' % wire([[0.0] * 4]).encode()

    def post(*fields):
        lines = [
            b"POST %b/get_action HTTP/1.1" % live.path.encode(),
            *fields,
            b"Authorization: Bearer %b" % live.key.encode(),
            b"Content-Length: %d" % len(body),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    with looping() as loop:
        for is_ours in (True, False):
            side = Side(world.app, loop, is_ours=is_ours)
            connection = side.connect()
            for fields, status in (
                ([b"Host: testserver"], 200),
                ([b"Host: 127.0.0.1:8400", b"Origin: http://127.0.0.1:8400"], 200),
                ([b"Host: testserver", b"Origin: " + PAGE.encode()], 200),
                ([b"Host: testserver", b"Origin: null"], 403),
                ([b"Host: testserver", b"Origin: https://evil.example"], 403),
                ([b"Host: " + FOREIGN.encode()], 421),
                ([b"Host: testserver?"], 400),
                ([b"Host: testserver", b"Host: testserver"], 400),
                ([], 400),
                ([b"Host: testserver"], 200),
            ):
                for _ in range(2):  # a head that is known is no other
                    assert connection.ask(post(*fields)).status == status, fields
            side.settle()


def test_an_app_that_is_mounted_answers_by_every_name_and_knows_its_own_paths():
    with opened() as world:
        outer = Starlette(routes=[Mount("/below", world.app)])
        client = TestClient(outer, headers={"Host": "whatever.example:81"})
        assert client.get("/below/livez").status_code == 200
        foreign = {"Origin": "https://evil.example"}
        assert client.get("/below/livez", headers=foreign).status_code == 200
        assert client.get("/below/api/v1/agents", headers=foreign).status_code == 403
