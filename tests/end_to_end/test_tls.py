"""TLS: with a real certificate, one process or several, and both ways of answering."""

import json
import socket
import ssl
from http.client import HTTPSConnection

import numpy as np
import pytest

from arena_core.entrypoints.http.protocol import Protocol
from arena_core.entrypoints.http.server import Server, listen
from arena_core.entrypoints.settings import Tls

import bundles
from end_to_end.certificates import certificate
from end_to_end.event_streams import PATIENCE_S
from end_to_end.http_world import array, bearing, opened, wire
from end_to_end.processes import Place, environment, eventually, run, start

WORD = "open sesame"
OBS = bundles.observations(2, 4)
RIGHT = bundles.CARTPOLE(OBS).argmax(axis=1)
BODY = json.dumps({"obs": wire(OBS), "batch_size": 2}).encode()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", name="made")
def _made(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificates"))


class Browser:
    """One connection that trusts one certificate and nothing else."""

    def __init__(self, address, made, token):
        trusting = ssl.create_default_context(cafile=made.authority)
        self.connection = HTTPSConnection(address, timeout=PATIENCE_S, context=trusting)
        self.headers = bearing(token)

    def ask(self, method, path, body=None, **headers):
        self.connection.request(method, path, body, {**self.headers, **headers})
        response = self.connection.getresponse()
        return response.status, response.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()


def test_usual_requests_are_answered_the_quicker_way_over_tls_too(
    made, tmp_path, monkeypatch
):
    begun, quick = Protocol._begin, []

    def begin(self, data):
        begun(self, data)
        quick.append(self._state.name)

    monkeypatch.setattr(Protocol, "_begin", begin)
    with opened() as world:
        live = world.live(bundles.cartpole(tmp_path))
        tls = Tls(made.file, made.key, None)
        server = Server(world.app, listen("127.0.0.1", 0), tls)
        with server.in_background() as url:
            assert url.startswith("https://")
            address = url.removeprefix("https://")
            with Browser(address, made, live.key) as browser:
                for _ in range(3):
                    status, body = browser.ask("POST", f"{live.path}/get_action", BODY)
                    assert status == 200
                    action = array(json.loads(body)["action"])
                    np.testing.assert_array_equal(action, RIGHT)
                assert quick
                assert "UVICORN" not in quick
            with Browser(address, made, world.token()) as browser:
                body = json.dumps({"name": "p", "kind": "classic"})
                browser.connection.request(
                    "POST", "/api/v1/projects", body, browser.headers
                )
                response = browser.connection.getresponse()
                assert response.headers["Location"].startswith(f"{url}/api/v1/")
                response.read()
                path = f"/api/v1/agents/{live.agent_id}/access"
                _, body = browser.ask("GET", path)
                assert json.loads(body)["endpoint"].startswith(f"{url}/inference/")


def test_who_does_not_hang_up_does_not_hold_up_the_end_of_the_server(made, caplog):
    with opened() as world:
        tls = Tls(made.file, made.key, None)
        server = Server(world.app, listen("127.0.0.1", 0), tls)
        with server.in_background() as url:
            browser = Browser(url.removeprefix("https://"), made, world.token())
            assert browser.ask("GET", "/livez")[0] == 200
        browser.connection.close()
    assert not caplog.records, "it was waited for as long as for an answer"


def test_who_does_not_speak_tls_is_told_nothing(made):
    with opened() as world:
        listener = listen("127.0.0.1", 0)
        server = Server(world.app, listener, Tls(made.file, made.key, None))
        with (
            server.in_background(),
            socket.create_connection(listener.getsockname(), PATIENCE_S) as plain,
        ):
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/" not in plain.recv(1000)


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_answers_over_tls_alone(tmp_path, workers):
    made = certificate(tmp_path, password=WORD)
    place = Place(tmp_path)
    process = start(
        place,
        *("--token-file", place.token_file, "--workers", workers),
        *("--tls-certificate", made.file, "--tls-key", made.key),
        environ={"ARENA_TLS_KEY_PASSWORD": WORD},
    )
    try:
        address = process.await_address()
        assert f"Listening on https://{address}" in process.stdout.read_text()
        with Browser(address, made, place.token) as browser:
            status, body = browser.ask("GET", "/api/v1/projects")
            assert (status, json.loads(body)["items"]) == (200, [])
        process.popen.terminate()
        assert process.wait() == 0, process.story()
        assert WORD not in process.story()
    finally:
        process.kill()


def test_files_of_the_environment_are_taken_too_and_the_options_win(tmp_path, made):
    environ = {"ARENA_TLS_CERTIFICATE": str(made.file), "ARENA_TLS_KEY": "nowhere"}
    store = ("--store", tmp_path / "arena.db", "--port", 0)
    said = run("serve", *store, environ=environ)
    assert (said.returncode, said.stdout) == (1, "")
    assert "The certificate and its key cannot be used (No such file" in said.stderr
    process = start(Place(tmp_path), "--tls-key", made.key, environ=environ)
    try:
        address = process.await_address()
        with Browser(address, made, "") as browser:
            eventually(lambda: browser.ask("GET", "/livez")[0] == 200, what="it lives")
    finally:
        process.kill()


def refusal(tmp_path, *options, **environ):
    store = ("--store", tmp_path / "arena.db", "--port", 0)
    said = run("serve", *store, *options, environ=environ)
    assert said.returncode != 0
    assert "Traceback" not in said.stderr
    assert "Listening" not in said.stdout
    assert not (tmp_path / "arena.db").exists()
    return said.stderr


def test_files_that_do_not_belong_together_are_refused_at_the_start(tmp_path, made):
    other = certificate(tmp_path, "other")
    text = refusal(tmp_path, "--tls-certificate", made.file, "--tls-key", other.key)
    assert "cannot be used (KEY_VALUES_MISMATCH)" in text
    text = refusal(tmp_path, "--tls-certificate", made.key, "--tls-key", made.file)
    assert "two files in PEM that belong together" in text


def test_one_file_alone_is_refused(tmp_path, made):
    text = refusal(tmp_path, "--tls-certificate", made.file)
    assert "TLS needs both a certificate and its key" in text
    text = refusal(tmp_path, ARENA_TLS_KEY=str(made.key))
    assert "TLS needs both a certificate and its key" in text


@pytest.mark.parametrize("password", ["", "another"])
def test_a_key_without_its_password_is_refused_and_nobody_is_asked(tmp_path, password):
    made = certificate(tmp_path, password=WORD)
    options = ("--tls-certificate", made.file, "--tls-key", made.key)
    text = refusal(tmp_path, *options, ARENA_TLS_KEY_PASSWORD=password)
    assert "ARENA_TLS_KEY_PASSWORD" in text
    assert password == "" or password not in text


def test_the_password_is_not_shown():
    assert environment({"ARENA_TLS_KEY_PASSWORD": WORD})
    with opened(tls_key_password=WORD) as world:
        assert WORD not in repr(world.arena.settings)
