"""Importing over HTTP: a file is taken, and what becomes of it can be followed."""

import io
import tarfile
import threading
import time

import pytest

from arena_core import Rejected
from arena_core.application.conversion import Format, Options

import bundles
from end_to_end.http_world import asked, assert_problem, opened, packed

API = "/api/v1"
LIMIT = 1 << 20
FOREIGN = b"\x80\x04 what training has saved"
IMPORT = {
    "id", "experiment_id", "format", "step", "status", "doing", "reason", "digest",
    "created_at", "ended_at",
}  # fmt: skip


class Place:
    """An experiment that takes imports, and all that lies beside it on the disk."""

    def __init__(self, world, root):
        self.world, self.root = world, root
        self.client = world.member("member")
        self.experiment = world.experiment()
        self.path = f"{API}/experiments/{self.experiment.id}/checkpoints"
        self.converter = world.converting()

    def send(self, content=FOREIGN, **query):
        query = {"from": "sb3", "step": 1, **query}
        return self.client.post(self.path, params=query, content=content)

    def get(self, one):
        answer = self.client.get(f"{API}/imports/{one['id']}")
        assert answer.status_code == 200
        return answer.json()

    def kept(self):
        """Return the log's head and every blob and scratch folder on the disk."""
        files = [
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if ".blobs" in str(path) or path.name.startswith(("upload-", "import-"))
        ]
        return self.world.head(), sorted(files)


@pytest.fixture
def place(tmp_path):
    """Return a place in which nothing is converted by itself: see `convert`."""
    store = tmp_path / "arena.db"
    with opened(store, serve=False, max_upload_bytes=LIMIT) as world:
        yield Place(world, tmp_path)


def convert(place):
    place.world.importer.reconcile()


def archive(files, mode="w", top=""):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


# --- taken -------------------------------------------------------------------------


def test_a_file_is_taken_at_once_and_becomes_a_checkpoint(place):
    answer = place.send(step=7, score=1.5, fitness=2.5)
    assert answer.status_code == 202
    taken = answer.json()
    assert taken.keys() == IMPORT
    assert (taken["status"], taken["format"], taken["step"]) == ("Pending", "sb3", 7)
    assert taken["experiment_id"] == str(place.experiment.id)
    assert [taken[k] for k in ("doing", "reason", "digest", "ended_at")] == [None] * 4
    location = answer.headers["location"]
    assert location == f"http://testserver{API}/imports/{taken['id']}"
    assert place.client.get(location).json() == taken
    assert place.client.get(place.path).json()["items"] == []

    convert(place)

    ended = place.get(taken)
    (checkpoint,) = place.client.get(place.path).json()["items"]
    assert (ended["status"], ended["digest"]) == ("Succeeded", checkpoint["digest"])
    assert ended["ended_at"] >= ended["created_at"]
    assert checkpoint["step"] == 7
    assert (checkpoint["training_score"], checkpoint["evaluation_score"]) == (1.5, 2.5)


