"""`arena-core`: the group of all commands."""

import sys

import click

from arena_core.domain.errors import ArenaError
from arena_core.domain.release import VERSION
from arena_core.entrypoints.cli.agent import agent
from arena_core.entrypoints.cli.audit import audit
from arena_core.entrypoints.cli.checkpoint import checkpoint
from arena_core.entrypoints.cli.demo import demo
from arena_core.entrypoints.cli.serve import serve
from arena_core.entrypoints.cli.token import token


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
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


for command in (demo, serve, agent, token, checkpoint, audit):
    cli.add_command(command)


def main() -> None:
    """Run the command line.  Errors are one sentence and exit status 1."""
    try:
        cli(prog_name="arena-core")
    except ArenaError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
