"""`arena-core checkpoint import`: one command from a file to a live agent."""

import json
import os
import time
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

import arena_core
from arena_core import ArenaError, Conflict, NotFound, Rejected
from arena_core.application.conversion import Format, Options
from arena_core.domain.values import ProjectKind
from arena_core.entrypoints import wiring
from arena_core.entrypoints.cli.main import cli as root
from unit.workers import Converter

import bundles

FOREIGN = b"\x80\x04 what training has saved"
Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("ARENA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def converter(monkeypatch):
    converter = Converter()
    monkeypatch.setattr(wiring, "converter", lambda: converter)
    return converter


@pytest.fixture
def store(tmp_path):
    return tmp_path / "arena.db"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ppo_cartpole.zip"
    path.write_bytes(FOREIGN)
    return path


@pytest.fixture
def cli(converter, store, file):
    """Return what imports `file` into `store` with further options."""
    del converter

    def run(*options: object, of: str = "sb3") -> Result:
        words = ["checkpoint", "import", "--from", of, file, *options]
        if "--out" not in options:
            words += ["--store", store]
        return CliRunner().invoke(root, [str(word) for word in words])

    return run


def ok(result: Result) -> str:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(result: Result, error: type[ArenaError], match: str) -> None:
    assert type(result.exception) is error, result.output
    assert match in str(result.exception)
    assert result.stdout == ""


def misused(result: Result, match: str) -> None:
    assert result.exit_code == 2
    assert match in " ".join(result.stderr.split())


def opened(store):
    return arena_core.open(store, serve=False)


def with_provenance(**said):
    """Return what writes a bundle that says where it comes from."""

    def write(folder):
        bundles.cartpole(folder)
        described = {**bundles.manifest(folder), "provenance": said}
        bundles.write_manifest(folder, described)

    return write


# --- recorded ----------------------------------------------------------------------


def test_a_file_becomes_a_checkpoint_of_an_experiment_with_its_name(cli, store):
    printed = ok(cli())
    with opened(store) as arena:
        (project,) = arena.projects.list()
        (experiment,) = arena.experiments.list()
        (checkpoint,) = arena.experiments.checkpoints(experiment.id)
        actors = {event.actor for event in arena.audit.log()}
    assert (project.name, project.kind) == ("imported", ProjectKind.CLASSIC)
    assert (experiment.name, experiment.algorithm) == ("ppo_cartpole", "PPO")
    assert checkpoint.step == 0
    assert checkpoint.digest in printed
    assert "step:       0\n" in printed
    assert "parity:     passed (24 values)\n" in printed
    assert f"experiment: ppo_cartpole ({experiment.id})" in printed
    assert len(actors) == 1
    assert next(iter(actors)).startswith("operator:")


def test_the_converter_is_given_all_that_is_said(cli, converter, tmp_path):
    beside = {"spaces": b"{}", "statistics": b"s", "golden": b"g"}
    options = []
    for name, content in beside.items():
        (tmp_path / name).write_bytes(content)
        options += [f"--{name}", tmp_path / name]
    ok(cli(*options, "--algorithm", "CQN", "--channels-last", of="agilerl"))
    files = {
        "model": FOREIGN, "spaces.json": b"{}", "statistics": b"s", "golden.npz": b"g",
    }  # fmt: skip
    options = Options("CQN", channels_last=True)
    assert converter.orders == [(Format.AGILERL, files, options)]


def test_step_scores_and_environment_are_recorded(cli, store):
    said = ("--step", 7, "--score", 1.5, "--fitness", 2.5, "--env", "CartPole-v1")
    printed = json.loads(
        ok(cli(*said, "--project", "carts", "--name", "ppo", "--json"))
    )
    with opened(store) as arena:
        (experiment,) = arena.experiments.list(name="ppo")
        (checkpoint,) = arena.experiments.checkpoints(experiment.id)
        assert arena.projects.get(experiment.project_id).name == "carts"
    assert experiment.source == arena_core.gym("CartPole-v1")
    scores = (checkpoint.step, checkpoint.training_score, checkpoint.evaluation_score)
    assert scores == (7, 1.5, 2.5)
    assert printed["digest"] == checkpoint.digest
    assert (printed["step"], printed["algorithm"], printed["family"]) == (
        7,
        "PPO",
        "rl",
    )
    assert printed["parity"]["verdict"] == "passed"
    assert printed["experiment_id"] == str(experiment.id)
    assert (printed["agent"], printed["bundle"]) == (None, None)


@pytest.mark.parametrize(
    ("said", "step"),
    [
        ({"step": 20_000}, 20_000),
        ({"step": None}, 0),
        ({"step": "many"}, 0),
        ({"step": True}, 0),
        ({}, 0),
    ],
)
def test_the_step_is_what_the_file_says_if_nobody_says_it(cli, converter, said, step):
    converter.write = with_provenance(**said)
    assert json.loads(ok(cli("--json")))["step"] == step
    assert json.loads(ok(cli("--json", "--step", 50)))["step"] == 50


def test_the_same_file_again_changes_nothing(cli, store):
    first = ok(cli())
    with opened(store) as arena:
        before = arena.application.core.store.head()
    assert ok(cli()) == first
    with opened(store) as arena:
        assert arena.application.core.store.head() == before


def test_the_next_step_goes_into_the_same_experiment(cli, store):
    ok(cli("--step", 1))
    ok(cli("--step", 2))
    with opened(store) as arena:
        (experiment,) = arena.experiments.list()
        steps = [c.step for c in arena.experiments.checkpoints(experiment.id)]
        named = ("--experiment", experiment.name, "--step", 3)
        by_id = ("--experiment", experiment.id, "--step", 4)
    assert steps == [1, 2]
    for words in (named, by_id):
        ok(cli(*words))
    with opened(store) as arena:
        assert len(arena.experiments.checkpoints(experiment.id)) == 4


def test_a_project_may_be_named_by_its_id(cli, store):
    with opened(store) as arena:
        project = arena.projects.create("carts")
    ok(cli("--project", project.id))
    with opened(store) as arena:
        assert len(arena.experiments.list(project_id=project.id)) == 1


def test_what_predicts_gets_a_project_of_the_other_kind(cli, converter, store):
    converter.write = bundles.regressor
    ok(cli())
    with opened(store) as arena:
        (project,) = arena.projects.list()
    assert project.kind is ProjectKind.ADVANCED


def test_nobody_waits_for_a_server_that_does_not_run(cli, store):
    began = time.monotonic()
    printed = ok(cli("--agent", "balancer", "--connect", "--wait", 60))
    assert time.monotonic() - began < 30
    assert "agent:      balancer is Pending\n" in printed
    assert "arena-core serve" in printed
    with opened(store) as arena:
        (agent,) = arena.agents.list()
    assert (agent.name, agent.checkpoint.step) == ("balancer", 0)


def test_an_agent_is_not_connected_unless_it_is_asked_for(cli, store):
    assert "agent:      balancer is Undeployed\n" in ok(cli("--agent", "balancer"))
    with opened(store) as arena:
        (agent,) = arena.agents.list()
    assert agent.deployment.status.value == "Undeployed"


def test_one_command_takes_a_file_to_an_agent_that_answers(cli, store):
    with arena_core.open(store) as arena:
        printed = ok(cli("--env", "CartPole-v1", "--agent", "balancer", "--connect"))
        assert "agent:      balancer is Deployed\n" in printed
        (agent,) = arena.agents.list()
        assert arena.inference(agent.id).get_action([0.0] * 4) in (0, 1)


# --- only converted ----------------------------------------------------------------


def test_only_a_bundle_is_written_if_that_is_asked_for(cli, tmp_path):
    out = tmp_path / "new" / "bundle"
    printed = json.loads(ok(cli("--out", out, "--json")))
    assert printed["bundle"] == str(out)
    assert {path.name for path in out.iterdir()} == {
        "checkpoint.json", "policy.onnx", "golden.npz",
    }  # fmt: skip
    assert not (tmp_path / "data").exists(), "no store is touched"
    inspected = CliRunner().invoke(root, ["checkpoint", "inspect", str(out)])
    assert json.loads(inspected.stdout)["digest"] == printed["digest"]
    assert f"bundle:     {tmp_path / 'x'}\n" in ok(cli("--out", tmp_path / "x"))


def test_a_folder_that_is_there_is_not_written_into(cli, converter, tmp_path):
    refused(cli("--out", tmp_path), Rejected, "there already")
    assert converter.orders == []


# --- refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--connect",), "name it with --agent"),
        (("--out", "x", "--agent", "a"), "nothing is recorded"),
        (("--out", "x", "--name", "a"), "nothing is recorded"),
        (("--out", "x", "--step", 0), "nothing is recorded"),
        (("--out", "x", "--score", 1), "nothing is recorded"),
        (("--out", "x", "--fitness", 1), "nothing is recorded"),
        (("--experiment", "e", "--env", "CartPole-v1"), "of a new experiment"),
        (("--experiment", "e", "--project", "p"), "of a new experiment"),
        (("--step", "-1"), "-1 is not in the range"),
    ],
)
def test_what_contradicts_itself_is_refused(cli, converter, store, options, match):
    misused(cli(*options), match)
    assert converter.orders == []
    assert not store.exists()


