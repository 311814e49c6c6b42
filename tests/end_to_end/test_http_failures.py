"""Whoever insists on bad credentials is slowed down, and nobody else is."""

import pytest

import bundles
from end_to_end.http_world import asked, bearing, opened, wire

BURST = 6
"""As many as may come at once, at one a second."""


@pytest.fixture(name="world")
def _world():
    with opened(failed_auth_rate=1.0) as world:
        # However slow the machine is: nobody earns another try meanwhile.
        world.app.data_plane.failures._clock = lambda: 0.0
        yield world


def statuses(client, times, method, path, **options):
    return [client.request(method, path, **options).status_code for _ in range(times)]


def test_a_guesser_is_told_to_wait_and_a_good_token_beside_it_is_not(world):
    token, path = world.token(), "/api/v1/projects"
    bad, good = world.client(token[:-1] + "x"), world.client(token)
    assert statuses(bad, BURST, "GET", path) == [401] * BURST
    limited = bad.get(path)
    assert limited.status_code == 429
    assert limited.json()["code"] == "RATE_LIMITED"
    assert int(limited.headers["Retry-After"]) >= 1
    assert statuses(good, 20, "GET", path) == [200] * 20
    assert statuses(bad, 3, "POST", "/api/v1/tokens", json={"name": "x"}) == [429] * 3


def test_both_planes_count_together(world, tmp_path):
    live = world.live(bundles.cartpole(tmp_path))
    body = {"obs": wire([[0.0] * 4])}
    bad = world.client(live.key[:-1] + "x")
    path = f"{live.path}/get_action"
    assert statuses(bad, BURST, "POST", path, json=body) == [401] * BURST
    limited = bad.post(path, json=body)
    assert limited.status_code == 429
    assert limited.json().keys() == {"detail"}
    assert int(limited.headers["retry-after"]) >= 1
    assert statuses(bad, 2, "GET", "/api/v1/projects") == [429] * 2
    good = world.client(live.key)
    assert statuses(good, 20, "POST", path, json=body) == [200] * 20


def test_another_address_is_counted_for_itself(world):
    headers = list(bearing("nonsense").items())
    headers = [(name.lower(), value) for name, value in headers]
    for _ in range(2 * BURST):
        last = asked(world.app, "GET", "/api/v1/projects", headers=headers)
    assert last.status == 429
    assert world.client("nonsense").get("/api/v1/projects").status_code == 401


def test_what_is_forbidden_or_not_there_is_no_bad_credential(world):
    viewer = world.client(world.token("viewer"))
    for _ in range(3 * BURST):
        assert viewer.post("/api/v1/projects", json={"name": "x"}).status_code == 403
        assert viewer.get("/api/v1/nothing").status_code == 404


def test_attempts_are_counted_and_none_is_recorded_in_the_log(world):
    manager = world.client(world.token())
    before = world.head()
    statuses(world.client("nonsense"), 50, "GET", "/api/v1/projects")
    assert world.head() == before
    page = manager.get("/metrics").text
    assert 'arena_auth_failures_total{reason="malformed"} 50.0' in page
    counted = 'http_response_status_code="429"'
    assert [line for line in page.splitlines() if counted in line]
