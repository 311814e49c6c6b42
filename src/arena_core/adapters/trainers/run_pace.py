"""How far and how fast a training is, from what it says and from when it said it."""

import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from arena_core.adapters import disk
from arena_core.adapters.trainers import run_news, run_records
from arena_core.application.metric_points import LARGEST_STEP
from arena_core.application.trainer import Pace

PROGRESS = "progress.json"
_LARGEST_BYTES = 1 << 16
_Moments: TypeAlias = list[tuple[float, int]]
T = TypeVar("T")


class _Progress(msgspec.Struct):
    """What the training says of itself."""

    total: Annotated[int, Meta(ge=1, le=LARGEST_STEP)]


def of(run: Path, started_at: datetime, max_steps: int | None) -> Pace | None:
    """Return how far the training in the folder `run` is; None: it did not say.

    The rate is that of the steps that were logged while moments were noted: what was
    done before the first of them, such as loading, has no part in it.
    """
    work = run / run_records.WORK
    step = run_news.last_step(work)
    if step is None:
        return None
    said = _read(work / PROGRESS, _Progress)
    last = max_steps if said is None else said.total
    rate, left_s = _rate(run), None
    if rate is not None and last is not None:
        left_s = max(0, last - step) / rate
    return Pace(step, last, rate, left_s, started_at)


def _rate(run: Path) -> float | None:
    """Return the steps in a second, from the first to the last moment that is known."""
    moments = _read(run / run_records.PACE, _Moments)
    if not moments:
        return None
    (begun, first_bytes), (ended, last_bytes) = moments[0], moments[-1]
    work = run / run_records.WORK
    first = run_news.last_step(work, within=first_bytes)
    last = run_news.last_step(work, within=last_bytes)
    if first is None or last is None or last <= first or ended <= begun:
        return None
    return (last - first) / (ended - begun)


def _read(path: Path, form: type[T]) -> T | None:
    """Return what a small file says, which anybody may have written."""
    try:
        with disk.opened(path, disk.FILE) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return msgspec.json.decode(os.read(descriptor, _LARGEST_BYTES), type=form)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
