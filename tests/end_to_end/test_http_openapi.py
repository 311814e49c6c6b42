"""The description of the API is true, and so is what it says of its own health."""

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from uuid import uuid4

import jsonschema
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from arena_core.application.setting_aside import SetAside
from arena_core.domain.errors import Unavailable

import bundles
from end_to_end.http_world import World, opened, packed, wire
from end_to_end.processes import eventually

API = "/api/v1"
CLI = "/api/cli/v1"
OAUTH = "/realms/arena/protocol/openid-connect"
DATA_PLANE = {
    ("GET", "/inference/{deployment_id}/status"),
    ("POST", "/inference/{deployment_id}/get_action"),
    ("POST", "/inference/{deployment_id}/predict"),
}
PUBLIC = {
    "/livez", "/readyz", "/openapi.json", "/v2/health/live", "/v2/health/ready",
    "/device", "/device/page.css", "/device/page.js", "/api/v1/invitations/accept",
    "/inference/{deployment_id}/status", f"{OAUTH}/auth/device", f"{OAUTH}/token",
    f"{OAUTH}/logout",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with opened() as world:
        world.live(bundles.cartpole(tmp_path_factory.mktemp("bundle")))
        yield world


@pytest.fixture(scope="module")
def document(world):
    return world.client().get("/openapi.json").json()


def operations(document):
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


# --- the document ------------------------------------------------------------------


def test_it_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_it_describes_every_route_of_the_app_and_no_other(world, document):
    there = {
        (method, route.path)
        for route in world.app.routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    described = operations(document).keys()
    beside = {(m, p) for m, p in described if p.startswith(("/inference/", "/v2"))}
    assert described - beside == there
    assert beside == DATA_PLANE | _of_open_inference(world)


def _of_open_inference(world):
    """Return what is served below /v2; a version may be named with each model."""
    routes = {(r.method, r.template) for r in world.app.open_inference._routes}
    versioned = {
        (method, template.replace("{model}", "{model}/versions/{version}"))
        for method, template in routes
        if template.startswith("/v2/models")
    }
    return routes | versioned


def test_every_operation_has_an_id_of_its_own_and_a_summary(document):
    described = operations(document).values()
    assert len({operation["operationId"] for operation in described}) == len(described)
    assert all(operation["summary"] for operation in described)


def test_what_needs_a_credential_says_so(document):
    for (_, path), operation in operations(document).items():
        if path in PUBLIC:
            assert "security" not in operation
        else:
            assert operation["security"] == [{"token": []}], path
            assert {"401", "403"} <= operation["responses"].keys()


def test_parameters_are_described_with_their_kinds(document):
    described = operations(document)
    delete = described[
        "DELETE", API + "/experiments/{experiment_id}/checkpoints/{step}"
    ]
    in_path = {
        p["name"]: p["schema"] for p in delete["parameters"] if p["in"] == "path"
    }
    assert in_path == {
        "experiment_id": {"type": "string", "format": "uuid"},
        "step": {"type": "integer", "minimum": 0},
    }
    edit = described["PATCH", API + "/agents/{agent_id}"]
    assert [p["name"] for p in edit["parameters"]] == ["agent_id", "If-Match"]
    created = described["POST", API + "/agents"]["parameters"]
    assert [(p["in"], p["name"]) for p in created] == [("header", "Idempotency-Key")]
    listed = described["GET", API + "/agents"]["parameters"]
    assert {p["name"] for p in listed} == {
        "as_of", "limit", "cursor", "kind", "name", "experiment_id", "If-None-Match",
    }  # fmt: skip
    assert not any(p["required"] for p in listed)


def test_every_get_of_the_control_plane_takes_as_of(document):
    for (method, path), operation in operations(document).items():
        if method == "GET" and path.startswith("/api/v1/"):
            names = {p["name"] for p in operation["parameters"]}
            assert "as_of" in names, path


# --- what really comes -------------------------------------------------------------


class Checked:
    """A client whose every answer must be as the document describes it."""

    def __init__(self, world: World, document: Mapping):
        self._client = world.member()
        self._document = document
        self._templates = {
            template: re.compile(re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(template)))
            for template in document["paths"]
        }
        self.seen: set[tuple[str, str, str]] = set()

    def ask(self, method, path, **options):
        answer = self._client.request(method, path, **options)
        template = self._template(method, path)
        responses = self._document["paths"][template][method.lower()]["responses"]
        status = str(answer.status_code)
        self.seen.add((method, template, status))
        content = responses.get(status, responses["default"]).get("content")
        if content is None:
            assert not answer.content, (method, template, status)
            return answer
        media_type = answer.headers["content-type"]
        is_json = media_type.endswith("json") and "ndjson" not in media_type
        body = answer.json() if is_json else answer.text
        kind = media_type if media_type in content else media_type.partition(";")[0]
        self.validate(body, content[kind]["schema"])
        return answer

    def validate(self, body, schema):
        whole = {**schema, "components": self._document["components"]}
        validator = jsonschema.Draft202012Validator(
            whole, format_checker=jsonschema.FormatChecker()
        )
        validator.validate(body)

    def _template(self, method, path):
        fitting = [
            template
            for template, pattern in self._templates.items()
            if pattern.fullmatch(path.partition("?")[0])
            and method.lower() in self._document["paths"][template]
        ]
        return min(fitting, key=lambda template: template.count("{"))


def test_every_answer_is_as_it_is_described(tmp_path):
    folder = bundles.cartpole(tmp_path / "bundle")
    with opened(tmp_path / "arena.db", allow_commands=True) as world:
        document = world.client().get("/openapi.json").json()
        checked = Checked(world, document)
        world.importer.stop()
        _through_every_operation(checked, folder)
        successes = {
            (method, path) for method, path, status in checked.seen if status < "300"
        }
        # The agent acts, and so does not predict.
        predict = ("POST", "/inference/{deployment_id}/predict")
        assert successes | {predict} == operations(document).keys()
        failures = {status for *_, status in checked.seen if status >= "300"}
        assert failures == {"400", "404", "409", "422", "503"}


ENDLESS = {
    "recipe": "command",
    "config": {"argv": ["sleep", "600"]},
    "source": {"kind": "gym", "name": "CartPole-v1"},
}


def _through_every_operation(checked: Checked, folder) -> None:
    def one(method, path, **options):
        return checked.ask(method, API + path, **options).json()

    for path in ("/livez", "/readyz", "/openapi.json", "/metrics"):
        checked.ask("GET", path)
    project = one("POST", "/projects", json={"name": "p", "kind": "classic"})
    at_project = f"/projects/{project['id']}"
    source = {"kind": "gym", "name": "CartPole-v1"}
    experiment = one(
        "POST",
        "/experiments",
        json={
            "project_id": project["id"],
            "name": "e",
            "algorithm": "PPO",
            "source": source,
        },
    )
    at_experiment = f"/experiments/{experiment['id']}"
    other = bundles.cartpole(
        folder.with_name("other"), network=bundles.CARTPOLE.swapped()
    )
    for step, bundle in ((1, other), (2, folder)):
        one(
            "POST",
            f"{at_experiment}/checkpoints",
            params={"step": step},
            content=packed(bundle),
        )
    foreign = {"from": "sb3", "step": 3, "fitness": 2.0}
    asked = one("POST", f"{at_experiment}/checkpoints", params=foreign, content=b"\x80")
    one("GET", f"{at_experiment}/imports")
    one("GET", f"/imports/{asked['id']}")
    one("DELETE", f"/imports/{asked['id']}")
    points = [{"step": 2, "name": "fitness", "value": 1.5}]
    one("POST", f"{at_experiment}/metrics", json={"points": points})
    for shape in ("table", "csv", "latest"):
        checked.ask("GET", f"{API}{at_experiment}/metrics", params={"format": shape})
    _in_pipelines(checked, one)
    choice = {
        "name": "a",
        "experiment_id": experiment["id"],
        "checkpoint": {"type": "best"},
    }
    agent = one("POST", "/agents", json=choice)
    at_agent = f"/agents/{agent['id']}"
    one("GET", f"{at_agent}/access")
    one("POST", f"{at_agent}/connect", params={"wait": 30})
    guarded = {
        "checkpoint": {"type": "specific", "step": 1},
        "guard": {"bake_s": 60, "error_rate": 0.5},
    }
    one("POST", f"{at_agent}/redeploy", params={"wait": 30}, json=guarded)
    one("GET", at_agent)
    one("POST", f"{at_agent}/rollback", params={"wait": 30})
    _call(checked, one("GET", at_agent))
    issued = one("POST", "/tokens", json={"name": "t", "kind": "org"})
    _as_the_public_client(checked, folder)
    _among_people(checked, one)
    _signing_in(checked, one)
    for path in (
        "/projects", at_project, "/experiments", at_experiment, "/tokens", "/events",
        f"{at_experiment}/metrics", f"{at_experiment}/checkpoints",
        f"{at_experiment}/checkpoints/1", f"{at_experiment}/checkpoints/9",
        "/agents", at_agent, f"{at_agent}/access", f"{at_agent}/checkpoint",
    ):  # fmt: skip
        one("GET", path)
    one("GET", "/agents/sources", params={"kind": "classic"})
    one("GET", "/agents/sources")
    for path in (at_project, at_agent, at_experiment):
        one("PATCH", path, json={"name": "renamed"})
    one("POST", f"{at_agent}/rotate-key")
    one("POST", f"{at_agent}/disconnect", json={"reason": "done"})
    one("DELETE", at_agent)
    one("GET", at_agent)
    one("POST", f"{at_agent}/restore")
    one("POST", f"/tokens/{issued['id']}/rotate")
    one("DELETE", f"/tokens/{issued['id']}")
    _resuming(one, at_experiment)
    one("DELETE", f"{at_experiment}/checkpoints/1")
    one("DELETE", at_experiment)
    one("DELETE", at_project)


def _training(one, project_id: str) -> None:
    """Ask for everything about training, with a program that would never end."""
    draft = {"project_id": project_id, "name": "t", "algorithm": "PPO", **ENDLESS}
    at = f"/experiments/{one('POST', '/experiments', json=draft)['id']}"
    one("POST", f"{at}/resume", json={})
    one("POST", f"{at}/train", json={"max_steps": 0})
    one("POST", f"{at}/train", json={"max_steps": 5, "seed": 1, "reason": "why"})
    one("GET", at)
    one("GET", f"{at}/log")
    one("POST", f"{at}/stop", params={"wait": 30}, json={"reason": "why"})
    one("POST", f"{at}/stop", json={})


def _resuming(one, at: str) -> None:
    """Go on from a checkpoint, in a new experiment and in the same one."""
    one("PATCH", at, json=ENDLESS)
    one("POST", f"{at}/train", json={})
    one("POST", f"{at}/stop", params={"wait": 30})
    one("POST", f"{at}/resume", json={"name": "b"})
    said = {"name": "b", "checkpoint": {"type": "final"}}
    made = one("POST", f"{at}/resume", json=said)
    one("POST", f"{at}/resume", json={})
    for each in (at, f"/experiments/{made['id']}"):
        one("POST", f"{each}/stop", params={"wait": 30})
    one("POST", f"{at}/duplicate", json={})


def _in_pipelines(checked: Checked, one) -> None:
    """Set a pipeline up, and have a stage approved of, refused, stopped and retried."""
    lab = one("POST", "/projects", json={"name": "lab", "kind": "advanced"})["id"]
    _training(one, lab)
    draft = {"project_id": lab, "name": "s", "algorithm": "PPO", **ENDLESS}
    bound = one("POST", "/experiments", json=draft)["id"]
    made = one("POST", "/pipelines", json={"project_id": lab, "name": "line"})
    at = f"/pipelines/{made['id']}"
    stage = {"type": "experiment", "experiment_id": bound}
    first = one("POST", f"{at}/stages", json=stage)["stages"][0]
    last = {
        "type": "deployment",
        "trigger": "auto",
        "condition": {"min_fitness": 1.0},
        "retries": {"most": 2, "first_wait_s": 1},
        "time_limit_s": 60,
    }
    one("POST", f"{at}/stages", json=last)
    at_first = f"{at}/stages/{first['id']}"
    one("PATCH", at_first, json={"approval": True, "start": "scratch"})
    one("POST", f"{at_first}/move", json={"position": 1})
    for order, verdict in (("trigger", "reject"), ("retry", "approve")):
        one("POST", f"{at_first}/{order}", json={"reason": "why"})
        asks = lambda: one("GET", at_first)["run"]["awaits_approval"]  # noqa: E731
        eventually(asks, what="it asks for approval")
        one("POST", f"{at_first}/{verdict}", json={"reason": "why"})
    for path in ("/pipelines", at, at_first, f"{at_first}/runs", f"{at}/candidates"):
        one("GET", path)
    one("POST", f"{at_first}/stop", params={"wait": 30})
    checked.ask("GET", f"{API}{at}/graph.svg")
    one("PATCH", at, json={"description": "d"})
    one("POST", f"{at}/duplicate")
    one("DELETE", f"{at}/stages/{one('GET', at)['stages'][1]['id']}")
    one("DELETE", at)


def _call(checked: Checked, agent: dict) -> None:
    """Call a live agent, by both protocols."""
    at = f"/inference/{agent['deployment']['id']}"
    checked.ask("GET", f"{at}/status")
    checked.ask("POST", f"{at}/get_action", json={"obs": wire([[0.0] * 4])})
    checked.ask("POST", f"{at}/get_action", json={})
    checked.ask("POST", f"{at}/predict", json={"inputs": None})
    for path in ("", "/health/live", "/health/ready"):
        checked.ask("GET", f"/v2{path}")
    version = agent["deployment"]["digest"][:12]
    row = {"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": [0.0] * 4}
    for of in (agent["id"], f"{agent['id']}/versions/{version}"):
        checked.ask("GET", f"/v2/models/{of}")
        checked.ask("GET", f"/v2/models/{of}/ready")
        checked.ask("POST", f"/v2/models/{of}/infer", json={"inputs": [row]})
    checked.ask("POST", "/v2/repository/index")
    checked.ask("POST", f"/v2/repository/models/{agent['id']}/unload")
    checked.ask("GET", f"/v2/models/{agent['id']}/ready")
    checked.ask("POST", f"/v2/repository/models/{agent['id']}/load")


def _as_the_public_client(checked: Checked, folder) -> None:
    def one(method, path, said=None):
        options = {} if said is None else {"json": said}
        return checked.ask(method, CLI + path, **options)

    checked.ask("GET", "/api/users/current")
    one("POST", "/projects/create", {"name": "q", "llm_based": False})
    one("GET", "/projects")
    manifest = {
        "algorithm": {"name": "PPO"},
        "environment": {"name": "CartPole-v1"},
        "training": {"max_steps": 10},
    }
    submitted = {"manifest": manifest, "project": "q", "experiment_name": "x"}
    one("POST", "/experiments/jobs/submit", submitted)
    row = one("GET", "/experiments/list?project=q").json()[0]
    at = f"{API}/experiments/{row['id']}/checkpoints?step=1"
    checked.ask("POST", at, content=packed(folder))
    one("POST", "/experiments/jobs/stop", {"experiment_name": "x"})
    listed = lambda: one("GET", "/experiments/list?project=q").json()  # noqa: E731
    eventually(lambda: listed()[0]["status"] == "Stopped", what="it is stopped")
    one("POST", "/experiments/jobs/resume", {"experiment_name": "x", "max_steps": 9})
    one("GET", "/experiments/jobs/checkpoints?experiment_name=e")
    one("GET", "/experiments/metrics?experiment_name=e")
    one("GET", "/experiments/metrics?experiment_name=e&preview_rows=5")
    one("POST", "/inference/deploy", {"experiment_name": "e"})
    one("GET", "/inference/deployments/list")
    one("GET", "/inference/deployments/one?name=e")
    one("DELETE", "/projects/delete", {"name": "q"})  # refused: one is Pending
    one("POST", "/projects/create", {"name": "r", "llm_based": True})
    one("DELETE", "/projects/delete", {"name": "r"})


def _among_people(checked: Checked, one) -> None:
    one("GET", "/users/me")
    one("PATCH", "/users/me", json={"first_name": "Ada"})
    one("POST", "/organisations", json={"name": "Other"})
    one("GET", "/organisations")
    at = "/organisations/default"
    one("GET", at)
    one("PATCH", at, json={"name": "Ours"})
    invited = one("POST", f"{at}/invitations", json={"user": "grace"})
    withdrawn = one("POST", f"{at}/invitations", json={"user": "alan"})
    one("GET", f"{at}/invitations")
    one("DELETE", f"{at}/invitations/{withdrawn['id']}")
    checked.ask("POST", f"{API}/invitations/accept", json={"token": invited["token"]})
    one("GET", f"{at}/members")
    one("PATCH", f"{at}/members/grace", json={"role": "viewer"})
    one("DELETE", f"{at}/members/grace")


def _signing_in(checked: Checked, one) -> None:
    def form(path, **said):
        fields = {"client_id": "arena-cli", **said}
        return checked.ask("POST", OAUTH + path, data=fields).json

    denied = form("/auth/device")()
    one("POST", "/sign-ins/deny", json={"user_code": denied["user_code"]})
    begun = form("/auth/device")()
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    code = begun["device_code"]
    form("/token", grant_type=grant, device_code=code)
    one("POST", "/sign-ins/approve", json={"user_code": begun["user_code"]})
    granted = form("/token", grant_type=grant, device_code=code)()
    refresh = granted["refresh_token"]
    form("/token", grant_type="refresh_token", refresh_token=refresh)
    listed = one("GET", "/sign-ins")
    for path in ("/device", "/device/page.css", "/device/page.js"):
        checked.ask("GET", path)
    one("DELETE", f"/sign-ins/{listed['items'][0]['id']}")
    form("/logout", refresh_token=refresh)


def test_the_check_can_fail(world, document):
    checked = Checked(world, document)
    schema = {"$ref": "#/components/schemas/ProjectView"}
    project = world.member().get(f"{API}/projects").json()["items"][0]
    checked.validate(project, schema)
    for change in ({"kind": "modern"}, {"name": None}, {"id": 1}):
        with pytest.raises(jsonschema.ValidationError):
            checked.validate({**project, **change}, schema)


def test_a_pending_connect_is_described_too(tmp_path):
    with opened(serve=False) as world:
        document = world.client().get("/openapi.json").json()
        checked = Checked(world, document)
        agent = world.agent(bundles.cartpole(tmp_path))
        answer = checked.ask("POST", f"{API}/agents/{agent.id}/connect")
        assert answer.status_code == 202


# --- health ------------------------------------------------------------------------


class Untouchable:
    """A store that must not be touched."""

    def __getattr__(self, name):
        raise AssertionError(f"the store was asked for {name}")


class Unreadable:
    """A store that cannot be read any more."""

    def __getattr__(self, name):
        def refuse(*_, **__):
            raise Unavailable("The disk /dev/sda1 is gone.")

        return refuse


@pytest.fixture
def idle():
    with opened(serve=False) as world:
        yield world


def test_livez_never_touches_the_store(idle):
    core = idle.arena.application.core
    kept, views = core.store, core.views._store
    try:
        object.__setattr__(core, "store", Untouchable())
        core.views._store = Untouchable()
        answer = idle.client().get("/livez")
    finally:
        object.__setattr__(core, "store", kept)
        core.views._store = views
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_livez_says_yes_when_the_store_is_closed():
    with opened(serve=False) as world:
        pass
    assert world.client().get("/livez").status_code == 200


def test_readyz_says_what_it_has_looked_at_and_nothing_of_the_log(idle):
    idle.arena.projects.create("p", kind="classic")
    answer = idle.client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "checks": [
            {"name": "event_store", "ok": True, "detail": None},
            {"name": "read_model", "ok": True, "detail": None},
        ],
    }


