"""`arena-core experiment metrics`: what training has measured."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import click

from arena_core.application.metric_tables import as_csv
from arena_core.application.ports import MetricPoint
from arena_core.entrypoints.cli.lookups import find_experiment
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_json, print_table
from arena_core.entrypoints.training_progress import sparkline


@click.command()
@click.argument("name")
@click.option("--metric", "names", multiple=True, help="Only this one.  Repeatable.")
@click.option(
    "--training",
    type=click.IntRange(min=0),
    help="What this training has measured, by its number, instead of the latest.",
)
@click.option("--csv", "as_text", is_flag=True, help="Print CSV, a row for each step.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def metrics(
    name: str,
    names: tuple[str, ...],
    training: int | None,
    as_text: bool,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Show what training has measured: last values and their course, or all."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        points = use.experiments.metrics(
            found.id, names=names or None, training=training
        )
    if as_text:
        click.echo(as_csv(points, columns=names), nl=False)
    elif as_json:
        print_json(points)
    else:
        columns = ("METRIC", "LAST", "AT STEP", "LEAST", "MOST", "POINTS", "COURSE")
        print_table(columns, _courses(points))


def _courses(points: Sequence[MetricPoint]) -> list[tuple[object, ...]]:
    by_name = sorted(points, key=lambda point: (point.name, point.step))
    return [
        _course(name, list(own)) for name, own in groupby(by_name, lambda it: it.name)
    ]


def _course(name: str, points: Sequence[MetricPoint]) -> tuple[object, ...]:
    values = [point.value for point in points]
    return (
        name,
        f"{values[-1]:.6g}",
        points[-1].step,
        f"{min(values):.6g}",
        f"{max(values):.6g}",
        len(points),
        sparkline(points),
    )
