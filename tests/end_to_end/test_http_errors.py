"""What is refused, and how: one shape, the field, the remedy, and nothing inside."""

import json
import logging
import re
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from arena_core.application.projects import Projects

import bundles
from end_to_end.http_world import (
    INSIDE,
    PROBLEM,
    asked,
    assert_problem,
    opened,
    packed,
)

API = "/api/v1"
MAX_BODY = 4096


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "arena.db"
    with opened(path, serve=False, max_body_bytes=MAX_BODY) as world:
        yield world


@pytest.fixture(scope="module")
def client(world):
    return world.member()


@pytest.fixture(scope="module")
def ids(world, tmp_path_factory):
    """Return ids of things that are there, by the name of their parameter."""
    agent = world.agent(bundles.cartpole(tmp_path_factory.mktemp("bundle")))
    return {
        "project": str(agent.project_id),
        "experiment": str(agent.experiment_id),
        "agent": str(agent.id),
        "token": str(world.issued(kind="org").view.id),
    }


BODIES = {
    ("POST", "/projects"): {"name": "p", "kind": "classic", "description": "d"},
    ("PATCH", "/projects/{project}"): {"name": "p", "description": "d"},
    ("POST", "/experiments"): {
        "project_id": "{project}",
        "name": "e",
        "algorithm": "PPO",
        "family": "rl",
        "source": {"kind": "gym", "name": "CartPole-v1"},
        "base_model": "m",
        "recipe": "sb3",
        "config": {"env_kwargs": {"a": 1}},
    },
    ("PATCH", "/experiments/{experiment}"): {
        "name": "e",
        "config": {"env_kwargs": {"a": 1}},
    },
    ("POST", "/experiments/{experiment}/metrics"): {
        "points": [{"step": 1, "name": "loss", "value": 0.5}]
    },
    ("POST", "/agents"): {
        "name": "a",
        "experiment_id": "{experiment}",
        "checkpoint": {"type": "specific", "step": 10},
        "description": "d",
        "kind": "classic",
    },
    ("PATCH", "/agents/{agent}"): {"name": "a", "description": "d"},
    ("DELETE", "/agents/{agent}"): {"reason": 1},
    ("POST", "/agents/{agent}/connect"): {"reason": "r"},
    ("POST", "/agents/{agent}/disconnect"): {"reason": "r"},
    ("POST", "/agents/{agent}/rotate-key"): {"reason": "r"},
    ("POST", "/agents/{agent}/restore"): {"reason": "r"},
    ("POST", "/tokens"): {"name": "t", "user": "u", "role": "member", "kind": "org"},
    ("POST", "/tokens/{token}/rotate"): {},
}


def filled(value, ids):
    """Return `value` with ids in the place of their names."""
    if isinstance(value, str):
        return re.sub(r"^(.*)\{(\w+)\}(.*)$", lambda m: m[1] + ids[m[2]] + m[3], value)
    if isinstance(value, dict):
        return {key: filled(inner, ids) for key, inner in value.items()}
    return value


# --- anything at all ---------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, -1, 0])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", " ", "\0", "[b]", "a" * 201, "best", "latent", "gym", "/etc"]
    )
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def nearly_right(draw, body):
    """Draw a body that is wrong in one place, or anything."""
    if not body or draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    key = draw(st.sampled_from(sorted(body)))
    inner = body[key]
    if isinstance(inner, list):
        return {**body, key: [draw(nearly_right(inner[0]))]}
    if isinstance(inner, dict) and draw(st.booleans()):
        return {**body, key: draw(nearly_right(inner))}
    change = draw(
        st.sampled_from(["replace", "replace", "replace", "leave out", "add"])
    )
    if change == "leave out":
        return {k: v for k, v in body.items() if k != key}
    if change == "add":
        return {**body, draw(st.text(max_size=20)): draw(ANYTHING)}
    return {**body, key: draw(ANYTHING)}


