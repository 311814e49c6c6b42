"""A server dies after it has done what it was asked, and before it says so."""

import subprocess
import sys
from http.client import HTTPException

import pytest

from end_to_end.processes import (
    PATIENCE_S,
    Client,
    Place,
    environment,
    eventually,
    serving,
)

pytestmark = pytest.mark.slow

KEY = {"Idempotency-Key": '"once"'}
DYING = """
import os, signal, sys
import arena_core
from arena_core.entrypoints.http.server import Server, listen

with listen("127.0.0.1", 0) as listener, arena_core.open(sys.argv[1]) as arena:
    app = arena.asgi()

    async def dying(scope, receive, send):
        async def last(message):
            os.kill(os.getpid(), signal.SIGKILL)

        await app(scope, receive, last if scope["method"] == "POST" else send)

    print(f"Listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    Server(dying, listener).run()
"""
"""A real server, but that kill -9 comes at the very moment of its first word."""


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    with serving(place) as server:
        server.await_ready()
    return place


def test_what_was_done_before_a_crash_is_answered_after_it(place):
    assert _dies_answering(place, {"name": "carts"}) == -9
    with serving(place) as server:
        client = server.client()
        (made,) = client.get("/api/v1/projects")["items"]
        again = client.ask("POST", "/api/v1/projects", {"name": "carts"}, headers=KEY)
        assert again.expect(201) == made
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Location"].endswith(made["id"])
        assert len(client.get("/api/v1/projects")["items"]) == 1
        other = client.ask("POST", "/api/v1/projects", {"name": "x"}, headers=KEY)
        other.expect(422)


def test_what_was_refused_before_a_crash_can_be_asked_again(place):
    assert _dies_answering(place, {"name": " "}) == -9
    with serving(place) as server:
        client = server.client()
        made = client.ask("POST", "/api/v1/projects", {"name": "carts"}, headers=KEY)
        made.expect(201)
        assert "Idempotent-Replayed" not in made.headers


def _dies_answering(place: Place, body: object) -> int:
    """Ask a server that dies before it answers; return how it has ended."""
    stdout = place.folder / "dying.stdout"
    with stdout.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", DYING, str(place.store)],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            start_new_session=True,
        )
    try:
        said = eventually(stdout.read_text, what="it says where it listens")
        client = Client(said.partition("://")[2].strip(), place.token)
        with pytest.raises((OSError, HTTPException)):
            client.ask("POST", "/api/v1/projects", body, headers=KEY)
        client.close()
        return process.wait(PATIENCE_S)
    finally:
        process.kill()
