"""Watching the log for all who work by it: one waits, and wakes whom it concerns.

Each of them would otherwise wake for every append, and most would find nothing that is
theirs: in a busy process they would keep the one that has work from the processor.
"""

import logging
import threading

from attrs import define, field

from arena_core.application.ports import EventStore
from arena_core.application.views import UNKNOWN, Views
from arena_core.domain.errors import ArenaError

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How long a stop may have to wait for the thread that waits for the log."""
LOOK_AGAIN_S = 1.0


@define(eq=False)
class Alarm:
    """Rings when something of some kinds of aggregates may have changed.

    What has changed since it was silenced rings it, however early that was.
    """

    kinds: frozenset[str]
    heard: int = UNKNOWN
    """How far the log has been looked at for it."""
    _rings: threading.Event = field(factory=threading.Event, init=False)

    def ring(self) -> None:
        self._rings.set()

    def silence(self) -> None:
        """Begin anew: to be called before the work, and not after it."""
        self._rings.clear()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it rings, but no longer than that; say whether it has."""
        return self._rings.wait(timeout_s)


class LogWatch:
    def __init__(self, store: EventStore, views: Views) -> None:
        self._store = store
        self._views = views
        self._alarms: list[Alarm] = []

    def alarm(self, kinds: frozenset[str]) -> Alarm:
        """Return one that rings from now on."""
        self._alarms.append(Alarm(kinds))
        return self._alarms[-1]

    def ring_all(self) -> None:
        for alarm in self._alarms:
            alarm.ring()

    def watch(self, over: threading.Event) -> None:
        """Ring the alarms, until it is `over`."""
        seen = UNKNOWN
        while not over.is_set():
            try:
                seen = self._look(seen)
            except ArenaError:
                log.exception("The log cannot be watched; it is tried again.")
                over.wait(LOOK_AGAIN_S)
            except Exception:
                log.exception("The watch of the log met a defect; it goes on.")
                over.wait(LOOK_AGAIN_S)

    def _look(self, seen: int) -> int:
        """Wait a little for the log to grow beyond `seen`; return where it ends."""
        head = self._store.head(beyond=seen, timeout_s=LOOK_S)
        if head > seen:
            self._views.catch_up()
            for alarm in tuple(self._alarms):
                self._consider(alarm)
        return head

    def _consider(self, alarm: Alarm) -> None:
        changed = self._views.changed_at(alarm.kinds)
        # Whoever acts on the log alone must go on where the rows cannot.
        if changed > alarm.heard or self._views.halted is not None:
            alarm.heard = changed
            alarm.ring()
