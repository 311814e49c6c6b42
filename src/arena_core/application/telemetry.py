"""What one process counts of its own work: cheap enough to be always on.

Counting takes no lock: it happens on the event loop and in the threads that run
models, and of two counts at the very same moment one may be lost.  What is counted
only grows; it is read as a whole with `reading`, and made sense of elsewhere.
"""

from bisect import bisect_left
from enum import Enum, IntEnum

import numpy as np

from arena_core.application.ports import Array
from arena_core.application.readings import (
    BILLION,
    AgentReading,
    AgentSeries,
    HistogramReading,
    HttpSeries,
    Reading,
)
from arena_core.application.serving import Live
from arena_core.domain.errors import Flaw
from arena_core.domain.ids import DeploymentId, Digest

INFERENCE_SECONDS = (
    25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""From a policy of two small layers on a loop without a queue to a language model."""
HTTP_SECONDS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""Those of OpenTelemetry's `http.server.request.duration`."""
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
MOST_ACTIONS = 64
"""Actions from 0 that are counted each by itself; the others together."""
MOST_PARTS = 16
"""Parts of a MultiDiscrete or MultiBinary action that are counted, from the first."""
FEW = 32
"""Actions up to this many are counted one by one: NumPy begins to pay above."""
VERSION_LENGTH = 12
"""Characters of a digest that tell checkpoints of one agent apart."""
WHOLE_NUMBERS = "iub"
"""The kinds of dtypes of actions that can be counted; others are continuous."""


class Outcome(IntEnum):
    """How a request of the data plane ended.  An index of the meter's counts."""

    OK = 0
    REJECTED = 1
    """The request was wrong, or not allowed: 4xx but for 429."""
    OVERLOADED = 2
    """503: the queue was full."""
    EXPIRED = 3
    """504: the deadline had passed."""
    LIMITED = 4
    """429: too many requests of one key."""
    FAILED = 5
    """Any other 5xx."""


class Method(Enum):
    """The methods of HTTP; any other is counted as `_OTHER`."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"
    OTHER = "_OTHER"


METHODS = {method.value: method for method in Method}


class Histogram:
    """How often values fell up to each bound, and above the last one."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def reading(self) -> HistogramReading:
        return HistogramReading(tuple(self._counts), round(self._sum * BILLION))


class DeploymentMeter:
    """What one deployment has done by one method with the weights of one checkpoint."""

    __slots__ = (
        "_actions",
        "_durations",
        "_outcomes",
        "_parts",
        "_requests_run",
        "_rows",
        "_runs",
        "_violations",
        "queued",
    )

    def __init__(self) -> None:
        self.queued = 0
        """Requests that wait for the weights just now."""
        self._outcomes = [0] * len(Outcome)
        self._durations = Histogram(INFERENCE_SECONDS)
        self._rows = Histogram(ROWS)
        self._runs = Histogram(INFERENCE_SECONDS)
        self._requests_run = 0
        self._violations = 0
        self._actions: dict[int, list[int]] = {}

    def answered(self, outcome: Outcome, seconds: float) -> None:
        """Count a request that took `seconds` from its arrival to its answer.

        Only what succeeded is timed: a refusal takes no time to speak of, and would
        make an overloaded deployment look quick.
        """
        self._outcomes[outcome] += 1
        if not outcome:
            self._durations.observe(seconds)

    def ran(self, rows: int, requests: int, seconds: float) -> None:
        """Count one run of the weights for so many rows, of so many requests."""
        self._rows.observe(rows)
        self._runs.observe(seconds)
        self._requests_run += requests

    def acted(self, actions: Array) -> None:
        """Count discrete actions, (B,) or (B, parts); of others nothing is kept."""
        if actions.dtype.kind not in WHOLE_NUMBERS:
            return
        if actions.ndim == 1:
            self._count(0, actions)
            return
        of_parts = actions.reshape(len(actions), -1).T[:MOST_PARTS]
        for part, chosen in enumerate(of_parts):
            self._count(part, chosen)

    def violated(self, rows: int) -> None:
        """Count rows in which the weights preferred an action that the mask forbids."""
        self._violations += rows

    def reading(self) -> AgentReading:
        return AgentReading(
            outcomes=tuple(self._outcomes),
            durations=self._durations.reading(),
            rows=self._rows.reading(),
            runs=self._runs.reading(),
            requests_run=self._requests_run,
            violations=self._violations,
            actions={p: tuple(counts) for p, counts in self._actions.copy().items()},
            queued=self.queued,
        )

    def _count(self, part: int, chosen: Array) -> None:
        counts = self._actions.get(part)
        if counts is None:
            counts = self._actions.setdefault(part, [0] * (MOST_ACTIONS + 1))
        if chosen.size <= FEW:
            for action in chosen.tolist():
                counts[action if 0 <= action < MOST_ACTIONS else MOST_ACTIONS] += 1
            return
        for action, times in enumerate(_frequencies(chosen)):
            counts[action] += times


class Telemetry:
    """All that one process counts."""

    def __init__(self) -> None:
        self._meters: dict[
            tuple[DeploymentId, Digest, str], tuple[AgentSeries, DeploymentMeter]
        ] = {}
        self._http: dict[HttpSeries, Histogram] = {}
        self._refused = dict.fromkeys(Flaw, 0)

    def of(self, live: Live, method: str) -> DeploymentMeter:
        """Return the meter of what answers now; always the same one for the same."""
        key = (live.deployment_id, live.digest, method)
        found = self._meters.get(key)
        if found is None:
            version = live.digest[:VERSION_LENGTH]
            series = AgentSeries(live.organisation, live.agent_id, version, method)
            found = self._meters.setdefault(key, (series, DeploymentMeter()))
        return found[1]

    def handled(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer of the control plane.

        `route`: the template that fits, never the path that was asked for; empty if
        none fits.
        """
        known = METHODS.get(method, Method.OTHER)
        series = HttpSeries(known.value, route, status)
        histogram = self._http.get(series)
        if histogram is None:
            histogram = self._http.setdefault(series, Histogram(HTTP_SECONDS))
        histogram.observe(seconds)

    def refused(self, flaw: Flaw) -> None:
        """Count a request, to whichever plane, whose credential was not good."""
        self._refused[flaw] += 1

    def reading(self) -> Reading:
        """Return all that was counted so far, but for what the process takes."""
        return Reading(
            tuple((s, meter.reading()) for s, meter in list(self._meters.values())),
            tuple(
                (s, histogram.reading()) for s, histogram in list(self._http.items())
            ),
            self._refused.copy(),
        )


def _frequencies(actions: Array) -> list[int]:
    """Return how often each action came; the last: any that is not of the first."""
    others = (actions < 0) | (actions >= MOST_ACTIONS)
    # Not every release of NumPy counts unsigned numbers of 64 bits.
    counted = np.where(others, MOST_ACTIONS, actions).astype(np.intp)
    frequencies: list[int] = np.bincount(counted, minlength=MOST_ACTIONS + 1).tolist()
    return frequencies