@pytest.mark.parametrize("address", BODIES, ids=" ".join)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_json_breaks_an_endpoint(world, client, ids, address, data):
    method, path = address
    body = data.draw(nearly_right(filled(BODIES[address], ids)))
    before = world.head()
    answer = client.request(
        method,
        API + filled(path, ids),
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    if answer.is_success:
        json.loads(answer.text)
        return
    # A personal token is for nobody else, and whoever names a module names a program.
    is_denied = path == "/tokens" or path.startswith("/experiments")
    refused = {404, 409, 422} | ({403} if is_denied else set())
    assert answer.status_code in refused
    assert_problem(answer, sent=json.dumps(body))
    assert world.head() == before


def test_a_good_body_is_one_that_is_taken(client, ids):
    for (method, path), body in BODIES.items():
        if method == "POST" and "{" not in path:
            made = client.post(API + path, json=filled(body, ids))
            assert made.status_code == 201, (path, made.text)


@pytest.mark.parametrize("path", ["/projects", "/experiments", "/events", "/tokens"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.dictionaries(
        st.sampled_from(["limit", "cursor", "as_of", "after", "name", "stream"])
        | st.text(max_size=8),
        st.text(max_size=12)
        | st.integers().map(str)
        | st.integers(0, 10).map(str)
        | st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
        max_size=3,
    )
)
@example(query={"as_of": "0001-01-01T00:00:00+23:59"})
@example(query={"as_of": "0001-01-01T00:00:00-23:59"})
def test_no_query_breaks_a_list(client, path, query):
    answer = client.get(API + path, params=query)
    if not answer.is_success:
        problem = assert_problem(answer, sent=json.dumps(query))
        assert problem["errors"]
        other = 400 if problem["code"] == "INVALID_CURSOR" else 422
        assert answer.status_code == other


def test_no_bytes_in_a_query_break_a_list(world, client):
    token = client.headers["authorization"]
    for query in ("name=%ff%fe", "name=%00", "&&&", "=", "name", "name=a&name=b", "%"):
        answer = asked(
            world.app,
            "GET",
            f"{API}/projects",
            query=query,
            headers=[("authorization", token)],
        )
        assert answer.status in {200, 422}, query


# --- the sentence and the field ----------------------------------------------------


@pytest.mark.parametrize(
    ("address", "change", "field"),
    [
        (("POST", "/projects"), {"name": "  "}, "/name"),
        (("POST", "/projects"), {"name": "x" * 201}, "/name"),
        (("POST", "/projects"), {"name": 1}, "/name"),
        (("POST", "/projects"), {"name": None}, "/name"),
        (("POST", "/projects"), {"name": ...}, "/name"),
        (("POST", "/projects"), {"kind": "modern"}, "/kind"),
        (("POST", "/projects"), {"description": []}, "/description"),
        (("POST", "/projects"), {"id": "mine"}, "/id"),
        (("PATCH", "/projects/{project}"), {"name": ""}, "/name"),
        (("PATCH", "/projects/{project}"), {"kind": "advanced"}, "/kind"),
        (("POST", "/experiments"), {"project_id": "x"}, "/project_id"),
        (("POST", "/experiments"), {"algorithm": ""}, "/algorithm"),
        (("POST", "/experiments"), {"algorithm": "X", "family": ...}, "/family"),
        (("POST", "/experiments"), {"family": "rlhf"}, "/family"),
        (("POST", "/experiments"), {"source": "gym"}, "/source"),
        (("POST", "/experiments"), {"source": {"kind": "gym"}}, "/source/name"),
        (("POST", "/experiments"), {"config": []}, "/config"),
        (("POST", "/agents"), {"name": ""}, "/name"),
        (("POST", "/agents"), {"checkpoint": {"type": "last"}}, "/checkpoint/type"),
        (("POST", "/agents"), {"checkpoint": {"type": "specific"}}, "/checkpoint/step"),
        (
            ("POST", "/agents"),
            {"checkpoint": {"type": "specific", "step": 11}},
            "/checkpoint/step",
        ),
        (
            ("POST", "/agents"),
            {"checkpoint": {"type": "specific", "step": 10.5}},
            "/checkpoint/step",
        ),
        (("POST", "/agents"), {"kind": "advanced"}, "/kind"),
        (("POST", "/tokens"), {"role": "owner"}, "/role"),
        (("POST", "/tokens"), {"user": ""}, "/user"),
        (("POST", "/tokens"), {"token": "x"}, "/token"),
        (
            ("POST", "/experiments/{experiment}/metrics"),
            {"points": [{"step": 1, "name": "a", "value": "x"}]},
            "/points/0/value",
        ),
        (
            ("POST", "/experiments/{experiment}/metrics"),
            {
                "points": [
                    {"step": 1, "name": "a", "value": 1},
                    {"step": 1, "name": "a"},
                ]
            },
            "/points/1/value",
        ),
    ],
)
def test_a_bad_field_is_named(world, client, ids, *, address, change, field):
    method, path = address
    body = {**filled(BODIES[address], ids), **change}
    before = world.head()
    answer = client.request(
        method,
        API + filled(path, ids),
        json={key: value for key, value in body.items() if value is not ...},
    )
    assert_problem(answer, 422, field)
    assert world.head() == before


def _empty(client, ids) -> str:
    made = client.post(
        f"{API}/experiments", json=filled(BODIES["POST", "/experiments"], ids)
    )
    return made.json()["id"]


def test_without_checkpoints_there_is_nothing_to_freeze(client, ids):
    experiment = _empty(client, ids)
    for choice in (
        {"type": "best"},
        {"type": "final"},
        {"type": "specific", "step": 1},
    ):
        body = {"name": "a", "experiment_id": experiment, "checkpoint": choice}
        problem = assert_problem(client.post(f"{API}/agents", json=body), 422)
        assert problem["errors"][0]["pointer"] == "/experiment_id"
        assert "no checkpoints" in problem["detail"]


def test_best_without_scores_says_what_to_do(client, ids, tmp_path):
    experiment = _empty(client, ids)
    content = packed(bundles.cartpole(tmp_path))
    where = f"{API}/experiments/{experiment}/checkpoints"
    assert client.post(
        where, params={"step": 1, "score": 3}, content=content
    ).is_success
    body = {"name": "a", "experiment_id": experiment, "checkpoint": {"type": "best"}}
    problem = assert_problem(
        client.post(f"{API}/agents", json=body), 422, "/checkpoint"
    )
    assert "fitness" in problem["detail"]


def test_an_unknown_parameter_is_named(client, ids):
    for path in ("/projects", "/tokens", "/events", f"/agents/{ids['agent']}"):
        answer = client.get(API + path, params={"as_off": "1"})
        assert_problem(answer, 422, "/as_off")
    answer = client.post(f"{API}/projects", params={"dry_run": "1"}, json={})
    assert_problem(answer, 422, "/dry_run")


def test_a_parameter_that_is_given_twice_is_refused(client):
    answer = client.get(f"{API}/projects?limit=1&limit=2")
    assert_problem(answer, 422)


@pytest.mark.parametrize("name", ["a/b", "a~b", "[red]", "x" * 3000])
def test_whatever_a_field_is_called_it_is_named_safely(client, name):
    answer = client.post(
        f"{API}/projects", json={"name": "p", "kind": "classic", name: 1}
    )
    problem = assert_problem(answer, 422)
    assert len(answer.text) < 5000
    pointer = problem["errors"][0]["pointer"]
    assert "[" not in pointer
    if name in {"a/b", "a~b"}:
        assert pointer == "/" + name.replace("~", "~0").replace("/", "~1")


# --- bodies that are no JSON -------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"nothing",
        b"<xml/>",
        b"name=p&kind=classic",
        b"{'name': 'p'}",
        b'{"name": NaN, "kind": "classic"}',
        b'{"name": Infinity, "kind": "classic"}',
        b'{"name": "p", "kind": "classic"} {}',
        b'{"name": "\xff\xfe", "kind": "classic"}',
        b'{"name": "\\ud800", "kind": "classic"}',
        b"\xef\xbb\xbf{}",
        b"[" * 2000,
        b'{"a":' * 400 + b"1" + b"}" * 400,
        b"1" * 4000,
        b'{"name": ' + b"9" * 4000 + b"}",
        b'{"name": 1e999}',
        b"[]",
        b"null",
        b'"text"',
        b"\0",
        b"\x1f\x8b\x08",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(world, client, content):
    before = world.head()
    assert_problem(client.post(f"{API}/projects", content=content), 422)
    assert world.head() == before


def test_depth_and_length_of_numbers_are_limited():
    deep, long = b"[" * 100_000 + b"]" * 100_000, b"9" * 1_000_000
    with opened(serve=False) as world:
        client, project = (
            world.member(),
            world.arena.projects.create("p", kind="classic"),
        )
        about = b'"project_id":"%s","name":"e","algorithm":"PPO"' % (
            str(project.id).encode()
        )
        before = world.head()
        for value in (
            deep,
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            long,
            b"-" + long,
        ):
            assert_problem(client.post(f"{API}/projects", content=value), 422)
            config = b'{%s,"config":{"a":%s}}' % (about, value)
            assert_problem(client.post(f"{API}/experiments", content=config), 422)
        assert world.head() == before


def test_a_config_that_is_nested_as_deeply_as_allowed_is_kept(client, ids):
    for levels, status in ((61, 201), (62, 422), (63, 422), (900, 422)):
        deep = {"env_kwargs": {"a": json.loads("[" * levels + "]" * levels)}}
        body = {**filled(BODIES["POST", "/experiments"], ids), "config": deep}
        answer = client.post(f"{API}/experiments", json=body)
        assert answer.status_code == status, levels
        if status == 201:
            again = client.get(f"{API}/experiments/{answer.json()['id']}")
            assert again.json()["config"] == deep


def test_no_body_is_an_empty_one(client, ids):
    answer = client.post(f"{API}/agents/{ids['agent']}/disconnect")
    assert answer.status_code == 200
    assert_problem(client.post(f"{API}/projects"), 422, "/name")


def test_a_get_with_a_body_is_refused_like_any_unknown_field(client):
    answer = client.request("GET", f"{API}/projects", json={"limit": 1})
    assert_problem(answer, 422, "/limit")


# --- too large ---------------------------------------------------------------------


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read(world, client):
    def never_asked():
        raise AssertionError("the body was read")
        yield  # pragma: no cover

    answer = asked(
        world.app,
        "POST",
        f"{API}/projects",
        headers=[
            ("authorization", client.headers["authorization"]),
            ("content-length", str(MAX_BODY + 1)),
        ],
        messages=never_asked(),
    )
    assert answer.status == 413


def test_a_body_is_counted_while_it_is_read(world, client):
    read = []

    def a_lot():
        for _ in range(500):
            read.append(1000)
            yield {"type": "http.request", "body": b" " * 1000, "more_body": True}

    token = ("authorization", client.headers["authorization"])
    before = world.head()
    for announced in ([], [("content-length", "10")], [("content-length", "\xb2")]):
        read.clear()
        answer = asked(
            world.app,
            "POST",
            f"{API}/projects",
            headers=[token, *announced],
            messages=a_lot(),
        )
        assert answer.status == 413
        assert sum(read) <= MAX_BODY + 1000
    assert world.head() == before


def test_a_body_as_large_as_allowed_is_taken(client):
    body = b'{"name":"p","kind":"classic"}'
    just = client.post(f"{API}/projects", content=body.ljust(MAX_BODY))
    assert just.status_code == 201
    over = client.post(f"{API}/projects", content=body.ljust(MAX_BODY + 1))
    problem = assert_problem(over, 413)
    assert str(MAX_BODY) in problem["detail"]


def test_a_caller_who_leaves_is_no_defect(world, client, caplog):
    before = world.head()
    part = {"type": "http.request", "body": b'{"name":', "more_body": True}
    asked(
        world.app,
        "POST",
        f"{API}/projects",
        headers=[("authorization", client.headers["authorization"])],
        messages=[part],
    )
    assert world.head() == before
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


# --- addresses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/v1", "/api/v2/projects", "/api/v1/project", "/favicon.ico",
     "/api/v1/environments", "/docs", "/inference/x"],
)  # fmt: skip
def test_an_unknown_address_is_a_problem_too(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    if not path.startswith("/inference"):
        assert_problem(answer, 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/projects", "GET, HEAD, POST"),
        ("DELETE", "/projects", "GET, HEAD, POST"),
        ("OPTIONS", "/projects", "GET, HEAD, POST"),
        ("POST", "/projects/{project}", "DELETE, GET, HEAD, PATCH"),
        ("PUT", "/agents/{agent}/access", "GET, HEAD"),
        ("GET", "/agents/{agent}/connect", "POST"),
        ("PUT", "/experiments/{experiment}/checkpoints/5", "DELETE, GET, HEAD"),
        ("PATCH", "/experiments/{experiment}/metrics", "GET, HEAD, POST"),
        ("GET", "/tokens/{token}", "DELETE"),
        ("POST", "/events", "GET, HEAD"),
        ("BREW", "/events", "GET, HEAD"),
    ],
)
def test_a_wrong_method_names_the_right_ones(client, ids, method, path, allowed):
    answer = client.request(method, API + filled(path, ids))
    assert_problem(answer, 405)
    assert answer.headers["allow"] == allowed


