"""Copies of what users have set up: the same settings under a new id and name."""

from arena_core.domain.experiment import DraftExperiment, Experiment
from arena_core.domain.ids import ExperimentId
from arena_core.domain.values import LONGEST_NAME

_SUFFIX = " (copy)"


def copy_name(name: str) -> str:
    """Return what a copy is called, unless somebody says otherwise."""
    return name[: LONGEST_NAME - len(_SUFFIX)].rstrip() + _SUFFIX


def copied(state: Experiment, experiment_id: ExperimentId) -> DraftExperiment:
    """Return the command that drafts a copy of an experiment, without what it did."""
    name = copy_name(state.name)
    return DraftExperiment(experiment_id, state.project_id, name, state.setup)
