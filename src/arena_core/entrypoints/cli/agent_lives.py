"""`arena-core agent create`, `delete` and `restore`: how an agent begins and ends."""

from pathlib import Path
from uuid import UUID

import click

from arena_core.application.agents import RESTORE_WINDOW
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import Conflict
from arena_core.domain.values import shown
from arena_core.entrypoints.cli.agent_words import line
from arena_core.entrypoints.cli.connecting import connected, say_if_pending
from arena_core.entrypoints.cli.lookups import checkpoint_choice, find_experiment
from arena_core.entrypoints.cli.options import (
    administration,
    find_agent,
    operator,
    store_options,
)
from arena_core.entrypoints.cli.output import print_json, say

reason_option = click.option("--reason", help="Why; it is kept in the event log.")


@click.command()
@click.argument("name")
@click.option(
    "--experiment",
    required=True,
    metavar="NAME",
    help="The experiment, name or id, that has the checkpoint.",
)
@click.option(
    "--checkpoint",
    metavar="best|final|STEP",
    default="best",
    show_default=True,
    help="Which one: of the highest evaluation score, the last, or that of a step.",
)
@click.option("--description", default="", help="What it is for.")
@click.option("--connect", is_flag=True, help="And put the agent live.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=float,
    default=10.0,
    show_default=True,
    help="How long to wait for a server to put it live, if one runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def create(
    *,
    name: str,
    experiment: str,
    checkpoint: str,
    description: str,
    connect: bool,
    wait: float,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Freeze a checkpoint of an experiment as an agent.

    The agent keeps its checkpoint whatever becomes of the experiment.

    \b
    From a training to a live agent:
      arena-core experiment train balancer --wait
      arena-core agent create pole --experiment balancer --connect
    """  # noqa: D301 -- click wants the character itself
    choice = checkpoint_choice(checkpoint)
    with administration(store, blobs) as arena:
        use = operator(arena)
        source = find_experiment(use, experiment)
        _check_is_free(use, name.strip())
        made = use.agents.create(
            name, source.id, checkpoint=choice, description=description
        )
        if connect:
            made = connected(arena, made.id, wait_s=wait)
        if as_json:
            print_json(made)
            return
        say(f"{line(made)}, {made.id}")
        say_if_pending(made)


def _check_is_free(use: UseCases, name: str) -> None:
    """Raise `Conflict` if an agent has the name: no command could tell them apart."""
    if name and use.agents.list(name=name).items:
        raise Conflict(
            f"There is an agent called {shown(name)} already: choose another name, or "
            "give that one the checkpoint with arena-core agent redeploy."
        )


@click.command()
@click.argument("name")
@click.confirmation_option(
    prompt="Nothing answers at its endpoint then. Delete the agent?",
    help="Do not ask.",
)
@reason_option
@store_options
def delete(
    name: str, reason: str | None, store: str | None, blobs: Path | None
) -> None:
    """Delete an agent; within 30 days that can be undone."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_agent(use, name)
        use.agents.delete(found.id, reason=reason)
        say(f"Deleted {found.name}.")
        say(
            f"Within {RESTORE_WINDOW.days} days it comes back with "
            f"arena-core agent restore {found.id}"
        )


@click.command()
@click.argument("agent_id", metavar="ID", type=click.UUID)
@reason_option
@store_options
def restore(
    agent_id: UUID, reason: str | None, store: str | None, blobs: Path | None
) -> None:
    """Bring back a deleted agent, Undeployed, by its id."""
    with administration(store, blobs) as arena:
        say(line(operator(arena).agents.restore(agent_id, reason=reason)))