NO_IDS = (
    "x", "1", "0" * 31, "z" * 32, "null", "%00", "..%2f..", "a b", "\u0661" * 32,
    str(uuid4())[:-1], str(uuid4()) + "0", "'; drop table events; --", "a" * 5000,
)  # fmt: skip


@pytest.mark.parametrize("what", ["projects", "experiments", "agents"])
def test_what_is_no_id_or_of_nothing_is_not_there(client, what):
    for text in (*NO_IDS, str(uuid4())):
        for method in ("GET", "PATCH", "DELETE"):
            answer = client.request(method, f"{API}/{what}/{text}")
            assert answer.status_code == 404, (text, answer.text)
            assert_problem(answer, 404)


def test_an_id_of_another_kind_of_thing_is_not_there(client, ids):
    for what in ("project", "experiment", "agent"):
        for kind, text in ids.items():
            answer = client.get(f"{API}/{what}s/{text}")
            assert answer.status_code == (200 if kind == what else 404)


@pytest.mark.parametrize("step", ["x", "-1", "1.5", "9" * 19, "9" * 5000, "\u0661"])
def test_a_step_that_is_no_step_is_not_there(client, ids, step):
    where = f"{API}/experiments/{ids['experiment']}/checkpoints/{step}"
    assert_problem(client.delete(where), 404)


