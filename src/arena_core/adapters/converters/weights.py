"""The weights of a foreign checkpoint by name, none of which may go unnoticed."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from arena_core.adapters.converters.layers import Linear
from arena_core.adapters.converters.networks import Layer
from arena_core.application.filenames import shown
from arena_core.application.ports import Array
from arena_core.domain.errors import Rejected

MOST_LAYERS = 256


def refuse(problem: str) -> NoReturn:
    """Raise `Rejected` for what is fine in itself, but not known here."""
    raise Rejected(
        f"The checkpoint cannot be converted, for {problem}: export its policy to "
        "ONNX and import that with the format onnx."
    )


class Weights:
    """A dict of arrays, from which each is taken, or dropped on purpose."""

    def __init__(self, found: object) -> None:
        """Raise `Rejected` if `found` is anything but arrays of numbers by name."""
        if not isinstance(found, Mapping) or not all(
            isinstance(name, str) and isinstance(array, np.ndarray)
            for name, array in found.items()
        ):
            refuse("its weights are not plain tensors by name")
        self._left: dict[str, Array] = dict(found)

    def take(self, name: str) -> Array:
        """Return an array of finite floats, which then is used, or raise `Rejected`."""
        if name not in self._left:
            refuse(f"it lacks the weights {shown(name)}")
        array = self._left.pop(name)
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            refuse(f"its weights {shown(name)} are not finite floats")
        return array

    def has(self, prefix: str) -> bool:
        """Say whether any name that is left begins with `prefix`."""
        return any(name.startswith(prefix) for name in self._left)

    def drop(self, *prefixes: str) -> None:
        """Do without what only training needs: all names that begin so."""
        self._left = {
            name: array
            for name, array in self._left.items()
            if not name.startswith(prefixes)
        }

    def check_none_left(self) -> None:
        """Raise `Rejected` if there are weights that nobody has asked for."""
        if self._left:
            refuse(f"nothing is known of its weights {shown(min(self._left))}")

    def places(self, prefix: str) -> Sequence[int]:
        """Return the places of the modules with weights in the sequence `prefix`."""
        below = {
            name.removeprefix(prefix).partition(".")[0]
            for name in self._left
            if name.startswith(prefix)
        }
        if not all(part.isascii() and part.isdigit() for part in below):
            refuse(f"{shown(prefix)} is no sequence of layers")
        if len(below) > MOST_LAYERS:
            refuse(f"{shown(prefix)} has more than {MOST_LAYERS} layers")
        return sorted(map(int, below))

    def linear(self, prefix: str) -> Linear:
        """Take a linear layer, with its bias if it has one."""
        weight = self.take(f"{prefix}.weight")
        bias = self.take(f"{prefix}.bias") if self.has(f"{prefix}.bias") else None
        fits = bias is None or bias.shape == weight.shape[:1]
        if weight.ndim != 2 or not fits:  # noqa: PLR2004 -- a matrix
            refuse(f"{shown(prefix)} is no linear layer")
        return Linear(weight, bias)

    def perceptron(
        self, prefix: str, activation: Layer, *, ends_linear: bool
    ) -> list[Layer]:
        """Take linear layers at the places 0, 2, 4... with an activation behind each.

        `ends_linear`: not behind the last one.
        """
        places = self.places(f"{prefix}.")
        if list(places) != list(range(0, 2 * len(places), 2)):
            refuse(f"{shown(prefix)} has layers other than linear ones")
        layers: list[Layer] = []
        for place in places:
            layers += [self.linear(f"{prefix}.{place}"), activation]
        return layers[:-1] if ends_linear else layers
