"""What a server process says of itself: a line for each request, and no secret."""

import json

import pytest

from end_to_end.processes import PATIENCE_S, Place, eventually, run, serving

pytestmark = pytest.mark.slow

TALKATIVE = {"ARENA_LOG_FORMAT": "json", "ARENA_LOG_LEVEL": "debug"}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_is_a_line_of_json_and_no_line_holds_a_secret(tmp_path, workers):
    place = Place(tmp_path)
    options = ("--token-file", place.token_file, "--workers", workers)
    with serving(place, *options, environ=TALKATIVE) as server:
        client = server.client()
        made = client.ask("POST", "/api/v1/tokens", {"name": "x", "kind": "org"})
        secrets = [place.token, made.expect(201)["token"]]
        client.ask("GET", "/api/v1/projects", token=secrets[1]).expect(200)
        client.ask("GET", f"/api/v1/projects/{place.token}").expect(404)
        bad = place.token[:-1]
        client.ask("GET", "/api/v1/projects", token=bad).expect(401)

        def told() -> list[str]:
            text = server.stderr.read_text()
            lines = text.splitlines()
            wanted = sum('"route":"/api/v1/' in line for line in lines)
            return lines if wanted == 4 and text.endswith("\n") else []

        lines = eventually(told, what="each request has its line")
    said = [json.loads(line) for line in lines]
    statuses = [x["status"] for x in said if x.get("route", "") == "/api/v1/projects"]
    assert statuses == [200, 401]
    for secret in (*secrets, bad):
        assert secret not in "".join(lines)


def test_as_it_is_a_server_says_nothing_of_requests(tmp_path):
    place = Place(tmp_path)
    with serving(place) as server:
        server.client().get("/api/v1/projects")
        assert server.stderr.read_text() == ""


@pytest.mark.parametrize("name", ["ARENA_LOG_FORMAT", "ARENA_LOG_LEVEL"])
def test_a_word_that_is_not_known_is_refused_at_the_start(tmp_path, name):
    store = ("--store", tmp_path / "a.db", "--port", 0)
    ended = run("serve", *store, environ={name: "loud"}, timeout_s=PATIENCE_S)
    assert ended.returncode == 1
    assert "use one of" in ended.stderr
    assert "Traceback" not in ended.stderr
