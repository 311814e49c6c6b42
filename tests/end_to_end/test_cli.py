"""The command line as a user has it: what is typed, what is said, and what it does."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from http.client import HTTPConnection
from uuid import uuid4

import click
import pytest
from attrs import frozen
from click.testing import CliRunner

import arena_core
from arena_core.entrypoints.cli import main
from arena_core.entrypoints.cli.main import cli as root

from bundles import observations
from end_to_end.processes import (
    Endpoint,
    Place,
    Process,
    actions,
    endpoint,
    eventually,
    run,
    serving,
)
from end_to_end.stores import Filled, fill

OBSERVED = observations(1, 4)


@frozen
class Said:
    status: int
    out: str
    err: str

    def ok(self) -> str:
        assert (self.status, self.err) == (0, "")
        return self.out

    def refused(self) -> str:
        """Return the one sentence with which it was refused."""
        assert self.status == 1
        assert self.out == ""
        assert self.err.startswith("Error: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("Error: ").strip()


Cli = Callable[..., Said]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("ARENA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def cli(monkeypatch, capsys, restored_logs) -> Cli:
    """Return what runs the command line in this process."""
    del restored_logs

    def said(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["arena-core", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Said(int(end.value.code or 0), captured.out, captured.err)

    return said


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def filled(place) -> Filled:
    return fill(place.store)


@pytest.fixture
def server(place, filled) -> Iterator[Process]:  # noqa: ARG001 -- filled before it starts
    with serving(place) as process:
        yield process


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), *path, name)


COMMANDS = dict(commands(root))


class TestHelp:
    @pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path or "arena-core")
    def test_says_what_the_command_and_each_of_its_options_do(self, cli, path):
        command = COMMANDS[path]
        printed = cli(*path.split(), "--help").ok()
        described = (command.help or "").split("\n\n")[0].split()
        assert described
        assert " ".join(described[:4]) in " ".join(printed.split())
        options = [p for p in command.params if isinstance(p, click.Option)]
        assert [o.name for o in options if not o.help] == []
        assert all(option.opts[0] in printed for option in options)

    def test_is_there_as_a_module_and_needs_nothing(self):
        shown = run("--help", environ={"HOME": "/nonexistent"})
        assert shown.returncode == 0
        assert "arena-core demo" in shown.stdout

    def test_begins_with_three_commands_each_on_a_line_of_its_own(self, cli):
        said = cli("--help").ok()
        for command in ("demo", "serve", "audit replay"):
            assert re.search(rf"^  \w[^\n]*  arena-core {command}", said, re.MULTILINE)
        assert "\\b" not in said

    def test_the_version_is_the_package_s(self, cli):
        assert cli("--version").ok().split()[-1] == arena_core.__version__


@pytest.mark.slow
class TestServe:
    def test_says_the_port_that_it_chose(self, place):
        with serving(place) as server:
            host, _, port = server.address.partition(":")
            assert host == "127.0.0.1"
            assert int(port) > 0
            assert server.client().ask("GET", "/livez").status == 200

    def test_writes_the_first_token_to_a_file_that_only_its_owner_can_read(self, place):
        with serving(place) as server:
            assert stat.S_IMODE(place.token_file.stat().st_mode) == 0o600
            (token,) = server.client().get("/api/v1/tokens")["items"]
            assert token["role"] == "manager"
            assert place.token not in server.story()

    def test_does_not_issue_another_token_at_the_second_start(self, place):
        for _ in range(2):
            with serving(place) as server:
                tokens = server.client().get("/api/v1/tokens")["items"]
        assert len(tokens) == 1
        assert "oken" not in server.stdout.read_text()

    def test_prints_the_token_once_if_no_file_is_named(self, place):
        said = [self._starts(place, "--host", "127.0.0.1") for _ in range(2)]
        assert len(re.findall("arena_pat_", said[0])) == 1
        assert "arena_pat_" not in said[1]

    def test_prints_no_token_where_others_may_listen(self, place):
        said = self._starts(place, "--host", "0.0.0.0")  # noqa: S104 -- the case in point
        assert "arena_pat_" not in said
        assert "arena-core token create" in said

    def test_starts_where_the_first_manager_has_a_token_elsewhere(self, place, cli):
        store = ("--store", place.store)
        cli("organisation", "create", "lab", *store).ok()
        made = ("token", "create", "--user", "admin", "--organisation", "lab", *store)
        cli(*made).ok()
        assert "has one already" in self._starts(place)

    def _starts(self, place, *options):
        with serving(place, *options) as server:
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            return server.stdout.read_text()

    def test_refuses_a_port_that_is_in_use(self, place, cli):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            said = cli("serve", "--port", port, "--store", place.store).refused()
        assert said.startswith(f"Port {port} of 127.0.0.1 cannot be used")
        assert "--port" in said

    def test_keeps_no_token_whose_file_it_cannot_write(self, place, cli):
        nowhere = place.folder / "no" / "token"
        options = ("--store", place.store)
        handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
        try:
            said = cli("serve", "--port", 0, "--token-file", nowhere, *options)
        finally:
            signal.signal(signal.SIGTERM, handlers[0])
            signal.signal(signal.SIGINT, handlers[1])
        assert "--token-file" in said.refused()
        assert "first start" not in cli("token", "list", *options).ok()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_answers_what_is_asked_before_it_ends(self, place, number):
        body = json.dumps({"name": "in flight", "kind": "classic"}).encode()
        with serving(place) as server:
            asking = [begun(server, len(body)) for _ in range(8)]
            server.signal(number)
            eventually(lambda: is_refused(server.address), what="it takes no more")
            # Slow callers are waited for, longer than a server's own work takes.
            time.sleep(0.5)
            for connection in asking:
                connection.send(body)
            answers = [connection.getresponse() for connection in asking]
            made = [json.loads(answer.read())["id"] for answer in answers]
            assert [answer.status for answer in answers] == [201] * 8
            assert server.wait() == 0
            assert server.stderr.read_text() == ""
            for connection in asking:
                connection.close()
        with arena_core.open(place.store, serve=False) as arena:
            assert {str(project.id) for project in arena.projects.list()} == set(made)


class Waiting(HTTPConnection):
    """A connection whose request the server has begun to read."""

    def await_continue(self) -> None:
        line = self.sock.recv(1024)
        assert line == b"HTTP/1.1 100 Continue\r\n\r\n"


def begun(server: Process, size: int) -> Waiting:
    connection = Waiting(server.address, timeout=30)
    connection.putrequest("POST", "/api/v1/projects")
    connection.putheader("Authorization", f"Bearer {server.place.token}")
    connection.putheader("Content-Length", str(size))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    connection.await_continue()
    return connection


def is_refused(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionError:
        return True
    return False


class TestTokens:
    def test_are_shown_once_and_never_again(self, cli, place):
        store = ("--store", place.store)
        token = cli("token", "create", "--user", "ann", *store).ok().strip()
        listed = cli("token", "list", *store).ok()
        assert re.fullmatch(r"arena_pat_[0-9a-f]{32}_\w+", token)
        assert token not in listed
        assert f"...{token[-4:]}" in listed
        assert "ann" in listed
        assert "member" in listed

    def test_that_are_revoked_are_listed_no_more(self, cli, place):
        store = ("--store", place.store)
        token = cli("token", "create", "--user", "ann", *store).ok().strip()
        token_id = token.split("_")[2]
        assert "Revoked" in cli("token", "revoke", token_id, *store).ok()
        assert "ann" not in cli("token", "list", *store).ok()

    def test_of_an_unknown_id_cannot_be_revoked(self, cli, filled):
        said = cli("token", "revoke", uuid4(), "--store", filled.path).refused()
        assert "There is no such" in said

    @pytest.mark.slow
    def test_work_and_cease_to_work_at_a_running_server(self, cli, server):
        store = ("--store", server.place.store)
        token = cli("token", "create", "--user", "bob", *store).ok().strip()
        client = server.client()
        assert client.ask("GET", "/api/v1/agents", token=token).status == 200
        invitations = "/api/v1/organisations/default/invitations"
        assert client.ask("GET", invitations, token=token).status == 403
        cli("token", "revoke", token.split("_")[2], "--reason", "left", *store).ok()
        assert client.ask("GET", "/api/v1/agents", token=token).status == 401
        assert client.events()[-1]["reason"] == "left"


class TestAgents:
    def test_are_listed_for_people_and_for_programs(self, cli, filled):
        store = ("--store", filled.path)
        table = cli("agent", "list", *store).ok()
        listed = json.loads(cli("agent", "list", "--json", *store).ok())
        for shown in ("balancer", "classic", "Undeployed", "best at step 10", "ppo"):
            assert shown in table
        assert [agent["id"] for agent in listed] == [str(filled.agent)]
        advanced = cli("agent", "list", "--kind", "advanced", "--json", *store).ok()
        assert json.loads(advanced) == []

    def test_are_shown_by_their_name_and_by_their_id(self, cli, filled):
        store = ("--store", filled.path)
        by_name = json.loads(cli("agent", "show", "balancer", *store).ok())
        assert by_name == json.loads(cli("agent", "show", filled.agent, *store).ok())
        assert by_name["checkpoint"]["digest"] == filled.digest

    def test_of_one_name_are_told_apart_in_the_refusal(self, cli, filled):
        with arena_core.open(filled.path, serve=False) as arena:
            other = arena.agents.create(
                "balancer", filled.experiment, checkpoint=arena_core.final()
            )
        said = cli("agent", "show", "balancer", "--store", filled.path).refused()
        assert said.startswith("2 agents are called balancer")
        assert str(other.id) in said
        assert str(filled.agent) in said

    @pytest.mark.parametrize("order", ["show", "connect", "disconnect"])
    @pytest.mark.parametrize("name", ["nobody", uuid4()], ids=["name", "id"])
    def test_that_nobody_knows_are_refused(self, cli, filled, order, name):
        said = cli("agent", order, name, "--store", filled.path).refused()
        assert said.startswith("There is no")

    def test_wait_for_a_server_to_put_them_live(self, cli, filled):
        connect = ("agent", "connect", "balancer", "--wait", 0.05)
        said = cli(*connect, "--store", filled.path).ok()
        assert said.startswith("balancer: Pending\n")
        assert "arena-core serve" in said

    def test_keep_their_key_unless_the_question_is_answered(self, filled):
        words = ["agent", "rotate-key", "balancer", "--store", str(filled.path)]
        answered = CliRunner().invoke(root, words, input="n\n")
        assert answered.exit_code == 1
        assert "stops working at once" in answered.output
        with arena_core.open(filled.path, serve=False) as arena:
            assert arena.agents.get(filled.agent).deployment.key_version == 1

    def test_have_no_key_to_show_until_they_are_live(self, cli, filled):
        said = cli("agent", "access", "balancer", "--store", filled.path).refused()
        assert "Connect it first" in said

    @pytest.mark.slow
    def test_that_were_connected_before_any_server_are_live_when_one_starts(
        self, cli, place, filled
    ):
        cli("agent", "connect", "balancer", "--wait", 0, "--store", place.store).ok()
        with serving(place) as server:
            client = server.client()
            path = f"/api/v1/agents/{filled.agent}"
            eventually(
                lambda: client.get(path)["deployment"]["connected"], what="it is live"
            )
            assert actions(endpoint(client, str(filled.agent)).ask(client, OBSERVED))

    @pytest.mark.slow
    def test_are_put_live_and_taken_back_by_a_running_server(self, cli, server, filled):
        store = ("--store", server.place.store)
        client = server.client()
        said = cli("agent", "connect", "balancer", "--reason", "now", *store).ok()
        assert said == "balancer: Deployed\n"
        shown = json.loads(cli("agent", "access", "balancer", *store).ok())
        old = Endpoint(shown["endpoint"], shown["api_key"])
        assert old == endpoint(client, str(filled.agent))
        assert actions(old.ask(client, OBSERVED))

        rotated = cli("agent", "rotate-key", "balancer", "--yes", *store).ok()
        new = Endpoint(old.path, rotated.split("key: ")[1].strip())
        eventually(lambda: new.ask(client, OBSERVED).status == 200, what="a new key")
        assert old.ask(client, OBSERVED).status == 401

        said = cli("agent", "disconnect", "balancer", *store).ok()
        assert said == "balancer: Undeployed\n"
        eventually(lambda: new.ask(client, OBSERVED).status == 404, what="it is gone")
        reasons = [event["reason"] for event in client.events()]
        assert "now" in reasons


class TestCheckpoints:
    def test_that_are_sound_are_described(self, cli, filled):
        shown = json.loads(cli("checkpoint", "inspect", filled.bundle).ok())
        assert shown["digest"] == filled.digest
        assert shown["algorithm"] == "PPO"
        assert shown["action_space"]["type"] == "Discrete"
        assert shown["parity"]["verdict"] == "passed"
        assert set(shown["files"]) == {"checkpoint.json", "golden.npz", "policy.onnx"}

    def test_that_are_not_are_refused_in_a_sentence(self, cli, filled):
        (filled.bundle / "policy.onnx").write_bytes(b"junk")
        assert "ONNX" in cli("checkpoint", "inspect", filled.bundle).refused()
        (filled.bundle / "policy.onnx").unlink()
        assert "policy.onnx" in cli("checkpoint", "inspect", filled.bundle).refused()
        (filled.bundle / "checkpoint.json").write_text("{")
        assert (
            "checkpoint.json" in cli("checkpoint", "inspect", filled.bundle).refused()
        )

    def test_may_be_packed(self, cli, filled):
        packed = shutil.make_archive(
            str(filled.bundle.with_name("packed")), "gztar", filled.bundle
        )
        shown = json.loads(cli("checkpoint", "inspect", packed).ok())
        assert shown["digest"] == filled.digest

    def test_must_be_folders_or_archives(self, cli, filled):
        assert "archive" in cli("checkpoint", "inspect", filled.path).refused()


class TestAudit:
    NAMES = (
        "project.created",
        "experiment.drafted",
        "experiment.checkpoint_written",
        "agent.checkpoint_frozen",
        "deployment.created",
    )

    def log(self, cli, filled, *options):
        printed = cli("audit", "log", "--json", *options, "--store", filled.path).ok()
        return [json.loads(line) for line in printed.splitlines()]

    def test_prints_every_event_oldest_first(self, cli, filled):
        events = self.log(cli, filled)
        assert [event["name"] for event in events] == list(self.NAMES)
        table = cli("audit", "log", "--store", filled.path).ok()
        assert all(event["stream"] in table for event in events)

    @pytest.mark.slow
    def test_follows_what_another_process_adds_until_it_is_interrupted(
        self, cli, filled
    ):
        command = [sys.executable, "-m", "arena_core", "audit", "log", "--follow"]
        watching = subprocess.Popen(
            [*command, "--json", "--store", str(filled.path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with watching:
            old = [json.loads(watching.stdout.readline()) for _ in self.NAMES]
            assert [event["name"] for event in old] == list(self.NAMES)
            cli("token", "create", "--user", "ann", "--store", filled.path).ok()
            new = json.loads(watching.stdout.readline())
            assert new["name"] == "user.registered"
            watching.send_signal(signal.SIGINT)
            assert watching.wait(timeout=20) == 0

    def test_prints_the_part_that_is_asked_for(self, cli, filled):
        events = self.log(cli, filled, "--after", 1, "--limit", 2)
        assert [event["position"] for event in events] == [2, 3]

    def test_names_whoever_gave_the_order_and_why(self, cli, filled):
        words = ("agent", "connect", "balancer", "--wait", 0, "--reason", "a try")
        cli(*words, "--store", filled.path).ok()
        last = self.log(cli, filled)[-1]
        assert last["name"] == "deployment.connect_requested"
        assert last["reason"] == "a try"
        assert last["actor"].startswith("operator:")

    def test_shows_the_life_of_one_agent(self, cli, filled):
        printed = cli("audit", "show", "balancer", "--json", "--store", filled.path)
        names = [json.loads(line)["name"] for line in printed.ok().splitlines()]
        assert names == list(self.NAMES[3:])

    def test_replays_the_past_by_position_and_by_time(self, cli, filled):
        replay = ("audit", "replay", "--store", filled.path)
        now = json.loads(cli(*replay).ok())
        assert [agent["name"] for agent in now["agents"]] == ["balancer"]
        assert now["position"] == 5
        before = json.loads(cli(*replay, "--at", 3).ok())
        assert before["agents"] == []
        assert [e["name"] for e in before["experiments"]] == ["ppo"]
        # Several events may have been recorded in one moment: all of them are in.
        moment = self.log(cli, filled)[2]["recorded_at"]
        then = json.loads(cli(*replay, "--at", moment).ok())
        assert datetime.fromisoformat(moment).tzinfo is not None
        assert then == {**before, "position": then["position"]}

    @pytest.mark.parametrize("moment", ["yesterday", "2026-01-31T14:03:00", 999, -1])
    def test_refuses_a_moment_that_is_none(self, cli, filled, moment):
        said = cli("audit", "replay", "--at", moment, "--store", filled.path).refused()
        assert "position" in said

    def test_finds_an_untouched_record_intact(self, cli, filled):
        said = cli("audit", "verify", "--store", filled.path).ok()
        assert "position 5" in said

    def test_names_the_event_of_which_a_byte_was_changed(self, cli, filled):
        flip(filled.path, b"balancer")
        said = cli("audit", "verify", "--store", filled.path)
        assert said.status == 1
        assert said.out == ""
        assert said.err.startswith("Fault at position 4: The hash does not fit")

    def test_names_the_checkpoint_of_which_a_byte_was_changed(self, cli, filled):
        blobs = filled.path.with_name("arena.db.blobs")
        (weights,) = blobs.rglob("policy.onnx")
        weights.chmod(0o600)
        flip(weights, b"Gemm")
        said = cli("audit", "verify", "--store", filled.path)
        assert said.status == 1
        assert said.err.startswith(f"Fault at position 3: Checkpoint {filled.digest}")

    def test_names_an_event_that_is_missing(self, cli, filled):
        with closing(sqlite3.connect(filled.path, isolation_level=None)) as raw:
            raw.execute("DROP TRIGGER arena_events_are_not_removed")
            raw.execute("DELETE FROM arena_events WHERE rowid = 5")
        said = cli("audit", "verify", "--store", filled.path)
        assert said.status == 1
        assert said.err.startswith("Fault at position 5: ")


def flip(path, marker: bytes) -> None:
    """Change one bit of the file, in its first `marker`."""
    content = bytearray(path.read_bytes())
    assert marker in content
    content[content.index(marker)] ^= 1
    path.write_bytes(content)


class TestMistakes:
    @pytest.mark.parametrize(
        ("store", "said"),
        [
            ("postgresql://me:secret@host/db", "The store postgresql is not supported"),
            ("redis://me:secret@host", "The store redis is not supported"),
            ("nowhere/arena.db", "There is no store at this place"),
            ("text", "The event log is malformed"),
            ("folder", "The event log cannot be read"),
            ("text/arena.db", "There is no store at this place"),
        ],
    )
    @pytest.mark.parametrize("command", ["agent list", "audit verify", "token list"])
    def test_in_the_store_are_told_in_a_sentence(
        self, cli, tmp_path, command, store, said
    ):
        (tmp_path / "text").write_text("This is no database, but a text. " * 50)
        (tmp_path / "folder").mkdir()
        before = sorted(tmp_path.rglob("*"))
        url = store if "://" in store else tmp_path / store
        refusal = cli(*command.split(), "--store", url).refused()
        assert refusal.startswith(said)
        assert "secret" not in refusal
        assert str(tmp_path) not in refusal
        assert sorted(tmp_path.rglob("*")) == before

    def test_of_a_server_s_store_are_told_in_a_sentence(self, tmp_path):
        (tmp_path / "text").write_text("This is no database, but a text. " * 50)
        for store in ("text", "text/arena.db"):
            said = run("serve", "--port", 0, "--store", tmp_path / store)
            assert said.returncode == 1
            assert said.stderr.startswith("Error: The ")
            assert said.stderr.count("\n") == 1

    def test_in_the_environment_are_told_in_a_sentence(self, cli, monkeypatch, filled):
        monkeypatch.setenv("ARENA_THREADS", "many")
        assert "ARENA_THREADS" in cli("agent", "list", "--store", filled.path).refused()

    def test_a_user_without_a_name_can_give_orders(self, cli, monkeypatch, filled):
        def unknown() -> str:
            raise KeyError("getpwuid(): uid not found")

        monkeypatch.setattr("arena_core.entrypoints.cli.options.getuser", unknown)
        assert "balancer" in cli("agent", "list", "--store", filled.path).ok()

    def test_the_store_is_in_the_data_folder_unless_it_is_named(
        self, cli, tmp_path, monkeypatch
    ):
        cli("token", "create", "--user", "ann").ok()
        assert (tmp_path / "data" / "arena-core" / "arena.db").exists()
        monkeypatch.setenv("ARENA_STORE", str(tmp_path / "named" / "arena.db"))
        cli("token", "create", "--user", "ann").ok()
        assert (tmp_path / "named" / "arena.db").exists()
