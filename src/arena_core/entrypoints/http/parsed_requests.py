"""A request that is authorised, and what came along with it beside its body."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from attrs import evolve, frozen
from starlette.requests import Request

from arena_core.application.attempts import Attempt, Key
from arena_core.application.callers import unchanged
from arena_core.application.handling import Expected, Guard
from arena_core.application.history import parse_moment
from arena_core.application.identity import EXTERNAL_USER, authenticate
from arena_core.application.session import Session
from arena_core.domain.values import Caller
from arena_core.entrypoints.http import bodies, tracing
from arena_core.entrypoints.http.cursors import PURPOSE, Cursors
from arena_core.entrypoints.http.endpoints import (
    Call,
    Endpoint,
    Listing,
    Past,
    Public,
    base_url,
    bearer,
    path_ids,
    path_of,
)
from arena_core.entrypoints.http.preconditions import Conditions, Versions
from arena_core.entrypoints.library import Arena


@frozen
class ParsedRequest:
    call: Call
    path: str
    """Below whatever the app is mounted under."""
    parameters: Sequence[tuple[str, str]]
    """Of the query, as they were sent."""
    conditions: Conditions
    versions: Versions | None
    """Of what the path names."""
    cursors: Cursors | None
    """Of the list that is asked for."""

    @property
    def session(self) -> Session:
        return self.call.use.session

    def seen(self) -> Sequence[int]:
        """Return the versions of what the path names: to ask before it is shown."""
        return () if self.versions is None else self.versions.seen(self.session)

    def with_body(self, body: object) -> "ParsedRequest":
        return evolve(self, call=evolve(self.call, body=body))

    def key(self, method: str, text: str) -> Key:
        """Return the idempotency key `text`, where it counts for this request."""
        payload = (self.call.query, self.call.body)
        caller = self.session.caller
        return Key.of(caller, method, self.path, text, asked=payload)

    def under(self, key: Key) -> "ParsedRequest":
        """Return it as it is asked for under an idempotency key."""
        use = evolve(self.call.use, session=self.session.under(key))
        return evolve(self, call=evolve(self.call, use=use))


def parsed(
    endpoint: Endpoint, arena: Arena, request: Request, caller: Caller
) -> ParsedRequest:
    """Return what is asked for.  Raises what is wrong with it."""
    ids, path = path_ids(request), path_of(request.scope)
    query: Any = bodies.parse_query(request, endpoint.query)
    as_of, cursors = _position(arena, query), None
    if isinstance(query, Listing):
        cursors = _cursors(arena, path, caller, query)
        if query.cursor is not None:
            after, as_of = cursors.open(query.cursor)
            query = msgspec.structs.replace(query, cursor=after)
    conditions = _conditions(request)
    versions = None if endpoint.versioned is None else endpoint.versioned.of(ids)
    traced = tracing.current()
    attempt = Attempt(
        None if traced is None else traced.traceparent,
        _expected(endpoint, arena, conditions, versions),
        _rights(endpoint, arena, request, caller),
    )
    use = arena.on_behalf_of(caller, as_of=as_of)
    call = Call(
        evolve(use, session=evolve(use.session, attempt=attempt)),
        ids,
        query,
        base_url=base_url(arena, request),
        accept=request.headers.get("accept", ""),
        bearing=request.headers.get("authorization"),
    )
    parameters = request.query_params.multi_items()
    return ParsedRequest(call, path, parameters, conditions, versions, cursors)


def authenticated(arena: Arena, request: Request) -> Caller:
    """Return who asks.  Raises `Unauthenticated`."""
    return authenticate(
        arena.application.core,
        bearer(request.headers.get("authorization")),
        external_user=request.headers.get(EXTERNAL_USER),
    )


def _rights(
    endpoint: Endpoint, arena: Arena, request: Request, caller: Caller
) -> Guard:
    if isinstance(endpoint.needs, Public):
        return tuple
    again = partial(authenticated, arena, request)
    return partial(unchanged, arena.application.core, caller, again)


def _position(arena: Arena, query: object) -> int | None:
    text = query.as_of if isinstance(query, Past) else None
    if text is None:
        return None
    core = arena.application.core
    return parse_moment(core.store, text, now=core.clock())


def _cursors(arena: Arena, path: str, caller: Caller, query: Listing) -> Cursors:
    filters = msgspec.structs.asdict(query)
    del filters["cursor"], filters["limit"]
    key = arena.application.core.master.key(PURPOSE)
    return Cursors.of(key, path, caller.organisation, filters)


def _conditions(request: Request) -> Conditions:
    def header(name: str) -> str | None:
        lines = request.headers.getlist(name)
        return ", ".join(lines) if lines else None

    return Conditions(header("if-match"), header("if-none-match"))


def _expected(
    endpoint: Endpoint, arena: Arena, conditions: Conditions, versions: Versions | None
) -> Expected | None:
    if endpoint.method == "GET":
        return None
    replaces = endpoint.method in ("PATCH", "DELETE") and versions is not None
    required = replaces and arena.settings.require_if_match
    return conditions.expected(versions, required=required)
