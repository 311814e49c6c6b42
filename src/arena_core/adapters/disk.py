"""Writing to disk so that it either lasts or is refused in our own words.

For POSIX systems: it opens folders, and never follows a link to what it writes.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from arena_core.domain.errors import StorageFull, Unavailable

FOLDER = os.O_RDONLY | os.O_DIRECTORY
FILE = os.O_RDONLY | os.O_NONBLOCK  # or else opening a named pipe would wait
"""Flags to open what is there, to read."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translated(contents: str) -> Iterator[None]:
    """Raise `StorageFull` or `Unavailable` for an `OSError`.

    `contents` is what is being written, such as `checkpoints`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"No space is left for {contents}: free some and try again."
            ) from error
        raise Unavailable(
            f"The folder of the {contents} cannot be used: check that it is there "
            "and can be read and written."
        ) from error


@contextmanager
def opened(path: Path | str, flags: int, *, below: int | None = None) -> Iterator[int]:
    """Give a descriptor of `path`, which no link leads to, and close it afterwards.

    `below`: the descriptor of the folder that a relative `path` begins at.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600, dir_fd=below)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def new_file(path: Path) -> AbstractContextManager[int]:
    """Open a file that was not there before, mode 0600, to be written."""
    return opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte of `data`; one `os.write` may take fewer."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    with opened(folder, FOLDER) as descriptor:
        os.fsync(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Exclude every other thread and process that locks `folder` too."""
    with opened(folder, FOLDER) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
