"""Audit: what happened, by whose hand, and whether the record is intact."""

import contextlib
import sqlite3
from uuid import UUID, uuid4

import pytest
from attrs import evolve

from arena_core.application import first_causes as first_causes_module
from arena_core.application.handling import Change
from arena_core.domain import project
from arena_core.domain.errors import NotFound, Rejected
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import Caller, Role
from unit.pipelines_at_work import Works
from unit.scenes import ANN, CARTPOLE, CONTEXT, MANAGER, STRANGER, Scene


@pytest.fixture
def kept(tmp_path):
    """A scene whose log and checkpoints are files."""
    scene = Scene.open(tmp_path, store=str(tmp_path / "arena.db"))
    yield scene
    scene.arena.close()


def test_the_log_is_what_happened_by_whose_hand_and_why(scene):
    agent = scene.live(scene.agent())
    scene.arena.on_behalf_of(MANAGER).agents.disconnect(agent.id, reason="maintenance")
    *_, connected, off = scene.use.audit.timeline(agent.id)
    assert (connected.name, connected.actor) == (
        "deployment.connected",
        "system:supervisor",
    )
    assert (off.name, off.actor, off.reason) == (
        "deployment.disconnected",
        "user:eve",
        "maintenance",
    )
    assert off.code.startswith("arena-core ")
    assert off.correlation_id == off.command_id
    assert off.organisation == "default"


def test_a_timeline_holds_agent_and_deployment_in_their_order(scene):
    agent = scene.live(scene.agent())
    scene.use.agents.edit(agent.id, name="renamed")
    scene.live(scene.agent())
    events = scene.use.audit.timeline(agent.id)
    assert [e.position for e in events] == sorted(e.position for e in events)
    assert {e.stream for e in events} == {agent.id, agent.deployment.id}
    assert [e.name for e in events] == [
        "agent.checkpoint_frozen", "deployment.created", "deployment.connect_requested",
        "deployment.connect_claimed", "deployment.parity_checked",
        "deployment.connected", "agent.renamed",
    ]  # fmt: skip


def test_a_timeline_of_a_pipeline_holds_what_its_stages_did_also_removed_ones(scene):
    arena, use = scene.arena, scene.arena.pipelines
    project = arena.projects.create("lab", kind="advanced").id
    line = use.create(project, name="line").id
    for name in ("one", "two"):
        draft = arena.experiments.create(
            project, name=name, algorithm="PPO", source=CARTPOLE,
            recipe="command", config={"argv": ["true"]},
        )  # fmt: skip
        use.insert_stage(line, type="experiment", experiment_id=draft.id)
    one, _ = use.get(line).stages
    use.trigger(line, one.id)
    use.stop(line, one.id)
    use.remove_stage(line, one.id)
    copy = use.duplicate(line)
    (copied,) = copy.stages
    use.trigger(copy.id, copied.id)
    timeline = scene.use.audit.timeline
    assert {e.stream for e in timeline(line)} == {line, one.id}
    assert {e.stream for e in timeline(copy.id)} == {copy.id, copied.id}
    assert {e.stream for e in timeline(one.id)} == {one.id}
    positions = [e.position for e in timeline(line)]
    assert positions == sorted(set(positions))
    use.delete(line)
    assert timeline(line)[-1].name == "pipeline.deleted"


def test_a_timeline_of_the_past_ends_there_for_the_parts_too(scene):
    agent = scene.live(scene.agent())
    whole = scene.use.audit.timeline(agent.id)
    seen = whole[2].position
    assert scene.arena.at(seen).audit.timeline(agent.id) == whole[:3]


def test_anything_has_a_timeline_by_its_id(scene):
    agent = scene.live(scene.agent())
    for stream in (agent.experiment_id, agent.project_id, agent.deployment.id):
        assert {e.stream for e in scene.use.audit.timeline(stream)} == {stream}


