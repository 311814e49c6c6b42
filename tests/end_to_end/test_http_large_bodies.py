"""Nobody holds up others, or takes their memory, by a body that is dear to read."""

import gc
import gzip
import json
import tracemalloc

import pytest

from arena_core.application.metric_points import MOST_POINTS
from arena_core.domain.values import LONGEST_NAME
from arena_core.entrypoints.http.app import CONTROL_PLANE
from arena_core.entrypoints.http.bodies import MOST_PARTS
from arena_core.entrypoints.http.endpoints import (
    LARGEST,
    LARGEST_OF_STRANGERS,
    PUBLIC,
)
from arena_core.entrypoints.http.experiment_metrics import LARGEST_METRICS

from end_to_end.http_world import asked, opened
from every_shape import EVERY_SHAPE

PUBLIC_BODIES = [
    ("/api/v1/invitations/accept", b'{"token": "%b"}'),
    ("/realms/arena/protocol/openid-connect/auth/device", b"client_id=%b"),
    ("/realms/arena/protocol/openid-connect/token", b"client_id=%b"),
    ("/realms/arena/protocol/openid-connect/logout", b"client_id=%b"),
]


def sent(world, path, body, token=None):
    """Return the answer to a POST, and how many of two parts were looked at."""
    read = []

    def parts():
        for part in (body[:-1], body[-1:]):
            read.append(part)
            yield {"type": "http.request", "body": part, "more_body": len(read) == 1}

    headers = [] if token is None else [("authorization", f"Bearer {token}")]
    return asked(world.app, "POST", path, headers=headers, messages=parts()), len(read)


@pytest.mark.parametrize(("path", "form"), PUBLIC_BODIES)
def test_strangers_send_small_bodies_only(path, form):
    with opened(serve=False) as world:
        fitting = form % (b"x" * (LARGEST_OF_STRANGERS - len(form) + 2))
        assert len(fitting) == LARGEST_OF_STRANGERS
        assert sent(world, path, fitting)[0].status in {400, 401}
        answer, read = sent(world, path, form % (b"x" * LARGEST_OF_STRANGERS))
        assert (answer.status, read) == (413, 1)


def test_every_public_address_that_takes_a_body_is_among_them():
    public = {e.path for e in CONTROL_PLANE if e.needs is PUBLIC and e.method != "GET"}
    assert public == {path for path, _ in PUBLIC_BODIES}


def test_a_body_is_no_larger_than_what_is_asked_for_may_need():
    with opened(serve=False) as world:
        large = b'{"name": "%b"}' % (b"x" * LARGEST)
        answer, read = sent(world, "/api/v1/projects", large, world.token())
        assert (answer.status, read) == (413, 1)


def test_a_body_of_very_many_parts_is_not_decoded():
    with opened(serve=False) as world:
        path = f"/api/v1/experiments/{world.experiment().id}/metrics"
        token = world.token()
        many = b'{"points": [%b1]}' % (b"1," * MOST_PARTS)
        answer, _ = sent(world, path, many, token)
        assert answer.status == 413
        fewer = b'{"points": [%b1]}' % (b"1," * (MOST_PARTS - 2))
        answer, _ = sent(world, path, fewer, token)
        assert answer.status == 422


def test_as_many_metric_points_as_one_call_may_record_fit_into_its_body():
    point = {"step": 2**63 - 1, "name": "n" * LONGEST_NAME, "value": -1.7e-308}
    assert len(json.dumps(point)) * MOST_POINTS < LARGEST_METRICS
    with opened(serve=False) as world:
        path = f"/api/v1/experiments/{world.experiment().id}/metrics"
        points = [{"step": n, "name": "loss", "value": 0.5} for n in range(MOST_POINTS)]
        answer = world.member().post(path, json={"points": points})
        assert answer.json() == {"recorded": MOST_POINTS}


LONG = LARGEST // 2
TIMES = 5
REFUSED = {
    "control plane": ("/api/v1/projects", b'{"name": "%b"}', {}),
    "data plane": ("/inference/{d}/get_action", b'{"obs": "%b", "batch_size": 1}', {}),
    "open inference": ("/v2/models/{d}/infer", b'{"inputs": [], "x": "%b"', {}),
    "compressed": ("/v2/models/{d}/infer", b"%b", {"content-encoding": "gzip"}),
}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with opened() as world:
        shape = EVERY_SHAPE["box"]
        folder = shape.write(tmp_path_factory.mktemp("bundle"))
        yield world.live(folder, algorithm=shape.algorithm)


@pytest.mark.parametrize("what", REFUSED)
def test_a_body_that_was_refused_is_not_kept_until_garbage_is_looked_for(live, what):
    path, form, headers = REFUSED[what]
    token = live.world.token()
    body = form % (b"x" * LONG)
    if what == "compressed":
        body = gzip.compress(body)
    headers = [("authorization", f"Bearer {token}"), *headers.items()]

    def refused():
        answer = asked(
            live.world.app,
            "POST",
            path.format(d=live.deployment_id),
            headers=headers,
            messages=[{"type": "http.request", "body": body}],
        )
        assert answer.status in {400, 422}, answer

    refused()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(TIMES):
            refused()
        assert tracemalloc.get_traced_memory()[0] < TIMES * LONG / 2
    finally:
        tracemalloc.stop()
        gc.enable()
