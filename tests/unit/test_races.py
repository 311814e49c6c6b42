"""What others do between a look and the append that comes of it."""

import json

import attrs
import numpy as np
import pytest

from arena_core import MetricPoint, best
from arena_core.adapters.rows.memory import MemoryRowStore
from arena_core.application import golden
from arena_core.application.identity import authenticate
from arena_core.application.loading import load
from arena_core.application.ports import Batch, Query
from arena_core.application.session import LONGEST_REASON, Session
from arena_core.application.views import Halt, Views
from arena_core.domain import agent, deployment, experiment, user
from arena_core.domain.errors import (
    NotFound,
    Rejected,
    StorageFull,
    Unauthenticated,
    Unavailable,
    UnknownEvent,
)
from unit import models
from unit.scenes import MANAGER, Scene, caller, key_of


@pytest.fixture
def between(monkeypatch):
    """Return a function that has something happen just before a command's append."""

    def interpose(kind, happening):
        execute, happened = Session.execute, []

        def interposed(self, *changes, reason=None):
            if not happened and any(isinstance(c.command, kind) for c in changes):
                happened.append(kind)
                happening()
            return execute(self, *changes, reason=reason)

        monkeypatch.setattr(Session, "execute", interposed)

    return interpose


@pytest.mark.parametrize("make", [Scene.agent, Scene.saved_model])
def test_a_connect_that_races_with_a_delete_leaves_nothing_live(scene, between, make):
    made = make(scene)
    between(deployment.Connect, lambda: scene.use.agents.delete(made.id))
    with pytest.raises(NotFound):
        scene.use.agents.connect(made.id)
    scene.pass_()
    assert scene.registry.live(key_of(made)) is None


def test_a_delete_that_races_with_a_first_connect_leaves_nothing_live(scene, between):
    made = scene.saved_model()
    between(deployment.DeleteDeployment, lambda: scene.use.agents.connect(made.id))
    scene.use.agents.delete(made.id)
    scene.pass_()
    assert scene.registry.live(key_of(made)) is None
    assert scene.use.agents.restore(made.id).deployment is not None


def test_two_deploys_at_the_same_time_make_one_agent(scene, between):
    scene.experiment()
    deploy = scene.use.deployments.deploy
    between(agent.FreezeCheckpoint, lambda: deploy("ppo"))
    deployed = deploy("ppo")
    assert [a.id for a in scene.use.agents.list()] == [deployed.agent.id]
    assert scene.log().count("deployment.connect_requested") == 1


def test_a_redeploy_that_races_with_a_delete_leaves_nothing_live(scene, between):
    scene.experiment()
    made = scene.use.deployments.deploy("ppo").agent
    scene.pass_()
    between(deployment.Connect, lambda: scene.use.agents.delete(made.id))
    with pytest.raises(NotFound):
        scene.use.deployments.deploy("ppo")
    scene.pass_()
    assert scene.registry.live(key_of(made)) is None


def test_no_experiment_outlives_the_project_it_was_drafted_in(scene, between):
    here = scene.use.projects.create("carts").id
    between(experiment.DraftExperiment, lambda: scene.use.projects.delete(here))
    with pytest.raises(NotFound):
        scene.use.experiments.create(here, name="ppo", algorithm="PPO")
    assert not scene.use.experiments.list()


def test_two_edits_at_the_same_time_are_both_kept(scene, between):
    made = scene.experiment(scores={})
    edit = scene.use.experiments.edit
    between(
        experiment.RenameExperiment,
        lambda: edit(made.id, recipe="sb3", config={"seed": 1}),
    )
    found = edit(made.id, name="renamed")
    assert (found.name, found.recipe, found.config) == (
        "renamed",
        "sb3",
        {"seed": 1},
    )


def test_opening_while_the_log_grows_takes_no_rows_from_those_who_read(tmp_path):
    with Scene.open(tmp_path, str(tmp_path / "arena.db")).arena as ours:
        made = ours.projects.create("carts")
        rows = ours.application.core.views._rows
        with Scene.open(tmp_path, str(tmp_path / "arena.db")).arena as other:
            views = other.application.core.views
            was_read = views._was_read

            def look(position, rows):
                ours.projects.edit(made.id, name="boats")
                return was_read(position, rows)

            views._was_read = look
            replaced = []
            views._rows.replace = replaced.append
            # The update holds the rows; the log goes on growing all the same.
            with pytest.raises(Unavailable):
                views.catch_up()
            assert not replaced
        assert rows.get(made.id) is not None