def test_a_timeline_shows_nothing_that_the_log_would_not(scene):
    token = scene.arena.tokens.issue(name="t", user="tom").view.id
    viewer = Caller(OrganisationId("default"), ANN.actor, Role.VIEWER)
    assert scene.arena.on_behalf_of(MANAGER).audit.timeline(token)
    with pytest.raises(NotFound):
        scene.arena.on_behalf_of(viewer).audit.timeline(token)


def test_a_timeline_of_nothing_is_not_found(scene):
    agent = scene.agent()
    with pytest.raises(NotFound):
        scene.use.audit.timeline(UUID(int=5))
    with pytest.raises(NotFound):
        scene.arena.at(1).audit.timeline(agent.id)
    with pytest.raises(NotFound):
        scene.arena.on_behalf_of(STRANGER).audit.timeline(agent.id)


def first_causes(scene, stream):
    """Return the first cause of each event that has one, by the event's name."""
    events = scene.use.audit.timeline(stream)
    found = scene.use.audit.first_causes(events)
    return {e.name: found[e.event_id] for e in events if e.event_id in found}


def test_what_is_done_by_itself_is_told_with_its_first_cause(scene):
    agent = scene.live(scene.agent())
    events = {e.name: e for e in scene.use.audit.timeline(agent.id)}
    asked = events["deployment.connect_requested"]
    assert first_causes(scene, agent.id) == {
        "deployment.connect_claimed": asked,
        "deployment.parity_checked": asked,
        "deployment.connected": asked,
    }


@pytest.mark.parametrize("page", [1, 2, 500])
def test_a_first_cause_is_the_first_event_of_its_command(scene, monkeypatch, page):
    monkeypatch.setattr(first_causes_module, "PAGE", page)
    handler = scene.arena.application.core.handler
    made = scene.use.projects.create("lab").id
    before = scene.use.audit.timeline(made)
    command = uuid4()
    handler.handle(
        evolve(CONTEXT, command_id=command, correlation_id=command),
        Change(project, made, project.RenameProject("one")),
        Change(project, made, project.RenameProject("two")),
    )
    scene.use.projects.create("between")
    handler.handle(
        evolve(CONTEXT, command_id=uuid4(), correlation_id=command),
        Change(project, made, project.RenameProject("three")),
    )
    *_, first, _, caused = scene.use.audit.timeline(made)
    assert len(scene.use.audit.timeline(made)) == len(before) + 3
    found = scene.use.audit.first_causes([caused])
    assert found == {caused.event_id: first}


def test_what_names_a_command_that_the_log_does_not_have_has_no_first_cause(scene):
    made = scene.use.projects.create("lost").id
    caused = evolve(CONTEXT, command_id=uuid4(), correlation_id=uuid4())
    rename = Change(project, made, project.RenameProject("found"))
    scene.arena.application.core.handler.handle(caused, rename)
    assert len(scene.use.audit.timeline(made)) == 2
    assert first_causes(scene, made) == {}


@pytest.mark.parametrize("page", [1, 3, 500])
def test_a_damaged_event_of_something_else_hides_no_first_cause(
    kept, tmp_path, monkeypatch, page
):
    monkeypatch.setattr(first_causes_module, "PAGE", page)
    agent = kept.agent()
    other = kept.use.projects.create("damaged").id
    kept.live(agent)
    before = first_causes(kept, agent.id)
    assert before
    with contextlib.closing(sqlite3.connect(tmp_path / "arena.db")) as raw, raw:
        raw.execute("DROP TRIGGER arena_events_are_not_changed")
        raw.execute(
            "UPDATE arena_events SET topic = 'project.unheard_of@1' "
            "WHERE originator_id = ?",
            (other.hex,),
        )
    assert first_causes(kept, agent.id) == before


def test_the_log_can_be_read_in_parts_of_one_stream_or_up_to_a_position(scene):
    agent = scene.agent()
    whole = list(scene.use.audit.log())
    assert [e.position for e in whole] == list(range(1, len(whole) + 1))
    assert list(scene.use.audit.log(limit=0)) == []
    assert list(scene.use.audit.log(limit=2)) == whole[:2]
    assert list(scene.use.audit.log(after=2, limit=100)) == whole[2:]
    of_agent = list(scene.use.audit.log(stream=agent.id))
    assert of_agent == [e for e in whole if e.stream == agent.id]
    assert list(scene.arena.at(3).audit.log()) == whole[:3]


