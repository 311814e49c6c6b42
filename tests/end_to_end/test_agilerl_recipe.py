"""A manifest that the public client submits is trained by AgileRL, and goes live.

AgileRL is in an environment of its own, of several gigabytes: with ARENA_TEST_AGILERL
set to 1, as `make nightly` does it.
"""

import os
from pathlib import Path

import pytest

from end_to_end.arena_platform import Platform, a_name
from end_to_end.arena_users import returned
from end_to_end.environments import ROOT, environment
from end_to_end.processes import Place, eventually, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("ARENA_TEST_AGILERL") != "1",
        reason="AgileRL takes gigabytes: set ARENA_TEST_AGILERL to 1",
    ),
    pytest.mark.timeout(1800),
]
AGILERL = "agilerl==2.58.0"
PINS = Path(__file__).parent / "clients" / "agilerl.txt"
TRAINING_S = 600.0
ENDED = ("Succeeded", "Stopped", "Failed")
PPO = """
algorithm:
  name: PPO
  lr: 0.001
  learn_step: 128
environment:
  name: CartPole-v1
  num_envs: 4
training:
  max_steps: 4000
  evo_steps: 1000
network:
  latent_dim: 32
  encoder_config:
    hidden_size: [64]
  head_config:
    hidden_size: [64]
"""
HPO = """
mutation:
  probabilities:
    {no_mut: 0.4, arch_mut: 0.2, new_layer: 0.2, params_mut: 0.2, rl_hp_mut: 0.2}
  rl_hp_selection:
    lr: {min: 0.0001, max: 0.01}
tournament_selection:
  tournament_size: 2
  elitism: true
"""


@pytest.fixture(scope="session")
def agilerl():
    ours = ("--editable", f"{ROOT}[agilerl]")
    return environment(AGILERL, constraints=(PINS,), companions=ours)


@pytest.fixture(scope="session")
def platform(agilerl, tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("server"))
    with serving(place, environ={"ARENA_AGILERL_PYTHON": str(agilerl)}) as process:
        yield Platform(process, process.client())


@pytest.fixture(scope="session")
def token(platform):
    return platform.token()


def ended(platform, name):
    """Return the experiment when its training is over."""
    at = f"/api/v1/experiments/{platform.id_of(name)}"

    def look():
        view = platform.control.get(at)
        return view if view["status"] in ENDED else None

    view = eventually(look, what="the training is over", timeout_s=TRAINING_S)
    return view, "\n".join(platform.control.get(f"{at}/log")["lines"])


def submitted(user, tmp_path, manifest, **said):
    name = a_name("run")
    file = tmp_path / "manifest.yaml"
    file.write_text(manifest)
    returned(user("submit_experiment", str(file), experiment_name=name, **said))
    return name


def test_cartpole_is_trained_by_a_manifest_and_goes_live(platform, user, tmp_path):
    project = platform.project()
    name = submitted(user, tmp_path, PPO, project=project)
    view, log = ended(platform, name)
    assert view["status"] == "Succeeded", log
    rows = returned(user("list_checkpoints", name))
    assert max(row["steps"] for row in rows) >= 4000
    assert all(row["evaluation_score"] for row in rows)
    assert returned(user("deploy_agent", name))
    platform.deployed(name)
    key = platform.row(name)["api_key"]
    if user.version != "0.1.3":
        key = user.environ["ARENA_API_KEY"]
    played = user.client("play", url=platform.row(name)["url"], key=key, seed=3)
    assert played["return"] >= 1
    deployed = platform.control.get(f"/api/v1/agents/{platform.agent_of(name)}")
    assert deployed["deployment"]["parity"]["verdict"] == "passed"


def test_a_training_goes_on_where_it_ended(platform, user, tmp_path):
    name = submitted(user, tmp_path, PPO, project=platform.project())
    ended(platform, name)
    returned(user("resume_experiment", name, max_steps=6000))
    view, log = ended(platform, name)
    assert view["status"] == "Succeeded", log
    steps = [row["steps"] for row in returned(user("list_checkpoints", name))]
    assert max(steps) >= 6000
    assert len([step for step in steps if step <= 4200]) >= 1


def test_a_population_evolves(platform, user, tmp_path):
    manifest = PPO.replace("training:", "training:\n  pop_size: 2") + HPO
    name = submitted(user, tmp_path, manifest, project=platform.project())
    view, log = ended(platform, name)
    assert view["status"] == "Succeeded", log
    assert returned(user("list_checkpoints", name))
