"""Deployments by name: an experiment's checkpoint goes live in one step, and again."""

import pytest

from arena_core import dataset, final
from arena_core.domain.deployment import MemoryScope, Status
from arena_core.domain.errors import (
    Ambiguous,
    Conflict,
    IllegalTransition,
    NotFound,
    Rejected,
)
from arena_core.domain.values import CheckpointType, Role
from unit.scenes import caller

import bundles

SUPERVISED = {"algorithm": "Supervised", "source": dataset("weather")}
OBSERVATION = [0.1, -0.2, 0.3, 0.4]


@pytest.fixture
def ppo(scene):
    """An experiment with two checkpoints, the earlier of which is the better."""
    made = scene.experiment(scores={10: 2.0})
    other = scene.bundle(network=bundles.CARTPOLE.swapped())
    scene.use.experiments.add_checkpoint(made.id, step=20, path=other, fitness=1.0)
    return made


@pytest.fixture
def deployments(scene):
    return scene.use.deployments


def advanced(scene, name="forecast"):
    """Return an experiment of which the agents are advanced."""
    folder = scene.bundle(bundles.regressor)
    project = scene.advanced().id
    return scene.experiment(name=name, project=project, bundle=folder, **SUPERVISED)


def deploy(scene, name="ppo", **said):
    """Deploy and return what there is once the supervisor has passed."""
    scene.use.deployments.deploy(name, **said)
    scene.pass_()
    return scene.use.deployments.one(name)


# --- deploy ----------------------------------------------------------------------


def test_deploy_makes_the_agent_of_the_best_checkpoint_and_puts_it_live(scene, ppo):
    asked = scene.use.deployments.deploy("ppo")
    assert asked.agent.deployment.status is Status.PENDING
    scene.pass_()
    live = scene.use.deployments.one("ppo").agent
    assert (live.name, live.experiment_id) == ("ppo", ppo.id)
    assert (live.checkpoint.type, live.checkpoint.step) == (CheckpointType.BEST, 10)
    assert live.deployment.status is Status.DEPLOYED


@pytest.mark.usefixtures("ppo")
def test_deploy_is_one_append(scene):
    before = scene.arena.application.core.store.head()
    scene.use.deployments.deploy("ppo")
    written = scene.arena.application.core.store.read_all(after=before)
    assert [event.name for event in written] == [
        "agent.checkpoint_frozen",
        "deployment.created",
        "deployment.connect_requested",
    ]
    assert len({event.context.command_id for event in written}) == 1


def test_what_is_not_scored_is_deployed_from_the_final_checkpoint(scene):
    scene.experiment(scores={10: None, 20: None})
    assert deploy(scene).agent.checkpoint.step == 20
    with pytest.raises(Rejected, match="none is the best"):
        scene.use.deployments.deploy("ppo", checkpoint="best")


@pytest.mark.parametrize("name", ["step_20", "step-20", "20", "final"])
@pytest.mark.usefixtures("ppo")
def test_a_checkpoint_is_deployed_by_its_name(scene, name):
    assert deploy(scene, checkpoint=name).agent.checkpoint.step == 20


@pytest.mark.usefixtures("ppo")
def test_a_checkpoint_that_is_not_there_is_refused_and_nothing_is_made(scene):
    before = scene.log()
    with pytest.raises(Rejected, match="no checkpoint at step 15: choose one of 10"):
        scene.use.deployments.deploy("ppo", checkpoint="step_15")
    assert scene.log() == before


def test_an_experiment_without_checkpoints_is_not_deployed(scene):
    scene.experiment(scores={})
    with pytest.raises(Rejected, match="has no checkpoints"):
        scene.use.deployments.deploy("ppo")


@pytest.mark.parametrize("name", ["dqn", "[ppo]", "x" * 150])
@pytest.mark.usefixtures("ppo")
def test_an_experiment_that_is_not_there_is_not_deployed(scene, name):
    with pytest.raises(NotFound, match="no experiment called"):
        scene.use.deployments.deploy(name)


def test_of_several_experiments_the_one_that_changed_last_is_deployed(scene):
    first, second = scene.experiment(), scene.experiment()
    assert deploy(scene).agent.experiment_id == second.id
    scene.use.training.train(first.id)
    assert scene.use.experiments.look_up(" ppo").id == first.id
    scene.use.deployments.deploy("ppo")
    assert {a.experiment_id for a in scene.use.agents.list()} == {first.id, second.id}


def test_a_look_up_of_an_experiment_is_narrowed_by_the_project(scene):
    here = scene.use.projects.create("boats").id
    first = scene.experiment(project=here)
    scene.experiment()
    look_up = scene.use.experiments.look_up
    assert look_up("ppo", project="boats").id == first.id
    with pytest.raises(NotFound, match="called ppo in a project called trains"):
        look_up("ppo", project="trains")


