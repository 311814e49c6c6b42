"""Ids that are derived: the same for the same, and never the same for two."""

from uuid import UUID

import pytest

from arena_core.domain.ids import (
    AgentId,
    ExperimentId,
    StageId,
    agent_added_by,
    agent_deployed_by,
    agent_deployed_from,
    deployment_of,
    run_of,
    training_of,
)

MANY = range(300)
ONE, OTHER = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    "of",
    [
        lambda whose, number: training_of(ExperimentId(whose), number),
        lambda whose, number: run_of(StageId(whose), number),
        lambda whose, number: agent_deployed_by(StageId(whose), number),
        lambda whose, number: agent_deployed_from(ExperimentId(whose), number),
        lambda whose, number: agent_added_by(run_of(StageId(whose), number)),
        lambda whose, number: deployment_of(
            AgentId(agent_deployed_by(StageId(whose), number))
        ),
    ],
)
def test_an_effect_has_an_id_of_its_own_however_often_there_was_one_before(of):
    ids = [of(whose, number) for whose in (ONE, OTHER) for number in MANY]
    assert len(set(ids)) == 2 * len(MANY)
    assert ids == [of(whose, number) for whose in (ONE, OTHER) for number in MANY]
