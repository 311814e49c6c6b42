"""What is said of the episodes that were played: for programs and for people."""

from collections.abc import Sequence
from typing import assert_never

import numpy as np
from attrs import frozen

from arena_core.entrypoints.play.episodes import ALONE, Episode
from arena_core.entrypoints.play.statistics import (
    CONFIDENCE,
    FEWEST_PAIRS,
    Comparison,
    Interval,
    Verdict,
    interval_of_mean,
)

COLUMNS = (
    "AGENT",
    "EPISODES",
    "MEAN RETURN",
    f"{CONFIDENCE:.0%} INTERVAL",
    "LENGTH",
    "CALLS",
    "P50 MS",
    "P95 MS",
    "P99 MS",
    "MASK VIOLATIONS",
)


@frozen
class Latency:
    """Percentiles of the time of a call, in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, calls_ms: Sequence[float]) -> "Latency":
        return cls(*map(float, np.percentile(calls_ms, [50, 95, 99]).round(3)))


@frozen
class Report:
    """How one agent played.  `seeds`, `returns` and `lengths`: by episode."""

    name: str
    episodes: int
    mean_return: float
    interval: Interval | None
    """Of the mean return; None for one episode."""
    mean_return_of: dict[str, float]
    """The share of each agent of a team; empty for an agent that plays by itself."""
    seeds: list[int]
    returns: list[float]
    lengths: list[int]
    calls: int
    latency_ms: Latency
    mask_violations: int | None
    """None if the environment never said what is legal."""

    @classmethod
    def of(cls, name: str, episodes: Sequence[Episode]) -> "Report":
        """Sum up at least one episode."""
        returns = [episode.total for episode in episodes]
        calls_ms = [ms for episode in episodes for ms in episode.latencies_ms]
        return cls(
            name,
            len(episodes),
            float(np.mean(returns)),
            interval_of_mean(returns),
            _shares(episodes),
            [episode.seed for episode in episodes],
            returns,
            [episode.length for episode in episodes],
            len(calls_ms),
            Latency.of(calls_ms),
            _violations(episodes),
        )

    def row(self) -> tuple[object, ...]:
        """Return the report as a row of a table with `COLUMNS`."""
        shortest, longest = min(self.lengths), max(self.lengths)
        mean = f"{np.mean(self.lengths):.1f}"
        latency = self.latency_ms
        return (
            self.name,
            self.episodes,
            _number(self.mean_return),
            "one episode has none" if self.interval is None else shown(self.interval),
            mean if shortest == longest else f"{mean} ({shortest} to {longest})",
            self.calls,
            f"{latency.p50:.2f}",
            f"{latency.p95:.2f}",
            f"{latency.p99:.2f}",
            "no mask" if self.mask_violations is None else self.mask_violations,
        )

    def shares(self) -> list[tuple[str, str]]:
        """Return the share of each agent of a team, to be shown."""
        return [(agent, _number(mean)) for agent, mean in self.mean_return_of.items()]


def sentence(first: str, second: str, comparison: Comparison) -> str:
    """Return, as a sentence or two, whether the agents called so differ."""
    pairs, sure = comparison.pairs, comparison.interval
    by = _number(comparison.difference)
    within = "" if sure is None else f" ({CONFIDENCE:.0%} interval {shown(sure)})"
    match comparison.verdict:
        case Verdict.HIGHER:
            return (
                f"{first} is better than {second}: its mean return of {pairs} episodes "
                f"is higher, the difference is {by}{within}."
            )
        case Verdict.LOWER:
            return (
                f"{first} is worse than {second}: its mean return of {pairs} episodes "
                f"is lower, the difference is {by}{within}."
            )
        case Verdict.UNCLEAR:
            return (
                f"No difference that {pairs} episodes could show: the mean return of "
                f"{first} less that of {second} is {by}{within}."
            )
        case Verdict.EQUAL:
            return (
                f"No difference at all: {first} and {second} returned the same in each "
                f"of {pairs} episodes."
            )
        case Verdict.TOO_FEW:
            return (
                f"Too few episodes to tell {first} from {second}: play at least "
                f"{FEWEST_PAIRS}."
            )
        case _:
            assert_never(comparison.verdict)


def shown(interval: Interval) -> str:
    return f"{_number(interval.low)} to {_number(interval.high)}"


def _number(value: float) -> str:
    """Return two decimals, or three digits of what is smaller than one."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 1 else f"{value:.3g}"


def _shares(episodes: Sequence[Episode]) -> dict[str, float]:
    agents = dict.fromkeys(agent for episode in episodes for agent in episode.totals)
    return {
        agent: float(np.mean([episode.totals.get(agent, 0.0) for episode in episodes]))
        for agent in agents
        if agent != ALONE
    }


def _violations(episodes: Sequence[Episode]) -> int | None:
    counted = [e.violations for e in episodes if e.violations is not None]
    return sum(counted) if counted else None
