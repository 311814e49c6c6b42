"""Whether imported agents play as they did where they were trained.

CartPole-v1 policies of Stable-Baselines3 and AgileRL are imported with one command
each, put live, and play over HTTP, episode by episode with the seeds with which the
library's own greedy loop had played them (`tests/checkpoints/*/make.py` recorded its
returns).  The difference of the means is given with its 95% bootstrap interval.

    python bench/fidelity.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from arena_core.entrypoints.play.report import sentence
from arena_core.entrypoints.play.statistics import compare, interval_of_mean

from machine import describe

CHECKPOINTS = Path(__file__).parents[1] / "tests" / "checkpoints"
SOURCES = {
    "Stable-Baselines3 PPO": ("sb3", "ppo_cartpole.zip"),
    "AgileRL PPO": ("agilerl", "ppo_cartpole.pt"),
}


def main() -> None:
    print(describe())
    print(
        "| policy | its library's own loop | over HTTP | difference | episodes alike |"
    )
    print("|---|---|---|---|---|")
    for name, (source, file) in SOURCES.items():
        with TemporaryDirectory() as folder:
            print(row(name, source, CHECKPOINTS / source / file, Path(folder)))


def row(name: str, source: str, file: Path, folder: Path) -> str:
    """Return how the policy in `file` plays, as a row of a table."""
    recorded = json.loads(file.with_name("ppo_cartpole_returns.json").read_text())
    seeds, theirs = recorded["seeds"], recorded["returns"]
    arena(
        folder, "checkpoint", "import", "--from", source, file, "--env", "CartPole-v1",
        "--agent", "balancer", "--connect", "--wait", 0,
    )  # fmt: skip
    played = json.loads(
        arena(
            folder, "agent", "play", "balancer", "--env", "CartPole-v1", "--json",
            "--seed", seeds[0], "--episodes", len(seeds),
        )
    )  # fmt: skip
    ours = played["agent"]["returns"]
    said = compare(ours, theirs)
    alike = sum(a == b for a, b in zip(ours, theirs, strict=True))
    print(f"{name}: {sentence('HTTP', 'the library', said)}", file=sys.stderr)
    return (
        f"| {name} | {mean(theirs)} | {mean(ours)} | {spread(said.difference, said)} "
        f"| {alike} of {len(seeds)} |"
    )


def mean(returns: list[float]) -> str:
    interval = interval_of_mean(returns)
    assert interval is not None
    average = sum(returns) / len(returns)
    return f"{average:.1f} ({interval.low:.1f} to {interval.high:.1f})"


def spread(value: float, said: Any) -> str:  # noqa: ANN401 -- a Comparison
    low, high = said.interval.low, said.interval.high
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def arena(folder: Path, *words: object) -> str:
    """Run `arena-core` with a store in `folder`; return what it prints."""
    environment = {**os.environ, "ARENA_STORE": str(folder / "arena.db")}
    done = subprocess.run(
        [sys.executable, "-m", "arena_core", *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
