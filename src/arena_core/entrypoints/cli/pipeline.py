"""`arena-core pipeline`: chains of training and deployment."""

from datetime import UTC, datetime
from pathlib import Path

import click

from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.use_cases import UseCases
from arena_core.domain.values import ProjectKind
from arena_core.entrypoints.cli import pipeline_files, stage_runs, stages
from arena_core.entrypoints.cli.lookups import (
    find_pipeline,
    find_project,
    project_for,
)
from arena_core.entrypoints.cli.options import administration, operator, store_options
from arena_core.entrypoints.cli.output import print_json, print_table, say
from arena_core.entrypoints.graph_facts import endpoints_of, progress_of
from arena_core.entrypoints.stage_words import (
    how_to_approve,
    name_of,
    note,
    plan,
    stale,
    time_of,
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def pipeline() -> None:
    """Chain training and deployment: one stage after the other, by hand or by itself.

    A pipeline is named by its name or its id; a stage by its position, its id, or the
    name of its experiment.

    \b
    arena-core experiment create classifier --project flowers \\
        --algorithm Supervised --dataset iris
    arena-core pipeline create iris --project flowers
    arena-core pipeline stage add iris --experiment classifier
    arena-core pipeline stage add iris --deployment --trigger auto
    arena-core pipeline trigger iris 1 --wait
    """  # noqa: D301 -- click wants the character itself, not two that look like it


pipeline.add_command(stages.stage)
for _command in stage_runs.COMMANDS:
    pipeline.add_command(_command)


@pipeline.command("list")
@click.option("--project", help="Only those of this project, name or id.")
@json_option
@store_options
def list_(
    project: str | None, as_json: bool, store: str | None, blobs: Path | None
) -> None:
    """List the pipelines with the status of their stages."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        where = None if project is None else find_project(use, project).id
        found = use.pipelines.list(project_id=where)
        if as_json:
            print_json(found.items)
        elif not found.items:
            click.echo(
                "No pipelines found: make one with arena-core pipeline create NAME "
                "--project PROJECT."
            )
        else:
            columns = ("NAME", "STAGES", "LAST MODIFIED", "ID")
            print_table(columns, map(_row, found))


def _row(view: PipelineView) -> tuple[object, ...]:
    told = ", ".join(
        stage.status.value + (" (stale)" if stage.stale else "")
        for stage in view.stages
    )
    return (view.name, told or "none yet", time_of(view.last_modified), view.id)


@pipeline.command()
@click.argument("name")
@json_option
@click.option(
    "--toml", "as_toml", is_flag=True, help="Print the file that makes such a one."
)
@store_options
def show(
    name: str, as_json: bool, as_toml: bool, store: str | None, blobs: Path | None
) -> None:
    """Show a pipeline: its stages, what they left, and why any of them is stale.

    BY is who has triggered the latest run of a stage; one that follows another by
    itself is triggered by the runner.
    """
    with administration(store, blobs) as arena:
        use = operator(arena)
        view = find_pipeline(use, name)
        if as_toml:
            click.echo(pipeline_files.toml(use, view), nl=False)
        elif as_json:
            print_json(view)
        else:
            _print(use, view)


def _print(use: UseCases, view: PipelineView) -> None:
    project = use.projects.get(view.project_id).name
    say(f"{view.name} in the project {project}, {view.id}")
    if view.description:
        say(view.description)
    columns = (
        "",
        "NAME",
        "TYPE",
        "TRIGGER",
        "TAKES",
        "STATUS",
        "BY",
        "NOW",
        "SETTINGS",
    )
    print_table(columns, map(_stage_row, view.stages))
    for stage in view.stages:
        for cause in stage.stale_because:
            say(f"Stage {stage.position} is stale: {stale(cause)}")
        if (typed := how_to_approve(view.name, stage)) is not None:
            say(f"Stage {stage.position} waits: {typed}")


def _stage_row(stage: StageView) -> tuple[object, ...]:
    return (
        stage.position,
        name_of(stage),
        stage.type.value,
        stage.trigger.value,
        None if stage.position == 1 else stage.checkpoint.value,
        stage.status.value + (" (stale)" if stage.stale else ""),
        None if stage.run is None else stage.run.triggered_by.actor,
        note(stage, datetime.now(UTC)),
        plan(stage),
    )


@pipeline.command()
@click.argument("name", required=False)
@click.option(
    "--project",
    help="Name or id; a new name makes one of the kind advanced.  Default: as the "
    "file says.",
)
@click.option("--description", help="What it is for.")
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A TOML or JSON file with its stages, as show --toml prints it.",
)
@json_option
@store_options
def create(
    name: str | None,
    project: str | None,
    description: str | None,
    file: Path | None,
    as_json: bool,
    store: str | None,
    blobs: Path | None,
) -> None:
    """Create a pipeline, empty or with all the stages of a file."""
    said = pipeline_files.PipelineFile()
    if file is not None:
        said = pipeline_files.read(file)
    name, project = name or said.name, project or said.project
    if name is None or project is None:
        raise click.UsageError("A pipeline needs a NAME and a --project.")
    said.description = said.description if description is None else description
    with administration(store, blobs, make=True) as arena:
        use = operator(arena)
        where = project_for(use, project, ProjectKind.ADVANCED).id
        made = use.pipelines.get(pipeline_files.create(use, where, name, said))
        if as_json:
            print_json(made)
            return
        say(f"{made.name}: {len(made.stages)} stages, {made.id}")


@pipeline.command()
@click.argument("name")
@click.argument("new_name")
@store_options
def rename(name: str, new_name: str, store: str | None, blobs: Path | None) -> None:
    """Give a pipeline another name."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, name)
        say(f"{use.pipelines.edit(found.id, name=new_name).name}: {found.id}")


@pipeline.command()
@click.argument("name")
@click.argument("description")
@store_options
def describe(
    name: str, description: str, store: str | None, blobs: Path | None
) -> None:
    """Say what a pipeline is for."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, name)
        edited = use.pipelines.edit(found.id, description=description)
        say(f"{edited.name}: {edited.description}")


@pipeline.command()
@click.argument("name")
@click.option("--name", "new_name", help="Of the copy.  Default: with (copy) behind.")
@store_options
def duplicate(
    name: str, new_name: str | None, store: str | None, blobs: Path | None
) -> None:
    """Copy a pipeline, with copies of its experiments, and without its runs."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        made = use.pipelines.duplicate(find_pipeline(use, name).id, name=new_name)
        say(f"{made.name}: {len(made.stages)} stages, {made.id}")


@pipeline.command()
@click.argument("name")
@click.confirmation_option(
    prompt="Its experiments and agents stay. Delete the pipeline?", help="Do not ask."
)
@store_options
def delete(name: str, store: str | None, blobs: Path | None) -> None:
    """Delete a pipeline.  Its experiments and agents stay."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, name)
        use.pipelines.delete(found.id)
        say(f"Deleted {found.name}.")


@pipeline.command()
@click.argument("name")
@click.option(
    "--svg",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True, allow_dash=True),
    default="-",
    help="Where to write it.  Default: to the standard output.",
)
@store_options
def graph(name: str, file: Path, store: str | None, blobs: Path | None) -> None:
    """Draw a pipeline with its states, as an SVG picture that needs nothing else."""
    from arena_core.entrypoints.graph import svg  # noqa: PLC0415 -- --help needs no picture

    with administration(store, blobs) as arena:
        use = operator(arena)
        view = find_pipeline(use, name)
        drawn = svg(view, endpoints_of(use, view), progress_of(use, view))
    with click.open_file(str(file), "w", encoding="utf-8") as out:
        out.write(drawn)
