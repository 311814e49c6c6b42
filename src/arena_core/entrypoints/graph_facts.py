"""What the picture of a pipeline tells that the pipeline itself does not say."""

from collections.abc import Mapping
from contextlib import suppress
from uuid import UUID

from arena_core.application.pipeline_views import PipelineView
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import NotFound
from arena_core.domain.stage_run import Status


def endpoints_of(use: UseCases, view: PipelineView) -> Mapping[UUID, str]:
    """Return what the deployments are now of agents that stages have put live."""
    found = {}
    for agent_id in {stage.run.agent_id for stage in view.stages if stage.run}:
        if agent_id is None:
            continue
        with suppress(NotFound):  # deleted since
            deployment = use.agents.get(agent_id).deployment
            if deployment is not None:
                found[agent_id] = deployment.status.value
    return found


def progress_of(use: UseCases, view: PipelineView) -> Mapping[UUID, float]:
    """Return how much is done of each training that goes on, by the stage: 0 to 1."""
    found = {}
    for stage in view.stages:
        if stage.status is not Status.RUNNING or stage.experiment_id is None:
            continue
        with suppress(NotFound):  # deleted since
            training = use.experiments.get(stage.experiment_id).training
            if training is not None and training.step and training.max_steps:
                found[stage.id] = min(training.step / training.max_steps, 1.0)
    return found
