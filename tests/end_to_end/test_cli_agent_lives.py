"""`agent create`, `delete` and `restore` as a user types them."""

import json

import pytest
from click.testing import CliRunner

import arena_core
from arena_core.entrypoints.cli.main import cli as root

import bundles
from end_to_end.processes import Place, run, serving
from end_to_end.stores import fill

SECOND = bundles.CARTPOLE.swapped()


@pytest.fixture
def filled(tmp_path):
    """A store with an experiment: the later of its two checkpoints is the worse one."""
    filled = fill(tmp_path / "arena.db")
    folder = bundles.cartpole(tmp_path / "second", network=SECOND)
    with arena_core.open(filled.path, serve=False) as arena:
        arena.experiments.add_checkpoint(filled.experiment, step=20, path=folder)
    return filled


def ended(filled, *words, typed=None):
    command = ["agent", *words, "--store", str(filled.path)]
    return CliRunner().invoke(root, command, input=typed)


def said(filled, *words):
    result = ended(filled, *words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    ("checkpoint", "told"),
    [
        ([], "best at step 10"),
        (["--checkpoint", "final"], "final at step 20"),
        (["--checkpoint", "20"], "specific at step 20"),
    ],
)
def test_an_agent_is_frozen_of_the_checkpoint_that_is_named(filled, checkpoint, told):
    output = said(
        filled, "create", "pole", "--experiment", str(filled.experiment), *checkpoint,
        "--description", "for the hall",
    )  # fmt: skip
    assert output.startswith(f"pole: Undeployed, {told} (")
    made = json.loads(said(filled, "show", "pole"))
    assert made["id"] in output
    assert made["description"] == "for the hall"


def test_what_was_frozen_is_described_for_programs(filled):
    words = ("create", "pole", "--experiment", str(filled.experiment), "--json")
    made = json.loads(said(filled, *words))
    assert made == json.loads(said(filled, "show", "pole"))


@pytest.mark.slow
def test_an_agent_is_put_live_at_once_if_that_is_asked(filled):
    create = ("create", "pole", "--experiment", str(filled.experiment), "--connect")
    with serving(Place(filled.path.parent)):
        assert said(filled, *create).startswith("pole: Deployed, best at step 10 (")


def test_who_puts_one_live_that_nobody_serves_is_told_what_to_do(filled):
    create = ("create", "pole", "--experiment", str(filled.experiment), "--connect")
    output = said(filled, *create)
    assert output.startswith("pole: Pending, ")
    assert "arena-core serve" in output


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["pole", "--experiment", "nothing"], "no experiment called"),
        (["balancer", "--experiment", "{}"], "already"),
        (["pole", "--experiment", "{}", "--checkpoint", "newest"], "best, final or"),
        (["pole", "--experiment", "{}", "--checkpoint", "7"], "10, 20"),
        ([" ", "--experiment", "{}"], "name"),
    ],
)
def test_a_bad_order_is_refused_with_one_sentence_and_makes_nothing(
    filled, words, match
):
    words = [word.format(filled.experiment) for word in words]
    refused = run("agent", "create", *words, "--store", filled.path)
    assert refused.returncode == 1
    assert match in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert len(json.loads(said(filled, "list", "--json"))) == 1


def test_what_was_deleted_comes_back_with_the_command_that_is_told(filled):
    told = said(filled, "delete", "balancer", "--yes", "--reason", "not needed")
    assert told.startswith("Deleted balancer.\n")
    assert json.loads(said(filled, "list", "--json")) == []
    again = told.split("arena-core agent ")[1].split()
    assert again == ["restore", str(filled.agent)]
    assert said(filled, *again).startswith("balancer: Undeployed, best at step 10 (")
    assert len(json.loads(said(filled, "list", "--json"))) == 1
    audit = run("audit", "show", "balancer", "--store", filled.path).stdout
    assert "not needed" in audit


def test_nothing_is_deleted_unless_the_question_is_answered(filled):
    assert ended(filled, "delete", "balancer", typed="n\n").exit_code == 1
    assert len(json.loads(said(filled, "list", "--json"))) == 1


def test_to_restore_what_is_there_changes_nothing(filled):
    before = said(filled, "show", "balancer")
    said(filled, "restore", str(filled.agent))
    assert said(filled, "show", "balancer") == before


def test_what_was_never_there_cannot_be_restored(filled):
    refused = run("agent", "restore", filled.experiment, "--store", filled.path)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
