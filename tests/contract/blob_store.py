"""What every blob store promises."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from arena_core.application.bundles import listing
from arena_core.application.ports import BlobStore
from arena_core.domain.errors import NotFound, Rejected
from arena_core.domain.ids import Digest

FILES = {
    "checkpoint.json": b"{}",
    "policy.onnx": bytes(range(256)) * 400,
    "notes/a/readme.md": b"",
}
UNKNOWN = Digest("0" * 64)


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write `files` below `folder`, in their order; return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


class BlobStoreContract:
    @pytest.fixture
    def store(self) -> BlobStore:
        raise NotImplementedError("the subclass makes the store")

    @pytest.fixture
    def folder(self, tmp_path):
        return lay(tmp_path / "bundle", FILES)

    def test_every_file_reads_back_as_it_was_put(self, store, folder):
        digest = store.put(folder)
        assert {name: store.read(digest, name) for name in FILES} == FILES

    def test_a_large_file_reads_back_as_it_was_put(self, store, folder):
        large = bytes(range(251)) * 10_000
        (folder / "policy.onnx").write_bytes(large)
        assert store.read(store.put(folder), "policy.onnx") == large

    def test_sizes_are_those_of_all_files(self, store, folder):
        digest = store.put(folder)
        assert store.sizes(digest) == {n: len(data) for n, data in FILES.items()}

    def test_the_digest_is_that_of_the_canonical_listing(self, store, folder):
        expected = b"arena-bundle/1\n"
        for name, content in sorted(FILES.items()):
            expected += len(name).to_bytes(8) + name.encode()
            expected += len(content).to_bytes(8) + sha256(content).digest()
        assert store.put(folder) == sha256(expected).hexdigest()
        assert listing(folder).digest == sha256(expected).hexdigest()

    def test_the_callers_folder_stays_as_it_was(self, store, folder):
        store.put(folder)
        assert {n: (folder / n).read_bytes() for n in FILES} == FILES

    def test_what_happens_to_the_folder_afterwards_changes_nothing(self, store, folder):
        digest = store.put(folder)
        for name in FILES:
            (folder / name).write_bytes(b"changed")
        assert {name: store.read(digest, name) for name in FILES} == FILES

    def test_putting_twice_gives_the_same_digest(self, store, folder):
        assert store.put(folder) == store.put(folder)

    def test_order_and_times_of_the_files_do_not_matter(self, store, folder, tmp_path):
        other = lay(tmp_path / "other", dict(reversed(FILES.items())))
        os.utime(other / "policy.onnx", (1, 1))
        assert store.put(other) == store.put(folder)

    def test_empty_folders_do_not_matter(self, store, folder):
        digest = store.put(folder)
        (folder / "empty").mkdir()
        assert store.put(folder) == digest

    @pytest.mark.parametrize(
        "change",
        [
            {"checkpoint.json": b"{ }"},
            {"policy.onnx": FILES["policy.onnx"][:-1]},
            {"policy.onnx": FILES["policy.onnx"][:-1] + b"\0"},
            {"notes/a/readme.txt": b""},
        ],
    )
    def test_any_change_gives_another_digest(self, store, folder, tmp_path, change):
        other = lay(tmp_path / "other", FILES | change)
        assert store.put(other) != store.put(folder)

    def test_a_renamed_file_gives_another_digest(self, store, folder):
        digest = store.put(folder)
        (folder / "policy.onnx").rename(folder / "Policy.onnx")
        assert store.put(folder) != digest

    def test_an_unknown_digest_is_not_found(self, store, folder):
        store.put(folder)
        with pytest.raises(NotFound):
            store.read(UNKNOWN, "policy.onnx")
        with pytest.raises(NotFound):
            store.sizes(UNKNOWN)

    @pytest.mark.parametrize(
        "digest", ["", ".", "..", "/", "incoming", "A" * 64, "0" * 64 + "\n"]
    )
    def test_what_is_no_digest_is_not_found(self, store, folder, digest):
        store.put(folder)
        with pytest.raises(NotFound):
            store.read(Digest(digest), "policy.onnx")

    @pytest.mark.parametrize(
        "name",
        ["", ".", "listing", "../listing", "notes", "notes/a", "policy.onnx/",
         "./policy.onnx", "/etc/passwd", "Policy.onnx", "policy.onnx\0"],
    )  # fmt: skip
    def test_a_name_that_was_not_put_is_not_found(self, store, folder, name):
        digest = store.put(folder)
        with pytest.raises(NotFound):
            store.read(digest, name)

    @pytest.mark.parametrize("target", ["policy.onnx", "notes", "/etc", "nowhere"])
    def test_a_folder_with_a_link_is_refused(self, store, folder, target):
        (folder / "link").symlink_to(target)
        with pytest.raises(Rejected, match="link"):
            store.put(folder)

    def test_a_folder_with_a_named_pipe_is_refused(self, store, folder):
        os.mkfifo(folder / "pipe")
        with pytest.raises(Rejected, match="pipe"):
            store.put(folder)

    @pytest.mark.parametrize("name", ["a b", "ä", "a\nb", "a/b/c/d", "n" * 201, "a:b"])
    def test_a_folder_with_a_bad_name_is_refused(self, store, folder, name):
        try:
            lay(folder, {name: b"x"})
        except OSError:
            pytest.skip("this file system has no such name")
        with pytest.raises(Rejected):
            store.put(folder)

    def test_a_folder_with_names_that_differ_in_case_is_refused(self, store, folder):
        lay(folder, {"POLICY.onnx": b"x"})
        if (folder / "policy.onnx").read_bytes() == b"x":
            pytest.skip("this file system has one case")
        with pytest.raises(Rejected, match="twice"):
            store.put(folder)

    def test_a_folder_that_is_empty_or_missing_is_refused(self, store, tmp_path):
        with pytest.raises(Rejected):
            store.put(tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        with pytest.raises(Rejected):
            store.put(tmp_path / "empty")

    def test_a_folder_that_a_link_leads_to_can_be_put(self, store, folder, tmp_path):
        (tmp_path / "latest").symlink_to(folder)
        assert store.put(tmp_path / "latest") == store.put(folder)

    def test_many_can_put_the_same_and_read_at_once(self, store, folder):
        def put_and_read(_: int) -> tuple[Digest, bytes]:
            digest = store.put(folder)
            return digest, store.read(digest, "policy.onnx")

        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(put_and_read, range(16)))
        assert answers == {(listing(folder).digest, FILES["policy.onnx"])}

    def test_the_callers_own_file_that_cannot_be_read_is_refused(self, store, folder):
        (folder / "policy.onnx").chmod(0)
        if os.access(folder / "policy.onnx", os.R_OK):
            pytest.skip("root reads everything")
        with pytest.raises(Rejected, match=r"policy\.onnx"):
            store.put(folder)
