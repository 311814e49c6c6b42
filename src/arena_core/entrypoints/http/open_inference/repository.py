"""The model repository: which agents there are, and putting them live or taking off."""

from collections import Counter
from typing import Any

import anyio
import msgspec
from starlette.concurrency import run_in_threadpool

from arena_core.application.agents import Agents
from arena_core.application.ports import Row
from arena_core.application.resources import AgentView, DeploymentView
from arena_core.application.serving import Live
from arena_core.domain.deployment import Status
from arena_core.domain.errors import Rejected, Unavailable
from arena_core.entrypoints.http.endpoints import LONGEST_WAIT_S
from arena_core.entrypoints.http.inference import NOT_YET, POLL_S
from arena_core.entrypoints.http.open_inference.models import (
    VERSION_LENGTH,
    Asker,
    version_of,
)
from arena_core.entrypoints.library import Arena

READY = "READY"
STATES = {
    Status.DEPLOYED: READY,
    Status.PENDING: "LOADING",
    Status.FAILED: "UNAVAILABLE",
    Status.UNDEPLOYED: "UNAVAILABLE",
}


class Filter(msgspec.Struct):
    """The body of `index`."""

    ready: bool = False


class Order(msgspec.Struct):
    """The body of `load` and `unload`."""

    parameters: dict[str, Any] | None = None


class Entry(msgspec.Struct):
    """What the index says of one agent."""

    name: str
    version: str
    state: str
    reason: str = ""


def index(arena: Arena, asker: Asker, wanted: Filter) -> list[Entry]:
    """Return the models that the asker may call."""
    if asker.caller is None:
        return [_of_key(arena, asker.live)]
    agents = arena.on_behalf_of(asker.caller).agents.list()
    how_many = Counter(agent.name for agent in agents)
    entries = [_entry(agent, how_many[agent.name] == 1) for agent in agents]
    return [each for each in entries if each.state == READY or not wanted.ready]


async def load(agents: Agents, found: Row, order: Order) -> None:
    """Put the agent live.  Raises `Unavailable` if it does not come to that."""
    if order.parameters:
        raise Rejected(
            "A model is loaded as its agent says: leave the parameters out, and "
            "redeploy the agent to have another checkpoint.",
            field="parameters",
        )
    agent = await run_in_threadpool(agents.connect, found.id)
    with anyio.move_on_after(LONGEST_WAIT_S):
        while (settled := await run_in_threadpool(agents.settled, found.id)) is None:  # noqa: ASYNC110 -- another process may settle it
            await anyio.sleep(POLL_S)
        agent = settled
    _check_live(agent.deployment)


async def unload(agents: Agents, found: Row) -> None:
    """Take the agent off its endpoint."""
    await run_in_threadpool(agents.disconnect, found.id)


def _check_live(deployment: DeploymentView | None) -> None:
    if deployment is None or deployment.status is Status.PENDING:
        raise Unavailable(NOT_YET)
    if deployment.status is not Status.DEPLOYED:
        why = deployment.reason or ""
        raise Unavailable(f"The agent is {deployment.status.value}. {why}".strip())


def _of_key(arena: Arena, live: Live) -> Entry:
    row = arena.application.core.views.rows.get(live.agent_id)
    name = str(live.agent_id) if row is None or row.name is None else row.name
    return Entry(name, version_of(live), READY)


def _entry(agent: AgentView, is_unique: bool) -> Entry:  # noqa: FBT001 -- its name
    """Return what is said of an agent, under a name that means it alone."""
    name, state = agent.name if is_unique else str(agent.id), agent.deployment
    version = agent.checkpoint.digest[:VERSION_LENGTH]
    if state is None:
        return Entry(name, version, STATES[Status.UNDEPLOYED])
    return Entry(name, version, STATES[state.status], state.reason or "")
