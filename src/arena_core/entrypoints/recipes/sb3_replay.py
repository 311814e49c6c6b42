"""The experience of an algorithm that learns from all it has seen, kept to go on with.

It is kept as plain arrays, so that nothing has to be unpickled, and only as much of
the buffer as is filled.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from arena_core.application.ports import Array
from arena_core.domain.errors import Corrupt

REPLAY_FILE = "replay.npz"
_NEXT, _IS_FULL = "next", "is_full"
_DAMAGED = (
    EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy raises for a file that is not as it was written."""


class Experience:
    """The replay buffer of a model, as it is kept beside the checkpoints."""

    def __init__(self, model: OffPolicyAlgorithm, most_bytes: int) -> None:
        self._model = model
        self._most_bytes = most_bytes
        self._was_too_large = False

    def save(self, folder: Path) -> None:
        """Write it into `folder`, unless it is too large, which is printed once."""
        buffer = self._model.replay_buffer
        assert buffer is not None, "the model was set up"  # noqa: S101
        filled = {name: array[: _rows(buffer)] for name, array in _arrays(buffer)}
        size_bytes = sum(array.nbytes for array in filled.values())
        if size_bytes > self._most_bytes:
            self._say_that_it_is_too_large(size_bytes)
            return
        state = {_NEXT: np.array(buffer.pos), _IS_FULL: np.array(buffer.full)}
        with (folder / REPLAY_FILE).open("wb") as file:
            np.savez(file, allow_pickle=False, **state, **filled)

    def restore(self, folder: Path | None) -> None:
        """Go on with what was kept in `folder`, and print how much that is.

        Raises `Corrupt` for what is not as it was written.
        """
        buffer = self._model.replay_buffer
        assert buffer is not None, "the model was set up"  # noqa: S101
        if folder is None or not (folder / REPLAY_FILE).exists():
            _print("No replay buffer was kept: experience is collected anew.")
            return
        try:
            with (
                (folder / REPLAY_FILE).open("rb") as file,
                np.load(file, allow_pickle=False) as kept,
            ):
                _fill(buffer, kept)
        except _DAMAGED as error:
            raise Corrupt(
                "The replay buffer that was kept with the checkpoint is damaged: "
                "train the experiment anew."
            ) from error
        steps = buffer.size() * buffer.n_envs
        _print(f"Going on with a replay buffer of {steps} steps.")

    def _say_that_it_is_too_large(self, size_bytes: int) -> None:
        if not self._was_too_large:
            _print(
                f"The replay buffer is not kept: it has {size_bytes} bytes, and "
                f"max_replay_bytes is {self._most_bytes}. What is resumed collects "
                "experience anew."
            )
        self._was_too_large = True


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 -- the log of the training


def _fill(buffer: ReplayBuffer, kept: Mapping[str, Array]) -> None:
    buffer.pos, buffer.full = int(kept[_NEXT]), bool(kept[_IS_FULL])
    if not 0 <= buffer.pos < buffer.buffer_size:
        raise ValueError(_NEXT)
    rows = _rows(buffer)
    for name, array in _arrays(buffer):
        found = kept[name]
        if found.dtype != array.dtype or found.shape != array[:rows].shape:
            raise ValueError(name)
        array[:rows] = found


def _rows(buffer: ReplayBuffer) -> int:
    """Return how many rows are in use: one more than were added, which may be next."""
    return buffer.buffer_size if buffer.full else buffer.pos + 1


def _arrays(buffer: ReplayBuffer) -> Iterator[tuple[str, Array]]:
    """Yield the arrays by their names; observations may be several for each step."""
    for name, value in vars(buffer).items():
        parts = value if isinstance(value, dict) else {"": value}
        for part, array in parts.items():
            if isinstance(array, np.ndarray):
                yield (f"{name}/{part}" if part else name), array
