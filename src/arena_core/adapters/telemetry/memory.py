"""A scoreboard in memory: for workers that are threads of one process and share it."""

import threading

from arena_core.application.readings import NOTHING, Posted, Reading
from arena_core.domain.ids import WorkerId


class MemoryScoreboard:
    """A dict.  Gone with the process."""

    def __init__(self) -> None:
        self._posted: dict[WorkerId, Reading] = {}
        self._ended = NOTHING
        self._retired: set[WorkerId] = set()
        self._lock = threading.Lock()

    def post(self, worker: WorkerId, reading: Reading) -> None:
        with self._lock:
            if worker not in self._retired:
                self._posted[worker] = reading

    def look(self) -> Posted:
        with self._lock:
            return Posted(dict(self._posted), self._ended)

    def retire(self, worker: WorkerId) -> None:
        with self._lock:
            if worker in self._posted:
                self._ended += self._posted.pop(worker).ended()
            self._retired.add(worker)

    def clear(self) -> None:
        with self._lock:
            self._posted, self._ended, self._retired = {}, NOTHING, set()
