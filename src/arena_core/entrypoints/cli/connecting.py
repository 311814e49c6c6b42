"""Putting an agent live from the command line, which itself serves nothing."""

from uuid import UUID

import click

from arena_core.application.agents import is_pending
from arena_core.application.resources import AgentView
from arena_core.entrypoints.cli.options import operator
from arena_core.entrypoints.library import Arena


def connected(
    arena: Arena, agent_id: UUID, *, wait_s: float, reason: str | None = None
) -> AgentView:
    """Ask for the agent to be put live, and wait for it if anybody serves the store."""
    asked = operator(arena).agents.connect(agent_id, reason=reason)
    return settled(arena, asked, wait_s=wait_s)


def settled(arena: Arena, asked: AgentView, *, wait_s: float) -> AgentView:
    """Return the agent when what was asked is done, if anybody serves the store."""
    from arena_core.entrypoints.wiring import is_served  # noqa: PLC0415 -- --help needs no adapters

    if not is_served(arena.settings):
        return asked
    return operator(arena).agents.wait(asked.id, timeout_s=wait_s)


def say_if_pending(view: AgentView) -> None:
    """Tell what to do for an agent that is not live yet."""
    if is_pending(view):
        click.echo(
            "No server has put it live yet: start one on this store with arena-core "
            "serve; arena-core agent play needs none."
        )
