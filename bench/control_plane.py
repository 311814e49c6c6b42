"""What one call of the control plane takes, beside a bare Starlette echo.

One caller, one connection; the calls and the echo take turns, so that whatever else
the machine does is the same for all.  What is printed are medians of the rounds.  The
store is on the disk of the current folder, and every change is synced.

    python bench/control_plane.py [--rounds 9] [--calls 100] [--events 20000]

`--events`: how much the log holds already, of another organisation.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from socket import create_connection, create_server
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

from attrs import frozen

from arena_core.adapters.stores.sqlite import SQLiteEventStore
from arena_core.application.ports import Context, Write
from arena_core.domain.ids import OrganisationId, ProjectId
from arena_core.domain.project import ProjectCreated
from arena_core.domain.values import LIBRARY, ProjectKind

from machine import describe, write_policy
from served import API, prepare, serving

HERE = Path(__file__).parent
ECHO = "echo, a bare Starlette app"
START_S = 30.0
HUNDRED = 100
ELSEWHERE = OrganisationId("elsewhere")


@frozen
class Caller:
    """One connection, with a credential."""

    connection: HTTPConnection
    token: str

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Mapping[str, str]]:
        """Ask, and read the answer to its end."""
        said = {"Authorization": f"Bearer {self.token}", **headers}
        payload = None if body is None else json.dumps(body)
        self.connection.request(method, path, payload, said)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}

    def make(self, path: str, body: object) -> str:
        """Return the address of what a POST has made."""
        status, headers = self.ask("POST", API + path, body)
        if status != 201:
            raise SystemExit(f"POST {path}: {status} instead of 201")
        return API + headers["location"].partition(API)[2]

    def expect(
        self, status: int, method: str, path: str, *given: object, **h: str
    ) -> None:
        found, _ = self.ask(method, path, *given, **h)
        if found != status:
            raise SystemExit(f"{method} {path}: {found} instead of {status}")


def calls_of(caller: Caller, experiment: str) -> dict[str, Callable[[], None]]:
    """Return what is measured, by what it is."""
    at = f"{API}/experiments/{experiment}"
    _, headers = caller.ask("GET", at)
    etag = headers["etag"]
    numbers = itertools.count()

    def create(**said: str) -> None:
        caller.expect(201, "POST", f"{API}/projects", {"name": "p"}, **said)

    return {
        "GET one resource": lambda: caller.expect(200, "GET", at),
        "the same, known already (304)": lambda: caller.expect(
            304, "GET", at, **{"If-None-Match": etag}
        ),
        "GET a list of 100": lambda: caller.expect(
            200, "GET", f"{API}/projects?limit=100"
        ),
        "POST, one event": create,
        "the same, with an idempotency key": lambda: create(
            **{"Idempotency-Key": f"k{next(numbers)}"}
        ),
        "its repetition": lambda: create(**{"Idempotency-Key": "k0"}),
    }


def looks_back(
    caller: Caller, experiment: str, since: int
) -> dict[str, Callable[[], None]]:
    """Return reads of the past, each of another position after `since`."""
    positions = itertools.count(since)

    def then(path: str) -> Callable[[], None]:
        return lambda: caller.expect(200, "GET", f"{path}as_of={next(positions)}")

    return {
        "GET it as of then": then(f"{API}/experiments/{experiment}?"),
        "GET a list of 100 as of then": then(f"{API}/projects?limit=100&"),
    }


def reads_of_pipelines(caller: Caller) -> dict[str, Callable[[], None]]:
    """Return the reads of who watches pipelines, of which there are 100 of 5 stages."""
    lab = caller.make("/projects", {"name": "lab", "kind": "advanced"})
    ten = pipeline(caller, lab, 10)
    for _ in range(100):
        pipeline(caller, lab, 5)
    _, headers = caller.ask("GET", ten)
    known = {"If-None-Match": headers["etag"]}
    listed = f"{API}/pipelines?limit=100"
    return {
        "GET a pipeline of 10 stages": lambda: caller.expect(200, "GET", ten),
        "it, known already (304)": lambda: caller.expect(304, "GET", ten, **known),
        "GET a list of 100 pipelines": lambda: caller.expect(200, "GET", listed),
    }


def pipeline(caller: Caller, project: str, stages: int) -> str:
    """Return the address of a new pipeline of so many Experiment stages."""
    of = {"project_id": project.rpartition("/")[2]}
    made = caller.make("/pipelines", {"name": "line", **of})
    below = made.removeprefix(API)
    for _ in range(stages):
        draft = {"name": "e", "algorithm": "PPO", **of}
        bound = caller.make("/experiments", draft).rpartition("/")[2]
        stage = {"type": "experiment", "experiment_id": bound}
        caller.make(f"{below}/stages", stage)
    return made


def fill(path: Path, events: int) -> int:
    """Append events of another organisation; return where the log ends."""
    store = SQLiteEventStore.open(path)
    for begin in range(0, events, HUNDRED):
        command, writes = uuid4(), []
        for number in range(begin, min(begin + HUNDRED, events)):
            made = ProjectId(uuid4())
            event = ProjectCreated(made, f"p{number}", ProjectKind.ADVANCED, "")
            writes.append(Write(made, 0, [event]))
        context = Context(ELSEWHERE, LIBRARY, command, command)
        store.append(writes, context=context, occurred_at=datetime.now(UTC))
    head = store.head()
    store.close()
    return head


@contextmanager
def echoing() -> Iterator[int]:
    """Give the port of the echo, a process of its own."""
    with create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(HERE / "echo.py"), str(port)])
    try:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def measure(calls: Mapping[str, Callable[[], None]], rounds: int, count: int) -> None:
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            for _ in range(count):
                call()
            taken[name].append((time.perf_counter() - begun) / count * 1000)
    print(f"| {'call':40} | ms | over the echo |")
    print("|---|---|---|")
    for name, figures in taken.items():
        ratios = [a / b for a, b in zip(figures, taken[ECHO], strict=True)]
        print(f"| {name:40} | {median(figures):.2f} | {median(ratios):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--events", type=int, default=20_000)
    arguments = parser.parse_args()
    print(describe())
    with TemporaryDirectory(dir=".") as name, echoing() as port:
        folder = Path(name).absolute()
        prepared = prepare(folder, [write_policy(folder / "bundle")])
        since = fill(prepared.store, arguments.events)
        with serving(prepared) as server:
            caller = Caller(HTTPConnection("127.0.0.1", server.port), server.token)
            for _ in range(100):
                caller.expect(201, "POST", f"{API}/projects", {"name": "p"})
            echo = Caller(HTTPConnection("127.0.0.1", port), server.token)
            calls = {
                ECHO: lambda: echo.expect(200, "POST", "/echo", {"name": "p"}),
                **calls_of(caller, prepared.experiment),
                **looks_back(caller, prepared.experiment, since),
                **reads_of_pipelines(caller),
            }
            measure(calls, arguments.rounds, arguments.calls)


if __name__ == "__main__":
    main()
