"""Device login over HTTP: the three routes, the page, and what users do about them."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from threading import Barrier
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_core.application.sign_ins import CLIENT
from arena_core.entrypoints import wiring

from end_to_end.http_world import PROBLEM, World, assert_problem, opened

OPENID = "/realms/arena/protocol/openid-connect"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
SIGN_INS = "/api/v1/sign-ins"
EMPTY = {"username": "", "password": "", "code": "", "redirect_uri": ""}
"""What the public client's library sends along."""


@pytest.fixture
def world():
    with opened() as world:
        yield world


class Client:
    """A client that is about to sign in."""

    def __init__(self, world: World, client_id: str = CLIENT) -> None:
        self.http = world.client()
        self.client_id = client_id

    def post(self, route: str, **form):
        return self.http.post(
            f"{OPENID}/{route}", data={"client_id": self.client_id, **form}
        )

    def begin(self) -> dict:
        answer = self.post("auth/device", scope="openid profile email")
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return answer.json()

    def poll(self, device_code: str):
        return self.post(
            "token",
            grant_type=DEVICE_CODE,
            device_code=device_code,
            scope="openid",
            **EMPTY,
        )

    def refresh(self, refresh_token: str):
        grant = "refresh_token"
        return self.post("token", grant_type=grant, refresh_token=refresh_token)


def signed_in(world: World, token: str | None = None) -> dict:
    client = Client(world)
    begun = client.begin()
    decide(world, token or world.token("member"), "approve", begun).raise_for_status()
    return client.poll(begun["device_code"]).raise_for_status().json()


def decide(world: World, token: str, verb: str, begun: dict):
    code = {"user_code": begun["user_code"]}
    return world.client(token).post(f"{SIGN_INS}/{verb}", json=code)


def assert_refused(answer, error: str) -> None:
    """Assert that it is an error as OAuth has it, in one plain sentence."""
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"error", "error_description"}
    assert body["error"] == error
    assert re.fullmatch(r"[A-Z][^\[\]]+\.", body["error_description"])


# --- the three routes ------------------------------------------------------------


def test_a_login_goes_from_pending_to_tokens_to_nothing(world):
    client, begun = Client(world), Client(world).begin()
    assert begun["interval"] == 2
    assert 540 <= begun["expires_in"] <= 600
    assert begun["verification_uri"] == "http://testserver/device"
    assert begun["verification_uri_complete"] == (
        f"http://testserver/device?user_code={begun['user_code']}"
    )
    assert_refused(client.poll(begun["device_code"]), "authorization_pending")
    assert_refused(client.poll(begun["device_code"]), "slow_down")
    assert decide(world, world.token("member"), "approve", begun).json() == {}
    answer = client.poll(begun["device_code"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    granted = answer.json()
    assert granted.pop("token_type") == "Bearer"
    assert (granted["expires_in"], granted["refresh_expires_in"]) == (900, 2_592_000)
    assert world.client(granted["access_token"]).get("/api/v1/projects").is_success
    assert_refused(client.poll(begun["device_code"]), "invalid_grant")

    renewed = client.refresh(granted["refresh_token"]).json()
    assert renewed["refresh_token"] == granted["refresh_token"]
    out = client.post("logout", refresh_token=granted["refresh_token"])
    assert (out.status_code, out.content) == (204, b"")
    assert "content-type" not in out.headers
    for tokens in (granted, renewed):
        answer = world.client(tokens["access_token"]).get("/api/v1/projects")
        assert_problem(answer, 401)
        assert_refused(client.refresh(tokens["refresh_token"]), "invalid_grant")
    # A client that has not heard the answer may say it again.
    assert client.post("logout", refresh_token=granted["refresh_token"]).is_success


def test_a_denied_client_is_told_so(world):
    client, begun = Client(world), Client(world).begin()
    assert decide(world, world.token("viewer"), "deny", begun).json() == {}
    assert_refused(client.poll(begun["device_code"]), "access_denied")


def test_the_address_to_open_is_that_of_the_public_url():
    with opened(public_url="https://arena.example.org/there/") as world:
        begun = Client(world).begin()
    assert begun["verification_uri"] == "https://arena.example.org/there/device"


def test_the_routes_work_under_whatever_prefix_the_app_is_mounted(world):
    client = world.client(root_path="/there")
    form = {"client_id": CLIENT}
    begun = client.post(f"/there{OPENID}/auth/device", data=form).json()
    assert begun["verification_uri"] == "http://testserver/there/device"


@pytest.mark.parametrize("client_id", ["", "ARENA-CLI", "another", "arena-cli "])
@pytest.mark.parametrize("route", ["auth/device", "token", "logout"])
def test_another_client_is_refused(world, route, client_id):
    assert_refused(Client(world, client_id).post(route), "invalid_client")
    assert_refused(world.client().post(f"{OPENID}/{route}"), "invalid_client")


@pytest.mark.parametrize("route", ["auth/device", "token", "logout"])
def test_another_realm_is_not_there(world, route):
    path = f"/realms/master/protocol/openid-connect/{route}"
    answer = world.client().post(path, data={"client_id": CLIENT})
    assert answer.status_code == 404
    assert answer.json().keys() == {"detail", "error_code"}


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password", "username": "a"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": DEVICE_CODE}, "invalid_grant"),
        ({"grant_type": DEVICE_CODE, "device_code": "x"}, "invalid_grant"),
        ({"grant_type": "refresh_token"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "é" * 500}, "invalid_grant"),
    ],
)
def test_what_gives_no_token_is_refused_as_oauth_has_it(world, form, error):
    assert_refused(Client(world).post("token", **form), error)


