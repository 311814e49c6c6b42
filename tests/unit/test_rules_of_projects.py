"""Rules 2, 4, 13 and 15: what belongs to whom, and what outlives what."""

import inspect
from datetime import UTC, datetime
from uuid import UUID

import pytest

from arena_core import MetricPoint, best
from arena_core.application.agents import Agents
from arena_core.application.audit import Audit
from arena_core.application.deployments import Deployments
from arena_core.application.experiments import Experiments, setup
from arena_core.application.handling import Change
from arena_core.application.identity import authenticate
from arena_core.application.imports import Imports, ordered
from arena_core.application.invitations import Invitations
from arena_core.application.measurements import Measurements
from arena_core.application.organisations import Organisations
from arena_core.application.pipelines import Pipelines
from arena_core.application.projects import Projects
from arena_core.application.resources import event_view
from arena_core.application.tokens import Tokens
from arena_core.application.training import Training
from arena_core.application.users import Users
from arena_core.domain import experiment
from arena_core.domain.errors import Conflict, NotFound, Rejected, Unauthenticated
from arena_core.domain.experiment import Status
from arena_core.domain.ids import WorkerId
from arena_core.domain.values import Role
from arena_core.entrypoints.http.app import CONTROL_PLANE
from unit.scenes import ANN, CARTPOLE, CONTEXT, MANAGER, STRANGER, key_of

GROUPS = {
    "projects": Projects, "experiments": Experiments, "imports": Imports,
    "agents": Agents, "tokens": Tokens, "audit": Audit, "users": Users,
    "organisations": Organisations, "invitations": Invitations,
    "measurements": Measurements,
    "training": Training, "deployments": Deployments, "pipelines": Pipelines,
}  # fmt: skip
OF_ONES_OWN = {
    "projects.create", "tokens.issue", "users.me", "users.edit",
    "organisations.create", "organisations.list", "invitations.accept",
}  # fmt: skip
"""Name nothing that exists: what they make belongs to the caller's organisation."""
OF_THE_STORE = {"audit.verify"}
"""Is about the whole store: it names positions, never contents."""


def after_one_look():
    """Return a function that lets a follower look once at all that there is."""
    answers = iter([False])
    return lambda: next(answers, True)


