"""An arena with its HTTP API in this process, and what tests of it need."""

import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import numpy as np
from attrs import field, frozen
from starlette.testclient import TestClient

import arena_core
from arena_core.application import npy, pipeline_views
from arena_core.application.importing import Importer
from arena_core.application.imports import ordered
from arena_core.application.resources import ImportView
from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import LIBRARY
from unit.workers import Converter

PROBLEM = {"type", "title", "status", "detail", "code", "errors"}
PROBLEM |= {"instance", "request_id"}
INSIDE = re.compile(
    r"[\[\]]|Traceback|/work|/tmp|/home|/usr|\.py\b|File \"|sqlite", re.IGNORECASE
)
"""What tells of the inside: of the machine, of the code, or markup to clients."""


@frozen(eq=False)
class World:
    """One arena, its app, and clients of it."""

    arena: arena_core.Arena
    app: Any = field()
    _numbers: count = field(factory=count)

    def client(self, token: str | None = None, **options) -> TestClient:
        """Return a client that bears `token`; none if it is None."""
        headers = {} if token is None else bearing(token)
        return TestClient(self.app, headers=headers, **options)

    def member(self, role: str = "manager", **options) -> TestClient:
        return self.client(self.token(role), **options)

    def token(self, role: str = "manager", *, organisation: str = "default") -> str:
        return self.issued(role, organisation=organisation).token

    def issued(
        self,
        role: str = "manager",
        *,
        user: str | None = None,
        organisation: str = "default",
        kind: str = "pat",
    ):
        """Return a token that the operator has issued, to a new user if to nobody."""
        user = user or f"user {next(self._numbers)}"
        caller = arena_core.Caller(
            OrganisationId(organisation), LIBRARY, arena_core.Role.MANAGER
        )
        tokens = self.arena.on_behalf_of(caller).tokens
        return tokens.issue(name="test", user=user, role=role, kind=kind)

    def head(self) -> int:
        return self.arena.application.core.store.head()

    def experiment(
        self, *folders: Path, kind: str = "classic", algorithm: str = "PPO"
    ) -> arena_core.application.resources.ExperimentView:
        """Return a new experiment with these bundles, at the steps 10, 20..."""
        project = self.arena.projects.create("a project", kind=kind)
        source = arena_core.gym("CartPole-v1")
        made = self.arena.experiments.create(
            project.id, name="a run", algorithm=algorithm, source=source
        )
        for number, folder in enumerate(folders, start=1):
            self.arena.experiments.add_checkpoint(
                made.id, step=10 * number, path=folder, score=1.0, fitness=2.0
            )
        return made

    def agent(
        self, folder: Path, *, algorithm: str = "PPO"
    ) -> arena_core.application.resources.AgentView:
        experiment = self.experiment(folder, algorithm=algorithm)
        return self.arena.agents.create(
            "an agent", experiment.id, checkpoint=arena_core.final()
        )

    def pipeline(self, **recipe: Any) -> pipeline_views.PipelineView:
        """Return a new pipeline of one stage, bound to a Draft of a recipe, if any."""
        arena = self.arena
        project_id = arena.projects.create("an advanced one", kind="advanced").id
        source = arena_core.gym("CartPole-v1")
        bound = arena.experiments.create(
            project_id, name="a draft", algorithm="PPO", source=source, **recipe
        )
        made = arena.pipelines.create(project_id, name="a pipeline")
        return arena.pipelines.insert_stage(
            made.id, type="experiment", experiment_id=bound.id
        )

    @property
    def importer(self) -> Importer:
        return self.arena.supervisor._beside["importer"]

    def hold_trainings(self) -> None:
        """Have nobody take a training on: what is asked for stays Pending."""
        self.arena.supervisor._beside["trainer"].stop()

    def converting(self) -> Converter:
        """Return what now converts in this very process, and reads nothing foreign."""
        self.importer._convert = Converter()
        return self.importer._convert

    def imported(self, experiment_id: UUID, folder: Path) -> ImportView:
        """Return an import into the experiment that has ended."""
        self.converting()
        asked = self.asked_for(experiment_id, folder)
        self.importer.reconcile()
        return self.arena.imports.wait(asked.id, timeout_s=30)

    def asked_for(self, experiment_id: UUID, folder: Path) -> ImportView:
        order = ordered(format="sb3", step=99)
        model = folder / "checkpoint.json"  # any file will do: nobody reads it
        return self.arena.imports.request(experiment_id, model, order)

    def live(self, folder: Path, *, algorithm: str = "PPO") -> "Endpoint":
        """Return an agent that is Deployed and answers, with its key."""
        agent = self.agent(folder, algorithm=algorithm)
        connected = self.arena.agents.connect(agent.id)
        assert connected.deployment.connected, connected.deployment.reason
        self.arena.inference(agent.id)
        key = self.arena.agents.access(agent.id).api_key
        path = f"/inference/{connected.deployment.id}"
        return Endpoint(self, agent.id, connected.deployment.id, path, key)


