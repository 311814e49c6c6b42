"""What is meant by a name or an id that somebody has typed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar
from uuid import UUID

from arena_core.application.freezing import best, final, specific
from arena_core.application.pipeline_views import PipelineView, StageView
from arena_core.application.resources import (
    AgentView,
    ExperimentView,
    ProjectView,
)
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import Ambiguous, NotFound, Rejected
from arena_core.domain.values import CheckpointChoice, ProjectKind, shown
from arena_core.entrypoints.stage_words import name_of

KINDS = ("agent", "experiment", "pipeline", "project")
"""Of what has a name and a life in the log."""
Named: TypeAlias = AgentView | ExperimentView | PipelineView | ProjectView
V = TypeVar("V", ExperimentView, ProjectView, StageView)


def find_project(use: UseCases, name_or_id: str) -> ProjectView:
    """Return the project with this id, or else the one of this name."""
    if (project_id := as_id(name_or_id)) is not None:
        return use.projects.get(project_id)
    name = name_or_id.strip()
    fitting = list(use.projects.list(name=name))
    return only(fitting, "project", name, lambda it: f"{it.id}, {it.kind.title}")


def project_for(use: UseCases, name_or_id: str, kind: ProjectKind) -> ProjectView:
    """Return the project, which is made if nothing is called so."""
    name = name_or_id.strip()
    if as_id(name) is None and not use.projects.list(name=name):
        return use.projects.create(name, kind=kind)
    return find_project(use, name)


def find_experiment(
    use: UseCases, name_or_id: str, *, project_id: UUID | None = None
) -> ExperimentView:
    """Return the experiment with this id, or else the one of this name.

    `project_id`: where to look for the name; None: everywhere.
    """
    if (experiment_id := as_id(name_or_id)) is not None:
        return use.experiments.get(experiment_id)
    return experiment_called(use, name_or_id, project_id=project_id)


def experiment_called(
    use: UseCases, name: str, *, project_id: UUID | None = None
) -> ExperimentView:
    """Return the experiment of this name, also if that looks like an id."""
    name = name.strip()
    fitting = list(use.experiments.list(project_id=project_id, name=name))

    def told(it: ExperimentView) -> str:
        project = use.projects.get(it.project_id).name
        return f"{it.id} in the project {shown(project)}, {it.status.value}"

    return only(fitting, "experiment", name, told)


def find_pipeline(use: UseCases, name_or_id: str) -> PipelineView:
    """Return the pipeline with this id, or else the one of this name."""
    if (pipeline_id := as_id(name_or_id)) is not None:
        return use.pipelines.get(pipeline_id)
    return use.pipelines.look_up(name_or_id)


def find_stage(pipeline: PipelineView, which: str) -> StageView:
    """Return the stage at a position, with an id, or of a name."""
    stages = pipeline.stages
    if which.isascii() and which.isdigit():
        fitting = [stage for stage in stages if stage.position == int(which)]
    elif (stage_id := as_id(which)) is not None:
        fitting = [stage for stage in stages if stage.id == stage_id]
    else:
        fitting = [stage for stage in stages if name_of(stage) == which.strip()]
    if not fitting:
        there = "; ".join(f"{it.position} {shown(name_of(it))}" for it in stages)
        raise NotFound(
            f"The pipeline {shown(pipeline.name)} has no stage {shown(which)}. "
            f"{f'There are: {there}.' if there else 'It has none yet.'}"
        )
    return only(fitting, "stage", which, lambda it: f"position {it.position}")


def find_in_log(use: UseCases, name_or_id: str, *, kind: str | None = None) -> UUID:
    """Return the id of whatever is meant: an id, also of what was deleted, or a name.

    `kind`: one of `KINDS`, of which it is.  Left out, the agent is meant where an agent
    has the name: it is often that of its experiment.  Raises `NotFound`, or `Ambiguous`
    with all that have the name.
    """
    if (its_id := as_id(name_or_id)) is not None:
        return its_id
    name = name_or_id.strip()
    fitting = _called(use, name, KINDS if kind is None else (kind,))
    if kind is None:
        fitting = [it for it in fitting if it[0] == "agent"] or fitting
    if not fitting:
        called = kind or "agent, experiment, pipeline or project"
        raise NotFound(
            f"No {called} is called {shown(name)}. What was deleted, and a deployment "
            "or a stage, is found by its id."
        )
    if len(fitting) > 1:
        each = "; ".join(f"{kind} {its_id}" for kind, its_id in fitting)
        raise Ambiguous(
            f"{len(fitting)} things are called {shown(name)}: {each}. Name one of "
            "these ids instead, or say of which --kind it is."
        )
    return fitting[0][1]


def _called(use: UseCases, name: str, kinds: Sequence[str]) -> list[tuple[str, UUID]]:
    """Return what of these kinds has the name, with its kind."""
    lists: Mapping[str, Callable[[], Iterable[Named]]] = {
        "agent": lambda: use.agents.list(name=name),
        "experiment": lambda: use.experiments.list(name=name),
        "pipeline": lambda: use.pipelines.list(name=name),
        "project": lambda: use.projects.list(name=name),
    }
    return [(kind, found.id) for kind in kinds for found in lists[kind]()]


def checkpoint_choice(text: str) -> CheckpointChoice:
    """Return the checkpoint that an option names.  Raises `Rejected`."""
    if text == "best":
        return best()
    if text == "final":
        return final()
    if text.isascii() and text.isdigit():
        return specific(int(text))
    raise Rejected(
        "The checkpoint must be best, final or the step of one, such as 5000.",
        field="checkpoint",
    )


def as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def only(found: Sequence[V], kind: str, name: str, told: Callable[[V], str]) -> V:
    """Return the one that fits.  Raises `NotFound`, or `Ambiguous` with all."""
    if not found:
        raise NotFound(f"There is no {kind} called {shown(name)}.")
    if len(found) > 1:
        each = "; ".join(told(it) for it in found)
        raise Ambiguous(
            f"{len(found)} {kind}s are called {shown(name)}: {each}. Name one of "
            "these instead."
        )
    return found[0]
