"""`arena-core audit`: what happened, what was live, and is the record intact."""

import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import click

from arena_core.application.resources import EventView
from arena_core.entrypoints.cli.changes import told
from arena_core.entrypoints.cli.options import (
    administration,
    find_agent,
    operator,
    store_options,
)
from arena_core.entrypoints.cli.output import (
    print_json,
    print_json_lines,
    print_table,
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
                click.echo("  ".join(cells))


@audit.command()
@click.argument("agent")
@json_option
@store_options
def show(agent: str, as_json: bool, store: str | None, blobs: Path | None) -> None:
    """Print the whole life of one AGENT (its name or its id) and its deployment."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        events = use.audit.timeline(find_agent(use, agent).id)
        if as_json:
            print_json_lines(events)
        else:
            print_table(COLUMNS, map(event_row, events))


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
            click.echo(f"Fault at position {fault.position}: {fault.detail}", err=True)
            sys.exit(1)
        head = arena.application.core.store.head()
    click.echo(f"Intact: every event up to position {head} and every checkpoint.")


def event_row(event: EventView) -> tuple[object, ...]:
    """Return an event as a row of a table with `COLUMNS`."""
    return (
        event.position,
        event.recorded_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        event.name,
        event.actor,
        "; ".join(filter(None, (event.reason, told(event.data)))) or None,
        event.stream,
    )