def test_unknown_ids_in_bodies_are_not_there(world, client):
    before = world.head()
    nobody = str(uuid4())
    experiment = {"project_id": nobody, "name": "e", "algorithm": "PPO"}
    assert_problem(client.post(f"{API}/experiments", json=experiment), 404)
    agent = {"name": "a", "experiment_id": nobody, "checkpoint": {"type": "final"}}
    assert_problem(client.post(f"{API}/agents", json=agent), 404)
    assert world.head() == before


@pytest.mark.parametrize("step", [-1, 2**63, 2**64, 10**40, 10**300])
def test_a_step_that_cannot_be_kept_is_refused(world, client, ids, tmp_path, step):
    where = f"{API}/experiments/{ids['experiment']}"
    before, points = world.head(), client.get(f"{where}/metrics").json()
    added = [
        {"step": 1, "name": "a", "value": 1},
        {"step": step, "name": "b", "value": 1},
    ]
    answer = client.post(f"{where}/metrics", json={"points": added})
    assert_problem(answer, 422, "/points/1/step")
    content = packed(bundles.cartpole(tmp_path))
    query = {"step": step, "score": 1}
    answer = client.post(f"{where}/checkpoints", params=query, content=content)
    assert_problem(answer, 422)
    assert client.get(f"{where}/metrics").json() == points
    assert world.head() == before


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201])
def test_a_point_that_cannot_be_kept_is_pointed_at(client, ids, name):
    where = f"{API}/experiments/{ids['experiment']}/metrics"
    added = [{"step": 1, "name": each, "value": 1} for each in ("a", "a", name)]
    answer = client.post(where, json={"points": added})
    assert_problem(answer, 422, "/points/2/name")
    added[2] = {"step": 1, "name": "a", "value": "x"}
    answer = client.post(where, json={"points": added})
    assert_problem(answer, 422, "/points/2/value")


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "1e999", "x", ""])
def test_a_score_that_is_not_finite_is_refused(world, client, ids, tmp_path, score):
    before = world.head()
    content = packed(bundles.cartpole(tmp_path))
    where = f"{API}/experiments/{ids['experiment']}/checkpoints"
    query = {"step": 77, "score": score}
    answer = client.post(where, params=query, content=content)
    assert_problem(answer, 422, "/score")
    assert world.head() == before


