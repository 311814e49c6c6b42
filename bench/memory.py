"""The resident set of a process and its children, over time (Linux)."""

import asyncio
import math
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from attrs import define, field, frozen

MB = 1e6
HOUR_S = 3600.0
FEWEST_SAMPLES = 6


@frozen
class Growth:
    """A straight line through the second half of the samples of one process."""

    pid: int
    first_mb: float
    last_mb: float
    mb_per_hour: float | None
    """None: there are too few samples to say."""
    standard_error: float | None
    """Of `mb_per_hour`, as if the samples did not depend on each other."""

    def exceeds(self, limit_mb_per_hour: float) -> bool:
        """Say whether it grows faster than that, by three standard errors."""
        if self.mb_per_hour is None or self.standard_error is None:
            return False
        return self.mb_per_hour - 3 * self.standard_error > limit_mb_per_hour


@define
class ResidentSets:
    """The samples of a process, and of every process that it has started."""

    root: int
    samples: dict[int, list[tuple[float, float]]] = field(factory=dict)
    """By process: (seconds of a monotonic clock, bytes), oldest first."""

    async def watch(self, every_s: float) -> None:
        while True:
            self.sample()
            await asyncio.sleep(every_s)

    def sample(self) -> None:
        now = time.monotonic()
        for pid in family(self.root):
            size = resident_bytes(pid)
            if size is not None:
                self.samples.setdefault(pid, []).append((now, size))

    def now_mb(self) -> float:
        sizes = [resident_bytes(pid) or 0 for pid in family(self.root)]
        return sum(sizes) / MB

    def growths(self) -> list[Growth]:
        return [_growth(pid, taken) for pid, taken in self.samples.items()]


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, in the order of their ids."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended since
            found += map(int, task.read_text().split())
    return sorted(found)


def resident_bytes(pid: int) -> float | None:
    """Return the resident set; None if there is no such process any more."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return float(lines[0].split()[1]) * 1024 if lines else None


def _growth(pid: int, taken: list[tuple[float, float]]) -> Growth:
    seconds, sizes = np.array(taken).T
    half = (seconds[0] + seconds[-1]) / 2
    x = seconds[seconds >= half] / HOUR_S
    y = sizes[seconds >= half] / MB
    ends = sizes[0] / MB, sizes[-1] / MB
    if len(x) < FEWEST_SAMPLES:
        return Growth(pid, *ends, None, None)
    slope, error = line_through(x, y)
    return Growth(pid, *ends, slope, error)


def line_through(x: "np.ndarray", y: "np.ndarray") -> tuple[float, float]:
    """Return the slope of the least-squares line, and its standard error."""
    dx, dy = x - x.mean(), y - y.mean()
    squares = float(dx @ dx)
    slope = float(dx @ dy) / squares
    residuals = dy - slope * dx
    error = math.sqrt(float(residuals @ residuals) / (len(x) - 2) / squares)
    return slope, error