@pytest.mark.parametrize("text", ["", "x", "arena_ref_00_11", "eyJ"])
def test_a_logout_with_no_token_of_ours_ends_nothing(world, text):
    granted = signed_in(world)
    refused = Client(world).post("logout", refresh_token=text)
    assert_refused(refused, "invalid_grant")
    assert world.client(granted["access_token"]).get("/api/v1/projects").is_success


@settings(max_examples=50)
@given(
    st.sampled_from(["auth/device", "token", "logout"]),
    st.dictionaries(
        st.sampled_from(["client_id", "grant_type", "device_code", "refresh_token"]),
        st.text(max_size=40)
        | st.sampled_from([CLIENT, DEVICE_CODE, "refresh_token", "arena_dvc_1_B_"]),
    ),
)
def test_whatever_is_sent_is_answered_in_oauths_own_words(shared, route, form):
    answer = shared.client().post(f"{OPENID}/{route}", data=form)
    if answer.status_code != 200:
        assert answer.status_code == 400
        assert answer.json().keys() == {"error", "error_description"}


@pytest.fixture(scope="module")
def shared():
    with opened() as world:
        yield world


def test_nothing_of_a_login_is_kept_before_it_is_approved(world):
    head = world.head()
    for _ in range(20):
        client = Client(world)
        client.poll(client.begin()["device_code"])
    assert world.head() == head


def test_of_many_polls_at_the_same_time_one_gets_the_tokens(world):
    begun = Client(world).begin()
    decide(world, world.token("member"), "approve", begun).raise_for_status()
    together = Barrier(6)

    def poll(client: Client) -> int:
        together.wait()
        return client.poll(begun["device_code"]).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(poll, [Client(world) for _ in range(6)]))
    assert sorted(statuses) == [200, 400, 400, 400, 400, 400]


def test_an_access_token_expires_and_a_code_too(monkeypatch):
    now = [datetime(2026, 9, 1, 12, tzinfo=UTC)]
    monkeypatch.setattr(wiring, "utc_now", lambda: now[0])
    with opened() as world:
        granted, begun = signed_in(world), Client(world).begin()
        bearer = world.client(granted["access_token"])
        now[0] += timedelta(minutes=10)
        assert_refused(Client(world).poll(begun["device_code"]), "expired_token")
        late = decide(world, world.token("member"), "approve", begun)
        assert_problem(late, 422, "/user_code")
        now[0] += timedelta(minutes=4, seconds=59)
        assert bearer.get("/api/v1/projects").is_success
        now[0] += timedelta(seconds=1)
        assert_problem(bearer.get("/api/v1/projects"), 401)


def test_no_token_of_a_login_gets_into_the_logs(world, caplog):
    caplog.set_level(logging.DEBUG)
    client, begun = Client(world), Client(world).begin()
    token = world.token("member")
    decide(world, token, "approve", begun)
    granted = client.poll(begun["device_code"]).json()
    client.refresh(granted["refresh_token"])
    world.client(granted["access_token"]).get("/api/v1/projects")
    client.post("logout", refresh_token=granted["refresh_token"])
    world.client(granted["access_token"]).get("/api/v1/projects")
    events = world.member("manager").get("/api/v1/events?limit=1000").text
    secrets = (token, begun["device_code"], *(granted[f"{k}_token"] for k in KINDS))
    for secret in secrets:
        for text in (caplog.text, events):
            assert secret not in text
            assert secret[-12:] not in text


KINDS = ("access", "refresh")


# --- deciding, and one's own -----------------------------------------------------


@pytest.mark.parametrize("verb", ["approve", "deny"])
def test_only_a_person_decides(world, verb):
    granted, begun = signed_in(world), Client(world).begin()
    key = world.issued("manager", kind="org").token
    for token in (granted["access_token"], key):
        assert_problem(decide(world, token, verb, begun), 403)
    assert_problem(world.client().post(f"{SIGN_INS}/{verb}", json={}), 401)


