"""Which request this is: its id, and its place in a trace of the caller's.

What is said of a request later, in its answer, in events or in the log of the process,
finds it here: it is known to all that runs on behalf of the request, threads included.
"""

import logging
import re
import time
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from attrs import define
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from arena_core.domain.values import Caller

REQUEST_ID = b"x-request-id"
TRACEPARENT = b"traceparent"
access = logging.getLogger("arena_core.access")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})"
    rb"(-.*)?"
)


@define
class Request:
    """A request that is being answered."""

    id: str
    method: str
    path: str
    traceparent: str | None = None
    route: str | None = None
    """The template of its path; None: there is nothing at its address."""
    caller: Caller | None = None

    @classmethod
    def of(cls, scope: Scope) -> "Request":
        headers = scope["headers"]
        return cls(
            _request_id(_values(headers, REQUEST_ID)),
            scope["method"],
            scope["path"],
            traceparent(_values(headers, TRACEPARENT)),
        )


_current: ContextVar[Request | None] = ContextVar("request", default=None)


def current() -> Request | None:
    """Return the request that is being answered, if one is."""
    return _current.get()


async def traced(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Have `app` answer a request that has an id, and log that it was answered."""
    request = Request.of(scope)
    begun, status = time.perf_counter(), 0

    async def tell(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            named = (REQUEST_ID, request.id.encode())
            message = {**message, "headers": [*message["headers"], named]}
        await send(message)

    token = _current.set(request)
    try:
        await app(scope, receive, tell)
    finally:
        if access.isEnabledFor(logging.INFO):
            _log(request, status, time.perf_counter() - begun)
        _current.reset(token)


def _log(request: Request, status: int, seconds: float) -> None:
    milliseconds = round(seconds * 1000, 3)
    fields: dict[str, Any] = {
        "method": request.method,
        "route": request.route,
        "status": status,
        "duration_ms": milliseconds,
    }
    if request.caller is not None:
        fields["organisation"] = request.caller.organisation
        fields["actor"] = str(request.caller.actor)
    access.info(
        "%s %s %d in %g ms",
        request.method,
        request.route or "nowhere",
        status,
        milliseconds,
        extra={"fields": fields},
    )


def traceparent(given: list[bytes]) -> str | None:
    """Return the one header that is well-formed (W3C Trace Context), else None.

    Of a later version than ours, what ours knows of it.
    """
    found = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if found is None or (found[1] == b"00" and found[3] is not None):
        return None
    return f"00-{found[2].decode()}"


def _request_id(given: list[bytes]) -> str:
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0].decode()
    return uuid4().hex


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for found, value in headers if found == name]
