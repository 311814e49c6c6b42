"""One answer for all workers of a store: each posts its reading, any adds them up.

A worker that has ended keeps its counts on the scoreboard, so that no total ever goes
back when it is replaced.  They are forgotten when a worker starts and finds that
nobody is alive.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from attrs import evolve

from arena_core.application.ports import Presence
from arena_core.application.readings import (
    ProcessReading,
    Reading,
    Scoreboard,
    Work,
    total,
)
from arena_core.application.telemetry import Telemetry
from arena_core.domain.errors import ArenaError
from arena_core.domain.ids import WorkerId

log = logging.getLogger(__name__)

POST_S = 1.0
"""How old the figures of other workers may be."""


class Metering:
    """Safe to use from several threads."""

    def __init__(  # noqa: PLR0913 -- the ports, and what is measured
        self,
        telemetry: Telemetry,
        scoreboard: Scoreboard,
        presence: Presence,
        worker: WorkerId,
        measure: Callable[[], ProcessReading | None],
        *,
        set_aside: Callable[[], Mapping[Work, int]] = dict,
    ) -> None:
        """`measure` returns what this process takes of the machine.

        `set_aside` returns how much of each work it cannot go on with just now.
        """
        self.telemetry = telemetry
        self._scoreboard = scoreboard
        self._presence = presence
        self._worker = worker
        self._measure = measure
        self._set_aside = set_aside
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Post this worker's reading from now on.  Call it once the worker is present.

        Raises `Unavailable` if the scoreboard cannot be used.
        """
        if not any(map(self._is_alive, self._scoreboard.look().by_worker)):
            self._scoreboard.clear()
        self._thread = threading.Thread(
            target=self._post_again_and_again, name="arena-metering", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Post the last reading.  Safe to call twice, and without a start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def reading(self) -> tuple[Reading, int]:
        """Return what all workers have counted, and how many of them are alive.

        Once it has returned, no later one of any worker returns less.
        """
        own = self._own()
        if self._thread is not None:
            self._scoreboard.post(self._worker, own)
        posted = self._scoreboard.look()
        others = {w: r for w, r in posted.by_worker.items() if w != self._worker}
        alive = {w: r for w, r in others.items() if self._is_alive(w)}
        ended = [others[worker].ended() for worker in others.keys() - alive.keys()]
        for worker in others.keys() - alive.keys():
            self._scoreboard.retire(worker)
        return total([own, *alive.values(), *ended, posted.ended]), 1 + len(alive)

    def set_aside(self) -> int:
        """Return how many stages and trainings wait here, for something is wrong."""
        return sum(self._set_aside().values())

    def _own(self) -> Reading:
        return evolve(
            self.telemetry.reading(),
            process=self._measure(),
            set_aside=self._set_aside(),
        )

    def _is_alive(self, worker: WorkerId) -> bool:
        return self._presence.is_alive(worker)

    def _post_again_and_again(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stopping.wait(POST_S)
            try:
                self._scoreboard.post(self._worker, self._own())
            except ArenaError:
                log.exception("The figures of this worker could not be posted")