def test_a_format_that_is_not_known_is_refused(cli):
    misused(cli(of="theano"), "'theano' is not one of")


def test_nothing_is_recorded_of_what_cannot_be_converted(cli, converter, store):
    def refuse(_):
        raise Rejected("It is a TorchScript archive: export it to ONNX.")

    converter.during = refuse
    refused(cli(), Rejected, "TorchScript")
    assert not store.exists()


def test_nothing_is_recorded_of_what_answers_otherwise_than_trained(
    cli, converter, store, tmp_path
):
    def swapped(folder):
        bundles.cartpole(folder)
        bundles.write_weights(folder, bundles.CARTPOLE.swapped())

    converter.write = swapped
    refused(cli(), Rejected, "case0")
    assert not store.exists()
    out = tmp_path / "bundle"
    refused(cli("--out", out), Rejected, "case0")
    assert not out.exists(), "nobody can take it for a bundle"


def test_an_experiment_that_is_not_there_is_refused(cli, store):
    refused(cli("--experiment", "nobody's"), NotFound, "no store at this place")
    assert not store.exists(), "a slip in its name makes none"
    ok(cli())
    refused(cli("--experiment", "nobody's"), NotFound, "no experiment called nobody's")


def test_a_name_that_fits_several_is_refused_with_their_ids(cli, store):
    with opened(store) as arena:
        project = arena.projects.create("carts")
        made = [
            arena.experiments.create(project.id, name="ppo", algorithm="PPO")
            for _ in range(2)
        ]
    result = cli("--experiment", "ppo")
    assert "2 experiments are called ppo" in str(result.exception)
    assert all(str(experiment.id) in str(result.exception) for experiment in made)


