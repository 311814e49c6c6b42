"""`arena-core token`: who may use the API."""

from pathlib import Path
from uuid import UUID

import click

from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_table


@click.group()
def token() -> None:
    """Issue, list and revoke access tokens."""


@token.command()
@click.option("--user", required=True, help="Who will use it.")
@click.option("--name", default="command line", show_default=True, help="What for.")
@click.option(
    "--role",
    type=click.Choice(["viewer", "member", "manager"]),
    default="member",
    show_default=True,
    help="viewer reads, member changes, manager administers tokens too.",
)
@store_options
def create(
    user: str, name: str, role: str, store: str | None, blobs: Path | None
) -> None:
    """Issue a token and print it: this is the only time that it is shown."""
    with administration(store, blobs, make=True) as arena:
        issued = operator(arena).tokens.issue(name=name, user=user, role=role)
        click.echo(issued.token)


@token.command("list")
@store_options
def list_(store: str | None, blobs: Path | None) -> None:
    """List the live tokens, without their secrets."""
    with administration(store, blobs) as arena:
        rows = [
            (view.user, view.role.value, view.name, f"...{view.last_four}", view.id)
            for view in operator(arena).tokens.list()
        ]
        print_table(("USER", "ROLE", "NAME", "ENDS WITH", "ID"), rows)


@token.command()
@click.argument("token_id", type=click.UUID)
@click.option("--reason", help="Why; it is kept in the event log.")
@store_options
def revoke(
    token_id: UUID, reason: str | None, store: str | None, blobs: Path | None
) -> None:
    """Revoke a token for ever."""
    with administration(store, blobs) as arena:
        operator(arena).tokens.revoke(token_id, reason=reason)
        click.echo(f"Revoked {token_id}.")
