"""Stores for tests: filled without a server, and looked at without one."""

from pathlib import Path
from uuid import UUID

from attrs import frozen

import arena_core

from bundles import cartpole


@frozen
class Filled:
    """A store with one agent, `balancer`, that was never connected."""

    path: Path
    bundle: Path
    project: UUID
    experiment: UUID
    agent: UUID
    digest: str


def fill(path: Path) -> Filled:
    bundle = cartpole(path.parent / "bundle")
    with arena_core.open(path, serve=False) as arena:
        project = arena.projects.create("cartpole", kind="classic")
        experiment = arena.experiments.create(
            project.id,
            name="ppo",
            algorithm="PPO",
            source=arena_core.gym("CartPole-v1"),
        )
        written = arena.experiments.add_checkpoint(
            experiment.id, step=10, path=bundle, score=1.0, fitness=2.0
        )
        agent = arena.agents.create(
            "balancer", experiment.id, checkpoint=arena_core.best()
        )
    return Filled(path, bundle, project.id, experiment.id, agent.id, written.digest)
