"""What several commands share: where the store is, and who gives the orders."""

import os
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
from attrs import evolve

from arena_core.application.resources import AgentView
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import NotFound
from arena_core.domain.ids import DEFAULT_ORGANISATION, OrganisationId
from arena_core.domain.values import Actor, ActorKind, Caller, Role
from arena_core.entrypoints.library import Arena
from arena_core.entrypoints.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

_STORE = click.option(
    "--store",
    metavar="URL",
    help="Where the event log is: memory:, or sqlite:/// and a path, or a path. "
    "Default: ARENA_STORE, or arena.db in your data directory.",
)
_BLOBS = click.option(
    "--blobs",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the checkpoints.  Default: beside the store.",
)


def store_options(command: F) -> F:
    """Add --store and --blobs."""
    return _STORE(_BLOBS(command))


def settings(store: str | None, blobs: Path | None) -> Settings:
    """Return the settings: what is named here wins over the environment."""
    found = Settings.from_environment(os.environ)
    return evolve(found, store=store or found.store, blobs=blobs or found.blobs)


def administration(
    store: str | None, blobs: Path | None, *, make: bool = False
) -> Arena:
    """Open the store without serving: a server that runs does what is ordered.

    Unless it is to `make` it, it refuses a store that is not there: a slip in the
    name must not pass for an empty log.
    """
    from arena_core.entrypoints.wiring import open_arena  # noqa: PLC0415 -- --help needs no adapters

    found = settings(store, blobs)
    path = found.store_path
    if not (make or path is None or path.exists()):
        raise NotFound(
            "There is no store at this place: name another with --store, or make it "
            "with arena-core serve."
        )
    return open_arena(found, serve=False)


def operator(arena: Arena, organisation: str = DEFAULT_ORGANISATION) -> UseCases:
    """Return what whoever is at the terminal can do: everything, in their name."""
    actor = Actor(ActorKind.OPERATOR, _user())
    where = OrganisationId(organisation)
    return arena.on_behalf_of(Caller(where, actor, Role.MANAGER))


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return f"uid {os.getuid()}"


def find_agent(use: UseCases, name_or_id: str) -> AgentView:
    """Return the agent with this id, or else the one of this name."""
    try:
        agent_id = UUID(name_or_id)
    except ValueError:
        return use.agents.look_up(name_or_id)
    return use.agents.get(agent_id)
