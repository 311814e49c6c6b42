"""A whole pipeline in one file, to be kept under version control: TOML, or JSON."""

from pathlib import Path
from uuid import UUID

import msgspec

from arena_core.application import strict_json
from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.stage_fields import StageFields
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import ArenaError, Rejected
from arena_core.domain.stage_settings import Condition, HandOver, Retries, StageType
from arena_core.entrypoints.cli import documents
from arena_core.entrypoints.cli.lookups import find_experiment
from arena_core.entrypoints.cli.options import find_agent


class ConditionFile(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    min_fitness: float | None = None
    better_than_live: bool = False


class RetriesFile(msgspec.Struct, forbid_unknown_fields=True):
    most: int
    first_wait_s: float = 10.0


class StageFile(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One stage.  Experiments and agents are named by their name or id."""

    type: str = "experiment"
    experiment: str | None = None
    duplicate: bool = False
    trigger: str = "manual"
    checkpoint: str = "best"
    start: str | None = None
    auto_add: str = "no"
    agent_name: str | None = None
    approval: bool = False
    time_limit_s: float | None = None
    condition: ConditionFile | None = None
    retries: RetriesFile | None = None


class PipelineFile(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str | None = None
    project: str | None = None
    description: str = ""
    stages: list[StageFile] = []


def read(path: Path) -> PipelineFile:
    """Return the pipeline that the file at `path` describes.  Raises `Rejected`."""
    return strict_json.convert(documents.table(path), PipelineFile)


def create(use: UseCases, project_id: UUID, name: str, file: PipelineFile) -> UUID:
    """Create the pipeline with all its stages, and return its id.

    If one of them is refused, nothing of it is left, not even copies of experiments.
    """
    fields = [_fields(use, project_id, stage) for stage in file.stages]
    made = use.pipelines.create(project_id, name=name, description=file.description)
    try:
        for each in fields:
            made = use.pipelines.insert_stage(made.id, **each)
    except ArenaError:
        _undo(use, made, file)
        raise
    return made.id


def _undo(use: UseCases, made: PipelineView, file: PipelineFile) -> None:
    use.pipelines.delete(made.id)
    for stage, said in zip(made.stages, file.stages, strict=False):
        if said.duplicate and stage.experiment_id is not None:
            use.experiments.delete(stage.experiment_id)


def _fields(use: UseCases, project_id: UUID, stage: StageFile) -> StageFields:
    fields: StageFields = {
        "type": stage.type,
        "trigger": stage.trigger,
        "checkpoint": stage.checkpoint,
        "auto_add": stage.auto_add,
        "agent_name": stage.agent_name,
        "approval": stage.approval,
        "time_limit_s": stage.time_limit_s,
    }
    if stage.experiment is not None:
        found = find_experiment(use, stage.experiment, project_id=project_id)
        fields["experiment_id"] = found.id
        fields["duplicate"] = stage.duplicate
    if stage.start is not None:
        fields["start"] = find_agent(use, stage.start).id
    if (condition := stage.condition) is not None:
        least, better = condition.min_fitness, condition.better_than_live
        fields["condition"] = Condition(least, better)
    if (retries := stage.retries) is not None:
        fields["retries"] = Retries(retries.most, retries.first_wait_s)
    return fields


def toml(use: UseCases, view: PipelineView) -> str:
    """Return the file that `create` would make such a pipeline of.

    Raises `Rejected` if a stage is bound to what was deleted.
    """
    head = {
        "name": view.name,
        "project": use.projects.get(view.project_id).name,
        "description": view.description,
    }
    text = documents.toml_table({key: it for key, it in head.items() if it})
    return text + "".join(_stage_toml(stage) for stage in view.stages)


def _stage_toml(stage: StageView) -> str:
    said: dict[str, object] = msgspec.to_builtins(_stage_file(stage))
    tables = {name: said.pop(name, None) for name in ("condition", "retries")}
    text = "\n[[stages]]\n" + documents.toml_table(said)
    for name, values in tables.items():
        if isinstance(values, dict):
            text += f"[stages.{name}]\n{documents.toml_table(values)}"
    return text


def _stage_file(stage: StageView) -> StageFile:
    condition, retries = stage.condition, stage.retries
    if stage.type is StageType.EXPERIMENT and stage.experiment_name is None:
        raise Rejected(
            f"The experiment of stage {stage.position} was deleted: bind another one "
            "to it first."
        )
    is_first = stage.position == 1
    return StageFile(
        type=stage.type.value,
        experiment=stage.experiment_name,
        trigger=stage.trigger.value,
        checkpoint=(HandOver.BEST if is_first else stage.checkpoint).value,
        start=None if stage.start is None else str(stage.start),
        auto_add=stage.auto_add.value,
        agent_name=stage.agent_name,
        approval=stage.approval,
        time_limit_s=stage.time_limit_s,
        condition=None
        if condition is None
        else ConditionFile(condition.min_fitness, condition.better_than_live),
        retries=None
        if retries == Retries()
        else RetriesFile(retries.most, retries.first_wait_s),
    )
