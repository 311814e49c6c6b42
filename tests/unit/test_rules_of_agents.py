"""Rules 16 to 34: an agent is a named, frozen choice of one checkpoint."""

from uuid import uuid4

import pytest

from arena_core import MetricPoint, best, dataset, final, gym, specific
from arena_core.application import manifests
from arena_core.application.session import Paging
from arena_core.domain.deployment import Status
from arena_core.domain.errors import Ambiguous, NotFound, Rejected
from arena_core.domain.values import CheckpointType, Family, ProjectKind

import bundles
import shapes

SUPERVISED = {"algorithm": "Supervised", "source": dataset("weather")}


def test_rule_16_creating_an_agent_starts_nothing(scene):
    made = scene.agent()
    scene.pass_()
    assert scene.use.agents.get(made.id).deployment.status is Status.UNDEPLOYED
    assert "deployment.connect_requested" not in scene.log()
    assert not scene.registry.all_live()


@pytest.mark.parametrize(
    ("wanted", "there_is", "missing"),
    [("classic", "advanced", "Classic RL"), ("advanced", "classic", "Advanced Train")],
)
def test_rule_17_a_refusal_names_the_kind_of_project_that_is_missing(
    scene, wanted, there_is, missing
):
    made = scene.experiment(kind=there_is)
    scene.experiment(kind=wanted, scores={})
    assert not scene.use.agents.sources(wanted)
    with pytest.raises(Rejected, match=f"no experiment with checkpoints.*{missing}"):
        scene.use.agents.create("a", made.id, checkpoint=best(), kind=wanted)
    assert not scene.use.agents.list()


@pytest.mark.parametrize("kind", ["classic", "advanced"])
def test_rule_17_one_experiment_with_checkpoints_in_a_project_of_the_kind_suffices(
    scene, kind
):
    made = scene.experiment(kind=kind)
    assert [s.experiment_id for s in scene.use.agents.sources(kind)] == [made.id]
    agent = scene.use.agents.create("a", made.id, checkpoint=best(), kind=kind)
    assert agent.kind.value == kind


def test_rule_18_two_agents_may_have_one_name(scene):
    first = scene.agent(" balancer ")
    second = scene.use.agents.create(
        "balancer", first.experiment_id, checkpoint=final()
    )
    assert [a.id for a in scene.use.agents.list(name="balancer")] == [
        first.id,
        second.id,
    ]


@pytest.mark.parametrize("blank", ["", " \t\n"])
def test_rule_18_an_agent_without_a_name_is_refused(scene, blank):
    made = scene.experiment()
    with pytest.raises(Rejected, match="name is missing") as caught:
        scene.use.agents.create(blank, made.id, checkpoint=best())
    assert caught.value.field == "name"


@pytest.mark.parametrize("name", ["a\x00b", "a\nb", "a\x1b[31mb"])
def test_rule_18_a_name_that_cannot_be_printed_is_refused(scene, name):
    made = scene.experiment()
    with pytest.raises(Rejected, match="holds a control character") as caught:
        scene.use.agents.create(name, made.id, checkpoint=best())
    assert caught.value.field == "name"


def test_rule_18_a_look_up_finds_the_one_that_its_origin_narrows_it_to(scene):
    made = {}
    for project in ("carts", "boats"):
        here = scene.use.projects.create(project, kind="classic").id
        for experiment in ("ppo", "dqn"):
            made[project, experiment] = scene.agent(project=here, of=experiment)
    look_up = scene.use.agents.look_up
    for (project, experiment), agent in made.items():
        found = look_up(" balancer", experiment=experiment, project=project)
        assert found == agent
    with pytest.raises(Ambiguous, match=r"^2 agents are called balancer"):
        look_up("balancer", experiment="ppo")
    with pytest.raises(Ambiguous, match=r"^2 agents are called balancer"):
        look_up("balancer", project="carts")
    with pytest.raises(NotFound, match="no agent called balancer"):
        look_up("balancer", experiment="sac")


def test_rule_18_an_ambiguous_name_is_refused_with_the_whole_story(scene):
    made = []
    for project, experiment in [("carts", "ppo"), ("boats", "dqn")]:
        here = scene.use.projects.create(project, kind="classic").id
        made.append(scene.agent(project=here, of=experiment))
    with pytest.raises(Ambiguous) as caught:
        scene.use.agents.look_up("balancer")
    assert str(caught.value) == (
        f"2 agents are called balancer: {made[0].id} of the experiment ppo in the "
        f"project carts; {made[1].id} of the experiment dqn in the project boats. "
        "Use the id, name the experiment or the project too where that is possible, or "
        "rename one."
    )


