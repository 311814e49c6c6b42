"""The main job in one command, in a process of its own."""

import json

import pytest

from end_to_end.processes import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo = run("demo", "--json", "--seed", 1, "--dir", folder, timeout_s=120)
    assert demo.returncode == 0, demo.stderr
    return folder, demo.stdout.splitlines()


def test_the_demo_ends_with_one_object_that_says_what_came_of_it(told):
    _, lines = told
    result = json.loads(lines[-1])
    assert set(result) == {
        "mean_return",
        "episodes",
        "train_seconds",
        "connect_ms",
        "first_action_ms",
        "agent_id",
        "checkpoint_digest",
        "events",
    }
    assert result["mean_return"] >= 475
    assert result["episodes"] == 20
    assert 0 < result["connect_ms"] <= result["first_action_ms"]
    assert not any(line.startswith("{") for line in lines[:-1])


def test_the_demo_leaves_a_store_in_which_everything_can_be_seen(told):
    folder, lines = told
    result, store = json.loads(lines[-1]), folder / "arena.db"
    shown = run("agent", "show", result["agent_id"], "--store", store)
    assert (
        json.loads(shown.stdout)["checkpoint"]["digest"]
        == (result["checkpoint_digest"])
    )
    log = run("audit", "log", "--json", "--store", store).stdout.splitlines()
    # What is live when the story ends is given up by the process that ends.
    assert len(log) == result["events"] + 1
    assert json.loads(log[-1])["name"] == "deployment.connection_lost"
    assert run("audit", "verify", "--store", store).returncode == 0
