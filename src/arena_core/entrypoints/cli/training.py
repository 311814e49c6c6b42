"""`arena-core experiment train` and its like: training, and watching it."""

from pathlib import Path

import click

from arena_core.domain.errors import Rejected
from arena_core.entrypoints.cli.following import (
    detachable,
    looks,
    opened,
    say_if_unserved,
)
from arena_core.entrypoints.cli.lookups import checkpoint_choice, find_experiment
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.training_screen import Screen
from arena_core.entrypoints.cli.training_watching import (
    Following,
    echo,
    run_of,
    say,
    then,
    under_way,
    watched,
)

reason_option = click.option("--reason", help="Why; it is kept in the event log.")
wait_option = click.option(
    "--wait",
    is_flag=True,
    help="Watch it to its end, and do the work here if no server does.  Status 1 "
    "unless it succeeds.",
)
follow_option = click.option(
    "--follow", is_flag=True, help="Like --wait, and print what it prints."
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait no longer than this: status 124 then, and it goes on.",
)
steps_option = click.option(
    "--max-steps", type=click.IntRange(1), help="Up to which step to train."
)


@click.command()
@click.argument("name")
@steps_option
@click.option("--seed", type=click.IntRange(0), help="Default: of its settings.")
@wait_option
@follow_option
@timeout_option
@reason_option
@store_options
def train(
    name: str,
    max_steps: int | None,
    seed: int | None,
    wait: bool,
    follow: bool,
    timeout_s: float | None,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Train an experiment from the beginning.

    What is bound to a stage of a pipeline is trained by that stage.  Ctrl-C while it
    waits ends the waiting only: the training goes on, and arena-core experiment stop
    ends it.
    """
    waits = wait or follow
    _refuse_timeout_alone(timeout_s, waits=waits)
    with opened(store, blobs, works=waits) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        use.training.train(found.id, max_steps=max_steps, seed=seed, reason=reason)
        then(
            arena,
            found.id,
            Following(run_of(found)),
            waits=waits,
            follow=follow,
            timeout_s=timeout_s,
        )


@click.command()
@click.argument("name")
@reason_option
@store_options
def stop(name: str, reason: str | None, store: str | None, blobs: Path | None) -> None:
    """Stop a training; it may write a last checkpoint, and can be resumed."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        say(use, use.training.stop(found.id, reason=reason).id)


@click.command()
@click.argument("name")
@click.option("--as", "new_name", help="As a new experiment with this name.")
@click.option(
    "--checkpoint",
    default="final",
    show_default=True,
    help="Of a new one, what to go on from: best, final, or a step.",
)
@steps_option
@wait_option
@follow_option
@timeout_option
@reason_option
@store_options
def resume(
    name: str,
    new_name: str | None,
    checkpoint: str,
    max_steps: int | None,
    wait: bool,
    follow: bool,
    timeout_s: float | None,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Go on with an experiment from its last checkpoint.

    Or, with --as, from any of them in a new experiment, which leaves this one alone.
    """
    waits = wait or follow
    _refuse_timeout_alone(timeout_s, waits=waits)
    with opened(store, blobs, works=waits) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        if new_name is None:
            _refuse_other_checkpoint(checkpoint)
            asked = use.training.resume(found.id, max_steps=max_steps, reason=reason)
        else:
            asked = use.training.resume_as(
                found.id,
                name=new_name,
                checkpoint=checkpoint_choice(checkpoint),
                max_steps=max_steps,
                reason=reason,
            )
        then(
            arena,
            asked.id,
            Following(run_of(found)),
            waits=waits,
            follow=follow,
            timeout_s=timeout_s,
        )


def _refuse_timeout_alone(timeout_s: float | None, *, waits: bool) -> None:
    if timeout_s is not None and not waits:
        raise click.UsageError("--timeout is of --wait and --follow: give one of them.")


def _refuse_other_checkpoint(text: str) -> None:
    if text != "final":
        raise Rejected(
            "The same experiment goes on from its final checkpoint: name a new one "
            "with --as to begin with another.",
            field="checkpoint",
        )


@click.command()
@click.argument("name")
@click.option(
    "--lines",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    help="How many, the last ones.",
)
@click.option(
    "--training",
    type=click.IntRange(1),
    help="Another than the latest, by its number: the first is 1.",
)
@click.option("--follow", is_flag=True, help="Go on with new ones, until it ends.")
@store_options
def log(
    name: str,
    lines: int,
    training: int | None,
    follow: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Print what the latest training has printed.

    What an earlier one has printed is removed when a later one has ended, and the
    command says so.  Its end is kept with the reason why it failed, if it did: see
    arena-core pipeline runs, or audit show.
    """
    if follow and training is not None:
        raise click.UsageError("--follow is of the latest training: give one of both.")
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        printed = use.training.log(found.id, lines=lines, training=training)
        echo(printed)
        if not follow:
            return
        following = Following(None, run_of(found))
        following.told(printed)
        with detachable("The training goes on.") as watcher:
            for _ in looks(arena, watcher, lambda: under_way(use, found.id)):
                echo(following.new(use, found.id))
            echo(following.new(use, found.id, ended=True))


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
    """Watch a training to its end.  Status 1 if it has failed or was stopped."""
    with opened(store, blobs, works=serve) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        if not serve and under_way(use, found.id) is not None:
            say_if_unserved(arena, "experiment", found.name)
        shown = Screen(as_json=as_json)
        watched(arena, found.id, Following(None), shown, timeout_s=timeout_s)


COMMANDS = (train, stop, resume, log, watch)
