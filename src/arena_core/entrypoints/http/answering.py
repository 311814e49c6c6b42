"""The one way in which every endpoint of the control plane is answered.

Authorisation follows the matched route, never the text of a URL.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import anyio
from attrs import field, frozen
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from arena_core.application.callers import require_role, require_same
from arena_core.domain.errors import ArenaError, Unauthenticated
from arena_core.domain.values import Caller, Role
from arena_core.entrypoints.http import bodies, tracing
from arena_core.entrypoints.http.endpoints import (
    LONGEST_WAIT_S,
    Endpoint,
    Public,
    Reply,
)
from arena_core.entrypoints.http.errors import problem, without_frames
from arena_core.entrypoints.http.failures import FailedAuthentications
from arena_core.entrypoints.http.idempotency import HEADER, Running, parsed_key
from arena_core.entrypoints.http.parsed_requests import (
    ParsedRequest,
    authenticated,
    parsed,
)
from arena_core.entrypoints.http.representations import represented
from arena_core.entrypoints.library import Arena

POLL_S = 0.01


@frozen
class Answering:
    """How one endpoint is answered, for one event loop."""

    endpoint: Endpoint
    arena: Arena
    _running: Running = field(factory=Running, init=False)

    def route(self) -> Route:
        """Return the Starlette route that answers the endpoint."""
        endpoint = self.endpoint
        name = f"{endpoint.method} {endpoint.path}"
        return Route(endpoint.path, self._timed, methods=[endpoint.method], name=name)

    async def _timed(self, request: Request) -> Response:
        begun = time.perf_counter()
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR
        if (traced := tracing.current()) is not None:
            traced.route = self.endpoint.path
        try:
            response = await self._answered(request)
            status = response.status_code
        except ClientDisconnect:
            status = HTTPStatus.BAD_REQUEST
            raise
        finally:
            seconds = time.perf_counter() - begun
            telemetry = self.arena.application.telemetry
            telemetry.handled(request.method, self.endpoint.path, status, seconds)
        return response

    async def _answered(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except Unauthenticated as error:
            failures: FailedAuthentications = request.app.state.failures
            judged = failures.judge(without_frames(error), request.scope)
            return problem(judged, self.endpoint.path)
        except ArenaError as error:
            return problem(without_frames(error), self.endpoint.path)

    async def _answer(self, request: Request) -> Response:
        caller = await self._authorised(request)
        asked = await run_in_threadpool(
            parsed, self.endpoint, self.arena, request, caller
        )
        async with self._body(request, asked.call.query) as body:
            if self.endpoint.method != "GET":
                # A body takes its time: the rights may have gone meanwhile.
                require_same(caller, await self._authorised(request))
            asked = asked.with_body(body)
            if self.endpoint.takes_key:
                return await self._once(request, asked)
            return await self._finish(request, asked)

    async def _authorised(self, request: Request) -> Caller:
        """Return who asks.  Raises `Unauthenticated` or `Forbidden`."""
        if isinstance(self.endpoint.needs, Public):
            return self.arena.anonymous
        return await run_in_threadpool(self._authorise, self.endpoint.needs, request)

    def _authorise(self, needs: Role, request: Request) -> Caller:
        caller = authenticated(self.arena, request)
        if (traced := tracing.current()) is not None:
            traced.caller = caller
        require_role(caller, needs)
        return caller

    @asynccontextmanager
    async def _body(self, request: Request, query: object) -> AsyncIterator[Any]:
        endpoint, settings = self.endpoint, self.arena.settings
        if endpoint.upload:
            single = endpoint.single(query)
            async with bodies.uploaded(request, self.arena, single) as folder:
                yield folder
            return
        parse = bodies.parse_form if endpoint.form else bodies.parse_body
        yield await parse(
            request,
            endpoint.body,
            limit_bytes=endpoint.limit_bytes(settings.max_body_bytes),
            timeout_s=settings.body_timeout_s,
        )

    async def _once(self, request: Request, asked: ParsedRequest) -> Response:
        """Do what is asked for, and only once under one idempotency key."""
        text = parsed_key(request.headers.getlist(HEADER))
        if text is None:
            return await self._finish(request, asked)
        key = asked.key(self.endpoint.method, text)
        with self._running.only(key.request_id):
            first = await run_in_threadpool(asked.under, key)
            try:
                return await self._finish(request, first)
            except ArenaError:
                if not first.session.attempt.is_open:
                    raise
                again = await run_in_threadpool(asked.under, key)
                if again.session.attempt.is_open:
                    raise
            # Another process was faster, and has done it.
            return await self._finish(request, again)

    async def _finish(self, request: Request, asked: ParsedRequest) -> Response:
        handle = partial(self.endpoint.handle, asked.call)
        reply, response = await run_in_threadpool(self._replied, asked, handle)
        if reply.goes_on is not None:
            assert isinstance(self.endpoint.needs, Role)  # noqa: S101 -- what strangers may see does not go on
            again = partial(self._authorise, self.endpoint.needs, request)
            return await reply.goes_on(request, again)
        if reply.until is None:
            return response
        settled = partial(self._settled, asked, reply.until)
        asked.session.attempt.look_at_the_present()
        with anyio.move_on_after(min(reply.wait_s, LONGEST_WAIT_S)):
            while (found := await run_in_threadpool(settled)) is None:  # noqa: ASYNC110 -- another process may settle it
                await anyio.sleep(POLL_S)
            return found
        return response

    def _replied(
        self, asked: ParsedRequest, handle: Callable[[], Reply]
    ) -> tuple[Reply, Response]:
        seen = asked.seen()
        reply = handle()
        return reply, represented(self.endpoint, asked, reply, seen)

    def _settled(
        self, asked: ParsedRequest, until: Callable[[], Reply | None]
    ) -> Response | None:
        seen = asked.seen()
        reply = until()
        return None if reply is None else represented(self.endpoint, asked, reply, seen)
