"""Presence in memory: for workers that are threads of one process and share it."""

from arena_core.domain.ids import WorkerId


class MemoryPresence:
    """A set.  Gone with the process, and so is everyone who is in it."""

    def __init__(self) -> None:
        self._alive: set[WorkerId] = set()

    def announce(self, worker: WorkerId) -> None:
        self._alive.add(worker)

    def is_alive(self, worker: WorkerId) -> bool:
        return worker in self._alive

    def withdraw(self, worker: WorkerId) -> None:
        self._alive.discard(worker)
