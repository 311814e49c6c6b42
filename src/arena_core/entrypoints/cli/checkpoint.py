"""`arena-core checkpoint`: look into checkpoint bundles."""

from pathlib import Path

import click

from arena_core.application import bundles
from arena_core.entrypoints.cli.output import print_json


@click.group()
def checkpoint() -> None:
    """Look into checkpoint bundles."""


@checkpoint.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
def inspect(path: Path) -> None:
    """Check the bundle in the folder PATH; print its digest and what it says."""
    manifest = bundles.check(path)
    listing = bundles.listing(path)
    print_json(
        {
            "digest": listing.digest,
            "files": {name: entry.size for name, entry in listing.files.items()},
            "manifest": manifest,
        }
    )
