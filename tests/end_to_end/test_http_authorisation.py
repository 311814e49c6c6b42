"""Who may call what: every route of the app itself, with every bad credential."""

import base64
import logging
import traceback
from uuid import UUID, uuid4

import pytest
from starlette.routing import Route

import arena_core
from arena_core.application.identity import authenticate
from arena_core.application.keys import DeploymentKeys
from arena_core.application.secrets import is_intact, sealed
from arena_core.domain.ids import DeploymentId, OrganisationId
from arena_core.domain.values import LIBRARY, Caller, Role
from arena_core.entrypoints.http.endpoints import Endpoint

import bundles
from end_to_end.http_world import Answer, World, asked, bearing, opened, packed, wire

OPEN = ("/livez", "/readyz", "/openapi.json", "/device", "/device/page.css",
        "/device/page.js")  # fmt: skip
"""And `/inference/<id>/status`, and the health of `/v2`.  Nothing else is open."""
OAUTH = "/realms/arena/protocol/openid-connect"
PUBLIC = {
    *(("GET", path) for path in OPEN),
    # What these are sent is the credential.
    ("POST", "/api/v1/invitations/accept"),
    ("POST", OAUTH + "/auth/device"),
    ("POST", OAUTH + "/token"),
    ("POST", OAUTH + "/logout"),
}
CLI = "/api/cli/v1"

