"""The control plane as a caller sees it: status codes, fields, lists, the past."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import arena_core

import bundles
from end_to_end.http_world import World, array, bearing, opened, packed, wire

API = "/api/v1"
PROJECT = {"id", "name", "description", "kind", "owner", "created_at"}
EXPERIMENT = {
    "id", "project_id", "name", "algorithm", "family", "source", "base_model", "recipe",
    "config", "status", "reason", "training", "owner", "created_at",
}  # fmt: skip
CHECKPOINT = {
    "step", "digest", "size_bytes", "training_score", "evaluation_score", "created_at",
}  # fmt: skip
AGENT = {
    "id", "kind", "name", "description", "experiment_id", "experiment_name",
    "project_id", "checkpoint", "base_model", "deployment",
    # More than the design lists:
    "algorithm", "family", "owner", "created_at", "earlier_checkpoints",
}  # fmt: skip
DEPLOYMENT = {
    "id", "status", "connected", "reason", "url", "memory_scope", "key_version",
    # More than the design lists:
    "parity", "digest", "swap", "last_swap",
}  # fmt: skip
ACCESS = {"endpoint", "api_key", "algorithm", "shape"}
SHAPE = {"recurrent", "multi_agent", "supervised", "llm"}
TOKEN = {"id", "kind", "name", "user", "role", "last_four", "created_at"}
EVENT = {
    "position", "stream", "version", "name", "name_version", "occurred_at",
    "recorded_at", "organisation", "actor", "command_id", "correlation_id",
    "causation_id", "reason", "data", "hash",
    # More than the design lists:
    "event_id", "code", "traceparent",
}  # fmt: skip


@pytest.fixture
def world():
    with opened(serve=False) as world:
        yield world


@pytest.fixture
def serving(world):
    """Return the world, which puts live whatever is Pending."""
    world.arena.supervisor.start()
    return world


@pytest.fixture
def client(world):
    return world.member()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bundles.cartpole(tmp_path_factory.mktemp("bundle"))


def new_project(client, name="p", kind="classic", **more):
    return client.post(f"{API}/projects", json={"name": name, "kind": kind, **more})


def new_experiment(client, project_id, name="e", **more):
    body = {"project_id": project_id, "name": name, "algorithm": "PPO", **more}
    return client.post(f"{API}/experiments", json=body)


def with_checkpoint(client, folder, **query):
    """Return an experiment with a checkpoint at step 5, as its caller made it."""
    project = new_project(client).json()
    experiment = new_experiment(client, project["id"]).json()
    upload = client.post(
        f"{API}/experiments/{experiment['id']}/checkpoints",
        params={"step": 5, **query},
        content=packed(folder),
    )
    assert upload.status_code == 201, upload.text
    return experiment


def new_agent(client, folder, name="a", **more):
    body = {
        "name": name,
        "experiment_id": with_checkpoint(client, folder)["id"],
        "checkpoint": {"type": "final"},
        **more,
    }
    answer = client.post(f"{API}/agents", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    assert moment.utcoffset() == timedelta(0)
    return moment


# --- projects ----------------------------------------------------------------------


def test_a_project_is_created_shown_edited_and_deleted(client):
    made = new_project(client, " cartpole ", description="balance")
    assert made.status_code == 201
    project = made.json()
    assert made.headers["location"] == (
        f"http://testserver/api/v1/projects/{project['id']}"
    )
    assert project.keys() == PROJECT
    assert (project["name"], project["kind"]) == ("cartpole", "classic")
    assert abs(utc(project["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert client.get(made.headers["location"]).json() == project
    edited = client.patch(made.headers["location"], json={"name": "pole"})
    assert (edited.status_code, edited.json()) == (200, {**project, "name": "pole"})
    deleted = client.delete(made.headers["location"])
    assert (deleted.status_code, deleted.json()) == (200, {})
    assert client.get(made.headers["location"]).status_code == 404
    assert client.get(f"{API}/projects").json()["items"] == []


def test_an_edit_of_nothing_records_nothing(world, client):
    project = new_project(client).json()
    before = world.head()
    for body in ({}, {"name": None}, {"name": project["name"]}):
        edited = client.patch(f"{API}/projects/{project['id']}", json=body)
        assert edited.json() == project
    assert world.head() == before


# --- experiments -------------------------------------------------------------------


def test_an_experiment_is_drafted_configured_and_deleted(client):
    project = new_project(client).json()
    made = new_experiment(
        client,
        project["id"],
        source={"kind": "gym", "name": "CartPole-v1"},
        config={"n_envs": 2, "hyperparameters": {"gamma": 0.5}},
    )
    assert made.status_code == 201
    experiment = made.json()
    where = f"{API}/experiments/{experiment['id']}"
    assert made.headers["location"] == "http://testserver" + where
    assert experiment.keys() == EXPERIMENT
    assert experiment["family"] == "rl"
    assert experiment["status"] == "Draft"
    assert experiment["source"] == {"kind": "gym", "name": "CartPole-v1"}
    assert experiment["config"] == {"n_envs": 2, "hyperparameters": {"gamma": 0.5}}
    changed = client.patch(where, json={"name": "f", "algorithm": "GRPO"}).json()
    assert changed == {**experiment, "name": "f", "algorithm": "GRPO", "family": "llm"}
    assert client.get(where).json() == changed
    assert client.delete(where).json() == {}
    assert client.get(where).status_code == 404


def test_the_scores_of_an_upload_are_its_metrics(client, folder):
    experiment = with_checkpoint(client, folder, score=1.5, fitness=2.5)
    where = f"{API}/experiments/{experiment['id']}"
    (checkpoint,) = client.get(f"{where}/checkpoints").json()["items"]
    assert checkpoint.keys() == CHECKPOINT
    assert (checkpoint["training_score"], checkpoint["evaluation_score"]) == (1.5, 2.5)
    assert checkpoint["size_bytes"] == sum(
        path.stat().st_size for path in folder.iterdir()
    )
    points = client.get(f"{where}/metrics").json()["items"]
    assert points == [
        {"step": 5, "name": "fitness", "value": 2.5},
        {"step": 5, "name": "score", "value": 1.5},
    ]


def test_metrics_are_appended_and_filtered(client, folder):
    experiment = with_checkpoint(client, folder)
    where = f"{API}/experiments/{experiment['id']}"
    points = [
        {"step": 5, "name": "fitness", "value": 7.0},
        {"step": 5, "name": "loss", "value": 0.25},
    ]
    added = client.post(f"{where}/metrics", json={"points": points})
    assert (added.status_code, added.json()) == (201, {"recorded": 2})
    assert client.get(f"{where}/metrics").json()["items"] == points
    only = client.get(f"{where}/metrics", params={"name": "loss"}).json()["items"]
    assert only == points[1:]
    (checkpoint,) = client.get(f"{where}/checkpoints").json()["items"]
    assert (checkpoint["training_score"], checkpoint["evaluation_score"]) == (None, 7.0)


def test_a_checkpoint_is_deleted_by_its_step(client, folder):
    experiment = with_checkpoint(client, folder)
    where = f"{API}/experiments/{experiment['id']}/checkpoints"
    assert client.delete(f"{where}/6").status_code == 404
    assert client.delete(f"{where}/5").json() == {}
    assert client.get(where).json() == {"items": [], "next_cursor": None}


# --- agents ------------------------------------------------------------------------


def test_an_agent_lives_from_freezing_to_restoring(serving, client, folder):
    agent = new_agent(client, folder, description="d")
    where = f"{API}/agents/{agent['id']}"
    assert agent.keys() == AGENT
    assert agent["deployment"].keys() == DEPLOYMENT
    assert agent["deployment"]["status"] == "Undeployed"
    assert agent["deployment"]["url"] is None
    assert agent["checkpoint"].keys() == {"type", "step", "digest"}
    assert client.get(f"{where}/access").status_code == 409

    connected = client.post(f"{where}/connect", params={"wait": 30})
    assert connected.status_code == 200
    assert connected.headers["location"] == "http://testserver" + where
    deployment = connected.json()["deployment"]
    assert (deployment["status"], deployment["connected"]) == ("Deployed", True)
    assert deployment["url"] == f"http://testserver/inference/{deployment['id']}"
    assert deployment["parity"]["verdict"] == "passed"
    assert client.get(where).json() == connected.json()

    access = client.get(f"{where}/access")
    assert access.headers["cache-control"] == "no-store"
    shown = access.json()
    assert ACCESS <= shown.keys() <= ACCESS | {"examples", "classes", "columns"}
    assert shown["shape"].keys() == SHAPE
    assert shown["endpoint"] == deployment["url"]
    serving.arena.inference(UUID(agent["id"]))
    acted = client.post(
        deployment["url"] + "/get_action",
        json={"obs": wire([[0.0] * 4])},
        headers=bearing(shown["api_key"]),
    )
    assert acted.status_code == 200

    off = client.post(f"{where}/disconnect", json={"reason": "maintenance"}).json()
    assert (off["deployment"]["status"], off["deployment"]["url"]) == (
        "Undeployed",
        None,
    )
    assert client.delete(where, params={}).json() == {}
    assert client.get(where).status_code == 404
    restored = client.post(f"{where}/restore")
    assert (restored.status_code, restored.json()["id"]) == (200, agent["id"])
    renamed = client.patch(where, json={"name": "b", "description": ""}).json()
    assert (renamed["name"], renamed["description"]) == ("b", "")


def test_connect_answers_202_while_it_is_pending(folder):
    with opened(serve=False) as world:
        client = world.member()
        agent = new_agent(client, folder)
        where = f"{API}/agents/{agent['id']}"
        below = client.post(f"{where}/connect", params={"wait": -1})
        assert below.status_code == 422
        for wait in ({}, {"wait": 0}, {"wait": 0.05}):
            answer = client.post(f"{where}/connect", params=wait)
            assert answer.status_code == 202
            assert answer.headers["location"] == "http://testserver" + where
            deployment = answer.json()["deployment"]
            assert (deployment["status"], deployment["url"]) == ("Pending", None)
        assert client.get(where).json() == answer.json()


def test_connect_that_waits_is_answered_as_soon_as_it_is_settled(folder):
    with opened(serve=False) as world:
        client = world.member()
        agent = new_agent(client, folder)
        settle = threading.Timer(0.1, world.arena.supervisor.start)
        settle.start()
        begun = datetime.now(UTC)
        answer = client.post(f"{API}/agents/{agent['id']}/connect", params={"wait": 60})
        took = datetime.now(UTC) - begun
        settle.join()
        assert answer.status_code == 200
        assert answer.json()["deployment"]["status"] == "Deployed"
        assert took < timedelta(seconds=20)


def test_connect_that_fails_says_why(serving, client, tmp_path):
    folder = bundles.cartpole(tmp_path)
    other = bundles.Network.of(4, 2, seed=9)
    bundles.write_weights(folder, other)
    agent = new_agent(client, folder)
    where = f"{API}/agents/{agent['id']}"
    answer = client.post(f"{where}/connect", params={"wait": 30})
    assert answer.status_code == 200
    deployment = answer.json()["deployment"]
    assert (deployment["status"], deployment["connected"]) == ("Failed", False)
    assert deployment["reason"]
    assert deployment["url"] is None
    assert client.get(f"{where}/access").status_code == 409
    assert (
        serving.client().get(f"/inference/{deployment['id']}/status").status_code == 503
    )


@pytest.mark.usefixtures("serving")
def test_an_agent_of_a_dataset_has_no_deployment_until_it_is_connected(client, folder):
    project = new_project(client, kind="advanced").json()
    experiment = new_experiment(
        client, project["id"], source={"kind": "dataset", "name": "d"}
    ).json()
    client.post(
        f"{API}/experiments/{experiment['id']}/checkpoints",
        params={"step": 1},
        content=packed(folder),
    )
    body = {
        "name": "saved",
        "experiment_id": experiment["id"],
        "checkpoint": {"type": "specific", "step": 1},
    }
    agent = client.post(f"{API}/agents", json=body).json()
    assert (agent["kind"], agent["deployment"]) == ("advanced", None)
    for verb in ("disconnect", "rotate-key"):
        answer = client.post(f"{API}/agents/{agent['id']}/{verb}")
        assert answer.status_code == 404
    assert client.get(f"{API}/agents/{agent['id']}/access").status_code == 404
    connected = client.post(f"{API}/agents/{agent['id']}/connect", params={"wait": 30})
    assert connected.json()["deployment"]["status"] == "Deployed"


def test_the_sources_of_a_kind_are_the_experiments_with_checkpoints(client, folder):
    experiment = with_checkpoint(client, folder)
    new_experiment(client, experiment["project_id"], "without a checkpoint")
    listed = client.get(f"{API}/agents/sources", params={"kind": "classic"})
    assert listed.status_code == 200
    (source,) = listed.json()["items"]
    assert source == {"experiment_id": experiment["id"], "label": "e"}
    none = client.get(f"{API}/agents/sources", params={"kind": "advanced"}).json()
    assert none == {"items": [], "next_cursor": None}


# --- tokens ------------------------------------------------------------------------


def test_a_tokens_text_is_shown_when_it_is_issued_and_rotated_and_never_else(client):
    made = client.post(
        f"{API}/tokens", json={"name": "ci", "kind": "org", "role": "viewer"}
    )
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    issued = made.json()
    assert issued.keys() == TOKEN | {"token"}
    assert issued["token"].startswith("arena_org_")
    assert issued["token"].endswith(issued["last_four"])
    assert made.headers["location"].endswith(f"/tokens/{issued['id']}")

    turned = client.post(f"{API}/tokens/{issued['id']}/rotate")
    assert (turned.status_code, turned.headers["cache-control"]) == (200, "no-store")
    rotated = turned.json()
    assert rotated.keys() == TOKEN | {"token"}
    assert rotated["token"] != issued["token"]

    everything = client.get(f"{API}/tokens")
    assert all(item.keys() == TOKEN for item in everything.json()["items"])
    assert issued["id"] in {item["id"] for item in everything.json()["items"]}
    assert client.delete(f"{API}/tokens/{issued['id']}").json() == {}
    left = client.get(f"{API}/tokens").json()["items"]
    assert issued["id"] not in {item["id"] for item in left}
    assert client.post(f"{API}/tokens/{issued['id']}/rotate").status_code == 404


def test_an_organisations_token_is_of_its_own_kind(client):
    body = {"name": "partner", "user": "acme", "kind": "org"}
    issued = client.post(f"{API}/tokens", json=body).json()
    assert issued["token"].startswith("arena_org_")
    assert issued["kind"] == "org"


# --- lists -------------------------------------------------------------------------


def test_a_walk_skips_and_repeats_nothing_while_things_come_and_change(client):
    first = [new_project(client, f"p{n}").json()["id"] for n in range(7)]
    seen, cursor, round_ = [], None, 0
    while True:
        page = client.get(
            f"{API}/projects",
            params={"limit": 2} | ({"cursor": cursor} if cursor else {}),
        ).json()
        seen += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        cursor = page["next_cursor"]
        if cursor is None:
            break
        round_ += 1
        if round_ < 3:
            new_project(client, "meanwhile")
            client.patch(
                f"{API}/projects/{first[0]}", json={"name": f"renamed {round_}"}
            )
    assert len(seen) == len(set(seen)) == 9
    assert seen[:7] == first


@pytest.mark.parametrize("what", ["projects", "experiments", "agents", "tokens"])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1000])
def test_every_list_is_walked_page_by_page(lists, what, limit):
    whole = lists.get(f"{API}/{what}").json()
    assert whole["next_cursor"] is None
    walked, query = [], {"limit": limit}
    while True:
        page = lists.get(f"{API}/{what}", params=query).json()
        walked += page["items"]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == limit
        query["cursor"] = page["next_cursor"]
    assert walked == whole["items"]
    assert len(walked) >= 3


@pytest.fixture(scope="module")
def lists(folder):
    with opened(serve=False) as world:
        client = world.member()
        for n in range(3):
            new_agent(client, folder, f"a{n}")
            client.post(f"{API}/tokens", json={"name": "t", "kind": "org"})
        yield client


def test_lists_are_filtered(client, folder):
    agent = new_agent(client, folder, "mine")
    other = new_project(client, "other", kind="advanced").json()
    new_experiment(client, other["id"], "theirs")

    def ids(path, **query):
        return [item["id"] for item in client.get(path, params=query).json()["items"]]

    assert ids(f"{API}/projects", name="other") == [other["id"]]
    assert len(ids(f"{API}/experiments", project_id=other["id"])) == 1
    assert ids(f"{API}/experiments", name="e") == [agent["experiment_id"]]
    assert ids(f"{API}/agents", name="mine") == [agent["id"]]
    assert ids(f"{API}/agents", kind="classic") == [agent["id"]]
    assert ids(f"{API}/agents", kind="advanced") == []
    assert ids(f"{API}/agents", experiment_id=agent["experiment_id"]) == [agent["id"]]
    assert ids(f"{API}/agents", experiment_id=other["id"]) == []
    assert ids(f"{API}/agents", name="nobody") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"limit": "1" * 30}, "limit"),
        ({"kind": "modern"}, "kind"),
        ({"experiment_id": "x"}, "experiment_id"),
        ({"unheard": "of"}, "unheard"),
    ],
)
def test_a_list_refuses_a_bad_query_by_its_name(lists, query, field):
    answer = lists.get(f"{API}/agents", params=query)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"/{field}"


# --- the past ----------------------------------------------------------------------


def test_every_get_can_look_at_the_past(folder):
    with opened() as world:
        client = world.member()
        world.issued("viewer", user="grace")
        agent = new_agent(client, folder)
        where = f"{API}/agents/{agent['id']}"
        client.post(f"{where}/connect", params={"wait": 30})
        world.importer.stop()
        asked = world.asked_for(UUID(agent["experiment_id"]), folder)
        endless = {"argv": ["sleep", "600"]}
        pipeline = world.pipeline(recipe="command", config=endless)
        ids = {"import_id": asked.id, "pipeline_id": pipeline.id}
        ids |= {"stage_id": pipeline.stages[0].id}
        asks = _every_get(world, {**agent, **ids})
        assert len(asks) >= 24
        then = world.head()
        before = {path: client.get(path, params=q).text for path, q in asks.items()}
        moment = list(world.arena.audit.log())[-1].recorded_at
        _change_everything(client, agent)
        _change_pipeline(client, pipeline)
        world.arena.pipelines.trigger(pipeline.id, pipeline.stages[0].id)
        assert client.delete(f"{API}/imports/{asked.id}").is_success
        for path, query in asks.items():
            now = client.get(path, params=query)
            assert now.status_code in {404, 409} or now.text != before[path], path
            for as_of in (str(then), moment.isoformat()):
                past = client.get(path, params={**query, "as_of": as_of})
                assert past.status_code == 200, (path, past.text)
                assert past.text == before[path], path


def _every_get(world: World, agent: dict) -> dict[str, dict]:
    """Return every GET of the control plane by its path, from the app's own routes."""
    ids = {
        "project_id": agent["project_id"],
        "experiment_id": agent["experiment_id"],
        "agent_id": agent["id"],
        "import_id": agent["import_id"],
        "pipeline_id": agent["pipeline_id"],
        "stage_id": agent["stage_id"],
        "organisation_id": "default",
        "step": 5,
    }
    queries = {f"{API}/agents/sources": {"kind": "classic"}}
    paths = [
        route.path_format.format(**{k: ids[k] for k in route.param_convertors})
        for route in world.app.routes
        if route.path.startswith(API)
        and "GET" in route.methods
        # What a training prints is kept as it comes, and is no part of the log.
        and not route.path.endswith("/log")
    ]
    return {path: queries.get(path, {}) for path in paths}