def test_the_converter_is_given_what_was_sent_and_said(place):
    place.send(**{"from": "agilerl", "algorithm": "CQN", "channels_last": "true"})
    convert(place)
    options = Options("CQN", channels_last=True)
    assert place.converter.orders == [(Format.AGILERL, {"model": FOREIGN}, options)]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("top", ["", "order/"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_an_archive_brings_the_files_beside_it(place, mode, top, form, monkeypatch):
    monkeypatch.setattr(tarfile, "DEFAULT_FORMAT", form)
    files = {"model": FOREIGN, "spaces.json": b"{}", "statistics": b"s"}
    assert place.send(archive(files, mode, top)).status_code == 202
    convert(place)
    ((_, sent, _),) = place.converter.orders
    assert sent == files


def test_a_zip_is_no_archive_here_but_the_file_itself(place):
    assert place.send(b"PK\3\4" + b"\0" * 600).status_code == 202
    convert(place)
    ((_, sent, _),) = place.converter.orders
    assert sent == {"model": b"PK\3\4" + b"\0" * 600}


def test_nothing_is_left_beside_the_blobs(place):
    place.send()
    convert(place)
    left = [path.name for path in place.root.rglob("*") if path.is_dir()]
    assert not [name for name in left if name.startswith(("upload-", "import-"))]


def test_a_restart_carries_on(tmp_path):
    store = tmp_path / "arena.db"
    with opened(store, serve=False) as world:
        place = Place(world, tmp_path)
        taken = place.send().json()
        experiment = place.experiment.id
    with opened(store, serve=False) as world:
        world.converting()
        client = world.client(world.issued("viewer", user="another").token)
        assert client.get(f"{API}/imports/{taken['id']}").json() == taken
        world.arena.supervisor.start()
        status = ""
        deadline = time.monotonic() + 30
        while status != "Succeeded" and time.monotonic() < deadline:
            status = client.get(f"{API}/imports/{taken['id']}").json()["status"]
        assert status == "Succeeded"
        where = f"{API}/experiments/{experiment}/checkpoints"
        assert len(client.get(where).json()["items"]) == 1


# --- followed ----------------------------------------------------------------------


def test_what_is_being_done_can_be_read(place):
    begun, go_on = threading.Event(), threading.Event()

    def during(report):
        report("exporting the policy")
        begun.set()
        go_on.wait(10)

    place.converter.during = during
    taken = place.send().json()
    thread = threading.Thread(target=convert, args=[place])
    thread.start()
    try:
        assert begun.wait(10)
        running = place.get(taken)
    finally:
        go_on.set()
        thread.join(10)
    assert running["status"] == "Running"
    assert running["doing"]["what"] == "exporting the policy"
    assert running["doing"]["since"] >= taken["created_at"]
    assert place.get(taken)["doing"] is None


def test_why_it_failed_can_be_read(place):
    def refuse(_):
        raise Rejected("It is a TorchScript archive: export it to ONNX.")

    place.converter.during = refuse
    taken = place.send().json()
    convert(place)
    failed = place.get(taken)
    assert failed["status"] == "Failed"
    assert failed["reason"] == "It is a TorchScript archive: export it to ONNX."
    assert place.client.get(place.path).json()["items"] == []


def test_imports_are_listed_page_by_page(place):
    taken = [place.send(step=step).json()["id"] for step in range(3)]
    where = f"{API}/experiments/{place.experiment.id}/imports"
    first = place.client.get(where, params={"limit": 2}).json()
    rest = place.client.get(where, params={"cursor": first["next_cursor"]}).json()
    assert [i["id"] for i in first["items"] + rest["items"]] == taken
    assert rest["next_cursor"] is None


def test_an_import_can_be_cancelled(place):
    taken = place.send().json()
    answer = place.client.delete(f"{API}/imports/{taken['id']}")
    assert (answer.status_code, answer.json()["status"]) == (200, "Cancelled")
    again = place.client.delete(f"{API}/imports/{taken['id']}")
    assert again.json() == answer.json()
    convert(place)
    assert place.converter.orders == []


def test_what_has_ended_cannot_be_cancelled(place):
    taken = place.send().json()
    convert(place)
    answer = place.client.delete(f"{API}/imports/{taken['id']}")
    problem = assert_problem(answer, 409)
    assert "Succeeded" in problem["detail"]


# --- refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "theano"}, "/from"),
        ({"from": ""}, "/from"),
        ({"from": "sb3"}, "/step"),
        ({"from": "sb3", "step": "x"}, "/step"),
        ({"from": "sb3", "step": "-1"}, "/step"),
        ({"from": "sb3", "step": str(2**63)}, "/step"),
        ({"step": "-1"}, "/step"),
        ({"from": "sb3", "step": "1", "score": "nan"}, "/score"),
        ({"from": "sb3", "step": "1", "digest": "0" * 64}, "/digest"),
        ({"from": "sb3", "step": "1", "algorithm": " "}, "/algorithm"),
        ({"from": "sb3", "step": "1", "channels_last": "x"}, "/channels_last"),
        ({"step": "1", "algorithm": "PPO"}, "/algorithm"),
        ({"step": "1", "channels_last": "true"}, "/channels_last"),
        ({"from": "sb3", "step": "1", "spaces": "{}"}, "/spaces"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_before_the_body_is_read(
    place, query, field
):
    def never_asked():
        raise AssertionError("the body was read")
        yield  # pragma: no cover

    token = place.client.headers["authorization"]
    text = "&".join(f"{name}={value}" for name, value in query.items())
    before = place.kept()
    answer = asked(
        place.world.app,
        "POST",
        place.path,
        query=text,
        headers=[("authorization", token)],
        messages=never_asked(),
    )
    assert answer.status == 422
    assert_problem(place.client.post(place.path, params=query), 422, field)
    assert place.kept() == before


REFUSED = {
    "nothing": b"",
    "an archive without a model": archive({"spaces.json": b"{}"}),
    "an archive with an empty model": archive({"model": b""}),
    "an archive with anything else": archive({"model": FOREIGN, "run.sh": b"x"}),
    "an archive with a folder": archive({"model": FOREIGN, "a/b": b"x"}),
    "an archive that climbs": archive({"model": FOREIGN, "../escaped": b"x"}),
    "an archive that is cut off": archive({"model": FOREIGN * 100})[:1000],
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_without_a_trace(place, what):
    before = place.kept()
    assert_problem(place.send(REFUSED[what]), 422)
    assert place.kept() == before
    assert not (place.root / "escaped").exists()


def test_a_format_that_is_not_known_is_told_those_that_are(place):
    answer = place.send(**{"from": "theano"})
    for it in Format:
        assert it.value in answer.json()["detail"]


def test_a_file_over_the_limit_is_refused(place):
    before = place.kept()
    assert_problem(place.send(b"x" * (LIMIT + 1)), 413)
    assert place.kept() == before


def test_an_experiment_that_is_not_there_is_not_found(place):
    before = place.kept()
    nowhere = f"{API}/experiments/{place.experiment.project_id}/checkpoints"
    query = {"from": "sb3", "step": 1}
    assert_problem(place.client.post(nowhere, params=query, content=FOREIGN), 404)
    assert place.kept() == before


def test_a_bundle_is_no_order(place, tmp_path):
    folder = bundles.cartpole(tmp_path / "bundle")
    assert_problem(place.send(packed(folder)), 422)
