"""What is recorded of a run's life, in files that are there as a whole or not at all.

    lock            held by the shim for as long as it lives
    started.json    the point of no return: whoever makes it decides for ever
    process.json    which process the training is
    family.json     which processes it has begun, as far as was seen
    pace.json       when it has logged how much
    stop, kill      asked for by making them
    ending          room on the disk for the next
    exit.json       how it has ended

It needs the standard library only, for the shim uses it too.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

PROGRAM, LOCK, STARTED, PROCESS = "program.json", "lock", "started.json", "process.json"
STOP, KILL, RESERVED, EXIT = "stop", "kill", "ending", "exit.json"
FAMILY, PACE = "family.json", "pace.json"
NEVER = "never"
"""Marks a `started.json` that was made so that nobody ever starts the run."""
LOG, EARLIER_LOG = "output.log", "output.log.1"
WORK = "run"
RESERVED_BYTES = 4096


def write(place: Path, data: bytes) -> None:
    """Put a file in the place of the one before.  It survives a power cut."""
    new = _new(place, data)
    try:
        new.replace(place)
    finally:
        new.unlink(missing_ok=True)
    _sync(place.parent)


def claim(place: Path, record: Mapping[str, Any]) -> bool:
    """Make a file, unless there is one; say whether it was made by this call."""
    new = _new(place, json.dumps(record).encode())
    try:
        os.link(new, place)
    except FileExistsError:
        return False
    finally:
        new.unlink(missing_ok=True)
    _sync(place.parent)
    return True


class Damaged(Exception):  # noqa: N818 -- what it is, not what it raises
    """A record is not as it was written: somebody has changed it."""


def read(place: Path) -> Mapping[str, Any] | None:
    """Return what the file says; None if it is not there.  Raises `Damaged`."""
    try:
        record = json.loads(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (IsADirectoryError, ValueError, RecursionError) as error:
        raise Damaged(place.name) from error
    if not isinstance(record, dict):
        raise Damaged(place.name)
    return record


def reserve(folder: Path) -> None:
    """Take the room on the disk for how the run ends, which may fill the disk."""
    write(folder / RESERVED, b" " * RESERVED_BYTES)


def end(folder: Path, record: Mapping[str, Any]) -> None:
    """Record how the run has ended."""
    data = json.dumps(record).encode()[:RESERVED_BYTES]
    descriptor = os.open(folder / RESERVED, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, data.ljust(RESERVED_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    (folder / RESERVED).replace(folder / EXIT)
    _sync(folder)


def lock(folder: Path) -> int | None:
    """Hold the run until this process dies; None if another one does."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_held(folder: Path) -> bool:
    """Say whether a shim is alive.  For a moment the lock is shared with others."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _new(place: Path, data: bytes) -> Path:
    new = place.with_name(f".{place.name}.{token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    finally:
        os.close(descriptor)
    return new


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
