"""Training a classifier or a regression on a dataset, with PyTorch.

The same seed gives the same weights on a processor, also when it is resumed on the way.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from arena_core.application.ports import Array
from arena_core.application.recipe_settings import Supervised
from arena_core.entrypoints.recipes import datasets, sequences, trained_bundles
from arena_core.entrypoints.recipes.datasets import Dataset, Part
from arena_core.entrypoints.recipes.devices import device_of, use_one_thread
from arena_core.entrypoints.recipes.examples import CLASSIFICATION
from arena_core.entrypoints.recipes.measures import fit
from arena_core.entrypoints.recipes.schedules import (
    Schedule,
    dataset_folder,
    settings_of,
)
from arena_core.entrypoints.recipes.supervised_networks import (
    INPUTS,
    LATENT,
    Architecture,
    build,
    take_weights,
)
from arena_core.entrypoints.recipes.trained_bundles import (
    POLICY_FILE,
    Bundle,
    Trained,
    signature,
)
from arena_core.training import Run

STATE_FILE = "state.pt"
EVALUATED = 4096
"""Rows at once where nothing is learned."""


def train(run: Run) -> None:
    """Train as the run says.  Raises `Rejected` for data or weights that do not fit."""
    use_one_thread()
    settings = settings_of(run, Supervised)
    choice = datasets.Choice(
        str(run.order["source"]["name"]), settings.task, settings.target
    )
    dataset = datasets.load(choice, dataset_folder())
    print(dataset.described())  # noqa: T201 -- the log of the training
    learner = Learner(settings, dataset, run)
    learner.begin()
    schedule = Schedule.of(run, settings.epochs, settings.checkpoint_every)
    run.total(schedule.last)
    due = set(schedule.checkpoints())
    for epoch in range(schedule.first + 1, schedule.last + 1):
        run.log(epoch, **learner.epoch(epoch))
        if epoch in due or run.should_stop:
            run.checkpoint(epoch, learner.write_bundle, state=learner.write_state)
        if run.should_stop:
            return


class Learner:
    """A network on its way, and what moves it."""

    def __init__(self, settings: Supervised, dataset: Dataset, run: Run) -> None:
        self._settings, self._dataset, self._run = settings, dataset, run
        self._device = device_of(settings.device)
        self._parts = datasets.split(dataset, settings.validation)
        torch.manual_seed(run.seed)
        architecture = Architecture.of(settings)
        self._model = build(architecture, dataset, self._parts.train).to(self._device)
        self._optimiser = torch.optim.AdamW(
            self._model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        spread = self._parts.train.targets.std(dtype=np.float64)
        self._spread = float(spread) or 1.0

    def begin(self) -> None:
        """Take over the weights that the run begins with, and all of a state."""
        run = self._run
        before = run.start if run.resume is None else run.resume.bundle
        if before is not None:
            bundle = Bundle.read(before, field="start")
            model = bundle.model(bundle.manifest.policy.weights)
            take_weights(self._model, sequences.parameters_of(model))
        if run.resume is not None and run.resume.state is not None:
            state = torch.load(run.resume.state / STATE_FILE, weights_only=True)
            self._model.load_state_dict(state["model"])
            self._optimiser.load_state_dict(state["optimiser"])

    def epoch(self, number: int) -> dict[str, float]:
        """Learn from every row once, and return what came of it."""
        self._model.train()
        losses = []
        for batch in self._batches(number):
            loss = self._loss(batch)
            self._optimiser.zero_grad()
            torch.autograd.backward(loss)
            self._optimiser.step()
            losses.append(loss.item())
        self._model.eval()
        return {
            "loss": float(np.mean(losses)),
            "score": self._fit(self._parts.train),
            "fitness": self._fit(self._parts.validation),
        }

    def write_bundle(self, folder: Path) -> None:
        model, dataset = self._model.eval(), self._dataset
        inputs = {INPUTS: dataset.shape}
        latent = (self._settings.latent_dim,)
        outputs = {model.answer: (dataset.width,), LATENT: latent}
        trained = Trained(
            algorithm=str(self._run.order["algorithm"]),
            family="supervised",
            weights={POLICY_FILE: sequences.to_onnx(model.pieces(), inputs, outputs)},
            parts={
                "weights": POLICY_FILE,
                "signature": signature(inputs, outputs),
                "head": "output",
            },
            provenance={
                "recipe": "supervised",
                "task": dataset.task,
                "dataset": dataset.provenance(),
                "seed": self._run.seed,
            },
            packages=("scikit-learn",),
        )
        trained_bundles.write(folder, trained, self._parts.train.inputs, self._answer)

    def write_state(self, folder: Path) -> None:
        state = {
            "model": self._model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        torch.save(state, folder / STATE_FILE)

    def _batches(self, epoch: int) -> Iterator[Part]:
        train, size = self._parts.train, self._settings.batch_size
        order = np.random.default_rng([self._run.seed, epoch]).permutation(len(train))
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            yield Part(train.inputs[rows], train.targets[rows])

    def _loss(self, batch: Part) -> torch.Tensor:
        numbers = self._model(torch.as_tensor(batch.inputs, device=self._device))
        targets = torch.as_tensor(batch.targets, device=self._device)
        if self._dataset.task == CLASSIFICATION:
            return nn.functional.cross_entropy(numbers, targets)
        error = (numbers[:, 0] - targets) / self._spread
        return torch.mean(error**2)

    def _fit(self, part: Part) -> float:
        answers = [
            self._model.answers(part.inputs[begin : begin + EVALUATED])[0]
            for begin in range(0, len(part), EVALUATED)
        ]
        return fit(self._dataset.task, np.concatenate(answers), part.targets)

    def _answer(self, rows: Array) -> dict[str, Array]:
        results, latent = self._model.answers(rows)
        return {
            "results": results,
            f"outputs/{self._model.answer}": results,
            f"outputs/{LATENT}": latent,
        }
