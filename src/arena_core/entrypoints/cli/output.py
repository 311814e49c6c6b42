"""How the command line prints: tables for people, JSON for programs."""

from collections.abc import Iterable, Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arena_core.entrypoints.visible import visible, visible_json

_WIDE = 200
"""Characters in a line where there is no terminal."""


def print_json(value: object) -> None:
    """Print `value` as JSON, indented."""
    encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
    click.echo(visible_json(encoded.decode()))


def print_json_lines(values: Iterable[object]) -> None:
    """Print each of `values` as one line of JSON."""
    for value in values:
        click.echo(visible_json(msgspec.json.encode(value).decode()))


def clauses(*parts: str | None) -> str:
    """Return what there is of `parts` in one line, where only the last has a stop."""
    *before, last = list(filter(None, parts)) or [""]
    return "; ".join([*(part.removesuffix(".") for part in before), last])


def say(text: str, *, err: bool = False) -> None:
    """Print a line in which users may have written something."""
    click.echo(visible(text), err=err)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; it is as wide as its content where nobody looks."""
    _console().print(_table(columns, rows))


def print_figures(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table of few rows, on its side where the terminal is too narrow."""
    console, table = _console(), _table(columns, rows)
    wide = console.options.update(max_width=_WIDE)
    if console.measure(table, options=wide).maximum > console.width:
        first, *others = zip(columns, *rows, strict=True)
        table = _table([visible(_text(cell)) for cell in first], others)
    console.print(table)


def _console() -> Console:
    console = Console(soft_wrap=False)
    return console if console.is_terminal else Console(width=_WIDE)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        # Names are the users' own: they are text here, never markup.
        table.add_row(*(Text(visible(_text(cell))) for cell in row))
    return table


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)
