"""The network of `supervised`: an encoder to a latent vector, and a decoder of it.

The latent vector lies between -1 and 1, so that a policy can be trained to choose one.
"""

import numpy as np
import torch
from attrs import frozen
from torch import nn

from arena_core.application.ports import Array
from arena_core.application.recipe_settings import Supervised
from arena_core.domain.errors import Rejected
from arena_core.entrypoints.recipes.datasets import Dataset, Part
from arena_core.entrypoints.recipes.examples import CLASSIFICATION
from arena_core.entrypoints.recipes.sequences import (
    ChannelsFirst,
    Piece,
    Rescale,
    Standardise,
)

INPUTS, LATENT = "inputs", "latent"
PROBABILITIES, VALUE = "probabilities", "value"
"""What the answer is called: of each class, or the number itself."""
_KERNEL, _STRIDE = 3, 2
_ALIKE = 1e-12
"""A deviation that is smaller, for the mean's size, is none."""
_LEAST = float(np.finfo(np.float32).tiny)


class Model(nn.Module):
    """An encoder from raw rows, a decoder, and what makes an answer of its numbers."""

    def __init__(
        self, encoder: nn.Sequential, decoder: nn.Sequential, answer: str
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.answer = encoder, decoder, answer

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, classes), or the numbers (B, 1)."""
        numbers: torch.Tensor = self.decoder(self.encoder(rows))
        return numbers

    @torch.no_grad()
    def answers(self, rows: Array) -> tuple[Array, Array]:
        """Return what is answered, and the latent vectors, as they are served."""
        device = next(self.parameters()).device
        latent = self.encoder(torch.as_tensor(rows, device=device))
        numbers = self.decoder(latent)
        if self.answer == PROBABILITIES:
            numbers = numbers.softmax(dim=1)
        return numbers.cpu().numpy(), latent.cpu().numpy()

    def pieces(self) -> list[Piece]:
        """Return what `sequences.to_onnx` takes."""
        decoder = nn.Sequential()
        for name, layer in self.decoder.named_children():
            decoder.add_module(name, layer)
        if self.answer == PROBABILITIES:
            decoder.add_module("softmax", nn.Softmax(dim=1))
        return [
            Piece("encoder", self.encoder, INPUTS, LATENT),
            Piece("decoder", decoder, LATENT, self.answer),
        ]


@frozen
class Architecture:
    """What a network is made of, beside its weights."""

    layers: tuple[int, ...]
    channels: tuple[int, ...]
    latent_dim: int

    @classmethod
    def of(cls, settings: Supervised) -> "Architecture":
        return cls(
            tuple(settings.layers), tuple(settings.channels), settings.latent_dim
        )


def build(architecture: Architecture, dataset: Dataset, train: Part) -> Model:
    """Return an untrained network for the dataset, standardised by the rows `train`."""
    features, width = _features(architecture, dataset, train)
    for number, layer in enumerate(architecture.layers):
        features.add_module(f"linear{number}", nn.Linear(width, layer))
        features.add_module(f"relu{number}", nn.ReLU())
        width = layer
    features.add_module("latent", nn.Linear(width, architecture.latent_dim))
    features.add_module("tanh", nn.Tanh())
    return Model(features, *_decoder(architecture, dataset, train))


def _features(
    architecture: Architecture, dataset: Dataset, train: Part
) -> tuple[nn.Sequential, int]:
    """Return the layers before the dense ones, and the width of what they make."""
    layers = nn.Sequential()
    if len(dataset.shape) == 1:
        layers.add_module("standardise", standardise(train.inputs))
        return layers, dataset.shape[0]
    layers.add_module("standardise", standardise(train.inputs))
    layers.add_module("channels_first", ChannelsFirst())
    height, across, *rest = dataset.shape
    depth = rest[0] if rest else 1
    for number, channels in enumerate(architecture.channels):
        conv = nn.Conv2d(depth, channels, _KERNEL, _STRIDE, padding=1)
        layers.add_module(f"conv{number}", conv)
        layers.add_module(f"conv_relu{number}", nn.ReLU())
        height, across, depth = -(-height // 2), -(-across // 2), channels
    layers.add_module("flatten", nn.Flatten())
    return layers, height * across * depth


def _decoder(
    architecture: Architecture, dataset: Dataset, train: Part
) -> tuple[nn.Sequential, str]:
    width = max(architecture.latent_dim, *architecture.layers[-1:], 1)
    decoder = nn.Sequential()
    decoder.add_module("hidden", nn.Linear(architecture.latent_dim, width))
    decoder.add_module("relu", nn.ReLU())
    decoder.add_module("output", nn.Linear(width, dataset.width))
    if dataset.task == CLASSIFICATION:
        return decoder, PROBABILITIES
    mean, scale = moments(train.targets, (0,))
    decoder.add_module("rescale", Rescale(mean, scale))
    return decoder, VALUE


def standardise(rows: Array) -> Standardise:
    """Return what gives each column, or each channel, mean 0 and deviation 1."""
    is_table = rows.ndim == 2  # noqa: PLR2004 -- rows and columns
    return Standardise(*moments(rows, (0,) if is_table else (0, 1, 2)))


def moments(rows: Array, axes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the deviation, which is 1 where all are the same."""
    wide = rows.astype(np.float64)
    mean, deviation = wide.mean(axis=axes), wide.std(axis=axes)
    differs = deviation > np.maximum(_ALIKE * np.abs(mean), _LEAST)
    scale = np.where(differs, deviation, 1.0)
    return torch.as_tensor(mean).float(), torch.as_tensor(scale).float()


def take_weights(model: nn.Module, found: dict[str, torch.Tensor]) -> None:
    """Give `model` the weights of another of the same architecture.

    Raises `Rejected` if they do not fit.
    """
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in found or found[name].shape != tensor.shape:
            raise Rejected(
                "The weights to begin with are of another network: give this "
                "experiment the layers, the channels and the latent_dim, and a dataset "
                "of the columns and the classes, that they were trained with.",
                field="start",
            )
    model.load_state_dict({name: found[name] for name in own})
