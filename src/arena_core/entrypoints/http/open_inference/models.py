"""Which agent a model's name means, and to whom."""

import hmac
from contextlib import suppress
from functools import lru_cache
from uuid import UUID

from attrs import frozen
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from arena_core.application.callers import require_role
from arena_core.application.keys import PREFIX
from arena_core.application.ports import Row, RowReader
from arena_core.application.serving import Live
from arena_core.domain import agent, deployment
from arena_core.domain.errors import (
    Forbidden,
    NotFound,
    Rejected,
    Unauthenticated,
)
from arena_core.domain.ids import AgentId, deployment_of
from arena_core.domain.values import Caller, Role, shown
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

    @property
    def member(self) -> Caller:
        """The caller, who may give orders.  Raises `Forbidden` for a key."""
        if self.caller is None:
            raise Forbidden("A deployment's key only calls it: use an access token.")
        return self.caller


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
            live = self._live(named) or await self.plane.arriving(named)
            await self.plane.authorise(live, scope)
            return Asker(None, live)
        caller = await self.plane.caller(token, scope)
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
