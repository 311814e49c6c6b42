"""What every benchmark needs: a policy to serve, and what machine this is."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import numpy as np

import arena_core
from arena_core.entrypoints.demo.bundle import write_bundle
from arena_core.entrypoints.demo.network import Network, initialise, parameter_count
from arena_core.entrypoints.demo.ppo import Checkpoint

MEASURED = (
    "starlette",
    "uvicorn",
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "msgspec",
)


def write_policy(folder: Path) -> Path:
    """Write a bundle of an untrained MLP 4-64-64-2, with its golden trace."""
    random, sizes = np.random.default_rng(0), (4, 64, 64, 2)
    policy = Network(sizes, np.zeros(parameter_count(sizes), np.float32))
    initialise(policy, random, output_gain=1.0)
    observations = random.normal(size=(8, 4)).astype(np.float32)
    write_bundle(folder, Checkpoint(1, policy, 0.0, observations), seed=0)
    return folder


def record(arena: arena_core.Arena, bundle: Path) -> UUID:
    """Return a new experiment whose only checkpoint is `bundle`."""
    project = arena.projects.create("bench")
    experiment = arena.experiments.create(
        project.id,
        name="bench",
        algorithm="PPO",
        source=arena_core.gym("CartPole-v1"),
    )
    arena.experiments.add_checkpoint(experiment.id, step=1, path=bundle)
    return experiment.id


@contextmanager
def memory_backed_folder() -> Iterator[Path]:
    """Give a new folder, in memory where the system has such a place."""
    shared = Path("/dev/shm")  # noqa: S108 -- wanted for its speed, the folder is ours
    with TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


def describe() -> str:
    """Return machine and versions in one line."""
    versions = []
    for name in MEASURED:
        try:
            versions.append(f"{name} {version(name)}")
        except ModuleNotFoundError:
            continue
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )
