"""The pages that say how to add something work: this does what they say."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.py)\n")


@pytest.fixture
def tree(tmp_path):
    """Return a copy of the project, in which a page can be followed."""
    for folder in ("src", "tests"):
        shutil.copytree(
            ROOT / folder,
            tmp_path / folder,
            ignore=shutil.ignore_patterns("__pycache__", "checkpoints", "end_to_end"),
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def follow(page: str, tree: Path, registry: str, before: str) -> list[Path]:
    """Write the files that a page shows; put its one line in before `before`."""
    written = []
    text = (ROOT / "docs" / "how-to" / page).read_text()
    for block in BLOCK.findall(text):
        named = FILE.match(block)
        if named:
            written.append(tree / named[1])
            written[-1].write_text(block[named.end() :])
        else:
            place = tree / registry
            parts = place.read_text().partition(before)
            assert parts[1], f"{before!r} is not in {registry} any more"
            place.write_text(parts[0] + block + parts[1] + parts[2])
    assert len(written) == 2, "the file and its contract"
    return written


def run(tree: Path, *words: object) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=tree,
        env={"PYTHONPATH": f"{tree / 'src'}:{tree / 'tests'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


LIVE = """
import json, sys
from pathlib import Path
import numpy as np
import arena_core
from arena_core.application import npy

assert arena_core.__file__.startswith(sys.argv[1])
bundle = Path("bundle")
bundle.mkdir()
(bundle / "policy.npy").write_bytes(npy.encode(np.eye(4, 2, dtype="float32")))
tensor = {"dtype": "float32"}
(bundle / "checkpoint.json").write_text(json.dumps({
    "format_version": 1, "algorithm": "PPO", "family": "rl",
    "framework": {"name": "numpy", "version": "2"}, "weights": "policy.npy",
    "head": "logits", "action_space": {"type": "Discrete", "n": 2},
    "observation_space": {"type": "Box", "shape": [4], **tensor,
                          "low": None, "high": None},
    "signature": {"inputs": [{"name": "obs", "shape": [None, 4], **tensor}],
                  "outputs": [{"name": "logits", "shape": [None, 2], **tensor}]},
}))
with arena_core.open("memory:") as arena:
    project = arena.projects.create("p")
    made = arena.experiments.create(project.id, name="e", algorithm="PPO")
    arena.experiments.add_checkpoint(made.id, step=1, path=bundle)
    agent = arena.agents.create("a", made.id, checkpoint=arena_core.final())
    assert arena.agents.connect(agent.id).deployment.connected
    assert arena.inference(agent.id).get_action([0.0, 1.0, 0.0, 0.0]) == 1
"""


@pytest.mark.slow
def test_a_runtime_is_one_file_one_registration_and_one_contract(tree):
    registry = "src/arena_core/entrypoints/runtimes.py"
    _, contract = follow("add-a-runtime.md", tree, registry, '            ".onnx":')
    table = tree / registry
    imported = "from arena_core.adapters.runtimes import matrix\n"
    table.write_text(
        table.read_text().replace("from arena_core", imported + "from arena_core", 1)
    )
    run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", contract)
    run(tree, "-c", LIVE, tree)


@pytest.mark.slow
def test_a_converter_is_one_file_one_registration_and_one_contract(tree):
    registry = "src/arena_core/application/conversion.py"
    converter, contract = follow(
        "add-a-converter.md", tree, registry, '    SB3 = "sb3"\n'
    )
    assert converter.stem == "text"
    run(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", contract)
    model = tree / "policy.txt"
    model.write_text("-0.05 0.05\n-0.1 0.1\n-1.0 1.0\n-0.5 0.5\n")
    words = ["-m", "arena_core", "checkpoint", "import", "--from", "text", model]
    run(tree, *words, "--out", tree / "bundle")
    run(tree, "-m", "arena_core", "checkpoint", "inspect", tree / "bundle")
