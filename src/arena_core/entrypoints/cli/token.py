"""`arena-core token`: who may use the API."""

from pathlib import Path
from uuid import UUID

import click

from arena_core.application.use_cases import UseCases
from arena_core.domain.ids import DEFAULT_ORGANISATION
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.organisation import ROLES, find_organisation
from arena_core.entrypoints.cli.output import print_table
from arena_core.entrypoints.library import Arena

_ORGANISATION = click.option(
    "--organisation",
    default=DEFAULT_ORGANISATION,
    show_default=True,
    help="Its id or name.",
)


@click.group()
def token() -> None:
    """Issue, list and revoke access tokens."""


@token.command()
@click.option("--user", required=True, help="Who will use it.")
@click.option("--name", default="command line", show_default=True, help="What for.")
@click.option(
    "--role",
    type=ROLES,
    help="What it may do at most: viewer reads, member changes, manager administers "
    "members too.  Default: what USER may do there already, or member.",
)
@_ORGANISATION
@store_options
def create(
    user: str,
    name: str,
    role: str | None,
    organisation: str,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Issue a token and print it: this is the only time that it is shown.

    USER becomes a member of the organisation by that, in this role at least.
    """
    with administration(store, blobs, make=True) as arena:
        issued = _in(arena, organisation).tokens.issue(name=name, user=user, role=role)
        click.echo(issued.token)


@token.command("list")
@_ORGANISATION
@store_options
def list_(organisation: str, store: str | None, blobs: Path | None) -> None:
    """List the live tokens, without their secrets."""
    with administration(store, blobs) as arena:
        rows = [
            (view.user, view.role.value, view.name, f"...{view.last_four}", view.id)
            for view in _in(arena, organisation).tokens.list()
        ]
        print_table(("USER", "ROLE", "NAME", "ENDS WITH", "ID"), rows)


@token.command()
@click.argument("token_id", type=click.UUID)
@click.option("--reason", help="Why; it is kept in the event log.")
@_ORGANISATION
@store_options
def revoke(
    token_id: UUID,
    reason: str | None,
    organisation: str,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Revoke a token for ever."""
    with administration(store, blobs) as arena:
        _in(arena, organisation).tokens.revoke(token_id, reason=reason)
        click.echo(f"Revoked {token_id}.")


def _in(arena: Arena, organisation: str) -> UseCases:
    return operator(arena, find_organisation(operator(arena), organisation))
