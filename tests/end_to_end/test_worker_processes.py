"""The parent of several workers, with small processes in the place of servers."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from attrs import define, field

from arena_core.domain.errors import Rejected, Unavailable
from arena_core.entrypoints import workers
from arena_core.entrypoints.http.server import listen
from arena_core.entrypoints.workers import Workers, pause, shared_listeners

from end_to_end.processes import PATIENCE_S, eventually

WORKER = """
import os, select, socket, sys
from itertools import count
from pathlib import Path

listening, lifeline, status = map(int, sys.argv[1:])
folder = Path(os.environ["FOLDER"])
for born in count():
    try:
        (folder / str(born)).mkdir()
        break
    except FileExistsError:
        pass
(folder / str(born) / "new").write_text(f"{os.getpid()} {listening}")
(folder / str(born) / "new").rename(folder / str(born) / "is")
if str(born) in os.environ.get("STILLBORN", "").split():
    sys.exit(3)
os.write(status, b"r")
if "DEAF" in os.environ:
    lifeline = os.pipe()[0]
with socket.socket(fileno=listening) as listener:
    while lifeline not in (ready := select.select([listening, lifeline], [], [])[0]):
        with listener.accept()[0] as caller:
            caller.sendall(str(os.getpid()).encode())
"""
COMMAND = [sys.executable, "-I", "-S", "-c", WORKER]


@define
class Crew:
    """Workers whose parent is a thread, and what became of it."""

    folder: Path
    workers: Workers
    port: int
    announced: list[int] = field(factory=list)
    outcome: list[bool | Unavailable] = field(factory=list)

    def run(self) -> None:
        try:
            announce = lambda: self.announced.append(len(self.pids))  # noqa: E731
            self.outcome.append(self.workers.run(announce))
        except Unavailable as error:
            self.outcome.append(error)

    @property
    def said(self) -> list[list[int]]:
        """Return the process and the socket of all who ever started, oldest first."""
        found = self.folder.glob("*/is")
        in_order = sorted(found, key=lambda path: int(path.parent.name))
        return [[int(word) for word in path.read_text().split()] for path in in_order]

    @property
    def pids(self) -> list[int]:
        return [pid for pid, _ in self.said]

    def await_ready(self) -> None:
        eventually(lambda: self.announced, what="all workers are ready")

    def await_born(self, number: int) -> int:
        return eventually(
            lambda: self.pids[number - 1 :], what=f"worker {number} is started"
        )[0]

    def who_answers(self) -> int:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as caller:
            return int(caller.recv(100))

    def who_answers_now(self) -> int | None:
        """Return who answers; None: the connection is reset."""
        try:
            return self.who_answers()
        except ConnectionResetError:
            return None


@contextmanager
def crew(
    folder: Path, *, number: int = 2, command=COMMAND, grace_s: float = 60, **environ
) -> Iterator[Crew]:
    listeners = shared_listeners("127.0.0.1", 0, number)
    port = listeners[0].getsockname()[1]
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "FOLDER": str(folder), **environ}
    running = Crew(
        folder, Workers(listeners, command, environment, grace_s=grace_s), port
    )
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        running.workers.interrupt()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        assert not [pid for pid in running.pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def ended(running: Crew) -> bool | Unavailable:
    eventually(lambda: running.outcome, what="the parent has ended")
    return running.outcome[0]


class TestStarting:
    def test_is_announced_once_when_all_are_ready(self, tmp_path):
        with crew(tmp_path, number=3) as running:
            running.await_ready()
            os.kill(running.pids[0], signal.SIGKILL)
            running.await_born(4)
            assert running.who_answers() in running.pids
        assert running.announced == [3]

    def test_each_worker_has_a_socket_of_its_own(self, tmp_path):
        with crew(tmp_path) as running:
            running.await_ready()
            assert len({listening for _, listening in running.said}) == 2
            eventually(
                lambda: {running.who_answers() for _ in range(20)} == set(running.pids),
                what="both are given connections",
            )

    def test_a_worker_that_cannot_start_ends_the_whole(self, tmp_path):
        with crew(tmp_path, STILLBORN="1") as running:
            failure = ended(running)
        assert "ended with status 3 before it could answer" in str(failure)
        assert len(running.pids) == 2
        assert running.announced == []

    def test_a_program_that_is_not_there_ends_the_whole(self, tmp_path):
        with crew(tmp_path, command=["/no/such/program"]) as running:
            failure = ended(running)
        assert "cannot be started (No such file or directory)" in str(failure)


class TestReplacing:
    @pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
    def test_what_waits_in_the_queue_of_the_dead_is_its_successors(self, tmp_path, by):
        with crew(tmp_path, number=1) as running:
            running.await_ready()
            first = running.who_answers()
            os.kill(first, signal.SIGSTOP)
            with socket.create_connection(("127.0.0.1", running.port)) as caller:
                os.kill(first, by)
                os.kill(first, signal.SIGCONT)
                caller.settimeout(PATIENCE_S)
                answered = int(caller.recv(100))
            assert answered == running.await_born(2) != first

    def test_a_successor_that_fails_is_tried_again_while_others_serve(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(workers, "FIRST_PAUSE_S", 0.1)
        with crew(tmp_path, STILLBORN="2 3") as running:
            running.await_ready()
            one, other = running.pids
            os.kill(one, signal.SIGKILL)
            last = running.await_born(5)
            eventually(lambda: running.who_answers() == last, what="it answers")
            assert is_alive(other)
            running.workers.drain()
            assert ended(running) is True

    def test_while_it_is_not_tried_the_others_get_all_connections(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(workers, "FIRST_PAUSE_S", 1000.0)
        monkeypatch.setattr(workers, "LONGEST_PAUSE_S", 1000.0)
        with crew(tmp_path, STILLBORN="2") as running:
            running.await_ready()
            one, other = running.pids
            os.kill(one, signal.SIGKILL)
            stillborn = running.await_born(3)
            eventually(lambda: not is_alive(stillborn), what="it has failed")
            # Whoever waits for it when its place is given up is reset, and asks again.
            eventually(
                lambda: {running.who_answers_now() for _ in range(50)} == {other},
                what="the other gets all",
            )

    def test_when_none_is_left_the_whole_ends(self, tmp_path):
        with crew(tmp_path, number=1, STILLBORN="1") as running:
            running.await_ready()
            os.kill(running.pids[0], signal.SIGKILL)
            failure = ended(running)
        assert isinstance(failure, Unavailable)
        assert len(running.pids) == 2

    def test_a_steady_worker_is_replaced_at_once_however_often(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(workers, "STEADY_S", 0.0)
        monkeypatch.setattr(workers, "FIRST_PAUSE_S", 1000.0)
        monkeypatch.setattr(workers, "LONGEST_PAUSE_S", 1000.0)
        with crew(tmp_path, number=1) as running:
            running.await_ready()
            for _ in range(3):
                os.kill(running.who_answers(), signal.SIGKILL)
            assert running.who_answers() == running.await_born(4)

    def test_the_pauses_grow_to_a_limit(self):
        assert [pause(n) for n in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
        assert pause(2000) == 30


class TestEnding:
    def test_is_clean_when_all_have_drained(self, tmp_path):
        with crew(tmp_path) as running:
            running.await_ready()
            running.workers.drain()
            assert ended(running) is True
            with pytest.raises(OSError):  # noqa: PT011 -- refused, or reset
                running.who_answers()

    def test_may_come_before_all_are_ready(self, tmp_path):
        with crew(tmp_path) as running:
            running.workers.drain()
            assert ended(running) is True

    def test_kills_who_does_not_drain_in_time(self, tmp_path):
        with crew(tmp_path, grace_s=0.1, DEAF="") as running:
            running.await_ready()
            running.workers.drain()
            assert ended(running) is False

    def test_is_clean_even_if_it_is_asked_for_twice(self, tmp_path):
        with crew(tmp_path) as running:
            running.await_ready()
            running.workers.drain()
            running.workers.drain()
            assert ended(running) is True

    def test_is_clean_at_a_first_interrupt_and_at_once_at_the_second(self, tmp_path):
        with crew(tmp_path / "well") as running:
            running.await_ready()
            running.workers.interrupt()
            assert ended(running) is True
        with crew(tmp_path / "deaf", grace_s=1000, DEAF="") as running:
            running.await_ready()
            running.workers.interrupt()
            running.workers.interrupt()
            assert ended(running) is False


class TestThePort:
    def test_that_somebody_has_is_refused_even_if_they_would_share_it(self):
        for others in (
            [listen("127.0.0.1", 0)],
            shared_listeners("127.0.0.1", 0, 2),
        ):
            port = others[0].getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                shared_listeners("127.0.0.1", port, 2)
            for each in others:
                each.close()

    def test_cannot_be_shared_on_every_system(self, monkeypatch):
        monkeypatch.delattr(socket, "SO_REUSEPORT")
        with pytest.raises(Rejected, match="--workers"):
            shared_listeners("127.0.0.1", 0, 2)

    def test_may_be_of_the_other_internet(self):
        if not socket.has_ipv6:
            pytest.skip("no IPv6 here")
        for each in shared_listeners("::1", 0, 2):
            with closing(each):
                assert each.family is socket.AF_INET6
