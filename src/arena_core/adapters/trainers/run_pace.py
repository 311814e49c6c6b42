"""How fast a training is, from what it logs."""

from datetime import UTC, datetime
from pathlib import Path

from arena_core.adapters.trainers import metric_lines, run_news
from arena_core.application.trainer import Pace


def of(
    work: Path, started_at: datetime, first_step: int, max_steps: int | None
) -> Pace | None:
    """Return how far the training is that writes into `work`; None: it did not say.

    The rate is that of the whole run, up to when it logged last.
    """
    step = run_news.last_step(work)
    try:
        logged_at = (work / metric_lines.FILE).lstat().st_mtime
    except OSError:
        return None
    if step is None:
        return None
    seconds = datetime.fromtimestamp(logged_at, UTC) - started_at
    taken_s = seconds.total_seconds()
    rate = (step - first_step) / taken_s if taken_s > 0 and step > first_step else None
    left_s = None
    if rate is not None and max_steps is not None:
        left_s = max(0, max_steps - step) / rate
    return Pace(step, max_steps, rate, left_s, started_at)