def test_rule_18_a_look_up_by_name_sees_no_deleted_agent(scene):
    gone, here = scene.agent(), scene.agent()
    scene.use.agents.delete(gone.id)
    assert scene.use.agents.look_up("balancer").id == here.id


def test_rule_19_only_experiments_with_checkpoints_are_offered(scene):
    made = scene.experiment(name="with")
    scene.experiment(name="without", scores={})
    emptied = scene.experiment(name="emptied")
    scene.use.experiments.delete_checkpoint(emptied.id, 10)
    deleted = scene.experiment(name="deleted")
    scene.use.experiments.delete(deleted.id)
    assert [s.experiment_id for s in scene.use.agents.sources("classic")] == [made.id]


def test_rule_19_a_source_without_checkpoints_or_that_is_not_there_is_refused(scene):
    empty = scene.experiment(scores={})
    with pytest.raises(Rejected, match="has no checkpoints") as caught:
        scene.use.agents.create("a", empty.id, checkpoint=final())
    assert caught.value.field == "experiment_id"
    with pytest.raises(NotFound, match="no such experiment"):
        scene.use.agents.create("a", uuid4(), checkpoint=final())


def test_rule_19_the_source_need_not_be_finished(scene):
    draft = scene.experiment()
    assert draft.status.value == "Draft"
    assert scene.use.agents.create("a", draft.id, checkpoint=best())


def test_rule_20_a_classic_source_is_shown_with_its_environment(scene):
    scene.experiment(name="first try", source=gym("CartPole-v1"))
    (shown,) = scene.use.agents.sources("classic")
    assert shown.label == "first try (CartPole-v1)"


def test_rule_20_an_advanced_source_is_shown_by_its_dataset(scene):
    scene.experiment(kind="advanced", name="first try", source=dataset("weather"))
    (shown,) = scene.use.agents.sources("advanced")
    assert shown.label == "weather"


def test_rule_20_a_source_of_nothing_is_shown_by_its_own_name(scene):
    scene.experiment(name="imported", source=None)
    (shown,) = scene.use.agents.sources("classic")
    assert shown.label == "imported"


def test_rule_21_the_name_and_the_experiment_come_before_the_checkpoint(scene):
    made = scene.experiment()
    nowhere = specific(99)
    with pytest.raises(Rejected) as caught:
        scene.use.agents.create(" ", made.id, checkpoint=nowhere)
    assert caught.value.field == "name"
    with pytest.raises(NotFound, match="no such experiment"):
        scene.use.agents.create("a", uuid4(), checkpoint=nowhere)
    with pytest.raises(Rejected) as caught:
        scene.use.agents.create("a", made.id, checkpoint=nowhere)
    assert caught.value.field == "checkpoint.step"


def test_rule_24_a_better_checkpoint_that_comes_later_changes_no_agent(scene):
    agent = scene.agent()
    better = scene.bundle(network=bundles.Network.of(4, 2, seed=9))
    scene.use.experiments.add_checkpoint(
        agent.experiment_id, step=20, path=better, fitness=99.0
    )
    assert scene.use.agents.get(agent.id) == agent
    (newer,) = scene.use.experiments.checkpoints(agent.experiment_id)[1:]
    assert newer.digest != agent.checkpoint.digest


def test_rule_25_best_is_refused_where_nothing_is_scored(scene):
    made = scene.experiment(scores={10: None, 20: None})
    with pytest.raises(Rejected, match="No checkpoint has an evaluation score"):
        scene.use.agents.create("a", made.id, checkpoint=best())
    assert not scene.use.agents.list()
    taken = scene.use.agents.create("a", made.id, checkpoint=final())
    assert taken.checkpoint.step == 20


def test_rule_25_a_tie_for_best_goes_to_the_larger_step(scene):
    made = scene.experiment(scores={30: 2.0, 20: 2.0, 10: 1.0, 40: None})
    chosen = scene.use.agents.create("a", made.id, checkpoint=best()).checkpoint
    assert (chosen.type, chosen.step) == (CheckpointType.BEST, 30)


def test_rule_26_checkpoints_come_by_step_each_with_the_score_to_sort_it_by(scene):
    made = scene.experiment(scores={30: 1.0, 10: 3.0, 20: None})
    listed = scene.use.experiments.checkpoints(made.id)
    assert [(c.step, c.evaluation_score) for c in listed] == [
        (10, 3.0), (20, None), (30, 1.0),
    ]  # fmt: skip


