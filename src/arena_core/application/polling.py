"""How often somebody may ask what has become of something: not too soon again."""

import threading
from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID

MOST = 4096
"""How many are remembered; of more, those are forgotten that asked longest ago."""


class Polls:
    """When each was asked about last, in this process.  Safe to use from threads.

    Several processes know nothing of each other's: with n of them somebody may ask n
    times as often.
    """

    def __init__(self, least: timedelta) -> None:
        """`least`: the time between two questions about the same."""
        self._least = least
        self._asked_at: OrderedDict[UUID, datetime] = OrderedDict()
        self._lock = threading.Lock()

    def is_in_time(self, of: UUID, now: datetime) -> bool:
        """Say whether it is not too soon to ask; either way it has been asked now."""
        with self._lock:
            before = self._asked_at.pop(of, None)
            self._asked_at[of] = now
            if len(self._asked_at) > MOST:
                self._asked_at.popitem(last=False)
        return before is None or now - before >= self._least
