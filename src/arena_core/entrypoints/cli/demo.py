"""`arena-core demo`: the main job, from nothing to an audited live agent."""

from importlib.util import find_spec
from pathlib import Path

import click
import msgspec

NEEDED = ("torch", "sklearn", "pyarrow", "stable_baselines3")
"""What the trainings of a pipeline import."""


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
@click.option(
    "--pipeline",
    is_flag=True,
    help="Train Supervised, then LatentPPO over it, then deploy that; run the first "
    "stage again, kill a training, retry it.  Needs arena-core[latent-ppo].",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at last.")
def demo(
    seed: int, episodes: int, folder: Path | None, pipeline: bool, as_json: bool
) -> None:
    """Train a policy, freeze it, connect it, play it over HTTP, audit it.

    Needs neither torch nor a GPU nor the network, and takes some seconds.
    """
    if pipeline:
        result: object = _pipeline(seed, folder)
    else:
        from arena_core.entrypoints.demo.story import tell  # noqa: PLC0415 -- --help needs no trainer

        result = tell(seed=seed, episodes=episodes, folder=folder)
    if as_json:
        click.echo(msgspec.json.encode(result))


def _pipeline(seed: int, folder: Path | None) -> object:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"{missing[0]} is not installed here: pip install "
            "'arena-core[latent-ppo]', or run the demo without --pipeline."
        )
    from arena_core.entrypoints.demo.pipeline_story import tell  # noqa: PLC0415 -- --help needs no trainer

    return tell(seed=seed, folder=folder)
