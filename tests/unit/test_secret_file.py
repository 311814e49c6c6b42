import os
import stat
from pathlib import Path

import pytest

from arena_core.entrypoints.secret_file import write_secret


@pytest.fixture
def synced(monkeypatch):
    """The paths that are synced to the disk, in order."""
    paths: list[Path] = []
    real = os.fsync

    def fsync(descriptor):
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_secret_and_its_name_are_synced(tmp_path, synced, overwrite):
    write_secret(tmp_path / "key", "swordfish", overwrite=overwrite)
    file, folder = synced
    assert file.name.startswith("key.")
    assert folder == tmp_path.resolve()


def test_a_secret_may_be_written_where_a_link_leads(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_secret(tmp_path / "link" / "key", "swordfish")
    (kept,) = (tmp_path / "real").iterdir()
    assert kept.read_text() == "swordfish\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_secret_that_is_there_stays_unless_it_is_to_be_overwritten(tmp_path):
    key = tmp_path / "key"
    write_secret(key, "first")
    write_secret(key, "second", overwrite=False)
    assert key.read_text() == "first\n"
    write_secret(key, "third")
    assert key.read_text() == "third\n"
    assert list(tmp_path.iterdir()) == [key]
