"""A body takes its time; what happens meanwhile counts as soon as it is complete."""

import json
from collections.abc import Iterator

import numpy as np
import pytest

import bundles
from end_to_end.http_world import asked, opened, packed, wire

OBS = json.dumps({"obs": wire(np.zeros((1, 4)))}).encode()


def in_two_parts(body: bytes, meanwhile) -> Iterator[dict[str, object]]:
    """Yield a body all but whose last byte has come before `meanwhile` is called."""
    yield {"type": "http.request", "body": body[:-1], "more_body": True}
    meanwhile()
    yield {"type": "http.request", "body": body[-1:], "more_body": False}


def bearing(token: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}"), *more]


@pytest.fixture
def world():
    with opened() as world:
        yield world


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("nothing", 200),
        ("rotate_key", 401),
        ("disconnect", 404),
        ("delete", 404),
    ],
)
def test_a_key_must_still_be_good_when_the_body_is_complete(
    world, tmp_path, end, status
):
    live = world.live(bundles.cartpole(tmp_path))

    def meanwhile():
        if end != "nothing":
            getattr(world.arena.agents, end)(live.agent_id)

    answer = asked(
        world.app,
        "POST",
        f"{live.path}/get_action",
        headers=bearing(live.key),
        messages=in_two_parts(OBS, meanwhile),
    )
    assert answer.status == status


@pytest.mark.parametrize("end", ["revoke", "rotate"])
def test_a_token_must_still_be_good_when_the_body_is_complete(world, end):
    issued = world.issued()
    body = json.dumps({"name": "thief's", "user": "thief", "role": "manager"}).encode()
    answer = asked(
        world.app,
        "POST",
        "/api/v1/tokens",
        headers=bearing(issued.token),
        messages=in_two_parts(
            body, lambda: getattr(world.arena.tokens, end)(issued.view.id)
        ),
    )
    assert answer.status == 401
    assert "thief's" not in {token.name for token in world.arena.tokens.list()}


def test_a_token_must_still_be_good_when_an_upload_is_complete(world, tmp_path):
    issued = world.issued()
    made = world.experiment()
    answer = asked(
        world.app,
        "POST",
        f"/api/v1/experiments/{made.id}/checkpoints",
        query="step=1",
        headers=bearing(issued.token),
        messages=in_two_parts(
            packed(bundles.cartpole(tmp_path)),
            lambda: world.arena.tokens.revoke(issued.view.id),
        ),
    )
    assert answer.status == 401
    assert not world.arena.experiments.checkpoints(made.id)


def test_a_reason_that_is_too_long_is_refused_before_anything_is_written(
    world, tmp_path
):
    live = world.live(bundles.cartpole(tmp_path))
    client = world.member()
    head = world.head()
    answer = client.post(
        f"/api/v1/agents/{live.agent_id}/rotate-key", json={"reason": "r" * 100_000}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/reason"
    assert world.head() == head


def test_a_position_beyond_all_numbers_is_the_end_of_the_log(world):
    answer = world.member().get("/api/v1/events", params={"after": 10**30})
    assert answer.status_code in {200, 422}
    beyond = world.member().get("/api/v1/events", params={"after": 2**63})
    assert beyond.json()["items"] == []


def test_an_external_user_has_a_name_of_bounded_length(world):
    token = world.issued(kind="org").token
    for user, status in (("ada", 200), ("a" * 300, 422), ("\x07", 422)):
        headers = {"X-External-User-Id": user}
        got = world.client(token).get("/api/v1/projects", headers=headers)
        assert got.status_code == status, user
