"""Every runnable block of docs/command-line.md, in its order, as a user types it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest

from arena_core.entrypoints.cli.main import cli as root

from end_to_end.environments import ROOT

pytestmark = pytest.mark.slow
PAGE = ROOT / "docs" / "command-line.md"
RUNNABLE = re.compile(r"^```sh runnable\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TOML = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TABLE = re.compile(
    r"^\| `arena-core (\w+)` \|(.*?)(?:\n\n|\Z)", re.DOTALL | re.MULTILINE
)
TRAINING_S = 240.0


def page():
    return PAGE.read_text(encoding="utf-8")


def test_the_page_leads_from_an_empty_store_to_an_agent_that_plays(tmp_path):
    ours = Path(sys.executable).parent
    ran = subprocess.run(
        ["sh", "-eu", "-c", "".join(RUNNABLE.findall(page()))],
        cwd=tmp_path,
        env={
            "PATH": f"{ours}{os.pathsep}{os.environ['PATH']}",
            "ARENA_STORE": str(tmp_path / "arena.db"),
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=TRAINING_S,
        check=False,
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    assert re.search(
        r"^\S+ \S+Z  3 pole: Succeeded; put live \w{12}", ran.stdout, re.MULTILINE
    )
    assert "pole" in ran.stdout.split("MEAN RETURN")[1]
    (shown,) = TOML.findall(page())
    assert tomllib.loads((tmp_path / "cartpole.toml").read_text()) == tomllib.loads(
        shown
    )
    assert ET.parse(tmp_path / "cartpole.svg").getroot().tag.endswith("svg")  # noqa: S314 -- our own


@pytest.mark.parametrize("group", ["agent", "experiment", "pipeline"])
def test_the_page_names_every_command(group):
    told = dict(TABLE.findall(page()))[group]
    rows = [row.split("|")[1] for row in told.splitlines() if row.startswith("|")]
    named = set(re.findall(r"`([\w-]+)", "\n".join(rows)))
    command = root.get_command(click.Context(root), group)
    assert set(command.commands) <= named
