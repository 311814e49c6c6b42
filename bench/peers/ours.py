"""The project's own server, with one agent that is Deployed."""

import sys
from pathlib import Path

import arena_core

from machine import record
from peers.forms import OBJECT
from peers.server import Launch
from peers.workloads import Workload

UNBATCHED = {"ARENA_MAX_BATCH": "1"}


def ours(
    folder: Path, workload: Workload, *, name: str = "ours", inline: bool = False
) -> Launch:
    """Return how to start it on a new store in `folder`, which is made for it."""
    folder.mkdir()
    store = folder / "arena.db"
    deployment, key = put_live(store, workload.bundle)
    options = ["--port", "{port}", "--token-file", str(folder / "token")]
    return Launch(
        name,
        [sys.executable, "-m", "arena_core", "serve", "--store", str(store), *options],
        f"/inference/{deployment}/get_action",
        OBJECT,
        {"Authorization": f"Bearer {key}"},
        UNBATCHED if inline else {},
    )


def put_live(store: Path, bundle: Path) -> tuple[str, str]:
    """Return the deployment of a new agent, and its key."""
    with arena_core.open(store) as arena:
        experiment = record(arena, bundle)
        agent = arena.agents.create("bench", experiment, checkpoint=arena_core.final())
        deployment = arena.agents.connect(agent.id).deployment
        assert deployment is not None
        assert deployment.connected, deployment.reason
        return str(deployment.id), arena.agents.access(agent.id).api_key
