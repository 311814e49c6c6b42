"""What a trainer is told: the order, the bundles that it needs, and what is to stay."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_core.application import recipes
from arena_core.application.orders import writing
from arena_core.application.ports import BlobStore
from arena_core.application.trainer import (
    DECODER,
    RESUME,
    START,
    LayOut,
    Order,
    Resumable,
)
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import Experiment, Training
from arena_core.domain.ids import Digest, training_of

SEED = "seed"
TOTALS = ("total_steps", "epochs")
"""What recipes call the number of their steps."""


def order_of(state: Experiment) -> Order:
    """Return the order of the latest training.  Raises `Rejected` if there can be none.

    The set-up was checked when it was asked for; a later release may know better.
    """
    setup, training, run_id = state.setup, state.training, state.run_id
    if training is None or run_id is None or setup.source is None:
        raise Rejected("There is no training to be carried out: ask for one.")
    config = recipes.checked(setup)
    asked = training.beginning.seed
    return Order(
        run_id=run_id,
        experiment_id=state.id,
        recipe=recipes.recipe_of(setup).name,
        algorithm=setup.algorithm,
        family=setup.family,
        source=setup.source,
        base_model=setup.base_model,
        config=config,
        seed=int(config.get(SEED) or 0) if asked is None else asked,
        max_steps=_last_step(training, config),
        resume_step=training.resume_step,
        resume_of=training.resume_of,
    )


def _last_step(training: Training, config: Mapping[str, Any]) -> int | None:
    """Return up to which step it trains, as far as that is known beforehand.

    What the settings say is said in the order too, so that progress has an end.
    """
    said = [config.get(name) for name in TOTALS]
    total = next((number for number in said if isinstance(number, int)), None)
    if training.max_steps is not None or total is None:
        return training.max_steps
    # What goes on from there or beyond does as many more: the recipe knows.
    return total if total > (training.resume_step or 0) else None


def bundles_of(state: Experiment) -> Mapping[str, Digest]:
    """Return the bundles that the latest training needs, by the names of folders."""
    training = state.training
    if training is None:
        return {}
    named = {
        START: training.beginning.weights,
        DECODER: training.beginning.decoder,
        RESUME: training.resume_digest,
    }
    return {name: digest for name, digest in named.items() if digest is not None}


def laying_out(blobs: BlobStore, bundles: Mapping[str, Digest]) -> LayOut:
    """Return what puts `bundles` into a folder.

    It raises `NotFound`, `Corrupt` or `StorageFull`.
    """

    def lay_out(folder: Path) -> None:
        for name, digest in bundles.items():
            _take_out(blobs, digest, folder / name)

    return lay_out


def _take_out(blobs: BlobStore, digest: Digest, folder: Path) -> None:
    for name in blobs.sizes(digest):
        content = blobs.read(digest, name)
        with writing():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def resumable_of(state: Experiment) -> Resumable | None:
    """Return what a resume would go on from, if a training has written it."""
    last = max(state.checkpoints, key=lambda c: c.step, default=None)
    if last is None or last.training is None:
        return None
    return Resumable(training_of(state.id, last.training), last.step)
