"""Several workers at one address: as one server, even while one of them dies."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from attrs import define, field

import arena_core
from arena_core.entrypoints import worker

from bundles import CARTPOLE, observations
from end_to_end.processes import (
    Client,
    Endpoint,
    Place,
    Process,
    actions,
    connect,
    endpoint,
    eventually,
    run,
    serving,
)
from end_to_end.stores import fill

pytestmark = pytest.mark.slow

OBSERVED = observations(7, 4)
RIGHT = CARTPOLE(OBSERVED).argmax(axis=1).tolist()
ROTATIONS = 40
CALLERS = 8


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@define
class Crew:
    """A server of two workers with one agent that is live."""

    server: Process
    client: Client
    agent: str
    where: Endpoint

    @property
    def pids(self) -> set[int]:
        return children(self.server.pid)

    def instance(self, client: Client) -> str:
        """Return which worker answers at this client's connection."""
        answer = client.ask("GET", f"{self.where.path}/status", token=self.where.key)
        return answer.expect(200)["instance_id"]

    def clients(self) -> dict[str, Client]:
        """Return a client with a connection to each of the workers."""
        found: dict[str, Client] = {}

        def one_more() -> bool:
            client = self.server.client()
            found.setdefault(self.instance(client), client)
            return len(found) == 2

        eventually(one_more, what="both workers answer")
        return found

    def events(self) -> list[str]:
        # The client's own connection may have been to a worker that has ended.
        log = self.server.client().events()
        names = (e["name"].partition(".") for e in log)
        return [name for of, _, name in names if of == "deployment"]


def children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in listed.split()}


@contextmanager
def crew(place: Place, **environ: str) -> Iterator[Crew]:
    agent = str(fill(place.store).agent)
    options = ("--workers", 2, "--token-file", place.token_file)
    with serving(place, *options, environ=environ) as server:
        client = server.client()
        connect(client, agent)
        yield Crew(server, client, agent, endpoint(client, agent))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, server.story()


