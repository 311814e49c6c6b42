"""`arena-core pipeline stage`: the structure of a pipeline."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import asdict, evolve

from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.stage_fields import StageFields
from arena_core.application.use_cases import UseCases
from arena_core.domain.stage_settings import Condition, Retries
from arena_core.entrypoints.cli.lookups import (
    find_experiment,
    find_pipeline,
    find_stage,
)
from arena_core.entrypoints.cli.options import (
    administration,
    find_agent,
    operator,
    store_options,
)
from arena_core.entrypoints.cli.output import say
from arena_core.entrypoints.stage_words import name_of

F = TypeVar("F", bound=Callable[..., Any])
SCRATCH = "scratch"
NOTHING = "none"
_SETTINGS = (
    click.option("--experiment", help="What it trains, name or id."),
    click.option(
        "--duplicate",
        is_flag=True,
        help="Bind a copy: needed for one that has run, or is bound already.",
    ),
    click.option("--deployment", is_flag=True, help="It puts a checkpoint live."),
    click.option(
        "--trigger",
        type=click.Choice(["manual", "auto"]),
        help="auto: it starts when the stage before it succeeds.",
    ),
    click.option(
        "--checkpoint",
        type=click.Choice(["best", "final"]),
        help="Which one it takes of the Experiment stage before it.",
    ),
    click.option(
        "--start",
        metavar="AGENT",
        help="What a first stage begins with; scratch: nothing.",
    ),
    click.option(
        "--auto-add",
        type=click.Choice(["no", "best", "final"]),
        help="Which checkpoint becomes an agent when it succeeds.",
    ),
    click.option("--agent-name", help="Of the agent that it makes; none: by itself."),
    click.option("--min-fitness", type=float, help="Only if the checkpoint has it."),
    click.option(
        "--better-than-live/--not-better-than-live",
        default=None,
        help="Only if it scores higher than what is live.",
    ),
    click.option("--no-condition", is_flag=True, help="Whatever it scores."),
    click.option(
        "--approval/--no-approval",
        default=None,
        help="Whether somebody has to approve before it begins.",
    ),
    click.option("--retries", type=int, help="How often it is tried again by itself."),
    click.option(
        "--first-wait",
        metavar="SECONDS",
        type=float,
        help="Before it is tried again; each further time twice as long.",
    ),
    click.option(
        "--time-limit", metavar="SECONDS", help="Of one attempt; none: without."
    ),
)


def _settings(command: F) -> F:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


@click.group()
def stage() -> None:
    """Add, edit, move and remove the stages of a pipeline.

    Refused while one of its stages is at work.
    """


@stage.command()
@click.argument("pipeline")
@click.option("--at", type=click.IntRange(1), help="Position.  Default: the last.")
@_settings
@store_options
def add(
    pipeline: str,
    at: int | None,
    store: str | None,
    blobs: Path | None,
    **said: Any,  # noqa: ANN401 -- as many options as there are settings
) -> None:
    """Add a stage that trains an experiment, or one that deploys.

    \b
    arena-core pipeline stage add iris --experiment classifier --retries 2
    arena-core pipeline stage add iris --deployment --trigger auto --min-fitness 0.9
    """  # noqa: D301 -- click wants the character itself, not two that look like it
    if (said["experiment"] is None) is not said["deployment"]:
        raise click.UsageError("A stage has either --experiment NAME or --deployment.")
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        fields = fields_of(use, found, None, said)
        _say(use.pipelines.insert_stage(found.id, position=at, **fields))


@stage.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@_settings
@store_options
def edit(
    pipeline: str,
    which: str,
    store: str | None,
    blobs: Path | None,
    **said: Any,  # noqa: ANN401 -- as many options as there are settings
) -> None:
    """Change what is named; the rest stays as it is."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        before = find_stage(found, which)
        fields = fields_of(use, found, before, said)
        _say(use.pipelines.edit_stage(found.id, before.id, **fields))


@stage.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@click.argument("position", type=click.IntRange(1))
@store_options
def move(
    pipeline: str, which: str, position: int, store: str | None, blobs: Path | None
) -> None:
    """Move a stage to a position.  An Auto stage that becomes the first is Manual."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        moved = find_stage(found, which)
        _say(use.pipelines.move_stage(found.id, moved.id, position))


@stage.command()
@click.argument("pipeline")
@click.argument("which", metavar="STAGE")
@click.confirmation_option(
    prompt="Its experiment and its agents stay. Remove the stage?", help="Do not ask."
)
@store_options
def remove(pipeline: str, which: str, store: str | None, blobs: Path | None) -> None:
    """Remove a stage.  Its experiment and its agents stay."""
    with administration(store, blobs) as arena:
        use = operator(arena)
        found = find_pipeline(use, pipeline)
        removed = find_stage(found, which)
        _say(use.pipelines.remove_stage(found.id, removed.id))


def fields_of(
    use: UseCases,
    pipeline: PipelineView,
    before: StageView | None,
    said: Mapping[str, Any],
) -> StageFields:
    """Return what the options say; what is not named is left out.

    `before`: the stage that is edited.
    """
    plain = ("trigger", "checkpoint", "auto_add", "approval")
    fields: StageFields = {}
    found: dict[str, Any] = {
        name: said[name] for name in plain if said[name] is not None
    }
    if said["deployment"]:
        found["type"] = "deployment"
    if said["experiment"] is not None:
        project = pipeline.project_id
        named = find_experiment(use, said["experiment"], project_id=project)
        found |= {"type": "experiment", "experiment_id": named.id}
        found["duplicate"] = said["duplicate"]
    if (start := said["start"]) is not None:
        found["start"] = None if start == SCRATCH else find_agent(use, start).id
    if (agent_name := said["agent_name"]) is not None:
        found["agent_name"] = None if agent_name == NOTHING else agent_name
    if (limit := said["time_limit"]) is not None:
        found["time_limit_s"] = None if limit == NOTHING else _seconds(limit)
    found |= _condition(before, said) | _retries(before, said)
    fields.update(found)  # type: ignore[typeddict-item]  # names are those of the fields
    return fields


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise click.UsageError("--time-limit takes seconds, or none.") from error


def _condition(before: StageView | None, said: Mapping[str, Any]) -> dict[str, object]:
    if said["no_condition"]:
        return {"condition": None}
    named = {
        name: said[name]
        for name in ("min_fitness", "better_than_live")
        if said[name] is not None
    }
    if not named:
        return {}
    known = None if before is None else before.condition
    wanted = ({} if known is None else asdict(known)) | named
    asks = wanted.get("min_fitness") is not None or wanted.get("better_than_live")
    return {"condition": Condition(**wanted) if asks else None}


def _retries(before: StageView | None, said: Mapping[str, Any]) -> dict[str, object]:
    names = {"retries": "most", "first_wait": "first_wait_s"}
    named = {
        field: said[option]
        for option, field in names.items()
        if said[option] is not None
    }
    known = Retries() if before is None else before.retries
    return {"retries": evolve(known, **named)} if named else {}


def _say(view: PipelineView) -> None:
    for each in view.stages:
        kind = f"{each.type.value}, {each.trigger.value}"
        say(f"{each.position} {name_of(each)}: {kind}")
