"""A real server process on a store on disk, and its control plane."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import msgspec
from attrs import frozen

import arena_core

from load import raw_request
from wire import Connection, Lost

API = "/api/v1"
LISTENING = "Listening on http://"
START_S = 60.0
STOP_S = 30.0
RETRIES, RETRY_S = 20, 0.1


@frozen
class Prepared:
    """A store with one experiment, and a token of a manager."""

    store: Path
    token: str
    experiment: str
    digests: Mapping[int, str]
    """Of the experiment's checkpoints, by step."""


@frozen
class Server:
    pid: int
    port: int
    output: Path
    token: str


class Refused(Exception):  # noqa: N818 -- reads as what happened
    """The control plane has answered with an error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status


def prepare(folder: Path, bundles: Sequence[Path]) -> Prepared:
    """Make a store with an experiment of these bundles, at the steps 1, 2..."""
    store = folder / "arena.db"
    with arena_core.open(store, serve=False) as arena:
        project = arena.projects.create("bench")
        source = arena_core.gym("bench")
        made = arena.experiments.create(
            project.id, name="bench", algorithm="PPO", source=source
        )
        digests = {
            step: str(
                arena.experiments.add_checkpoint(made.id, step=step, path=path).digest
            )
            for step, path in enumerate(bundles, start=1)
        }
        issued = arena.tokens.issue(
            name="bench", user="bench", role=arena_core.Role.MANAGER
        )
    return Prepared(store, issued.token, str(made.id), digests)


@contextmanager
def serving(
    prepared: Prepared, *options: object, environ: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Give a server; it is gone afterwards, and says so if it does not end well."""
    output = prepared.store.with_name("server.txt")
    command = [sys.executable, "-m", "arena_core", "serve", "--port", "0"]
    command += ["--store", str(prepared.store), *map(str, options)]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # So that a Ctrl-C here is not one there.
            start_new_session=True,
        )
    try:
        port = _port(process, output)
        yield Server(process.pid, port, output, prepared.token)
    finally:
        process.terminate()
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if status:
            print(f"The server ended with {status}:\n{output.read_text()}")


def _port(process: "subprocess.Popen[bytes]", output: Path) -> int:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        for line in output.read_text().splitlines(keepends=True):
            if line.startswith(LISTENING) and line.endswith("\n"):
                return int(line.rpartition(":")[2])
        time.sleep(0.02)
    raise SystemExit(f"The server did not start:\n{output.read_text()}")


@frozen
class ControlPlane:
    """Asks on a new connection each time, so that none is too old."""

    port: int
    token: str

    @classmethod
    def of(cls, server: Server) -> Self:
        return cls(server.port, server.token)

    async def get(self, path: str) -> Any:  # noqa: ANN401 -- JSON
        """Return the answer's body.  Raises `Refused`, or `Lost` time and again."""
        for _ in range(RETRIES):
            with suppress(Lost):
                return await self._ask("GET", path, b"")
            await asyncio.sleep(RETRY_S)
        return await self._ask("GET", path, b"")

    async def post(self, path: str, body: object = None) -> Any:  # noqa: ANN401 -- JSON
        """Return the answer's body.  Raises `Refused`, or `Lost`."""
        return await self._ask("POST", path, msgspec.json.encode(body or {}))

    async def events(self, *, after: int = 0) -> list[Any]:
        """Return the log from there on."""
        events: list[Any] = []
        cursor: int | None = after
        while cursor is not None:
            page = await self.get(f"/events?limit=1000&after={cursor}")
            events += page["items"]
            cursor = page["next_after"]
        return events

    async def _ask(self, method: str, path: str, body: bytes) -> Any:  # noqa: ANN401 -- JSON
        bearing = {"Authorization": f"Bearer {self.token}"}
        asked = raw_request(API + path, bearing, body)
        connection = await Connection.open(self.port)
        try:
            answer = await connection.ask(method.encode() + asked.removeprefix(b"POST"))
        finally:
            connection.close()
        if answer.status >= 300:
            raise Refused(answer.status, answer.body.decode(errors="replace"))
        return answer.json


@frozen
class Agent:
    """One agent, seen from the control plane and from the data plane."""

    control: ControlPlane
    id: str

    @classmethod
    async def connected(
        cls, control: ControlPlane, experiment: str, *, step: int, name: str
    ) -> Self:
        """Freeze a checkpoint as an agent, and put it live."""
        choice = {"type": "specific", "step": step}
        body = {"name": name, "experiment_id": experiment, "checkpoint": choice}
        agent = cls(control, (await control.post("/agents", body))["id"])
        shown = await agent.order("connect?wait=60")
        if shown["deployment"]["status"] != "Deployed":
            raise SystemExit(f"Not live: {shown['deployment']['reason']}")
        return agent

    async def shown(self) -> Any:  # noqa: ANN401 -- JSON
        return await self.control.get(f"/agents/{self.id}")

    async def order(self, verb: str, body: object = None) -> Any:  # noqa: ANN401 -- JSON
        return await self.control.post(f"/agents/{self.id}/{verb}", body)

    async def access(self) -> tuple[str, str]:
        """Return the path of `get_action`, and the key."""
        access = await self.control.get(f"/agents/{self.id}/access")
        address = access["endpoint"].partition("://")[2]
        return f"/{address.partition('/')[2]}/get_action", access["api_key"]