def _change_everything(client, agent):
    where = f"{API}/experiments/{agent['experiment_id']}"
    assert client.patch(where, json={"name": "renamed"}).is_success
    # Metric points are no events: they are of the position that the log has reached.
    points = [{"step": 5, "name": "fitness", "value": 9.0}]
    assert client.post(f"{where}/metrics", json={"points": points}).is_success
    assert client.delete(f"{where}/checkpoints/5").is_success
    renamed = {"name": "renamed"}
    assert client.patch(f"{API}/projects/{agent['project_id']}", json=renamed)
    key = {"name": "t", "kind": "org"}
    assert client.post(f"{API}/tokens", json=key).is_success
    assert client.patch(f"{API}/users/me", json={"first_name": "Ada"}).is_success
    ours = f"{API}/organisations/default"
    assert client.patch(ours, json=renamed).is_success
    role = {"role": "member"}
    assert client.patch(f"{ours}/members/grace", json=role).is_success
    assert client.post(f"{ours}/invitations", json={"user": "bob"}).is_success
    _sign_in(client)
    assert client.delete(f"{API}/agents/{agent['id']}").is_success


def _change_pipeline(client, pipeline):
    where = f"{API}/pipelines/{pipeline.id}"
    assert client.patch(where, json={"name": "renamed"}).is_success
    stage = f"{where}/stages/{pipeline.stages[0].id}"
    assert client.patch(stage, json={"auto_add": "best"}).is_success
    bound = f"{API}/experiments/{pipeline.stages[0].experiment_id}"
    assert client.patch(bound, json={"name": "another draft"}).is_success


