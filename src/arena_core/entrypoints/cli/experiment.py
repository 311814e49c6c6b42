"""`arena-core experiment`: draft experiments, train them, see what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from arena_core.application.experiments import dataset, gym, setup
from arena_core.application.recipes import checked
from arena_core.application.resources import CheckpointView, ExperimentView
from arena_core.application.use_cases import UseCases
from arena_core.domain.algorithms import family_of
from arena_core.domain.errors import Rejected
from arena_core.domain.experiment import Setup
from arena_core.domain.values import Family, ProjectKind, Source
from arena_core.entrypoints.cli import documents, training
from arena_core.entrypoints.cli.experiment_metrics import metrics
from arena_core.entrypoints.cli.lookups import (
    find_experiment,
    find_project,
    project_for,
)
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_json, print_table
from arena_core.entrypoints.stage_words import time_of
from arena_core.entrypoints.training_progress import Progress, words

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def experiment() -> None:
    """Draft experiments, train them, see what came of it.

    An experiment is named by its name or by its id.  A server that runs on the same
    store does the training, or the command itself where it is told to wait.

    \b
    From nothing to a trained checkpoint:
      arena-core experiment create balancer --project lab --env CartPole-v1 \\
          --algorithm PPO --recipe sb3 --set total_steps=50000
      arena-core experiment train balancer --wait
    Any program of your own, by its whole path:
      arena-core experiment create mine --project lab --env CartPole-v1 \\
          --algorithm PPO -- python "$PWD/train.py"
    """  # noqa: D301 -- click wants the character itself, not two that look like it


for _command in (*training.COMMANDS, metrics):
    experiment.add_command(_command)


@experiment.command("list")
@click.option("--project", help="Only those of this project, name or id.")
@json_option
@store_options
def list_(
    project: str | None, as_json: bool, store: str | None, blobs: Path | None
) -> None:
    """List the experiments with their status."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        where = None if project is None else find_project(use, project).id
        found = use.experiments.list(project_id=where)
        if as_json:
            print_json(found.items)
            return
        columns = ("NAME", "STATUS", "ALGORITHM", "RECIPE", "PROGRESS", "ID")
        print_table(columns, [_row(use, view) for view in found])


def _row(use: UseCases, view: ExperimentView) -> tuple[object, ...]:
    progress = Progress.of(use, view)
    told = ", ".join(words(progress))
    return (view.name, view.status.value, view.algorithm, view.recipe, told, view.id)


