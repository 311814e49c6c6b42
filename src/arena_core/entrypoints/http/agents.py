"""/api/v1/agents."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Literal
from uuid import UUID

import msgspec
from attrs import evolve

from arena_core.application.agents import is_pending
from arena_core.application.freezing import SourceView
from arena_core.application.resources import AccessView, AgentView
from arena_core.application.session import Page
from arena_core.domain.values import CheckpointChoice, CheckpointType, Role
from arena_core.entrypoints.http.endpoints import (
    Call,
    Endpoint,
    Listed,
    Listing,
    ListOf,
    Nothing,
    Past,
    Reply,
)

PATH = "/api/v1/agents"
Kinds = Literal["classic", "advanced"]


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["best", "final", "specific"]
    step: int | None = None


class AgentCreation(msgspec.Struct, forbid_unknown_fields=True):
    """`kind` left out: decided by the experiment's source."""

    name: str
    experiment_id: UUID
    checkpoint: Choice
    description: str = ""
    kind: Kinds | None = None


class AgentEdit(msgspec.Struct, forbid_unknown_fields=True):
    """null, or left out: unchanged."""

    name: str | None = None
    description: str | None = None


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    """Why, for those who read the log later."""

    reason: str | None = None


class AgentFilter(Listing, kw_only=True):
    kind: Kinds | None = None
    name: str | None = None
    experiment_id: UUID | None = None


class SourceFilter(Past, kw_only=True):
    kind: Kinds


class Wait(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`wait`: seconds to hold the answer until the agent is Deployed or Failed."""

    wait: float = 0.0


def addressed(call: Call, agent: AgentView) -> AgentView:
    """Return the agent with its URL, which it has while it is Deployed."""
    deployment = agent.deployment
    if deployment is None or not deployment.connected:
        return agent
    url = f"{call.base_url}/inference/{deployment.id}"
    return evolve(agent, deployment=evolve(deployment, url=url))


def _id(call: Call) -> UUID:
    agent_id: UUID = call.ids["agent_id"]
    return agent_id


def listed(call: Call) -> Reply:
    page = call.use.agents.list(
        kind=call.query.kind,
        name=call.query.name,
        experiment_id=call.query.experiment_id,
        paging=call.query.paging(),
    )
    return Reply(Listed.of(page, lambda agent: addressed(call, agent)))


def sources(call: Call) -> Reply:
    return Reply(Listed.of(Page(list(call.use.agents.sources(call.query.kind)))))


def create(call: Call) -> Reply:
    body: AgentCreation = call.body
    made = call.use.agents.create(
        body.name,
        body.experiment_id,
        checkpoint=CheckpointChoice(
            CheckpointType(body.checkpoint.type), body.checkpoint.step
        ),
        description=body.description,
        kind=body.kind,
    )
    where = f"{call.base_url}{PATH}/{made.id}"
    return Reply(addressed(call, made), HTTPStatus.CREATED, where)


def show(call: Call) -> Reply:
    return Reply(addressed(call, call.use.agents.get(_id(call))))


def edit(call: Call) -> Reply:
    edited = call.use.agents.edit(
        _id(call), name=call.body.name, description=call.body.description
    )
    return Reply(addressed(call, edited))


def delete(call: Call) -> Reply:
    call.use.agents.delete(_id(call), reason=call.body.reason)
    return Reply({})


def restore(call: Call) -> Reply:
    return Reply(
        addressed(call, call.use.agents.restore(_id(call), reason=call.body.reason))
    )


def connect(call: Call) -> Reply:
    asked = call.use.agents.connect(_id(call), reason=call.body.reason)

    def settled() -> Reply | None:
        agent = call.use.agents.get(_id(call))
        return None if is_pending(agent) else _connecting(call, agent)

    reply = _connecting(call, asked)
    if call.query.wait > 0 and is_pending(asked):
        return evolve(reply, until=settled, wait_s=call.query.wait)
    return reply


def _connecting(call: Call, agent: AgentView) -> Reply:
    status = HTTPStatus.ACCEPTED if is_pending(agent) else HTTPStatus.OK
    return Reply(addressed(call, agent), status, f"{call.base_url}{PATH}/{agent.id}")


def disconnect(call: Call) -> Reply:
    done = call.use.agents.disconnect(_id(call), reason=call.body.reason)
    return Reply(addressed(call, done))


def rotate_key(call: Call) -> Reply:
    done = call.use.agents.rotate_key(_id(call), reason=call.body.reason)
    return Reply(addressed(call, done))


def access(call: Call) -> Reply:
    view = call.use.agents.access(_id(call))
    agent = addressed(call, call.use.agents.get(_id(call)))
    url = None if agent.deployment is None else agent.deployment.url
    return Reply(evolve(view, endpoint=url), secret=True)


ONE = PATH + "/{agent_id}"


def _order(
    verb: str,
    handle: Callable[[Call], Reply],
    summary: str,
    query: type[msgspec.Struct] = Nothing,
    also: HTTPStatus | None = None,
) -> Endpoint:
    return Endpoint(
        "POST",
        f"{ONE}/{verb}",
        handle,
        Role.MEMBER,
        summary,
        AgentView,
        body=Reason,
        query=query,
        also=also,
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        PATH,
        listed,
        Role.VIEWER,
        "List the agents",
        ListOf(AgentView),
        query=AgentFilter,
    ),
    Endpoint(
        "POST",
        PATH,
        create,
        Role.MEMBER,
        "Freeze a checkpoint as an agent",
        AgentView,
        body=AgentCreation,
        status=HTTPStatus.CREATED,
    ),
    Endpoint(
        "GET",
        PATH + "/sources",
        sources,
        Role.VIEWER,
        "List the experiments that an agent of a kind can be made of",
        ListOf(SourceView),
        query=SourceFilter,
    ),
    Endpoint("GET", ONE, show, Role.VIEWER, "Show an agent", AgentView, query=Past),
    Endpoint(
        "PATCH", ONE, edit, Role.MEMBER, "Rename or describe", AgentView, body=AgentEdit
    ),
    Endpoint(
        "DELETE",
        ONE,
        delete,
        Role.MEMBER,
        "Delete an agent and its deployment",
        Nothing,
        body=Reason,
    ),
    Endpoint(
        "GET",
        ONE + "/access",
        access,
        Role.MEMBER,
        "Show how to call a Deployed agent, its key included",
        AccessView,
        query=Past,
    ),
    _order(
        "connect",
        connect,
        "Put the agent live",
        query=Wait,
        also=HTTPStatus.ACCEPTED,
    ),
    _order("disconnect", disconnect, "Take the agent off its endpoint"),
    _order("rotate-key", rotate_key, "Replace the deployment's key"),
    _order("restore", restore, "Undo a deletion"),
)
