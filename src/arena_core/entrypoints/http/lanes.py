"""The way of a request to one live deployment: admitted, read, batched, answered.

A lane belongs to one `Live` and one event loop.  When something newer is live there is
a new lane; what is in the old one is still answered by it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from weakref import WeakKeyDictionary

from arena_core.application.batching import Batcher, Defect, Job, Work
from arena_core.application.inference import Answer, Call, Verb
from arena_core.application.models import Acted, Model, Turn
from arena_core.application.plain_rows import PlainCall, PlainRows
from arena_core.application.rates import TokenBucket
from arena_core.application.serving import Live
from arena_core.application.telemetry import DeploymentMeter, Outcome, Telemetry
from arena_core.domain.errors import (
    ArenaError,
    DeadlineExceeded,
    NotFinite,
    Overloaded,
    RateLimited,
    Rejected,
)
from arena_core.entrypoints.http.asking import Asking
from arena_core.entrypoints.http.errors import HIDDEN, status_of, without_frames
from arena_core.entrypoints.settings import Settings

log = logging.getLogger(__name__)

INLINE_BODY_BYTES = 4096
"""Of a body of whatever form that is read on the event loop."""
INLINE_PLAIN_BYTES = 256 * 1024
"""Of a plain body, which is read in one go; what is larger is read in a thread."""
PATIENCE = 4
"""So many runs a request may wait for at least, where each is long."""
MOST_BUCKETS = 4096


class Lane:
    """How one event loop answers requests of one verb to one live deployment."""

    def __init__(
        self,
        live: Live,
        verb: Verb,
        batcher: Batcher,
        meter: DeploymentMeter,
        settings: Settings,
    ) -> None:
        self.live = live
        self.verb = verb
        self.batcher = batcher
        self.meter = meter
        self.authorization = live.authorization.encode()
        self.headers = headers_of(live)
        self.head = b"".join(b"%b: %b\r\n" % header for header in self.headers)
        runs_s = PATIENCE * live.model.pace.seconds(1)
        self._patience_s = max(settings.deadline_ms / 1000, runs_s)
        self._longest_s = settings.max_deadline_ms / 1000
        self._plain = PlainRows.of(live.model) if verb.name == "get_action" else None
        self._answer: Work = lambda calls: verb.answer(live.model, calls, self._watch)
        if self._plain is not None:
            self._answer_plain = partial(self._plain.answer, watch=self._watch)

    def deadline(self, asking: Asking, now: float) -> float:
        """Return until when a request may be begun."""
        if asking.timeout_s is None:
            return now + self._patience_s
        return now + min(asking.timeout_s, self._longest_s)

    def begin(self, job: Job, asking: Asking, body: bytes) -> None:
        """Read a request that was admitted; its job is done with its answer."""
        plain = self._plain
        if plain is not None and asking.is_plain and len(body) <= INLINE_PLAIN_BYTES:
            read = plain.read if asking.names is None else plain.read_raw
            call = read(body)
            if call is not None:
                self._submit(job, self._answer_plain, call)
                return
        read_it = partial(
            self.verb.read, self.live.model, body, asking.choice, asking.names
        )
        if len(body) <= INLINE_BODY_BYTES:
            self._read(job, read_it)
        else:
            begun = clock()

            def take(reading: asyncio.Future[Call]) -> None:
                if asking.timeout_s is None:
                    job.deadline += clock() - begun
                self._read(job, reading.result)

            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, read_it).add_done_callback(take)

    def answered(self, answer: Answer, seconds: float) -> None:
        """Count what a request was answered with, after so long."""
        outcome = Outcome.OK
        if isinstance(answer, ArenaError):
            outcome = outcome_of(answer)
        self.meter.answered(outcome, seconds)
        mirror = self.live.mirror
        if mirror is not None:
            if outcome is Outcome.OK:
                mirror.answered({}, {}, latencies_s=(seconds,))
            elif outcome is Outcome.FAILED or isinstance(answer, NotFinite):
                # Whoever is at fault: other weights might have answered.
                mirror.failed()

    def _read(self, job: Job, read: Callable[[], Call]) -> None:
        try:
            call = read()
        except ArenaError as error:
            self.batcher.withdraw()
            job.done(without_frames(error))
        except Exception:
            log.exception("A defect in reading a request")
            self.batcher.withdraw()
            job.done(Defect(HIDDEN))
        else:
            self._submit(job, self._answer, call)

    def _submit(self, job: Job, work: Work, call: Call | PlainCall) -> None:
        job.work, job.call, job.rows = work, call, call.rows
        self.batcher.submit(job)

    def _watch(self, turns: Mapping[str, Turn], acted: Mapping[str, Acted]) -> None:
        for agent, turn in turns.items():
            done = acted[agent]
            self.meter.acted(done.actions)
            if turn.legal is not None:
                head = self.live.model.agents[agent].head
                assert head is not None  # noqa: S101 -- what has a mask has a head
                self.meter.violated(head.violations(done.outputs, turn.legal))
        if self.live.mirror is not None:
            self.live.mirror.answered(turns, acted, latencies_s=())


class Lanes:
    """The lanes of one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        telemetry: Telemetry,
        all_live: Callable[[], Mapping[str, Live]],
    ) -> None:
        self.loop = loop
        self._all_live = all_live
        self._settings = settings
        self._telemetry = telemetry
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._batchers: WeakKeyDictionary[Model, Batcher] = WeakKeyDictionary()
        self._buckets: dict[str, TokenBucket] = {}

    def of(self, live: Live, asking: Asking) -> Lane:
        """Return the lane of what is live now."""
        lane = self._lanes.get(asking.lane)
        if lane is None or lane.live is not live:
            self._forget()
            lane = self._lanes[asking.lane] = self.new(live, asking.verb)
        return lane

    def limit(self, asking: Asking, now: float) -> None:
        """Raise `RateLimited` if the credential has used up its rate."""
        rate = self._settings.rate_limit
        if rate is None:
            return
        rate /= self._settings.workers
        bucket = self._buckets.get(asking.credential)
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                self._buckets.clear()
            bucket = TokenBucket(rate, max(1.0, rate))
            self._buckets[asking.credential] = bucket
        wait_s = bucket.take(now)
        if wait_s:
            raise RateLimited(
                f"This credential may ask {self._settings.rate_limit:g} times a "
                "second: try again later.",
                retry_after_s=wait_s,
            )

    def _forget(self) -> None:
        """Forget lanes of what is not live any more, and with them its model."""
        live = self._all_live()
        self._lanes = {
            name: lane
            for name, lane in self._lanes.items()
            if live.get(name[0]) is lane.live
        }

    def new(self, live: Live, verb: Verb) -> Lane:
        """Return a lane that is the caller's: of what need not be live any more."""
        meter = self._telemetry.of(live, verb.name)
        batcher = self._batcher(live.model, meter)
        return Lane(live, verb, batcher, meter, self._settings)

    def _batcher(self, model: Model, meter: DeploymentMeter) -> Batcher:
        known = self._batchers.get(model)
        if known is not None:
            return known

        def ran(rows: int, requests: int, seconds: float) -> None:
            meter.ran(rows, requests, seconds)
            meter.queued = batcher.waiting

        most_rows = self._settings.max_batch
        batcher = Batcher(model.pace, self.loop, most_rows=most_rows, on_run=ran)
        self._batchers[model] = batcher
        return batcher


def headers_of(live: Live) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that say who answers, with what weights, and since when."""
    return (
        (b"arena-agent", str(live.agent_id).encode()),
        (b"arena-checkpoint", live.digest.encode()),
        (b"arena-log-position", str(live.position).encode()),
    )


def outcome_of(error: ArenaError) -> Outcome:
    """Return what an error counts as."""
    match error:
        case Overloaded():
            return Outcome.OVERLOADED
        case RateLimited():
            return Outcome.LIMITED
        case DeadlineExceeded():
            return Outcome.EXPIRED
        case Rejected():
            return Outcome.REJECTED
        case _:
            is_theirs = status_of(error) < HTTPStatus.INTERNAL_SERVER_ERROR
            return Outcome.REJECTED if is_theirs else Outcome.FAILED


def clock() -> float:
    """Return the time that deadlines are told by, in seconds."""
    return time.perf_counter()