def test_readyz_counts_what_is_set_aside_and_stays_ready(idle):
    runner = idle.arena.supervisor._beside["runner"]
    runner._set_aside[uuid4()] = SetAside("It is ill.", 1, datetime.now(UTC))
    answer = idle.client().get("/readyz")
    assert answer.status_code == 200
    (*_, waiting) = answer.json()["checks"]
    assert waiting["name"] == "stages_and_trainings"
    assert waiting["detail"].startswith("1 set aside")


def test_readyz_says_no_when_the_store_cannot_be_read(idle):
    core = idle.arena.application.core
    kept = core.store
    try:
        object.__setattr__(core, "store", Unreadable())
        answer = idle.client().get("/readyz")
    finally:
        object.__setattr__(core, "store", kept)
    assert answer.status_code == 503
    body = answer.json()
    assert body["ready"] is False
    assert body["checks"][0] == {
        "name": "event_store",
        "ok": False,
        "detail": "It cannot be read.",
    }
    assert "/dev" not in answer.text


@pytest.mark.parametrize("store", ["memory:", "file"])
def test_readyz_says_no_when_the_store_is_closed(store, tmp_path):
    where = store if store == "memory:" else tmp_path / "arena.db"
    with opened(where, serve=False) as world:
        assert world.client().get("/readyz").status_code == 200
    answer = world.client().get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)


def poison(path) -> None:
    """Append an event that this release does not know, as a newer one would."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO arena_events "
            "(originator_id, originator_version, topic, state) "
            "SELECT originator_id, originator_version + 1, 'project.exploded@1', state "
            "FROM arena_events ORDER BY rowid LIMIT 1"
        )


def test_readyz_names_the_view_that_a_poison_event_has_stopped(tmp_path):
    path = tmp_path / "arena.db"
    with opened(path, serve=False) as world:
        project = world.arena.projects.create("p", kind="classic")
        token = world.token()
        client = world.client(token)
        head = world.head()
        poison(path)
        answer = client.get("/readyz")
        assert answer.status_code == 503
        body = answer.json()
        assert body["ready"] is False
        checks = {check["name"]: check for check in body["checks"]}
        assert checks["event_store"]["ok"]
        assert not checks["read_model"]["ok"]
        assert str(head) in checks["read_model"]["detail"]
        # What was known is still shown; nothing new is written.
        assert client.get(f"{API}/projects/{project.id}").json()["name"] == "p"
        made = client.post(f"{API}/projects", json={"name": "q", "kind": "classic"})
        assert made.status_code == 503
        assert made.headers["retry-after"] == "1"
        assert client.get("/livez").status_code == 200
