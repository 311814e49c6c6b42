"""Uploads of bundles: taken whole, or refused without a trace."""

import gzip
import io
import json
import logging
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from arena_core.application import bundles as bundle_files

import bundles
from end_to_end.http_world import asked, assert_problem, opened, packed
from onnx_models import secret_weights

LIMIT = 1 << 20


class Place:
    """An experiment that takes uploads, and all that lies beside it on the disk."""

    def __init__(self, world, root):
        self.world, self.root = world, root
        self.client = world.member("member")
        self.experiment = world.experiment()
        self.path = f"/api/v1/experiments/{self.experiment.id}/checkpoints"

    def send(self, content, step=1, **query):
        return self.client.post(
            self.path, params={"step": step, **query}, content=content
        )

    def kept(self):
        """Return the log's head and every blob and scratch folder on the disk."""
        files = [
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if ".blobs" in str(path) or "upload-" in str(path)
        ]
        return self.world.head(), sorted(files)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    store = root / "arena.db"
    with opened(store, serve=False, max_upload_bytes=LIMIT) as world:
        yield Place(world, root)


@pytest.fixture
def folder(tmp_path):
    return bundles.cartpole(tmp_path / "bundle")


def archive(members, mode="w"):
    """Return a tar archive of (name, content) or of whole `TarInfo`s."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def files(folder):
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


# --- taken -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_archive_becomes_a_checkpoint(tmp_path, folder, mode):
    with opened(tmp_path / "arena.db", serve=False) as world:
        place = Place(world, tmp_path)
        answer = place.send(packed(folder, mode), step=7, score=1.5)
        assert answer.status_code == 201
        checkpoint = answer.json()
        assert checkpoint["step"] == 7
        blobs = world.arena.application.core.blobs
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert blobs.sizes(checkpoint["digest"]) == sizes
        assert checkpoint["size_bytes"] == sum(sizes.values())
        for name, content in files(folder):
            assert blobs.read(checkpoint["digest"], name) == content
        assert not [path for path in tmp_path.iterdir() if "upload-" in path.name]


def test_the_same_upload_again_changes_nothing(tmp_path, folder):
    with opened(tmp_path / "arena.db", serve=False) as world:
        place = Place(world, tmp_path)
        first = place.send(packed(folder))
        before = place.kept()
        again = place.send(packed(folder, "w:gz"))
        assert (again.status_code, again.json()) == (201, first.json())
        assert place.kept() == before


def test_another_bundle_at_the_same_step_is_a_conflict(tmp_path, folder):
    with opened(tmp_path / "arena.db", serve=False) as world:
        place = Place(world, tmp_path)
        place.send(packed(folder))
        before = place.kept()
        bundles.write_weights(folder, bundles.Network.of(4, 2, seed=3))
        (folder / "golden.npz").unlink()
        assert_problem(place.send(packed(folder)), 409)
        assert place.kept() == before, "nothing of it is kept"


def test_a_digest_that_is_named_must_be_that_of_the_bundle(tmp_path, folder):
    with opened(tmp_path / "arena.db", serve=False) as world:
        place = Place(world, tmp_path)
        before = place.kept()
        refused = place.send(packed(folder), digest="0" * 64)
        assert_problem(refused, 422, field="/digest")
        assert place.kept() == before
        digest = bundle_files.listing(folder).digest
        assert place.send(packed(folder), digest=digest).json()["digest"] == digest


def test_a_folder_that_everything_lies_in_is_left_out(place, folder):
    inside = [(f"bundle/{name}", content) for name, content in files(folder)]
    flat = place.send(packed(folder), step=11).json()
    assert place.send(archive(inside), step=12).json()["digest"] == flat["digest"]


# --- refused -----------------------------------------------------------------------


def without(name):
    return lambda folder: archive([f for f in files(folder) if f[0] != name])


def changed(**changes):
    def pack(folder):
        bundles.write_manifest(folder, {**bundles.manifest(folder), **changes})
        return packed(folder)

    return pack


def also(*members):
    return lambda folder: archive([*files(folder), *members])


def external_data(folder):
    (folder / "policy.onnx").write_bytes(secret_weights().SerializeToString())
    return packed(folder)


def broken_golden(folder):
    (folder / "golden.npz").write_bytes(b"PK\3\4" + b"\0" * 100)
    return packed(folder)


def cut(folder):
    return packed(folder)[:2000]


def cut_gzip(folder):
    return packed(folder, "w:gz")[:-20]


def flipped(folder):
    data = bytearray(packed(folder))
    data[0] ^= 1
    return bytes(data)


def bomb(folder):
    return gzip.compress(packed(folder) + b"\0" * (20 * LIMIT))


def twice(folder):
    return archive([*files(folder), *files(folder)])


REFUSED = {
    "nothing": lambda _: b"",
    "no tar": lambda _: b"hello" * 1000,
    "zeros only": lambda _: b"\0" * 10240,
    "JSON": lambda _: b'{"step": 1}',
    "a zip": lambda _: b"PK\3\4" + b"\0" * 1000,
    "empty archive": lambda _: archive([]),
    "no manifest": without("checkpoint.json"),
    "no weights": without("policy.onnx"),
    "manifest that is no JSON": lambda f: archive(
        [("checkpoint.json", b"{"), *files(f)[2:]]
    ),
    "manifest of another version": changed(format_version=2),
    "manifest with an unknown key": changed(digest="0" * 64),
    "another family": changed(family="llm"),
    "weights elsewhere": changed(weights="../policy.onnx"),
    "weights as a pickle": changed(weights="policy.pt"),
    "broken golden trace": broken_golden,
    "a pickle beside it": also(("model.pkl", b"\x80\x04.")),
    "unknown file beside it": also(("run.sh", b"#!/bin/sh")),
    "climbing name": also(("../escaped.md", b"x")),
    "climbing inside": also(("a/../../escaped.md", b"x")),
    "absolute name": also(("/absolute/escaped.md", b"x")),
    "a dot": also(("./../escaped.md", b"x")),
    "symbolic link": also(special("link.md", tarfile.SYMTYPE, "/etc/passwd")),
    "hard link": also(special("link.md", tarfile.LNKTYPE, "checkpoint.json")),
    "link for weights": lambda f: archive(
        [*without_weights(f), special("policy.onnx", tarfile.SYMTYPE, "/etc/passwd")]
    ),
    "device": also(special("null.md", tarfile.CHRTYPE)),
    "pipe": also(special("pipe.md", tarfile.FIFOTYPE)),
    "the same names twice": twice,
    "names that differ in case": also(("CHECKPOINT.json", b"{}")),
    "cut off": cut,
    "cut off gzip": cut_gzip,
    "flipped bit in a header": flipped,
    "bomb": bomb,
    "rubbish behind it": lambda f: packed(f) + b"x" * 512,
}


def without_weights(folder):
    return [f for f in files(folder) if f[0] != "policy.onnx"]


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_without_a_trace(place, folder, what):
    content = REFUSED[what](folder)
    before = place.kept()
    answer = place.send(content)
    problem = assert_problem(answer)
    assert problem["status"] in {413, 422}
    assert place.kept() == before
    assert not (place.root / "escaped.md").exists()


def test_weights_with_external_data_never_become_deployed(tmp_path, folder):
    """Whether at the upload or at Connect: they are not opened."""
    with opened(tmp_path / "arena.db") as world:
        place = Place(world, tmp_path)
        answer = place.send(external_data(folder))
        if answer.status_code == 201:
            agent = place.client.post(
                "/api/v1/agents",
                json={
                    "name": "a",
                    "experiment_id": str(place.experiment.id),
                    "checkpoint": {"type": "final"},
                },
            ).json()
            connected = place.client.post(
                f"/api/v1/agents/{agent['id']}/connect", params={"wait": 30}
            ).json()
            assert connected["deployment"]["status"] == "Failed"
            assert "external" in connected["deployment"]["reason"]
        else:
            assert_problem(answer, 422)


def test_the_field_of_a_manifest_is_named(place, folder):
    answer = place.send(changed(head="feet")(folder))
    assert_problem(answer, 422, "/checkpoint.json/head")
    answer = place.send(changed(signature={"inputs": [], "outputs": [{}]})(folder))
    assert_problem(answer, 422, "/checkpoint.json/signature/outputs/0")


def test_an_upload_needs_its_step(place, folder):
    content = packed(folder)
    for query, field in (
        ({}, "/step"),
        ({"step": "x"}, "/step"),
        ({"step": ""}, "/step"),
    ):
        answer = place.client.post(place.path, params=query, content=content)
        assert_problem(answer, 422, field)


def test_an_upload_for_nothing_is_not_found(place, folder):
    before = place.kept()
    path = f"/api/v1/experiments/{place.experiment.project_id}/checkpoints"
    answer = place.client.post(path, params={"step": 1}, content=packed(folder))
    assert_problem(answer, 404)
    assert place.kept() == before


# --- too large ---------------------------------------------------------------------


def credentials(place):
    return [("authorization", place.client.headers["authorization"])]


def test_an_upload_that_is_announced_too_large_is_not_read(place):
    def never_asked():
        raise AssertionError("the body was read")
        yield  # pragma: no cover

    before = place.kept()
    answer = asked(
        place.world.app,
        "POST",
        place.path,
        query="step=1",
        headers=[*credentials(place), ("content-length", str(LIMIT + 1))],
        messages=never_asked(),
    )
    assert answer.status == 413
    assert place.kept() == before


def test_an_upload_is_counted_while_it_comes(place):
    read = []

    def a_lot():
        for _ in range(500):
            read.append(100_000)
            yield {"type": "http.request", "body": b"a" * 100_000, "more_body": True}

    before = place.kept()
    answer = asked(
        place.world.app,
        "POST",
        place.path,
        query="step=1",
        headers=credentials(place),
        messages=a_lot(),
    )
    assert answer.status == 413
    assert sum(read) <= LIMIT + 100_000
    assert place.kept() == before


def test_files_that_inflate_beyond_the_limit_are_refused(place, folder):
    before = place.kept()
    (folder / "notes.md").write_bytes(b"\0" * (LIMIT + 1))
    content = packed(folder, "w:gz")
    assert len(content) < LIMIT
    assert_problem(place.send(content), 413)
    assert place.kept() == before


# --- what goes wrong on the way ----------------------------------------------------


def test_a_caller_who_leaves_in_the_middle_leaves_nothing(place, folder, caplog):
    before, half = place.kept(), packed(folder)[:3000]
    parts = [{"type": "http.request", "body": half, "more_body": True}]
    for messages in (parts, parts * 3, []):
        asked(
            place.world.app,
            "POST",
            place.path,
            query="step=1",
            headers=credentials(place),
            messages=messages,
        )
        assert place.kept() == before
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


class FullDisk(TemporaryDirectory):
    """A scratch folder in which the upload meets `/dev/full`: no space is left."""

    def __init__(self, **options):
        super().__init__(**options)
        (Path(self.name) / "upload").symlink_to("/dev/full")


def test_a_full_disk_while_it_comes_is_insufficient_storage(place, folder, monkeypatch):
    before = place.kept()
    monkeypatch.setattr(
        place.world.arena, "scratch", lambda: FullDisk(prefix="upload-", dir=place.root)
    )
    answer = place.send(packed(folder))
    assert answer.status_code == 507
    problem = answer.json()
    assert (problem["code"], problem["status"]) == ("STORAGE_FULL", 507)
    assert "space" in problem["detail"]
    assert "retry-after" in answer.headers
    monkeypatch.undo()
    assert place.kept() == before


def test_no_room_for_the_scratch_folder_is_insufficient_storage(
    place, folder, monkeypatch
):
    def full():
        raise OSError(28, "No space left on device", "/the/disk")

    monkeypatch.setattr(place.world.arena, "scratch", full)
    answer = place.send(packed(folder))
    assert answer.status_code == 507
    assert "/the/disk" not in answer.text


def test_an_upload_in_tiny_pieces_is_whole(place, folder):
    content = packed(folder)
    pieces = [
        {"type": "http.request", "body": content[at : at + 7], "more_body": True}
        for at in range(0, len(content), 7)
    ]
    answer = asked(
        place.world.app,
        "POST",
        place.path,
        query="step=99",
        headers=credentials(place),
        messages=[*pieces, {"type": "http.request"}],
    )
    assert answer.status == 201
    assert json.loads(answer.body)["step"] == 99
