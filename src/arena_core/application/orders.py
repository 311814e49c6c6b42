"""The files of an order to convert something: laid out, checked and taken out again.

They may hold a pickle, so nothing of what is in them is ever read in this process.
"""

import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from arena_core.application.conversion import (
    MODEL_FILE,
    SPACES_FILE,
    STATISTICS_FILE,
    TRACE_FILE,
)
from arena_core.application.filenames import shown
from arena_core.application.ports import BlobStore
from arena_core.application.session import Core
from arena_core.domain.errors import Rejected, StorageFull
from arena_core.domain.ids import Digest

FILES = (MODEL_FILE, SPACES_FILE, STATISTICS_FILE, TRACE_FILE)


def lay_out(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    """Put `files` into `folder`, which is made: by name, where they lie or what is in.

    Raises `Rejected` for one that cannot be read, and `StorageFull`.
    """
    with writing():
        folder.mkdir()
    for name, source in files.items():
        if isinstance(source, bytes):
            with writing():
                (folder / name).write_bytes(source)
        else:
            _copy(name, source, folder / name)


def check(folder: Path) -> None:
    """Raise `Rejected` unless `folder` holds an order, and nothing else."""
    try:
        sizes = {path.name: _size(path) for path in folder.iterdir()}
    except OSError as error:
        raise Rejected(
            "The folder of the order cannot be read: give an existing one."
        ) from error
    for name, size in sorted(sizes.items()):
        if name not in FILES or size is None:
            raise Rejected(
                f"The order holds {shown(name)}, which has no place in it: send plain "
                f"files called {', '.join(FILES)}, of which only {MODEL_FILE} must be "
                "there.",
                field=shown(name),
            )
    if not sizes.get(MODEL_FILE):
        raise Rejected(
            f"There is nothing to convert: the file {MODEL_FILE} is missing or empty.",
            field=MODEL_FILE,
        )


def take_out(blobs: BlobStore, digest: Digest, folder: Path) -> None:
    """Put the files of a kept order into `folder`, which is made.

    Raises `NotFound`, `Corrupt` or `StorageFull`.
    """
    lay_out(folder, {})
    for name in blobs.sizes(digest):
        content = blobs.read(digest, name)
        with writing():
            (folder / name).write_bytes(content)


@contextmanager
def scratch(core: Core) -> Iterator[Path]:
    """Give a new folder that is gone afterwards.  Raises `StorageFull`."""
    with ExitStack() as stack:
        with writing():
            name = stack.enter_context(core.scratch())
        yield Path(name)


@contextmanager
def writing() -> Iterator[None]:
    """Raise `StorageFull` for an `OSError`."""
    try:
        yield
    except OSError as error:
        raise StorageFull(
            "The files could not be written: see that the disk has space."
        ) from error


def _size(path: Path) -> int | None:
    """Return the size in bytes; None if it is no plain file."""
    found = path.lstat()
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _copy(name: str, source: Path, target: Path) -> None:
    try:
        reading = source.open("rb")
    except OSError as error:
        raise Rejected(
            f"The file {shown(source.name)} cannot be read: name an existing file that "
            "you may read.",
            field=name,
        ) from error
    with reading, writing(), target.open("xb") as written:
        shutil.copyfileobj(reading, written)
