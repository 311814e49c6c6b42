"""After a life in which every kind of secret was issued, none is found anywhere.

Neither in the store, nor in what the server wrote of itself (at its most talkative,
and as it crashed), nor in events, metrics, lists and errors.
"""

import json
import re
import signal
from pathlib import Path
from urllib.parse import urlencode

import pytest

import bundles
from end_to_end.processes import (
    Client,
    Place,
    an_agent,
    an_experiment,
    connect,
    eventually,
    serving,
    tar_of,
    upload,
)

API = "/api/v1"
OAUTH = "/realms/arena/protocol/openid-connect"
SHORTEST = 16
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
TALKATIVE = {
    "ARENA_LOG_FORMAT": "json",
    "ARENA_LOG_LEVEL": "debug",
    "PYTHONFAULTHANDLER": "1",
    "ARENA_FAILED_AUTH_RATE": "0",
}
SECRET = re.compile(
    r"arena_(?:dep_[0-9a-f]{32}_[0-9]+|dvc_[0-9]+_[A-Z]{12}|(?:pat|org|inv|ref)_[0-9a-f]{32})"
    r"_[0-9A-Za-z]{49}|eyJ[\w-]+\.[\w-]+\.[\w-]+"
)
"""What documents tell scanners to look for."""


def _form(client: Client, path: str, **fields: str):
    said = urlencode({"client_id": "arena-cli", **fields}).encode()
    answer = client.ask("POST", OAUTH + path, raw=said)
    return answer.body if answer.raw else None


def _issued(client: Client, bundle: Path) -> list[str]:
    """Do everything that a secret comes of; return all that were seen."""
    seen = [client.token]
    key = client.post(f"{API}/tokens", {"name": "k", "kind": "org"})
    turned = client.post(f"{API}/tokens/{key['id']}/rotate")
    at = f"{API}/organisations/default/invitations"
    invited = client.post(at, {"user": "ann@example.org"})
    seen += [key["token"], turned["token"], invited["token"]]
    accepted = client.post(f"{API}/invitations/accept", {"token": invited["token"]})
    seen.append(accepted["token"])
    begun = _form(client, "/auth/device")
    client.post(f"{API}/sign-ins/approve", {"user_code": begun["user_code"]})
    code = begun["device_code"]
    signed_in = _form(client, "/token", grant_type=GRANT, device_code=code)
    refresh = signed_in["refresh_token"]
    again = _form(client, "/token", grant_type="refresh_token", refresh_token=refresh)
    seen += [code, refresh, signed_in["access_token"], again["access_token"]]
    experiment = an_experiment(client)
    upload(client, experiment, 10, tar_of(bundle)).expect(201)
    agent = an_agent(client, experiment)
    connect(client, agent)
    seen.append(client.get(f"{API}/agents/{agent}/access")["api_key"])
    client.post(f"{API}/agents/{agent}/rotate-key")
    access = client.get(f"{API}/agents/{agent}/access")
    seen.append(access["api_key"])
    _try_all(client, seen, access["endpoint"].partition("//")[2].partition("/")[2])
    _form(client, "/logout", refresh_token=refresh)
    client.ask("DELETE", f"{API}/tokens/{key['id']}").expect(200)
    return seen


def _try_all(client: Client, secrets: list[str], endpoint: str) -> None:
    """Send every secret wherever somebody might paste it by mistake."""
    for secret in secrets:
        for path in (
            f"{API}/projects",
            "/api/cli/v1/projects",
            "/v2",
            "/api/v1/events",
        ):
            client.ask("GET", path, token=secret)
        client.ask("POST", f"/{endpoint}/get_action", {"obs": secret}, token=secret)
        client.ask("GET", f"{API}/projects/{secret}")
        client.ask("GET", f"{API}/projects?name={secret}&cursor={secret}")
        client.ask("POST", f"{API}/projects", {secret: secret})
        client.ask("POST", f"{API}/invitations/accept", {"token": secret})
        client.ask("POST", f"/v2/models/{secret}/infer", {"inputs": []})
        _form(client, "/token", grant_type="refresh_token", refresh_token=secret)


def _told(client: Client) -> str:
    """Return all that the API tells of what there is."""
    paths = (
        "projects", "experiments", "agents", "tokens", "users/me", "sign-ins",
        "organisations", "organisations/default/members",
        "organisations/default/invitations", "events?limit=1000",
    )  # fmt: skip
    raw = [client.ask("GET", f"{API}/{path}").raw.decode() for path in paths]
    raw += [
        client.ask("GET", path).raw.decode() for path in ("/metrics", "/openapi.json")
    ]
    return "\n".join(raw)


@pytest.mark.slow
def test_no_secret_that_was_issued_is_found_anywhere(tmp_path):
    bundle = bundles.cartpole(tmp_path / "bundle")
    place = Place(tmp_path / "place")
    place.folder.mkdir()
    with serving(place, environ=TALKATIVE) as process:
        client = process.client()
        secrets = _issued(client, bundle)
        told = _told(client)
        process.signal(signal.SIGABRT)  # a crash, with all stacks on standard error
        process.wait()
    with serving(place, environ=TALKATIVE) as process:
        told += _told(process.client())
    master = place.store.with_name("arena.db.key").read_text().strip()
    place.token_file.unlink()  # where it was written on purpose
    place.store.with_name("arena.db.key").unlink()  # likewise
    kept = {
        path.relative_to(place.folder).as_posix(): path.read_bytes()
        for path in place.folder.rglob("*")
        if path.is_file()
    }
    crash = kept["0.stderr"].decode()
    assert "Fatal Python error: Aborted" in crash
    assert '"route"' in crash
    kept["the API"] = told.encode()
    ends = {secret.rsplit("_", 1)[-1].rsplit(".", 1)[-1] for secret in secrets}
    # What is random may have such a sign near its end, and a letter is found anywhere.
    parts = {end for end in ends if len(end) >= SHORTEST}
    assert parts
    for where, content in kept.items():
        assert not SECRET.search(content.decode("latin-1")), where
        for secret in (master, *secrets, *parts):
            assert secret.encode() not in content, where
            assert bytes(secret, "utf-16-le") not in content, where


def test_the_scan_would_find_them(tmp_path):
    bundle = bundles.cartpole(tmp_path / "bundle")
    place = Place(tmp_path / "place")
    place.folder.mkdir()
    with serving(place) as process:
        client = process.client()
        secrets = _issued(client, bundle)
        eventually(lambda: client.get(f"{API}/projects"), what="it still answers")
    assert len(set(secrets)) >= 10
    assert all(SECRET.fullmatch(secret) for secret in secrets)
    assert all(SECRET.search(json.dumps({"x": [secret]})) for secret in secrets)
