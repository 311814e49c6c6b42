"""/api/cli/v1/inference."""

from datetime import datetime

import msgspec
from attrs import converters, field, frozen

from arena_core.application.deployments import DeploymentEntry
from arena_core.domain.values import Role
from arena_core.entrypoints.http.agents import Scopes, url_of
from arena_core.entrypoints.http.arena_cli.rows import printable
from arena_core.entrypoints.http.endpoints import Call, Endpoint, Past, Reply
from arena_core.entrypoints.http.fields import Name

PATH = "/api/cli/v1/inference"


class DeployOrder(msgspec.Struct, forbid_unknown_fields=True):
    """`checkpoint`: best, final, a step or a digest; null for the best there is."""

    experiment_name: Name
    checkpoint: str | int | None = None
    memory_scope: Scopes | None = msgspec.field(default=None, name="memoryScope")


class DeploymentFilter(Past, kw_only=True):
    """Exact names; blank ones filter nothing."""

    name: str | None = None
    experiment_name: str | None = msgspec.field(default=None, name="experimentName")
    project_name: str | None = msgspec.field(default=None, name="projectName")


class DeploymentName(DeploymentFilter, kw_only=True):
    name: Name


@frozen
class Spec:
    """Where the first clients look for the URL."""

    url: str | None


@frozen(slots=False)
class DeploymentRow:
    """`url` and `api_key` are null until it is Deployed."""

    id: str
    name: str = field(converter=printable)
    experiment_name: str = field(converter=printable)
    project_name: str | None = field(converter=converters.optional(printable))
    algorithm: str = field(converter=printable)
    status: str
    connected: bool
    memory_scope: str
    url: str | None
    api_key: str | None = field(repr=False)
    spec: Spec
    created_at: datetime


def _row(call: Call, entry: DeploymentEntry) -> DeploymentRow:
    agent, deployment = entry.agent, entry.deployment
    url = url_of(call, deployment)
    return DeploymentRow(
        id=str(deployment.id),
        name=agent.name,
        experiment_name=agent.experiment_name,
        project_name=entry.project_name,
        algorithm=agent.algorithm,
        status=deployment.status.value,
        connected=deployment.connected,
        memory_scope=deployment.memory_scope.value,
        url=url,
        api_key=entry.api_key,
        spec=Spec(url),
        created_at=agent.created_at,
    )


def deploy(call: Call) -> Reply:
    body: DeployOrder = call.body
    entry = call.use.deployments.deploy(
        body.experiment_name,
        checkpoint=None if body.checkpoint is None else str(body.checkpoint),
        memory_scope=body.memory_scope,
    )
    return Reply(_row(call, entry), secret=True)


def listed(call: Call) -> Reply:
    query: DeploymentFilter = call.query
    entries = call.use.deployments.list(
        name=query.name, experiment=query.experiment_name, project=query.project_name
    )
    return Reply([_row(call, entry) for entry in entries], secret=True)


def one(call: Call) -> Reply:
    query: DeploymentName = call.query
    entry = call.use.deployments.one(
        query.name, experiment=query.experiment_name, project=query.project_name
    )
    return Reply(_row(call, entry), secret=True)


ENDPOINTS = (
    Endpoint(
        "POST",
        PATH + "/deploy",
        deploy,
        Role.MEMBER,
        "Put a checkpoint of an experiment live, at the same URL as before",
        DeploymentRow,
        body=DeployOrder,
    ),
    Endpoint(
        "GET",
        PATH + "/deployments/list",
        listed,
        Role.VIEWER,
        "List the deployments",
        list[DeploymentRow],
        query=DeploymentFilter,
    ),
    Endpoint(
        "GET",
        PATH + "/deployments/one",
        one,
        Role.VIEWER,
        "Show the one deployment of a name",
        DeploymentRow,
        query=DeploymentName,
    ),
)