BY_ID = {
    "projects.get": lambda use, there: use.projects.get(there.project),
    "projects.look_up": lambda use, _: use.projects.look_up("cart"),
    "projects.edit": lambda use, there: use.projects.edit(there.project, name="x"),
    "projects.delete": lambda use, there: use.projects.delete(there.project),
    "experiments.create": lambda use, there: use.experiments.create(
        there.project, name="x", algorithm="PPO"
    ),
    "experiments.get": lambda use, there: use.experiments.get(there.experiment),
    "experiments.look_up": lambda use, _: use.experiments.look_up("ppo"),
    "experiments.edit": lambda use, there: use.experiments.edit(
        there.experiment, name="x"
    ),
    "experiments.delete": lambda use, there: use.experiments.delete(there.experiment),
    "experiments.add_checkpoint": lambda use, there: use.experiments.add_checkpoint(
        there.experiment, step=20, path=there.bundle
    ),
    "experiments.checkpoints": lambda use, there: use.experiments.checkpoints(
        there.experiment
    ),
    "experiments.contents": lambda use, there: use.experiments.contents(
        there.experiment, 10
    ),
    "experiments.delete_checkpoint": (
        lambda use, there: use.experiments.delete_checkpoint(there.experiment, 10)
    ),
    "experiments.add_metrics": lambda use, there: use.experiments.add_metrics(
        there.experiment, [MetricPoint(10, "fitness", 9.0)]
    ),
    "experiments.metrics": lambda use, there: use.experiments.metrics(there.experiment),
    "measurements.points": lambda use, there: use.measurements.points(there.experiment),
    "measurements.latest": lambda use, there: use.measurements.latest(there.experiment),
    "measurements.table": lambda use, there: use.measurements.table(there.experiment),
    "measurements.of_training": lambda use, there: use.measurements.of_training(
        there.experiment
    ),
    "measurements.recorded": lambda use, there: use.measurements.recorded(
        there.experiment, 0, limit=1
    ),
    "measurements.has_recorded": lambda use, there: use.measurements.has_recorded(
        there.experiment, 1
    ),
    "training.submit": lambda use, there: use.training.submit(
        there.project, name="x", setup=setup(algorithm="PPO", source=CARTPOLE)
    ),
    "training.train": lambda use, there: use.training.train(there.experiment),
    "training.stop": lambda use, there: use.training.stop(there.experiment),
    "training.resume": lambda use, there: use.training.resume(there.experiment),
    "training.resume_as": lambda use, there: use.training.resume_as(
        there.experiment, name="x", checkpoint=best()
    ),
    "training.duplicate": lambda use, there: use.training.duplicate(there.experiment),
    "training.log": lambda use, there: use.training.log(there.experiment),
    "training.latest": lambda use, there: use.training.latest(there.experiment),
    "training.settled": lambda use, there: use.training.settled(there.experiment),
    "training.is_to_begin": lambda use, there: use.training.is_to_begin(
        there.experiment
    ),
    "training.wait": lambda use, there: use.training.wait(
        there.experiment, timeout_s=0
    ),
    "pipelines.create": lambda use, there: use.pipelines.create(there.lab, name="x"),
    "pipelines.get": lambda use, there: use.pipelines.get(there.pipeline),
    "pipelines.look_up": lambda use, _: use.pipelines.look_up("line"),
    "pipelines.edit": lambda use, there: use.pipelines.edit(there.pipeline, name="x"),
    "pipelines.duplicate": lambda use, there: use.pipelines.duplicate(there.pipeline),
    "pipelines.delete": lambda use, there: use.pipelines.delete(there.pipeline),
    "pipelines.insert_stage": lambda use, there: use.pipelines.insert_stage(
        there.pipeline, type="deployment"
    ),
    "pipelines.inserted": lambda use, there: use.pipelines.inserted(
        there.pipeline, type="deployment"
    ),
    "pipelines.edit_stage": lambda use, there: use.pipelines.edit_stage(
        *there.stage, approval=True
    ),
    "pipelines.move_stage": lambda use, there: use.pipelines.move_stage(
        *there.stage, 1
    ),
    "pipelines.remove_stage": lambda use, there: use.pipelines.remove_stage(
        *there.stage
    ),
    "pipelines.candidates": lambda use, there: use.pipelines.candidates(there.pipeline),
    "pipelines.trigger": lambda use, there: use.pipelines.trigger(*there.stage),
    "pipelines.retry": lambda use, there: use.pipelines.retry(*there.stage),
    "pipelines.stop": lambda use, there: use.pipelines.stop(*there.stage),
    "pipelines.approve": lambda use, there: use.pipelines.approve(*there.stage),
    "pipelines.reject": lambda use, there: use.pipelines.reject(*there.stage),
    "pipelines.runs": lambda use, there: use.pipelines.runs(*there.stage),
    "pipelines.wait": lambda use, there: use.pipelines.wait(
        there.pipeline, timeout_s=0
    ),
    "imports.request": lambda use, there: use.imports.request(
        there.experiment, there.file, ordered(format="sb3", step=1)
    ),
    "imports.list": lambda use, there: use.imports.list(there.experiment),
    "imports.get": lambda use, there: use.imports.get(there.import_),
    "imports.cancel": lambda use, there: use.imports.cancel(there.import_),
    "imports.wait": lambda use, there: use.imports.wait(there.import_, timeout_s=0),
    "agents.create": lambda use, there: use.agents.create(
        "x", there.experiment, checkpoint=best()
    ),
    "agents.get": lambda use, there: use.agents.get(there.agent),
    "agents.look_up": lambda use, _: use.agents.look_up("balancer"),
    "agents.edit": lambda use, there: use.agents.edit(there.agent, name="x"),
    "agents.delete": lambda use, there: use.agents.delete(there.agent),
    "agents.restore": lambda use, there: use.agents.restore(there.agent),
    "agents.connect": lambda use, there: use.agents.connect(there.agent),
    "agents.wait": lambda use, there: use.agents.wait(there.agent, timeout_s=0),
    "agents.settled": lambda use, there: use.agents.settled(there.agent),
    "agents.redeploy": lambda use, there: use.agents.redeploy(
        there.agent, checkpoint=best()
    ),
    "agents.rollback": lambda use, there: use.agents.rollback(there.agent),
    "agents.disconnect": lambda use, there: use.agents.disconnect(there.agent),
    "agents.rotate_key": lambda use, there: use.agents.rotate_key(there.agent),
    "agents.contents": lambda use, there: use.agents.contents(there.agent),
    "agents.access": lambda use, there: use.agents.access(there.agent),
    "deployments.one": lambda use, _: use.deployments.one("balancer"),
    "deployments.deploy": lambda use, _: use.deployments.deploy("ppo"),
    "tokens.get": lambda use, there: use.tokens.get(there.token),
    "tokens.rotate": lambda use, there: use.tokens.rotate(there.token),
    "tokens.revoke": lambda use, there: use.tokens.revoke(there.token),
    "organisations.get": lambda use, _: use.organisations.get("default"),
    "organisations.rename": lambda use, _: use.organisations.rename("default", "x"),
    "organisations.members": lambda use, _: use.organisations.members("default"),
    "organisations.member": lambda use, _: use.organisations.member("default", "ann"),
    "organisations.change_role": lambda use, _: use.organisations.change_role(
        "default", "ann", "viewer"
    ),
    "organisations.remove": lambda use, _: use.organisations.remove("default", "ann"),
    "invitations.invite": lambda use, _: use.invitations.invite("default", "zoe"),
    "invitations.list": lambda use, _: use.invitations.list("default"),
    "invitations.withdraw": lambda use, there: use.invitations.withdraw(
        "default", there.invitation
    ),
    "audit.timeline": lambda use, there: use.audit.timeline(there.agent),
}
LISTS = {
    "projects.list": lambda use, _: use.projects.list(),
    "experiments.list": lambda use, there: [
        *use.experiments.list(),
        *use.experiments.list(project_id=there.project),
    ],
    "pipelines.list": lambda use, _: [
        *use.pipelines.list(),
        *use.pipelines.list(name="line"),
    ],
    "agents.sources": lambda use, _: use.agents.sources("classic"),
    "agents.list": lambda use, there: [
        *use.agents.list(),
        *use.agents.list(name="balancer"),
        *use.agents.list(experiment_id=there.experiment),
    ],
    "deployments.list": lambda use, _: [
        *use.deployments.list(),
        *use.deployments.list(name="balancer", experiment="ppo", project="cart"),
    ],
    "tokens.list": lambda use, _: use.tokens.list(),
    "audit.log": lambda use, there: [
        *use.audit.log(),
        *use.audit.log(stream=there.agent),
    ],
    "audit.shown": lambda use, _: use.audit.shown(
        use.session.core.store.read_all(limit=1000)
    ),
    "audit.first_causes": lambda use, _: use.audit.first_causes(
        [event_view(r) for r in use.session.core.store.read_all(limit=1000)]
    ).values(),
    "audit.follow": lambda use, _: list(use.audit.follow(until=after_one_look())),
    "audit.replay": lambda use, _: (
        *(replayed := use.audit.replay()).projects,
        *replayed.experiments,
        *replayed.imports,
        *replayed.pipelines,
        *replayed.agents,
        *replayed.tokens,
    ),
}


