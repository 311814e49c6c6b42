"""Asking for an import: what is kept of it, what is refused, and how it is followed."""

import math
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve as but

from arena_core.application import imports
from arena_core.application.conversion import Format
from arena_core.application.imports import Imports, ordered
from arena_core.application.progress import Progress
from arena_core.application.session import Paging
from arena_core.domain.checkpoint_import import Order, Status
from arena_core.domain.errors import Conflict, NotFound, Rejected, StorageFull
from arena_core.domain.values import Scores
from unit.scenes import CARTPOLE, STRANGER
from unit.workers import World

ORDER = ordered(format="sb3", step=10)
PARTS = {
    "model": b"\x80\x04 a pickle, for all we know",
    "spaces.json": b'{"action_space": null}',
    "statistics": b"means",
    "golden.npz": b"PK",
}


@pytest.fixture
def world():
    return World()


@pytest.fixture
def ann(world):
    return world.worker()


@pytest.fixture
def made(ann):
    project = ann.use.projects.create("carts")
    return ann.use.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=CARTPOLE
    )


@pytest.fixture
def order(tmp_path):
    """Return the folder of a whole order."""
    folder = tmp_path / "order"
    folder.mkdir()
    for name, content in PARTS.items():
        (folder / name).write_bytes(content)
    return folder


def files_of(world):
    """Return the files that the last order has in the blob store."""
    requests = [r for r in world.store.read_all() if r.name == "import.requested"]
    files = requests[-1].event.files
    kept = {
        n: world.blobs.read(files.digest, n) for n in PARTS if n in _names(world, files)
    }
    assert files.size_bytes == sum(map(len, kept.values()))
    return kept


def _names(world, files):
    return world.blobs.sizes(files.digest)


@contextmanager
def refused(world, error, match, field=None):
    """Expect `error`, and that nothing has come into the log or the blob store."""
    before = world.store.head(), len(world.blobs._bundles)
    with pytest.raises(error, match=match) as caught:
        yield
    assert (world.store.head(), len(world.blobs._bundles)) == before
    if field is not None:
        assert caught.value.field == field


# --- what is ordered ---------------------------------------------------------------


