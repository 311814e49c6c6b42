"""Every presence keeps the contract; the one on files across processes."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from arena_core.adapters.presence.files import FilePresence
from arena_core.adapters.presence.memory import MemoryPresence
from arena_core.application.ports import Note
from arena_core.domain.errors import Conflict, Unavailable

from contract.presence import TOLD, WEIGHTS, PresenceContract, a_worker

LIVING = """
import sys
from pathlib import Path
from uuid import UUID
from arena_core.adapters.presence.files import FilePresence
from arena_core.application.ports import Note

presence = FilePresence(Path(sys.argv[1]))
presence.announce(UUID(sys.argv[2]))
presence.tell(UUID(sys.argv[2]), Note(41))
for line in sys.stdin:
    print(presence.is_alive(UUID(line.strip())), flush=True)
"""


@contextmanager
def living(folder, worker):
    """Run a process that is alive as `worker` and says who else is, when asked."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVING, str(folder), str(worker)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert ask(process, worker)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def ask(process, worker):
    process.stdin.write(f"{worker}\n")
    process.stdin.flush()
    return process.stdout.readline() == "True\n"


class TestMemory(PresenceContract):
    @pytest.fixture
    def presence(self):
        return MemoryPresence()


class TestFiles(PresenceContract):
    @pytest.fixture
    def presence(self, tmp_path):
        return FilePresence(tmp_path / "workers")

    @pytest.fixture
    def another(self, tmp_path):
        return FilePresence(tmp_path / "workers")

    def test_a_living_process_is_seen_and_sees_us(self, tmp_path, presence):
        theirs, ours = a_worker(), a_worker()
        presence.announce(ours)
        with living(tmp_path / "workers", theirs) as process:
            assert presence.is_alive(theirs)
            assert ask(process, ours)
            presence.withdraw(ours)
            assert not ask(process, ours)

    def test_a_killed_process_is_gone_at_once(self, tmp_path, presence, another):
        worker = a_worker()
        with living(tmp_path / "workers", worker) as process:
            assert presence.is_alive(worker)
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
            assert not presence.is_alive(worker)
            assert not another.is_alive(worker)

    def test_the_file_of_a_dead_worker_is_removed_and_can_be_announced_again(
        self, tmp_path, presence
    ):
        worker = a_worker()
        with living(tmp_path / "workers", worker):
            pass
        assert len(list((tmp_path / "workers").glob("*.lock"))) == 1
        assert not presence.is_alive(worker)
        assert list((tmp_path / "workers").glob("*.lock")) == []
        presence.announce(worker)
        assert presence.is_alive(worker)

    def test_it_is_known_whether_anyone_is_alive_at_all(
        self, tmp_path, presence, another
    ):
        assert not presence.is_anyone_alive()
        (tmp_path / "workers" / "notes.lock").touch()
        with living(tmp_path / "workers", a_worker()):
            assert presence.is_anyone_alive()
        assert not presence.is_anyone_alive(), "its file is there still, unlocked"
        another.announce(a_worker())
        assert presence.is_anyone_alive()

    def test_a_withdrawn_worker_leaves_no_file(self, tmp_path, presence):
        worker = a_worker()
        presence.announce(worker)
        presence.withdraw(worker)
        assert list((tmp_path / "workers").glob("*.lock")) == []

    def test_a_living_process_is_heard_until_it_is_found_dead(self, tmp_path, presence):
        ours, theirs = a_worker(), a_worker()
        presence.announce(ours)
        with living(tmp_path / "workers", theirs) as process:
            assert presence.notes() == {ours: Note(), theirs: Note(41)}
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
            assert not presence.is_alive(theirs)
            assert presence.notes() == {ours: Note()}
        assert list((tmp_path / "workers").glob(f"{theirs}*")) == []

    def test_a_note_of_another_release_counts_as_none(self, tmp_path, presence):
        worker = a_worker()
        presence.announce(worker)
        (tmp_path / "workers" / f"{worker}.note").write_text('{"position": "far"}')
        assert presence.notes() == {worker: Note()}

    def test_a_note_that_a_killed_process_was_writing_goes_with_it(
        self, tmp_path, presence
    ):
        worker = a_worker()
        with living(tmp_path / "workers", worker):
            pass
        (tmp_path / "workers" / f"{worker}.new").write_text("{")
        assert not presence.is_alive(worker)
        assert list((tmp_path / "workers").glob(f"{worker}*")) == []

    def test_notes_are_never_read_in_parts(self, presence, another):
        worker = a_worker()
        presence.announce(worker)
        long = frozenset((a_worker(), digest) for _, digest in [*WEIGHTS] * 200)
        whole = (TOLD, Note(8, long))
        presence.tell(worker, TOLD)

        def telling() -> None:
            for number in range(300):
                presence.tell(worker, whole[number % 2])

        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(telling)
            while not told.done():
                assert another.notes()[worker] in whole

    def test_two_processes_cannot_be_one_worker(self, presence, another):
        worker = a_worker()
        presence.announce(worker)
        with pytest.raises(Conflict, match="Another process is alive"):
            another.announce(worker)
        another.withdraw(worker)
        assert another.is_alive(worker)
        presence.withdraw(worker)
        another.announce(worker)
        assert presence.is_alive(worker)

    def test_asking_all_at_once_never_makes_a_dead_worker_alive_or_a_living_one_dead(
        self, tmp_path, presence
    ):
        alive, dead = a_worker(), a_worker()
        presence.announce(alive)

        def asked(_: int) -> list[tuple[bool, bool]]:
            asking = FilePresence(tmp_path / "workers")
            answers = []
            for _ in range(30):
                (tmp_path / "workers" / f"{dead}.lock").touch()
                answers.append((asking.is_alive(alive), asking.is_alive(dead)))
            return answers

        with ThreadPoolExecutor(4) as pool:
            for answers in pool.map(asked, range(4)):
                assert answers == [(True, False)] * 30

    def test_a_worker_can_announce_itself_while_others_ask_for_it(self, tmp_path):
        worker = a_worker()

        def asking(_: int) -> None:
            asking = FilePresence(tmp_path / "workers")
            while not done:
                asking.is_alive(worker)

        done: list[bool] = []
        presence = FilePresence(tmp_path / "workers")
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(asking, n) for n in range(3)]
            try:
                for _ in range(50):
                    presence.announce(worker)
                    assert FilePresence(tmp_path / "workers").is_alive(worker)
                    presence.withdraw(worker)
            finally:
                done.append(True)
            for each in running:
                each.result()

    def test_announcing_again_mends_an_emptied_folder(
        self, tmp_path, presence, another
    ):
        worker = a_worker()
        presence.announce(worker)
        (tmp_path / "workers" / f"{worker}.lock").unlink()
        assert not another.is_alive(worker)
        presence.announce(worker)
        assert another.is_alive(worker)

    def test_whoever_tells_something_is_seen_again_in_an_emptied_folder(
        self, tmp_path, presence, another
    ):
        """Others would not wait for it otherwise."""
        worker, note = a_worker(), Note(7)
        presence.announce(worker)
        presence.tell(worker, Note(6))
        for path in (tmp_path / "workers").iterdir():
            path.unlink()
        presence.tell(worker, note)
        assert another.notes() == {worker: note}
        assert another.is_alive(worker)

    def test_a_folder_that_cannot_be_is_unavailable(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(Unavailable, match="cannot be used"):
            FilePresence(tmp_path / "file")
