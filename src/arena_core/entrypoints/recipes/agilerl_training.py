"""Training with AgileRL, by the manifest that its client submits."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from agilerl.arena.models import TrainingManifest
from agilerl.training.trainer import LocalTrainer
from gymnasium.vector import VectorEnv
from pydantic import ValidationError

from arena_core.application.conversion import MODEL_FILE
from arena_core.application.recipe_settings import Agilerl
from arena_core.domain.errors import Rejected
from arena_core.domain.values import shown
from arena_core.entrypoints.recipes.agilerl_checkpoints import Checkpoints
from arena_core.entrypoints.recipes.agilerl_watching import (
    Mutation,
    Returns,
    Selection,
    Stopped,
)
from arena_core.entrypoints.recipes.schedules import settings_of
from arena_core.training import Run

TENTHS = 10
_OF_ENVIRONMENT = ("num_envs", "vect_noise_dim")
"""Settings of an algorithm that its environment decides."""


def train(run: Run) -> None:
    """Train what the run orders.  Raises `Rejected` for what cannot be trained."""
    settings = settings_of(run, Agilerl)
    _seed(run.seed + run.first_step)
    manifest = _manifest(settings.manifest)
    last = _last(run, manifest)
    manifest.training.max_steps = last
    run.total(last)
    trainer = _trainer(run, manifest, settings.device)
    checkpoints = _watched(run, trainer, settings.checkpoint_every or last // TENTHS)
    try:
        trainer.train(verbose=False)
    except Stopped:
        pass
    except Exception:
        # Its environments are processes, which may have been ended before it.
        if not run.should_stop:
            raise
    finally:
        trainer.close()
    checkpoints.write_last()


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 -- AgileRL draws from it
    torch.manual_seed(seed)
    torch.set_num_threads(1)


def _manifest(manifest: Mapping[str, Any]) -> TrainingManifest:
    try:
        return TrainingManifest.get_validated(_of_today(manifest), mode="python")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Rejected(
            f"AgileRL does not understand the manifest: correct {shown(place)} "
            f"({shown(first['msg'])}).",
            field=f"config.manifest.{shown(place)}",
        ) from error


def _of_today(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest without what older clients fill in, and contradicts it."""
    algorithm, environment = manifest.get("algorithm"), manifest.get("environment")
    if not isinstance(algorithm, dict) or not isinstance(environment, dict):
        return dict(manifest)
    left_out = _OF_ENVIRONMENT if "num_envs" in environment else ()
    kept = {name: it for name, it in algorithm.items() if name not in left_out}
    return {**manifest, "algorithm": kept}


def _last(run: Run, manifest: TrainingManifest) -> int:
    """Return the last step.  What has made them all makes as many again."""
    total = int(manifest.training.max_steps)
    last = run.max_steps or total
    return last if last > run.first_step else run.first_step + total


def _trainer(run: Run, manifest: TrainingManifest, device: str) -> LocalTrainer:
    if run.start is not None:
        raise Rejected(
            "AgileRL cannot begin with the weights of another training: begin from "
            "scratch, or resume the experiment that has them.",
            field="start",
        )
    given = {"device": _device(device)}
    if run.resume is not None:
        if run.resume.state is None:
            raise Rejected(
                "What AgileRL goes on from is not there any more: train the experiment "
                "from its beginning.",
                field="resume",
            )
        given["resume_from_checkpoint"] = str(run.resume.state / MODEL_FILE)
    try:
        return LocalTrainer.from_manifest(manifest, **given)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        text = " ".join(str(error).split()).replace("[", "(").replace("]", ")")
        raise Rejected(
            f"AgileRL cannot train by this manifest: correct it ({text[:300]}).",
            field="config.manifest",
        ) from error


def _device(named: str) -> str:
    if named != "auto":
        return named
    return "cuda" if torch.cuda.is_available() else "cpu"


def _watched(run: Run, trainer: LocalTrainer, every: int) -> Checkpoints:
    """Let the trainer's own steps of evolution tell what there is to know."""
    returns = None
    if isinstance(trainer.env, VectorEnv):
        returns = trainer.env = Returns(trainer.env, trainer.population)
    checkpoints = Checkpoints(run, trainer.env_spec, max(1, every), returns)
    trainer.selection_strategy = Selection(
        run, checkpoints, trainer.selection_strategy, len(trainer.population)
    )
    trainer.mutations = Mutation(trainer.mutations, returns)
    return checkpoints
