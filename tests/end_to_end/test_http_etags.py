"""ETag, If-Match and If-None-Match, as those use them who poll or change resources."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve
from starlette.testclient import TestClient

import arena_core
from arena_core.entrypoints.http.answering import Answering
from arena_core.entrypoints.http.app import build_app
from arena_core.entrypoints.http.endpoints import Reply
from arena_core.entrypoints.http.projects import ENDPOINTS, ONE

import bundles
from end_to_end.http_world import assert_problem, opened

API = "/api/v1"
TAG = r'"{kind}-{id}:{versions}-[0-9a-f]{{16}}"'


@pytest.fixture
def world():
    with opened(serve=False) as world:
        yield world


@pytest.fixture
def client(world):
    return world.member()


@pytest.fixture
def project(client):
    return client.post(f"{API}/projects", json={"name": "carts"}).json()


@pytest.fixture
def agent(world, tmp_path):
    return world.agent(bundles.cartpole(tmp_path / "bundle"))


def at(resource, kind):
    identifier = resource["id"] if isinstance(resource, dict) else resource.id
    return f"{API}/{kind}s/{identifier}"


def etag(client: TestClient, where, **params):
    return client.get(where, params=params).headers["etag"]


def known(tag):
    return {"If-None-Match": tag}


def match(tag):
    return {"If-Match": tag}


# --- reading --------------------------------------------------------------------------


def test_a_resource_has_the_version_of_its_streams_in_its_etag(client, project, agent):
    assert etag(client, at(project, "project")).startswith(
        f'"project-{project["id"][:8]}:1-'
    )
    where = at(agent, "agent")
    assert etag(client, where).startswith(f'"agent-{str(agent.id)[:8]}:1.1-')
    client.post(f"{where}/connect", json={})
    assert etag(client, where).startswith(f'"agent-{str(agent.id)[:8]}:1.2-')
    client.patch(where, json={"name": "other"})
    assert etag(client, where).startswith(f'"agent-{str(agent.id)[:8]}:2.2-')


def test_an_advanced_agent_has_no_deployment_to_count_at_first(world, client, tmp_path):
    experiment = world.experiment(bundles.cartpole(tmp_path / "b"), kind="advanced")
    made = client.post(
        f"{API}/agents",
        json={
            "name": "forecaster",
            "experiment_id": str(experiment.id),
            "checkpoint": {"type": "final"},
            "kind": "advanced",
        },
    )
    assert ":1.0-" in made.headers["etag"]
    where = at(made.json(), "agent")
    client.post(f"{where}/connect", json={})
    assert ":1.2-" in etag(client, where)


def test_every_answer_that_carries_a_resource_has_the_same_etag(client):
    made = client.post(f"{API}/projects", json={"name": "carts"})
    where = at(made.json(), "project")
    assert made.headers["etag"] == etag(client, where)
    edited = client.patch(where, json={"name": "boats"})
    assert edited.headers["etag"] == etag(client, where)
    assert edited.headers["etag"] != made.headers["etag"]


def test_who_has_it_already_is_not_sent_it_again(client, project):
    where = at(project, "project")
    tag = etag(client, where)
    for header in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = client.get(where, headers=known(header))
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert "content-type" not in answer.headers
    assert client.head(where, headers=known(tag)).status_code == 304
    client.patch(where, json={"name": "boats"})
    assert client.get(where, headers=known(tag)).json()["name"] == "boats"


def test_what_it_was_has_the_etag_that_it_had(world, client, project):
    where = at(project, "project")
    tag, then = etag(client, where), world.head()
    client.patch(where, json={"name": "boats"})
    assert etag(client, where, as_of=then) == tag != etag(client, where)
    past = client.get(where, params={"as_of": then}, headers=known(tag))
    assert past.status_code == 304


def test_an_answer_with_more_in_it_than_streams_never_lies(tmp_path):
    """An agent's URL is as the caller has addressed the server."""
    with opened() as served:
        live = served.live(bundles.cartpole(tmp_path / "live"))
        client = served.member()
        where = f"{API}/agents/{live.agent_id}"
        tag = etag(client, where)
        other = client.get(where, headers=known(tag) | {"Host": "127.0.0.1:9999"})
        assert other.status_code == 200
        assert "127.0.0.1:9999" in other.json()["deployment"]["url"]
        assert client.get(where, headers=known(tag)).status_code == 304


def test_a_list_has_a_weak_etag_of_what_is_in_it(client, project):
    tag = etag(client, f"{API}/projects")
    assert tag.startswith('W/"')
    assert client.get(f"{API}/projects", headers=known(tag)).status_code == 304
    client.patch(at(project, "project"), json={"name": "boats"})
    assert client.get(f"{API}/projects", headers=known(tag)).status_code == 200


def test_whoever_keeps_an_answer_asks_whether_it_still_holds(client, project):
    for where in (at(project, "project"), f"{API}/projects"):
        assert client.get(where).headers["cache-control"] == "private, no-cache"


def test_a_secret_has_no_etag_and_is_not_kept(tmp_path):
    with opened() as served:
        live = served.live(bundles.cartpole(tmp_path / "live"))
        answer = served.member().get(f"{API}/agents/{live.agent_id}/access")
        assert "etag" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"


def test_who_reads_may_ask_for_no_other_answer(client, project):
    where = at(project, "project")
    tag = etag(client, where)
    assert client.get(where, headers=match(tag)).status_code == 200
    assert client.get(where, headers=match("*")).status_code == 200
    client.patch(where, json={"name": "boats"})
    assert_problem(client.get(where, headers=match(tag)), 412)


# --- changing -------------------------------------------------------------------------


def changes(world, tmp_path):
    """Yield a change of each resource that has an ETag, as (method, address, body)."""
    made = world.agent(bundles.cartpole(tmp_path / "changes"))
    one = f"{API}/agents/{made.id}"
    experiment = f"{API}/experiments/{made.experiment_id}"
    project = f"{API}/projects/{made.project_id}"
    yield "PATCH", project, {"description": "x"}
    yield "PATCH", experiment, {"name": "x"}
    yield "PATCH", one, {"name": "x"}
    for verb in ("connect", "rotate-key", "disconnect"):
        yield "POST", f"{one}/{verb}", {}
    redeployment = {"checkpoint": {"type": "final"}}
    yield "POST", f"{one}/redeploy", redeployment
    yield "DELETE", one, {}
    yield "DELETE", experiment, {}
    yield "DELETE", project, {}
    asked = world.asked_for(world.experiment().id, tmp_path / "changes")
    yield "DELETE", f"{API}/imports/{asked.id}", {}


def owner(where):
    return "/".join(where.split("/")[:5])


def test_a_change_of_what_was_read_is_made_and_of_anything_else_is_not(
    world, client, tmp_path
):
    for method, where, body in changes(world, tmp_path):
        tag = etag(client, owner(where))
        stale = tag.replace(":", ":9")
        head = world.head()
        for other in (stale, f"W/{tag}", '"x"', f"{stale}, W/{tag}"):
            refused = client.request(method, where, json=body, headers=match(other))
            assert_problem(refused, 412)
            assert world.head() == head, (method, where)
        done = client.request(
            method, where, json=body, headers=match(f"{stale}, {tag}")
        )
        assert done.is_success, (method, where, done.text)
        assert world.head() > head or where.endswith(("disconnect", "redeploy"))


def test_a_star_matches_whatever_there_is(client, project):
    where = at(project, "project")
    edited = client.patch(where, json={"name": "boats"}, headers=match("*"))
    assert edited.json()["name"] == "boats"


def test_what_is_not_there_is_not_there_whatever_is_expected(world, client, project):
    """Nobody learns from a precondition what another organisation has."""
    where = at(project, "project")
    tag = etag(client, where)
    stranger = world.client(world.token(organisation="rivals"))
    for header in (tag, tag.replace(":1", ":2"), "*"):
        refused = stranger.patch(where, json={"name": "x"}, headers=match(header))
        assert_problem(refused, 404)