def _sign_in(client):
    at, who = "/realms/arena/protocol/openid-connect", {"client_id": "arena-cli"}
    begun = client.post(f"{at}/auth/device", data=who).json()
    code = {"user_code": begun["user_code"]}
    assert client.post(f"{API}/sign-ins/approve", json=code).is_success
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    asked = {**who, "grant_type": grant, "device_code": begun["device_code"]}
    assert client.post(f"{at}/token", data=asked).is_success


@pytest.mark.parametrize(
    "as_of",
    ["999999", "1" * 5000, "-1", "x", "", "yesterday", "2026-01-31", "\u0661", "1.5",
     "2026-01-31T14:03:00", "0x1", " 1", "null", "9999-12-31T23:59:59Z"],
)  # fmt: skip
def test_an_as_of_that_means_nothing_is_refused_by_its_name(lists, as_of):
    for path in ("projects", "agents", "events", "tokens"):
        answer = lists.get(f"{API}/{path}", params={"as_of": as_of})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/as_of"


def test_an_as_of_in_the_future_is_refused_however_near(lists):
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    answer = lists.get(f"{API}/projects", params={"as_of": soon})
    assert answer.status_code == 422
    assert "still to come" in answer.json()["detail"]


def test_before_everything_there_was_nothing(lists):
    for as_of in ("0", "1970-01-01T00:00:00Z", "2000-01-01T00:00:00+02:00"):
        for path in ("projects", "experiments", "agents", "tokens", "events"):
            answer = lists.get(f"{API}/{path}", params={"as_of": as_of})
            assert answer.json()["items"] == []


