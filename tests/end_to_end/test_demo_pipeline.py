"""A pipeline from nothing to an answer over HTTP, in a process of its own."""

import json
import subprocess
import sys

import pytest

from end_to_end.processes import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    arguments = ("--json", "--seed", 1, "--dir", folder)
    demo = run("demo", "--pipeline", *arguments, timeout_s=540)
    assert demo.returncode == 0, demo.stderr
    return folder, demo.stdout.splitlines()


def test_it_ends_with_one_object_that_says_what_came_of_it(told):
    _, lines = told
    result = json.loads(lines[-1])
    assert set(result) == {
        "accuracy",
        "accuracy_after",
        "run_seconds",
        "stale_stages",
        "failed_stage",
        "resumed_at",
        "pipeline_id",
        "agent_id",
        "checkpoint_digest",
        "events",
    }
    assert result["accuracy"] > 0.9
    assert result["accuracy_after"] > 0.9
    assert result["stale_stages"] == [2]
    assert result["failed_stage"] == 2
    assert result["resumed_at"] in range(2048, 8192, 2048)
    assert not any(line.startswith("{") for line in lines[:-1])


def test_it_shows_answers_beside_the_truth_the_stale_mark_and_the_failure(told):
    text = "\n".join(told[1])
    assert "and it is class_2" in text
    assert "stale: " in text
    assert "SIGKILL" in text
    assert "hash chains and checkpoints: intact" in text


def test_the_log_it_leaves_says_that_one_agent_got_other_weights(told):
    folder, lines = told
    result, store = json.loads(lines[-1]), folder / "arena.db"
    log = run("audit", "log", "--json", "--store", store).stdout.splitlines()
    events = [json.loads(line) for line in log]
    names = [event["name"] for event in events]
    assert names.count("stage.failed") == 1
    assert names.count("experiment.training_failed") == 1
    # Stage 1 and stage 2 succeed twice, and so does the deployment behind them.
    assert names.count("stage.succeeded") == 6
    frozen = [e for e in events if e["name"] == "agent.checkpoint_frozen"]
    replaced = [e for e in events if e["name"] == "agent.checkpoint_replaced"]
    assert [e["stream"] for e in frozen] == [result["agent_id"]]
    assert [e["stream"] for e in replaced] == [result["agent_id"]]
    shown = json.loads(
        run("agent", "show", result["agent_id"], "--store", store).stdout
    )
    assert shown["checkpoint"]["digest"] == result["checkpoint_digest"]
    assert run("audit", "verify", "--store", store).returncode == 0


BARE = """
import sys

sys.modules["torch"] = None  # as if it were not installed
from arena_core.entrypoints.cli import main
sys.argv[1:] = ["demo", "--pipeline"]
main()
"""


def test_without_the_extra_it_says_in_a_sentence_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", BARE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: torch is not installed here: pip install 'arena-core[latent-ppo]', "
        "or run the demo without --pipeline.\n"
    )
