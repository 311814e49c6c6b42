"""The parent of `serve --workers`: it keeps several processes answering at one address.

Each worker has a listening socket of its own (SO_REUSEPORT), over which the kernel
spreads new connections.  The parent has made it and keeps it: when a worker dies, the
connections that wait in its queue are its successor's.
"""

import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import FileIO

from attrs import define

from arena_core.domain.errors import Rejected, Unavailable
from arena_core.entrypoints.http.server import DRAIN_S, listen
from arena_core.entrypoints.worker_processes import WorkerProcess

log = logging.getLogger(__name__)

DRAIN, INTERRUPT = b"d", b"i"
GRACE_S = DRAIN_S + 5.0
"""How long workers may drain before they are killed."""
STEADY_S = 10.0
"""A worker that has lived for so long has not died of how it was started."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


def shared_listeners(host: str, port: int, number: int) -> list[socket.socket]:
    """Return sockets that listen at one address; port 0 chooses a free one.

    Raises `OSError` if somebody listens there already.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise Rejected(
            "This system cannot share a port between processes: leave --workers out.",
            field="workers",
        )
    # Alone at first: a port that is shared would be shared with a stranger as well.
    with listen(host, port) as alone:
        port = alone.getsockname()[1]
    return [listen(host, port, shared=True) for _ in range(number)]


@define(eq=False)
class _Place:
    """Where one worker answers, and after it the next."""

    number: int
    listener: socket.socket | None
    process: WorkerProcess | None = None
    ready: bool = False
    failures: int = 0
    """How many workers in a row have not been steady."""
    due_s: float | None = None
    """When the next is to be started."""

    def leave_to_others(self) -> None:
        """Close the listener: the kernel gives new connections to the others."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None


class Workers:
    """Starts a worker for each listener, and another for each that ends.

    `drain` and `interrupt` may be called by a signal handler or another thread.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        """Take the `listeners` over: they are closed at the end."""
        self._address = listeners[0].getsockname()[:2]
        self._places = [_Place(n, each) for n, each in enumerate(listeners, 1)]
        self._start_at = partial(WorkerProcess.start, command, environment)
        self._grace_s = grace_s
        self._announce: Callable[[], object] | None = None
        self._deadline_s: float | None = None
        """By when all must have ended; None until they are to."""
        self._failure: str | None = None
        self._clean = True
        wake, waker = os.pipe()
        self._wake, self._waker = FileIO(wake), FileIO(waker, "w")
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._asked)

    def drain(self) -> None:
        """End all workers once they have answered.  To ask twice changes nothing."""
        self._ask(DRAIN)

    def interrupt(self) -> None:
        """Drain; end them at once if that has been asked for before."""
        self._ask(INTERRUPT)

    def _ask(self, what: bytes) -> None:
        with suppress(ValueError):  # closed, for all have ended
            self._waker.write(what)

    def run(self, announce: Callable[[], object]) -> bool:
        """Serve until told to drain; return whether all workers have ended well.

        Calls `announce` once, when all are ready.  Raises `Unavailable`, having
        ended the others, if one cannot start and there is none to go on with.
        """
        self._announce = announce
        try:
            for place in self._places:
                self._start(place)
            while self._deadline_s is None or self._running():
                self._step()
        finally:
            self._free()
        if self._failure is not None:
            raise Unavailable(self._failure)
        return self._clean

    def _running(self) -> list[WorkerProcess]:
        return [place.process for place in self._places if place.process is not None]

    def _step(self) -> None:
        for key, _ in self._selector.select(self._patience_s()):
            key.data()
        now_s = time.monotonic()
        if self._deadline_s is not None:
            if now_s >= self._deadline_s:
                self._kill_all()
            return
        for place in self._places:
            if place.due_s is not None and now_s >= place.due_s:
                self._start(place)

    def _patience_s(self) -> float | None:
        """Return how long there is nothing to do; None if until something happens."""
        due_s = [self._deadline_s, *(place.due_s for place in self._places)]
        known = [at_s for at_s in due_s if at_s is not None]
        return max(0.0, min(known) - time.monotonic()) if known else None

    # --- one worker ------------------------------------------------------------------

    def _start(self, place: _Place) -> None:
        place.due_s = None
        try:
            if place.listener is None:
                place.listener = listen(*self._address, shared=True)
            process = self._start_at(place.listener)
        except OSError as error:
            self._start_another(place, f"cannot be started ({error.strerror})")
            return
        place.process = process
        heard = partial(self._heard, place, process)
        self._selector.register(process.status, selectors.EVENT_READ, heard)

    def _heard(self, place: _Place, process: WorkerProcess) -> None:
        if process.is_ready():
            place.ready = True
            self._announce_once()
            return
        self._selector.unregister(process.status)
        status = process.wait()
        was_ready, place.ready, place.process = place.ready, False, None
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        if self._deadline_s is None:
            if time.monotonic() - process.started_s >= STEADY_S:
                place.failures = 0
            self._start_another(place, f"has ended {how}", was_ready=was_ready)
        elif status != 0:
            self._clean = False
            log.warning("Worker %d has ended %s.", place.number, how)

    def _announce_once(self) -> None:
        if self._announce is not None and all(place.ready for place in self._places):
            self._announce()
            self._announce = None

    def _start_another(
        self, place: _Place, how: str, *, was_ready: bool = False
    ) -> None:
        """Try again, later each time; give up if there is no hope."""
        if not was_ready and (self._announce is not None or not self._running()):
            self._failure = f"A worker {how} before it could answer: see what it said."
            self._drain_all()
            return
        pause_s = pause(place.failures)
        when = f" in {pause_s:g} s" if pause_s else ""
        log.warning("Worker %d %s: another is started%s.", place.number, how, when)
        if pause_s:
            place.leave_to_others()
        place.failures += 1
        place.due_s = time.monotonic() + pause_s

    # --- the end of all --------------------------------------------------------------

    def _asked(self) -> None:
        asked = self._wake.read(1)
        if self._deadline_s is None:
            self._drain_all()
        elif asked == INTERRUPT:
            self._kill_all()

    def _drain_all(self) -> None:
        self._deadline_s = time.monotonic() + self._grace_s
        for place in self._places:
            place.due_s = None
            place.leave_to_others()
        for process in self._running():
            process.drain()

    def _kill_all(self) -> None:
        self._clean = False
        self._deadline_s = time.monotonic() + self._grace_s
        for process in self._running():
            process.kill()

    def _free(self) -> None:
        for place in self._places:
            place.leave_to_others()
        for process in self._running():  # only if this process has met a defect
            process.kill()
            process.wait()
        self._selector.close()
        self._waker.close()
        self._wake.close()


def pause(failures: int) -> float:
    """Return how many seconds to wait with the next one: none for the first."""
    if failures == 0:
        return 0.0
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 100), LONGEST_PAUSE_S)
