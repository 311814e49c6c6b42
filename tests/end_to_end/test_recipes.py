"""Recipes train for real, behind a server, and what comes of them goes live.

`command` runs what it is told, `sb3` balances CartPole, and what cannot be trained here
says what is missing.
"""

import sys

import gymnasium
import numpy as np
import pytest

import bundles
from end_to_end.processes import (
    Client,
    Place,
    actions,
    endpoint,
    eventually,
    serving,
)

pytestmark = pytest.mark.slow
CARTPOLE = {"kind": "gym", "name": "CartPole-v1"}
SMALL = {
    "total_steps": 6144,
    "n_envs": 8,
    "evaluate_every": 10**6,
    "eval_episodes": 3,
    "checkpoint_every": 3072,
    "hyperparameters": {
        "n_steps": 64,
        "batch_size": 256,
        "learning_rate": 3e-3,
        "policy_kwargs": {"net_arch": [32, 32]},
    },
}
ENDED = ("Succeeded", "Stopped", "Failed")
TRAINING_S = 240.0
SEEDS = range(20)
RANDOM_RETURN = 22.0
"""What actions at random earn in an episode, about."""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of a server on which programs of callers may run."""
    place = Place(tmp_path_factory.mktemp("recipes"))
    with serving(place, environ={"ARENA_ALLOW_COMMANDS": "1"}) as process:
        yield process.client(timeout_s=120.0)


def project(client: Client, kind="classic"):
    return client.post("/api/v1/projects", {"name": f"{kind} lab", "kind": kind})["id"]


def experiment(client: Client, recipe, config, **said):
    body = {
        "project_id": said.pop("project_id", None) or project(client),
        "name": recipe,
        "algorithm": "PPO",
        "source": CARTPOLE,
        "recipe": recipe,
        "config": config,
    }
    return client.post("/api/v1/experiments", body | said)["id"]


def path(experiment_id, verb=""):
    return f"/api/v1/experiments/{experiment_id}{verb}"


def ended(client: Client, experiment_id):
    """Return the experiment when its training is over."""

    def look():
        view = client.get(path(experiment_id))
        return view if view["status"] in ENDED else None

    return eventually(look, what="the training is over", timeout_s=TRAINING_S)


def trained(client: Client, recipe, config, **said):
    experiment_id = experiment(client, recipe, config, **said)
    client.post(path(experiment_id, "/train"), {})
    return ended(client, experiment_id)


def checkpoints(client: Client, experiment_id):
    return client.get(path(experiment_id, "/checkpoints"))["items"]


def log_of(client: Client, experiment_id):
    return "\n".join(client.get(path(experiment_id, "/log"))["lines"])


def mean_return(client: Client, agent_id):
    """Play an episode from each seed, all at once, with an agent's actions."""
    access = endpoint(client, agent_id)
    envs = [gymnasium.make("CartPole-v1") for _ in SEEDS]
    seen = [env.reset(seed=seed)[0] for env, seed in zip(envs, SEEDS, strict=True)]
    returns, playing = np.zeros(len(envs)), set(range(len(envs)))
    while playing:
        order = sorted(playing)
        answered = actions(access.ask(client, np.stack([seen[i] for i in order])))
        for i, action in zip(order, answered, strict=True):
            seen[i], reward, terminated, truncated, _ = envs[i].step(action)
            returns[i] += reward
            if terminated or truncated:
                playing.remove(i)
    return returns.mean()


# --- sb3 -----------------------------------------------------------------------------


def test_cartpole_is_trained_by_sb3_and_goes_live_through_a_pipeline(client):
    project_id = project(client, "advanced")
    experiment_id = experiment(client, "sb3", SMALL, project_id=project_id)
    pipeline = client.post(
        "/api/v1/pipelines", {"project_id": project_id, "name": "cartpole"}
    )
    at = f"/api/v1/pipelines/{pipeline['id']}"
    trains = {"type": "experiment", "experiment_id": experiment_id}
    client.post(f"{at}/stages", trains)
    made = client.post(f"{at}/stages", {"type": "deployment", "trigger": "auto"})
    client.post(f"{at}/stages/{made['stages'][0]['id']}/trigger", {})

    def live():
        stages = client.get(at)["stages"]
        assert "Failed" not in {stage["status"] for stage in stages}, stages
        return stages[1]["run"] if stages[1]["status"] == "Succeeded" else None

    agent_id = eventually(live, what="it is live", timeout_s=TRAINING_S)["agent_id"]
    agent = client.get(f"/api/v1/agents/{agent_id}")
    assert agent["deployment"]["status"] == "Deployed"
    assert mean_return(client, agent_id) > 2 * RANDOM_RETURN
    steps = [it["step"] for it in checkpoints(client, experiment_id)]
    assert steps == [3072, 6144]
    scores = checkpoints(client, experiment_id)[-1]
    assert scores["training_score"] is not None
    assert scores["evaluation_score"] > RANDOM_RETURN