def test_a_token_that_is_revoked_is_dead_although_the_read_model_has_stopped(scene):
    core = scene.arena.application.core
    tokens = scene.arena.tokens
    issued, other = (tokens.issue(name="t", user=user) for user in ("tom", "tim"))
    core.views.halted = Halt(core.views.catch_up(), "A poison.")
    assert authenticate(core, issued.token).actor.name == "tom"
    core.views.halted = None
    behind = core.views._position
    tokens.revoke(issued.view.id)
    core.views.halted, core.views._position = Halt(behind, "A poison."), behind
    with pytest.raises(Unauthenticated):
        authenticate(core, issued.token)
    assert authenticate(core, other.token).actor.name == "tim"


@pytest.mark.parametrize(
    ("said", "kept"), [(None, None), ("  ", None), (" why ", "why")]
)
def test_a_reason_is_kept_as_far_as_it_says_something(scene, said, kept):
    made = scene.agent()
    scene.use.agents.connect(made.id, reason=said)
    (asked,) = (
        e for e in scene.use.audit.timeline(made.id) if "connect_requested" in e.name
    )
    assert asked.reason == kept


def test_a_reason_has_its_limits(scene):
    made = scene.agent()
    head = scene.arena.application.core.store.head()
    with pytest.raises(Rejected, match="reason has 1001 characters"):
        scene.use.agents.connect(made.id, reason="x" * (LONGEST_REASON + 1))
    assert scene.arena.application.core.store.head() == head


def test_who_has_which_token_is_for_managers(scene):
    use = scene.arena.on_behalf_of(MANAGER)
    issued = scene.arena.tokens.issue(name="laptop", user="tom")
    scene.arena.tokens.rotate(issued.view.id)
    names = ["credential.access_token_issued", "credential.access_token_rotated"]
    assert [e.name for e in use.audit.log(stream=issued.view.id)] == names
    assert not list(scene.use.audit.log())
    viewer = scene.arena.on_behalf_of(caller("vic"))
    assert not list(viewer.audit.log(stream=issued.view.id))
    for event in use.audit.log(stream=issued.view.id):
        assert event.data["secret"].keys() == {"last_four"}


def test_a_stream_of_the_log_can_be_read_from_a_position_on(scene):
    made = scene.use.projects.create("carts")
    scene.use.projects.create("others")
    scene.use.projects.edit(made.id, name="boats")
    read = scene.use.audit.log
    assert [e.position for e in read(stream=made.id)] == [1, 3]
    assert [e.position for e in read(stream=made.id, after=1)] == [3]
    assert [e.position for e in read(stream=made.id, limit=1)] == [1]


def test_an_arena_is_closed_although_the_log_cannot_be_written(scene, monkeypatch):
    arena = scene.arena
    live = scene.live(scene.agent())
    arena.supervisor.start()
    store = arena.application.core.store

    def full(*_, **__):
        raise StorageFull("No space is left.")

    monkeypatch.setattr(type(store), "append", full)
    arena.close()
    assert scene.registry.live(key_of(live)) is None
    assert not arena.supervisor._presence.is_alive(arena.supervisor.worker)


# --- what the library is given by mistake ------------------------------------------


def test_nothing_is_written_that_could_not_be_read_again(scene):
    here = scene.use.projects.create("carts").id
    made = scene.agent()
    head = scene.arena.application.core.store.head()
    for mistake in (
        {"source": "CartPole-v1"},
        {"base_model": 5},
        {"recipe": ["python", "train.py"]},
    ):
        with pytest.raises(Rejected, match="wrong type"):
            scene.use.experiments.create(
                here, **{"name": "x", "algorithm": "PPO"} | mistake
            )
    with pytest.raises(Rejected, match="must be a text"):
        scene.use.agents.connect(made.id, reason=5)
    assert scene.arena.application.core.store.head() == head


def test_numbers_of_numpy_are_numbers(scene):
    made = scene.experiment(scores={})
    added = scene.use.experiments.add_checkpoint(
        made.id,
        step=np.int64(7),
        path=scene.bundle(),
        score=np.float32(0.5),
        fitness=np.float64(2.0),
    )
    assert (added.step, added.training_score, added.evaluation_score) == (7, 0.5, 2.0)
    scene.use.experiments.add_metrics(
        made.id, [MetricPoint(np.int64(8), "x", np.float32(1))]
    )
    assert json.dumps([p.value for p in scene.use.experiments.metrics(made.id)])


@pytest.mark.parametrize("wrong", ["carts", 7, None])
def test_what_is_no_id_is_said_to_be_none(scene, wrong):
    with pytest.raises(Rejected, match="is no id"):
        scene.use.projects.get(wrong)


@pytest.mark.parametrize("wrong", ["best", best, None])
def test_what_is_no_choice_of_a_checkpoint_is_said_to_be_none(scene, wrong):
    made = scene.experiment()
    with pytest.raises(Rejected, match=r"best\(\), final\(\) or specific"):
        scene.use.agents.create("balancer", made.id, checkpoint=wrong)