def test_what_changes_things_takes_no_as_of(world, client):
    project = new_project(client).json()
    before = world.head()
    answer = client.delete(f"{API}/projects/{project['id']}", params={"as_of": 1})
    assert (answer.status_code, world.head()) == (422, before)


# --- the feed of events ------------------------------------------------------------


def test_the_feed_gives_the_whole_log_page_by_page(world, client, folder):
    new_agent(client, folder)
    whole = client.get(f"{API}/events", params={"limit": 1000}).json()
    assert whole["next_after"] is None
    assert [item["position"] for item in whole["items"]] == list(
        range(whole["items"][0]["position"], world.head() + 1)
    ), "what users do beyond the organisation comes before that"
    assert all(item.keys() == EVENT for item in whole["items"])
    walked, after = [], 0
    while after is not None:
        page = client.get(f"{API}/events", params={"after": after, "limit": 2}).json()
        walked += page["items"]
        after = page["next_after"]
    assert walked == whole["items"]


def test_the_feed_can_follow_one_stream(client, folder):
    agent = new_agent(client, folder)
    client.patch(f"{API}/agents/{agent['id']}", json={"name": "b"})
    items = client.get(f"{API}/events", params={"stream": agent["id"]}).json()["items"]
    assert [item["name"] for item in items] == [
        "agent.checkpoint_frozen",
        "agent.renamed",
    ]
    assert {item["stream"] for item in items} == {agent["id"]}