def test_rule_27_where_nothing_was_measured_there_is_no_series(scene):
    made = scene.experiment(scores={10: None})
    assert list(scene.use.experiments.metrics(made.id)) == []
    scene.use.experiments.add_metrics(made.id, [])
    assert list(scene.use.experiments.metrics(made.id)) == []
    points = [MetricPoint(1, "loss", 0.5), MetricPoint(10, "fitness", 1.0)]
    scene.use.experiments.add_metrics(made.id, points)
    assert list(scene.use.experiments.metrics(made.id)) == points
    assert list(scene.use.experiments.metrics(made.id, names=["loss"])) == points[:1]


def test_rule_28_a_saved_model_has_what_was_asked_and_no_deployment(scene):
    made = scene.experiment(kind="advanced", scores={10: 2.0, 20: 1.0})
    saved = scene.use.agents.create(
        " forecaster ", made.id, checkpoint=best(), description=" wet ", kind="advanced"
    )
    assert (saved.name, saved.description) == ("forecaster", "wet")
    assert (saved.experiment_id, saved.checkpoint.step) == (made.id, 10)
    assert saved.deployment is None
    assert "deployment.created" not in scene.log()


def test_rule_29_a_classic_agent_has_its_deployment_at_once(scene):
    made = scene.agent()
    assert made.kind is ProjectKind.CLASSIC
    assert made.deployment.status is Status.UNDEPLOYED
    frozen, created = scene.arena.application.core.store.read_all()[-2:]
    assert (frozen.name, created.name) == (
        "agent.checkpoint_frozen",
        "deployment.created",
    )
    assert frozen.context.command_id == created.context.command_id


def test_rule_30_deploying_a_row_is_the_same_creation_with_that_step(scene):
    made = scene.experiment(scores={10: 1.0, 20: 9.0})
    agent = scene.use.agents.create("a", made.id, checkpoint=specific(10))
    assert (agent.checkpoint.type, agent.checkpoint.step) == (
        CheckpointType.SPECIFIC,
        10,
    )


@pytest.mark.parametrize("project", ["classic", "advanced"])
@pytest.mark.parametrize(
    ("algorithm", "source", "kind"),
    [
        ("PPO", gym("CartPole-v1"), "classic"),
        ("PPO", None, "classic"),
        ("PPO", dataset("drives"), "advanced"),
        ("Supervised", dataset("weather"), "advanced"),
        ("LatentPPO", gym("CartPole-v1"), "advanced"),
        ("GRPO", gym("chat"), "advanced"),
    ],
)
def test_rule_31_without_a_tab_the_source_and_the_algorithm_decide_the_kind(
    scene, project, algorithm, source, kind
):
    family = scene.use.experiments.create(
        scene.advanced().id, name="x", algorithm=algorithm
    ).family
    bundle = scene.bundle() if family is Family.RL else _of_family(scene, family)
    agent = scene.agent(
        project=scene.use.projects.create("here", kind=project).id,
        algorithm=algorithm,
        source=source,
        bundle=bundle,
    )
    assert agent.kind.value == kind
    assert (agent.deployment is not None) == (kind == "classic")


def _of_family(scene, family):
    if family is Family.LATENT:
        return scene.bundle(shapes.latent_policy)
    bundle = scene.bundle(bundles.regressor)
    algorithm = {Family.LLM: "GRPO"}.get(family, "Supervised")
    described = bundles.manifest(bundle)
    described |= {"family": family.value, "algorithm": algorithm}
    bundles.write_manifest(bundle, described)
    return bundle


@pytest.mark.parametrize(
    ("tab", "title"), [("classic", "Classic RL"), ("advanced", "Advanced Training")]
)
def test_rule_32_a_tab_takes_no_experiment_of_the_other_kind_of_project(
    scene, tab, title
):
    other = {"classic": "advanced", "advanced": "classic"}[tab]
    here, there = scene.experiment(kind=tab), scene.experiment(kind=other)
    assert [s.experiment_id for s in scene.use.agents.sources(tab)] == [here.id]
    with pytest.raises(Rejected, match=f"not in a project of the kind {title}") as no:
        scene.use.agents.create("a", there.id, checkpoint=best(), kind=tab)
    assert no.value.field == "experiment_id"


def test_rule_32_each_tab_lists_its_own_agents(scene):
    classic, saved = scene.agent(), scene.saved_model()
    assert [a.id for a in scene.use.agents.list(kind="classic")] == [classic.id]
    assert [a.id for a in scene.use.agents.list(kind="advanced")] == [saved.id]
    assert [a.id for a in scene.use.agents.list()] == [classic.id, saved.id]


def test_rule_32_a_tab_that_there_is_not_is_refused(scene):
    with pytest.raises(Rejected, match="use one of classic, advanced"):
        scene.use.agents.sources("legacy")


