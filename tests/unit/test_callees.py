"""What callers are told of an agent."""

import pytest

from arena_core import dataset, final
from arena_core.application.callees import callee
from unit.scenes import STRANGER


def told(scene, agent):
    return callee(scene.use.session, agent, agent.deployment.digest)


def test_its_checkpoint_and_where_it_was_trained_are_told(scene):
    agent = scene.agent("balancer")
    found = told(scene, agent)
    assert (found.name, found.gym) == ("balancer", "CartPole-v1")
    assert found.manifest.algorithm == "PPO"
    assert found.manifest.policy.action_space.n == 2


@pytest.mark.parametrize("source", [None, dataset("CartPole-v1")], ids=str)
def test_what_was_trained_in_no_environment_has_none(scene, source):
    agent = scene.agent(source=source, kind="classic")
    assert told(scene, agent).gym is None


def test_what_is_told_outlives_the_experiment(scene):
    agent = scene.agent()
    before = told(scene, agent)
    scene.use.experiments.delete(agent.experiment_id)
    assert told(scene, agent) == before


def test_whether_an_agent_has_namesakes_is_told(scene):
    first = scene.agent("balancer")
    second = scene.agent("balancer")
    assert not told(scene, first).is_only
    scene.use.agents.delete(second.id)
    assert told(scene, first).is_only


def test_namesakes_in_another_organisation_are_not_told(scene):
    rivals = scene.arena.on_behalf_of(STRANGER)
    project = rivals.projects.create("cart")
    made = rivals.experiments.create(project.id, name="ppo", algorithm="PPO")
    rivals.experiments.add_checkpoint(made.id, step=1, path=scene.bundle())
    rivals.agents.create("balancer", made.id, checkpoint=final())
    assert told(scene, scene.agent("balancer")).is_only


def test_rule_47_without_an_endpoint_there_are_no_examples(scene):
    agent = scene.live(scene.agent())
    assert scene.use.agents.access(agent.id).examples == []