def test_events_say_by_whose_hand_and_why(world, folder):
    client = world.client(world.issued(user="ada").token)
    agent = new_agent(client, folder)
    where = f"{API}/agents/{agent['id']}"
    client.request("DELETE", where, json={"reason": "it is old"})
    last = client.get(f"{API}/events", params={"limit": 1000}).json()["items"][-1]
    assert (last["reason"], last["organisation"]) == ("it is old", "default")
    assert last["actor"] == "user:ada"


@pytest.mark.parametrize("after", ["-5", "9" * 18, "9" * 19, "9" * 40])
def test_the_feed_takes_any_position(lists, after):
    answer = lists.get(f"{API}/events", params={"after": after})
    assert answer.status_code == 200
    assert bool(answer.json()["items"]) == (after == "-5")


# --- under a prefix ----------------------------------------------------------------


def test_it_works_when_it_is_mounted_under_a_prefix(serving, folder):
    outer = TestClient(
        Starlette(routes=[Mount("/arena", app=serving.app)]),
        headers=bearing(serving.token()),
    )
    made = outer.post("/arena/api/v1/projects", json={"name": "p", "kind": "classic"})
    location = made.headers["location"]
    assert location.startswith("http://testserver/arena/api/v1/projects/")
    assert outer.get(location).json() == made.json()

    agent = serving.agent(folder)
    where = f"/arena/api/v1/agents/{agent.id}"
    connected = outer.post(f"{where}/connect", params={"wait": 30})
    assert connected.headers["location"] == "http://testserver" + where
    url = connected.json()["deployment"]["url"]
    assert url.startswith("http://testserver/arena/inference/")
    access = outer.get(f"{where}/access").json()
    assert access["endpoint"] == url
    serving.arena.inference(agent.id)
    status = TestClient(outer.app).get(f"{url}/status")
    assert status.json()["deployment_id"] == str(connected.json()["deployment"]["id"])
    obs = bundles.observations(2, 4)
    acted = outer.post(
        f"{url}/get_action",
        json={"obs": wire(obs)},
        headers=bearing(access["api_key"]),
    )
    assert (array(acted.json()["action"]) == bundles.CARTPOLE(obs).argmax(1)).all()


