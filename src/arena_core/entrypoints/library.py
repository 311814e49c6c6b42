"""The library: the same use cases as over HTTP, without HTTP.

with arena_core.open("arena.db") as arena:
    agent = arena.agents.create("balancer", experiment.id, checkpoint=best())
    arena.agents.connect(agent.id)
    action = arena.inference(agent.id).get_action(observation)
"""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import UUID

from attrs import frozen

from arena_core.application.agents import Agents
from arena_core.application.audit import Audit
from arena_core.application.deployments import Deployments
from arena_core.application.history import parse_moment
from arena_core.application.imports import Imports
from arena_core.application.invitations import Invitations
from arena_core.application.organisations import Organisations
from arena_core.application.pipelines import Pipelines
from arena_core.application.projects import Projects
from arena_core.application.resources import AgentView
from arena_core.application.supervision import Supervisor
from arena_core.application.tokens import Tokens
from arena_core.application.training import Training
from arena_core.application.use_cases import Application, UseCases
from arena_core.application.users import Users
from arena_core.domain.deployment import MemoryScope
from arena_core.domain.errors import Unavailable
from arena_core.domain.guards import Guard
from arena_core.domain.ids import DEFAULT_ORGANISATION, AgentId, OrganisationId
from arena_core.domain.swap import Shadow
from arena_core.domain.values import (
    LIBRARY,
    Actor,
    ActorKind,
    Caller,
    CheckpointChoice,
    Role,
)
from arena_core.entrypoints.library_experiments import LibraryExperiments
from arena_core.entrypoints.library_inference import Inference
from arena_core.entrypoints.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

CONNECT_TIMEOUT_S = 60.0


@frozen
class Uploads:
    """How an uploaded archive is unpacked, and where; None: the system's place."""

    unpack: Callable[[Path, Path], None]
    incoming: Path | None


class Arena:
    """An open store.  Close it, or use it as a context manager.

    While it is open (and unless it was opened with `serve=False`) it serves every
    Deployed agent in this process, and puts live whatever is Pending.
    """

    def __init__(
        self,
        application: Application,
        supervisor: Supervisor,
        settings: Settings,
        uploads: Uploads,
        resources: ExitStack,
    ) -> None:
        self.application = application
        self.settings = settings
        self.supervisor = supervisor
        self.unpack = uploads.unpack
        self._incoming = uploads.incoming
        self._resources = resources
        # Of no organisation, so that nothing of anybody's can be seen.
        self.anonymous = Caller(
            OrganisationId(""), Actor(ActorKind.SYSTEM, "anonymous"), Role.VIEWER
        )
        self._library = self.on_behalf_of(
            Caller(DEFAULT_ORGANISATION, LIBRARY, Role.MANAGER)
        )

    # --- use cases -----------------------------------------------------------------

    def __repr__(self) -> str:
        live = len(self.application.registry.all_live())
        return f"<Arena {self.settings.store}, serving {live} agents>"

    def on_behalf_of(self, caller: Caller, *, as_of: int | None = None) -> UseCases:
        """Return what `caller` can do, now or looking at a position of the past."""
        return self.application.on_behalf_of(caller, as_of=as_of)

    def at(self, moment: int | str | datetime) -> UseCases:
        """Return the library's use cases as of a position or a time: read only.

        Raises `Rejected` for what is still to come.
        """
        core = self.application.core
        position = parse_moment(core.store, moment, now=core.clock())
        return self.on_behalf_of(self._library.session.caller, as_of=position)

    @property
    def projects(self) -> Projects:
        return self._library.projects

    @property
    def experiments(self) -> LibraryExperiments:
        return LibraryExperiments(self._library.session, self._library.imports)

    @property
    def training(self) -> Training:
        return self._library.training

    @property
    def pipelines(self) -> Pipelines:
        return self._library.pipelines

    @property
    def imports(self) -> Imports:
        return self._library.imports

    @property
    def agents(self) -> "LibraryAgents":
        agents = self._library.agents
        return LibraryAgents(agents.session, agents.registry, agents.keys)

    @property
    def deployments(self) -> Deployments:
        return self._library.deployments

    @property
    def tokens(self) -> Tokens:
        return self._library.tokens

    @property
    def users(self) -> Users:
        return self._library.users

    @property
    def organisations(self) -> Organisations:
        return self._library.organisations

    @property
    def invitations(self) -> Invitations:
        return self._library.invitations

    @property
    def audit(self) -> Audit:
        return self._library.audit

    def inference(
        self, agent_id: UUID, *, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> Inference:
        """Return the agent's inference, once it is live.

        Raises `Unavailable` if it is not Deployed, saying why.
        """
        found = self.agents.wait(agent_id, timeout_s=timeout_s)
        inference = Inference(self.application.registry, AgentId(agent_id))
        state = found.deployment
        if state is None or not state.connected:
            status = "Undeployed" if state is None else state.status.value
            why = "" if state is None or state.reason is None else f" {state.reason}"
            raise Unavailable(f"The agent is {status}, so it does not answer.{why}")
        inference.wait(timeout_s)
        return inference

    def asgi(self) -> "Starlette":
        """Return the whole HTTP API as an app; mountable under a prefix."""
        from arena_core.entrypoints.http.app import build_app  # noqa: PLC0415 -- the library needs no HTTP until here

        return build_app(self)

    # --- life ----------------------------------------------------------------------

    def close(self) -> None:
        """Cease to serve and free everything.  Safe to call twice."""
        # Its last figures are posted while it is still known to be alive.
        self.application.metering.stop()
        try:
            self.supervisor.stop()
        finally:
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def scratch(self) -> "tempfile.TemporaryDirectory[str]":
        """Return a new folder for an upload, on the same disk as the checkpoints."""
        return tempfile.TemporaryDirectory(prefix="upload-", dir=self._incoming)


@frozen
class LibraryAgents(Agents):
    """Agents, with orders that wait until they are carried out."""

    def connect(
        self,
        agent_id: UUID,
        *,
        memory_scope: MemoryScope | str | None = None,
        reason: str | None = None,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> AgentView:
        """Put the agent live and return it, Deployed, or Failed with the reason."""
        super().connect(agent_id, memory_scope=memory_scope, reason=reason)
        return self.wait(agent_id, timeout_s=timeout_s)

    def redeploy(  # noqa: PLR0913 -- what an order to swap says
        self,
        agent_id: UUID,
        *,
        checkpoint: CheckpointChoice,
        guard: Guard | None = None,
        shadow: Shadow | None = None,
        reason: str | None = None,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> AgentView:
        """Swap the checkpoint and return the agent once that is done, or has failed.

        Baking only begins then: `deployment.swap` says so.
        """
        super().redeploy(
            agent_id, checkpoint=checkpoint, guard=guard, shadow=shadow, reason=reason
        )
        return self.wait(agent_id, timeout_s=timeout_s)

    def rollback(
        self,
        agent_id: UUID,
        *,
        to: str | None = None,
        reason: str | None = None,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> AgentView:
        """Go back to an earlier checkpoint; return the agent once that is done."""
        super().rollback(agent_id, to=to, reason=reason)
        return self.wait(agent_id, timeout_s=timeout_s)
