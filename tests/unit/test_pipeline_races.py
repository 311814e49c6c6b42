"""Two who change a pipeline at the same time: whoever comes second is told."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from arena_core.application.session import Session
from arena_core.application.triggering import triggered
from arena_core.domain import pipeline
from arena_core.domain.errors import Conflict, IllegalTransition, NotFound, Overtaken
from arena_core.domain.ids import StageId
from arena_core.domain.stage_commands import RequireIdle, TriggerStage
from arena_core.domain.stage_run import Cause, Status
from unit.chains import Chain, digest
from unit.scenes import Scene


@pytest.fixture
def chain(scene):
    chain = Chain.begin(scene)
    chain.insert()
    chain.insert()
    chain.run(1, "a")
    return chain


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


EDITS = {
    "insert": lambda chain: chain.insert(),
    "edit": lambda chain: chain.edit(2, checkpoint="final"),
    "move": lambda chain: chain.move(2, 1),
    "remove": lambda chain: chain.remove(1),
    "delete": lambda chain: chain.use.pipelines.delete(chain.id),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_rule_83_an_edit_that_races_with_a_trigger_is_refused(chain, between, edit):
    before = chain.view.stages
    between(RequireIdle, lambda: chain.trigger(2))
    with pytest.raises(IllegalTransition, match="Pending: stop it, or wait"):
        edit(chain)
    assert [s.id for s in chain.view.stages] == [s.id for s in before]
    assert chain.stage(2).checkpoint is before[1].checkpoint
    assert chain.stage(2).status is Status.PENDING


def test_rule_83_a_trigger_that_races_with_an_edit_is_decided_anew(chain, between):
    between(TriggerStage, lambda: chain.edit(2, checkpoint="final", approval=True))
    settings = chain.trigger(2) and chain.state(2).run.settings
    assert (settings.checkpoint.value, settings.approval) == ("final", True)


def test_a_trigger_that_races_with_a_removal_finds_nothing_to_run(chain, between):
    stage_id = chain.stage(2).id
    between(TriggerStage, lambda: chain.remove(2))
    with pytest.raises(NotFound, match="no such stage"):
        chain.use.pipelines.trigger(chain.id, stage_id)
    assert chain.scene.log().count("stage.triggered") == 1


def test_a_trigger_takes_what_the_stage_before_has_left_by_then(chain, between):
    between(TriggerStage, lambda: chain.run(1, "c"))
    assert chain.trigger(2).run.consumed.digest == digest("c")


def test_two_edits_of_one_stage_are_both_kept(chain, between):
    between(pipeline.EditStage, lambda: chain.edit(2, approval=True))
    edited = chain.edit(2, agent_name="late")
    assert (edited.approval, edited.agent_name) == (True, "late")


def test_a_stage_that_was_inserted_meanwhile_is_guarded_too(chain, between):
    def insert_and_trigger():
        made = chain.insert()
        chain.use.pipelines.trigger(chain.id, made.id)

    chain.trigger(2)
    chain.work(2, "b")
    between(pipeline.MoveStage, insert_and_trigger)
    with pytest.raises(IllegalTransition, match="Pending"):
        chain.move(1, 2)


def test_a_duplicate_is_of_the_structure_as_it_is_by_then(chain, between):
    between(pipeline.CreateDuplicate, lambda: chain.remove(2))
    assert len(chain.use.pipelines.duplicate(chain.id).stages) == 1


def test_who_is_overtaken_again_and_again_is_told(chain, monkeypatch):
    monkeypatch.setattr("arena_core.application.session.ATTEMPTS", 3)
    edits = []
    execute = Session.execute

    def interposed(self, *changes, reason=None):
        if any(isinstance(c.command, pipeline.MoveStage) for c in changes):
            edits.append(chain.edit(2, agent_name=f"agent {len(edits)}"))
        return execute(self, *changes, reason=reason)

    monkeypatch.setattr(Session, "execute", interposed)
    with pytest.raises(Overtaken, match="look at them again"):
        chain.move(2, 1)
    assert len(edits) == 3


def test_an_auto_trigger_on_other_stages_than_there_are_is_refused(chain):
    bound = chain.bound(2)
    changes = triggered(chain.use.session, bound, Cause.AUTO)
    chain.edit(1, approval=True)
    with pytest.raises(Overtaken):
        chain.handle(*changes)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory:", "arena.db"])
def test_of_many_who_trigger_a_stage_at_once_one_does(tmp_path, store):
    where = store if store == "memory:" else str(tmp_path / store)
    scene = Scene.open(tmp_path, where)
    chain = Chain.begin(scene)
    stage_id = chain.insert().id

    def trigger(_):
        try:
            chain.use.pipelines.trigger(chain.id, StageId(stage_id))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(trigger, range(16))) == 1
    assert scene.log().count("stage.triggered") == 1
    scene.arena.close()


@pytest.mark.slow
def test_many_who_insert_at_once_are_all_heard(scene):
    chain = Chain.begin(scene)
    chain.insert()
    bound = [chain.experiment() for _ in range(12)]

    def insert(experiment_id):
        chain.use.pipelines.insert_stage(chain.id, experiment_id=experiment_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(insert, bound))
    assert {s.experiment_id for s in chain.view.stages[1:]} == set(bound)