@frozen(eq=False)
class Endpoint:
    """A live agent's data plane."""

    world: World
    agent_id: Any
    deployment_id: Any
    path: str
    key: str

    def post(self, verb: str, token: str | None = "", **options):
        """Call with the deployment's key; with no credential if `token` is None."""
        client = self.world.client(self.key if token == "" else token)
        return client.post(f"{self.path}/{verb}", **options)


@contextmanager
def opened(store: object = "memory:", **settings) -> Iterator[World]:
    # Many tests try bad credentials by the dozen, and none from another address.
    settings.setdefault("failed_auth_rate", 0)
    with arena_core.open(store, **settings) as arena:
        yield World(arena, arena.asgi())


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def packed(folder: Path, mode: str = "w") -> bytes:
    """Return the files in `folder` as a tar archive; `w:gz` compresses it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return file.getvalue()


def wire(array: object) -> str:
    """Return an array as it travels."""
    return npy.to_base64(np.asarray(array))


def array(text: str) -> np.ndarray:
    return npy.from_base64(text, field="answer")


@frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def asked(
    app: Any,
    method: str,
    path: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    query: str = "",
    messages: Iterable[dict[str, Any]] = ({"type": "http.request"},),
) -> Answer | None:
    """Drive the app by hand, with whatever headers and messages; None: no answer.

    Where no header is a Host, there is the usual one.
    """
    waiting, sent = iter(messages), []
    headers = list(headers)
    if not any(name == "host" for name, _ in headers):
        headers.append(("host", "testserver"))

    async def receive() -> dict[str, Any]:
        return next(waiting, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }
    anyio.run(app, scope, receive, send)
    if not sent:
        return None
    start, *parts = sent
    said = {k.decode(): v.decode("latin-1") for k, v in start["headers"]}
    body = b"".join(part.get("body", b"") for part in parts)
    return Answer(start["status"], said, body)


def assert_detail(answer, status):
    """Assert that it is `{"detail": "<one plain sentence>"}`, and return that."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"detail"}
    detail = body["detail"]
    assert detail.endswith(".")
    assert not set("[]") & set(detail), detail
    assert "http" not in detail
    assert "Traceback" not in detail
    return detail


def assert_problem(answer, status=None, field=None, *, sent=""):
    """Assert that `answer` is a problem of the one shape, and return its body.

    What it quotes of what was `sent` may look like the inside, and is not.
    """
    assert status is None or answer.status_code == status, answer.text
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert problem.keys() == PROBLEM
    assert problem["status"] == answer.status_code
    assert problem["title"] == HTTPStatus(answer.status_code).phrase
    assert re.fullmatch(r"[A-Z][A-Z_]+", problem["code"])
    assert problem["detail"].endswith(".")
    leaked = INSIDE.search(problem["detail"])
    assert leaked is None or leaked.group() in sent, problem["detail"]
    for error in problem["errors"]:
        assert re.fullmatch(r"(/[^/]+)+", error["pointer"])
        assert error["detail"] == problem["detail"]
    if field is not None:
        assert [error["pointer"] for error in problem["errors"]] == [field]
    return problem
