"""A scoreboard of files: one for each worker, and one for all that have ended."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import msgspec
from attrs import field, frozen
from filelock import FileLock, Timeout

from arena_core.application.readings import NOTHING, Posted, Reading
from arena_core.domain.errors import Unavailable
from arena_core.domain.ids import WorkerId

LOCK_TIMEOUT_S = 5.0
SUFFIX = ".metrics"
T = TypeVar("T")


@frozen
class _Ended:
    """What retired workers had counted, and who they were."""

    workers: frozenset[WorkerId] = field(default=frozenset())
    """A file of one of these that is there all the same does not count."""
    reading: Reading = NOTHING


class FileScoreboard:
    """Whoever looks, or moves what a worker has counted, holds a lock meanwhile.

    To post takes none: a file is replaced at once, and is its worker's alone.  Nothing
    is flushed to the disk, for readings are worth no more than the processes that are
    counted in them.  Safe to use from several threads and processes of one machine.
    """

    def __init__(self, folder: Path, *, release: str) -> None:
        """`folder` is made if it is missing; what other releases left is not read."""
        self._folder = folder
        self._suffix = f".{release}{SUFFIX}"
        self._ended = folder / f"ended{self._suffix}"
        self._mutex = threading.Lock()
        with _translated():
            folder.mkdir(parents=True, exist_ok=True)

    def post(self, worker: WorkerId, reading: Reading) -> None:
        with self._mutex, _translated():
            _write(self._file(worker), reading)

    def look(self) -> Posted:
        with self._locked():
            ended = self._read_ended()
            return Posted(
                {
                    worker: reading
                    for worker, path in self._files().items()
                    if worker not in ended.workers
                    and (reading := _read(path, Reading)) is not None
                },
                ended.reading,
            )

    def retire(self, worker: WorkerId) -> None:
        with self._locked():
            ended = self._read_ended()
            path = self._file(worker)
            if worker not in ended.workers:
                last = _read(path, Reading) or NOTHING
                # Before its file is removed: a crash between the two loses nothing.
                retired = _Ended(ended.workers | {worker}, ended.reading + last.ended())
                _write(self._ended, retired)
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        with self._locked():
            for path in self._folder.glob(f"*{SUFFIX}*"):
                path.unlink(missing_ok=True)

    def _read_ended(self) -> _Ended:
        return _read(self._ended, _Ended) or _Ended()

    def _file(self, worker: WorkerId) -> Path:
        return self._folder / f"{worker}{self._suffix}"

    def _files(self) -> dict[WorkerId, Path]:
        return {
            WorkerId(UUID(path.name.removesuffix(self._suffix))): path
            for path in self._folder.glob(f"*-*-*-*-*{self._suffix}")
        }

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(
            self._folder / "scoreboard", thread_local=False, fallback_to_soft=False
        )
        with (
            self._mutex,
            _translated(),
            lock.acquire(timeout=LOCK_TIMEOUT_S, poll_interval=0.001),
        ):
            yield


def _write(path: Path, value: object) -> None:
    whole = path.with_name(f"{path.name}.{os.getpid()}")
    whole.write_bytes(msgspec.msgpack.encode(value))
    whole.replace(path)


def _read(path: Path, kind: type[T]) -> T | None:
    """Return what a file holds; None if there is none, or it was cut off."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (Timeout, OSError) as error:
        raise Unavailable(
            "The folder of the workers' figures cannot be used: check that it can be "
            "written and is on a local disk."
        ) from error