PROJECT = "/api/v1/projects/{project_id}"
EXPERIMENT = "/api/v1/experiments/{experiment_id}"
AGENT = "/api/v1/agents/{agent_id}"
PIPELINE = "/api/v1/pipelines/{pipeline_id}"
STAGE = PIPELINE + "/stages/{stage_id}"
IMPORT = "/api/v1/imports/{import_id}"
TOKEN = "/api/v1/tokens/{token_id}"  # noqa: S105 -- an address
ORGANISATION = "/api/v1/organisations/{organisation_id}"
NEEDS = {
    ("GET", "/api/v1/projects"): "viewer",
    ("POST", "/api/v1/projects"): "member",
    ("GET", PROJECT): "viewer",
    ("PATCH", PROJECT): "member",
    ("DELETE", PROJECT): "member",
    ("GET", "/api/v1/experiments"): "viewer",
    ("POST", "/api/v1/experiments"): "member",
    ("GET", EXPERIMENT): "viewer",
    ("PATCH", EXPERIMENT): "member",
    ("DELETE", EXPERIMENT): "member",
    ("GET", EXPERIMENT + "/metrics"): "viewer",
    ("POST", EXPERIMENT + "/metrics"): "member",
    ("POST", EXPERIMENT + "/train"): "member",
    ("POST", EXPERIMENT + "/stop"): "member",
    ("POST", EXPERIMENT + "/resume"): "member",
    ("POST", EXPERIMENT + "/duplicate"): "member",
    ("GET", EXPERIMENT + "/log"): "viewer",
    ("GET", EXPERIMENT + "/checkpoints"): "viewer",
    ("POST", EXPERIMENT + "/checkpoints"): "member",
    ("GET", EXPERIMENT + "/checkpoints/{step}"): "viewer",
    ("DELETE", EXPERIMENT + "/checkpoints/{step}"): "member",
    ("GET", EXPERIMENT + "/imports"): "viewer",
    ("GET", IMPORT): "viewer",
    ("DELETE", IMPORT): "member",
    ("GET", "/api/v1/agents"): "viewer",
    ("POST", "/api/v1/agents"): "member",
    ("GET", "/api/v1/agents/sources"): "viewer",
    ("GET", AGENT): "viewer",
    ("PATCH", AGENT): "member",
    ("DELETE", AGENT): "member",
    ("GET", AGENT + "/checkpoint"): "viewer",
    ("GET", AGENT + "/access"): "member",
    ("POST", AGENT + "/connect"): "member",
    ("POST", AGENT + "/disconnect"): "member",
    ("POST", AGENT + "/redeploy"): "member",
    ("POST", AGENT + "/rollback"): "member",
    ("POST", AGENT + "/rotate-key"): "member",
    ("POST", AGENT + "/restore"): "member",
    ("GET", "/api/v1/pipelines"): "viewer",
    ("POST", "/api/v1/pipelines"): "member",
    ("GET", PIPELINE): "viewer",
    ("PATCH", PIPELINE): "member",
    ("DELETE", PIPELINE): "member",
    ("POST", PIPELINE + "/duplicate"): "member",
    ("GET", PIPELINE + "/candidates"): "viewer",
    ("GET", PIPELINE + "/graph.svg"): "viewer",
    ("POST", PIPELINE + "/stages"): "member",
    ("GET", STAGE): "viewer",
    ("PATCH", STAGE): "member",
    ("DELETE", STAGE): "member",
    ("POST", STAGE + "/move"): "member",
    ("POST", STAGE + "/trigger"): "member",
    ("POST", STAGE + "/retry"): "member",
    ("POST", STAGE + "/stop"): "member",
    ("POST", STAGE + "/approve"): "member",
    ("POST", STAGE + "/reject"): "member",
    ("GET", STAGE + "/runs"): "viewer",
    ("GET", "/api/v1/tokens"): "viewer",
    ("POST", "/api/v1/tokens"): "viewer",
    ("POST", TOKEN + "/rotate"): "viewer",
    ("DELETE", TOKEN): "viewer",
    ("GET", "/api/v1/users/me"): "viewer",
    ("PATCH", "/api/v1/users/me"): "viewer",
    ("GET", "/api/v1/organisations"): "viewer",
    ("POST", "/api/v1/organisations"): "viewer",
    ("GET", ORGANISATION): "viewer",
    ("PATCH", ORGANISATION): "manager",
    ("GET", ORGANISATION + "/members"): "viewer",
    ("PATCH", ORGANISATION + "/members/{user}"): "manager",
    ("DELETE", ORGANISATION + "/members/{user}"): "viewer",
    ("GET", ORGANISATION + "/invitations"): "manager",
    ("POST", ORGANISATION + "/invitations"): "manager",
    ("DELETE", ORGANISATION + "/invitations/{invitation_id}"): "manager",
    ("GET", "/api/v1/sign-ins"): "viewer",
    ("POST", "/api/v1/sign-ins/approve"): "viewer",
    ("POST", "/api/v1/sign-ins/deny"): "viewer",
    ("DELETE", "/api/v1/sign-ins/{sign_in_id}"): "viewer",
    ("GET", "/api/v1/events"): "viewer",
    ("GET", "/metrics"): "viewer",
    ("GET", "/api/users/current"): "viewer",
    ("GET", CLI + "/projects"): "viewer",
    ("POST", CLI + "/projects/create"): "member",
    ("DELETE", CLI + "/projects/delete"): "member",
    ("GET", CLI + "/experiments/list"): "viewer",
    ("POST", CLI + "/experiments/jobs/submit"): "member",
    ("POST", CLI + "/experiments/jobs/resume"): "member",
    ("POST", CLI + "/experiments/jobs/stop"): "member",
    ("GET", CLI + "/experiments/jobs/checkpoints"): "viewer",
    ("GET", CLI + "/experiments/metrics"): "viewer",
    ("POST", CLI + "/inference/deploy"): "member",
    ("GET", CLI + "/inference/deployments/list"): "viewer",
    ("GET", CLI + "/inference/deployments/one"): "viewer",
}
LEAVE = ("DELETE", ORGANISATION + "/members/{user}")
"""Everybody may leave by themselves."""
BY_NAME = {
    CLI + "/experiments/list",
    CLI + "/experiments/jobs/resume",
    CLI + "/experiments/jobs/stop",
    CLI + "/experiments/jobs/checkpoints",
    CLI + "/experiments/jobs/submit",
    CLI + "/experiments/metrics",
    CLI + "/inference/deploy",
    CLI + "/inference/deployments/one",
    CLI + "/projects/delete",
}
"""Where ours are asked for by their names, which others do not have."""
MASTER = "the-master-secret"
BELOW = {"member": "viewer", "manager": "member"}
HOSTS = (
    "x?", "x#", "x/skip", "x/y?z", "x y", " ", "", "x@y", "[", "x:99999999", "x:y",
    "x/livez?", "x/inference/1/status#", "\xff", "..", "//livez",
)  # fmt: skip
DATA_PLANE = (
    ("POST", "get_action"), ("POST", "predict"), ("POST", "generate"),
    ("POST", "generate_stream"), ("GET", "sessions"), ("GET", "sessions/1"),
    ("DELETE", "sessions/1"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bundles.cartpole(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def world():
    """Return a world that the tests of this module only read."""
    with opened(failed_auth_rate=0) as world:
        yield world


@pytest.fixture(scope="module")
def live(world, folder):
    return world.live(folder)


@pytest.fixture(scope="module")
def addresses(world, live, folder):
    return routes(world, live, folder)


class Address:
    """One method of one route, with ids of things that are there."""

    def __init__(self, method, route, path, content):
        self.method, self.route, self.path = method, route, path
        self.query, self.content = content

    def ask(self, client, **options):
        return client.request(
            self.method, self.path, params=self.query, content=self.content, **options
        )

    def __repr__(self):
        return f"{self.method} {self.route}"


def routes(world: World, live, folder) -> list[Address]:
    """Return every route and method of the app, but for what is public."""
    agent = world.arena.agents.get(live.agent_id)
    pipeline = world.pipeline()
    ids = {
        "pipeline_id": pipeline.id,
        "stage_id": pipeline.stages[0].id,
        "project_id": agent.project_id,
        "experiment_id": agent.experiment_id,
        "agent_id": agent.id,
        "import_id": world.imported(agent.experiment_id, folder).id,
        "token_id": world.issued(user="grace").view.id,
        "organisation_id": "default",
        "user": "grace",
        "invitation_id": world.arena.invitations.invite("default", "bob").view.id,
        "sign_in_id": UUID(int=0),
        "step": 10,
    }
    bodies = {
        ("POST", "/api/v1/projects"): b'{"name":"p","kind":"classic"}',
        ("POST", "/api/v1/experiments"): b'{"project_id":"%s","name":"e",'
        b'"algorithm":"PPO"}' % str(agent.project_id).encode(),
        ("POST", "/api/v1/agents"): b'{"name":"a","experiment_id":"%s",'
        b'"checkpoint":{"type":"final"}}' % str(agent.experiment_id).encode(),
        ("POST", "/api/v1/pipelines"): b'{"project_id":"%s","name":"l"}'
        % str(pipeline.project_id).encode(),
        ("POST", PIPELINE + "/stages"): b'{"type":"deployment"}',
        ("POST", STAGE + "/move"): b'{"position":1}',
        ("POST", AGENT + "/redeploy"): b'{"checkpoint":{"type":"final"}}',
        ("POST", "/api/v1/tokens"): b'{"name":"t"}',
        ("PATCH", "/api/v1/users/me"): b'{"first_name":"a"}',
        ("POST", "/api/v1/organisations"): b'{"name":"o"}',
        ("PATCH", ORGANISATION): b'{"name":"o"}',
        ("PATCH", ORGANISATION + "/members/{user}"): b'{"role":"viewer"}',
        ("POST", ORGANISATION + "/invitations"): b'{"user":"zoe"}',
        ("POST", EXPERIMENT + "/metrics"): b'{"points":[]}',
        ("POST", "/api/v1/sign-ins/approve"): b'{"user_code":"WDJB-MJHT-BCDF"}',
        ("POST", "/api/v1/sign-ins/deny"): b'{"user_code":"WDJB-MJHT-BCDF"}',
        ("POST", CLI + "/projects/create"): b'{"name":"q","llm_based":false}',
        ("DELETE", CLI + "/projects/delete"): b'{"name":"a project"}',
        ("POST", CLI + "/experiments/jobs/submit"): b'{"manifest":{"algorithm":'
        b'{"name":"PPO"},"environment":{"name":"CartPole-v1"}},"project":"a project",'
        b'"experiment_name":"x"}',
        ("POST", CLI + "/experiments/jobs/resume"): b'{"experiment_name":"a run",'
        b'"max_steps":9}',
        ("POST", CLI + "/experiments/jobs/stop"): b'{"experiment_name":"a run"}',
        ("POST", CLI + "/inference/deploy"): b'{"experiment_name":"a run"}',
        ("POST", EXPERIMENT + "/checkpoints"): packed(folder),
    }
    queries = {
        ("POST", EXPERIMENT + "/checkpoints"): {"step": "30"},
        ("GET", "/api/v1/agents/sources"): {"kind": "classic"},
        ("GET", CLI + "/experiments/list"): {"project": "a project"},
        ("GET", CLI + "/experiments/jobs/checkpoints"): {"experiment_name": "a run"},
        ("GET", CLI + "/experiments/metrics"): {"experiment_name": "a run"},
        ("GET", CLI + "/inference/deployments/one"): {"name": "an agent"},
    }
    # HEAD is answered as GET is, and takes the same query.
    heads = {path: said for (verb, path), said in queries.items() if verb == "GET"}
    queries |= {("HEAD", path): said for path, said in heads.items()}
    return [
        Address(
            method,
            route.path,
            route.path_format.format(**{k: ids[k] for k in route.param_convertors}),
            (queries.get((method, route.path)), bodies.get((method, route.path))),
        )
        for route in world.app.routes
        if isinstance(route, Route)
        for method in sorted(route.methods)
        if (method.replace("HEAD", "GET"), route.path) not in PUBLIC
    ]


def wrong_credentials(world: World, live) -> dict[str, str | None]:
    """Return `Authorization` headers that are refused, by what is wrong with them."""
    good = world.token()
    tokens = world.arena.tokens
    revoked, rotated = world.issued(), world.issued()
    tokens.revoke(revoked.view.id)
    tokens.rotate(rotated.view.id)
    stem = good.rsplit("_", 1)[0]
    unknown = sealed(f"arena_pat_{uuid4().hex}", b"\1" * 32)
    forged = sealed(stem, b"\1" * 32)
    assert is_intact(unknown)
    assert is_intact(forged)
    return {
        "none": None,
        "empty": "",
        "no token": "Bearer",
        "blank token": "Bearer   ",
        "other scheme": f"Basic {good}",
        "no scheme": good,
        "glued": f"Bearer{good}",
        "twice": f"Bearer {good} {good}",
        "bearer bearer": f"Bearer Bearer {good}",
        "not ours": "Bearer hunter2",
        "not ascii": "Bearer \xe4\xf6",
        "huge": "Bearer " + "a" * 10_000,
        "one character changed at the end": f"Bearer {_changed(good, -1)}",
        "one character changed in the id": f"Bearer {_changed(good, 12)}",
        "one character changed in the secret": f"Bearer {_changed(good, 60)}",
        "one character short": f"Bearer {good[:-1]}",
        "of nobody": f"Bearer {unknown}",
        "wrong secret, right checksum": f"Bearer {forged}",
        "revoked": f"Bearer {revoked.token}",
        "rotated": f"Bearer {rotated.token}",
        "a deployment's key": f"Bearer {live.key}",
        **_of_sign_ins(world),
    }


def _of_sign_ins(world: World) -> dict[str, str]:
    """Return what a sign-in brings that is no credential, or is none any more."""
    text = world.token()
    core, now = world.arena.application.core, world.arena.application.core.clock()
    use = world.arena.on_behalf_of(authenticate(core, text))
    begun = use.sign_ins.begin()
    use.sign_ins.approve(begun.user_code)
    granted = use.sign_ins.redeem(begun.device_code)
    head, claims, signature = granted.access_token.split(".")
    nobody = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode()
    invited = world.arena.invitations.invite("default", f"x{now.timestamp()}")
    bad = {
        "a device code": begun.device_code,
        "a refresh token": granted.refresh_token,
        "an invitation": invited.token,
        "an access token without a signature": f"{head}.{claims}.",
        "an access token signed by nobody": f"{nobody.rstrip('=')}.{claims}.",
        "an access token with another signature": f"{head}.{claims}.{signature[::-1]}",
        "signed out": granted.access_token,
    }
    use.sign_ins.sign_out(granted.refresh_token)
    return {what: f"Bearer {credential}" for what, credential in bad.items()}


def _changed(text: str, at: int) -> str:
    letters = list(text)
    letters[at] = "0" if text[at] != "0" else "1"
    return "".join(letters)


def _headers(value: str | None):
    return [] if value is None else [("authorization", value)]


def _asked(world: World, address: Address, value: str | None) -> Answer:
    answer = asked(world.app, address.method, address.path, headers=_headers(value))
    assert answer is not None
    return answer


# --- the table -------------------------------------------------------------------


def test_the_routes_of_the_app_and_their_roles_are_these_and_no_others(world):
    there = {
        (method, route.path)
        for route in world.app.routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    assert there == NEEDS.keys() | PUBLIC


def test_nothing_is_mounted_and_the_data_plane_is_what_lies_below_its_root(world):
    assert all(type(route) is Route for route in world.app.routes)
    serves = world.app.data_plane.serves
    for path, expected in {
        "/inference/x/status": True,
        "/inference/": True,
        "/inference": False,
        "/inferences/x": False,
        "/api/v1/agents": False,
        "/api/inference/x": False,
    }.items():
        assert serves({"path": path}) is expected
        assert serves({"path": "/at" + path, "root_path": "/at"}) is expected


def test_an_endpoint_without_a_role_cannot_be_declared():
    with pytest.raises(TypeError, match="needs"):
        Endpoint(  # type: ignore[call-arg] # which is the point
            method="GET", path="/x", handle=print, summary="x", answer=dict
        )


def test_what_is_public_answers_anybody(world, live):
    for path in (*OPEN, f"{live.path}/status"):
        assert world.client().get(path).status_code == 200, path
        assert world.client("hunter2").get(path).status_code == 200, path


# --- 401 -------------------------------------------------------------------------


def test_every_route_refuses_every_wrong_credential(world, live, addresses):
    before = None
    for what, value in wrong_credentials(world, live).items():
        before = world.head() if before is None else before
        for address in addresses:
            answer = _asked(world, address, value)
            assert answer.status == 401, (address, what)
            assert answer.headers["www-authenticate"].startswith("Bearer realm=")
    assert world.head() == before


def test_the_matrix_covers_every_route_and_head_too(addresses):
    covered = {(a.method, a.route) for a in addresses}
    heads = {("HEAD", path) for method, path in NEEDS if method == "GET"}
    assert covered == NEEDS.keys() | heads


@pytest.mark.parametrize("verb", DATA_PLANE)
def test_the_data_plane_refuses_every_wrong_credential(world, live, verb):
    method, path = verb
    credentials = wrong_credentials(world, live)
    del credentials["a deployment's key"]
    for what, value in credentials.items():
        answer = asked(
            world.app, method, f"{live.path}/{path}", headers=_headers(value)
        )
        assert answer.status == 401, what
        assert answer.headers["www-authenticate"] == 'Bearer realm="arena"'


def test_a_key_made_with_another_secret_is_refused(live):
    deployment_id = DeploymentId(live.deployment_id)
    forged = DeploymentKeys(b"another secret").issue(deployment_id, 1)
    assert forged.rsplit("_", 1)[0] == live.key.rsplit("_", 1)[0]
    assert live.post("get_action", forged, content=b"{}").status_code == 401


def test_the_refusal_is_the_same_whatever_is_wrong(world, live):
    answers = {
        world.client()
        .get("/api/v1/projects", headers={**dict(_headers(value)), "X-Request-Id": "1"})
        .text
        for what, value in wrong_credentials(world, live).items()
        if what != "not ascii" and not what.startswith("an access token")
    }
    assert len(answers) == 1


def test_the_refusal_of_an_access_token_is_the_same_whatever_is_wrong(world, live):
    answers = {
        world.client()
        .get("/api/v1/projects", headers={**dict(_headers(value)), "X-Request-Id": "1"})
        .text
        for what, value in wrong_credentials(world, live).items()
        if what.startswith("an access token")
    }
    assert len(answers) == 1
    assert "sign in again" in answers.pop()


# --- 403 and 404 -----------------------------------------------------------------


def test_every_route_refuses_the_role_below_the_one_that_it_needs(world, addresses):
    clients = {role: world.member(role) for role in BELOW.values()}
    before = world.head()
    for address in addresses:
        needed = NEEDS[address.method.replace("HEAD", "GET"), address.route]
        if needed == "viewer":
            continue
        answer = address.ask(clients[BELOW[needed]])
        assert answer.status_code == 403, address
        assert "insufficient_scope" in answer.headers["www-authenticate"]
        assert address.method == "HEAD" or needed in answer.json()["detail"]
    assert world.head() == before


def test_every_route_takes_the_role_that_it_needs(folder):
    with opened() as world:
        addresses = routes(world, world.live(folder), folder)
        clients = {role.value: world.member(role.value) for role in Role}
        # What deletes comes last, or there would be nothing left for the others.
        for address in sorted(addresses, key=lambda a: a.method == "DELETE"):
            needed = NEEDS[address.method.replace("HEAD", "GET"), address.route]
            status = address.ask(clients[needed]).status_code
            if (address.method, address.route) == LEAVE:
                assert status == 403  # somebody else: it takes a manager
            else:
                assert status in {200, 201, 202, 404, 409, 422}, (address, status)


def test_what_belongs_to_another_organisation_is_not_there(world, addresses):
    stranger = world.client(world.token(organisation="elsewhere"))
    before = world.head()
    for address in addresses:
        about_ours = "{" in address.route or (
            address.method == "POST"
            and address.route
            in {"/api/v1/experiments", "/api/v1/agents", "/api/v1/pipelines"}
        )
        if about_ours or address.route in BY_NAME:
            answer = address.ask(stranger)
            assert answer.status_code == 404, address
    assert world.head() == before


def test_lists_hold_nothing_of_another_organisation(world, live, addresses):
    agent = world.arena.agents.get(live.agent_id)
    ours = {str(agent.id), str(agent.project_id), str(agent.experiment_id)}
    stranger = world.client(world.token(organisation="elsewhere"))
    for address in addresses:
        if address.method == "GET" and "{" not in address.route:
            answer = address.ask(stranger)
            expected = 404 if address.route in BY_NAME else 200
            assert answer.status_code == expected, address
            assert not any(text in answer.text for text in ours), address


@pytest.mark.parametrize("verb", [("GET", ""), ("POST", "/rotate")])
def test_a_token_of_another_organisation_is_not_there(world, verb):
    method, suffix = verb
    other = world.issued(organisation="elsewhere")
    answer = world.member().request(
        method, f"/api/v1/tokens/{other.view.id}{suffix}", params={}
    )
    assert answer.status_code in {404, 405}
    assert world.client(other.token).get("/api/v1/tokens").status_code == 200


# --- tricks ----------------------------------------------------------------------


def test_no_host_header_opens_a_route(world, addresses):
    for host in HOSTS:
        for address in addresses:
            answer = asked(
                world.app, address.method, address.path, headers=[("host", host)]
            )
            assert answer.status == 400, (address, host)


def test_no_malformed_host_gets_into_an_answer(world):
    token = world.token()
    before = world.head()
    for host in HOSTS:
        headers = [("host", host), ("authorization", f"Bearer {token}")]
        body = {"type": "http.request", "body": b'{"name":"p","kind":"classic"}'}
        answer = asked(
            world.app, "POST", "/api/v1/projects", headers=headers, messages=[body]
        )
        assert answer.status == 400, host
        assert "location" not in answer.headers
    assert world.head() == before


def test_no_host_header_opens_the_data_plane(world, live):
    for host in HOSTS:
        for method, verb in DATA_PLANE:
            answer = asked(
                world.app, method, f"{live.path}/{verb}", headers=[("host", host)]
            )
            assert answer.status == 400, (verb, host)


@pytest.mark.parametrize(
    "path",
    ["//livez/../api/v1/projects", "/livez/", "/api/v1/projects/", "/API/V1/projects",
     "/livez;/api/v1/projects", "/api/v1//projects", "/inference", "/inference/",
     "/api/v1/projects\0", "/./api/v1/projects", "/readyz/api/v1/projects"],
)  # fmt: skip
def test_an_address_that_nobody_declared_is_not_there(world, path):
    answer = asked(world.app, "GET", path)
    assert answer.status == 404


def test_a_status_address_opens_nothing_behind_it(live):
    for path in ("status/", "status/get_action", "status/../get_action", "/status"):
        answer = asked(live.world.app, "POST", f"{live.path}/{path}")
        assert answer.status in {401, 404}, path


# --- at once ---------------------------------------------------------------------


def test_a_rotated_token_is_dead_and_its_successor_lives(world):
    manager, issued = world.member(), world.issued("viewer")
    old = world.client(issued.token)
    assert old.get("/api/v1/projects").status_code == 200
    assert manager.post(f"/api/v1/tokens/{issued.view.id}/rotate").status_code == 403
    rotated = old.post(f"/api/v1/tokens/{issued.view.id}/rotate").json()
    assert old.get("/api/v1/projects").status_code == 401
    new = world.client(rotated["token"])
    assert new.get("/api/v1/projects").status_code == 200
    manager.delete(f"/api/v1/tokens/{issued.view.id}")
    assert new.get("/api/v1/projects").status_code == 401


def test_a_key_is_dead_when_the_answer_to_its_rotation_is_there(world, folder):
    live = world.live(folder)
    body = {"obs": wire([[0.0, 0.0, 0.0, 0.0]])}
    assert live.post("get_action", json=body).status_code == 200
    client = world.member("member")
    assert client.post(f"/api/v1/agents/{live.agent_id}/rotate-key").status_code == 200
    assert live.post("get_action", json=body).status_code == 401
    key = client.get(f"/api/v1/agents/{live.agent_id}/access").json()["api_key"]
    assert live.post("get_action", key, json=body).status_code == 200


def test_an_organisations_token_acts_as_the_user_that_comes_with_it(world):
    issued = world.issued("member", kind="org")
    headers = {**bearing(issued.token), "X-External-User-Id": "grace"}
    client = world.client()
    body = {"name": "by grace", "kind": "classic"}
    assert client.post("/api/v1/projects", json=body, headers=headers).is_success
    last = list(world.arena.audit.log())[-1]
    assert (last.name, last.actor) == ("project.created", "external:grace")


def test_a_users_token_ignores_the_user_that_comes_with_it(world):
    token = world.issued("member", user="ada").token
    headers = {**bearing(token), "X-External-User-Id": "grace"}
    body = {"name": "by ada", "kind": "classic"}
    assert world.client().post("/api/v1/projects", json=body, headers=headers)
    assert list(world.arena.audit.log())[-1].actor == "user:ada"


# --- secrets ---------------------------------------------------------------------


def test_no_secret_gets_into_logs_events_errors_or_reprs(folder, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    with opened(tmp_path / "arena.db", secret_key=MASTER) as world:
        live = world.live(folder)
        secrets, answers = _through_everything(world, live)
        events = [
            (str(event), repr(event)) for event in world.arena.audit.log()
        ]  # fmt: skip
        shown = [
            repr(world.arena.settings),
            repr(world.arena.application),
            repr(world.arena.application.registry.all_live()),
            repr(world.arena.agents),
            repr(world.arena.agents.access(live.agent_id)),
            repr(world.issued()),
        ]
    stored = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(caplog.records) > 20
    logged = [
        f"{r.getMessage()} {r.args} {_traceback(r)}" for r in caplog.records
    ]  # fmt: skip
    assert len(secrets) > 5
    for secret in secrets:
        for text in (*logged, *answers, *shown, *map(str, events)):
            assert secret not in text
        assert not any(secret.encode() in data for data in stored)


def test_what_is_issued_does_not_show_its_secret_in_its_repr(world, live):
    issued = world.issued()
    assert issued.token not in repr(issued)
    assert live.key not in repr(world.arena.agents.access(live.agent_id))


def _through_everything(world: World, live) -> tuple[set[str], list[str]]:
    """Use and misuse credentials; return them, and the answers that refuse."""
    manager = world.token()
    client = world.client(manager)
    texts = [manager, live.key]
    made = client.post("/api/v1/tokens", json={"name": "x", "kind": "org"}).json()
    turned = client.post(f"/api/v1/tokens/{made['id']}/rotate").json()
    texts += [made["token"], turned["token"]]
    client.post(f"/api/v1/agents/{live.agent_id}/rotate-key")
    access = client.get(f"/api/v1/agents/{live.agent_id}/access").json()
    texts.append(access["api_key"])
    refused = []
    for text in (*texts, _changed(manager, 60)):
        other = world.client(text)
        paths = ("/api/v1/projects/1", "/api/v1/nothing", "/api/v1/tokens?x=1")
        refused += [other.get(path).text for path in paths]
        refused.append(live.post("get_action", text, content=b"{").text)
        refused.append(other.post("/api/v1/tokens", json={"name": "", "user": ""}).text)
    listed = client.get("/api/v1/tokens").text
    feed = client.get("/api/v1/events").text
    refused += [listed, feed, client.get("/openapi.json").text]
    refused += _after_a_defect(world, manager)
    secret_parts = {text.rsplit("_", 1)[1] for text in texts}
    return {*texts, *secret_parts, MASTER}, refused


def _after_a_defect(world: World, token: str) -> list[str]:
    """Meet a defect while bearing a token."""
    client = world.client(token, raise_server_exceptions=False)
    core = world.arena.application.core
    rows, core.views.rows = core.views.rows, None
    try:
        answer = client.get(f"/api/v1/projects/{UUID(int=0)}")
    finally:
        core.views.rows = rows
    assert answer.status_code == 500
    return [answer.text]


def _traceback(record: logging.LogRecord) -> str:
    return (
        "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    )


def test_the_anonymous_caller_of_public_endpoints_sees_no_organisation(world):
    assert world.arena.anonymous.organisation == OrganisationId("")
    everything = world.arena.on_behalf_of(world.arena.anonymous)
    assert len(everything.projects.list()) == 0
    ours = world.arena.on_behalf_of(
        Caller(arena_core.domain.ids.DEFAULT_ORGANISATION, LIBRARY, Role.VIEWER)
    )
    assert len(ours.projects.list()) > 0
