"""What has been counted, as data: of one process, and added up over several.

A worker posts its reading to the scoreboard that all workers of the store share, so
that whichever of them is asked can answer for all.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import reduce
from itertools import zip_longest
from typing import Protocol, TypeVar

from attrs import evolve, frozen

from arena_core.domain.errors import Flaw
from arena_core.domain.ids import AgentId, OrganisationId, WorkerId

BILLION = 1_000_000_000


@frozen
class HistogramReading:
    """How often values fell between bounds, and what they add up to."""

    counts: tuple[int, ...] = ()
    """Of values up to each bound and above the one before; the last: above all."""
    billionths: int = 0
    """Of the sum.  A whole number, for the sum of floats depends on their order, and
    a total that goes back by the least bit is taken for one that began anew."""

    @property
    def sum(self) -> float:
        return self.billionths / BILLION

    def __add__(self, other: "HistogramReading") -> "HistogramReading":
        counts = _added(self.counts, other.counts)
        return HistogramReading(counts, self.billionths + other.billionths)


@frozen
class AgentSeries:
    """Whose figures they are; no two readings of one process have the same."""

    organisation: OrganisationId
    agent_id: AgentId
    version: str
    """The checkpoint: the first characters of its digest."""
    method: str
    """The verb of the data plane, such as `get_action`."""


@frozen
class AgentReading:
    """See `DeploymentMeter`, which counts it."""

    outcomes: tuple[int, ...] = ()
    durations: HistogramReading = HistogramReading()
    rows: HistogramReading = HistogramReading()
    runs: HistogramReading = HistogramReading()
    requests_run: int = 0
    violations: int = 0
    actions: Mapping[int, tuple[int, ...]] = {}
    """By part of the action: how often each was chosen; the last: any other."""
    queued: int = 0

    def __add__(self, other: "AgentReading") -> "AgentReading":
        parts = sorted({*self.actions, *other.actions})
        return AgentReading(
            _added(self.outcomes, other.outcomes),
            self.durations + other.durations,
            self.rows + other.rows,
            self.runs + other.runs,
            self.requests_run + other.requests_run,
            self.violations + other.violations,
            {
                p: _added(self.actions.get(p, ()), other.actions.get(p, ()))
                for p in parts
            },
            self.queued + other.queued,
        )


@frozen
class HttpSeries:
    """One kind of answer of the control plane."""

    method: str
    route: str
    """The template, such as `/api/v1/agents/{agent_id}`; empty: none fits."""
    status: int


@frozen
class ProcessReading:
    """What processes take of the machine."""

    cpu_ms: int
    resident_bytes: float = 0.0
    virtual_bytes: float = 0.0
    open_fds: float = 0.0
    max_fds: float = 0.0
    started_at_s: float | None = None
    """Of the oldest, in seconds since the epoch; None if none runs."""

    def __add__(self, other: "ProcessReading") -> "ProcessReading":
        starts = [s for s in (self.started_at_s, other.started_at_s) if s is not None]
        return ProcessReading(
            self.cpu_ms + other.cpu_ms,
            self.resident_bytes + other.resident_bytes,
            self.virtual_bytes + other.virtual_bytes,
            self.open_fds + other.open_fds,
            self.max_fds + other.max_fds,
            min(starts, default=None),
        )


class Work(Enum):
    """What a process sees to beside answering, as far as it can be set aside."""

    STAGE = "stage"
    TRAINING = "training"


@frozen
class Reading:
    """All that has been counted, of one process or several."""

    agents: tuple[tuple[AgentSeries, AgentReading], ...] = ()
    http: tuple[tuple[HttpSeries, HistogramReading], ...] = ()
    refused: Mapping[Flaw, int] = {}
    """Requests without a good credential, by what was wrong with it."""
    process: ProcessReading | None = None
    """None where the system does not tell."""
    set_aside: Mapping[Work, int] = {}
    """What cannot go on just now; what several processes set aside counts for each."""

    def __add__(self, other: "Reading") -> "Reading":
        return Reading(
            _merged(self.agents, other.agents),
            _merged(self.http, other.http),
            {
                flaw: self.refused.get(flaw, 0) + other.refused.get(flaw, 0)
                for flaw in Flaw
                if flaw in self.refused or flaw in other.refused
            },
            _either(self.process, other.process),
            {
                work: self.set_aside.get(work, 0) + other.set_aside.get(work, 0)
                for work in Work
                if work in self.set_aside or work in other.set_aside
            },
        )

    def ended(self) -> "Reading":
        """Return what remains of it when its process has ended: what only grows."""
        return evolve(
            self,
            agents=tuple((s, evolve(reading, queued=0)) for s, reading in self.agents),
            process=self.process and ProcessReading(self.process.cpu_ms),
            set_aside={},
        )


NOTHING = Reading()
S = TypeVar("S")
R = TypeVar("R", AgentReading, HistogramReading)


def total(readings: Iterable[Reading]) -> Reading:
    return reduce(Reading.__add__, readings, NOTHING)


@frozen
class Posted:
    """The scoreboard at one moment."""

    by_worker: Mapping[WorkerId, Reading]
    """The latest reading of each worker that is not retired."""
    ended: Reading
    """What all retired ones had counted."""


class Scoreboard(Protocol):
    """Where the workers of one store post their readings.

    Safe to use from several threads, and one scoreboard from several processes.  All
    raise `Unavailable` if the place cannot be used.
    """

    def post(self, worker: WorkerId, reading: Reading) -> None:
        """Put `reading` in the place of the worker's last one, whole or not at all.

        Without effect for a worker that has been retired.
        """
        ...

    def look(self) -> Posted:
        """Return what is posted.  No reading is missing, none is there twice."""
        ...

    def retire(self, worker: WorkerId) -> None:
        """Count the worker among those that have ended, once, however often asked."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


def _added(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0))


def _merged(
    one: Iterable[tuple[S, R]], other: Iterable[tuple[S, R]]
) -> tuple[tuple[S, R], ...]:
    merged = dict(one)
    for series, reading in other:
        merged[series] = merged[series] + reading if series in merged else reading
    return tuple(merged.items())


def _either(
    one: ProcessReading | None, other: ProcessReading | None
) -> ProcessReading | None:
    return one + other if one is not None and other is not None else one or other
