"""What a network was made with: the arguments of its constructor, by name."""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from attrs import frozen

from arena_core.adapters.converters.pickles import Stub
from arena_core.adapters.converters.weights import MOST_LAYERS, refuse
from arena_core.application.filenames import shown
from arena_core.application.ports import Array


@frozen(eq=False)
class Settings:
    """Each method raises `Rejected` if the setting is not what is asked for."""

    _found: Mapping[str, Any]

    @classmethod
    def of(cls, found: object) -> "Settings":
        """Return the settings in a dict, or in a config object of AgileRL."""
        state = found.state if isinstance(found, Stub) else found
        if not isinstance(state, dict):
            refuse("the settings of its networks are no dict")
        return cls(state)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- comes from a pickle
        if name not in self._found:
            refuse(f"its networks lack the setting {shown(name)}")
        return self._found[name]

    def get(self, name: str) -> Any:  # noqa: ANN401 -- comes from a pickle
        return self._found.get(name)

    def part(self, name: str) -> "Settings":
        return Settings.of(self[name])

    def flag(self, name: str) -> bool:
        """Return the setting; False if there is none."""
        value = self.get(name)
        if not isinstance(value, bool | None):
            self._refuse(name)
        return bool(value)

    def text(self, name: str, default: str) -> str:
        value = self.get(name)
        if not isinstance(value, str | None):
            self._refuse(name)
        return default if value is None else value

    def count(self, name: str) -> int:
        """Return a number of layers."""
        value = self[name]
        if not _is_whole(value) or not 0 < value <= MOST_LAYERS:
            self._refuse(name)
        return int(value)

    def sequence(self, name: str) -> list[Any]:
        """Return a list with an entry for each layer."""
        value = self[name]
        if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST_LAYERS:
            self._refuse(name)
        return list(value)

    def sizes(self, name: str) -> list[int]:
        """Return a number for each layer, the same in both directions of an image."""
        values = []
        for entry in self.sequence(name):
            both = entry if isinstance(entry, list | tuple) else (entry,)
            if not all(_is_whole(n) and n > 0 for n in both) or len(set(both)) != 1:
                self._refuse(name)
            values.append(int(both[0]))
        return values

    def array(self, name: str) -> Array:
        value = self[name]
        if not isinstance(value, np.ndarray):
            self._refuse(name)
        array: Array = value
        return array

    def _refuse(self, name: str) -> NoReturn:
        refuse(f"its networks have an unusual setting {shown(name)}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