# --- deploy again ----------------------------------------------------------------


@pytest.mark.usefixtures("ppo")
def test_a_redeploy_swaps_the_checkpoint_of_the_same_deployment(scene):
    first = deploy(scene).agent
    inference = scene.arena.inference(first.id)
    before = inference.get_action(OBSERVATION)
    scene.use.deployments.deploy("ppo", checkpoint="step_20")
    # Until the new weights are there, the old ones go on answering.
    assert inference.get_action(OBSERVATION) == before
    scene.pass_()
    second = scene.use.deployments.one("ppo").agent
    assert (second.id, second.deployment.id) == (first.id, first.deployment.id)
    assert second.checkpoint.step == 20
    assert second.deployment.status is Status.DEPLOYED
    assert inference.get_action(OBSERVATION) != before
    assert len(scene.use.agents.list()) == 1


@pytest.mark.parametrize("passes", [0, 1], ids=["Pending", "Deployed"])
@pytest.mark.usefixtures("ppo")
def test_a_redeploy_of_what_is_there_records_nothing(scene, passes):
    scene.use.deployments.deploy("ppo")
    for _ in range(passes):
        scene.pass_()
    before = scene.log()
    scene.use.deployments.deploy("ppo", checkpoint="step_10")
    assert scene.log() == before


@pytest.mark.usefixtures("ppo")
def test_another_checkpoint_has_to_wait_while_it_is_pending(scene):
    scene.use.deployments.deploy("ppo")
    with pytest.raises(IllegalTransition, match="is Pending: wait"):
        scene.use.deployments.deploy("ppo", checkpoint="20")


@pytest.mark.usefixtures("ppo")
def test_a_redeploy_of_what_was_taken_off_puts_it_live_again(scene):
    first = deploy(scene).agent
    scene.use.agents.disconnect(first.id)
    again = deploy(scene, checkpoint="final").agent
    assert (again.id, again.checkpoint.step) == (first.id, 20)
    assert again.deployment.status is Status.DEPLOYED


def test_an_agent_that_is_called_like_its_experiment_is_used(scene, ppo):
    made = scene.use.agents.create("ppo", ppo.id, checkpoint=final())
    assert deploy(scene).agent.id == made.id


def test_a_saved_model_that_is_called_like_its_experiment_gets_its_deployment(scene):
    source = advanced(scene)
    made = scene.use.agents.create("forecast", source.id, checkpoint=final())
    assert made.deployment is None
    live = deploy(scene, "forecast", memory_scope="organization").agent
    assert live.id == made.id
    assert live.deployment.status is Status.DEPLOYED
    assert live.deployment.memory_scope is MemoryScope.ORGANIZATION


def test_agents_that_are_called_alike_are_not_chosen_from(scene, ppo):
    for _ in range(2):
        scene.use.agents.create("ppo", ppo.id, checkpoint=final())
    with pytest.raises(Ambiguous, match=r"^2 agents are called ppo: "):
        scene.use.deployments.deploy("ppo")


def test_the_agent_that_a_deploy_has_made_is_known_by_any_name(scene, ppo):
    made = deploy(scene).agent
    scene.use.agents.edit(made.id, name="balancer")
    scene.use.agents.create("ppo", ppo.id, checkpoint=final())
    again = scene.use.deployments.deploy("ppo", checkpoint="final")
    assert (again.agent.id, again.agent.name) == (made.id, "balancer")


@pytest.mark.usefixtures("ppo")
def test_a_deploy_after_a_deletion_makes_a_new_agent(scene):
    made = []
    for _ in range(3):
        made.append(deploy(scene).agent)
        scene.use.agents.delete(made[-1].id)
    assert len({agent.id for agent in made}) == 3
    assert not scene.use.deployments.list()


# --- whose conversations it shows -------------------------------------------------


@pytest.mark.usefixtures("ppo")
def test_rule_87_the_memory_scope_is_user_unless_another_is_named(scene):
    assert deploy(scene).agent.deployment.memory_scope is MemoryScope.USER


@pytest.mark.usefixtures("ppo")
def test_rule_87_the_memory_scope_stays_when_none_is_named_later(scene):
    deploy(scene, memory_scope="organization")
    again = deploy(scene, checkpoint="final")
    assert again.agent.deployment.memory_scope is MemoryScope.ORGANIZATION


@pytest.mark.usefixtures("ppo")
def test_rule_87_the_memory_scope_never_changes(scene):
    first = deploy(scene, memory_scope="organization").agent
    before = scene.log()
    with pytest.raises(Conflict, match=r"memory scope organization.*cannot be changed"):
        scene.use.deployments.deploy("ppo", memory_scope="user")
    with pytest.raises(Conflict, match="cannot be changed"):
        scene.use.agents.connect(first.id, memory_scope=MemoryScope.USER)
    assert scene.log() == before
    scene.use.agents.connect(first.id, memory_scope="organization")
    with pytest.raises(Rejected, match="use one of user, organization"):
        scene.use.deployments.deploy("ppo", memory_scope="world")


