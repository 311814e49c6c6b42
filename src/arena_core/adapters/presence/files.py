"""Presence by locked files: the kernel lets go of a lock when its process dies."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import msgspec
from filelock import FileLock, Timeout

from arena_core.application.decoding import decoder
from arena_core.application.ports import Note
from arena_core.domain.errors import Conflict, Unavailable
from arena_core.domain.ids import WorkerId

GUARD_TIMEOUT_S = 5.0


class FilePresence:
    """One file for each worker, locked by the process that is alive as it.

    To ask whether a lock is held one has to try it, and for that moment the one
    who asks would look alive to another, or keep a worker from announcing itself.
    So whoever touches these files holds one more lock, the guard, meanwhile: then
    a lock that cannot be had is a worker's, and a file can be removed in peace.

    What a worker tells is a second file, put in the place of the one before.  It is
    not made to outlast a power cut, which no worker does.

    Safe to use from several threads and processes of one machine.
    """

    def __init__(self, folder: Path) -> None:
        """`folder` is made if it is missing.  It must be on a local disk."""
        self._folder = folder
        self._held: dict[WorkerId, FileLock] = {}
        self._mutex = threading.Lock()
        self._telling = threading.Lock()
        with _translated():
            folder.mkdir(parents=True, exist_ok=True)

    def announce(self, worker: WorkerId) -> None:
        """See `Presence`.  Raises `Conflict` if another process is alive as it."""
        with self._guarded():
            # Whoever empties the folder makes us unseen: announcing again mends it.
            if worker in self._held and self._file(worker).exists():
                return
            lock = self._try(worker)
            if lock is None:
                raise Conflict(
                    "Another process is alive as this worker: "
                    "give each worker an id of its own."
                )
            self._held[worker] = lock

    def is_alive(self, worker: WorkerId) -> bool:
        if not self._file(worker).exists():
            return False
        if worker in self._held:
            return True
        with self._guarded():
            lock = self._try(worker)
            if lock is None:
                return True
            self._remove(worker, lock)
            return False

    def is_anyone_alive(self) -> bool:
        """Say whether any worker at all is alive."""
        return any(self.is_alive(worker) for worker in self._workers())

    def withdraw(self, worker: WorkerId) -> None:
        with self._telling, self._guarded():
            lock = self._held.pop(worker, None)
            if lock is not None:
                self._remove(worker, lock)

    def tell(self, worker: WorkerId, note: Note) -> None:
        with self._telling, _translated():
            if worker in self._held:
                if not self._file(worker).exists():
                    self.announce(worker)  # nobody waits for who is unseen
                new = self._note(worker).with_suffix(".new")
                new.write_bytes(msgspec.json.encode(note))
                new.replace(self._note(worker))

    def notes(self) -> Mapping[WorkerId, Note]:
        with _translated():
            return {worker: self._told(worker) for worker in self._workers()}

    def _told(self, worker: WorkerId) -> Note:
        try:
            return decoder(Note).decode(self._note(worker).read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            # Nothing, or of another release: it is asked to have done nothing yet.
            return Note()

    def _workers(self) -> list[WorkerId]:
        found = self._folder.glob("*-*-*-*-*.lock")
        return [WorkerId(UUID(path.stem)) for path in found]

    def _note(self, worker: WorkerId) -> Path:
        return self._folder / f"{worker}.note"

    def _file(self, worker: WorkerId) -> Path:
        return self._folder / f"{worker}.lock"

    def _try(self, worker: WorkerId) -> FileLock | None:
        lock = _lock(self._file(worker))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def _remove(self, worker: WorkerId, lock: FileLock) -> None:
        # Released first, for Windows removes no file that is open.
        lock.release()
        note = self._note(worker)
        for path in (self._file(worker), note, note.with_suffix(".new")):
            path.unlink(missing_ok=True)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._mutex, _translated():
            guard = _lock(self._folder / "guard")
            with guard.acquire(timeout=GUARD_TIMEOUT_S, poll_interval=0.001):
                yield


def _lock(path: Path) -> FileLock:
    # A soft lock, a file that is there or not, would outlast its process.
    return FileLock(path, thread_local=False, fallback_to_soft=False)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Timeout as error:
        raise Unavailable("The workers' locks are busy: try again.") from error
    except OSError as error:
        raise Unavailable(
            "The folder of the workers' locks cannot be used: check that it can be "
            "written and is on a local disk."
        ) from error
