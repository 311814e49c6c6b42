"""What a server does when the world around it fails, and when that is over."""

import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

import arena_core
from arena_core.entrypoints.secret_file import master_secret

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
PROJECT = {"name": "later", "kind": "classic"}


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@contextmanager
def live(place: Place, **options) -> Iterator[tuple[Process, Client, Endpoint]]:
    """Give a server with one agent that answers."""
    agent = str(fill(place.store).agent)
    with serving(place, **options) as server:
        client = server.client()
        connect(client, agent)
        where = endpoint(client, agent)
        assert actions(where.ask(client, OBSERVED)) == RIGHT
        yield server, client, where


def names(client: Client) -> list[str]:
    return [project["name"] for project in client.get("/api/v1/projects")["items"]]


class TestTheMasterSecret:
    def test_is_kept_in_a_file_that_only_its_owner_can_read(self, place):
        with live(place) as (_, _, before):
            key_file = place.store.with_name("arena.db.key")
            assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        with serving(place) as server:
            eventually(
                lambda: before.ask(server.client(), OBSERVED).status == 200,
                what="the key of the first life works in the second",
            )

    def test_is_refused_where_others_can_read_it(self, place):
        fill(place.store)
        key_file = place.store.with_name("arena.db.key")
        key_file.chmod(0o640)
        for words in (("serve", "--port", 0), ("audit", "verify")):
            said = run(*words, "--store", place.store)
            assert said.returncode == 1
            assert "make its mode 0600" in said.stderr
            assert said.stderr.count("\n") == 1
            assert key_file.read_text().strip() not in said.stderr

    def test_comes_from_the_environment_if_it_is_there(self, place):
        secrets = ("first secret of many letters", "another secret of many letters")
        agent = str(fill(place.store).agent)
        place.store.with_name("arena.db.key").unlink()
        keys = []
        for secret in (*secrets, secrets[0]):
            with serving(place, environ={"ARENA_SECRET_KEY": secret}) as server:
                client = server.client()
                connect(client, agent)
                keys.append(endpoint(client, agent).key)
        assert keys[0] == keys[2] != keys[1]
        assert not place.store.with_name("arena.db.key").exists()

    def test_is_refused_if_it_can_be_guessed(self, place):
        said = run(
            "serve",
            "--port",
            0,
            "--store",
            place.store,
            environ={"ARENA_SECRET_KEY": "swordfish"},
        )
        assert said.returncode == 1
        assert said.stderr.startswith(
            "Error: The secret key (ARENA_SECRET_KEY) is too short"
        )
        assert "swordfish" not in said.stderr
        with pytest.raises(arena_core.Rejected):
            arena_core.open("memory:", secret_key="swordfish")  # noqa: S106 -- refused

    def test_that_cannot_be_read_is_told_in_a_sentence(self, tmp_path):
        (tmp_path / "key").mkdir(mode=0o700)
        with pytest.raises(arena_core.Unavailable, match="key file"):
            master_secret(None, tmp_path / "key", begun=False)
        with pytest.raises(arena_core.Unavailable, match="key file"):
            master_secret(None, tmp_path / "no" / "key", begun=False)

    def test_that_was_lost_is_not_silently_made_anew(self, place):
        fill(place.store)
        key_file = place.store.with_name("arena.db.key")
        key_file.unlink()
        said = run("audit", "verify", "--store", place.store)
        assert said.returncode == 1
        assert "restore it from a back-up" in said.stderr
        assert not key_file.exists()