@define
class Caller:
    """Asks on and on over one connection, and once more if that breaks."""

    client: Client
    where: Endpoint
    answered: int = 0
    broken: int = 0
    wrong: list[object] = field(factory=list)

    def run(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                answer = self.where.ask(self.client, OBSERVED)
            except (OSError, HTTPException):
                self.broken += 1
                answer = self.where.ask(self.client, OBSERVED)
            if answer.status == 200 and actions(answer) == RIGHT:
                self.answered += 1
            else:
                self.wrong.append(answer)


@contextmanager
def under_load(of: Crew) -> Iterator[list[Caller]]:
    """Have callers at both workers; see that every one of them is answered rightly."""
    ended = threading.Event()
    callers = [
        Caller(client, of.where)
        for _ in range(CALLERS // 2)
        for client in of.clients().values()
    ]
    with ThreadPoolExecutor(CALLERS) as threads:
        running = [threads.submit(caller.run, ended) for caller in callers]
        try:
            await_more(callers)
            yield callers
            await_more(callers)
        finally:
            ended.set()
        for each in running:
            each.result()
    assert [caller.wrong for caller in callers] == [[]] * len(callers)


def await_more(callers: list[Caller]) -> None:
    before = [caller.answered for caller in callers]
    eventually(
        lambda: all(
            caller.answered > many + 20
            for caller, many in zip(callers, before, strict=True)
        ),
        what="all are answered",
    )


def test_both_answer_as_soon_as_connecting_is_answered(place):
    with crew(place) as served:
        clients = served.clients()
        for client in clients.values():
            assert actions(served.where.ask(client, OBSERVED)) == RIGHT
        for _ in range(5):
            served.client.post(f"/api/v1/agents/{served.agent}/disconnect")
            for client in clients.values():
                assert served.where.ask(client, OBSERVED).status != 200
            connect(served.client, served.agent)
            for client in clients.values():
                assert actions(served.where.ask(client, OBSERVED)) == RIGHT


def test_a_rotated_key_is_dead_at_both_before_that_is_answered(place):
    with crew(place, ARENA_FAILED_AUTH_RATE="0") as served:
        clients = list(served.clients().values())
        rotate = f"/api/v1/agents/{served.agent}/rotate-key"
        for number in range(ROTATIONS):
            old = endpoint(served.client, served.agent)
            assert [old.ask(client, OBSERVED).status for client in clients] == [200] * 2
            clients[number % 2].post(rotate)
            statuses = [old.ask(client, OBSERVED).status for client in clients[::-1]]
            assert statuses == [401] * 2, f"after {number} rotations"


def test_the_command_line_waits_for_both_too(place):
    with crew(place) as served:
        clients = served.clients().values()
        words = ("agent", "rotate-key", served.agent, "--yes", "--store", place.store)
        assert run(*words).returncode == 0
        statuses = [served.where.ask(client, OBSERVED).status for client in clients]
        assert statuses == [401] * 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_ends_under_load_is_replaced_and_nobody_is_refused(place, number):
    with crew(place, ARENA_PROBE_INTERVAL_S="0") as served:
        # At one time or the other it is the one that put the agent live.
        for pid in sorted(served.pids):
            end_under_load(served, pid, number)
        names = served.events()
        assert names.count("connected") == 1
        assert "connection_lost" not in names
        assert 1 <= names.count("server_replaced") <= 2


def end_under_load(served: Crew, pid: int, number: int) -> None:
    """End a worker while callers ask; see another come and answer too."""
    pids, answering = served.pids, set(served.clients())
    with under_load(served) as callers:
        os.kill(pid, number)
        eventually(lambda: served.pids - pids, what="another is started")
        eventually(lambda: set(served.clients()) - answering, what="it answers")
    assert sum(caller.broken for caller in callers) <= len(callers)


def test_sigterm_drains_all_and_says_so_in_the_log(place):
    with crew(place, ARENA_BODY_TIMEOUT_S="3") as served:
        pids = served.pids
        with under_load(served):
            pass
        half_asked = keep_busy(served)
        served.server.signal(signal.SIGTERM)
        assert served.server.wait() == 0
        half_asked.close()
        assert served.server.stdout.read_text().endswith("Stopped.\n")
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    shown = run("audit", "show", served.agent, "--json", "--store", place.store)
    assert "deployment.connection_lost" in shown.stdout
    assert "deployment.server_replaced" not in shown.stdout


def keep_busy(served: Crew) -> HTTPConnection:
    """Have the worker that has not put the agent live wait for the rest of a body."""
    (server,) = (
        event["data"]["worker"]
        for event in served.server.client().events()
        if event["name"] == "deployment.connected"
    )
    (other,) = (client for of, client in served.clients().items() if of != server)
    connection = other._connection
    connection.putrequest("POST", f"{served.where.path}/get_action")
    connection.putheader("Authorization", f"Bearer {served.where.key}")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b'{"obs"')
    return connection


def test_no_worker_outlives_a_parent_that_is_killed(place):
    agent = str(fill(place.store).agent)
    options = ("--workers", 2, "--token-file", place.token_file)
    with serving(place, *options) as server:
        connect(server.client(), agent)
        pids = children(server.pid)
        assert len(pids) == 2
        server.kill()
        eventually(
            lambda: not [pid for pid in pids if is_running(pid)],
            what="the workers have ended",
        )
    shown = run("audit", "show", agent, "--json", "--store", place.store)
    assert "deployment.connection_lost" in shown.stdout


def is_running(pid: int) -> bool:
    """Say whether a process runs; one that nobody has waited for does not."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except OSError:
        return False


class TestJoining:
    def test_ends_when_this_process_answers_for_all_that_is_live(self, place):
        agent = fill(place.store).agent
        with arena_core.open(place.store) as arena:
            assert worker.answers_for_all(arena)
            arena.agents.connect(agent)
            assert worker.answers_for_all(arena)
            with arena_core.open(place.store, serve=False) as another:
                assert not worker.answers_for_all(another)
                arena.agents.disconnect(agent)
                assert worker.answers_for_all(another)

    def test_is_not_waited_for_for_ever(self, place, monkeypatch):
        monkeypatch.setattr(worker, "JOIN_S", 0.1)
        agent = fill(place.store).agent
        with arena_core.open(place.store, serve=False) as arena:
            arena.agents.connect(agent, timeout_s=0)
            worker.join(arena, unless=lambda: False)

    def test_is_not_waited_for_by_one_that_is_to_end(self, place, monkeypatch):
        monkeypatch.setattr(worker, "JOIN_S", 1000.0)
        agent = fill(place.store).agent
        with arena_core.open(place.store, serve=False) as arena:
            arena.agents.connect(agent, timeout_s=0)
            worker.join(arena, unless=lambda: True)


class TestWhatCannotStart:
    def test_a_store_that_is_none_ends_it_with_one_sentence(self, place):
        place.store.write_bytes(b"this is no database. " * 1000)
        said = run("serve", "--workers", 2, "--port", 0, "--store", place.store)
        assert said.returncode == 1
        assert said.stderr.startswith("Error: ")
        assert said.stderr.count("\n") == 1
        assert "Listening" not in said.stdout

    def test_a_store_that_cannot_be_shared_is_refused(self):
        said = run("serve", "--workers", 2, "--port", 0, "--store", "memory:")
        assert said.returncode == 1
        assert "--workers" in said.stderr

    def test_a_port_that_another_server_shares_is_refused(self, place, tmp_path):
        options = ("--workers", 2, "--token-file", place.token_file)
        with serving(place, *options) as server:
            port = server.address.rpartition(":")[2]
            store = tmp_path / "another.db"
            said = run("serve", "--workers", 2, "--port", port, "--store", store)
        assert said.returncode == 1
        assert "choose another with --port" in said.stderr

    def test_workers_that_cannot_start_any_more_end_the_whole(self, place):
        options = ("--workers", 2, "--token-file", place.token_file)
        with serving(place, *options) as server:
            key_file = place.store.with_name("arena.db.key")
            key_file.chmod(0o640)
            one, other = sorted(children(server.pid))
            os.kill(one, signal.SIGKILL)
            eventually(
                lambda: "with status 1" in server.stderr.read_text(),
                what="its successor has failed",
            )
            assert server.client().ask("GET", "/livez").status == 200
            os.kill(other, signal.SIGKILL)
            assert server.wait() == 1
            assert "make its mode 0600" in server.stderr.read_text()


def test_the_number_comes_from_the_environment_too(place):
    fill(place.store)
    options = ("--token-file", place.token_file)
    with serving(place, *options, environ={"ARENA_WORKERS": "3"}) as server:
        assert len(children(server.pid)) == 3
