"""Starting a server, and asking it until it answers as it must."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from attrs import evolve, field, frozen

from peers import processes
from peers.forms import Form, Request
from peers.workloads import Workload

BENCH = Path(__file__).parents[1]
POLL_S = 0.002
ANSWERS_WITHIN_S = 10.0
LOG_LINES = 5


class ServingError(Exception):
    """A server that does not start, or that answers with something else."""


@frozen
class Launch:
    """How to start a server: its command, where `{port}` stands for the port."""

    name: str
    command: Sequence[str]
    path: str
    form: Form
    headers: Mapping[str, str] = field(factory=dict)
    variables: Mapping[str, str] = field(factory=dict)
    starts_within_s: float = 60.0


@frozen
class Server:
    """A server that has answered once, as it must."""

    name: str
    workload: str
    process: int
    port: int
    path: str
    request: Request
    cold_s: float
    """From its command to its first right answer."""

    @property
    def label(self) -> str:
        return f"{self.workload} {self.name}"


@contextmanager
def running(launch: Launch, workload: Workload) -> Iterator[Server]:
    """Give the server while it runs.  Raises `ServingError`."""
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        port, begun = _free_port(), time.perf_counter()
        process = subprocess.Popen(
            [word.format(port=port) for word in launch.command],
            env=_environment(launch, workload, port),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            server = _server(launch, workload, process.pid, port)
            _await(server, launch, workload, process, Path(log.name))
            yield evolve(server, cold_s=time.perf_counter() - begun)
        finally:
            processes.end(process)


def _environment(launch: Launch, workload: Workload, port: int) -> dict[str, str]:
    paths = [str(BENCH), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PEER_WEIGHTS": str(workload.weights),
        "PEER_PORT": str(port),
        "PEER_BATCHING": "0",
        **{name: text.format(port=port) for name, text in launch.variables.items()},
    }


def _server(launch: Launch, workload: Workload, process: int, port: int) -> Server:
    asked = launch.form.request(workload.observations)
    request = evolve(asked, headers={**asked.headers, **launch.headers})
    return Server(launch.name, workload.name, process, port, launch.path, request, 0.0)


def _await(
    server: Server,
    launch: Launch,
    workload: Workload,
    process: "subprocess.Popen[bytes]",
    log: Path,
) -> None:
    deadline, problem = time.monotonic() + launch.starts_within_s, "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServingError(f"ended with status {process.returncode}: {_tail(log)}")
        try:
            status, headers, body = ask(server)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
        else:
            if status == HTTPStatus.OK:
                _verify(launch.form, body, headers, workload)
                return
            problem = f"status {status}"
        time.sleep(POLL_S)
    raise ServingError(f"{problem} in {launch.starts_within_s:g} s: {_tail(log)}")


def ask(server: Server) -> tuple[int, Mapping[str, str], bytes]:
    """Return the status, the headers and the body of one answer."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.port, timeout=ANSWERS_WITHIN_S
    )
    try:
        asked = server.request
        connection.request("POST", server.path, asked.body, asked.headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def _verify(
    form: Form, body: bytes, headers: Mapping[str, str], workload: Workload
) -> None:
    right = workload.observations if form.echoes else workload.actions
    try:
        answer = form.array(body, headers)
    except (LookupError, TypeError, ValueError) as error:
        raise ServingError(f"no answer of the form that it takes: {error}") from error
    if not np.array_equal(answer.ravel(), right.ravel()):
        raise ServingError(f"wrong answer: {answer} and not {right}")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return " / ".join(line.strip() for line in lines[-LOG_LINES:] if line.strip())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