@experiment.command()
@click.argument("name")
@json_option
@store_options
def show(name: str, as_json: bool, store: str | None, blobs: Path | None) -> None:
    """Show an experiment and its checkpoints."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        view = find_experiment(use, name)
        checkpoints = use.experiments.checkpoints(view.id)
        if as_json:
            print_json({"experiment": view, "checkpoints": checkpoints})
            return
        print_table(("", ""), _facts(use, view))
        if checkpoints:
            columns = ("STEP", "DIGEST", "SIZE", "SCORE", "FITNESS", "WRITTEN")
            print_table(columns, map(_checkpoint_row, checkpoints))


def _facts(use: UseCases, view: ExperimentView) -> list[tuple[str, object]]:
    source = None if view.source is None else f"{view.source.name}"
    facts = [
        ("name", view.name),
        ("id", view.id),
        ("project", use.projects.get(view.project_id).name),
        ("status", view.status.value),
        ("reason", view.reason),
        ("progress", ", ".join(words(Progress.of(use, view)))),
        ("algorithm", view.algorithm),
        ("source", source),
        ("recipe", view.recipe),
    ]
    facts = [(key, value) for key, value in facts if value not in (None, "")]
    return facts + [(f"  {key}", _json(value)) for key, value in view.config.items()]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _checkpoint_row(view: CheckpointView) -> tuple[object, ...]:
    return (
        view.step,
        view.digest[:12],
        f"{view.size_bytes:,}",
        view.training_score,
        view.evaluation_score,
        time_of(view.created_at),
    )


@experiment.command()
@click.argument("name")
@click.argument("argv", nargs=-1)
@click.option("--project", required=True, help="Name or id; a new name makes it.")
@click.option(
    "--kind",
    type=click.Choice(["classic", "advanced"]),
    help="Of a project that is made; pipelines need advanced.  Default: classic for "
    "reinforcement learning, else advanced.",
)
@click.option("--algorithm", required=True, help="Such as PPO or Supervised.")
@click.option("--env", help="The Gymnasium environment to train in.")
@click.option("--dataset", "data", help="Or the dataset to train on.")
@click.option("--base-model", help="Of language models: what is trained further.")
@click.option("--recipe", help="What trains it: sb3, supervised...")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The recipe's settings, a TOML or JSON file.",
)
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="KEY=VALUE",
    help="One of the recipe's settings, JSON or text.  Repeatable.",
)
@json_option
@store_options
def create(
    name: str,
    argv: tuple[str, ...],
    as_json: bool,
    store: str | None,
    blobs: Path | None,
    **said: Any,  # noqa: ANN401 -- as many options as there are things to say
) -> None:
    """Draft an experiment.

    Behind -- comes a program of your own, which is the recipe command: it is told
    what to do by its environment, and says what it does in files.  It begins in a
    folder of its own, so name files by their whole paths.

    \b
    arena-core experiment create iris --project lab --algorithm Supervised \\
        --dataset iris --recipe supervised --set epochs=60
    arena-core experiment create mine --project lab --env CartPole-v1 \\
        --algorithm PPO -- python "$PWD/train.py"
    """  # noqa: D301 -- click wants the character itself, not two that look like it
    config = _config(said["file"], said["given"], argv)
    recipe = _recipe(said["recipe"], argv)
    algorithm, base_model = said["algorithm"], said["base_model"]
    source = _source(said["env"], said["data"])
    if recipe is not None or config:
        asked = setup(algorithm=algorithm, source=source, recipe=recipe, config=config)
        _check_trainable(asked)
    with administration(store, blobs, make=True) as arena:
        use = operator(arena)
        kind = _kind_for(algorithm, said["kind"])
        made = use.experiments.create(
            project_for(use, said["project"], kind).id,
            name=name,
            algorithm=algorithm,
            source=source,
            base_model=base_model,
            recipe=recipe,
            config=config,
        )
        if as_json:
            print_json(made)
            return
        click.echo(f"{made.name}: {made.status.value}, {made.id}")


def _check_trainable(asked: Setup) -> None:
    """Refuse a set-up that could not be trained: it cannot be changed from here."""
    if asked.source is None:
        raise Rejected(
            "Training needs an environment or a dataset: add --env or --dataset.",
            field="source",
        )
    checked(asked)


def _config(
    file: Path | None, given: Sequence[str], argv: Sequence[str]
) -> dict[str, Any]:
    found = {} if file is None else documents.table(file)
    found |= documents.assignments(given, option="--set")
    return {**found, "argv": list(argv)} if argv else found


def _recipe(named: str | None, argv: Sequence[str]) -> str | None:
    if argv and named not in (None, "command"):
        raise Rejected(
            f"A program behind -- is for the recipe command, and not for {named}: "
            "leave one of the two out.",
            field="recipe",
        )
    return "command" if argv else named


def _kind_for(algorithm: str, named: str | None) -> ProjectKind:
    if named is not None:
        return ProjectKind(named)
    is_rl = family_of(algorithm) is Family.RL
    return ProjectKind.CLASSIC if is_rl else ProjectKind.ADVANCED


def _source(env: str | None, data: str | None) -> Source | None:
    if env is not None and data is not None:
        raise click.UsageError("An experiment has an --env or a --dataset, not both.")
    if env is not None:
        return gym(env)
    return None if data is None else dataset(data)


@experiment.command()
@click.argument("name")
@click.option("--name", "new_name", help="Of the copy.  Default: with (copy) behind.")
@store_options
def duplicate(
    name: str, new_name: str | None, store: str | None, blobs: Path | None
) -> None:
    """Draft a copy of an experiment, without what it has trained."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        made = use.training.duplicate(found.id, name=new_name)
        click.echo(f"{made.name}: {made.status.value}, {made.id}")


@experiment.command()
@click.argument("name")
@click.confirmation_option(
    prompt="Its checkpoints leave every list; agents keep theirs. Delete it?",
    help="Do not ask.",
)
@store_options
def delete(name: str, store: str | None, blobs: Path | None) -> None:
    """Delete an experiment.  Agents that were made of it stay."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        use.experiments.delete(found.id)
        click.echo(f"Deleted {found.name}.")
