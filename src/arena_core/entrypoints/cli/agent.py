"""`arena-core agent`: freeze agents, put them live, take them back."""

from pathlib import Path

import click
from attrs import evolve

from arena_core.application.resources import AgentView
from arena_core.domain.ids import AgentId, deployment_of
from arena_core.entrypoints.cli.agent_lives import create, delete, restore
from arena_core.entrypoints.cli.agent_words import status
from arena_core.entrypoints.cli.connecting import connected, say_if_pending
from arena_core.entrypoints.cli.options import (
    administration,
    find_agent,
    operator,
    store_options,
)
from arena_core.entrypoints.cli.output import print_json, print_table, say
from arena_core.entrypoints.cli.play import play
from arena_core.entrypoints.cli.swapping import redeploy, rollback

reason_option = click.option("--reason", help="Why; it is kept in the event log.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def agent() -> None:
    """Freeze checkpoints as agents, put them live, take them back.

    An agent is named by its name or by its id.  The orders go into the event log;
    a server that runs on the same store carries them out at once.
    """


for command in (create, delete, restore, play, redeploy, rollback):
    agent.add_command(command)


@agent.command("list")
@click.option(
    "--kind",
    type=click.Choice(["classic", "advanced"]),
    help="Only agents of this kind.",
)
@json_option
@store_options
def list_(
    kind: str | None, as_json: bool, store: str | None, blobs: Path | None
) -> None:
    """List the agents with their status."""
    with administration(store, blobs) as arena:
        found = operator(arena).agents.list(kind=kind)
        if as_json:
            print_json(found.items)
            return
        columns = ("NAME", "KIND", "STATUS", "CHECKPOINT", "EXPERIMENT", "ID")
        print_table(columns, [_row(view) for view in found])


@agent.command()
@click.argument("name")
@store_options
def show(name: str, store: str | None, blobs: Path | None) -> None:
    """Show everything about one agent, as JSON."""
    with administration(store, blobs) as arena:
        print_json(find_agent(operator(arena), name))


@agent.command()
@click.argument("name")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=float,
    default=10.0,
    show_default=True,
    help="How long to wait for a server to put it live, if one runs.",
)
@reason_option
@store_options
def connect(
    name: str, wait: float, reason: str | None, store: str | None, blobs: Path | None
) -> None:
    """Put an agent live."""
    with administration(store, blobs) as arena:
        found = find_agent(operator(arena), name)
        settled = connected(arena, found.id, wait_s=wait, reason=reason)
        _say(settled)
        say_if_pending(settled)


@agent.command()
@click.argument("name")
@reason_option
@store_options
def disconnect(
    name: str, reason: str | None, store: str | None, blobs: Path | None
) -> None:
    """Take an agent off its endpoint; the agent itself stays."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        _say(use.agents.disconnect(find_agent(use, name).id, reason=reason))


@agent.command()
@click.argument("name")
@store_options
def access(name: str, store: str | None, blobs: Path | None) -> None:
    """Show how to call a Deployed agent, its key included, as JSON.

    The endpoint is below the URL of the server, or whole if ARENA_PUBLIC_URL says it.
    """
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_agent(use, name)
        view = use.agents.access(found.id)
        path = f"/inference/{deployment_of(AgentId(found.id))}"
        endpoint = (arena.settings.public_url or "").rstrip("/") + path
        print_json(evolve(view, endpoint=endpoint))


@agent.command("rotate-key")
@click.argument("name")
@reason_option
@click.confirmation_option(
    prompt="The present key stops working at once. Rotate it?",
    help="Do not ask.",
)
@store_options
def rotate_key(
    name: str, reason: str | None, store: str | None, blobs: Path | None
) -> None:
    """Replace the key of an agent's deployment; the old one is dead at once."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        rotated = use.agents.rotate_key(find_agent(use, name).id, reason=reason)
        _say(rotated)
        if rotated.deployment is not None and rotated.deployment.connected:
            say(f"key: {use.agents.access(rotated.id).api_key}")


def _row(view: AgentView) -> tuple[object, ...]:
    return (
        view.name,
        view.kind.value,
        status(view),
        f"{view.checkpoint.type.value} at step {view.checkpoint.step}",
        view.experiment_name,
        view.id,
    )


def _say(view: AgentView) -> None:
    reason = None if view.deployment is None else view.deployment.reason
    say(f"{view.name}: {status(view)}" + (f" ({reason})" if reason else ""))