def test_a_replay_tells_of_pipelines_and_of_how_their_stages_stood(tmp_path):
    with contextlib.closing(Works(tmp_path)) as works:
        first = works.train()
        works.trigger()
        head = works.worker.core.store.head()
        then = works.view()
        works.succeed(first)
        audit = works.use.audit
        works.worker.core.views.rows = None  # nothing but the log is read
        assert audit.replay(head).pipelines == [then]
        assert [stage.status.value for stage in then.stages] == ["Running"]
        (now,) = audit.replay().pipelines
        assert [stage.status.value for stage in now.stages] == ["Succeeded"]


def test_a_replay_is_the_state_of_then(scene):
    project = scene.use.projects.create("carts", kind="classic")
    scene.arena.tokens.issue(name="t", user="tom")
    agent = scene.agent(project=project.id)
    then = scene.arena.application.core.store.head()
    live = scene.live(agent)
    scene.use.projects.edit(project.id, name="boats")

    past = scene.use.audit.replay(str(then))
    assert past.position == then
    assert list(past.projects) == [project]
    assert list(past.agents) == [agent]
    assert [t.name for t in past.tokens] == ["t"]
    (checkpoints,) = past.checkpoints.values()
    assert [c.digest for c in checkpoints] == [agent.checkpoint.digest]
    assert scene.arena.at(then).audit.replay() == past
    now = scene.use.audit.replay()
    assert [p.name for p in now.projects] == ["boats"]
    assert list(now.agents) == [live]
    assert list(now.experiments) == list(scene.use.experiments.list())
    first = next(scene.use.audit.log())
    assert scene.use.audit.replay(first.recorded_at.isoformat()).position >= 1
    with pytest.raises(Rejected, match="The log ends"):
        scene.use.audit.replay("9999")


# --- whether it is intact ----------------------------------------------------------


def test_an_intact_record_has_no_fault(kept):
    kept.live(kept.agent())
    assert list(kept.use.audit.verify()) == []


@pytest.mark.parametrize("name", ["policy.onnx", "checkpoint.json", "golden.npz"])
def test_a_damaged_checkpoint_is_found_at_the_event_that_names_it(kept, tmp_path, name):
    agent = kept.agent()
    digest = agent.checkpoint.digest
    (stored,) = tmp_path.glob(f"arena.db.blobs/*/{digest}/files/{name}")
    stored.chmod(0o600)
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)

    (fault,) = kept.use.audit.verify()

    events = {e.position: e for e in kept.use.audit.log()}
    assert events[fault.position].name == "experiment.checkpoint_written"
    assert events[fault.position].data.digest == digest
    assert fault.detail.startswith(f"Checkpoint {digest}: ")


def test_a_checkpoint_that_is_gone_is_found_once_though_two_events_name_it(scene):
    agent = scene.agent()
    scene.arena.application.core.blobs._bundles.clear()
    (fault,) = scene.use.audit.verify()
    assert fault.detail == (
        f"Checkpoint {agent.checkpoint.digest}: There is no such checkpoint."
    )


def test_a_damaged_chain_is_found_and_the_checkpoints_are_not_looked_at(kept, tmp_path):
    kept.agent()
    kept.arena.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "arena.db")) as raw:
        named = raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (trigger,) in named.fetchall():
            raw.execute(f"DROP TRIGGER {trigger}")
        raw.execute(
            "UPDATE arena_events SET state = replace(state, ?, ?) WHERE rowid = 2",
            (b"CartPole", b"CartHole"),
        )
        raw.commit()

    again = Scene.open(tmp_path, store=str(tmp_path / "arena.db"))
    faults = list(again.use.audit.verify())
    again.arena.close()
    assert [fault.position for fault in faults] == [2]
    assert ANN.organisation not in faults[0].detail
