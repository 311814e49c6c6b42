"""What imports are doing in this process just now: kept in memory, and nowhere else."""

import threading
from datetime import datetime

from attrs import frozen

from arena_core.domain.ids import ImportId


@frozen
class Doing:
    """What is being done, in a few words, and since when."""

    what: str
    since: datetime


class Progress:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._doing: dict[ImportId, Doing] = {}
        self._lock = threading.Lock()

    def say(self, import_id: ImportId, what: str, now: datetime) -> None:
        """Say what is being done; saying it again changes nothing."""
        with self._lock:
            known = self._doing.get(import_id)
            if known is None or known.what != what:
                self._doing[import_id] = Doing(what, now)

    def end(self, import_id: ImportId) -> None:
        """Say that nothing is being done any more.  Safe to call twice."""
        with self._lock:
            self._doing.pop(import_id, None)

    def of(self, import_id: ImportId) -> Doing | None:
        """Return what this process is doing for an import, if it does anything."""
        return self._doing.get(import_id)
