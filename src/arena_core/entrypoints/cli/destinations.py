"""Where a checkpoint that was made on the command line is recorded."""

from attrs import frozen

from arena_core.application.experiments import gym
from arena_core.application.resources import ExperimentView, ProjectView
from arena_core.application.use_cases import UseCases
from arena_core.domain.checkpoint import Manifest
from arena_core.domain.errors import Conflict
from arena_core.domain.values import Family, ProjectKind
from arena_core.entrypoints.cli.lookups import (
    experiment_called,
    find_experiment,
    project_for,
)

PROJECT = "imported"
"""The project of what names none."""


@frozen
class Destination:
    """An experiment that is there, or what a new one is called and where."""

    experiment: str | None
    """Its id or its name; None: the one of `name` in `project`, made if need be."""
    project: str | None
    name: str
    env: str | None


def experiment_for(
    use: UseCases, destination: Destination, manifest: Manifest
) -> ExperimentView:
    """Return the experiment that `destination` means, which is made if need be.

    Raises `NotFound`, `Ambiguous`, or `Conflict` for one of another algorithm or of
    another environment: a file that happens to have the same name is no next step.
    """
    if destination.experiment is not None:
        found = find_experiment(use, destination.experiment)
        _check_algorithm(found, manifest)
        return found
    project = _project(use, destination.project or PROJECT, manifest.family)
    if not use.experiments.list(project_id=project.id, name=destination.name):
        return use.experiments.create(
            project.id,
            name=destination.name,
            algorithm=manifest.algorithm,
            family=manifest.family,
            source=None if destination.env is None else gym(destination.env),
        )
    found = experiment_called(use, destination.name, project_id=project.id)
    _check_algorithm(found, manifest)
    _check_environment(found, destination.env)
    return found


def _check_algorithm(found: ExperimentView, manifest: Manifest) -> None:
    if found.algorithm != manifest.algorithm:
        raise Conflict(
            f"The experiment {found.name} is of the algorithm {found.algorithm}, the "
            f"checkpoint of {manifest.algorithm}: name another one, with --name if it "
            "is new."
        )


def _check_environment(found: ExperimentView, env: str | None) -> None:
    known = None if found.source is None else found.source.name
    if env is not None and env != known:
        raise Conflict(
            f"The experiment {found.name} is there already, of "
            f"{known or 'no environment that is known'} and not of {env}: name a new "
            "one with --name."
        )


def _project(use: UseCases, name_or_id: str, family: Family) -> ProjectView:
    kind = ProjectKind.CLASSIC if family is Family.RL else ProjectKind.ADVANCED
    return project_for(use, name_or_id, kind)
