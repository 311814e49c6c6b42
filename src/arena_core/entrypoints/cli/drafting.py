"""`arena-core experiment create` and `edit`: the set-up of an experiment."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import frozen

from arena_core.application.experiments import dataset, gym, setup
from arena_core.application.recipes import check_said
from arena_core.application.resources import ExperimentView
from arena_core.domain.algorithms import family_of
from arena_core.domain.errors import Rejected
from arena_core.domain.values import Family, ProjectKind, Source, shown
from arena_core.entrypoints.cli import documents
from arena_core.entrypoints.cli.lookups import find_experiment, project_for
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_json, say

F = TypeVar("F", bound=Callable[..., Any])
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SETUP = (
    click.option("--env", help="The Gymnasium environment to train in."),
    click.option("--dataset", "data", help="Or the dataset to train on."),
    click.option("--base-model", help="Of language models: what is trained further."),
    click.option("--recipe", help="What trains it: sb3, supervised..."),
    click.option(
        "--config",
        "file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="The recipe's settings, a TOML or JSON file.",
    ),
    click.option(
        "--set",
        "given",
        multiple=True,
        metavar="KEY=VALUE",
        help="One of the recipe's settings, JSON or text.  Repeatable.",
    ),
)


def setup_options(command: F) -> F:
    """Add the options of a set-up, but for the algorithm."""
    for option in reversed(_SETUP):
        command = option(command)
    return command


@click.command()
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
@setup_options
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
    # Before anything is made, the project among it.
    check_said(setup(algorithm=algorithm, source=source, recipe=recipe, config=config))
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
        say(f"{made.name}: {made.status.value}, {made.id}")


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


@click.command()
@click.argument("name")
@click.argument("argv", nargs=-1)
@click.option("--name", "new_name", help="What it is called from now on.")
@click.option("--algorithm", help="Such as PPO or Supervised.")
@setup_options
@click.option(
    "--unset",
    multiple=True,
    metavar="KEY",
    help="A setting to go back to its default.  Repeatable.",
)
@json_option
@store_options
def edit(
    name: str,
    argv: tuple[str, ...],
    as_json: bool,
    store: str | None,
    blobs: Path | None,
    **said: Any,  # noqa: ANN401 -- as many options as there are things to say
) -> None:
    """Change an experiment: its name at any time, its set-up while it is a Draft.

    What is not named stays as it is.  --set changes one setting, --unset takes one
    back, --config puts a file in the place of all of them.  Another recipe begins
    without the settings of the one before.  What has been trained keeps its set-up:
    edit a copy of it, which arena-core experiment duplicate makes.

    \b
    arena-core experiment edit balancer --set total_steps=100000 --unset seed
    arena-core experiment edit balancer --name "balancer, longer"
    arena-core experiment edit mine -- python "$PWD/train.py" --fast
    """  # noqa: D301 -- click wants the character itself, not two that look like it
    if not argv and not any(said.values()):
        raise click.UsageError("Say what is to be changed: --help has all that can be.")
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_experiment(use, name)
        asked = _Edit.of(found, argv, **said)
        edited = use.experiments.edit(
            found.id,
            name=said["new_name"],
            algorithm=said["algorithm"],
            source=asked.source,
            base_model=said["base_model"],
            recipe=asked.recipe,
            config=asked.config,
        )
        if as_json:
            print_json(edited)
            return
        say(f"{edited.name}: {edited.status.value}, {edited.id}")


@frozen
class _Edit:
    """What is to be changed; None stays as it is."""

    algorithm: str | None
    source: Source | None
    recipe: str | None
    config: dict[str, Any] | None
    base_model: str | None

    @classmethod
    def of(cls, found: ExperimentView, argv: Sequence[str], **said: Any) -> "_Edit":  # noqa: ANN401 -- see `edit`
        recipe = _recipe(said["recipe"], argv)
        is_another = recipe not in (None, found.recipe)
        is_set = said["file"] or said["given"] or said["unset"] or argv
        config = None
        if is_set or is_another:
            keeps = not (is_another or said["file"])
            config = dict(found.config) if keeps else {}
            config |= _config(said["file"], said["given"], argv)
            _unset(config, said["unset"])
        source = _source(said["env"], said["data"])
        return cls(said["algorithm"], source, recipe, config, said["base_model"])


def _unset(config: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name not in config:
            there = ", ".join(config) or "none"
            raise Rejected(
                f"The setting {shown(name)} is not set; there are: {there}.",
                field="config",
            )
        del config[name]


COMMANDS = (create, edit)
