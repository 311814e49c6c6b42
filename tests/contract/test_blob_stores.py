import errno
import multiprocessing
import os
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from arena_core.adapters.blobs import files
from arena_core.adapters.blobs.files import LEFTOVER_AGE_S, FileBlobStore
from arena_core.adapters.blobs.memory import MemoryBlobStore
from arena_core.adapters.converters.process import _clear
from arena_core.application.bundles import encode_listing, listing
from arena_core.domain.errors import (
    Corrupt,
    NotFound,
    Rejected,
    StorageFull,
    Unavailable,
)

from contract.blob_store import FILES, BlobStoreContract, lay

WEIGHTS = "policy.onnx"


class TestMemory(BlobStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryBlobStore()


def put(root: Path, folder: Path, _: int) -> str:
    return FileBlobStore(root).put(folder)


def everything_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@contextmanager
def failing(call: str, code: int, *, at: int):
    """Make the call of this name in `os` fail once, after `at` that succeed."""
    real, calls = getattr(os, call), count()

    def wrapped(*args, **kwargs):
        if next(calls) == at:
            raise OSError(code, "injected")
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, wrapped)
        yield


class TestFiles(BlobStoreContract):
    @pytest.fixture
    def root(self, tmp_path):
        return tmp_path / "blobs"

    @pytest.fixture
    def store(self, root):
        return FileBlobStore(root)

    @pytest.fixture
    def digest(self, store, folder):
        return store.put(folder)

    @pytest.fixture
    def place(self, root, digest):
        return root / digest[:2] / digest

    def test_a_bundle_lies_at_its_digest_and_nowhere_else(self, root, digest):
        place = Path(digest[:2], digest)
        expected = {place / "files" / name for name in FILES} | {place / "listing"}
        assert everything_below(root) == expected
        assert list((root / "incoming").iterdir()) == []

    def test_only_the_owner_can_read_it(self, place):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE((place / "files" / WEIGHTS).stat().st_mode) == 0o600

    def test_it_is_there_for_the_next_process(self, root, digest):
        assert FileBlobStore(root).read(digest, WEIGHTS) == FILES[WEIGHTS]

    def test_a_root_that_a_link_leads_to_works(self, tmp_path, folder):
        (tmp_path / "disk").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "disk")
        store = FileBlobStore(tmp_path / "link")
        assert store.read(store.put(folder), WEIGHTS) == FILES[WEIGHTS]

    def test_a_bundle_that_is_there_is_not_written_again(self, store, folder, place):
        before = [p.stat() for p in (place, *sorted(place.rglob("*")))]
        store.put(folder)
        after = [p.stat() for p in (place, *sorted(place.rglob("*")))]
        assert [(s.st_ino, s.st_mtime_ns) for s in before] == [
            (s.st_ino, s.st_mtime_ns) for s in after
        ]

    def test_several_processes_can_put_the_same_at_once(self, root, folder):
        context = multiprocessing.get_context("fork")
        with context.Pool(4) as pool:
            digests = pool.starmap(put, [(root, folder, n) for n in range(8)])
            pool.close()
            pool.join()
        assert set(digests) == {listing(folder).digest}
        assert FileBlobStore(root).read(digests[0], WEIGHTS) == FILES[WEIGHTS]
        assert list((root / "incoming").iterdir()) == []

    # --- damage ------------------------------------------------------------------

    def is_corrupt(self, store, digest, folder, *, sizes: bool) -> None:
        with pytest.raises(Corrupt):
            store.read(digest, WEIGHTS)
        with pytest.raises(Corrupt):
            store.put(folder)
        if sizes:
            with pytest.raises(Corrupt):
                store.sizes(digest)

    @pytest.mark.parametrize("at", [0, 50_000, len(FILES[WEIGHTS]) - 1])
    def test_a_flipped_bit_is_noticed(self, store, folder, digest, place, at):
        content = bytearray(FILES[WEIGHTS])
        content[at] ^= 1
        (place / "files" / WEIGHTS).write_bytes(content)
        self.is_corrupt(store, digest, folder, sizes=False)

    @pytest.mark.parametrize(
        "content", [b"", FILES[WEIGHTS][:-1], FILES[WEIGHTS] + b"\0"]
    )
    def test_another_length_is_noticed(self, store, folder, digest, place, content):
        (place / "files" / WEIGHTS).write_bytes(content)
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_file_that_is_gone_is_noticed(self, store, folder, digest, place):
        (place / "files" / WEIGHTS).unlink()
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_listing_that_is_gone_is_noticed(self, store, folder, digest, place):
        (place / "listing").unlink()
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_bundle_under_the_digest_of_another_is_noticed(
        self, store, folder, digest, place, tmp_path
    ):
        # Whole in itself, listing included, but not what the digest stands for.
        other = lay(tmp_path / "other", FILES | {WEIGHTS: b"evil"})
        evil = store.put(other)
        shutil.rmtree(place)
        shutil.copytree(place.parent.parent / evil[:2] / evil, place)
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_replaced_listing_is_noticed(
        self, store, folder, digest, place, tmp_path
    ):
        other = lay(tmp_path / "other", FILES | {WEIGHTS: b"evil"})
        (place / "files" / WEIGHTS).write_bytes(b"evil")
        (place / "listing").write_bytes(encode_listing(listing(other)))
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_two_swapped_files_are_noticed(self, store, folder, digest, place):
        files = place / "files"
        (files / WEIGHTS).rename(files / "x")
        (files / "checkpoint.json").rename(files / WEIGHTS)
        (files / "x").rename(files / "checkpoint.json")
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_link_in_place_of_a_file_is_not_followed(
        self, store, folder, digest, place, tmp_path
    ):
        path = place / "files" / WEIGHTS
        path.rename(tmp_path / "same content")
        path.symlink_to(tmp_path / "same content")
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_link_in_place_of_a_folder_is_not_followed(self, store, digest, place):
        path = place / "files" / "notes"
        path.rename(place / "elsewhere")
        path.symlink_to(place / "elsewhere")
        with pytest.raises(Corrupt):
            store.read(digest, "notes/a/readme.md")

    def test_a_link_in_place_of_the_bundle_is_not_followed(
        self, store, folder, digest, place, tmp_path
    ):
        place.rename(tmp_path / "same")
        place.symlink_to(tmp_path / "same")
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_pipe_in_place_of_a_file_does_not_make_it_wait(
        self, store, folder, digest, place
    ):
        (place / "files" / WEIGHTS).unlink()
        os.mkfifo(place / "files" / WEIGHTS)
        self.is_corrupt(store, digest, folder, sizes=True)

    def test_a_pipe_in_place_of_an_empty_file_is_noticed(self, store, digest, place):
        (place / "files" / "notes/a/readme.md").unlink()
        os.mkfifo(place / "files" / "notes/a/readme.md")
        with pytest.raises(Corrupt):
            store.read(digest, "notes/a/readme.md")
        with pytest.raises(Corrupt):
            store.sizes(digest)

    def test_a_folder_in_place_of_a_file_is_noticed(self, store, folder, digest, place):
        (place / "files" / WEIGHTS).unlink()
        (place / "files" / WEIGHTS).mkdir()
        self.is_corrupt(store, digest, folder, sizes=True)

    # --- no space ----------------------------------------------------------------

    @pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT, errno.EIO])
    def code(self, request):
        return request.param

    @pytest.mark.parametrize("call", ["open", "write", "fsync", "mkdir", "rename"])
    def test_if_a_call_fails_nothing_is_kept(self, root, folder, code, call):
        """Fail the first such call, then the second, ... until `put` succeeds."""
        store = FileBlobStore(root)
        expected = [StorageFull if code != errno.EIO else Unavailable]
        if call == "open":  # which may be of the caller's own file
            expected.append(Rejected)
        for failures in count():
            with failing(call, code, at=failures), suppress(*expected):
                store.put(folder)
                break
            assert everything_below(root) == set()
            assert list((root / "incoming").iterdir()) == []
        assert failures > 0
        assert store.read(listing(folder).digest, WEIGHTS) == FILES[WEIGHTS]

    def test_a_write_that_takes_only_a_part_is_continued(
        self, store, folder, monkeypatch
    ):
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7_001]))
        assert store.read(store.put(folder), WEIGHTS) == FILES[WEIGHTS]

    def test_all_is_synced_before_it_is_renamed_and_the_rename_after(
        self, store, folder, root, monkeypatch
    ):
        calls: list[str] = []
        real_fsync, real_rename = os.fsync, os.rename

        def fsync(descriptor):
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            relative = path.relative_to(root)
            in_incoming = relative.parts[:1] == ("incoming",)
            calls.append(
                "/".join(relative.parts[2:]) or "." if in_incoming else str(relative)
            )
            real_fsync(descriptor)

        def rename(*args, **kwargs):
            calls.append("rename")
            real_rename(*args, **kwargs)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        digest = store.put(folder)
        renamed = calls.index("rename")
        assert {f"files/{name}" for name in FILES} <= set(calls[:renamed])
        assert {"listing", ".", "files", "files/notes", "files/notes/a"} <= set(
            calls[:renamed]
        )
        assert calls[renamed + 1 :] == [digest[:2]]

    def test_what_is_there_already_is_not_written_to_disk_again(
        self, store, folder, root, monkeypatch
    ):
        digest = store.put(folder)
        real, synced = os.fsync, []

        def fsync(descriptor):
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        assert store.put(folder) == digest
        # Whoever has put it may have died before its name was on the disk.
        assert synced == [root, root / digest[:2]]

    # --- what changes meanwhile --------------------------------------------------

    def test_a_file_that_grows_while_it_is_copied_is_refused(
        self, store, folder, root, monkeypatch
    ):
        real, grown = os.read, []

        def read(descriptor, length):
            if not grown:
                grown.append(True)
                for name in FILES:
                    with (folder / name).open("ab") as file:
                        file.write(b"more")
            return real(descriptor, length)

        monkeypatch.setattr(os, "read", read)
        with pytest.raises(Rejected, match="nothing else is writing"):
            store.put(folder)
        assert everything_below(root) == set()

    def test_a_file_that_changes_while_it_is_copied_is_stored_under_its_own_digest(
        self, store, folder, monkeypatch
    ):
        real = os.read
        changed = bytes(len(FILES[WEIGHTS]))
        before = listing(folder).digest

        def read(descriptor, length):
            (folder / WEIGHTS).write_bytes(changed)
            return real(descriptor, length)

        monkeypatch.setattr(os, "read", read)
        digest = store.put(folder)
        assert digest != before
        assert store.read(digest, WEIGHTS) == changed

    def test_a_link_that_takes_the_place_of_a_file_is_not_followed(
        self, store, folder, monkeypatch
    ):
        secret = folder.parent / "secret"
        secret.write_bytes(b"secret")
        real = os.open

        def swapping(path, *args, **kwargs):
            if Path(path) == folder / WEIGHTS:
                (folder / WEIGHTS).unlink()
                (folder / WEIGHTS).symlink_to(secret)
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, "open", swapping)
        with pytest.raises(Rejected):
            store.put(folder)

    # --- crashes -----------------------------------------------------------------

    def test_old_leftovers_are_swept_and_young_ones_are_not(self, root):
        FileBlobStore(root)
        long_ago = time.time() - LEFTOVER_AGE_S - 60
        for name in ("old", "slow", "young"):
            lay(root / "incoming" / name, {"files/policy.onnx": b"half"})
        for name in ("old", "slow"):
            for path in (root / "incoming" / name).rglob("*"):
                os.utime(path, (long_ago, long_ago))
            os.utime(root / "incoming" / name, (long_ago, long_ago))
        # Its folders are old, but somebody still writes the file in them.
        os.utime(root / "incoming" / "slow" / "files" / "policy.onnx")
        FileBlobStore(root)
        assert sorted(p.name for p in (root / "incoming").iterdir()) == [
            "slow",
            "young",
        ]

    def test_a_leftover_that_cannot_be_swept_keeps_nobody_from_starting(
        self, root, monkeypatch
    ):
        leftover = FileBlobStore(root).incoming / "deep"
        leftover.mkdir()
        monkeypatch.chdir(leftover)
        for _ in range(1_200):
            os.mkdir("deeper")  # noqa: PTH102 -- where it is now
            os.chdir("deeper")
        monkeypatch.setattr(files, "LEFTOVER_AGE_S", -60)
        FileBlobStore(root)
        _clear(leftover)  # which the tests' own cleaning could not do

    def test_what_a_crash_left_half_written_is_no_bundle(self, store, folder, root):
        digest = listing(folder).digest
        lay(root / "incoming" / "half", {"files/policy.onnx": b"half"})
        with pytest.raises(NotFound):
            store.read(digest, WEIGHTS)
        assert store.put(folder) == digest

    def test_a_root_that_cannot_be_made_is_unavailable(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(Unavailable):
            FileBlobStore(tmp_path / "file" / "blobs")
