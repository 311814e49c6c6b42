"""A model that ceases to answer is found out and loaded anew; callers see little."""

import json
import threading
import time

import numpy as np
import pytest

import bundles
from end_to_end.http_world import opened, wire

OBS = json.dumps({"obs": wire(np.zeros((1, 4)))})


def until(fact, seconds=60.0):
    """Wait for `fact` to become true; say whether it has."""
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.01)
    return fact()


def lost(world):
    events = world.member().get("/api/v1/events", params={"limit": 1000}).json()
    return [e for e in events["items"] if e["name"] == "deployment.connection_lost"]


@pytest.mark.slow
def test_a_model_whose_weights_are_gone_is_loaded_anew(tmp_path):
    with opened(probe_interval_s=0.05) as world:
        live = world.live(bundles.cartpole(tmp_path))
        assert live.post("get_action", content=OBS).status_code == 200
        registry = world.arena.application.registry
        registry.live(str(live.deployment_id)).model.close()

        assert until(lambda: lost(world))
        statuses = set()

        def is_back():
            statuses.add(live.post("get_action", content=OBS).status_code)
            return 200 in statuses

        assert until(is_back)
        assert statuses <= {200, 503}
        (event,) = lost(world)
        assert event["data"]["reason"].startswith("The health probe failed: ")
        assert event["actor"] == "system:prober"
        agent = world.member().get(f"/api/v1/agents/{live.agent_id}").json()
        assert agent["deployment"]["status"] == "Deployed"


def probing():
    return [t for t in threading.enumerate() if t.name == "arena-prober"]


def test_an_interval_of_0_means_no_probe():
    with opened():
        assert probing()
    with opened(probe_interval_s=0):
        assert not probing()
