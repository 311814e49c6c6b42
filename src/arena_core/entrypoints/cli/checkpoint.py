"""`arena-core checkpoint`: look into checkpoint bundles."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from arena_core.application import bundles, spaces
from arena_core.domain.checkpoint import Space
from arena_core.entrypoints.cli.output import print_json


@click.group()
def checkpoint() -> None:
    """Look into checkpoint bundles."""


@checkpoint.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def inspect(path: Path) -> None:
    """Check the bundle at PATH, a folder or a tar archive, as a server would.

    Loads the weights, replays the golden trace if there is one, and prints the
    digest, what the bundle says of itself, and whether parity holds.
    """
    with TemporaryDirectory(prefix="arena-inspect-") as scratch:
        folder = path if path.is_dir() else _unpacked(path, Path(scratch) / "bundle")
        _inspect(folder)


def _unpacked(archive: Path, folder: Path) -> Path:
    from arena_core.entrypoints.wiring import unpack_archive  # noqa: PLC0415 -- --help needs no adapters

    unpack_archive(archive, folder)
    return folder


def _inspect(folder: Path) -> None:
    from arena_core.entrypoints.wiring import load_bundle  # noqa: PLC0415 -- --help needs no adapters

    manifest = bundles.check(folder)
    listing = bundles.listing(folder)
    loaded = load_bundle(folder)
    loaded.model.close()
    print_json(
        {
            "digest": listing.digest,
            "files": {name: entry.size for name, entry in listing.files.items()},
            "algorithm": manifest.algorithm,
            "family": manifest.family,
            "weights": manifest.weights,
            "signature": manifest.signature,
            "head": manifest.head,
            "observation_space": _space(manifest.observation_space),
            "action_space": _space(manifest.action_space),
            "normaliser": manifest.normaliser,
            "parity": loaded.parity,
        }
    )


def _space(space: Space | None) -> dict[str, object] | None:
    return None if space is None else spaces.to_json(space)
