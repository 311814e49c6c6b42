"""What tables of events say of each event beyond its name."""

from pathlib import Path

import pytest

from arena_core.adapters.codec import decode
from arena_core.entrypoints.cli.changes import told

BODIES = sorted((Path(__file__).parents[1] / "history" / "bodies").glob("*.json"))


def stored(path: Path) -> object:
    name, _, version = path.stem.partition("@")
    return decode(name, int(version), path.read_bytes())


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_whatever_says_why_is_told_with_it(path):
    event = stored(path)
    words = told(event)
    reason = getattr(event, "reason", None)
    assert words or words is None
    if reason:
        assert reason in words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("experiment.checkpoint_written@2", "step {step} ({digest:.12})"),
        ("experiment.checkpoint_deleted@1", "step {step} ({digest:.12})"),
        ("agent.checkpoint_frozen@1", "{checkpoint.type.value} at step "),
        ("stage.triggered@1", "run {number}, {cause.value}"),
        ("stage.checkpoint_consumed@1", "step {consumed.product.step} ("),
        ("stage.condition_checked@1", "{finding}"),
    ],
)
def test_it_says_which_checkpoint_and_which_run_it_is_about(name, said):
    (path,) = (path for path in BODIES if path.stem == name)
    event = stored(path)
    values = {n: getattr(event, n) for n in dir(event) if not n.startswith("_")}
    assert told(event).startswith(said.format(**values))