def test_rule_87_the_memory_scope_is_named_where_the_deployment_is_made(scene, ppo):
    create = scene.use.agents.create
    made = create("a", ppo.id, checkpoint=final(), memory_scope="organization")
    assert made.deployment.memory_scope is MemoryScope.ORGANIZATION
    saved = advanced(scene)
    with pytest.raises(Rejected, match="when it is connected") as caught:
        create("b", saved.id, checkpoint=final(), memory_scope="organization")
    assert caught.value.field == "memory_scope"
    later = create("b", saved.id, checkpoint=final())
    connected = scene.use.agents.connect(later.id, memory_scope="organization")
    assert connected.deployment.memory_scope is MemoryScope.ORGANIZATION


# --- looking up ------------------------------------------------------------------


def test_rule_18_deployments_are_listed_by_exact_names(scene):
    for project in ("carts", "boats"):
        here = scene.use.projects.create(project).id
        for name in ("ppo", "PPO"):
            scene.agent(project=here, of=name)
    listed = scene.use.deployments.list
    assert len(listed()) == len(listed(name=" balancer ")) == 4
    assert len(listed(experiment="ppo ")) == len(listed(project="boats")) == 2
    assert not listed(name="balance")
    assert len(listed(name=" ", experiment="", project=None)) == 4
    (only,) = listed(name="balancer", experiment="PPO", project="carts")
    assert only.project_name == "carts"


def test_rule_18_one_deployment_of_several_is_refused_with_the_whole_story(scene):
    made = [scene.agent(), scene.agent(of="dqn")]
    with pytest.raises(Ambiguous) as caught:
        scene.use.deployments.one("balancer")
    for agent in made:
        assert str(agent.id) in str(caught.value)
        assert f"experiment {agent.experiment_name}" in str(caught.value)
    found = scene.use.deployments.one("balancer", experiment="dqn").agent
    assert found.id == made[1].id


@pytest.mark.parametrize("blank", ["", " \t"])
def test_rule_18_a_look_up_needs_a_name(scene, blank):
    scene.agent()
    for look_up in (scene.use.deployments.one, scene.use.agents.look_up):
        with pytest.raises(Rejected, match="name is missing"):
            look_up(blank)


def test_rule_46_a_saved_model_without_a_deployment_is_no_deployment(scene):
    scene.saved_model("forecast", bundle=scene.bundle(bundles.regressor), **SUPERVISED)
    assert not scene.use.deployments.list()
    with pytest.raises(NotFound, match=r"^No deployment found for this agent$"):
        scene.use.deployments.one("forecast")
    with pytest.raises(NotFound, match="no agent called forecasts"):
        scene.use.deployments.one("forecasts")


@pytest.mark.usefixtures("ppo")
def test_rule_44_there_is_no_key_until_it_is_deployed(scene):
    asked = scene.use.deployments.deploy("ppo")
    assert asked.api_key is None
    scene.pass_()
    live = scene.use.deployments.one("ppo")
    assert live.api_key == scene.use.agents.access(live.agent.id).api_key
    assert live.api_key not in repr(live)
    assert [entry.api_key for entry in scene.use.deployments.list()] == [live.api_key]
    scene.use.agents.disconnect(live.agent.id)
    assert scene.use.deployments.one("ppo").api_key is None


@pytest.mark.usefixtures("ppo")
def test_the_key_is_for_those_who_may_use_it(scene):
    deploy(scene)
    viewer = scene.arena.on_behalf_of(caller("vic", role=Role.VIEWER))
    assert viewer.deployments.one("ppo").agent.deployment.connected
    assert viewer.deployments.one("ppo").api_key is None
    assert [entry.api_key for entry in viewer.deployments.list()] == [None]


# --- projects --------------------------------------------------------------------


def test_a_project_is_found_by_its_name(scene):
    made = scene.use.projects.create("carts")
    assert scene.use.projects.look_up(" carts ") == made
    with pytest.raises(NotFound, match="no project called boats"):
        scene.use.projects.look_up("boats")


def test_a_name_of_several_projects_is_refused_with_the_whole_story(scene):
    made = [
        scene.use.projects.create("carts", kind=kind)
        for kind in ("classic", "advanced")
    ]
    with pytest.raises(Ambiguous, match=r"^2 projects are called carts: ") as caught:
        scene.use.projects.look_up("carts")
    for project in made:
        assert f"{project.id}, {project.kind.title}" in str(caught.value)


def test_a_project_may_insist_on_a_name_of_its_own(scene):
    scene.use.projects.create("carts", unique=True)
    with pytest.raises(Conflict, match="called carts already"):
        scene.use.projects.create(" carts ", unique=True)
    scene.use.projects.create("carts")