def test_mounted_addresses_that_nobody_declared_are_not_there(world):
    outer = TestClient(Starlette(routes=[Mount("/arena", app=world.app)]))
    for path in ("/arena/nothing", "/arena", "/arena/inference/x/status", "/api/v1"):
        assert outer.get(path).status_code == 404
    document = outer.get("/arena/openapi.json").json()
    assert document["servers"] == [{"url": "http://testserver/arena"}]
    wrong = outer.put("/arena/api/v1/projects")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD, POST")


def test_urls_are_as_they_were_set(folder):
    with opened(public_url="https://arena.example/base/") as world:
        client = world.member()
        made = new_project(client)
        assert made.headers["location"].startswith(
            "https://arena.example/base/api/v1/projects/"
        )
        agent = new_agent(client, folder)
        connected = client.post(
            f"{API}/agents/{agent['id']}/connect", params={"wait": 30}
        )
        url = connected.json()["deployment"]["url"]
        assert url.startswith("https://arena.example/base/inference/")


def test_the_library_shows_the_same_fields():
    views = arena_core.application.resources
    shown = {
        views.ProjectView: PROJECT,
        views.ExperimentView: EXPERIMENT,
        views.CheckpointView: CHECKPOINT,
        views.AgentView: AGENT,
        views.DeploymentView: DEPLOYMENT,
        views.TokenView: TOKEN,
        views.EventView: EVENT,
    }
    for view, fields in shown.items():
        assert set(attrs.fields_dict(view)) == fields
