"""`arena-core pipeline trigger` and its like: running stages, and watching them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from uuid import UUID

import click

from arena_core.application.pipeline_views import PipelineView, RunView, StageView
from arena_core.application.use_cases import UseCases
from arena_core.entrypoints.cli.following import opened, say_if_unserved
from arena_core.entrypoints.cli.lookups import find_pipeline, find_stage
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_json, print_table
from arena_core.entrypoints.cli.pipeline_watching import is_at_work, watched
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.stage_words import name_of, note_of_run, product, time_of

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reason_option = click.option("--reason", help="Why; it is kept in the event log.")
wait_option = click.option(
    "--wait",
    is_flag=True,
    help="Watch until nothing is at work, and do the work here if no server does.  "
    "Status 1 if what ended last has failed or was stopped.",
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
@reason_option
@store_options
def trigger(
    pipeline: str,
    which: str,
    wait: bool,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Run a Manual stage; Auto stages behind it follow when it succeeds."""
    with opened(store, blobs, works=wait) as arena:
        _order(arena, pipeline, which, lambda use: use.pipelines.trigger, reason, wait)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@wait_option
@reason_option
@store_options
def retry(
    pipeline: str,
    which: str,
    wait: bool,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Run a stage again that has failed or was stopped; nothing before it runs.

    If it takes the same checkpoint as before, it goes on where its training was.
    """
    with opened(store, blobs, works=wait) as arena:
        _order(arena, pipeline, which, lambda use: use.pipelines.retry, reason, wait)


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
        _order(arena, pipeline, which, lambda use: use.pipelines.stop, reason)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@click.option(
    "--digest",
    help="The checkpoint that you have seen; its beginning will do.  Another one is "
    "refused.",
)
@wait_option
@reason_option
@store_options
def approve(
    pipeline: str,
    which: str,
    digest: str | None,
    wait: bool,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Approve of the checkpoint that a stage waits with."""
    with opened(store, blobs, works=wait) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        stage = find_stage(found, which)
        whole = None if digest is None else _whole(stage, digest)
        said = use.pipelines.approve(found.id, stage.id, digest=whole, reason=reason)
        _then(arena, said, stage.position, wait=wait)


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
        _order(arena, pipeline, which, lambda use: use.pipelines.reject, reason)


@click.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@json_option
@store_options
def runs(
    pipeline: str, which: str, as_json: bool, store: str | None, blobs: Path | None
) -> None:
    """List the runs of a stage, the latest first."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        stage = find_stage(found, which)
        views = use.pipelines.runs(found.id, stage.id)
        if as_json:
            print_json(views)
            return
        columns = ("RUN", "CAUSE", "TRIGGERED", "ATTEMPTS", "TOOK", "LEFT", "TOLD")
        print_table(columns, map(_run_row, views))


def _run_row(run: RunView) -> tuple[object, ...]:
    return (
        run.number,
        run.cause.value,
        time_of(run.triggered_at),
        run.attempt,
        product(run.consumed),
        product(run.produced),
        note_of_run(run),
    )


@click.command()
@click.argument("name")
@click.option(
    "--serve", is_flag=True, help="Do the work here too, if no server does it."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print a line of JSON for each change."
)
@store_options
def watch(
    name: str, serve: bool, as_json: bool, store: str | None, blobs: Path | None
) -> None:
    """Watch a pipeline until nothing of it is at work.

    Drawn anew on a terminal, else a line for each change.  Status 1 if what ended
    last has failed or was stopped.
    """
    with opened(store, blobs, works=serve) as arena:
        found = find_pipeline(operator(arena), name)
        if not serve and is_at_work(found):
            say_if_unserved(arena, "pipeline", found.name)
        if not watched(arena, found.id, as_json=as_json):
            sys.exit(1)


COMMANDS = (trigger, retry, stop, approve, reject, runs, watch)


def _order(
    arena: Arena,
    pipeline: str,
    which: str,
    orders: Orders,
    reason: str | None,
    wait: bool = False,  # noqa: FBT002 -- as the option
) -> None:
    use = operator(arena)
    found = find_pipeline(use, pipeline)
    stage = find_stage(found, which)
    said = orders(use)(found.id, stage.id, reason=reason)
    _then(arena, said, stage.position, wait=wait)


def _then(arena: Arena, view: PipelineView, position: int, *, wait: bool) -> None:
    if wait:
        if not watched(arena, view.id):
            sys.exit(1)
        return
    stage = view.stages[position - 1]
    click.echo(f"{position} {name_of(stage)}: {stage.status.value}")
    if is_at_work(view):
        say_if_unserved(arena, "pipeline", view.name)


def _whole(stage: StageView, digest: str) -> str:
    """Return the digest that is asked about, if it begins so."""
    seen = None if stage.run is None else stage.run.to_approve
    if seen is None or seen.candidate is None:
        return digest
    about = seen.candidate.digest
    return about if digest and about.startswith(digest) else digest
