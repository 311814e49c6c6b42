"""Device login by the public client itself, of its first version and its latest."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from attrs import frozen

import arena_core
from arena_core.entrypoints import wiring
from arena_core.entrypoints.http.server import Server, listen

from end_to_end.http_world import World
from end_to_end.processes import Client, Place, Process, eventually, serving
from end_to_end.public_client import NEW, OLD, python_of

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "clients" / "device_login.py"
SIGN_INS = "/api/v1/sign-ins"


@frozen
class Person:
    """Somebody at a machine with agilerl-arena, whose browser writes down addresses."""

    python: Path
    home: Path
    url: str

    @property
    def opened(self) -> Path:
        """Where the browser writes what it was to open."""
        return self.home / "opened"

    @contextmanager
    def begun(self, *what: str) -> Iterator["subprocess.Popen[str]"]:
        """Give a process of the client that does `what`, one after the other."""
        self.opened.unlink(missing_ok=True)
        note = f"import sys; open({str(self.opened)!r}, 'w').write(sys.argv[1] + '\\n')"
        browser = f"{sys.executable} -c {shlex.quote(note)} %s"
        with subprocess.Popen(
            [self.python, "-I", SCRIPT, *what],
            env={
                "HOME": str(self.home),
                "BROWSER": browser,
                "ARENA_BASE_URL": self.url,
                "ARENA_KEYCLOAK_URL": f"{self.url}/",
            },
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def does(self, *what: str) -> list[dict[str, Any]]:
        """Return what came of each, with what is on disk afterwards."""
        with self.begun(*what) as process:
            return told(process)

    def user_code(self) -> str:
        """Return the code in the address that the client has opened."""

        def written() -> str | None:
            text = self.opened.read_text() if self.opened.exists() else ""
            return text.strip() if text.endswith("\n") else None

        address = urlsplit(eventually(written, what="the client opens the page"))
        assert address.path == "/device"
        (code,) = parse_qs(address.query)["user_code"]
        return code


def told(process: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    output, _ = process.communicate(timeout=60)
    # The client writes its log there as well.
    return [json.loads(line) for line in output.splitlines() if line[:1] == "{"]


@pytest.fixture(scope="module", params=[OLD, NEW])
def python(request) -> Path:
    return python_of(request.param, request)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Process]:
    """Give a server of two processes: each login meets both."""
    place = Place(tmp_path_factory.mktemp("server"))
    options = ("--workers", 2, "--token-file", place.token_file)
    with serving(place, *options) as server:
        yield server


@pytest.fixture
def control(server) -> Client:
    return server.client()


@pytest.fixture
def person(python, server, tmp_path) -> Person:
    return Person(python, tmp_path, f"http://{server.address}")


def decide(control: Client, verb: str, user_code: str) -> None:
    control.post(f"{SIGN_INS}/{verb}", {"user_code": user_code})


def test_a_client_signs_in_works_and_signs_out(person, control):
    control.post("/api/v1/projects", {"name": "mine", "kind": "classic"})
    with person.begun("login", "projects") as process:
        decide(control, "approve", person.user_code())
        signed_in, projects = told(process)
    assert signed_in["returned"] is None
    assert "mine" in {project["name"] for project in projects["returned"]}
    tokens = signed_in["kept"]
    (mine,) = control.get(SIGN_INS)["items"]
    assert mine["client"] == "arena-cli"

    # Another time it needs no browser, and no password.
    again, projects = person.does("login", "projects")
    assert (again["returned"], again["kept"]) == (None, tokens)
    assert projects["returned"]

    (out,) = person.does("logout")
    assert out == {"returned": None, "kept": None}
    for _ in range(8):  # whichever process answers
        client = Client(control.address, tokens["access_token"])
        client.ask("GET", "/api/v1/projects").expect(401)
        client.close()
    assert control.get(SIGN_INS)["items"] == []


def test_a_denied_client_says_so(person, control):
    with person.begun("login") as process:
        decide(control, "deny", person.user_code())
        (refused,) = told(process)
    assert refused["error"] == "ArenaAuthError"
    assert "access_denied" in refused["text"]
    assert refused["kept"] is None


# --- on a clock of the tests -----------------------------------------------------


class Clock:
    """What time the server believes it is."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(wiring, "utc_now", clock)
    return clock


@pytest.fixture
def world(clock) -> Iterator[World]:
    assert wiring.utc_now is clock
    with arena_core.open("memory:") as arena:
        yield World(arena, arena.asgi())


@pytest.fixture
def visitor(python, world, tmp_path) -> Iterator[Person]:
    """Give somebody who uses a server whose clock the test can put ahead."""
    with Server(world.app, listen("127.0.0.1", 0)).in_background() as url:
        yield Person(python, tmp_path, url)


def approve(world: World, person: Person) -> None:
    body = {"user_code": person.user_code()}
    world.member("member").post(f"{SIGN_INS}/approve", json=body).raise_for_status()


def test_a_client_whose_code_has_expired_says_so(visitor, clock):
    with visitor.begun("login") as process:
        visitor.user_code()
        clock.ahead = timedelta(minutes=10)
        (refused,) = told(process)
    assert refused["error"] == "ArenaTimeoutError"
    assert "expired" in refused["text"]


def test_a_client_renews_its_access_token_before_it_expires(visitor, world, clock):
    clock.ahead = timedelta(minutes=-14, seconds=-30)
    with visitor.begun("login") as process:
        approve(world, visitor)
        (signed_in,) = told(process)
    clock.ahead = timedelta()
    world.arena.projects.create("mine", kind="classic")
    (projects,) = visitor.does("projects")
    assert [project["name"] for project in projects["returned"]] == ["mine"]
    before, after = signed_in["kept"], projects["kept"]
    assert after["access_token"] != before["access_token"]
    assert after["refresh_token"] == before["refresh_token"]


def test_a_client_renews_its_access_token_when_it_is_refused(visitor, world, clock):
    with visitor.begun("login") as process:
        approve(world, visitor)
        (signed_in,) = told(process)
    clock.ahead = timedelta(minutes=20)  # of the server only
    world.arena.projects.create("mine", kind="classic")
    (projects,) = visitor.does("projects")
    assert [project["name"] for project in projects["returned"]] == ["mine"]
    assert projects["kept"]["access_token"] != signed_in["kept"]["access_token"]


def test_a_client_that_was_ended_by_its_user_has_to_sign_in_again(visitor, world):
    person = world.member("member")
    with visitor.begun("login") as process:
        body = {"user_code": visitor.user_code()}
        person.post(f"{SIGN_INS}/approve", json=body).raise_for_status()
        told(process)
    (one,) = person.get(SIGN_INS).json()["items"]
    person.delete(f"{SIGN_INS}/{one['id']}").raise_for_status()
    (projects,) = visitor.does("projects")
    assert projects["error"] == "ArenaAuthError"
