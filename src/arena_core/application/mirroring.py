"""What is seen of a checkpoint while another one could take its place.

A mirror counts how requests are answered, and has the other checkpoint asked too: the
same observations, in a thread of its own and for a share of the time only.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from arena_core.application.comparing import Comparison, Sample
from arena_core.application.latencies import Latencies
from arena_core.application.models import Acted, Model, Turn
from arena_core.domain.errors import Unloaded
from arena_core.domain.guards import Figures

log = logging.getLogger(__name__)

BUSY_SHARE = 0.1
"""Of the time, at most, that the other checkpoint may run."""
MOST_QUEUED = 16
"""Samples: more are dropped."""
CLOSE_S = 1.0
"""How long closing waits for the other checkpoint.  One that hangs is left alone."""


class Mirror:
    """Safe to use from several threads.  Close it before the models."""

    def __init__(
        self,
        other: Model,
        served: Model,
        *,
        slow_ms: float | None = None,
        busy_share: float = BUSY_SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`slow_ms`: requests that take longer are slow.  `clock`: in seconds."""
        slow_s = math.inf if slow_ms is None else slow_ms / 1000
        self._latencies = Latencies(slow_s)
        self._errors = 0
        self._comparison = Comparison(other, served)
        self._compared = self._comparison.seen()
        self._busy_share = busy_share
        self._clock = clock
        self._rests_until = -math.inf
        self._queue: deque[Sample] = deque()
        self._is_busy = self._is_closed = False
        self._counting = threading.Lock()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def answered(
        self,
        turns: Mapping[str, Turn],
        acted: Mapping[str, Acted],
        *,
        latencies_s: Sequence[float],
    ) -> None:
        """Count answers, one for each latency, and have the turns compared.

        Never waits: what there is no time for is not compared.
        """
        now_s = self._clock()
        if latencies_s:
            with self._counting:
                self._latencies.add(latencies_s, now_s)
        if now_s < self._rests_until:
            return
        for agent, turn in turns.items():
            sample = Sample.of(agent, turn, acted[agent])
            if sample is not None:
                self._put(sample)

    def failed(self, requests: int = 1) -> None:
        """Count requests that the served checkpoint could not answer."""
        with self._counting:
            self._errors += requests

    def figures(self) -> Figures:
        """Return what was seen so far.

        Never waits for the other checkpoint: whoever asks follows the log as well.
        """
        (compared, shift, greatest_of), masked_rows, violations = self._compared
        with self._counting:
            seen = self._latencies
            seen.pass_to(self._clock())
            p99_s = seen.quantile(0.99)
            return Figures(
                requests=seen.count + self._errors,
                errors=self._errors,
                seconds=seen.seconds,
                slow_seconds=seen.slow_seconds,
                p99_ms=None if p99_s is None else p99_s * 1000,
                masked_rows=masked_rows,
                mask_violations=violations,
                compared=compared,
                action_shift=shift if compared else None,
                greatest_of=greatest_of,
            )

    def drain(self) -> None:
        """Wait until all that was queued has been compared."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._queue or self._is_busy))

    def close(self) -> None:
        """End the thread, when it has finished what it is at.  Safe to call twice."""
        self._end()
        self._thread.join(CLOSE_S)

    def _put(self, sample: Sample) -> None:
        with self._changed:
            if not self._is_closed and len(self._queue) < MOST_QUEUED:
                self._queue.append(sample)
                self._changed.notify_all()

    def _run(self) -> None:
        while (sample := self._next()) is not None:
            begun_s = self._clock()
            self._compare(sample)
            took_s = self._clock() - begun_s
            begun_s = max(begun_s, self._rests_until)
            self._rests_until = begun_s + took_s / self._busy_share

    def _next(self) -> Sample | None:
        """Wait for something to compare; None: there is no more to do."""
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_closed or self._queue)
            if self._is_closed:
                return None
            self._is_busy = True
            return self._queue.popleft()

    def _compare(self, sample: Sample) -> None:
        try:
            self._comparison.add(sample)
            self._compared = self._comparison.seen()
        except Unloaded:
            self._end()
        except Exception:  # serving goes on, whatever comparing meets
            log.exception("mirrored requests cannot be compared any more")
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._is_closed = True
            self._queue.clear()
            self._changed.notify_all()
