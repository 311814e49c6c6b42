"""How the command line prints: tables for people, JSON for programs."""

from collections.abc import Iterable, Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(value: object) -> None:
    """Print `value` as JSON, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_json_lines(values: Iterable[object]) -> None:
    """Print each of `values` as one line of JSON."""
    for value in values:
        click.echo(msgspec.json.encode(value))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; it is as wide as its content where nobody looks."""
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Names are the users' own: they are text here, never markup.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)
