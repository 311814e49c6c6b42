"""The whole HTTP API as one Starlette app, built from one table of endpoints."""

from functools import cache, partial
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from arena_core.domain.release import VERSION
from arena_core.entrypoints.http import (
    agents,
    arena_cli,
    events,
    experiment_metrics,
    experiment_training,
    experiments,
    health,
    imports,
    invitations,
    login,
    metrics,
    openapi,
    organisations,
    pipelines,
    projects,
    stages,
    tokens,
    users,
)
from arena_core.entrypoints.http.answering import Answering
from arena_core.entrypoints.http.arena_cli import out_of_scope
from arena_core.entrypoints.http.endpoints import (
    PUBLIC,
    Call,
    Endpoint,
    Reply,
    path_of,
)
from arena_core.entrypoints.http.errors import HIDDEN, log, respond
from arena_core.entrypoints.http.feed import Feed
from arena_core.entrypoints.http.hosts import Hosts, Objection
from arena_core.entrypoints.http.inference import DataPlane
from arena_core.entrypoints.http.open_inference import OpenInference
from arena_core.entrypoints.http.tracing import traced
from arena_core.entrypoints.library import Arena

CONTROL_PLANE = (
    *projects.ENDPOINTS,
    *experiments.ENDPOINTS,
    *experiment_metrics.ENDPOINTS,
    *experiment_training.ENDPOINTS,
    *imports.ENDPOINTS,
    *agents.ENDPOINTS,
    *pipelines.ENDPOINTS,
    *stages.ENDPOINTS,
    *tokens.ENDPOINTS,
    *users.ENDPOINTS,
    *organisations.ENDPOINTS,
    *invitations.ENDPOINTS,
    *login.ENDPOINTS,
    *events.ENDPOINTS,
    *health.ENDPOINTS,
    *metrics.ENDPOINTS,
    *arena_cli.ENDPOINTS,
)


class App(Starlette):
    """The whole API.  Calls of the data plane do not pass through the router."""

    data_plane: DataPlane
    open_inference: OpenInference
    feed: Feed
    hosts: Hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, method = path_of(scope), scope["method"]
            objection = self.hosts.objection(method, path, scope["headers"])
            if objection is not None:
                await traced(partial(self._refuse, objection), scope, receive, send)
                return
            if self.data_plane.serves(scope):
                await self.data_plane(scope, receive, send)
                return
            if self.open_inference.serves(scope):
                await self.open_inference(scope, receive, send)
                return
            await traced(super().__call__, scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    async def _refuse(
        self, objection: Objection, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request that is not even looked at."""
        status = objection.status
        self.state.telemetry.handled(scope["method"], "", status, 0.0)
        refused = respond(path_of(scope), status, objection.detail, code=objection.code)
        await refused(scope, receive, send)


def build_app(arena: Arena) -> App:
    """Return the app.  It needs no lifespan, so that it can be mounted anywhere."""
    endpoints = (*CONTROL_PLANE, _openapi())
    app = App(
        routes=[Answering(endpoint, arena).route() for endpoint in endpoints],
        exception_handlers={
            HTTPException: _http_error,
            ClientDisconnect: _nobody,
            Exception: _defect,
        },
    )
    # An address that nobody declared is not there, rather than somewhere else.
    app.router.redirect_slashes = False
    app.data_plane = DataPlane(arena)
    app.open_inference = OpenInference(arena, app.data_plane)
    app.hosts = Hosts.of(arena.settings)
    app.feed = Feed(arena.application.core.store, arena.settings.max_streams)
    app.state.telemetry = arena.application.telemetry
    app.state.failures = app.data_plane.failures
    app.state.feed = app.feed
    return app


def _openapi() -> Endpoint:
    @cache
    def document() -> dict[str, Any]:
        """Made once: anybody may ask for it, and it takes its time."""
        return openapi.document((*CONTROL_PLANE, described), VERSION)

    def show(call: Call) -> Reply:
        # Its paths are below whatever the app is mounted under.
        return Reply({**document(), "servers": [{"url": call.base_url}]})

    described = Endpoint(
        "GET", "/openapi.json", show, PUBLIC, "This document", dict[str, Any]
    )
    return described


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    path = path_of(request.scope)
    nothing = out_of_scope.absence(path) or "There is nothing at this address."
    detail = {
        HTTPStatus.NOT_FOUND: nothing,
        HTTPStatus.METHOD_NOT_ALLOWED: "This address does not take this method.",
    }.get(status, status.phrase)
    # No route has answered, and so none has counted it; to find that out is quick.
    request.app.state.telemetry.handled(request.method, "", status, 0.0)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request)
    return respond(path, status, detail, code=status.name, headers=headers)


def _allowed(request: Request) -> str:
    """Return all methods of the address: each is a route of its own."""
    routes: list[BaseRoute] = request.app.routes
    methods = {
        method
        for route in routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is Match.PARTIAL
        for method in route.methods or ()
    }
    return ", ".join(sorted(methods))


async def _nobody(request: Request, error: Exception) -> Response:
    """Answer a caller who has left: no defect, and nobody to read it."""
    del request, error
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _defect(request: Request, error: Exception) -> Response:
    log.error("Defect at %s", request.scope["path"], exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return respond(path_of(request.scope), status, HIDDEN, code=status.name)
