"""People sign in with agilerl-arena as it does: by a code, in a browser elsewhere.

The browser of the machine is one that writes down which address it was to open.
"""

import json
import shlex
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from attrs import evolve

from end_to_end.arena_platform import a_name
from end_to_end.arena_users import acts, one_action, returned, unauthenticated
from end_to_end.processes import eventually

pytestmark = pytest.mark.slow


def browser(folder: Path):
    """Return the environment of a browser, and what returns the code that it showed.

    In the same folder it is the same browser: a process looks for one only once.
    """
    shown = folder / "shown"
    shown.unlink(missing_ok=True)
    writes = ("sh", "-c", f'echo "$0" > {shown}.half; mv {shown}.half {shown}')

    def code() -> str:
        eventually(shown.exists, what="the browser is opened")
        address = urlsplit(shown.read_text().strip())
        return parse_qs(address.query)["user_code"][0]

    return {"BROWSER": f"{shlex.join(writes)} %s", "PATH": "/usr/bin:/bin"}, code


def decide(platform, verb: str, code: str, token: str):
    path = f"/api/v1/sign-ins/{verb}"
    platform.control.ask("POST", path, {"user_code": code}, token=token).expect(200)


@pytest.fixture
def somebody(platform):
    """The personal token of somebody, for the browser."""
    return platform.token(user=a_name("ann"))


@pytest.fixture
def signing_in(platform, user):
    """What begins to sign in, decides about it, and returns what that came to."""

    def sign_in(verb: str, token: str):
        environ, code = browser(user.client.home)
        anonymous = evolve(user, environ=platform.environ(**environ))
        anonymous.begin("login", timeout=60)
        decide(platform, verb, code(), token)
        return anonymous, anonymous.end()

    return sign_in


def kept(user) -> Path:
    return user.client.home / ".arena" / "credentials.json"


def test_somebody_signs_in_works_and_signs_out(user, signing_in, somebody, pole):
    signed_in, met = signing_in("approve", somebody)
    assert returned(met) is None
    assert (kept(user).stat().st_mode & 0o777) == 0o600
    assert "returned" in signed_in("list_projects")
    profile = returned(signed_in("get_current_user"))
    assert profile == returned(user.bearing(somebody)("get_current_user"))
    acts(signed_in.find(pole, one_action()))
    # A token that is given comes before what is kept, and a wrong one after it.
    assert returned(user("get_current_user")) != profile
    assert returned(user.bearing("arena_pat_wrong")("get_current_user")) == profile
    credentials = json.loads(kept(user).read_text())
    access = credentials["access_token"]
    assert "returned" in user.bearing(access)("list_projects")
    assert returned(signed_in("logout")) is None
    assert not kept(user).exists()
    assert unauthenticated(signed_in("list_projects"))
    assert unauthenticated(user.bearing(access)("list_projects"))


def test_what_has_expired_is_renewed_without_a_browser(user, signing_in, somebody):
    signed_in, met = signing_in("approve", somebody)
    assert returned(met) is None
    credentials = json.loads(kept(user).read_text())
    kept(user).write_text(json.dumps({**credentials, "access_token": "expired"}))
    assert "returned" in signed_in("list_projects")
    renewed = json.loads(kept(user).read_text())
    assert renewed["access_token"] not in {"expired", None}
    kept(user).write_text(json.dumps({**renewed, "access_token": "expired"}))
    assert returned(signed_in("login")) is None


def test_who_is_denied_is_not_signed_in(user, signing_in, somebody):
    _, met = signing_in("deny", somebody)
    assert unauthenticated(met)
    assert "Device authorization failed" in met["text"]
    assert not kept(user).exists()


def test_the_command_line_signs_in_and_out(platform, arena, somebody, tmp_path):
    environ, code = browser(tmp_path)
    alone = evolve(arena, environ=platform.environ(**environ))
    alone.begin("login", "--timeout", 60)
    decide(platform, "approve", code(), somebody)
    ended = alone.end()
    assert ended.code == 0, ended
    assert "Authenticated successfully" in ended.said
    listed = alone("projects", "list")
    assert listed.code == 0, listed
    assert alone("logout").code == 0
    again = alone("projects", "list")
    assert (again.code, "arena login" in again.said) == (1, True)
