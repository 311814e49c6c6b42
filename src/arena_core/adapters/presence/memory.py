"""Presence in memory: for workers that are threads of one process and share it."""

from collections.abc import Mapping

from arena_core.application.ports import Note
from arena_core.domain.ids import WorkerId


class MemoryPresence:
    """A dict.  Gone with the process, and so is everyone who is in it."""

    def __init__(self) -> None:
        self._notes: dict[WorkerId, Note] = {}

    def announce(self, worker: WorkerId) -> None:
        self._notes.setdefault(worker, Note())

    def is_alive(self, worker: WorkerId) -> bool:
        return worker in self._notes

    def withdraw(self, worker: WorkerId) -> None:
        self._notes.pop(worker, None)

    def tell(self, worker: WorkerId, note: Note) -> None:
        if worker in self._notes:
            self._notes[worker] = note

    def notes(self) -> Mapping[WorkerId, Note]:
        return dict(self._notes)