def test_another_algorithm_is_no_next_step(cli, store):
    with opened(store) as arena:
        project = arena.projects.create("imported")
        arena.experiments.create(project.id, name="ppo_cartpole", algorithm="DQN")
    for words in ((), ("--experiment", "ppo_cartpole")):
        refused(cli(*words), Conflict, "is of the algorithm DQN")


def test_a_file_of_the_same_name_from_another_environment_is_no_next_step(cli):
    ok(cli("--env", "CartPole-v1"))
    refused(
        cli("--env", "Acrobot-v1", "--step", 1),
        Conflict,
        "of CartPole-v1 and not of Acrobot",
    )
    ok(cli("--env", "CartPole-v1", "--step", 1))
    ok(cli("--env", "Acrobot-v1", "--name", "acrobot"))


def test_an_environment_is_not_said_afterwards(cli):
    ok(cli())
    again = cli("--env", "CartPole-v1")
    refused(again, Conflict, "of no environment that is known and not of CartPole-v1")


def test_the_same_file_again_makes_no_second_agent(cli, store):
    words = ("--agent", "balancer", "--connect")
    assert ok(cli(*words)) == ok(cli(*words))
    with opened(store) as arena:
        assert len(arena.agents.list()) == 1


def test_an_agent_of_another_checkpoint_keeps_its_name(cli, converter, store):
    ok(cli("--agent", "balancer"))
    converter.write = with_provenance(step=5)
    refused(cli("--agent", "balancer"), Conflict, "choose another name with --agent")
    with opened(store) as arena:
        (experiment,) = arena.experiments.list()
        (kept,) = arena.experiments.checkpoints(experiment.id)
    assert kept.step == 0, "nothing of what was refused"


# --- while it goes on --------------------------------------------------------------


def test_whoever_looks_sees_what_is_being_done(cli, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = cli()
    assert result.exit_code == 0
    assert "reading the weights" in result.stderr or "checking" in result.stderr
    assert "reading" not in result.stdout