# --- not now -----------------------------------------------------------------------


def test_what_the_status_does_not_allow_is_a_conflict(client, ids):
    answer = client.get(f"{API}/agents/{ids['agent']}/access")
    problem = assert_problem(answer, 409)
    assert problem["code"] == "CONFLICT"
    assert problem["errors"] == []


def test_a_closed_store_is_unavailable_and_says_when_to_come_back():
    with opened(serve=False) as world:
        client = world.member()
    answer = client.get(f"{API}/projects")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert not INSIDE.search(answer.json()["detail"])


def test_a_defect_shows_nothing_of_the_inside(world, monkeypatch, caplog):
    def broken(self, **query):
        del self, query
        raise RuntimeError("/secret/path [stack] password")

    monkeypatch.setattr(Projects, "list", broken)
    client = world.member(raise_server_exceptions=False)
    answer = client.get(f"{API}/projects")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == PROBLEM
    assert (problem["status"], problem["code"]) == (500, "INTERNAL_SERVER_ERROR")
    assert not INSIDE.search(answer.text.replace('"errors":[]', ""))
    assert "secret" not in answer.text
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "RuntimeError" in caplog.text
    assert record.getMessage() == "Defect at /api/v1/projects"


@pytest.mark.parametrize("name", [": ", ".", " "])
def test_a_field_called_nothing_but_punctuation_is_the_bodys_fault(client, name):
    answer = client.post("/api/v1/projects", json={"name": "x", name: 1})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/body"
