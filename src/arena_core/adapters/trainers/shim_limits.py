"""What a training may use, and what is kept of what it prints."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from arena_core.adapters.trainers import run_records

CHUNK_BYTES = 1 << 16
LOOK_S = 1.0
"""How often the folder is counted, at most."""
LARGEST_SHARE = 0.1
"""Of the time, that may be spent counting."""
DRAIN_BYTES = 1 << 20
"""A pipe holds no more when all who had its other end are dead."""
_BLOCK_BYTES = 512
"""What `st_blocks` counts in, on every system."""
_MIB = 1 << 20


class Log:
    """The end of what was printed, in two files of half the limit each."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._path = folder / run_records.LOG
        self._earlier = folder / run_records.EARLIER_LOG
        self._half = most_bytes // 2
        self._size = 0
        self._file: int | None = None
        self.is_open = True
        """Whether anybody has the other end still."""

    def take(self, output: int) -> int:
        """Keep what there is to be read; return how many bytes it was."""
        try:
            data = os.read(output, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        self.is_open = bool(data)
        # Whatever does not fit on the disk is lost, and the training goes on.
        with suppress(OSError):
            self._write(data)
        return len(data)

    def drain(self, output: int) -> None:
        taken = 0
        while taken < DRAIN_BYTES and (size := self.take(output)):
            taken += size

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._size + len(data) > self._half and self._size:
            self.close()
            self._path.replace(self._earlier)
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            self._file, self._size = os.open(self._path, flags, 0o600), 0
        self._size += os.write(self._file, data)


class Usage:
    """Of time, of room on the disk, and of memory."""

    def __init__(self, folder: Path, limits: Mapping[str, Any]) -> None:
        self._folder = folder
        self._limits = limits
        self._begun = time.monotonic()
        self._next = 0.0

    def over(self, memory: Callable[[], int]) -> str | None:
        """Return which limit was exceeded, as a sentence; None: none that is known.

        `memory` says how many bytes the training has, and is asked rarely.
        """
        now = time.monotonic()
        wall_s = self._limits["wall_s"]
        if wall_s is not None and now - self._begun > wall_s:
            return f"The training took more than {wall_s:g} seconds: allow it more."
        if now < self._next:
            return None
        reason = self._over_room() or self._over_memory(memory)
        taken_s = time.monotonic() - now
        self._next = now + max(LOOK_S, taken_s / LARGEST_SHARE)
        return reason

    def _over_room(self) -> str | None:
        files, written = _room(self._folder, self._limits["files"])
        if files > self._limits["files"]:
            return (
                f"The training wrote more than {self._limits['files']} files: "
                "let it write fewer."
            )
        if written > self._limits["folder_bytes"]:
            return (
                "The training wrote more than "
                f"{self._limits['folder_bytes'] // _MIB} MiB into its folder: let it "
                "keep fewer checkpoints and states, or allow it more."
            )
        return None

    def _over_memory(self, memory: Callable[[], int]) -> str | None:
        most = self._limits["memory_bytes"]
        if most is None or memory() <= most:
            return None
        return (
            f"The training needed more than {most // _MIB} MiB of memory: make it "
            "smaller, or allow it more."
        )


def _room(folder: Path, most_files: int) -> tuple[int, int]:
    """Return how many files there are and how many bytes they take."""
    count, written, pending = 0, 0, [os.fspath(folder)]
    while pending and count <= most_files:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                count += 1
                with suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    written += found.st_blocks * _BLOCK_BYTES
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return count, written