def test_what_was_stopped_goes_on_at_its_last_checkpoint(client):
    endless = SMALL | {"total_steps": 10**7, "checkpoint_every": 512}
    experiment_id = experiment(client, "sb3", endless)
    client.post(path(experiment_id, "/train"), {})
    eventually(
        lambda: checkpoints(client, experiment_id),
        what="there is a checkpoint",
        timeout_s=TRAINING_S,
    )
    client.post(path(experiment_id, "/stop"), {})
    assert ended(client, experiment_id)["status"] == "Stopped"
    last = checkpoints(client, experiment_id)[-1]["step"]
    client.post(path(experiment_id, "/resume"), {"max_steps": last + 512})
    assert ended(client, experiment_id)["status"] == "Succeeded"
    steps = [it["step"] for it in checkpoints(client, experiment_id)]
    assert last in steps
    assert last + 512 <= steps[-1] < last + 512 + 8


@pytest.mark.parametrize(
    ("said", "pointer", "problem"),
    [
        ({"source": {"kind": "gym", "name": "CartPol-v1"}}, "/source/name", "CartPole"),
        (
            {
                "source": {"kind": "dataset", "name": "gone.csv"},
                "algorithm": "Supervised",
                "recipe": "supervised",
            },
            "/source/name",
            "gone.csv",
        ),
        (
            {"recipe": "command", "config": {"argv": ["/nowhere/train"]}},
            "/config/argv/0",
            "no program /nowhere/train",
        ),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_queued(
    client, said, pointer, problem
):
    draft = {"config": {}, "source": CARTPOLE} | said
    experiment_id = experiment(client, draft.pop("recipe", "sb3"), **draft)
    told = client.ask("POST", path(experiment_id, "/train"), {}).expect(422)
    assert told["errors"][0]["pointer"] == pointer
    assert problem in told["detail"]
    assert client.get(path(experiment_id))["status"] == "Draft"


def test_a_missing_library_fails_the_experiment_and_names_the_extra(client):
    manifest = {
        "algorithm": {"name": "PPO"},
        "environment": {"name": "CartPole-v1", "num_envs": 2},
        "training": {"max_steps": 1000},
    }
    view = trained(client, "agilerl", {"manifest": manifest})
    assert view["status"] == "Failed"
    assert "pip install 'arena-core[agilerl]'" in view["reason"]


# --- command -------------------------------------------------------------------------

SHELL = """
echo "training $ARENA_RUN_ID with $FLAVOUR"
echo '{"step": 10, "score": 1.5, "fitness": 2.5}' >> "$ARENA_RUN_FOLDER/metrics.jsonl"
mkdir -p "$ARENA_RUN_FOLDER/checkpoints/.10"
cp "$1"/* "$ARENA_RUN_FOLDER/checkpoints/.10/"
mv "$ARENA_RUN_FOLDER/checkpoints/.10" "$ARENA_RUN_FOLDER/checkpoints/10"
"""
PYTHON = """
import sys
from arena_core.training import Run

with Run() as run:
    run.log(run.seed, score=3.5)
    run.checkpoint(run.seed, sys.argv[1])
"""


def test_a_shell_script_trains(client, tmp_path):
    bundle = bundles.cartpole(tmp_path / "bundle", network=bundles.BALANCER)
    config = {
        "argv": ["sh", "-ec", SHELL, "train", str(bundle)],
        "env": {"FLAVOUR": "salt"},
    }
    view = trained(client, "command", config)
    assert view["status"] == "Succeeded", log_of(client, view["id"])
    (checkpoint,) = checkpoints(client, view["id"])
    assert checkpoint["step"] == 10
    assert checkpoint["training_score"] == 1.5
    assert checkpoint["evaluation_score"] == 2.5
    assert "with salt" in log_of(client, view["id"])


def test_a_python_script_trains_and_is_told_its_seed(client, tmp_path):
    bundle = bundles.cartpole(tmp_path / "bundle", network=bundles.BALANCER)
    script = tmp_path / "train.py"
    script.write_text(PYTHON)
    config = {"argv": [sys.executable, str(script), str(bundle)], "seed": 12}
    view = trained(client, "command", config)
    assert view["status"] == "Succeeded", log_of(client, view["id"])
    (checkpoint,) = checkpoints(client, view["id"])
    assert (checkpoint["step"], checkpoint["training_score"]) == (12, 3.5)
