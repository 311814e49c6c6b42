"""Real processes: `arena-core` as users run it, and a small client for its server."""

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPMessage
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from attrs import define, field, frozen

import arena_core

SOURCE = Path(arena_core.__file__).parents[1]
PATIENCE_S = 30.0
"""How long anything may take that is a matter of moments on an idle machine."""

DISK_BYTES = 8 << 20
LISTENING = "Listening on http"
T = TypeVar("T")


def eventually(
    look: Callable[[], T | None], *, what: str, timeout_s: float = PATIENCE_S
) -> T:
    """Return what `look` returns once that is true; fail if it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"after {timeout_s} s still not: {what}"
        time.sleep(0.005)


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which nothing of ours is set but what is `given`."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("ARENA_")}
    return {**ours, "PYTHONPATH": str(SOURCE), **(given or {})}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "arena_core", *map(str, words)]


def run(
    *words: object,
    environ: Mapping[str, str] | None = None,
    timeout_s: float = PATIENCE_S,
) -> subprocess.CompletedProcess[str]:
    """Run `arena-core` with `words` to its end."""
    return subprocess.run(
        command(*words),
        env=environment(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


# --- the client ------------------------------------------------------------------


@frozen
class Answer:
    status: int
    headers: HTTPMessage
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    def expect(self, *statuses: int) -> Any:
        """Return the body of an answer that must have one of `statuses`."""
        assert self.status in statuses, (self.status, self.raw)
        return self.body


IDLE_S = 2.0


@define
class Client:
    """Asks over one connection, which is opened anew whenever it is gone.

    For one thread.  Raises `OSError` or `HTTPException` if no answer comes.
    """

    address: str
    token: str
    timeout_s: float = PATIENCE_S
    _connection: HTTPConnection | None = field(default=None, init=False)
    _asked_at: float = field(default=0.0, init=False)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        if time.monotonic() - self._asked_at > IDLE_S:
            self.close()  # before the server does, while we send
        self._asked_at = time.monotonic()
        if self._connection is None:
            self._connection = HTTPConnection(self.address, timeout=self.timeout_s)
        payload = raw if body is None else json.dumps(body).encode()
        bearer = self.token if token is None else token
        try:
            said = {"Authorization": f"Bearer {bearer}", **(headers or {})}
            self._connection.request(method, path, payload, said)
            response = self._connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (OSError, HTTPException):
            self.close()
            raise

    def get(self, path: str) -> Any:
        return self.ask("GET", path).expect(200)

    def post(self, path: str, body: object = None) -> Any:
        return self.ask("POST", path, body).expect(200, 201, 202)

    def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the whole log, page by page."""
        events: list[dict[str, Any]] = []
        cursor: int | None = after
        while cursor is not None:
            page = self.get(f"/api/v1/events?limit=1000&after={cursor}")
            events += page["items"]
            cursor = page["next_after"]
        return events

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def tar_of(folder: Path) -> bytes:
    """Return the bundle in `folder` as it is uploaded."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    return packed.getvalue()


# --- the server ------------------------------------------------------------------


@frozen
class Place:
    """Where a server keeps everything, over all its lives."""

    folder: Path
    disk: Path | None = None
    """A small disk of its own to keep the store on, instead of in the folder."""

    @property
    def store(self) -> Path:
        return (self.disk or self.folder) / "arena.db"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip() if self.token_file.exists() else ""

    def command(self, *options: object) -> list[str]:
        """Return what starts a server here."""
        serve = command("serve", "--port", 0, "--store", self.store, *options)
        if self.disk is None:
            return serve
        mount = f'mount -t tmpfs -o size={DISK_BYTES} none "$0" && exec "$@"'
        return ["unshare", "-rm", "sh", "-c", mount, str(self.disk), *serve]


@define
class Process:
    """One life of a server.  Its output goes to files, so that no pipe can fill."""

    popen: "subprocess.Popen[bytes]"
    place: Place
    stdout: Path
    stderr: Path
    address: str = ""
    _clients: list[Client] = field(factory=list)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def client(self, *, timeout_s: float = PATIENCE_S) -> Client:
        """Return a client, which is closed when the server is gone."""
        client = Client(self.address, self.place.token, timeout_s)
        self._clients.append(client)
        return client

    def await_address(self) -> str:
        """Return host and port once it says where it listens."""

        def announced() -> str | None:
            lines = self.stdout.read_text().splitlines(keepends=True)
            said = [x for x in lines if x.startswith(LISTENING) and x.endswith("\n")]
            assert said or self.popen.poll() is None, self.story()
            return said[0].partition("://")[2].strip() if said else None

        self.address = eventually(announced, what="the server says where it listens")
        return self.address

    def await_ready(self) -> None:
        client = self.client()
        eventually(
            lambda: client.ask("GET", "/readyz").status == 200, what="it is ready"
        )

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(PATIENCE_S)

    def wait(self) -> int:
        """Return the exit status, once there is one."""
        return self.popen.wait(PATIENCE_S)

    def forget_clients(self) -> None:
        while self._clients:
            self._clients.pop().close()

    def story(self) -> str:
        return f"stdout: {self.stdout.read_text()}\nstderr: {self.stderr.read_text()}"


def start(
    place: Place,
    *options: object,
    environ: Mapping[str, str] | None = None,
) -> Process:
    """Start a server without waiting for anything.  The caller ends it."""
    number = len(list(place.folder.glob("*.stdout")))
    stdout, stderr = (place.folder / f"{number}.{end}" for end in ("stdout", "stderr"))
    with stdout.open("wb") as out, stderr.open("wb") as err:
        popen = subprocess.Popen(
            place.command(*(options or ("--token-file", place.token_file))),
            env=environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            # So that a Ctrl-C at the tests is not one at the server.
            start_new_session=True,
        )
    return Process(popen, place, stdout, stderr)


@contextmanager
def serving(
    place: Place,
    *options: object,
    environ: Mapping[str, str] | None = None,
    ready: bool = True,
) -> Iterator[Process]:
    """Give a server that is `ready`; whatever happens, it is gone afterwards.

    `options` take the place of --token-file.
    """
    process = start(place, *options, environ=environ)
    try:
        process.await_address()
        if ready:
            process.await_ready()
        yield process
    finally:
        process.kill()
        process.forget_clients()


# --- what is served --------------------------------------------------------------


def an_experiment(client: Client, *, name: str = "ppo") -> str:
    """Create a project with an experiment; return the experiment's id."""
    project = client.post("/api/v1/projects", {"name": name, "kind": "classic"})
    experiment = client.post(
        "/api/v1/experiments",
        {
            "project_id": project["id"],
            "name": name,
            "algorithm": "PPO",
            "source": {"kind": "gym", "name": "CartPole-v1"},
        },
    )
    return str(experiment["id"])


