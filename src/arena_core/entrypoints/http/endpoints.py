"""What an endpoint is, and the one way in which every endpoint is answered.

An endpoint declares who may call it; there is no default, so nothing is open by
omission.  Authorisation follows the matched route, never the text of a URL.  Handlers
are plain functions: they run in a thread, with the body already parsed by its type.
"""

import re
import time
from collections.abc import Callable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any
from uuid import UUID

import anyio
import msgspec
from attrs import evolve, field, frozen
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from arena_core.application.history import parse_moment
from arena_core.application.identity import REFUSAL, authenticate
from arena_core.application.session import Page, Paging
from arena_core.application.use_cases import UseCases
from arena_core.domain.errors import (
    ArenaError,
    Flaw,
    Forbidden,
    NotFound,
    Rejected,
    Unauthenticated,
)
from arena_core.domain.values import Caller, Role
from arena_core.entrypoints.http import bodies
from arena_core.entrypoints.http.errors import problem
from arena_core.entrypoints.library import Arena

EXTERNAL_USER = "x-external-user-id"
JSON = "application/json"
LONGEST_WAIT_S = 60.0
POLL_S = 0.01
NUMBERS = frozenset({"step"})
"""The parameters of paths that are natural numbers; all others are ids."""
_NATURAL = re.compile(r"[0-9]{1,18}")


class Public(Enum):
    """The role of nobody: an endpoint that needs no credential says so with this."""

    PUBLIC = "public"


PUBLIC = Public.PUBLIC