def test_rule_33_a_saved_model_shows_the_base_model_that_was_recorded(scene):
    assert scene.saved_model(base_model="small-7b").base_model == "small-7b"
    assert scene.saved_model().base_model is None


def test_rule_34_a_saved_model_still_has_its_weights_when_its_source_is_gone(scene):
    bundle = scene.bundle(bundles.regressor)
    saved = scene.saved_model(**SUPERVISED, bundle=bundle)
    scene.use.projects.delete(saved.project_id)
    found = scene.use.agents.get(saved.id)
    blobs = scene.arena.application.core.blobs
    digest = found.checkpoint.digest
    understood = manifests.parse(blobs.read(digest, "checkpoint.json"))
    assert understood.family is found.family is Family.SUPERVISED
    weights = blobs.read(digest, understood.policy.weights)
    assert weights == (bundle / "policy.onnx").read_bytes()


def test_the_algorithm_of_a_bundle_must_be_that_of_its_experiment(scene):
    made = scene.experiment(algorithm="DQN", scores={})
    with pytest.raises(Rejected, match="of the algorithm PPO") as caught:
        scene.use.experiments.add_checkpoint(made.id, step=1, path=scene.bundle())
    assert caught.value.field == "checkpoint.json: algorithm"
    assert not scene.use.experiments.checkpoints(made.id)
    bundle = scene.bundle()
    described = bundles.manifest(bundle) | {"algorithm": "d q-n"}
    bundles.write_manifest(bundle, described)
    scene.use.experiments.add_checkpoint(made.id, step=1, path=bundle)


def test_a_bundle_of_another_digest_than_was_named_is_refused_and_not_kept(scene):
    made, folder = scene.experiment(scores={}), scene.bundle()
    add = scene.use.experiments.add_checkpoint
    with pytest.raises(Rejected, match="not the one that was named") as caught:
        add(made.id, step=10, path=folder, digest="a" * 64)
    assert caught.value.field == "digest"
    assert not scene.use.experiments.checkpoints(made.id)
    seen = add(made.id, step=10, path=folder).digest
    assert add(made.id, step=20, path=folder, digest=seen).digest == seen


def test_the_family_of_a_bundle_must_be_that_of_its_experiment(scene):
    made = scene.experiment(scores={})
    with pytest.raises(Rejected, match="of the family supervised") as caught:
        scene.use.experiments.add_checkpoint(
            made.id, step=1, path=scene.bundle(bundles.regressor)
        )
    assert caught.value.field == "checkpoint.json: family"
    assert not scene.use.experiments.checkpoints(made.id)


def test_a_family_that_is_named_wins_over_the_name_of_the_algorithm(scene):
    project = scene.advanced().id
    made = scene.use.experiments.create(
        project, name="x", algorithm="OurOwn", family="supervised", config={"lr": 0.1}
    )
    assert (made.family, made.config) == (Family.SUPERVISED, {"lr": 0.1})
    with pytest.raises(Rejected, match="family of the algorithm OurOwn is not known"):
        scene.use.experiments.create(project, name="x", algorithm="OurOwn")


def test_editing_changes_what_is_given_and_leaves_the_rest(scene):
    agents, made = scene.use.agents, scene.agent()
    assert agents.edit(made.id) == made
    assert agents.edit(made.id, name=" swinger ").name == "swinger"
    described = agents.edit(made.id, description="sways")
    assert (described.name, described.description) == ("swinger", "sways")
    projects, experiments = scene.use.projects, scene.use.experiments
    project = projects.edit(made.project_id, name="boats", description="wet")
    assert (project.name, project.description) == ("boats", "wet")
    assert projects.edit(made.project_id) == project
    experiment = experiments.edit(made.experiment_id, name="sac")
    assert experiment.name == "sac"
    assert agents.get(made.id).experiment_name == "ppo"


def test_a_draft_is_configured_anew(scene):
    made = scene.experiment(scores={})
    found = scene.use.experiments.edit(made.id, algorithm="DQN", recipe="sb3")
    assert (found.algorithm, found.recipe) == ("DQN", "sb3")


def test_lists_come_in_pages_in_the_order_of_creation(scene):
    made = [scene.use.projects.create(n, kind="classic") for n in ("a", "b", "c")]
    first = scene.use.projects.list(paging=Paging(limit=2))
    assert (list(first), len(first), first[0]) == (made[:2], 2, made[0])
    rest = scene.use.projects.list(paging=Paging(first.next_after, 2))
    assert (list(rest), rest.next_after) == (made[2:], None)
    nothing = scene.use.projects.list(paging=Paging(limit=0))
    assert (list(nothing), nothing.next_after) == ([], 0)
