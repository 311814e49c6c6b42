"""`arena-core`: the group of all commands."""

import sys
from importlib import import_module

import click

from arena_core.domain.errors import ArenaError
from arena_core.domain.release import VERSION
from arena_core.entrypoints.visible import visible

COMMANDS = (
    "agent",
    "audit",
    "checkpoint",
    "demo",
    "experiment",
    "organisation",
    "pipeline",
    "serve",
    "token",
)
"""Each has the name of its module, and of the command that is in it."""


class Commands(click.Group):
    """Imports the command that is run, so that `serve` starts without the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"arena_core.entrypoints.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, prog_name="arena-core")
def cli() -> None:
    """Turn trained checkpoints into agents that answer over HTTP.

    And prove from the event log what was live, when, why and by whose hand.

    \b
    New here?            arena-core demo
    A server of my own:  arena-core serve
    What was live when:  arena-core audit replay --at 2026-01-31T14:03:00Z
    """  # noqa: D301 -- click wants the character itself, not two that look like it


def main() -> None:
    """Run the command line.  Errors are one sentence and exit status 1."""
    try:
        cli(prog_name="arena-core")
    except ArenaError as error:
        click.echo(visible(f"Error: {error}"), err=True)
        sys.exit(1)
