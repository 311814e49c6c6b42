"""The agents that a Deployment stage puts live: one, unless that was deleted meanwhile.

Their ids are derived from the stage, so that no look-up is needed to find them again,
and two runners at once make one agent and not two.
"""

from collections.abc import Iterator

from arena_core.application.streams import Streams
from arena_core.domain import agent, deployment
from arena_core.domain.agent import Agent
from arena_core.domain.deployment import Deployment
from arena_core.domain.ids import (
    AgentId,
    ExperimentId,
    StageId,
    agent_deployed_by,
    deployment_of,
)
from arena_core.domain.stage_run import Product


def agent_for(
    streams: Streams, stage_id: StageId, experiment_id: ExperimentId
) -> tuple[AgentId, Deployment | None]:
    """Return the stage's agent of an experiment, or the id of one that is to come.

    With it, its deployment: each has one, and loses it only together with its life.
    """
    made = list(_agents(streams, stage_id))
    for known in made:
        there = deployment_state(streams, known.id)
        if there is not None and known.origin.experiment_id == experiment_id:
            return known.id, there
    return agent_deployed_by(stage_id, len(made)), None


def live(streams: Streams, stage_id: StageId) -> Product | None:
    """Return the checkpoint that the stage has live; None: it has none."""
    for known in reversed(list(_agents(streams, stage_id))):
        state = deployment_state(streams, known.id)
        if state is not None and state.status is deployment.Status.DEPLOYED:
            there = known.had(state.digest)
            origin = known.origin.experiment_id
            return Product(origin, there.step, there.digest, there.scores)
    return None


def deployment_state(streams: Streams, agent_id: AgentId) -> Deployment | None:
    """Return the agent's deployment; None if there is none, or none any more."""
    state = streams.state(deployment, deployment_of(agent_id))
    return None if state is None or state.deleted else state


def _agents(streams: Streams, stage_id: StageId) -> Iterator[Agent]:
    """Yield every agent that the stage has ever made, the deleted ones too."""
    number = 0
    while known := streams.state(agent, agent_deployed_by(stage_id, number)):
        yield known
        number += 1
