"""Trainings of the recipes on datasets, in this process, by the run protocol."""

import json

from attrs import frozen

from arena_core.entrypoints.wiring import load_bundle
from arena_core.training import Run

ALGORITHMS = {
    "supervised": ("Supervised", "supervised"),
    "latent_ppo": ("LatentPPO", "latent"),
}


@frozen
class Trained:
    """What a training has left in its folder."""

    folder: object

    @property
    def points(self):
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def total(self):
        """Up to which step it has said that it trains."""
        return json.loads((self.folder / "progress.json").read_bytes())["total"]

    @property
    def steps(self):
        return sorted(int(p.name) for p in (self.folder / "checkpoints").iterdir())

    def bundle(self, step=None):
        return self.folder / "checkpoints" / str(step or self.steps[-1])

    def state(self, step):
        return self.folder / "states" / str(step)

    def manifest(self, step=None):
        return json.loads((self.bundle(step) / "checkpoint.json").read_bytes())

    def loaded(self, step=None):
        return load_bundle(self.bundle(step))


def variables(folder, recipe, dataset, config=None, *, seed=0, **environ):
    """Return what a training process is told, its order written down."""
    folder.mkdir(parents=True)
    algorithm, family = ALGORITHMS[recipe]
    order = {
        "recipe": recipe,
        "algorithm": algorithm,
        "family": family,
        "source": {"kind": "dataset", "name": dataset},
        "config": config or {},
    }
    (folder / "order.json").write_text(json.dumps(order))
    return {
        "ARENA_RUN_FOLDER": str(folder),
        "ARENA_ORDER": str(folder / "order.json"),
        "ARENA_SEED": str(seed),
        **{f"ARENA_{name.upper()}": str(value) for name, value in environ.items()},
    }


def trained(train, folder, *args, **kwargs):
    """Train to the end, and return what is left."""
    with Run(variables(folder, *args, **kwargs)) as run:
        train(run)
    return Trained(folder)


def resuming(before, step, *, state=True):
    """Return the variables of a training that goes on from a checkpoint of `before`."""
    told = {"resume_step": step, "resume_checkpoint": before.bundle(step)}
    return told | ({"resume_state": before.state(step)} if state else {})
