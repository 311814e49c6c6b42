"""Which agent a model's name means, and to whom."""

import hmac
from contextlib import suppress
from functools import lru_cache, partial
from uuid import UUID

from attrs import evolve, frozen
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from arena_core.application.attempts import Attempt
from arena_core.application.callers import REFUSAL, latest, require_role, unchanged
from arena_core.application.keys import PREFIX
from arena_core.application.ports import Row, RowReader
from arena_core.application.serving import Live
from arena_core.application.use_cases import UseCases
from arena_core.domain import agent, deployment
from arena_core.domain.errors import (
    Forbidden,
    NotFound,
    Rejected,
    Unauthenticated,
)
from arena_core.domain.ids import AgentId, DeploymentId, deployment_of
from arena_core.domain.values import Caller, Role, shown
from arena_core.entrypoints.http import tracing
from arena_core.entrypoints.http.endpoints import bearer
from arena_core.entrypoints.http.inference import (
    FOREIGN,
    DataPlane,
    deployment_in,
    header_of,
)
from arena_core.entrypoints.library import Arena

VERSION_LENGTH = 12
"""Characters of a digest that name a version, as in the metrics."""
KNOWN_NAMES = 1024
UNKNOWN = "There is no such model: name it by the id of an agent, or by its name."


@frozen
class Asker:
    """Who asks: a caller, or whoever bears the key of one deployment."""

    caller: Caller | None
    _live: Live | None = None

    @property
    def live(self) -> Live:
        """What the key is for."""
        assert self._live is not None  # noqa: S101 -- who is no caller has a key
        return self._live


@frozen(eq=False)
class Models:
    """Finds what is asked for; everything of others looks as if it were not there."""

    arena: Arena
    plane: DataPlane

    async def asker(self, scope: Scope) -> Asker:
        """Return who asks.  Raises `Unauthenticated`, or `Forbidden` for a viewer."""
        token = bearer(header_of(scope, b"authorization"))
        if token.startswith(PREFIX):
            named = deployment_in(token)
            if not named:
                raise Unauthenticated("The credential is no key: use a live one.")
            live = self._live(named)
            if live is None:
                await run_in_threadpool(self._check_key, UUID(named), token)
                live = await self.plane.arriving(named)
            await self.plane.authorise(live, scope)
            return Asker(None, live)
        caller = await run_in_threadpool(self.plane.authenticated, scope)
        require_role(caller, Role.MEMBER)
        return Asker(caller)

    async def live(self, name: str, scope: Scope) -> tuple[Live, Asker]:
        """Return what answers for a model, to a caller who may ask it."""
        known = self._known_by_id(name)
        if known is not None:
            authorization = header_of(scope, b"authorization")
            expected = known.authorization.encode()
            if hmac.compare_digest((authorization or "").encode(), expected):
                return known, Asker(None, known)
        asker = await self.asker(scope)
        found = await run_in_threadpool(self.agent, name, asker)
        deployment_id = str(deployment_of(AgentId(found.id)))
        live = self._live(deployment_id) or await self.plane.arriving(deployment_id)
        await self.plane.authorise(live, scope)
        return live, asker

    def member(self, asker: Asker, scope: Scope) -> UseCases:
        """Return what a member does, as long as they have the right to it.

        Raises `Forbidden` for a key, which gives no orders.
        """
        if asker.caller is None:
            raise Forbidden("A deployment's key only calls it: use an access token.")
        core, traced = self.arena.application.core, tracing.current()
        attempt = Attempt(
            None if traced is None else traced.traceparent,
            rights=partial(
                unchanged, core, asker.caller, partial(self.plane.authenticated, scope)
            ),
        )
        use = self.arena.on_behalf_of(asker.caller)
        return evolve(use, session=evolve(use.session, attempt=attempt))

    def agent(self, name: str, asker: Asker) -> Row:
        """Return the agent that `name` means: its id, its deployment's id, or its name.

        Raises `NotFound`, `Rejected` where several have the name, and `Forbidden`
        for a key that is another's.
        """
        if asker.caller is None:
            return self._of_key(name, asker.live)
        session = self.arena.on_behalf_of(asker.caller).session
        with suppress(ValueError, NotFound):
            return session.find(agent.KIND, _agent_id(session.rows, UUID(name)))
        fitting = session.query(agent.KIND, name=name)
        if len(fitting) > 1:
            raise Rejected(
                f"{len(fitting)} agents are called {shown(name)}: use the id of one.",
                field="model",
            )
        if not fitting:
            raise NotFound(UNKNOWN)
        return fitting[0]

    def _of_key(self, name: str, live: Live) -> Row:
        views = self.arena.application.core.views
        views.catch_up()
        row = views.rows.get(live.agent_id)
        ids = {str(live.agent_id), str(live.deployment_id)}
        if row is None or name not in {*ids, row.name}:
            raise Forbidden(FOREIGN)
        return row

    def _check_key(self, named: UUID, token: str) -> None:
        """Raise `Unauthenticated` unless it is the key of what is not live just now."""
        application = self.arena.application
        row = latest(application.core, named)
        if row is not None and row.kind == deployment.KIND:
            key = application.keys.issue(DeploymentId(row.id), row.state.key_version)
            if hmac.compare_digest(key.encode(), token.encode()):
                return
        raise Unauthenticated(REFUSAL)

    def _known_by_id(self, name: str) -> Live | None:
        """Return what is live under an id, which costs no look at the log."""
        return self._live(name) or self._live(_deployment_named(name))

    def _live(self, deployment_id: str) -> Live | None:
        return self.arena.application.registry.live(deployment_id)


@lru_cache(maxsize=KNOWN_NAMES)
def _deployment_named(name: str) -> str:
    """Return the deployment of the agent whose id `name` is; empty if it is none."""
    with suppress(ValueError):
        return str(deployment_of(AgentId(UUID(name))))
    return ""


def _agent_id(rows: RowReader, some_id: UUID) -> UUID:
    """Return the agent that a deployment is of; any other id as it is."""
    row = rows.get(some_id)
    if row is None or row.kind != deployment.KIND:
        return some_id
    state: deployment.Deployment = row.state
    return state.agent_id


def version_of(live: Live) -> str:
    """Return what the protocol calls the version: which weights answer."""
    return live.digest[:VERSION_LENGTH]


def check_version(live: Live, version: str) -> None:
    """Raise `NotFound` unless it is the one that answers; empty: any."""
    if version not in ("", version_of(live), live.digest):
        raise NotFound(
            f"This version of the model does not answer: {version_of(live)} does."
        )
