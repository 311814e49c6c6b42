"""`agent redeploy` and `rollback` as a user types them, and the audit of them."""

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
    """A store with an agent of the first of two checkpoints."""
    filled = fill(tmp_path / "arena.db")
    folder = bundles.cartpole(tmp_path / "second", network=SECOND)
    with arena_core.open(filled.path, serve=False) as arena:
        arena.experiments.add_checkpoint(filled.experiment, step=20, path=folder)
    return filled


def said(filled, *words, status=0):
    """Return what a command says, which ends with `status`."""
    command = ["agent", *words, "--store", str(filled.path)]
    result = CliRunner().invoke(root, command)
    assert result.exit_code == status, result.output
    return result.output


def test_what_is_not_live_is_replaced_and_rolled_back_at_once(filled):
    told = said(filled, "redeploy", "balancer", "--checkpoint", "final")
    assert told.startswith("balancer: Undeployed, final at step 20 (")
    told = said(filled, "rollback", "balancer", "--reason", "too early")
    assert told.startswith("balancer: Undeployed, best at step 10 (")
    told = said(filled, "redeploy", "balancer", "--checkpoint", "20")
    assert told.startswith("balancer: Undeployed, specific at step 20 (")
    told = said(filled, "rollback", "balancer", "--to", filled.digest)
    assert filled.digest[:12] in told


def test_the_beginning_of_a_digest_says_what_to_go_back_to(filled):
    said(filled, "redeploy", "balancer", "--checkpoint", "final")
    told = said(filled, "rollback", "balancer", "--to", filled.digest[:12])
    assert told.startswith("balancer: Undeployed, best at step 10 (")


@pytest.mark.parametrize("digest", ["", "0" * 12])
def test_what_begins_no_earlier_digest_is_refused(filled, digest):
    said(filled, "redeploy", "balancer", "--checkpoint", "final")
    words = ["agent", "rollback", "balancer", "--to", digest, "--store", filled.path]
    assert "never had a checkpoint" in run(*words).stderr


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--checkpoint", "newest"], "best, final or the step"),
        (["--checkpoint", "final", "--max-p99-ms", "5"], "A limit needs --bake"),
        (["--checkpoint", "final", "--bake", "5"], "guard has no limit"),
        (
            ["--checkpoint", "final", "--bake", "5", "--max-error-rate", "2"],
            "error_rate must be a number from 0 to 1",
        ),
        (["--checkpoint", "final", "--shadow", "0"], "bake_s must be greater than 0"),
        (["--checkpoint", "final", "--shadow", "5"], "nothing to compare with"),
    ],
)
def test_a_bad_order_is_refused_with_one_sentence(filled, options, match):
    words = ["agent", "redeploy", "balancer", *options, "--store", filled.path]
    refused = run(*words)
    assert refused.returncode != 0
    assert match in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_swap_of_what_a_server_serves_is_told_to_its_end(filled):
    with serving(Place(filled.path.parent)):
        assert said(filled, "connect", "balancer") == "balancer: Deployed\n"
        told = said(
            filled, "redeploy", "balancer", "--checkpoint", "final", "--bake", "600",
            "--max-action-shift", "0.2", "--reason", "longer training",
        )  # fmt: skip
        assert told.startswith("balancer: Deployed, final at step 20 (")
        assert ": baking until 20" in told
        told = said(filled, "rollback", "balancer", "--reason", "it falls over")
        assert "best at step 10" in told
        assert "it answers now" in told
        told = said(
            filled, "redeploy", "balancer", "--checkpoint", "20", "--shadow", "600"
        )
        assert told.splitlines()[1].startswith("shadow ")
    audit = run("audit", "show", "balancer", "--store", filled.path).stdout
    for told in (
        "longer training; redeploy to final at step 20",
        "for 600 s",
        "action_shift <= 0.2",
        "it falls over; rollback to best at step 10",
        f"to {filled.digest[:12]}",
        "as a shadow for 600 s",
    ):
        assert told in audit


@pytest.mark.slow
def test_a_swap_that_fails_says_why_and_ends_with_status_1(filled, tmp_path):
    wrong = bundles.cartpole(tmp_path / "wrong", network=SECOND)
    bundles.write_weights(wrong, bundles.CARTPOLE)
    with arena_core.open(filled.path, serve=False) as arena:
        arena.experiments.add_checkpoint(filled.experiment, step=30, path=wrong)
    with serving(Place(filled.path.parent)):
        said(filled, "connect", "balancer")
        told = said(filled, "redeploy", "balancer", "--checkpoint", "30", status=1)
    assert told.startswith("balancer: Deployed, best at step 10 (")
    assert "it failed, and nothing has changed" in told
