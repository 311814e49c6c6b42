"""The one table from errors to answers, as problem details (RFC 9457)."""

import logging
import math
import re
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import msgspec
from attrs import frozen
from starlette.responses import Response

from arena_core.domain.errors import (
    Ambiguous,
    ArenaError,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    Forbidden,
    InvalidCursor,
    NotFound,
    Overloaded,
    PreconditionFailed,
    PreconditionRequired,
    RateLimited,
    Rejected,
    StillRunning,
    StorageFull,
    TooLarge,
    TooSlow,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from arena_core.entrypoints.http import tracing

log = logging.getLogger(__name__)

STATUS: dict[type[ArenaError], HTTPStatus] = {
    Rejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidCursor: HTTPStatus.BAD_REQUEST,
    TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Ambiguous: HTTPStatus.CONFLICT,
    PreconditionFailed: HTTPStatus.PRECONDITION_FAILED,
    PreconditionRequired: HTTPStatus.PRECONDITION_REQUIRED,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    Corrupt: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""An error that is not here is answered as the nearest of its ancestors that is."""

HIDDEN = "The server could not do that; its log says why."
RETRY_AFTER_S = 1.0
LONGEST_DETAIL = 2000
PROBLEM = "application/problem+json"
PLAIN = ("/api/cli/", "/api/users/", "/realms/")
"""Below these are the addresses of the public client."""
OPEN_INFERENCE = "/v2"
CONTROL_PLANE = "/api/v1"
"""Whose clients show text as it is: a remedy may have brackets in it."""
E = TypeVar("E", bound=ArenaError)
_BRACKETS = str.maketrans("[]", "()")
_ADDRESSES = re.compile(r"(https?)://(?=[a-zA-Z0-9_-]+(?::[0-9]+)?/api/v[0-9]+/)")
"""Those of a host without a dot: the public client hides what names them."""


@frozen
class FieldError:
    """What is wrong with one part of the request."""

    pointer: str
    detail: str


@frozen
class Problem:
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError]
    instance: str | None = None
    """The path that was asked for."""
    request_id: str | None = None
    """By which the log of the server knows the request."""


@frozen
class Plain:
    """The same, for the public client: it prints all else that it finds."""

    detail: str
    error_code: str


def status_of(error: ArenaError) -> HTTPStatus:
    """Return the status that the error, or the nearest of its ancestors, has."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def without_frames(error: E) -> E:
    """Return the error, which lets go of the calls that it was raised in.

    They hold the body of the request, and would for a long time: an error that comes
    out of a thread is in a cycle with its future, and those are looked for rarely.
    """
    return error.with_traceback(None)


def detail_of(error: ArenaError) -> str:
    """Return what a caller may know: nothing of damage inside."""
    if isinstance(error, Corrupt):
        log.error("Corrupt: %s", error)
        return HIDDEN
    return _plain(str(error))


def retry_after(error: ArenaError) -> str:
    """Return in how many seconds to try again, a whole number above 0."""
    seconds = RETRY_AFTER_S
    if isinstance(error, Overloaded | RateLimited):
        seconds = error.retry_after_s
    return str(max(1, math.ceil(seconds)))


def problem(error: ArenaError, path: str) -> Response:
    """Return the answer that `error` is to a request for `path`."""
    status = status_of(error)
    if path.startswith(OPEN_INFERENCE) and status is HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST  # the one that the protocol has for it
    headers = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="arena", error="invalid_token"'
    if isinstance(error, Forbidden):
        headers["WWW-Authenticate"] = 'Bearer realm="arena", error="insufficient_scope"'
    if isinstance(error, Unavailable | RateLimited | StillRunning):
        headers["Retry-After"] = retry_after(error)
    if isinstance(error, TooSlow):
        headers["Connection"] = "close"  # or the rest would still be waited for
    detail = detail_of(error)
    if path.startswith(CONTROL_PLANE) and not isinstance(error, Corrupt):
        detail = str(error)[:LONGEST_DETAIL]
    field = getattr(error, "field", None)
    errors = [] if field is None else [FieldError(_pointer(field), detail)]
    return respond(
        path, status, detail, code=_code(error), errors=errors, headers=headers
    )


def respond(  # noqa: PLR0913 -- what an answer says
    path: str,
    status: HTTPStatus,
    detail: str,
    *,
    code: str,
    errors: list[FieldError] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return an error in the form that the clients of `path` understand."""
    body: dict[str, object] = msgspec.to_builtins(
        Problem("about:blank", status.phrase, status, detail, code, errors or [])
    )
    request = tracing.current()
    if request is None:
        del body["instance"], body["request_id"]
    else:
        body["instance"] = quote(request.path, errors="replace")[:LONGEST_DETAIL]
        body["request_id"] = request.id
    media_type = PROBLEM
    if path.startswith(PLAIN):
        body, media_type = msgspec.to_builtins(Plain(detail, code)), "application/json"
    elif path.startswith(OPEN_INFERENCE):
        body["error"] = detail
    return Response(
        msgspec.json.encode(body),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type=media_type,
    )


def _pointer(field: str) -> str:
    """Return the JSON pointer (RFC 6901) of a field such as `checkpoint.step`.

    A field within a file of an upload is `<file>: <field>`: the file comes first.
    """
    cut = field.translate(_BRACKETS)[:LONGEST_DETAIL]
    file, colon, path = cut.rpartition(": ")
    within = re.split(r"[. ]", path)
    named = [part for part in ([file, *within] if colon else within) if part]
    # A name of nothing but spaces and punctuation points nowhere in particular.
    parts = named or ["body"]
    return "".join("/" + p.replace("~", "~0").replace("/", "~1") for p in parts)


def as_plain_text(text: str) -> str:
    """Return a message as the public client can show it.

    It takes square brackets for markup, and shows a sentence of its own in the place of
    a message that has the address of a server's own API in it, as a name may.
    """
    return _ADDRESSES.sub(r"\1: //", text.translate(_BRACKETS))


def _plain(text: str) -> str:
    return as_plain_text(text)[:LONGEST_DETAIL]


def _code(error: ArenaError) -> str:
    name = type(error).__name__
    return "".join(f"_{c}" if c.isupper() else c.upper() for c in name).lstrip("_")
