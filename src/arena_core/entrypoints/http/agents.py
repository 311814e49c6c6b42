"""/api/v1/agents."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, TypeVar
from uuid import UUID

import msgspec
from attrs import evolve

from arena_core.application.callees import callee
from arena_core.application.contents import Contents
from arena_core.application.freezing import SourceView
from arena_core.application.resources import AccessView, AgentView, DeploymentView
from arena_core.application.session import Page
from arena_core.domain.errors import Rejected
from arena_core.domain.guards import Guard
from arena_core.domain.ids import deployment_of
from arena_core.domain.swap import Shadow
from arena_core.domain.values import CheckpointChoice, CheckpointType, Role
from arena_core.entrypoints.http.awaiting import Wait, awaited
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
from arena_core.entrypoints.http.examples import examples
from arena_core.entrypoints.http.fields import Description, Name, Step
from arena_core.entrypoints.http.preconditions import Versioned

PATH = "/api/v1/agents"
AGENT = Versioned("agent", lambda agent_id: (agent_id, deployment_of(agent_id)))
Kinds = Literal["classic", "advanced"]
Scopes = Literal["user", "organization"]
Value = TypeVar("Value")


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["best", "final", "specific"]
    step: Step | None = None

    def chosen(self) -> CheckpointChoice:
        return CheckpointChoice(CheckpointType(self.type), self.step)


class AgentCreation(msgspec.Struct, forbid_unknown_fields=True):
    """`kind` left out: decided by the experiment's source.

    `memory_scope` is for a classic agent: another has its deployment by Connect.
    """

    name: Name
    experiment_id: UUID
    checkpoint: Choice
    description: Description = ""
    kind: Kinds | None = None
    memory_scope: Scopes | None = None


class AgentEdit(msgspec.Struct, forbid_unknown_fields=True):
    """null, or left out: unchanged."""

    name: Name | None = None
    description: Description | None = None


class Reason(msgspec.Struct, forbid_unknown_fields=True):
    """Why, for those who read the log later."""

    reason: str | None = None


class Connection(Reason, kw_only=True):
    """`memory_scope`: of a deployment that this makes, for ever; left out: user."""

    memory_scope: Scopes | None = None


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    """When a swap comes undone by itself.  null, or left out: not limited."""

    bake_s: float
    error_rate: float | None = None
    p99_ms: float | None = None
    mask_violation_rate: float | None = None
    action_shift: float | None = None


class Comparison(msgspec.Struct, forbid_unknown_fields=True):
    """For how long the checkpoint is asked beside the one that answers."""

    bake_s: float


class Redeployment(msgspec.Struct, forbid_unknown_fields=True):
    """At most one of `guard` and `shadow`."""

    checkpoint: Choice
    guard: Limits | None = None
    shadow: Comparison | None = None
    reason: str | None = None


class Return(msgspec.Struct, forbid_unknown_fields=True):
    """`to`: the digest of an earlier checkpoint; left out: the one before."""

    to: str | None = None
    reason: str | None = None


class AgentFilter(Listing, kw_only=True):
    kind: Kinds | None = None
    name: str | None = None
    experiment_id: UUID | None = None


class SourceFilter(Past, kw_only=True):
    kind: Kinds


def url_of(call: Call, deployment: DeploymentView) -> str | None:
    """Return where the deployment answers, which it does while it is Deployed."""
    if not deployment.connected:
        return None
    return f"{call.base_url}/inference/{deployment.id}"


def addressed(call: Call, agent: AgentView) -> AgentView:
    """Return the agent with the URL of its deployment."""
    deployment = agent.deployment
    if deployment is None:
        return agent
    url = url_of(call, deployment)
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
        checkpoint=body.checkpoint.chosen(),
        description=body.description,
        kind=body.kind,
        memory_scope=body.memory_scope,
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
    body: Connection = call.body
    asked = call.use.agents.connect(
        _id(call), memory_scope=body.memory_scope, reason=body.reason
    )
    return _awaited(call, asked)


def redeploy(call: Call) -> Reply:
    body: Redeployment = call.body
    asked = call.use.agents.redeploy(
        _id(call),
        checkpoint=body.checkpoint.chosen(),
        guard=None if body.guard is None else _inside("guard", Guard, body.guard),
        shadow=None if body.shadow is None else _inside("shadow", Shadow, body.shadow),
        reason=body.reason,
    )
    return _awaited(call, asked)


def rollback(call: Call) -> Reply:
    asked = call.use.agents.rollback(
        _id(call), to=call.body.to, reason=call.body.reason
    )
    return _awaited(call, asked)


def _inside(name: str, cls: Callable[..., Value], body: msgspec.Struct) -> Value:
    """Return a value made of the fields of `body`, which is the member `name`."""
    try:
        return cls(**msgspec.structs.asdict(body))
    except Rejected as error:
        inner = f".{error.field}" if error.field not in (None, name) else ""
        raise Rejected(str(error), field=f"{name}{inner}") from error


def _awaited(call: Call, asked: AgentView) -> Reply:
    """Answer at once, or when nothing is under way, if the caller waits for that."""

    def settled() -> Reply | None:
        agent = call.use.agents.settled(_id(call))
        return None if agent is None else _located(call, agent, HTTPStatus.OK)

    # However it looks: until it is settled, some process may answer as before.
    return awaited(call, _located(call, asked, HTTPStatus.ACCEPTED), settled)


def _located(call: Call, agent: AgentView, status: HTTPStatus) -> Reply:
    return Reply(addressed(call, agent), status, f"{call.base_url}{PATH}/{agent.id}")


def disconnect(call: Call) -> Reply:
    done = call.use.agents.disconnect(_id(call), reason=call.body.reason)
    return Reply(addressed(call, done))


def rotate_key(call: Call) -> Reply:
    done = call.use.agents.rotate_key(_id(call), reason=call.body.reason)
    return Reply(addressed(call, done))


def contents(call: Call) -> Reply:
    return Reply(call.use.agents.contents(_id(call)))


def access(call: Call) -> Reply:
    view = call.use.agents.access(_id(call))
    agent = addressed(call, call.use.agents.get(_id(call)))
    deployment = agent.deployment
    if deployment is None or deployment.url is None:  # taken off it meanwhile
        return Reply(view, secret=True)
    shown = examples(
        callee(call.use.agents.session, agent, deployment.digest),
        endpoint=deployment.url,
        base_url=call.base_url,
        api_key=view.api_key,
    )
    return Reply(evolve(view, endpoint=deployment.url, examples=shown), secret=True)


ONE = PATH + "/{agent_id}"


def _order(
    verb: str,
    handle: Callable[[Call], Reply],
    summary: str,
    body: type[msgspec.Struct] = Reason,
    query: type[msgspec.Struct] = Nothing,
) -> Endpoint:
    # What one may wait for is answered before it is done, by those who do not.

    return Endpoint(
        "POST",
        f"{ONE}/{verb}",
        handle,
        Role.MEMBER,
        summary,
        AgentView,
        body=body,
        query=query,
        also=HTTPStatus.ACCEPTED if query is Wait else None,
        versioned=AGENT,
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
        versioned=AGENT,
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
    Endpoint(
        "GET",
        ONE,
        show,
        Role.VIEWER,
        "Show an agent",
        AgentView,
        query=Past,
        versioned=AGENT,
    ),
    Endpoint(
        "PATCH",
        ONE,
        edit,
        Role.MEMBER,
        "Rename or describe",
        AgentView,
        body=AgentEdit,
        versioned=AGENT,
    ),
    Endpoint(
        "DELETE",
        ONE,
        delete,
        Role.MEMBER,
        "Delete an agent and its deployment",
        Nothing,
        body=Reason,
        versioned=AGENT,
    ),
    Endpoint(
        "GET",
        ONE + "/checkpoint",
        contents,
        Role.VIEWER,
        "Show what the bundle of the agent's checkpoint says of itself",
        Contents,
        query=Past,
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
        body=Connection,
        query=Wait,
    ),
    _order(
        "redeploy",
        redeploy,
        "Give the agent another checkpoint of its experiment",
        body=Redeployment,
        query=Wait,
    ),
    _order(
        "rollback",
        rollback,
        "Give the agent back an earlier checkpoint",
        body=Return,
        query=Wait,
    ),
    _order("disconnect", disconnect, "Take the agent off its endpoint"),
    _order("rotate-key", rotate_key, "Replace the deployment's key"),
    _order("restore", restore, "Undo a deletion"),
)
