"""Training a policy over the latent space of a frozen decoder, with PPO.

A row comes in, the policy chooses a latent vector, and the decoder makes an answer of
it: a contextual bandit.  The same seed gives the same weights on a processor.
"""

from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from arena_core.application.ports import Array
from arena_core.application.recipe_settings import LatentPpo
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.recipes import datasets, sequences, trained_bundles
from arena_core.entrypoints.recipes.datasets import Dataset, Part
from arena_core.entrypoints.recipes.decoders import Decoder, decoder_of
from arena_core.entrypoints.recipes.devices import device_of, use_one_thread
from arena_core.entrypoints.recipes.latent_environment import Reward, Rows
from arena_core.entrypoints.recipes.measures import fit
from arena_core.entrypoints.recipes.schedules import (
    Schedule,
    dataset_folder,
    settings_of,
)
from arena_core.entrypoints.recipes.sequences import Piece
from arena_core.entrypoints.recipes.supervised_networks import (
    INPUTS,
    standardise,
    take_weights,
)
from arena_core.entrypoints.recipes.trained_bundles import (
    DECODER_FILE,
    LATENT,
    POLICY_FILE,
    Bundle,
    Trained,
    signature,
)
from arena_core.training import Run

STATE_FILE = "state.pt"


def train(run: Run) -> None:
    """Train as the run says.  Raises `Rejected` for data or weights that do not fit."""
    use_one_thread()
    settings = settings_of(run, LatentPpo)
    choice = datasets.Choice(
        str(run.order["source"]["name"]), settings.task, settings.target
    )
    dataset = datasets.load(choice, dataset_folder())
    print(dataset.described())  # noqa: T201 -- the log of the training
    decoder = decoder_of(_decoder_bundle(run))
    decoder.check_answers(dataset)
    learner = Learner(settings, dataset, decoder, run)
    learner.begin()
    rows = settings.rows
    schedule = Schedule.of(
        run, settings.total_steps, settings.checkpoint_every, unit=rows
    )
    run.total(schedule.last)
    due = set(schedule.checkpoints())
    for step in range(schedule.first + rows, schedule.last + 1, rows):
        run.log(step, **learner.update(step))
        if step in due or run.should_stop:
            run.checkpoint(step, learner.write_bundle, state=learner.write_state)
        if run.should_stop:
            return


def _decoder_bundle(run: Run) -> Bundle:
    """Return the bundle that has the decoder: one of a LatentPPO has its own."""
    if run.decoder is not None:
        return Bundle.read(run.decoder, field="decoder")
    before = run.start if run.resume is None else run.resume.bundle
    if before is None:
        raise Rejected(
            "LatentPPO needs a decoder: put a stage that trains Supervised before it, "
            "or begin with a saved agent.",
            field="decoder",
        )
    return Bundle.read(before, field="start")


