"""Importing with the library: one call, which returns when there is a checkpoint."""

import threading

import pytest

import arena_core
from arena_core import Conflict, NotFound, Rejected, Unavailable, best
from arena_core.application import supervision
from arena_core.application.conversion import Format, Options
from arena_core.domain.checkpoint_import import Status
from unit.workers import Converter


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(supervision, "LOOK_AGAIN_S", 0.01)


def opened(store="memory:", **settings):
    arena = arena_core.open(store, **settings)
    converter = Converter()
    arena.supervisor._beside["importer"]._convert = converter
    return arena, converter


@pytest.fixture
def arena():
    arena, _ = opened()
    with arena:
        yield arena


@pytest.fixture
def converter(arena):
    return arena.supervisor._beside["importer"]._convert


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(b"\x80\x04")
    return path


def experiment(arena):
    project = arena.projects.create("carts")
    return arena.experiments.create(project.id, name="ppo", algorithm="PPO").id


def test_one_call_takes_a_file_to_a_checkpoint_that_can_go_live(
    arena, converter, model
):
    made, told = experiment(arena), []
    checkpoint = arena.experiments.import_checkpoint(
        made,
        model,
        format="sb3",
        step=7,
        spaces={"action_space": None},
        algorithm="PPO",
        channels_last=True,
        score=1.0,
        fitness=2.0,
        progress=told.append,
    )
    assert [checkpoint] == arena.experiments.checkpoints(made)
    assert (checkpoint.step, checkpoint.evaluation_score) == (7, 2.0)
    ((of, files, options),) = converter.orders
    assert (of, options) == (Format.SB3, Options("PPO", channels_last=True))
    assert files.keys() == {"model", "spaces.json"}
    agent = arena.agents.create("balancer", made, checkpoint=best())
    assert arena.agents.connect(agent.id).deployment.connected
    assert [view.status for view in arena.imports.list(made)] == [Status.SUCCEEDED]


def test_what_is_being_done_is_told(arena, converter, model):
    heard, told = threading.Event(), []

    def hear(what):
        told.append(what)
        if what == "exporting":
            heard.set()

    def during(report):
        report("exporting")
        heard.wait(10)

    converter.during = during
    arena.experiments.import_checkpoint(
        experiment(arena), model, format="sb3", step=1, progress=hear
    )
    assert "exporting" in told


def test_what_cannot_be_converted_is_refused_with_the_reason(arena, converter, model):
    def refuse(_):
        raise Rejected("It is a TorchScript archive: export it to ONNX.")

    converter.during = refuse
    with pytest.raises(Rejected, match="TorchScript"):
        arena.experiments.import_checkpoint(
            experiment(arena), model, format="torch", step=1
        )


def test_what_somebody_cancels_is_told(arena, converter, model):
    made = experiment(arena)

    def cancel(report):
        (running,) = arena.imports.list(made)
        arena.imports.cancel(running.id)
        report("going on")

    converter.during = cancel
    with pytest.raises(Conflict, match="cancelled"):
        arena.experiments.import_checkpoint(made, model, format="sb3", step=1)


def test_a_checkpoint_that_is_deleted_at_once_is_told(
    arena, converter, model, monkeypatch
):
    del converter
    made, kind = experiment(arena), type(arena.imports)
    wait = kind.wait

    def deleting(self, import_id, **said):
        ended = wait(self, import_id, **said)
        arena.experiments.delete_checkpoint(made, 1)
        return ended

    monkeypatch.setattr(kind, "wait", deleting)
    with pytest.raises(NotFound, match="deleted"):
        arena.experiments.import_checkpoint(made, model, format="sb3", step=1)


def test_without_anybody_who_converts_it_stays_for_the_next_start(tmp_path, model):
    store = tmp_path / "arena.db"
    with arena_core.open(store, serve=False) as arena:
        made = experiment(arena)
        with pytest.raises(Unavailable, match="Pending still"):
            arena.experiments.import_checkpoint(
                made, model, format="sb3", step=1, timeout_s=0.05
            )
    arena, _ = opened(store, serve=False)
    with arena:
        (asked,) = arena.imports.list(made)
        arena.supervisor.start()
        assert arena.imports.wait(asked.id, timeout_s=20).status is Status.SUCCEEDED
        assert [c.step for c in arena.experiments.checkpoints(made)] == [1]
        left = list(tmp_path.rglob("import-*"))
        assert left == []
