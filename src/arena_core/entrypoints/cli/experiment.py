"""`arena-core experiment`: draft experiments, train them, see what came of it."""

from pathlib import Path

import click
import msgspec

from arena_core.application.deeds import Hand
from arena_core.application.resources import CheckpointView, ExperimentView
from arena_core.application.use_cases import UseCases
from arena_core.entrypoints.cli import drafting, training
from arena_core.entrypoints.cli.experiment_metrics import metrics
from arena_core.entrypoints.cli.lookups import find_experiment, find_project
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_json, print_table, say
from arena_core.entrypoints.stage_words import time_of
from arena_core.entrypoints.training_progress import Progress, words

COLUMNS = (
    "NAME",
    "PROJECT",
    "STATUS",
    "ALGORITHM",
    "RECIPE",
    "PROGRESS",
    "ENDED",
    "ID",
)
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


for _command in (*drafting.COMMANDS, *training.COMMANDS, metrics):
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
        projects = {project.id: project.name for project in use.projects.list()}
        print_table(
            COLUMNS, [_row(use, view, projects[view.project_id]) for view in found]
        )


def _row(use: UseCases, view: ExperimentView, project: str) -> tuple[object, ...]:
    ended = None if view.training is None else view.training.ended_at
    return (
        view.name,
        project,
        view.status.value,
        view.algorithm,
        view.recipe,
        ", ".join(words(Progress.of(use, view))),
        None if ended is None else time_of(ended),
        view.id,
    )


@experiment.command()
@click.argument("name")
@json_option
@store_options
def show(name: str, as_json: bool, store: str | None, blobs: Path | None) -> None:
    """Show an experiment and its checkpoints.

    RECORDED is when a checkpoint came into the store, which is soon after its training
    has written it.
    """
    with administration(store, blobs) as arena:
        use = operator(arena)
        view = find_experiment(use, name)
        checkpoints = use.experiments.checkpoints(view.id)
        if as_json:
            print_json({"experiment": view, "checkpoints": checkpoints})
            return
        print_table(("", ""), _facts(use, view))
        if checkpoints:
            columns = ("STEP", "DIGEST", "SIZE", "SCORE", "FITNESS", "RECORDED")
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
        *_training_facts(view),
    ]
    facts = [(key, value) for key, value in facts if value not in (None, "")]
    return facts + [(f"  {key}", _json(value)) for key, value in view.config.items()]


def _training_facts(view: ExperimentView) -> list[tuple[str, object]]:
    training = view.training
    if training is None:
        return []
    began, ended = training.started_at, training.ended_at
    return [
        ("training", training.number),
        ("asked for", _hand(training.requested_by)),
        ("started", None if began is None else time_of(began)),
        ("stopped", _hand(training.stopped_by)),
        ("ended", None if ended is None else time_of(ended)),
    ]


def _hand(hand: Hand | None) -> str | None:
    if hand is None:
        return None
    why = "" if hand.reason is None else f": {hand.reason}"
    return f"{time_of(hand.at)} by {hand.actor}{why}"


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
        say(f"{made.name}: {made.status.value}, {made.id}")


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
        say(f"Deleted {found.name}.")
