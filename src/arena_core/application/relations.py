"""What an aggregate has to do with others: how its row is found by them."""

from uuid import UUID

from arena_core.domain import (
    agent,
    checkpoint_import,
    deployment,
    experiment,
    pipeline,
    sign_in,
    stage,
)
from arena_core.domain.ids import user_of


def parent(state: object) -> UUID | None:
    """Return what it is listed under, if it is listed under anything."""
    match state:
        case experiment.Experiment():
            return state.project_id
        case checkpoint_import.Import():
            return state.experiment_id
        case agent.Agent():
            return state.origin.experiment_id
        case deployment.Deployment():
            return state.agent_id
        case pipeline.Pipeline():
            return state.project_id
        case stage.Stage():
            return state.pipeline_id
        case sign_in.SignIn():
            return user_of(state.user)
        case _:
            return None


def refers(state: object) -> frozenset[UUID]:
    """Return what else it is to be found by."""
    if not isinstance(state, pipeline.Pipeline):
        return frozenset()
    bound = (planned.settings.experiment_id for planned in state.stages)
    return frozenset(filter(None, bound))
