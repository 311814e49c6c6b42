"""`arena-core organisation`: who belongs to what."""

from pathlib import Path

import click

from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import Ambiguous, NotFound
from arena_core.domain.values import shown
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_table

ROLES = click.Choice(["viewer", "member", "manager"])


@click.group()
def organisation() -> None:
    """Create organisations; list, invite and remove their members."""


@organisation.command()
@click.argument("name")
@click.option("--manager", metavar="USER", help="Who administers it.")
@store_options
def create(
    name: str, manager: str | None, store: str | None, blobs: Path | None
) -> None:
    """Create an organisation and print its id."""
    with administration(store, blobs, make=True) as arena:
        made = operator(arena).organisations.create(name, manager=manager)
        click.echo(made.id)


@organisation.command("list")
@store_options
def list_(store: str | None, blobs: Path | None) -> None:
    """List all organisations of this store."""
    with administration(store, blobs) as arena:
        found = operator(arena).organisations.list()
        print_table(("NAME", "ID"), [(view.name, view.id) for view in found])


@organisation.command()
@click.argument("organisation")
@store_options
def members(organisation: str, store: str | None, blobs: Path | None) -> None:
    """List the members of an organisation, named by its id or name."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = use.organisations.members(find_organisation(use, organisation))
        print_table(("USER", "ROLE"), [(view.user, view.role.value) for view in found])


@organisation.command()
@click.argument("organisation")
@click.argument("user")
@click.option(
    "--role",
    type=ROLES,
    default="member",
    show_default=True,
    help="viewer reads, member changes, manager administers members too.",
)
@store_options
def invite(
    organisation: str, user: str, role: str, store: str | None, blobs: Path | None
) -> None:
    """Invite USER and print the invitation: this is the only time that it is shown.

    Hand it to them: whoever has it can come in under that name, for seven days.
    """
    with administration(store, blobs) as arena:
        use = operator(arena)
        where = find_organisation(use, organisation)
        click.echo(use.invitations.invite(where, user, role=role).token)


@organisation.command()
@click.argument("organisation")
@click.argument("user")
@click.option("--reason", help="Why; it is kept in the event log.")
@store_options
def remove(
    organisation: str,
    user: str,
    reason: str | None,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Remove USER; what they own passes to the eldest manager."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        where = find_organisation(use, organisation)
        use.organisations.remove(where, user, reason=reason)
        click.echo(f"Removed {user}.")


def find_organisation(use: UseCases, name_or_id: str) -> str:
    """Return the id of the organisation with this id, or else of this name."""
    known = use.organisations.list()
    if any(view.id == name_or_id for view in known):
        return name_or_id
    named = [view.id for view in known if view.name == name_or_id]
    if not named:
        raise NotFound(f"There is no organisation called {shown(name_or_id)}.")
    if len(named) > 1:
        raise Ambiguous(
            f"{len(named)} organisations are called {shown(name_or_id)}: use an id, "
            f"one of {', '.join(named)}."
        )
    return named[0]
