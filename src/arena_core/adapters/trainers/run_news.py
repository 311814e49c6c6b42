"""What a training has written into its folder, read with bounds and in parts.

A training is a program of anybody's: nothing here follows a link, reads a line of any
length, or believes a name.
"""

import errno
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from attrs import evolve, field, frozen

from arena_core.adapters import disk
from arena_core.adapters.trainers import metric_lines
from arena_core.adapters.trainers.metric_lines import BrokenLine
from arena_core.adapters.trainers.removal import remove_some
from arena_core.application.filenames import shown
from arena_core.application.metric_points import LARGEST_STEP
from arena_core.application.ports import MetricPoint
from arena_core.application.trainer import Found, News

CHECKPOINTS = "checkpoints"
PART_BYTES = 1 << 18
"""Of the metrics, in one piece of news."""
MOST_AT_ONCE = 100
"""Checkpoints in one piece of news."""
MOST_ENTRIES = 10_000
_STEP = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_NO_PLAIN_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
_CLOSED = (errno.EACCES, errno.EPERM)


@frozen
class Mark:
    """How far the news have been told."""

    offset: int = 0
    """In the metrics, in bytes."""
    lines: int = 0
    checkpoints: Mapping[int, str] = field(factory=dict)
    """By step, which folder it was: another may be put in its place meanwhile."""


NOTHING = Mark()


def encoded(mark: Mark) -> str:
    return msgspec.json.encode(mark).decode()


def decoded(mark: str | bytes) -> Mark:
    return msgspec.json.decode(mark, type=Mark) if mark else NOTHING


def read(folder: Path, seen: Mark) -> News:
    """Return what is in the run's `folder` beyond what was `seen`.

    What was logged before a checkpoint is never told after it.
    """
    if folder.is_symlink():
        return News([], [], _not_plain("ARENA_RUN_FOLDER", "folder"), encoded(seen))
    # Looked for first: all that was logged before one of them is in the file by then.
    found, fault = _checkpoints(folder / CHECKPOINTS)
    told = _Told(seen)
    try:
        told.read(folder / metric_lines.FILE)
    except BrokenLine as error:
        fault = str(error)
    ready = [] if told.has_more else found[:MOST_AT_ONCE]
    mark = evolve(told.mark, checkpoints={f.step: _identity(f.folder) for f in ready})
    is_further = bool(ready) or mark.offset > seen.offset
    return News(told.points, ready, fault, encoded(mark), is_further)


def forget(folder: Path, mark: Mark) -> None:
    """Remove the checkpoints that `mark` names, unless they were written again."""
    if not mark.checkpoints:
        return

    def is_to_stay(name: str) -> bool:
        identity = mark.checkpoints.get(int(name)) if _STEP.fullmatch(name) else None
        return not identity or _identity(folder / CHECKPOINTS / name) != identity

    remove_some(folder.parent, folder.name, CHECKPOINTS, unless=is_to_stay)


def last_step(folder: Path, *, within: int | None = None) -> int | None:
    """Return the step of the last line that was logged and can be understood.

    `within`: so many bytes; None: all there are.
    """
    try:
        with disk.opened(folder / metric_lines.FILE, disk.FILE) as descriptor:
            size = os.fstat(descriptor).st_size
            size = size if within is None else min(size, within)
            start = max(0, size - 2 * metric_lines.LONGEST_BYTES)
            data = os.pread(descriptor, size - start, start)
    except OSError:
        return None
    for line in reversed(data.split(b"\n")[:-1]):
        step = metric_lines.step_of(line)
        if step is not None:
            return step
    return None


class _Told:
    """What is told of the metrics, as far as it could be read."""

    def __init__(self, seen: Mark) -> None:
        self.points: list[MetricPoint] = []
        self.mark = Mark(seen.offset, seen.lines)
        self.has_more = False

    def read(self, path: Path) -> None:
        """Raise `BrokenLine` for what cannot be understood; what is before it stays."""
        data = _part(path, self.mark.offset)
        self.has_more = len(data) == PART_BYTES
        *lines, rest = data.split(b"\n")
        for line in lines:
            number = self.mark.lines + 1
            if line.strip():
                self.points += metric_lines.points(line, number)
            self.mark = Mark(self.mark.offset + len(line) + 1, number)
        if len(rest) > metric_lines.LONGEST_BYTES:
            raise metric_lines.too_long(self.mark.lines + 1)


def _part(path: Path, offset: int) -> bytes:
    try:
        with disk.opened(path, disk.FILE) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BrokenLine(_not_plain(path.name, "file"))
            if status.st_size < offset:
                raise BrokenLine(
                    f"{path.name} has become shorter: only add lines to it."
                )
            return os.pread(descriptor, PART_BYTES, offset)
    except FileNotFoundError:
        return b""
    except OSError as error:
        if error.errno in _NO_PLAIN_FILE:
            raise BrokenLine(_not_plain(path.name, "file")) from error
        if error.errno in _CLOSED:
            raise BrokenLine(_not_open(path.name)) from error
        raise


def _checkpoints(folder: Path) -> tuple[Sequence[Found], str | None]:
    """Return the checkpoints by step, and what is wrong with what lies there."""
    try:
        with disk.opened(folder, disk.FOLDER) as descriptor:
            names = os.listdir(descriptor)  # noqa: PTH208 -- of what was opened, not of a path
    except FileNotFoundError:
        return [], None
    except (NotADirectoryError, OSError) as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return [], _not_plain(folder.name, "folder")
        if error.errno in _CLOSED:
            return [], _not_open(folder.name)
        raise
    if len(names) > MOST_ENTRIES:
        return [], f"There are more than {MOST_ENTRIES} checkpoints: write fewer."
    found: list[Found] = []
    fault = None
    for name in sorted(names):
        if name.startswith("."):
            continue  # not finished yet
        fault = _fault_of(folder / name)
        if fault is not None:
            break
        found.append(Found(int(name), folder / name))
    return sorted(found, key=lambda f: f.step), fault


def _fault_of(place: Path) -> str | None:
    if not _STEP.fullmatch(place.name) or int(place.name) > LARGEST_STEP:
        return (
            f"{CHECKPOINTS} holds {shown(place.name)}: name each checkpoint by its "
            "step, such as 100."
        )
    if not stat.S_ISDIR(place.lstat().st_mode):
        return _not_plain(f"{CHECKPOINTS}/{place.name}", "folder")
    return None


def _identity(place: Path) -> str:
    """Return what tells the folder from another one that is put in its place."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return ""
    return f"{found.st_ino}:{found.st_ctime_ns}"


def _not_plain(name: str, kind: str) -> str:
    return f"{name} is no plain {kind}: write it without links."


def _not_open(name: str) -> str:
    return f"{name} cannot be read: leave it the permissions that it was made with."
