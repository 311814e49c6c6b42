"""`arena-core agent play`: let a deployed agent play, and measure it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from arena_core.domain.errors import ArenaError, Rejected
from arena_core.entrypoints.cli.options import store_options
from arena_core.entrypoints.cli.output import (
    print_figures,
    print_json,
    print_table,
)
from arena_core.entrypoints.cli.targets import Place, reachable

if TYPE_CHECKING:
    from arena_core.entrypoints.play.contest import Contestant, Result
    from arena_core.entrypoints.play.episodes import Environment

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


@click.command()
@click.argument("name")
@click.option(
    "--env",
    "environment",
    required=True,
    metavar="ENV",
    help="An id of Gymnasium's, such as CartPole-v1 or package:Name-v0, or "
    "package.module:function, such as mpe2.simple_spread_v3:parallel_env.",
)
@click.option(
    "--env-arg",
    "arguments",
    multiple=True,
    metavar="KEY=JSON",
    help="An argument for making it, such as is_slippery=false.  Repeatable.",
)
@click.option(
    "--episodes",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many to play.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the first episode; the next ones count up.  Training should not have "
    "seen them.",
)
@click.option(
    "--mode",
    type=click.Choice(["greedy", "sample"]),
    default="greedy",
    show_default=True,
    help="Whether to take the best action, or to draw one as in training.",
)
@click.option(
    "--compare",
    "other",
    metavar="OTHER",
    help="Let another agent play the same episodes, and say whether they differ.",
)
@click.option(
    "--url",
    help="Of the server.  With --key: the whole endpoint of an agent on any server, "
    "and NAME only a label.  Default: ARENA_PUBLIC_URL, or else the agent is served "
    "here while it plays.",
)
@click.option(
    "--key",
    envvar="ARENA_DEPLOYMENT_KEY",
    help="The key of the endpoint; better in ARENA_DEPLOYMENT_KEY, where others "
    "cannot see it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def play(
    name: str,
    environment: str,
    arguments: tuple[str, ...],
    episodes: int,
    seed: int,
    mode: str,
    other: str | None,
    url: str | None,
    key: str | None,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Let an agent play in an environment, over HTTP, and measure it.

    Prints the mean return with its 95% interval, the lengths of the episodes, how
    long calls took, and how many actions the environment's mask forbade.  Ctrl-C
    prints what was played so far, and ends with status 130.

    \b
    arena-core agent play balancer --env CartPole-v1
    arena-core agent play balancer --env CartPole-v1 --compare older --episodes 100
    arena-core agent play spreader --env mpe2.simple_spread_v3:parallel_env
    """  # noqa: D301 -- click wants the character itself, not two that look like it
    from arena_core.application.inference import Mode  # noqa: PLC0415 -- --help needs no environment
    from arena_core.entrypoints.play.contest import Result, episodes_of  # noqa: PLC0415 -- likewise
    from arena_core.entrypoints.play.environments import make  # noqa: PLC0415 -- likewise

    names = [name] if other is None else [name, other]
    seeds = range(seed, seed + episodes)
    # What lies in the folder that one works in can be named, as for `python -m`.
    sys.path.append(str(Path.cwd()))
    with ExitStack() as resources:
        # Environments greet and chat: what is printed here is the result alone.
        with redirect_stdout(sys.stderr):
            env = make(environment, _arguments(arguments))
            resources.callback(env.close)
            place = Place(url, key, store, blobs)
            contestants = _contestants(resources, env, names, place)
            playing = episodes_of(env, Mode(mode), contestants, seeds)
            stopped = _watch(playing, len(seeds) * len(names))
        if contestants[0].episodes:
            complete = stopped is None
            result = Result.of(environment, Mode(mode), contestants, complete=complete)
            _print(result, as_json=as_json)
        if isinstance(stopped, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        if stopped is not None:
            raise stopped


def _contestants(
    resources: ExitStack, env: "Environment", names: Sequence[str], place: Place
) -> "list[Contestant]":
    """Return the agents called so, each with a connection, while `resources` last."""
    from arena_core.entrypoints.play.contest import Contestant  # noqa: PLC0415 -- --help needs no environment
    from arena_core.entrypoints.play.endpoint import Endpoint  # noqa: PLC0415 -- likewise

    return [
        Contestant.of(
            target.name,
            resources.enter_context(Endpoint(target.endpoint, target.key)),
            env,
        )
        for target in resources.enter_context(reachable(names, place))
    ]


def _watch(
    playing: "Iterator[Contestant]", total: int
) -> KeyboardInterrupt | ArenaError | None:
    """Show how it goes to whoever looks; return what stopped it before its end."""
    console = Console(stderr=True)
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        # Names are the users' own: they are text here, never markup.
        TextColumn(
            "episodes, {task.fields[name]}: mean return {task.fields[mean]}",
            markup=False,
        ),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("play", total=total, name="", mean="")
        try:
            for contestant in playing:
                mean = np.mean([episode.total for episode in contestant.episodes])
                progress.update(
                    task, advance=1, name=contestant.name, mean=f"{mean:.2f}"
                )
        except (KeyboardInterrupt, ArenaError) as stopped:
            return stopped
    return None


def _print(result: "Result", *, as_json: bool) -> None:
    from arena_core.entrypoints.play.report import COLUMNS  # noqa: PLC0415 -- --help needs no environment

    if as_json:
        print_json(result)
        return
    reports = [result.agent] if result.other is None else [result.agent, result.other]
    print_figures(COLUMNS, [report.row() for report in reports])
    for report in reports:
        if report.mean_return_of:
            click.echo(f"\nMean return of each agent of {report.name}:")
            print_table(("AGENT", "MEAN RETURN"), report.shares())
    if result.verdict is not None:
        click.echo(f"\n{result.verdict}")


def _arguments(words: tuple[str, ...]) -> dict[str, object]:
    """Return the arguments that are typed as KEY=JSON."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise Rejected(
                f"The value of the environment's argument {name} is no JSON: write "
                "true, 3, or a text in double quotes.",
                field="env_arg",
            ) from error
    return found
