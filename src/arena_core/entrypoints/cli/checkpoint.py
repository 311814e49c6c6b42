"""`arena-core checkpoint`: import checkpoints, look into bundles."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from arena_core.application import bundles, space_json
from arena_core.domain.checkpoint import Manifest, Policy, Space
from arena_core.entrypoints.cli.checkpoint_import import import_
from arena_core.entrypoints.cli.output import print_json


@click.group()
def checkpoint() -> None:
    """Import checkpoints of other training code, look into bundles."""


checkpoint.add_command(import_)


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
            **_policies(manifest),
            "decoder": manifest.decoder,
            "parity": loaded.parity,
        }
    )


def _policies(manifest: Manifest) -> dict[str, object]:
    if not manifest.is_multi_agent:
        return _policy(manifest.policy)
    parts = {name: _policy(part) for name, part in manifest.policies.items()}
    return {"policies": parts, "agents": manifest.agents}


def _policy(policy: Policy) -> dict[str, object]:
    return {
        "weights": policy.weights,
        "signature": policy.signature,
        "head": policy.head,
        "observation_space": _space(policy.observation_space),
        "action_space": _space(policy.action_space),
        "normaliser": policy.normalisers.get("") or policy.normalisers or None,
        "action_transform": policy.transform,
        "log_std": policy.log_std,
        "hidden_state": policy.hidden_states,
    }


def _space(space: Space | None) -> dict[str, object] | None:
    return None if space is None else space_json.to_json(space)
