"""A server process, and what users of agilerl-arena find on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from attrs import frozen

from arena_core.domain.ids import OrganisationId
from arena_core.domain.values import LIBRARY, Caller, Role
from arena_core.entrypoints.settings import Settings
from arena_core.entrypoints.wiring import open_arena

import bundles
from end_to_end.processes import (
    Client,
    Place,
    Process,
    connect,
    eventually,
    serving,
    tar_of,
)

MANIFEST = Path(__file__).parent / "clients" / "ppo_cartpole.yaml"
LIST = "/api/cli/v1/inference/deployments/list"
_numbers = count(1)


def a_name(of: str) -> str:
    """Return a name that nothing on any server has yet."""
    return f"{of}-{next(_numbers)}"


def issued(
    store: Path,
    role: str = "member",
    *,
    user: str | None = None,
    organisation: str = "default",
    kind: str = "pat",
) -> str:
    """Return a token that the operator of the machine issues."""
    operator = Caller(OrganisationId(organisation), LIBRARY, Role.MANAGER)
    with open_arena(Settings(str(store)), serve=False) as arena:
        tokens = arena.on_behalf_of(operator).tokens
        made = tokens.issue(
            name="test", user=user or a_name("user"), role=role, kind=kind
        )
    return made.token


# --- the server ----------------------------------------------------------------------


@frozen
class Platform:
    """A real server; what is set up here is set up through `/api/v1`."""

    process: Process
    control: Client

    @property
    def url(self) -> str:
        return f"http://{self.process.address}"

    def environ(self, **given: str) -> dict[str, str]:
        """Return what points agilerl-arena at this server."""
        places = {"ARENA_BASE_URL": self.url, "ARENA_KEYCLOAK_URL": f"{self.url}/"}
        return {**places, **given}

    def token(self, role: str = "member", **asked: str) -> str:
        return issued(self.process.place.store, role, **asked)

    # --- what is there ---------------------------------------------------------------

    def project(self, *, kind: str = "classic") -> str:
        """Return the name of a new project."""
        name = a_name("project")
        self.control.post("/api/v1/projects", {"name": name, "kind": kind})
        return name

    def experiment(
        self,
        *folders: Path,
        name: str | None = None,
        project: str | None = None,
        algorithm: str = "PPO",
        source: str = "CartPole-v1",
    ) -> str:
        """Return the name of a new experiment with these bundles, at steps 10, 20...

        Each bundle scores less than the one before it.
        """
        name, project = name or a_name("run"), project or self.project()
        described = {"name": name, "algorithm": algorithm}
        kind = self._of(project, "projects")["kind"]
        from_gym = {"kind": "gym", "name": source}
        from_data = {"kind": "dataset", "name": "some rows"}
        made = self.control.post(
            "/api/v1/experiments",
            {
                **described,
                "project_id": self._of(project, "projects")["id"],
                "source": from_data if kind == "advanced" else from_gym,
            },
        )
        for number, folder in enumerate(folders, start=1):
            self.write(made["id"], folder, step=10 * number, fitness=100.0 - number)
        return name

    def write(
        self,
        experiment_id: str,
        folder: Path,
        *,
        step: int,
        fitness: float | None = None,
    ) -> None:
        """Upload a bundle as whoever trains does."""
        scored = "" if fitness is None else f"&score={fitness / 2}&fitness={fitness}"
        path = f"/api/v1/experiments/{experiment_id}/checkpoints?step={step}{scored}"
        self.control.ask("POST", path, raw=tar_of(folder)).expect(201)

    def id_of(self, experiment: str) -> str:
        return str(self._of(experiment, "experiments")["id"])

    def _of(self, name: str, resource: str) -> dict[str, Any]:
        listed = self.control.get(f"/api/v1/{resource}?limit=1000")["items"]
        (found,) = [item for item in listed if item["name"] == name]
        return dict(found)

    # --- agents ----------------------------------------------------------------------

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return what the public client is told of the agents of a name."""
        return list(self.control.get(f"{LIST}?name={name}"))

    def row(self, name: str) -> dict[str, Any]:
        (row,) = self.rows(name)
        return row

    def stopped(self, name: str) -> None:
        """Return once an experiment that was asked to stop is Stopped."""
        path = f"/api/v1/experiments/{self.id_of(name)}"
        eventually(
            lambda: self.control.get(path)["status"] == "Stopped",
            what=f"{name} is Stopped",
        )

    def deployed(self, name: str) -> dict[str, Any]:
        """Return the row of an agent once it is Deployed."""

        def look() -> dict[str, Any] | None:
            row = self.row(name)
            assert row["status"] != "Failed", row
            return row if row["status"] == "Deployed" else None

        return eventually(look, what=f"{name} is Deployed")

    def agent_of(self, name: str) -> str:
        """Return the id by which `/api/v1` knows the agent of a name."""
        return str(self._of(name, "agents")["id"])

    def agent(self, experiment: str, *, name: str | None = None) -> str:
        """Freeze the final checkpoint as an agent; return its name."""
        return str(self._frozen(experiment, name)["name"])

    def live(self, experiment: str, *, name: str | None = None) -> str:
        """Return the name of an agent of the experiment that answers."""
        made = self._frozen(experiment, name)
        connect(self.control, made["id"])
        return str(made["name"])

    def _frozen(self, experiment: str, name: str | None) -> dict[str, Any]:
        asked = {
            "name": name or a_name("agent"),
            "experiment_id": self.id_of(experiment),
            "checkpoint": {"type": "final"},
        }
        return dict(self.control.post("/api/v1/agents", asked))

    def act(self, name: str, verb: str) -> dict[str, Any]:
        return dict(self.control.post(f"/api/v1/agents/{self.agent_of(name)}/{verb}"))

    def delete(self, name: str) -> None:
        path = f"/api/v1/agents/{self.agent_of(name)}"
        self.control.ask("DELETE", path).expect(200)


@contextmanager
def platform_in(folder: Path) -> Iterator[Platform]:
    """Give a server on which trainings go on until they are stopped, or it is gone."""
    goes_on, program = folder / "goes-on", folder / "python"
    goes_on.touch()
    program.write_text(f"#!/bin/sh\nwhile test -e '{goes_on}'; do sleep 0.2; done\n")
    program.chmod(0o700)
    # No caller here is in a hurry, and the machine may be busy.
    environ = {"ARENA_AGILERL_PYTHON": str(program), "ARENA_DEADLINE_MS": "20000"}
    try:
        with serving(Place(folder), environ=environ) as process:
            yield Platform(process, process.client())
    finally:
        goes_on.unlink()


def balancer(folder: Path) -> Path:
    return bundles.cartpole(folder, network=bundles.BALANCER)