class There:
    """All that an organisation has, one of each."""

    def __init__(self, scene):
        agent = scene.live(scene.agent())
        self.project, self.experiment = agent.project_id, agent.experiment_id
        self.agent = agent.id
        self.token = scene.arena.tokens.issue(name="laptop", user="ann").view.id
        invited = scene.arena.invitations.invite("default", "bob")
        self.invitation = invited.view.id
        self.bundle = scene.bundle()
        self.file = self.bundle / "checkpoint.json"
        order = ordered(format="sb3", step=1)
        self.lab = scene.use.projects.create("lab", kind="advanced").id
        draft = scene.experiment(project=self.lab, scores={}, name="draft")
        self.pipeline = scene.use.pipelines.create(self.lab, name="line").id
        line = scene.use.pipelines.insert_stage(
            self.pipeline, type="experiment", experiment_id=draft.id
        )
        self.stage = self.pipeline, line.stages[0].id
        self.import_ = scene.use.imports.request(self.experiment, self.file, order).id


@pytest.fixture
def there(scene):
    return There(scene)


def test_rule_02_all_use_cases_are_held_to_it():
    known = {
        f"{group}.{name}"
        for group, kind in GROUPS.items()
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    assert known == BY_ID.keys() | LISTS.keys() | OF_ONES_OWN | OF_THE_STORE


@pytest.mark.parametrize("name", BY_ID)
def test_rule_02_what_another_organisation_has_does_not_exist(scene, there, name):
    before = scene.arena.application.core.store.head()
    stranger = scene.arena.on_behalf_of(STRANGER)
    with pytest.raises(NotFound, match=r"^There is no"):
        BY_ID[name](stranger, there)
    assert scene.arena.application.core.store.head() == before
    assert scene.registry.live(key_of(scene.use.agents.get(there.agent)))


@pytest.mark.parametrize("name", LISTS)
def test_rule_02_no_list_shows_what_another_organisation_has(scene, there, name):
    assert LISTS[name](scene.use, there)
    assert not list(LISTS[name](scene.arena.on_behalf_of(STRANGER), there))
    head = scene.arena.application.core.store.head()
    assert not list(LISTS[name](scene.arena.on_behalf_of(STRANGER, as_of=head), there))


def test_rule_02_the_same_names_in_two_organisations_do_not_meet(scene):
    scene.use.projects.create("cart", kind="classic")
    theirs = scene.arena.on_behalf_of(STRANGER).projects.create("cart", kind="advanced")
    assert [p.id for p in scene.arena.on_behalf_of(STRANGER).projects.list()] == [
        theirs.id
    ]


def test_rule_02_a_token_speaks_for_its_own_organisation_only(scene):
    core = scene.arena.application.core
    for caller in (ANN, STRANGER):
        issued = scene.operator(caller.organisation).tokens.issue(
            name="t", user=caller.actor.name
        )
        assert authenticate(core, issued.token).organisation == caller.organisation


ABOUT_AGENTS = ("/api/v1/agents", "/api/v1/experiments", "/api/v1/pipelines")


def test_rule_03_nothing_about_agents_is_for_managers_only():
    for endpoint in CONTROL_PLANE:
        if endpoint.path.startswith(ABOUT_AGENTS):
            assert Role.MEMBER.covers(endpoint.needs), endpoint


def test_rule_03_members_and_invitations_are_for_managers():
    of_members = {
        (endpoint.method, endpoint.path.rpartition("}")[2] or "member"): endpoint.needs
        for endpoint in CONTROL_PLANE
        if endpoint.path.startswith("/api/v1/organisations/{organisation_id}/")
    }
    assert of_members.pop(("GET", "/members")) is Role.VIEWER
    assert of_members.pop(("DELETE", "member")) is Role.MANAGER
    assert set(of_members.values()) == {Role.MANAGER}


def test_rule_04_what_a_removed_member_made_stays_with_the_managers(scene):
    core, managers = scene.arena.application.core, scene.arena.on_behalf_of(MANAGER)
    issued = scene.arena.tokens.issue(name="laptop", user="tom")
    tom = scene.arena.on_behalf_of(authenticate(core, issued.token))
    source = scene.experiment()
    made = tom.agents.create("balancer", source.id, checkpoint=best())

    managers.tokens.revoke(issued.view.id)

    with pytest.raises(Unauthenticated):
        authenticate(core, issued.token)
    assert [a.id for a in managers.agents.list()] == [made.id]
    managers.agents.edit(made.id, description="taken over")
    assert scene.live(made).deployment.connected
    managers.agents.delete(made.id)
    by_whom = [e.actor for e in managers.audit.timeline(made.id)]
    assert by_whom[0] == "user:tom"
    assert by_whom[-1] == "user:eve"


TRAINER = WorkerId(UUID(int=77))
ASKED = [
    experiment.RequestTraining(),
    experiment.ClaimTraining(TRAINER, datetime(2100, 1, 1, tzinfo=UTC)),
]
TRAINING = {
    Status.DRAFT: [],
    Status.PENDING: ASKED,
    Status.RUNNING: [*ASKED, experiment.StartTraining(TRAINER, 1)],
    Status.FAILED: [*ASKED, experiment.FailTraining(TRAINER, 1, "broken")],
}
TRAINING[Status.STOPPING] = [*TRAINING[Status.RUNNING], experiment.RequestStop()]
TRAINING[Status.STOPPED] = [
    *TRAINING[Status.STOPPING],
    experiment.AcknowledgeStop(TRAINER, 1),
]
TRAINING[Status.SUCCEEDED] = [
    *TRAINING[Status.RUNNING],
    experiment.FinishTraining(TRAINER, 1),
]


@pytest.mark.parametrize("status", Status)
def test_rule_13_scores_are_what_the_metrics_say_by_now_in_every_status(scene, status):
    made = scene.experiment(scores={10: None})
    for command in TRAINING[status]:
        change = Change(experiment, made.id, command)
        scene.arena.application.core.handler.handle(CONTEXT, change)
    assert scene.use.experiments.get(made.id).status is status
    (unscored,) = scene.use.experiments.checkpoints(made.id)
    assert (unscored.training_score, unscored.evaluation_score) == (None, None)

    points = [MetricPoint(10, "score", 1.0), MetricPoint(10, "fitness", 2.0)]
    scene.use.experiments.add_metrics(made.id, [*points, MetricPoint(9, "fitness", 7)])

    (scored,) = scene.use.experiments.checkpoints(made.id)
    assert (scored.training_score, scored.evaluation_score) == (1.0, 2.0)


def test_rule_12_a_later_measurement_at_the_same_step_is_the_score(scene):
    made = scene.experiment(scores={10: 1.0})
    scene.use.experiments.add_metrics(made.id, [MetricPoint(10, "fitness", 3.0)])
    assert scene.use.experiments.checkpoints(made.id)[0].evaluation_score == 3.0


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\t", "x" * 201])
def test_a_metric_has_a_name_that_can_stand_above_a_column(scene, name):
    made = scene.experiment(scores={})
    measured = [MetricPoint(10, "fitness", 3.0), MetricPoint(10, name, 3.0)]
    with pytest.raises(Rejected) as caught:
        scene.use.experiments.add_metrics(made.id, measured)
    assert caught.value.field == "points.1.name"
    assert not scene.use.experiments.metrics(made.id)


def test_rule_11_a_checkpoint_has_a_step_two_scores_and_a_size(scene):
    bundle = scene.bundle()
    made = scene.experiment(scores={})
    found = scene.use.experiments.add_checkpoint(
        made.id, step=10, path=bundle, score=1.0, fitness=2.0
    )
    sizes = sum(path.stat().st_size for path in bundle.iterdir())
    assert (found.step, found.size_bytes) == (10, sizes)
    assert (found.training_score, found.evaluation_score) == (1.0, 2.0)


@pytest.mark.parametrize("gone", ["checkpoint", "experiment", "project"])
def test_rule_15_a_frozen_checkpoint_outlives_where_it_came_from(scene, gone):
    agent = scene.agent()
    if gone == "checkpoint":
        scene.use.experiments.delete_checkpoint(agent.experiment_id, 10)
        assert not scene.use.experiments.checkpoints(agent.experiment_id)
    elif gone == "experiment":
        scene.use.experiments.delete(agent.experiment_id)
    else:
        scene.use.projects.delete(agent.project_id)
        assert not scene.use.projects.list()
        with pytest.raises(NotFound):
            scene.use.experiments.get(agent.experiment_id)

    live = scene.live(agent)

    assert live.deployment.connected
    assert live.checkpoint == agent.checkpoint
    assert live.experiment_name == "ppo"
    assert scene.arena.inference(agent.id).get_action([0, 0, 0, 0]) in (0, 1)


def test_rule_15_a_step_that_is_gone_is_told_with_those_that_are_there(scene):
    made = scene.experiment(scores={10: 1.0, 20: 2.0})
    with pytest.raises(NotFound, match="there are: 10, 20"):
        scene.use.experiments.delete_checkpoint(made.id, 15)


def test_another_bundle_at_the_same_step_is_a_conflict_and_the_same_is_none(scene):
    bundle = scene.bundle()
    made = scene.experiment(bundle=bundle)
    again = scene.use.experiments.add_checkpoint(made.id, step=10, path=bundle)
    assert again.evaluation_score == 1.0
    with pytest.raises(Conflict, match="Step 10 has another checkpoint"):
        scene.use.experiments.add_checkpoint(
            made.id, step=10, path=scene.bundle(with_golden=False)
        )
