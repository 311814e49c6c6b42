"""Every scoreboard keeps the contract; the one of files across processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from arena_core.adapters.telemetry import files
from arena_core.adapters.telemetry.files import FileScoreboard
from arena_core.adapters.telemetry.memory import MemoryScoreboard
from arena_core.application.readings import NOTHING, Posted, ProcessReading
from arena_core.domain.errors import Unavailable

from contract.scoreboard import ScoreboardContract, a_reading, a_worker, counted

POSTING = """
import sys
from pathlib import Path
from uuid import UUID
from arena_core.adapters.telemetry.files import FileScoreboard
from contract.scoreboard import a_reading

scoreboard = FileScoreboard(Path(sys.argv[1]), release="1")
for times in range(1, 301):
    scoreboard.post(UUID(sys.argv[2]), a_reading(times))
    print(times, flush=True)
"""


class TestMemory(ScoreboardContract):
    @pytest.fixture
    def scoreboard(self):
        return MemoryScoreboard()


class TestFiles(ScoreboardContract):
    @pytest.fixture
    def folder(self, tmp_path):
        return tmp_path / "workers"

    @pytest.fixture
    def scoreboard(self, folder):
        return FileScoreboard(folder, release="1")

    @pytest.fixture
    def another(self, folder):
        return FileScoreboard(folder, release="1")

    def test_it_is_one_for_all_who_open_the_folder(self, scoreboard, another):
        ada, bob = a_worker(), a_worker()
        scoreboard.post(ada, a_reading(1))
        another.post(bob, a_reading(2))
        another.retire(ada)
        assert scoreboard.look() == another.look()
        assert counted(scoreboard.look()) == 3

    def test_what_a_process_posts_is_never_seen_torn_or_going_back(
        self, folder, scoreboard
    ):
        worker, seen = a_worker(), [0]
        command = [sys.executable, "-c", POSTING, str(folder), str(worker)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=env
        ) as process:
            for line in process.stdout:
                found = scoreboard.look().by_worker[worker]
                times = counted(Posted({worker: found}, NOTHING))
                assert found == a_reading(times)
                assert times >= max(int(line), seen[-1])
                seen.append(times)
        assert seen[-1] == 300

    def test_a_crash_between_counting_a_worker_and_removing_its_file_loses_nothing(
        self, scoreboard, another, monkeypatch
    ):
        worker = a_worker()
        scoreboard.post(worker, a_reading(1))

        def crash(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", crash)
            with pytest.raises(KeyboardInterrupt):
                scoreboard.retire(worker)
        assert counted(another.look()) == 1
        another.retire(worker)
        assert counted(another.look()) == 1
        assert len(list(files_of(another))) == 1

    def test_what_was_cut_off_or_left_by_another_release_is_not_read(
        self, folder, scoreboard
    ):
        other = FileScoreboard(folder, release="2")
        other.post(a_worker(), a_reading(1))
        other.retire(a_worker())
        worker = a_worker()
        scoreboard.post(worker, a_reading(1))
        (posted,) = folder.glob("*-*.1.metrics")
        posted.write_bytes(posted.read_bytes()[:-1])
        assert scoreboard.look() == Posted({}, NOTHING)
        scoreboard.clear()
        assert other.look() == Posted({}, NOTHING)
        assert list(files_of(scoreboard)) == []

    def test_files_of_others_are_left_alone(self, folder, scoreboard):
        (folder / f"{a_worker()}.lock").touch()
        (folder / f"{a_worker()}.note").touch()
        scoreboard.clear()
        assert scoreboard.look() == Posted({}, NOTHING)
        assert len(list(folder.iterdir())) == 3, "and the lock of the scoreboard"

    def test_a_folder_that_cannot_be_is_unavailable(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(Unavailable, match="cannot be used"):
            FileScoreboard(tmp_path / "file", release="1")

    def test_a_folder_that_is_gone_is_unavailable(self, folder, scoreboard):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        with pytest.raises(Unavailable, match="cannot be used"):
            scoreboard.post(a_worker(), NOTHING)

    def test_a_lock_that_somebody_keeps_is_unavailable(
        self, scoreboard, another, monkeypatch
    ):
        monkeypatch.setattr(files, "LOCK_TIMEOUT_S", 0.01)
        with another._locked(), pytest.raises(Unavailable, match="cannot be used"):
            scoreboard.look()


def files_of(scoreboard):
    return scoreboard._folder.glob("*.metrics*")


def test_this_process_is_measured_where_the_system_tells():
    from arena_core.adapters.telemetry.process import measure  # noqa: PLC0415

    first, second = measure(), measure()
    if not sys.platform.startswith("linux"):
        assert first is None
        return
    assert isinstance(first, ProcessReading)
    assert second.cpu_ms >= first.cpu_ms > 0
    assert first.resident_bytes > 10e6
    assert 0 < first.open_fds <= first.max_fds
    assert second.started_at_s == first.started_at_s


def test_where_the_system_does_not_tell_there_is_no_measure(monkeypatch):
    from arena_core.adapters.telemetry import process  # noqa: PLC0415

    class Silent:
        def collect(self):
            return []

    monkeypatch.setattr(process, "_collector", Silent)
    assert process.measure() is None