# --- what cannot be read -----------------------------------------------------------


class Unreadable:
    """A store in which the events of some streams cannot be understood."""

    def __init__(self, store, *streams):
        self._store = store
        self.streams = set(streams)

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _checked(self, events):
        if any(e.stream in self.streams for e in events):
            raise UnknownEvent("The event is of a newer release.")
        return events

    def read(self, stream, **bounds):
        return self._checked(self._store.read(stream, **bounds))

    def read_all(self, **bounds):
        events = list(self._store.read_all(**bounds))
        for at, event in enumerate(events):
            if event.stream in self.streams:
                return events[:at] or self._checked(events)
        return events


def stop_reading(scene, *streams):
    """Have this process meet events that it does not know, and its rows stop."""
    views = scene.arena.application.core.views
    views._store = Unreadable(views._store, *streams)
    views.halted = Halt(views.catch_up(), "A poison.")


def test_a_token_whose_stream_cannot_be_read_opens_nothing(scene):
    core = scene.arena.application.core
    issued = scene.arena.tokens.issue(name="one", user="tom")
    stop_reading(scene, issued.view.id)
    with pytest.raises(Unauthenticated):
        authenticate(core, issued.token)


def test_what_cannot_be_read_is_not_served_and_all_else_is(scene):
    dark, bright = scene.live(scene.agent()), scene.live(scene.agent())
    stop_reading(scene, dark.deployment.id)
    scene.arena.supervisor.follow()
    assert scene.registry.live(key_of(dark)) is None
    assert scene.registry.live(key_of(bright)) is not None


def test_rows_of_another_log_are_made_anew_as_far_as_it_can_be_read(scene):
    first = scene.use.projects.create("first")
    poison = scene.use.projects.create("poison")
    core = scene.arena.application.core
    for beginning, expected in ((first.id, set()), (poison.id, {first.id})):
        rows = MemoryRowStore()
        views = Views(Unreadable(core.store, beginning), rows)
        moved = attrs.evolve(core.views.rows.get(first.id), position=2, version=9)
        rows.update(lambda _position, _rows, row=moved: Batch([row], 2))
        views._was_read = lambda _position, _rows: False
        views.catch_up()
        assert {r.id for r in rows.find(Query("project", None))} == expected
        assert views.halted is not None


def test_rows_are_kept_where_the_log_cannot_be_compared_with_them(scene):
    made = scene.use.projects.create("first")
    core = scene.arena.application.core
    rows = MemoryRowStore()
    rows.update(lambda _p, _r: Batch([core.views.rows.get(made.id)], 1))
    views = Views(Unreadable(core.store, made.id), rows)
    assert views.catch_up() == 1
    assert rows.get(made.id) is not None


def test_a_bundle_that_changes_while_it_is_read_is_refused(scene, monkeypatch):
    made = scene.experiment(scores={})
    folder = scene.bundle()
    blobs = scene.arena.application.core.blobs
    put = type(blobs).put

    def late(self, path):
        (path / "notes.md").write_text("added meanwhile")
        return put(self, path)

    monkeypatch.setattr(type(blobs), "put", late)
    with pytest.raises(Rejected, match="changed while it was read"):
        scene.use.experiments.add_checkpoint(made.id, step=1, path=folder)
    assert not scene.use.experiments.checkpoints(made.id)


def test_a_held_model_whose_trace_cannot_be_replayed_stays_open_for_its_holder(scene):
    folder = scene.bundle()
    held = models.load(folder)
    rows = np.zeros((1, 4), np.float32)
    predicted = golden.Step({"inputs": rows, "results": rows})
    odd = golden.GoldenTrace((golden.Case("case0", (predicted,)),))
    (folder / "golden.npz").write_bytes(golden.write(odd))
    blobs = scene.arena.application.core.blobs
    digest = blobs.put(folder)
    with pytest.raises(Rejected, match="obs"):
        load(blobs, models.RUNTIMES, digest, held)
    assert held.single.runtime.run({"obs": rows})


def test_who_becomes_a_user_by_another_invitation_accepts_this_one_as_that(
    scene, between
):
    elsewhere = scene.operator("elsewhere").invitations.invite("elsewhere", "ann")
    here = scene.operator().invitations.invite("default", "ann")
    accept = scene.arena.invitations.accept
    first = []
    between(user.RegisterUser, lambda: first.append(accept(elsewhere.token)))
    with pytest.raises(Unauthenticated, match="their own credential"):
        accept(here.token)
    assert accept(here.token, bearing=first[0].token).organisation.id == "default"