class Learner:
    """A policy on its way, and what moves it."""

    def __init__(
        self, settings: LatentPpo, dataset: Dataset, decoder: Decoder, run: Run
    ) -> None:
        self._settings, self._dataset, self._run = settings, dataset, run
        self._decoder = decoder
        self._parts = datasets.split(dataset, settings.validation)
        self._standardise = standardise(self._parts.train.inputs)
        self._env = Rows(
            Reward(decoder, dataset, settings.penalty),
            count=settings.rows,
            width=int(np.prod(dataset.shape)),
            latent_dim=decoder.latent_dim,
        )
        self._ppo = PPO(
            "MlpPolicy",
            self._env,
            learning_rate=settings.learning_rate,
            n_steps=1,
            batch_size=min(settings.batch_size, settings.rows),
            n_epochs=settings.passes,
            gamma=0.0,
            clip_range=settings.clip_range,
            ent_coef=settings.entropy,
            policy_kwargs={"net_arch": list(settings.layers), "log_std_init": -0.5},
            seed=run.seed,
            device=device_of(settings.device),
        )
        self._ppo.set_logger(Logger(None, []))
        self._network = nn.ModuleDict({"policy": self._sequence()})

    def begin(self) -> None:
        """Take over the weights that the run begins with, and all of a state."""
        run = self._run
        before = run.start if run.resume is None else run.resume.bundle
        if before is not None:
            bundle = Bundle.read(before, field="start")
            model = bundle.model(bundle.manifest.policy.weights)
            take_weights(self._network, sequences.parameters_of(model))
        if run.resume is not None and run.resume.state is not None:
            state = torch.load(run.resume.state / STATE_FILE, weights_only=True)
            self._ppo.set_parameters(state)
        train = self._parts.train
        self._env.show(Part(self._observed(train.inputs), train.targets))

    def update(self, step: int) -> dict[str, float]:
        """Answer rows, learn from the rewards up to `step`, and return what came."""
        # So that what is resumed here draws what it would have drawn.
        set_random_seed(self._run.seed + step)
        self._env.draw_from(np.random.default_rng([self._run.seed, step]))
        self._ppo.learn(self._settings.rows)
        return {
            "loss": float(self._ppo.logger.name_to_value["train/loss"]),
            "score": float(self._ppo.rollout_buffer.rewards.mean()),
            "fitness": self._fitness(),
        }

    def write_bundle(self, folder: Path) -> None:
        inputs = {INPUTS: self._dataset.shape}
        outputs = {LATENT: (self._decoder.latent_dim,)}
        piece = Piece("policy", self._sequence(), INPUTS, LATENT)
        answer = self._decoder.signature.outputs[0]
        trained = Trained(
            algorithm=str(self._run.order["algorithm"]),
            family="latent",
            weights={
                POLICY_FILE: sequences.to_onnx([piece], inputs, outputs),
                DECODER_FILE: self._decoder.weights,
            },
            parts={
                "weights": POLICY_FILE,
                "signature": signature(inputs, outputs),
                "head": "output",
                "decoder": {
                    "weights": DECODER_FILE,
                    "signature": signature(
                        outputs, {answer.name: (self._dataset.width,)}
                    ),
                },
            },
            provenance={
                "recipe": "latent_ppo",
                "task": self._dataset.task,
                "dataset": self._dataset.provenance(),
                "decoder_sha256": self._decoder.sha256,
                "seed": self._run.seed,
            },
            packages=("scikit-learn", "stable-baselines3"),
        )
        trained_bundles.write(folder, trained, self._parts.train.inputs, self._answer)

    def write_state(self, folder: Path) -> None:
        torch.save(self._ppo.get_parameters(), folder / STATE_FILE)

    def _sequence(self) -> nn.Sequential:
        """Return the policy from raw rows to latent vectors, over the same weights."""
        policy = self._ppo.policy
        layers = nn.Sequential()
        layers.add_module("standardise", self._standardise)
        layers.add_module("flatten", nn.Flatten())
        for name, layer in policy.mlp_extractor.policy_net.named_children():
            layers.add_module(f"layer{name}", layer)
        layers.add_module("latent", policy.action_net)
        layers.add_module("clip", nn.Hardtanh(-1.0, 1.0))
        return layers

    def _observed(self, rows: Array) -> Array:
        """Return rows as the policy is shown them in training."""
        standard = self._standardise(torch.as_tensor(rows))
        return np.asarray(standard.flatten(start_dim=1).numpy())

    def _latent(self, rows: Array) -> Array:
        latent, _ = self._ppo.predict(self._observed(rows), deterministic=True)
        return np.asarray(latent, np.float32)

    def _answer(self, rows: Array) -> dict[str, Array]:
        latent = self._latent(rows)
        return {"results": self._decoder(latent), f"outputs/{LATENT}": latent}

    def _fitness(self) -> float:
        part = self._parts.validation
        answers = self._decoder(self._latent(part.inputs))
        return fit(self._dataset.task, answers, part.targets)