def test_an_etag_of_a_change_matches_until_the_next(client, project):
    where, tag = at(project, "project"), "*"
    for name in ("a", "b", "c"):
        edited = client.patch(where, json={"name": name}, headers=match(tag))
        assert edited.status_code == 200
        tag = edited.headers["etag"]


def test_another_address_of_the_server_is_no_change(client, agent):
    """The versions are what If-Match compares."""
    where = at(agent, "agent")
    tag = etag(client, where)
    headers = match(tag[:-3] + ("00" if tag[-3:-1] != "00" else "11") + '"')
    assert client.patch(where, json={"name": "x"}, headers=headers).is_success


def test_of_many_who_change_what_they_have_read_one_is_first(world, project):
    where = at(project, "project")
    tag = etag(world.member(), where)
    clients = [world.member() for _ in range(8)]

    def change(number):
        edited = clients[number].patch(
            where, json={"name": f"name {number}"}, headers=match(tag)
        )
        return edited.status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(change, range(8)))
    assert statuses == [200] + [412] * 7


@pytest.mark.parametrize(
    ("method", "where", "body"),
    [
        ("POST", "/projects", {"name": "x"}),
        ("POST", "/tokens", {"name": "x", "kind": "org"}),
    ],
)
def test_where_nothing_has_an_etag_none_matches(world, client, method, where, body):
    head = world.head()
    answer = client.request(method, API + where, json=body, headers=match('"x"'))
    assert_problem(answer, 412)
    assert world.head() == head


@pytest.mark.parametrize("value", ["*", '"x"'])
def test_if_none_match_is_for_reading(world, client, project, value):
    head = world.head()
    for method, where in (
        ("POST", f"{API}/projects"),
        ("PATCH", at(project, "project")),
    ):
        answer = client.request(method, where, json={"name": "x"}, headers=known(value))
        assert "Idempotency-Key" in assert_problem(answer, 412)["detail"]
    assert world.head() == head


def test_what_is_no_etag_is_refused_by_name(client, project):
    refused = client.patch(
        at(project, "project"), json={"name": "x"}, headers=match("abc")
    )
    assert_problem(refused, 422, "/If-Match")


def test_a_server_can_take_no_change_without_if_match():
    with opened(require_if_match=True, serve=False) as strict:
        client = strict.member()
        made = client.post(f"{API}/projects", json={"name": "carts"})
        where = at(made.json(), "project")
        head = strict.head()
        assert_problem(client.patch(where, json={"name": "x"}), 428)
        assert_problem(client.delete(where), 428)
        assert strict.head() == head
        tag = made.headers["etag"]
        edited = client.patch(where, json={"name": "x"}, headers=match(tag))
        gone = client.delete(where, headers=match(edited.headers["etag"]))
        assert gone.status_code == 200


def test_it_is_a_setting_of_the_environment():
    settings = arena_core.Settings.from_environment({"ARENA_REQUIRE_IF_MATCH": "1"})
    assert settings.require_if_match
    assert not arena_core.Settings.from_environment({}).require_if_match
    with pytest.raises(arena_core.Rejected, match="0 or 1"):
        arena_core.Settings.from_environment({"ARENA_REQUIRE_IF_MATCH": "yes"})


def test_an_etag_is_never_newer_than_what_it_came_with(world, client, project):
    """Somebody changes it after it was read and before it is answered."""
    where = at(project, "project")

    def show_and_lose_a_race(call):
        shown = call.use.projects.get(call.ids["project_id"])
        client.patch(where, json={"name": "meanwhile"})
        return Reply(shown)

    (usual,) = (e for e in ENDPOINTS if (e.method, e.path) == ("GET", ONE))
    slow = Answering(evolve(usual, handle=show_and_lose_a_race), world.arena)
    app = build_app(world.arena)
    app.router.routes.insert(0, slow.route())
    seen = TestClient(app, headers=client.headers).get(where)
    assert seen.json()["name"] == "carts"
    refused = client.patch(
        where, json={"name": "mine"}, headers=match(seen.headers["etag"])
    )
    assert_problem(refused, 412)
    assert client.get(where).json()["name"] == "meanwhile"