@pytest.mark.parametrize("code", ["", "BCDF", "BCDF-GHJK-LMNP", "\x00", "☃" * 12])
def test_a_code_that_is_none_is_refused_and_named(world, code):
    answer = decide(world, world.token(), "approve", {"user_code": code})
    assert_problem(answer, 422, "/user_code", sent=code)


def test_a_code_that_was_denied_is_a_conflict_with_a_way_out(world):
    begun, token = Client(world).begin(), world.token("member")
    decide(world, token, "deny", begun)
    body = assert_problem(decide(world, token, "approve", begun), 409)
    assert "begin again" in body["detail"]


def test_somebody_elses_code_is_a_conflict_that_does_not_say_whose(world):
    begun = Client(world).begin()
    decide(world, world.issued("member", user="ann").token, "approve", begun)
    other = decide(world, world.issued("member", user="bob").token, "approve", begun)
    assert "ann" not in assert_problem(other, 409)["detail"]


def test_one_sees_and_ends_ones_own_sign_ins(world):
    token = world.token("viewer")
    mine, other = world.client(token), world.member("manager")
    granted = signed_in(world, token)
    (one,) = mine.get(SIGN_INS).json()["items"]
    assert one.keys() == {"id", "client", "created_at", "expires_at"}
    assert other.get(SIGN_INS).json() == {"items": [], "next_cursor": None}
    assert_problem(other.delete(f"{SIGN_INS}/{one['id']}"), 404)
    assert_problem(mine.delete(f"{SIGN_INS}/{uuid4()}"), 404)
    assert mine.delete(f"{SIGN_INS}/{one['id']}").json() == {}
    assert mine.get(SIGN_INS).json()["items"] == []
    assert_problem(world.client(granted["access_token"]).get(SIGN_INS), 401)


def test_sign_ins_are_listed_page_by_page(world):
    token = world.token("viewer")
    for _ in range(3):
        signed_in(world, token)
    mine = world.client(token)
    first = mine.get(SIGN_INS, params={"limit": 2}).json()
    query = {"limit": 2, "cursor": first["next_cursor"]}
    rest = mine.get(SIGN_INS, params=query).json()
    assert [len(page["items"]) for page in (first, rest)] == [2, 1]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize("bad", ["eyJ", "eyJhbGciOiJub25lIn0.e30.", "eyJ" * 3000])
def test_what_only_looks_like_an_access_token_is_401_and_nothing_more(world, bad):
    answer = world.client(bad).get("/api/v1/projects")
    assert answer.status_code == 401
    assert answer.json().keys() >= PROBLEM
    assert "invalid_token" in answer.headers["www-authenticate"]


# --- the page --------------------------------------------------------------------


class Page(HTMLParser):
    """What a page loads, labels and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(shared) -> Page:
    return Page(shared.client().get("/device?user_code=BCDF&utm=x").text)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/device", "text/html"),
        ("/device/page.css", "text/css"),
        ("/device/page.js", "text/javascript"),
    ],
)
def test_the_page_may_load_and_call_nothing_but_its_own_server(shared, path, kind):
    answer = shared.client().get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "set-cookie" not in answer.headers
    # A post from a page that sends no referrer has the origin null.
    assert answer.headers["referrer-policy"] == "same-origin"


def test_nothing_of_the_page_comes_from_elsewhere_and_no_script_is_in_it(shared, page):
    loaded = [script["src"] for script in page.all("script")]
    loaded += [link["href"] for link in page.all("link")]
    assert sorted(loaded) == ["device/page.css", "device/page.js"]
    for path in loaded:
        assert shared.client().get(f"/{path}").status_code == 200
    handlers = {name for _, attrs in page.tags for name in attrs if name[:2] == "on"}
    assert not handlers
    assert not any("style" in attributes for _, attributes in page.tags)


def test_every_field_of_the_page_has_a_label_and_a_hint(page):
    labelled = {label["for"] for label in page.all("label")}
    ids = {attributes.get("id") for _, attributes in page.tags}
    fields = page.all("input")
    assert {field["id"] for field in fields} == labelled
    assert all(field["aria-describedby"] in ids for field in fields)
    (status,) = [a for _, a in page.tags if a.get("role") == "status"]
    assert status["id"] == "outcome"
    assert page.all("html") == [{"lang": "en"}]


def test_the_page_names_the_client_that_there_is(shared):
    text = shared.client().get("/device").text
    assert re.findall(r'id="client">([^<]+)<', text) == [CLIENT]


def test_the_script_keeps_nothing_and_writes_no_markup(shared):
    script = shared.client().get("/device/page.js").text
    for word in ("cookie", "localStorage", "sessionStorage", "innerHTML", "indexedDB"):
        assert word not in script
