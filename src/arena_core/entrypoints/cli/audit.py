"""`arena-core audit`: what happened, what was live, and is the record intact."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from uuid import UUID

import click

from arena_core.application.audit import Audit
from arena_core.application.pipeline_views import PipelineView
from arena_core.application.resources import EventView
from arena_core.domain.errors import NotFound
from arena_core.entrypoints.cli.changes import told
from arena_core.entrypoints.cli.lookups import (
    KINDS,
    find_in_log,
    find_pipeline,
    find_stage,
)
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import (
    clauses,
    print_json,
    print_json_lines,
    print_table,
    say,
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
COLUMNS = ("POSITION", "RECORDED AT", "EVENT", "BY", "WHY", "STREAM")


@click.group()
def audit() -> None:
    """Read, replay and verify the event log."""


@audit.command()
@click.option("--after", type=int, default=0, help="Begin after this position.")
@click.option("--limit", type=click.IntRange(1), help="At most so many events.")
@click.option("--follow", is_flag=True, help="Go on with new ones, until Ctrl-C.")
@json_option
@store_options
def log(
    after: int,
    limit: int | None,
    follow: bool,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Print the events, oldest first."""
    with administration(store, blobs) as arena:
        journal = operator(arena).audit
        if follow:
            _print_as_they_come(
                islice(journal.follow(after=after), limit), as_json=as_json
            )
            return
        events = journal.log(after=after, limit=limit)
        if as_json:
            print_json_lines(events)
        else:
            print_table(COLUMNS, map(event_row, events))


def _print_as_they_come(events: Iterable[EventView], *, as_json: bool) -> None:
    with suppress(KeyboardInterrupt):
        for event in events:
            if as_json:
                print_json_lines([event])
            else:
                cells = ("" if cell is None else str(cell) for cell in event_row(event))
                say("  ".join(cells))


@audit.command()
@click.argument("what")
@click.argument("stage", required=False)
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    help="Of which kind the thing is that is named, where several have the name.",
)
@json_option
@store_options
def show(
    what: str,
    stage: str | None,
    kind: str | None,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Print the whole life of one thing, oldest first: who did what to it, and why.

    WHAT is the name of an agent, an experiment, a pipeline or a project, or the id of
    anything, of what was deleted too.  Where an agent has the name, the agent is meant.
    An agent comes with its deployment, a pipeline with its stages.  STAGE is one of a
    pipeline: its position, its id or its name.

    \b
    arena-core audit show balancer
    arena-core audit show cartpole 2
    arena-core audit show cartpole --kind project
    """  # noqa: D301 -- click wants the character itself, not two that look like it
    with administration(store, blobs) as arena:
        use = operator(arena)
        if stage is None:
            about = find_in_log(use, what, kind=kind)
        elif kind not in (None, "pipeline"):
            raise click.UsageError(f"A {kind} has no stages: leave STAGE out.")
        else:
            about = _stage_that_has_run(find_pipeline(use, what), stage)
        if as_json:
            print_json_lines(use.audit.timeline(about))
        else:
            print_table(COLUMNS, life_rows(use.audit, about))


def _stage_that_has_run(pipeline: PipelineView, which: str) -> UUID:
    """Return the id of a stage.  Raises `NotFound` if the log has nothing of it."""
    found = find_stage(pipeline, which)
    if found.run is None:
        raise NotFound(
            f"Stage {found.position} was never run. How it was set up is told with the "
            "pipeline: leave the stage out."
        )
    return found.id


@audit.command()
@click.option(
    "--at",
    metavar="POSITION|TIME",
    help="A position of the log, or a time such as 2026-01-31T14:03:00Z.  "
    "Default: now.",
)
@store_options
def replay(at: str | None, store: str | None, blobs: Path | None) -> None:
    """Print the state of everything as it was then, rebuilt from the log."""
    with administration(store, blobs) as arena:
        print_json(operator(arena).audit.replay(at))


@audit.command()
@store_options
def verify(store: str | None, blobs: Path | None) -> None:
    """Recompute every hash chain and checkpoint digest.

    Exit status 1 at the first fault, which is named.
    """
    with administration(store, blobs) as arena:
        fault = next(iter(operator(arena).audit.verify()), None)
        if fault is not None:
            say(f"Fault at position {fault.position}: {fault.detail}", err=True)
            sys.exit(1)
        head = arena.application.core.store.head()
    click.echo(f"Intact: every event up to position {head} and every checkpoint.")


def life_rows(audit: Audit, about: UUID) -> Sequence[tuple[object, ...]]:
    """Return the life of one thing as rows of a table, each with its first cause."""
    events = audit.timeline(about)
    causes = audit.first_causes(events)
    return [event_row(event, causes.get(event.event_id)) for event in events]


def event_row(
    event: EventView, first_cause: EventView | None = None
) -> tuple[object, ...]:
    """Return an event as a row of a table with `COLUMNS`."""
    because = None if first_cause is None else _because_of(first_cause)
    reason = event.reason
    if first_cause is not None and first_cause.reason == reason:
        reason = None  # it was handed on, and is told with the cause
    why = (reason, told(event.data), because)
    return (
        event.position,
        event.recorded_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        event.name,
        event.actor,
        clauses(*why) or None,
        event.stream,
    )


def _because_of(cause: EventView) -> str:
    """Return where in the log it is and what, by whose hand, and why, if they say."""
    said = "" if cause.reason is None else f": {cause.reason}"
    return f"because of {cause.position} {cause.name} by {cause.actor}{said}"
