"""`arena-core pipeline trigger` and its like: running stages, and watching them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from uuid import UUID

import click
from attrs import frozen

from arena_core.application.pipeline_views import (
    PipelineView,
)
from arena_core.application.use_cases import UseCases
from arena_core.entrypoints.cli.digests import whole_digest
from arena_core.entrypoints.cli.following import opened, say_if_unserved
from arena_core.entrypoints.cli.lookups import find_pipeline, find_stage
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_json, print_table, say
from arena_core.entrypoints.cli.pipeline_watching import is_at_work, watched
from arena_core.entrypoints.cli.run_rows import RUN_COLUMNS, rows_of
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.stage_words import (
    name_of,
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reason_option = click.option("--reason", help="Why; it is kept in the event log.")
wait_option = click.option(
    "--wait",
    is_flag=True,
    help="Watch until nothing is at work, and do the work here if no server does.  "
    "Status 1 if what ended last has failed or was stopped.",
)

timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait no longer than this: status 124 then, and it goes on.",
)


class Order(Protocol):
    """What is asked of a stage."""

    def __call__(
        self, pipeline_id: UUID, stage_id: UUID, *, reason: str | None
    ) -> PipelineView: ...


Orders = Callable[[UseCases], Order]


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@wait_option
@timeout_option
@reason_option
@store_options
def trigger(
    pipeline: str,
    which: str,
    wait: bool,
    timeout_s: float | None,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Run a Manual stage; Auto stages behind it follow when it succeeds."""
    waiting = Waiting.asked(wait=wait, timeout_s=timeout_s)
    with opened(store, blobs, works=wait) as arena:
        order = Asked(arena, pipeline, which, waiting)
        order.give(lambda use: use.pipelines.trigger, reason)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@wait_option
@timeout_option
@reason_option
@store_options
def retry(
    pipeline: str,
    which: str,
    wait: bool,
    timeout_s: float | None,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Run a stage again that has failed or was stopped; nothing before it runs.

    If it takes the same checkpoint as before, it goes on where its training was.
    """
    waiting = Waiting.asked(wait=wait, timeout_s=timeout_s)
    with opened(store, blobs, works=wait) as arena:
        order = Asked(arena, pipeline, which, waiting)
        order.give(lambda use: use.pipelines.retry, reason)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@reason_option
@store_options
def stop(
    pipeline: str,
    which: str,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Stop a stage that is at work.

    A training writes a last checkpoint if it can, and ends.  An agent that is being
    connected is disconnected.  One that answers already, and is only given another
    checkpoint, goes on to that one: arena-core agent rollback takes it back.
    """
    with administration(store, blobs) as arena:
        order = Asked(arena, pipeline, which)
        order.give(lambda use: use.pipelines.stop, reason)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@click.option(
    "--digest",
    help="The checkpoint that you have seen; the first six digits or more will do.  "
    "Another one is refused.",
)
@wait_option
@timeout_option
@reason_option
@store_options
def approve(
    pipeline: str,
    which: str,
    digest: str | None,
    wait: bool,
    timeout_s: float | None,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Approve of the checkpoint that a stage waits with.

    A pipeline that waits says the whole command, also in arena-core pipeline show.
    """
    waiting = Waiting.asked(wait=wait, timeout_s=timeout_s)
    with opened(store, blobs, works=wait) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        stage = find_stage(found, which)
        whole = None if digest is None else whole_digest(use, stage, digest)
        said = use.pipelines.approve(found.id, stage.id, digest=whole, reason=reason)
        _then(arena, said, stage.position, waiting)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@reason_option
@store_options
def reject(
    pipeline: str,
    which: str,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Reject the checkpoint that a stage waits with, which is Stopped by that."""
    with administration(store, blobs) as arena:
        order = Asked(arena, pipeline, which)
        order.give(lambda use: use.pipelines.reject, reason)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@json_option
@store_options
def runs(
    pipeline: str, which: str, as_json: bool, store: str | None, blobs: Path | None
) -> None:
    """List the runs of a stage, the latest first: by whom, from when to when, and why.

    CONSUMED is the checkpoint that it took, PRODUCED the one that it left.  A run that
    was attempted several times has a row for each attempt below it, whose training
    arena-core experiment log --training can name.
    """
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        stage = find_stage(found, which)
        views = use.pipelines.runs(found.id, stage.id)
        if as_json:
            print_json(views)
            return
        print_table(RUN_COLUMNS, [row for run in views for row in rows_of(run)])


@click.command()
@click.argument("name")
@click.option(
    "--serve", is_flag=True, help="Do the work here too, if no server does it."
)
@timeout_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print a line of JSON for each change."
)
@store_options
def watch(
    name: str,
    serve: bool,
    timeout_s: float | None,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Watch a pipeline until nothing of it is at work.

    Drawn anew on a terminal, else a line for each change.  Status 1 if what ended
    last has failed or was stopped.
    """
    with opened(store, blobs, works=serve) as arena:
        found = find_pipeline(operator(arena), name)
        if not serve and is_at_work(found):
            say_if_unserved(arena, "pipeline", found.name)
        if not watched(arena, found.id, as_json=as_json, timeout_s=timeout_s):
            sys.exit(1)


COMMANDS = (trigger, retry, stop, approve, reject, runs, watch)


@frozen
class Waiting:
    """Whether somebody waits for what they have asked for, and how long."""

    waits: bool = False
    timeout_s: float | None = None

    @classmethod
    def asked(cls, *, wait: bool, timeout_s: float | None) -> "Waiting":
        if timeout_s is not None and not wait:
            raise click.UsageError("--timeout is of --wait: give both.")
        return cls(wait, timeout_s)


@frozen
class Asked:
    """What somebody asks of which stage."""

    arena: Arena
    pipeline: str
    which: str
    waiting: Waiting = Waiting()

    def give(self, orders: Orders, reason: str | None) -> None:
        use = operator(self.arena)
        found = find_pipeline(use, self.pipeline)
        stage = find_stage(found, self.which)
        said = orders(use)(found.id, stage.id, reason=reason)
        _then(self.arena, said, stage.position, self.waiting)


def _then(arena: Arena, view: PipelineView, position: int, waiting: Waiting) -> None:
    if waiting.waits:
        if not watched(arena, view.id, timeout_s=waiting.timeout_s):
            sys.exit(1)
        return
    stage = view.stages[position - 1]
    say(f"{position} {name_of(stage)}: {stage.status.value}")
    if is_at_work(view):
        say_if_unserved(arena, "pipeline", view.name)
