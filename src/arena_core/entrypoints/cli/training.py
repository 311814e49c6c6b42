"""`arena-core experiment train` and its like: training, and watching it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import click
from attrs import define, field

from arena_core.application.resources import ExperimentView
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import Status
from arena_core.entrypoints.cli.following import (
    LogTail,
    detachable,
    looks,
    opened,
    say_if_unserved,
)
from arena_core.entrypoints.cli.lookups import checkpoint_choice, find_experiment
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.training_screen import Screen
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.training_progress import Progress

FOLLOWED_LINES = 2000
"""Lines of a log that may come between two looks at it."""

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
steps_option = click.option(
    "--max-steps", type=click.IntRange(1), help="Up to which step to train."
)


@click.command()
@click.argument("name")
@steps_option
@click.option("--seed", type=click.IntRange(0), help="Default: of its settings.")
@wait_option
@follow_option
@reason_option
@store_options
def train(
    name: str,
    max_steps: int | None,
    seed: int | None,
    wait: bool,
    follow: bool,
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
    with opened(store, blobs, works=waits) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        use.training.train(found.id, max_steps=max_steps, seed=seed, reason=reason)
        _then(arena, found.id, Following(_run_of(found)), waits=waits, follow=follow)


@click.command()
@click.argument("name")
@reason_option
@store_options
def stop(name: str, reason: str | None, store: str | None, blobs: Path | None) -> None:
    """Stop a training; it may write a last checkpoint, and can be resumed."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        _say(use, use.training.stop(found.id, reason=reason).id)


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
@reason_option
@store_options
def resume(
    name: str,
    new_name: str | None,
    checkpoint: str,
    max_steps: int | None,
    wait: bool,
    follow: bool,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Go on with an experiment from its last checkpoint.

    Or, with --as, from any of them in a new experiment, which leaves this one alone.
    """
    waits = wait or follow
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
        _then(arena, asked.id, Following(_run_of(found)), waits=waits, follow=follow)


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
@click.option("--follow", is_flag=True, help="Go on with new ones, until it ends.")
@store_options
def log(
    name: str, lines: int, follow: bool, store: str | None, blobs: Path | None
) -> None:
    """Print what the latest training has printed."""
    with administration(store, blobs) as arena, detachable("The training goes on."):
        use = operator(arena)
        found = find_experiment(use, name)
        _echo(use.training.log(found.id, lines=lines))
        if follow:
            told = Following(None, _run_of(found))
            told.new(use, found.id, ended=True)
            for _ in looks(arena, lambda: _under_way(use, found.id)):
                _echo(told.new(use, found.id))
            _echo(told.new(use, found.id, ended=True))


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
    """Watch a training to its end.  Status 1 if it has failed or was stopped."""
    with opened(store, blobs, works=serve) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        if not serve and _under_way(use, found.id) is not None:
            say_if_unserved(arena)
        _watch(arena, found.id, Following(None), Screen(as_json=as_json))


COMMANDS = (train, stop, resume, log, watch)


# --- watching ------------------------------------------------------------------------


def _run_of(view: ExperimentView) -> UUID | None:
    return None if view.training is None else view.training.run_id


@define
class Following:
    """What a training prints, each line once, beginning with a new one.

    `earlier`: the run of which nothing is told, for it is not what was asked for.
    """

    earlier: UUID | None
    _run: UUID | None = None
    _tail: LogTail = field(factory=LogTail)

    def new(
        self, use: UseCases, experiment_id: UUID, *, ended: bool = False
    ) -> list[str]:
        run = _run_of(use.experiments.get(experiment_id))
        if run in (None, self.earlier):
            return []
        if run != self._run:
            self._run, self._tail = run, LogTail()
        printed = use.training.log(experiment_id, lines=FOLLOWED_LINES)
        return self._tail.new(printed, ended=ended)


def _then(
    arena: Arena,
    experiment_id: UUID,
    following: Following,
    *,
    waits: bool,
    follow: bool,
) -> None:
    """Watch what was just asked for, or say how it stands."""
    if waits:
        _watch(arena, experiment_id, following, Screen(follows=follow))
        return
    _say(operator(arena), experiment_id)
    say_if_unserved(arena)


def _say(use: UseCases, experiment_id: UUID) -> None:
    view = use.experiments.get(experiment_id)
    click.echo(f"{view.name}: {view.status.value}")


def _under_way(use: UseCases, experiment_id: UUID) -> Progress | None:
    if use.training.settled(experiment_id) is not None:
        return None
    return Progress.of(use, use.experiments.get(experiment_id))


def _echo(lines: Sequence[str]) -> None:
    for each in lines:
        click.echo(each)


def _watch(
    arena: Arena, experiment_id: UUID, following: Following, screen: Screen
) -> None:
    """Show it until it has ended, and end with status 1 unless it has succeeded."""
    use = operator(arena)
    name = use.experiments.get(experiment_id).name
    with detachable(_goes_on(name)), screen.drawn():
        for progress in looks(arena, lambda: _under_way(use, experiment_id)):
            if screen.follows:
                screen.lines(following.new(use, experiment_id))
            screen.show(progress)
        if screen.follows:
            screen.lines(following.new(use, experiment_id, ended=True))
    ended = Progress.of(use, use.experiments.get(experiment_id))
    screen.end(ended)
    if ended.view.status is not Status.SUCCEEDED:
        sys.exit(1)


def _goes_on(name: str) -> str:
    return (
        f"The training goes on. Watch it with arena-core experiment watch {name}, end "
        f"it with arena-core experiment stop {name}; a server records what it does."
    )