def test_what_is_kept_is_its_owners_own(place):
    fill(place.store)
    for name in ("arena.db", "arena.db.views", "arena.db.key"):
        mode = place.store.with_name(name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600, name


class TestALockedDatabase:
    def test_refuses_writes_clearly_and_loses_nothing(self, place):
        with live(place) as (_, client, where):
            with another_writer(place.store):
                answer = client.ask("POST", "/api/v1/projects", PROJECT)
                assert answer.status == 503
                assert "locked" in answer.body["detail"]
                assert "Retry-After" in answer.headers
                assert actions(where.ask(client, OBSERVED)) == RIGHT
                assert "later" not in names(client)
            client.post("/api/v1/projects", PROJECT)
            assert names(client).count("later") == 1
            assert client.ask("GET", "/readyz").status == 200


@contextmanager
def another_writer(path: Path) -> Iterator[None]:
    """Hold the write lock from a process of its own."""
    code = (
        "import sqlite3, sys\n"
        "raw = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "raw.execute('BEGIN IMMEDIATE')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.fixture
def disk(tmp_path) -> Path:
    """Return where a process with mounts of its own can have a small disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", folder]
    if not shutil.which("unshare") or subprocess.run(mount, check=False).returncode:
        pytest.skip("no mounts of one's own here")
    return folder


class TestAFullDisk:
    def test_refuses_writes_with_507_and_the_server_serves_on(self, tmp_path, disk):
        with serving(Place(tmp_path, disk)) as server:
            client = server.client()
            ballast = Path(f"/proc/{server.pid}/root{disk}/ballast")
            fill_up(ballast)
            answer = client.ask("POST", "/api/v1/projects", PROJECT)
            assert answer.status == 507, answer
            assert "space" in answer.body["detail"]
            assert names(client) == []
            ballast.unlink()
            client.post("/api/v1/projects", PROJECT)
            assert names(client) == ["later"]
            assert client.ask("GET", "/readyz").status == 200

    def test_or_a_limit_on_files_harms_nobody(self, place):
        with live(place) as (server, client, where):
            before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
            answer = client.ask("POST", "/api/v1/projects", PROJECT)
            assert answer.status in {503, 507}, answer
            assert "disk" in answer.body["detail"]
            assert actions(where.ask(client, OBSERVED)) == RIGHT
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
            client.post("/api/v1/projects", PROJECT)
            assert names(client).count("later") == 1
        assert run("audit", "verify", "--store", place.store).returncode == 0


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


class TestTwoServers:
    def test_both_answer_for_what_one_has_put_live(self, place):
        with live(place) as (_, _, where), serving(place) as second:
            client = second.client()
            eventually(
                lambda: where.ask(client, OBSERVED).status == 200, what="both answer"
            )
            assert actions(where.ask(client, OBSERVED)) == RIGHT

    def test_a_rotated_key_is_dead_at_both(self, place):
        with live(place) as (_, first, where), serving(place) as second:
            client = second.client()
            eventually(
                lambda: where.ask(client, OBSERVED).status == 200, what="both answer"
            )
            agent = first.get("/api/v1/agents")["items"][0]["id"]
            first.post(f"/api/v1/agents/{agent}/rotate-key")
            assert where.ask(first, OBSERVED).status == 401
            eventually(
                lambda: where.ask(client, OBSERVED).status == 401, what="it is dead"
            )
            new = endpoint(client, agent)
            assert actions(new.ask(first, OBSERVED)) == RIGHT
            assert actions(new.ask(client, OBSERVED)) == RIGHT

    def test_the_other_serves_on_when_one_is_killed(self, place):
        with live(place) as (first, _, where), serving(place) as second:
            client = second.client()
            eventually(
                lambda: where.ask(client, OBSERVED).status == 200, what="both answer"
            )
            first.signal(signal.SIGKILL)
            taken_over = eventually(
                lambda: asked_until_taken_over(client, where), what="it is taken over"
            )
            assert set(taken_over) == {200}, "without a gap"
            assert actions(where.ask(client, OBSERVED)) == RIGHT


def asked_until_taken_over(client: Client, where: Endpoint) -> list[int]:
    statuses = [where.ask(client, OBSERVED).status]
    while client.events()[-1]["name"] != "deployment.server_replaced":
        statuses += [where.ask(client, OBSERVED).status for _ in range(20)]
    return statuses


class TestAPoisonEvent:
    def test_stops_the_view_in_sight_of_all_and_nothing_else(self, place):
        with live(place) as (_, client, where):
            insert_poison(place.store)
            answer = client.ask("GET", "/readyz")
            assert answer.status == 503
            wrong = [c["name"] for c in answer.body["checks"] if not c["ok"]]
            assert wrong == ["read_model"]
            refused = client.ask("POST", "/api/v1/projects", PROJECT)
            assert refused.status == 503
            assert "read model" in refused.body["detail"]
            assert actions(where.ask(client, OBSERVED)) == RIGHT
            assert client.ask("GET", "/livez").status == 200

    def test_is_still_in_sight_after_a_restart(self, place):
        with live(place):
            pass
        insert_poison(place.store)
        with serving(place, ready=False) as server:
            answer = server.client().ask("GET", "/readyz")
            assert answer.status == 503
            assert not answer.body["ready"]


def insert_poison(path: Path) -> None:
    """Put an event of a release to come at the end of the log."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        newest = "SELECT state FROM arena_events ORDER BY rowid DESC LIMIT 1"
        (frame,) = raw.execute(newest).fetchone()
        raw.execute(
            "INSERT INTO arena_events (originator_id, originator_version, topic, state)"
            " VALUES (?, 1, 'project.created@99', ?)",
            (uuid4().hex, frame),
        )
