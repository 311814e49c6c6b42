"""`arena-core demo`: the main job, from nothing to an audited live agent."""

from pathlib import Path

import click
import msgspec


@click.command()
@click.option("--seed", type=int, default=1, show_default=True, help="Of the training.")
@click.option(
    "--episodes",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many to play over HTTP.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the store and the checkpoints here.  Default: a new temporary folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at last.")
def demo(seed: int, episodes: int, folder: Path | None, as_json: bool) -> None:
    """Train a policy, freeze it, connect it, play it over HTTP, audit it.

    Needs neither torch nor a GPU nor the network, and takes some seconds.
    """
    from arena_core.entrypoints.demo.story import tell  # noqa: PLC0415 -- --help needs no trainer

    result = tell(seed=seed, episodes=episodes, folder=folder)
    if as_json:
        click.echo(msgspec.json.encode(result))