class Past(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The query of every GET: as of a position of the log, or a time."""

    as_of: str | None = None


class Listing(Past, kw_only=True):
    """The query of every list."""

    limit: int = 100
    cursor: str | None = None

    def paging(self) -> Paging:
        if not 1 <= self.limit <= bodies.MOST_ITEMS:
            raise Rejected(
                f"limit must be between 1 and {bodies.MOST_ITEMS}.", field="limit"
            )
        if self.cursor is None:
            return Paging(0, self.limit)
        if not _NATURAL.fullmatch(self.cursor):
            raise Rejected(
                "cursor must be the next_cursor of an earlier answer.", field="cursor"
            )
        return Paging(int(self.cursor), self.limit)


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A query or body without any fields."""


@frozen
class Listed:
    """The body of every list."""

    items: list[Any]
    next_cursor: str | None

    @classmethod
    def of(
        cls, page: Page[Any], show: Callable[[Any], Any] = lambda item: item
    ) -> "Listed":
        cursor = None if page.next_after is None else str(page.next_after)
        return cls([show(item) for item in page.items], cursor)


@frozen
class ListOf:
    """What a list carries, for its description."""

    item: type


@frozen
class Call:
    """One authenticated request, parsed."""

    use: UseCases
    ids: dict[str, Any] = field(factory=dict)
    query: Any = None
    body: Any = None
    """An instance of the endpoint's body type, or the folder that was uploaded."""
    base_url: str = ""
    """How the caller reaches this API, without a trailing slash."""
    accept: str = ""
    """The media types that the caller says it takes."""


@frozen
class Reply:
    """What a handler answers: a resource, to be encoded as JSON, or bytes."""

    resource: Any
    status: HTTPStatus = HTTPStatus.OK
    location: str | None = None
    secret: bool = False
    """Whether it must not be stored anywhere on its way."""
    until: Callable[[], "Reply | None"] | None = None
    """Asked again and again until it returns a reply, which is then the answer."""
    wait_s: float = 0.0
    media_type: str = JSON
    """Of any other than JSON the resource is the body itself."""
    headers: Mapping[str, str] = field(factory=dict)


def _never(query: object) -> str | None:
    """Return how an upload that is no archive is called: it must be one."""
    del query
    return None


@frozen
class Endpoint:
    """One method of one path."""

    method: str
    path: str
    handle: Callable[[Call], Reply]
    needs: Role | Public
    summary: str
    answer: Any
    """The type of the resource that a success carries."""
    body: type[msgspec.Struct] = Nothing
    query: type[msgspec.Struct] = Nothing
    status: HTTPStatus = HTTPStatus.OK
    also: HTTPStatus | None = None
    """Another status of a success."""
    also_answer: Any = None
    """The type of its resource; None: the same."""
    upload: bool = False
    """Whether the body is an archive, unpacked into a folder."""
    single: Callable[[Any], str | None] = _never
    """How one file, rather than an archive, is called in the folder, by the query;
    None: it must be an archive."""
    media_types: tuple[str, ...] = (JSON,)
    """Of the body of a success."""
    form: bool = False
    """Whether the body is a form (application/x-www-form-urlencoded), not JSON."""

    def route(self, arena: Arena) -> Route:
        """Return the Starlette route that answers it."""
        telemetry = arena.application.telemetry

        async def answer(request: Request) -> Response:
            try:
                return await _answer(self, arena, request)
            except Unauthenticated as error:
                telemetry.refused(error.flaw)
                return problem(error, self.path)
            except ArenaError as error:
                return problem(error, self.path)

        async def timed(request: Request) -> Response:
            begun = time.perf_counter()
            status: int = HTTPStatus.INTERNAL_SERVER_ERROR
            try:
                response = await answer(request)
                status = response.status_code
            except ClientDisconnect:
                status = HTTPStatus.BAD_REQUEST
                raise
            finally:
                seconds = time.perf_counter() - begun
                telemetry.handled(request.method, self.path, status, seconds)
            return response

        name = f"{self.method} {self.path}"
        return Route(self.path, timed, methods=[self.method], name=name)


async def _answer(endpoint: Endpoint, arena: Arena, request: Request) -> Response:
    caller = await _caller(endpoint, arena, request)
    query = bodies.parse_query(request, endpoint.query)
    as_of = await run_in_threadpool(_moment, arena, query)
    call = Call(
        arena.on_behalf_of(caller, as_of=as_of),
        _ids(request),
        query,
        base_url=base_url(arena, request),
        accept=request.headers.get("accept", ""),
    )
    if endpoint.upload:
        single = endpoint.single(query)
        async with bodies.uploaded(request, arena, single) as folder:
            # A body takes its time: the token may have been revoked meanwhile.
            await _caller(endpoint, arena, request)
            return await _finish(endpoint, evolve(call, body=folder))
    parse = bodies.parse_form if endpoint.form else bodies.parse_body
    body = await parse(
        request,
        endpoint.body,
        limit_bytes=arena.settings.max_body_bytes,
        timeout_s=arena.settings.body_timeout_s,
    )
    if endpoint.method != "GET":
        await _caller(endpoint, arena, request)
    return await _finish(endpoint, evolve(call, body=body))


async def _finish(endpoint: Endpoint, call: Call) -> Response:
    reply = await run_in_threadpool(endpoint.handle, call)
    if reply.until is not None:
        with anyio.move_on_after(min(reply.wait_s, LONGEST_WAIT_S)):
            while (settled := await run_in_threadpool(reply.until)) is None:  # noqa: ASYNC110 -- another process may settle it
                await anyio.sleep(POLL_S)
            reply = settled
    return encoded(reply)


def encoded(reply: Reply) -> Response:
    """Return the response that carries a reply."""
    headers = dict(reply.headers)
    if reply.location is not None:
        headers["Location"] = reply.location
    if reply.secret:
        headers["Cache-Control"] = "no-store"
    if reply.status is HTTPStatus.NO_CONTENT:
        return Response(None, reply.status, headers)
    is_json = reply.media_type == JSON
    body = msgspec.json.encode(reply.resource) if is_json else reply.resource
    return Response(body, reply.status, headers, media_type=reply.media_type)


async def _caller(endpoint: Endpoint, arena: Arena, request: Request) -> Caller:
    if isinstance(endpoint.needs, Public):
        return arena.anonymous
    token = bearer(request.headers.get("authorization"))
    caller = await run_in_threadpool(
        authenticate,
        arena.application.core,
        token,
        external_user=request.headers.get(EXTERNAL_USER),
    )
    if not caller.role.covers(endpoint.needs):
        raise Forbidden(
            f"This needs the role {endpoint.needs.value}; the token has the role "
            f"{caller.role.value}."
        )
    return caller


def bearer(header: str | None) -> str:
    """Return the credential of an `Authorization: Bearer` header."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(REFUSAL, flaw=Flaw.MISSING)
    return token.strip()


def base_url(arena: Arena, request: Request) -> str:
    """Return how callers reach this API: as it was set, or as this one reached it."""
    if arena.settings.public_url is not None:
        return arena.settings.public_url.rstrip("/")
    # `base_url` itself leaves out the prefix that this app is mounted under.
    root = request.base_url.replace(path=request.scope.get("root_path", ""))
    return str(root).rstrip("/")


def _moment(arena: Arena, query: object) -> int | None:
    text = query.as_of if isinstance(query, Past) else None
    if text is None:
        return None
    core = arena.application.core
    return parse_moment(core.store, text, now=core.clock())


def _ids(request: Request) -> dict[str, Any]:
    return {
        name: _number(value) if name in NUMBERS else _id(value)
        for name, value in request.path_params.items()
    }


def _number(value: str) -> int:
    # Starlette's own `:int` fails on more digits than Python converts.
    if not _NATURAL.fullmatch(value):
        raise NotFound("There is nothing with this number: it is not even one.")
    return int(value)


def _id(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise NotFound("There is nothing with this id: it is not even one.") from error
