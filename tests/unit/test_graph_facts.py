"""What the picture tells of trainings that go on, and of agents that are live."""

import pytest

from arena_core.application.trainer import Pace
from arena_core.domain.ids import AgentId
from arena_core.entrypoints.graph_facts import endpoints_of, progress_of
from unit.chains import Chain


@pytest.fixture
def chain(scene):
    return Chain.begin(scene)


def at_step(chain, monkeypatch, step, most):
    trainer = chain.core.trainer
    paced = Pace(step, most, None, None, chain.core.clock())
    monkeypatch.setattr(type(trainer), "pace", lambda *_: paced)


@pytest.mark.parametrize(
    ("step", "most", "share"), [(25, 100, 0.25), (120, 100, 1.0), (25, None, None)]
)
def test_how_much_is_done_is_told_of_what_runs(chain, monkeypatch, step, most, share):
    stage = chain.insert()
    assert progress_of(chain.use, chain.view) == {}
    chain.trigger(1)
    chain.start(1)
    at_step(chain, monkeypatch, step, most)
    expected = {} if share is None else {stage.id: share}
    assert progress_of(chain.use, chain.view) == expected
    chain.end(1)
    assert progress_of(chain.use, chain.view) == {}


def test_agents_that_stages_have_put_live_tell_how_they_are_served(chain):
    chain.insert()
    chain.insert(type="deployment", trigger="auto")
    chain.run(1, "a")
    chain.start(2)
    chain.end(2)
    agent_id = AgentId(chain.stage(2).run.agent_id)
    assert endpoints_of(chain.use, chain.view) == {agent_id: "Deployed"}
    chain.use.agents.delete(agent_id)
    assert endpoints_of(chain.use, chain.view) == {}


def test_what_has_ended_before_its_last_step_has_no_progress_any_more(chain):
    stage = chain.insert()
    chain.use.training.train(stage.experiment_id, max_steps=100)
    chain.start(1)
    chain.write(1, 50, "a")
    assert progress_of(chain.use, chain.view) == {stage.id: 0.5}
    chain.end(1)
    assert progress_of(chain.use, chain.view) == {}