def test_an_order_is_what_was_declared():
    order = ordered(
        format=Format.AGILERL,
        step=5,
        algorithm=" CQN ",
        channels_last=True,
        score=1.0,
        fitness=2.0,
    )
    assert order == Order("agilerl", 5, "CQN", True, Scores(1.0, 2.0))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"format": "theano"}, "format"),
        ({"step": -1}, "step"),
        ({"step": 2**63}, "step"),
        ({"algorithm": " "}, "algorithm"),
        ({"score": math.nan}, "score"),
        ({"fitness": math.inf}, "fitness"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(wrong, field):
    with pytest.raises(Rejected) as refusal:
        ordered(**{"format": "sb3", "step": 1} | wrong)
    assert refusal.value.field == field


# --- what is kept ------------------------------------------------------------------


def test_one_file_is_an_order(world, ann, made, order):
    asked = ann.use.imports.request(made.id, order / "model", ORDER)
    assert files_of(world) == {"model": PARTS["model"]}
    assert (asked.format, asked.step, asked.status) == ("sb3", 10, Status.PENDING)
    assert (asked.experiment_id, asked.digest, asked.reason) == (made.id, None, None)
    assert asked == ann.use.imports.get(asked.id)


def test_files_beside_it_are_kept_under_their_names(world, ann, made, order):
    ann.use.imports.request(
        made.id,
        str(order / "model"),
        ORDER,
        spaces=order / "spaces.json",
        statistics=str(order / "statistics"),
        golden=order / "golden.npz",
    )
    assert files_of(world) == PARTS


def test_spaces_may_be_given_as_they_are(world, ann, made, order):
    spaces = {"observation_space": {"type": "Discrete", "n": 3}}
    ann.use.imports.request(made.id, order / "model", ORDER, spaces=spaces)
    expected = b'{"observation_space":{"type":"Discrete","n":3}}'
    assert files_of(world)["spaces.json"] == expected


def test_a_folder_of_them_is_an_order_too(world, ann, made, order):
    ann.use.imports.request(made.id, order, ORDER)
    assert files_of(world) == PARTS


def test_what_was_handed_in_is_durable_before_it_is_asked_for(
    world, ann, made, order, monkeypatch
):
    def full(_):
        raise StorageFull("No space is left.")

    monkeypatch.setattr(world.blobs, "put", full)
    with refused(world, StorageFull, "No space"):
        ann.use.imports.request(made.id, order, ORDER)


def test_no_folder_is_left_over(ann, made, order, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    class Scratch:
        def __enter__(self):
            return str(scratch)

        def __exit__(self, *_):
            for path in sorted(scratch.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()

    ann.core = but(ann.core, scratch=Scratch)
    ann.use.imports.request(made.id, order / "model", ORDER)
    assert list(scratch.iterdir()) == []


# --- what is refused ---------------------------------------------------------------


def test_an_experiment_that_is_not_there_is_refused(world, ann, made, order):
    ann.use.experiments.delete(made.id)
    with refused(world, NotFound, "no such experiment"):
        ann.use.imports.request(made.id, order, ORDER)


def test_a_folder_and_files_beside_it_are_refused(world, ann, made, order):
    with refused(world, Rejected, "not both", "statistics"):
        ann.use.imports.request(made.id, order, ORDER, statistics=order / "statistics")


@pytest.mark.parametrize("name", ["", "readme.md", "Model", "model.zip"])
def test_a_folder_with_anything_else_in_it_is_refused(world, ann, made, order, name):
    (order / (name or "model.d")).write_bytes(b"x")
    with refused(world, Rejected, "has no place in it"):
        ann.use.imports.request(made.id, order, ORDER)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_no_plain_file_is_refused(world, ann, made, order, kind):
    (order / "statistics").unlink()
    if kind == "folder":
        (order / "statistics").mkdir()
    else:
        (order / "statistics").symlink_to("/etc/passwd")
    with refused(world, Rejected, "has no place in it", "statistics"):
        ann.use.imports.request(made.id, order, ORDER)


@pytest.mark.parametrize("content", [None, b""])
def test_nothing_to_convert_is_refused(world, ann, made, order, content):
    (order / "model").unlink()
    if content is not None:
        (order / "model").write_bytes(content)
    with refused(world, Rejected, "nothing to convert", "model"):
        ann.use.imports.request(made.id, order, ORDER)


def test_a_folder_that_cannot_be_read_is_refused(world, ann, made, order, monkeypatch):
    def iterdir(_):
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with refused(world, Rejected, "cannot be read"):
        ann.use.imports.request(made.id, order, ORDER)


@pytest.mark.parametrize(
    "case",
    [
        ({"path": "nowhere.zip"}, "model"),
        ({"spaces": "nowhere.json"}, "spaces.json"),
        ({"statistics": "."}, "statistics"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(world, ann, made, order, case):
    said, field = case
    said = {"path": order / "model"} | said
    with refused(world, Rejected, "cannot be read", field):
        ann.use.imports.request(made.id, said.pop("path"), ORDER, **said)


@pytest.mark.parametrize("spaces", [{"low": object()}, {"text": "\ud800"}])
def test_spaces_that_json_cannot_hold_are_refused(world, ann, made, order, spaces):
    with refused(world, Rejected, "JSON", "spaces"):
        ann.use.imports.request(made.id, order / "model", ORDER, spaces=spaces)


def test_a_disk_that_is_full_is_told(world, ann, made, order):
    def full():
        raise OSError

    ann.core = but(ann.core, scratch=full)
    with refused(world, StorageFull, "disk has space"):
        ann.use.imports.request(made.id, order / "model", ORDER)


# --- following it ------------------------------------------------------------------


def test_an_organisation_has_a_hundred_imports_open_at_most(
    world, ann, made, order, monkeypatch
):
    monkeypatch.setattr(imports, "MOST_OPEN", 3)
    asked = [ann.use.imports.request(made.id, order, ORDER) for _ in range(3)]
    kept = set(world.blobs._bundles)
    (order / "model").write_bytes(b"another")
    with pytest.raises(Conflict, match="3 imports have not ended yet"):
        ann.use.imports.request(made.id, order, ORDER)
    assert set(world.blobs._bundles) == kept, "nothing of it is kept"
    others = ann.application.on_behalf_of(STRANGER)
    project = others.projects.create("carts")
    theirs = others.experiments.create(
        project.id, name="ppo", algorithm="PPO", source=CARTPOLE
    )
    assert others.imports.request(theirs.id, order, ORDER)
    ann.use.imports.cancel(asked[0].id)
    assert ann.use.imports.request(made.id, order, ORDER)


def test_the_imports_of_an_experiment_are_listed_oldest_first(ann, made, order):
    asked = [
        ann.use.imports.request(made.id, order, but(ORDER, step=n)).id for n in range(3)
    ]
    assert [view.id for view in ann.use.imports.list(made.id)] == asked
    first = ann.use.imports.list(made.id, paging=Paging(limit=2))
    assert [view.id for view in first] == asked[:2]
    rest = ann.use.imports.list(made.id, paging=Paging(first.next_after, 2))
    assert [view.id for view in rest] == asked[2:]


def test_the_imports_of_another_experiment_are_not_listed(ann, made, order):
    ann.use.imports.request(made.id, order, ORDER)
    other = ann.use.experiments.create(made.project_id, name="x", algorithm="PPO")
    assert list(ann.use.imports.list(other.id)) == []
    ann.use.experiments.delete(other.id)
    with pytest.raises(NotFound):
        ann.use.imports.list(other.id)


def test_an_import_that_is_not_there_is_not_found(ann, made):
    for use_case in (ann.use.imports.get, ann.use.imports.cancel):
        with pytest.raises(NotFound, match="no such import"):
            use_case(made.id)


def test_an_import_is_known_after_its_experiment_is_deleted(ann, made, order):
    asked = ann.use.imports.request(made.id, order, ORDER)
    ann.use.experiments.delete(made.id)
    assert ann.use.imports.get(asked.id) == asked


def test_what_has_ended_cannot_be_cancelled(ann, made, order):
    asked = ann.use.imports.request(made.id, order, ORDER)
    ann.import_()
    with pytest.raises(Conflict, match="Succeeded"):
        ann.use.imports.cancel(asked.id)


def test_waiting_ends_with_the_time(ann, made, order, monkeypatch):
    monkeypatch.setattr(imports, "LOOK_AGAIN_S", 0.001)
    asked = ann.use.imports.request(made.id, order, ORDER)
    begun = time.monotonic()
    assert ann.use.imports.wait(asked.id, timeout_s=0.05).status is Status.PENDING
    assert time.monotonic() - begun >= 0.05


def test_waiting_ends_when_it_has_ended_and_tells_what_is_done(
    ann, made, order, monkeypatch
):
    monkeypatch.setattr(imports, "LOOK_AGAIN_S", 0.001)
    asked = ann.use.imports.request(made.id, order, ORDER)
    heard, told = threading.Event(), []

    def hear(what):
        told.append(what)
        heard.set()

    def during(report):
        report("exporting")
        heard.clear()
        heard.wait(10)
        report("exporting")
        unheard = ann.use.imports.wait(asked.id, timeout_s=0)
        assert unheard.status is Status.RUNNING

    ann.converter.during = during
    thread = threading.Thread(target=ann.import_)
    thread.start()
    ended = ann.use.imports.wait(asked.id, timeout_s=20, progress=hear)
    thread.join(20)
    assert ended.status is Status.SUCCEEDED
    assert told.count("exporting") == 1


def test_the_word_that_was_said_last_is_what_is_being_done(world, ann):
    progress, one, two = Progress(), object(), object()
    progress.say(one, "reading", world.now)
    progress.say(two, "waiting", world.now)
    progress.say(one, "writing", world.now)
    assert progress.of(one).what == "writing"
    progress.end(one)
    progress.end(one)
    assert (progress.of(one), progress.of(two).what) == (None, "waiting")
    assert "Progress" not in repr(Imports(ann.use.session, progress))