def upload(client: Client, experiment_id: str, step: int, bundle: bytes) -> Answer:
    path = f"/api/v1/experiments/{experiment_id}/checkpoints?step={step}"
    return client.ask("POST", path, raw=bundle)


def an_agent(client: Client, experiment_id: str, *, name: str = "balancer") -> str:
    """Freeze the final checkpoint as an agent; return the agent's id."""
    made = client.post(
        "/api/v1/agents",
        {"name": name, "experiment_id": experiment_id, "checkpoint": {"type": "final"}},
    )
    return str(made["id"])


def connect(client: Client, agent_id: str) -> dict[str, Any]:
    """Connect the agent; return it when it is Deployed."""
    agent = client.post(f"/api/v1/agents/{agent_id}/connect?wait={PATIENCE_S:g}")
    assert agent["deployment"]["status"] == "Deployed", agent
    return dict(agent)


@frozen
class Endpoint:
    """Where an agent answers, and with which key."""

    path: str
    key: str

    def ask(self, client: Client, observations: np.ndarray) -> Answer:
        """Ask for the actions of a batch of observations."""
        body = {"obs": _packed(observations), "batch_size": len(observations)}
        return client.ask("POST", f"{self.path}/get_action", body, token=self.key)


def actions(answer: Answer) -> list[int]:
    """Return the actions in an answer, one for each observation."""
    packed = base64.b64decode(answer.expect(200)["action"])
    return np.load(io.BytesIO(packed), allow_pickle=False).tolist()


def _packed(array: np.ndarray) -> str:
    packed = io.BytesIO()
    np.save(packed, array, allow_pickle=False)
    return base64.b64encode(packed.getvalue()).decode()


def endpoint(client: Client, agent_id: str) -> Endpoint:
    access = client.get(f"/api/v1/agents/{agent_id}/access")
    path = "/" + access["endpoint"].partition("://")[2].partition("/")[2]
    return Endpoint(path, access["api_key"])
