"""The runs of a stage as rows of a table, with a row for each of several attempts."""

from datetime import UTC, datetime

from arena_core.application.pipeline_views import AttemptView, RunHistory
from arena_core.entrypoints.stage_words import note_of_run, product, span, time_of

RUN_COLUMNS = (
    "RUN",
    "STATUS",
    "CAUSE",
    "BY",
    "BEGAN",
    "ENDED",
    "LASTED",
    "CONSUMED",
    "PRODUCED",
    "TOLD",
)


def rows_of(run: RunHistory) -> list[tuple[object, ...]]:
    """Return the row of a run, and one for each attempt if there were several."""
    whole = (
        run.number,
        run.status.value,
        run.cause.value,
        run.triggered_by.actor,
        time_of(run.triggered_at),
        *_end(run.triggered_at, run.ended_at),
        product(run.consumed),
        product(run.produced),
        note_of_run(run),
    )
    several = run.attempts if len(run.attempts) > 1 else []
    return [whole, *(_attempt_row(run, attempt) for attempt in several)]


def _attempt_row(run: RunHistory, attempt: AttemptView) -> tuple[object, ...]:
    training = None if attempt.training is None else f"training {attempt.training}"
    return (
        f"{run.number}.{attempt.number}",
        attempt.status.value,
        "attempt",
        None,
        time_of(attempt.started_at),
        *_end(attempt.started_at, attempt.ended_at),
        None,
        None,
        ": ".join(filter(None, [training, attempt.reason])),
    )


def _end(began: datetime, ended: datetime | None) -> tuple[str | None, str]:
    """Return when it has ended, and how long it has taken, until now if it goes on."""
    until = datetime.now(UTC) if ended is None else ended
    lasted = span((until - began).total_seconds())
    return None if ended is None else time_of(ended), lasted
