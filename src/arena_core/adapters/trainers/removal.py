"""Removing what a training has left: never by way of a link, and however deep it is.

A training may put a link in the place of any folder, also by mistake: what lies where
it leads to is somebody else's.  What cannot be removed stays, and nothing is raised.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from arena_core.adapters import disk


def remove(place: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there."""
    with suppress(OSError), disk.opened(place.parent, disk.FOLDER) as folder:
        remove_from(folder, place.name)


def remove_some(
    root: Path, *inner: str, unless: Callable[[str], bool] = lambda _: False
) -> None:
    """Remove what is in a folder, but for the names that are to stay.

    `root`, and in it each of `inner`, must be a folder itself and no link.
    """
    with suppress(OSError), disk.opened(root, disk.FOLDER) as folder:
        if inner:
            remove_some_below(folder, *inner, unless=unless)
        else:
            _remove_names(folder, unless)


def remove_some_below(at: int, *inner: str, unless: Callable[[str], bool]) -> None:
    """Do the same in a folder below the one that is open as `at`."""
    with suppress(OSError), disk.opened(inner[0], disk.FOLDER, below=at) as folder:
        if inner[1:]:
            remove_some_below(folder, *inner[1:], unless=unless)
        else:
            _remove_names(folder, unless)


def _remove_names(folder: int, unless: Callable[[str], bool]) -> None:
    for name in os.listdir(folder):
        if not unless(name):
            remove_from(folder, _out_of_sight(folder, name))


def _out_of_sight(folder: int, name: str) -> str:
    """Give an entry a name that nobody looks at; return it.

    Whoever dies while it is removed leaves no half of it that is taken for the whole.
    """
    hidden = f".{token_hex(8)}"
    try:
        os.rename(name, hidden, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        return name
    return hidden


def remove_from(at: int, name: str) -> None:
    """Remove an entry of the folder that is open as `at`.

    Folders in folders are brought up first, so that no depth is too much.
    """
    pending = [name]
    while pending:
        each = pending.pop()
        with suppress(OSError):
            if not _is_folder(at, each):
                os.unlink(each, dir_fd=at)
                continue
            pending += _emptied(at, each)
            os.rmdir(each, dir_fd=at)


def _emptied(at: int, name: str) -> list[str]:
    """Empty a folder; return as what its folders now lie beside it."""
    brought_up = []
    with disk.opened(name, disk.FOLDER, below=at) as folder:
        for inner in os.listdir(folder):  # noqa: PTH208 -- of what is open
            with suppress(OSError):
                if _is_folder(folder, inner):
                    new = f".{token_hex(8)}"
                    os.rename(inner, new, src_dir_fd=folder, dst_dir_fd=at)
                    brought_up.append(new)
                else:
                    os.unlink(inner, dir_fd=folder)
    return brought_up


def _is_folder(at: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
